from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from mistline.core.errors import InputError
from mistline.xenium import tiff
from mistline.xenium.layout import Layout
from mistline.xenium.morphology import choose, open_bands, read_low_resolution, sources

SHAPE = (700, 900)
STAINS = ("DAPI", "ATP1A1/CD45/E-Cadherin", "18S")
OME = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    ' UUID="urn:uuid:{own}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16"'
    ' SizeX="900" SizeY="700" SizeC="{n}" SizeZ="1" SizeT="1" PhysicalSizeX="0.2125" PhysicalSizeXUnit="µm">'
    "{channels}{data}</Pixels></Image></OME>"
)


def _layout(folder: Path, zstack: Path | None = None, mip: Path | None = None, focus: tuple[Path, ...] = ()) -> Layout:
    return Layout("3.0", folder, folder, folder, folder, None, folder, None, zstack, mip, focus)


def _planes(n: int = 3, seed: int = 0, shape: tuple[int, int] = SHAPE, dtype=np.uint16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, (n, *shape)).astype(dtype)


def _tiff(path: Path, planes: np.ndarray, description: str | None = None, **options) -> Path:
    options = {"tile": (256, 256), "compression": "zlib", "photometric": "minisblack"} | options
    path.parent.mkdir(parents=True, exist_ok=True)
    text = description.encode() if description else None
    tifffile.imwrite(path, planes, description=text, metadata=None, **options)
    return path


def _read(source, threads: int = 1) -> np.ndarray:
    with open_bands(source, threads) as bands:
        parts = [bands.read(number) for number in range(bands.n_bands)]
    assert [row for row, _ in parts] == np.cumsum([0, *(len(band) for _, band in parts[:-1])]).tolist()
    return np.concatenate([band for _, band in parts])


def _nuclei(folder: Path, planes: np.ndarray, **options):
    return sources(_layout(folder, zstack=_tiff(folder / "morphology.ome.tif", planes, **options)))["DAPI"]


LINKED = '<TiffData FirstC="{c}" IFD="0"><UUID FileName="{name}">urn:uuid:{name}</UUID></TiffData>'


def _linked(folder: Path, names: list[str], stains: tuple[str, ...] = STAINS, *, say_where: bool = True) -> list[Path]:
    """Write files of one plane each whose OME-XML names all of them, as the instrument does."""
    channels = "".join(f'<Channel ID="Channel:{c}" Name="{stain}"/>' for c, stain in enumerate(stains))
    data = "".join(LINKED.format(c=c, name=name) for c, name in enumerate(names)) if say_where else ""
    return [
        _tiff(folder / name, _planes(1, c + 10), OME.format(own=name, n=len(stains), channels=channels, data=data))
        for c, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "jpeg2000"},
        {"tile": None},
        {"tile": None, "rowsperstrip": 16},
        {"tile": None, "rowsperstrip": 700, "compression": None},
        {"bigtiff": True, "byteorder": ">", "compression": None},
    ],
    ids=["tiles", "jpeg2000", "strips", "short strips", "one strip", "big-endian"],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_projection_is_the_maximum_over_planes(tmp_path, options, dtype):
    planes = _planes(dtype=dtype)
    source = _nuclei(tmp_path, planes, **options)
    assert (source.kind, source.n_planes, source.shape_px, source.dtype) == ("z-stack", 3, SHAPE, np.dtype(dtype).name)
    for threads in (1, 3):
        found = _read(source, threads)
        np.testing.assert_array_equal(found, planes.max(axis=0))
        assert found.dtype == dtype


def test_a_single_plane_is_not_reduced_over_its_rows(tmp_path):
    plane = _planes(1)[0]
    np.testing.assert_array_equal(_read(_nuclei(tmp_path, plane)), plane)


def test_each_tile_is_decoded_once_in_bands(tmp_path, monkeypatch):
    decoded = []
    original = tiff.Bands._decode_tile
    monkeypatch.setattr(tiff.Bands, "_decode_tile", lambda *a: decoded.append((a[1].index, *a[2:])) or original(*a))
    monkeypatch.setattr(tiff, "_BAND_ROWS", 256)
    planes = _planes(4)
    source = _nuclei(tmp_path, planes)
    with open_bands(source, 2) as bands:
        assert bands.n_bands == 3
        assert len(bands.read(1)[1]) == 256
    decoded.clear()
    np.testing.assert_array_equal(_read(source, 2), planes.max(axis=0))
    assert sorted(decoded) == [(page, row, column) for page in range(4) for row in range(3) for column in range(4)]


