"""Changes that open a table or an image, change what it says and write it again."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile

from tests.fuzz.mutations import NUMBERS, TEXT, TEXTS, Change, change_json, change_value

_INTEGERS = (0, 1, 2, 3, 255, 256, 2**15, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1)


def change_parquet(path: Path, chance: random.Random) -> str:
    """Change a column, the rows, or the metadata of a parquet file."""
    table = pq.read_table(path)
    kind = chance.randrange(8)
    told = "rows"
    if kind == 0:
        start, stop = sorted(chance.randrange(len(table) + 1) for _ in range(2))
        table = pa.concat_tables([table.slice(0, start), table.slice(stop)])
    elif kind == 1:
        table = pa.concat_tables([table, table.slice(chance.randrange(len(table) + 1), 3)])
    elif kind == 2 and table.schema.metadata:
        key = chance.choice(sorted(table.schema.metadata))
        metadata = {**table.schema.metadata, key: _changed_text(table.schema.metadata[key], chance)}
        table, told = table.replace_schema_metadata(metadata), f"metadata {key!r}"
    else:
        table, told = _changed_column(table, chance)
    path.unlink()
    pq.write_table(table, path)
    return told


def _changed_text(text: bytes, chance: random.Random) -> bytes:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict | list):
        return chance.choice(TEXTS).encode("utf-8", "surrogatepass")
    change_value(value, chance)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _changed_column(table: pa.Table, chance: random.Random) -> tuple[pa.Table, str]:
    place = chance.randrange(table.num_columns)
    name = table.column_names[place]
    values = table.column(place).to_pylist()
    kind = chance.randrange(6)
    if kind == 0 and table.num_columns > 1:
        return table.remove_column(place), f"{name} removed"
    if kind == 1:
        return table.append_column(name, table.column(place)), f"{name} twice"
    if kind == 2:
        to = chance.choice([pa.string(), pa.float32(), pa.int8(), pa.bool_(), pa.null(), pa.list_(pa.float64())])
        values = [None] * len(values) if pa.types.is_nested(to) or pa.types.is_null(to) else values
        return table.set_column(place, name, _array(values, to)), f"{name} as {to}"
    if kind == 3:
        chance.shuffle(values)
        return table.set_column(place, name, pa.array(values, table.schema.field(place).type)), f"{name} shuffled"
    evil = chance.choice([*NUMBERS, *TEXTS, None])
    for row in chance.sample(range(len(values)), min(len(values), chance.choice([1, 1, 3, len(values)]))):
        values[row] = evil
    return table.set_column(place, name, _array(values, table.schema.field(place).type)), f"{name} = {str(evil)[:40]!r}"


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Return values in the type of the column where they fit, else as numbers, else as text."""
    for to in (kind, pa.float64()):
        try:
            return pa.array([None if value is None else _cast(value, to) for value in values], to)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            continue
    texts = [None if value is None else str(value).encode("utf-8", "replace").decode() for value in values]
    return pa.array(texts, pa.string())


def _cast(value: Any, to: pa.DataType) -> Any:
    if pa.types.is_floating(to):
        return float(value)
    return str(value) if pa.types.is_string(to) else value


