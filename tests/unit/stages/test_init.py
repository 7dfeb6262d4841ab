from __future__ import annotations

import pytest
import yaml
from typer.testing import CliRunner

from mistline.cli import app
from mistline.config.load import load_config
from mistline.core.errors import InputError, OutputError
from mistline.stages.init import run, slide_name
from tests.unit.xenium.conftest import REAL, Bundle, make


@pytest.fixture
def bundle() -> Bundle:
    return make()


def _load(path):
    return load_config(yaml.safe_load(path.read_text(encoding="utf-8")), root=path.parent)


def test_written_config_is_valid_and_names_the_bundles(tmp_path, bundle):
    first = bundle.write(tmp_path / "über slide: #1 'a'")
    other = make("1.0")
    other.experiment |= {"slide_id": "0009", "panel_tissue_type": "Multi", "analysis_sw_version": "R&D"}
    second = other.write(tmp_path / "007")
    out = tmp_path / "new" / "config.yaml"
    run([first, second], out=out)
    one, two = _load(out).slides
    assert (one.slide, one.bundle, one.donor) == ("uber_slide_1_a", str(first), "uber_slide_1_a")
    assert (one.tissue, one.disease, one.cells, one.genes, one.xoa) == ("breast", "unknown", 48, 4, "xenium-3.0.0.1")
    assert (two.slide, two.bundle, two.tissue, two.xoa) == ("007", str(second), "unknown", "R&D")
    assert "one glass slide" not in out.read_text(encoding="utf-8")


def test_the_commented_keys_are_the_defaults(tmp_path, bundle):
    out = tmp_path / "config.yaml"
    run([bundle.write(tmp_path / "b")], out=out)
    head, rest = out.read_text(encoding="utf-8").split("(README.md explains each key).\n")
    uncommented = head + "\n" + "".join(line.removeprefix("# ") for line in rest.splitlines(keepends=True))
    assert load_config(yaml.safe_load(uncommented), root=tmp_path) == _load(out)
    assert "metacells:" in uncommented


def test_folder_of_bundles_is_searched(tmp_path, bundle):
    for name in ("x/outs", "y/outs", "z"):
        bundle.write(tmp_path / "runs" / name)
    out = tmp_path / "c.yaml"
    run([tmp_path / "runs"], out=out)
    assert [slide.slide for slide in _load(out).slides] == ["x", "y", "z"]


def test_two_bundles_of_one_glass_slide_are_pointed_out(tmp_path, bundle):
    out = tmp_path / "c.yaml"
    run([bundle.write(tmp_path / "a"), bundle.write(tmp_path / "b")], out=out)
    text = out.read_text(encoding="utf-8")
    assert "# a and b are of one glass slide (0001234) and panel: if that is one tissue" in text
    assert [slide.donor for slide in _load(out).slides] == ["a", "b"]


def test_names_never_collide(tmp_path):
    taken: set[str] = set()
    for folder in ("a b", "a_b", "a  b", "_a b", "日本"):
        taken.add(slide_name(tmp_path / folder, taken))
    assert taken == {"a_b", "a_b-2", "a_b-3", "a_b-4", "slide"}


def test_an_existing_file_is_never_overwritten(tmp_path, bundle):
    out = tmp_path / "config.yaml"
    out.write_text("mine")
    with pytest.raises(OutputError, match=r"config.yaml: already exists; choose another name with --out"):
        run([bundle.write(tmp_path / "b")], out=out)
    assert out.read_text() == "mine"


@pytest.mark.parametrize("make_it", [True, False])
def test_no_bundle_there(tmp_path, make_it):
    folder = tmp_path / "empty"
    if make_it:
        folder.mkdir()
    with pytest.raises(InputError, match="no such bundle" if not make_it else "no bundle here or below"):
        run([folder], out=tmp_path / "c.yaml")
    assert not (tmp_path / "c.yaml").exists()


def test_a_damaged_bundle_writes_nothing(tmp_path, bundle):
    root = bundle.write(tmp_path / "b")
    (root / "cell_feature_matrix.h5").write_bytes(b"")
    with pytest.raises(InputError, match=r"cell_feature_matrix.h5: truncated or not an HDF5 file"):
        run([root], out=tmp_path / "c.yaml")
    assert not (tmp_path / "c.yaml").exists()


def test_as_a_command(tmp_path, bundle):
    root = bundle.write(tmp_path / "b")
    result = CliRunner().invoke(app, ["init", str(root), "--out", str(tmp_path / "c.yaml")])
    assert result.exit_code == 0, result.output
    assert "1 slides, 48 cells" in result.output


@pytest.mark.skipif(not REAL.is_dir(), reason="the real crops beside the repository (../shared) are missing")
def test_real_crops(tmp_path):
    out = tmp_path / "c.yaml"
    run([REAL / "breast_rep1_crop_a", REAL / "breast_rep1_crop_b"], out=out)
    assert [(slide.cells, slide.genes, slide.tissue) for slide in _load(out).slides] == [
        (122, 313, "breast"),
        (1120, 312, "breast"),
    ]


def test_a_small_cohort_gets_a_vocabulary_it_can_fill(tmp_path, bundle):
    out = tmp_path / "config.yaml"
    run([bundle.write(tmp_path / "b")], out=out)
    config = _load(out)
    n_cells = sum(slide.cells for slide in config.slides)
    assert max(config.metacells.levels) <= config.metacells.n_metacells <= max(4, n_cells // 40)