def test_dapi_comes_from_the_z_stack_then_the_mip_then_the_focus_image(tmp_path):
    paths = {name: _tiff(tmp_path / f"{name}.ome.tif", _planes(1, seed)) for seed, name in enumerate("zmf")}
    z, m, f = paths.values()
    assert sources(_layout(tmp_path, z, m, (f,)))["DAPI"].kind == "z-stack"
    assert sources(_layout(tmp_path, None, m, (f,)))["DAPI"].kind == "mip"
    found = sources(_layout(tmp_path, focus=(f,)))["DAPI"]
    assert (found.kind, found.path) == ("focus", f)


def test_channel_k_holds_pattern_k_though_files_name_each_other(tmp_path):
    names = [f"morphology_focus_{c:04d}.ome.tif" for c in range(3)]
    files = _linked(tmp_path, names)
    found = sources(_layout(tmp_path, focus=tuple(files)))
    assert list(found) == ["DAPI", "18S", "ATP1A1/CD45/E-Cadherin"]
    for c, stain in enumerate(STAINS):
        np.testing.assert_array_equal(_read(found[stain]), _planes(1, c + 10)[0])
        assert found[stain].pixel_size_um == 0.2125


def test_a_renamed_file_is_known_by_its_own_uuid(tmp_path):
    names = [f"morphology_focus_{c:04d}.ome.tif" for c in range(3)]
    files = _linked(tmp_path, names)
    moved = files[2].rename(tmp_path / "anything.ome.tif")
    assert list(sources(_layout(tmp_path, focus=(moved,)))) == ["18S"]


def test_where_the_xml_does_not_say_the_number_in_the_name_does(tmp_path):
    names = [f"morphology_focus_{c:04d}.ome.tif" for c in range(3)]
    files = _linked(tmp_path, names, say_where=False)
    found = sources(_layout(tmp_path, focus=tuple(files)))
    assert {stain: source.path.name for stain, source in found.items()} == dict(zip(STAINS, names, strict=True))


def test_dapi_has_one_spelling(tmp_path):
    names = ["ch0000_dapi.ome.tif", "ch0001_18s.ome.tif"]
    files = _linked(tmp_path / "a", names, ("dapi", "18S"))
    assert list(sources(_layout(tmp_path, focus=tuple(files)))) == ["DAPI", "18S"]


def test_a_file_name_names_a_stain_without_xml(tmp_path):
    files = tuple(_tiff(tmp_path / name, _planes(1)) for name in ("ch0000_dapi.ome.tif", "ch0001_18s.ome.tif"))
    assert list(sources(_layout(tmp_path, focus=files))) == ["DAPI", "18s"]


def test_several_channels_of_one_file_are_its_planes(tmp_path):
    channels = "".join(f'<Channel ID="Channel:{c}" Name="{stain}"/>' for c, stain in enumerate(STAINS))
    xml = OME.format(own="x", n=3, channels=channels, data="")
    file = _tiff(tmp_path / "morphology_focus.ome.tif", _planes(3), xml)
    found = sources(_layout(tmp_path, focus=(file,)))
    for c, stain in enumerate(STAINS):
        np.testing.assert_array_equal(_read(found[stain]), _planes(3)[c])


def test_a_channel_in_two_files_is_refused(tmp_path):
    files = tuple(_tiff(tmp_path / name, _planes(1)) for name in ("ch0000_dapi.ome.tif", "ch0001_DAPI.ome.tif"))
    with pytest.raises(InputError, match=r"channel DAPI is also in ch0000_dapi\.ome\.tif"):
        sources(_layout(tmp_path, focus=files))


def test_an_unnamed_stain_is_refused(tmp_path):
    files = tuple(_tiff(tmp_path / name, _planes(1)) for name in ("a.ome.tif", "b.ome.tif"))
    with pytest.raises(InputError, match="which stain it holds"):
        sources(_layout(tmp_path, focus=files))