def change_hdf5(path: Path, chance: random.Random) -> str:
    """Change one dataset of an HDF5 file."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = chance.choice(names)
        stored = file[name]
        kind = chance.randrange(9)
        if kind == 0:
            del file[name]
            return f"{name} removed"
        attributes = dict(stored.attrs)
        values = stored[()]
        del file[name]
        told = _replaced(file, name, np.asarray(values), kind, chance)
        if kind != 1 and isinstance(file.get(name, getlink=True), h5py.HardLink):
            file[name].attrs.update(attributes)
        return f"{name} {told}"


def _replaced(file: h5py.File, name: str, values: np.ndarray, kind: int, chance: random.Random) -> str:
    """Put something else in the place of a dataset."""
    if kind == 1:
        file[name] = values
        return "without attributes"
    if kind == 2:
        file.create_group(name)
        return "as a group"
    if kind == 3:
        file[name] = chance.choice([h5py.SoftLink("/"), h5py.SoftLink(f"/{name}"), h5py.ExternalLink("none.h5", "/")])
        return "as a link"
    if kind == 4:
        shape = (chance.choice([64, 2**31, 2**40]), *(64 for _ in values.shape[1:]))
        file.create_dataset(name, shape, values.dtype if values.dtype != object else "S8", chunks=(16,) * len(shape))
        return f"of shape {shape}"
    if kind == 5:
        reshaped = chance.choice([values[:-1], values[:0], np.concatenate([values, values]), values[..., None]]) \
            if values.ndim else values[None]  # fmt: skip
        file[name] = reshaped
        return f"of shape {reshaped.shape}"
    if kind == 6:
        to = chance.choice(["i1", "u8", "f4", "f8", "S3", "?", "c8", ">i4"])
        try:
            file[name] = values.astype(to)
        except ValueError:
            file[name] = np.zeros(values.shape, to)
        return f"as {to}"
    return _with_value(file, name, values, chance)


def _with_value(file: h5py.File, name: str, values: np.ndarray, chance: random.Random) -> str:
    is_text = values.dtype.kind in "OS"
    evil: Any = chance.choice(TEXTS).replace("\0", "").encode("utf-8", "replace") if is_text else chance.choice(NUMBERS)
    flat = values.astype(object).ravel()
    for place in chance.sample(range(flat.size), min(flat.size, chance.choice([1, 1, 3]))):
        flat[place] = evil
    if is_text:
        file.create_dataset(name, data=flat.reshape(values.shape), dtype=h5py.string_dtype())
    else:
        floats = np.array([float(min(value, 1e308)) for value in flat])
        kind = values.dtype if values.dtype.kind in "iu" and np.isfinite(floats).all() else np.float64
        with np.errstate(invalid="ignore"):
            file[name] = floats.astype(kind).reshape(values.shape)
    return f"with {str(evil)[:40]!r}"


def change_tiff(path: Path, chance: random.Random) -> str:
    """Overwrite a tag of a page, in its value, its count or its type, or change the OME-XML."""
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        pages = [page.aspage() for page in file.pages]
        pages += [level.aspage() for page in pages for level in page.pages or ()]
        tag = chance.choice(list(chance.choice(pages).tags))
        order, large = file.byteorder, file.is_bigtiff
        text = str(pages[0].description).encode()
    path.unlink()
    if chance.random() < 0.2 and text in data:
        changed = TEXT[chance.choice(["another word", "another word again", "latin"])](text, chance)[: len(text)]
        path.write_bytes(bytes(data).replace(text, changed.ljust(len(text))))
        return "its OME-XML"
    where = chance.choice(["value", "value", "values", "count", "type"])
    number = chance.choice(_INTEGERS)
    if where == "values":
        place, form = tag.valueoffset, "H" if tag.dtype == 3 else "I"
    else:
        at = {"type": 2, "count": 4, "value": 12 if large else 8}[where]
        place, form = tag.offset + at, {"type": "H", "count": "Q" if large else "I", "value": "I"}[where]
    packed = struct.pack(order + form, number if form != "H" else number % 2**16)
    data[place : place + len(packed)] = packed
    path.write_bytes(data)
    return f"tag {tag.name}: {where} {number}"


def change_safetensors(path: Path, chance: random.Random) -> str:
    """Change the header of a safetensors file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    told = change_value(header, chance)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    path.unlink()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    return told


STRUCTURED: dict[str, Change] = {
    ".parquet": change_parquet,
    ".h5": change_hdf5,
    ".h5ad": change_hdf5,
    ".json": change_json,
    ".xenium": change_json,
    ".tif": change_tiff,
    ".safetensors": change_safetensors,
}
