"""The OME-XML of one TIFF file: pixel size, and which channel of a multi-file image the file itself holds."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import tifffile

from mistline.core.errors import InputError

_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "m": 1e6}  # both code points of the micro sign
_NAMED_FILE = re.compile(r"^ch(\d+)_(.+?)\.ome\.tiff?$")
_NUMBERED_FILE = re.compile(r"_(\d+)\.ome\.tiff?$")


@dataclass(frozen=True)
class Ome:
    """What is used of a file's OME-XML.

    Args:
        channels: names in order, "" where a channel has none.
        own: which of them this very file holds, by the XML's file names or UUIDs; empty when it does not say.
        pixel_size_um: None when the XML does not say.
    """

    channels: tuple[str, ...]
    own: tuple[int, ...]
    pixel_size_um: float | None


def read_ome(path: Path, file: tifffile.TiffFile) -> Ome | None:
    """Read the OME-XML of an open file; None when it has none.

    Raises:
        InputError: the XML is damaged, or gives a pixel size or a channel's number that is none.
    """
    text = file.pages[0].aspage().description
    if "<OME" not in text and ":OME" not in text:
        return None
    try:
        root = ElementTree.fromstring(text.strip().strip("\0"))
    except ElementTree.ParseError as error:
        raise InputError(path, f"damaged OME-XML ({error})", "download it again") from None
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return None
    names = tuple((channel.get("Name") or "").strip() for channel in pixels.findall("{*}Channel"))
    return Ome(names, _own_channels(path, root, pixels), _pixel_size_um(path, pixels))


def channel_of_file(path: Path, ome: Ome | None, n_planes: int) -> tuple[str, ...]:
    """Return the names of the channels a file holds, from its OME-XML, else from its name; empty when neither says.

    Args:
        path: the file; its number counts where the XML lists channels without saying which are here.
        ome: its OME-XML.
        n_planes: planes of the file.
    """
    by_name = _NAMED_FILE.match(path.name)
    if ome is not None and ome.channels:
        number = by_name or _NUMBERED_FILE.search(path.name)
        own = ome.own or (tuple(range(len(ome.channels))) if len(ome.channels) in (1, n_planes) else ())
        if not own and number is not None and int(number[1]) < len(ome.channels):
            own = (int(number[1]),)
        names = tuple(ome.channels[index] for index in own if index < len(ome.channels))
        if names and all(names):
            return names
    return (by_name[2],) if by_name else ()


def normalised(channel: str) -> str:
    """Return the one spelling of a stain's name: DAPI is written in several cases, the others in one."""
    return "DAPI" if channel.casefold() == "dapi" else channel


def _own_channels(path: Path, root: ElementTree.Element, pixels: ElementTree.Element) -> tuple[int, ...]:
    """Return the channels whose planes lie in this file, by file name or by the file's own UUID."""
    owned: set[int] = set()
    for block in pixels.findall("{*}TiffData"):
        uuid = block.find("{*}UUID")
        if uuid is None:
            continue
        if uuid.get("FileName") == path.name or (root.get("UUID") and uuid.text == root.get("UUID")):
            first = block.get("FirstC", "0")
            if not first.strip().isdecimal():
                raise InputError(path, f"its OME-XML gives a channel's number as {first!r}", "correct its OME-XML")
            owned.add(int(first))
    return tuple(sorted(owned))


def _pixel_size_um(path: Path, pixels: ElementTree.Element) -> float | None:
    value, unit = pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit", "µm")
    if value is None or unit == "pixel":
        return None
    try:
        return float(value) * _UM[unit]
    except (ValueError, KeyError):
        raise InputError(
            path, f"its OME-XML gives the pixel size as {value!r} {unit!r}", "correct its OME-XML"
        ) from None