def test_channels_of_other_shapes_are_refused(tmp_path):
    z = _tiff(tmp_path / "morphology.ome.tif", _planes(2))
    other = _tiff(tmp_path / "ch0001_18s.ome.tif", _planes(1, shape=(700, 899)))
    with pytest.raises(InputError, match="channel 18s has"):
        sources(_layout(tmp_path, zstack=z, focus=(other,)))


def test_a_channel_the_bundle_lacks_is_refused(tmp_path):
    found = {"DAPI": _nuclei(tmp_path, _planes())}
    assert choose(found, ["DAPI"], "bundle") == [found["DAPI"]]
    with pytest.raises(InputError, match="no channel '18S'; the bundle has DAPI"):
        choose(found, ["DAPI", "18S"], "bundle")


@pytest.mark.parametrize(
    ("planes", "options", "said"),
    [
        (np.zeros((2, 300, 300), np.float32), {}, "type float32"),
        (np.zeros((2, 300, 300), np.uint32), {}, "type uint32"),
        (np.zeros((300, 300, 3), np.uint8), {"photometric": "rgb"}, "a grey plane has two axes"),
    ],
)
def test_what_is_no_grey_8_or_16_bit_image_is_refused(tmp_path, planes, options, said):
    with pytest.raises(InputError, match=said):
        _nuclei(tmp_path, planes, **options)


def test_planes_of_other_shapes_are_refused(tmp_path):
    path = tmp_path / "morphology.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        for shape in ((300, 300), (300, 301)):
            writer.write(np.zeros(shape, np.uint16), metadata=None)
    with pytest.raises(InputError, match="page 1: a plane of"):
        sources(_layout(tmp_path, zstack=path))


@pytest.mark.parametrize("compression", ["zlib", "jpeg2000"])
def test_a_corrupt_tile_is_named(tmp_path, compression):
    source = _nuclei(tmp_path, _planes(), compression=compression)
    with tifffile.TiffFile(source.path) as file:
        offset = file.pages[1].dataoffsets[6]  # 4 columns: row 1, column 2
    data = bytearray(source.path.read_bytes())
    data[offset : offset + 60] = bytes(60)
    source.path.write_bytes(data)
    with pytest.raises(InputError, match=r"page 1, tile row 1, column 2: the tile is corrupt .* download it again"):
        _read(source, 2)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_is_refused_before_it_is_read(tmp_path, share):
    path = tmp_path / "morphology.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        for plane in _planes(3):
            writer.write(plane, subifds=1, tile=(256, 256), metadata=None)
            writer.write(plane[::2, ::2], subfiletype=1, tile=(256, 256), metadata=None)
    data = path.read_bytes()
    assert sources(_layout(tmp_path, zstack=path))["DAPI"].n_planes == 3
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="download it again"):
        sources(_layout(tmp_path, zstack=path))


def test_a_file_that_shrinks_while_it_is_read_is_named(tmp_path):
    source = _nuclei(tmp_path, _planes(), compression=None)
    with open_bands(source, 1) as bands:
        source.path.write_bytes(source.path.read_bytes()[:-50_000])
        with pytest.raises(InputError, match=r"page 2, tile row 2, column \d: the file ends"):
            bands.read(0)


def test_the_reduced_level_is_the_maximum_of_the_planes(tmp_path):
    planes = _planes(3, shape=(2600, 3000))
    path = tmp_path / "morphology.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        for plane in planes:
            writer.write(plane, subifds=3, tile=(512, 512), metadata=None)
            for step in (2, 4, 8):
                writer.write(plane[::step, ::step], subfiletype=1, tile=(512, 512), metadata=None)
    source = sources(_layout(tmp_path, zstack=path))["DAPI"]
    assert source.n_planes == 3
    np.testing.assert_array_equal(read_low_resolution(source), planes.max(axis=0)[::2, ::2])


def test_without_a_pyramid_there_is_no_reduced_level(tmp_path):
    assert read_low_resolution(_nuclei(tmp_path, _planes())) is None


def test_a_pixel_size_in_another_unit_is_converted(tmp_path):
    xml = OME.format(own="x", n=1, channels='<Channel ID="Channel:0" Name="DAPI"/>', data="")
    source = _nuclei(tmp_path, _planes(), description=xml.replace("0.2125", "212.5").replace('"µm"', '"nm"'))
    assert source.pixel_size_um == pytest.approx(0.2125)
