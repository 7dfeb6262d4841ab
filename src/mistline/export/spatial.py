"""One SpatialData zarr a slide: image pyramids, label images and the table, aligned in micrometres.

Pixels stream from our pyramid, and labels from the polygons, chunk by chunk into the new store.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import anndata
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import NodeNotFoundError

from mistline.core.errors import InputError, ResourceError
from mistline.export.raster import LabelRaster
from mistline.export.table import CELLS, INSTANCE, REGION
from mistline.mist.pyramid import Level

_CHUNK_PX = 1024
_RGB = {"red": "r", "green": "g", "blue": "b"}  # by these names viewers know a colour image


@dataclass(frozen=True)
class Content:
    """What a slide's store consists of.

    Args:
        images: name -> OME-Zarr on the pixel grid of the slide.
        labels: name -> raster.
        table: describes the label image `cells`.
        pixel_size_um: micrometres a pixel.
        about: what is said of the slide, as JSON values.
        imputed: name -> table of genes that were not measured; they describe `cells` too.
    """

    images: Mapping[str, Path]
    labels: Mapping[str, LabelRaster]
    table: anndata.AnnData
    pixel_size_um: float
    about: Mapping[str, Any]
    imputed: Mapping[str, anndata.AnnData] = field(default_factory=dict)


def library() -> ModuleType:
    """Import spatialdata, which takes seconds and is not among the core dependencies.

    Raises:
        ResourceError: it is not installed.
    """
    try:
        return importlib.import_module("spatialdata")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "spatialdata":
            raise
        raise ResourceError(
            "the SpatialData export", "the Python package spatialdata is not installed", "install mistline[viewer]"
        ) from None


def write_store(folder: Path, content: Content, threads: int = 1) -> None:
    """Write the store.

    Args:
        folder: where; must not exist.
        content: what.
        threads: chunks worked on at once; does not change the bytes.

    Raises:
        InputError: an image is missing or damaged.
        ResourceError: spatialdata is not installed.
    """
    spatialdata = library()
    import dask

    pyramids = {name: Pyramid(path) for name, path in content.images.items()}
    shapes = [array.shape[1:] for array in next(iter(pyramids.values())).levels]
    models = importlib.import_module("spatialdata.models")
    store = spatialdata.SpatialData(
        images={name: _image(name, pyramid, content.pixel_size_um) for name, pyramid in pyramids.items()},
        labels={
            name: _label_image(name, raster, shapes, content.pixel_size_um) for name, raster in content.labels.items()
        },
        tables={
            name: models.TableModel.parse(table, region=CELLS, region_key=REGION, instance_key=INSTANCE)
            for name, table in {"table": content.table, **content.imputed}.items()
        },
        attrs={"mistline": dict(content.about)},
    )
    # Said outright: the next version of anndata will lay arrays out in another way by itself.
    layout = anndata.settings.override(auto_shard_zarr_v3=False)
    with layout, dask.config.set(scheduler="threads", num_workers=threads):
        store.write(folder)


class Pyramid:
    """The levels of an OME-Zarr that project_image or register_he wrote.

    Args:
        path: the OME-Zarr.

    Attributes:
        levels: uint8 [C, Y, X], full resolution first.
        channels: their names.

    Raises:
        InputError: it is missing or no such image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            group = zarr.open_group(store=path, mode="r", zarr_format=3)
            described = group.attrs["ome"]
            self.levels = [Level(path, number) for number in range(len(described["multiscales"][0]["datasets"]))]
            self.channels = [str(item["label"]) for item in described["omero"]["channels"]]
        except (FileNotFoundError, NodeNotFoundError):
            raise InputError(path, "no such image", "run the stage that makes it for this slide") from None
        except (ValueError, KeyError) as error:
            raise InputError(path, f"not a readable OME-Zarr ({error})", "make the image again") from error

    def block(self, level: int, block_info: Any = None) -> NDArray[np.uint8]:
        """Read one block, told by dask which.

        Raises:
            InputError: it is damaged.
        """
        return self.levels[level].read(*(slice(*ends) for ends in block_info[None]["array-location"]))


def _image(name: str, pyramid: Pyramid, pixel_size_um: float) -> Any:
    import dask.array as da

    arrays = [
        da.map_blocks(
            partial(pyramid.block, level),
            chunks=_chunks(array.shape, (1, _CHUNK_PX, _CHUNK_PX)),
            dtype=np.uint8,
            meta=np.empty((0, 0, 0), dtype=np.uint8),
            name=f"{name}-{level}",
        )
        for level, array in enumerate(pyramid.levels)
    ]
    return _tree(arrays, ("c", "y", "x"), {"c": [_RGB.get(label, label) for label in pyramid.channels]}, pixel_size_um)


def _label_image(name: str, raster: LabelRaster, shapes: list[tuple[int, int]], pixel_size_um: float) -> Any:
    import dask.array as da

    arrays = [
        da.map_blocks(
            partial(_draw, raster, 2**level),
            chunks=_chunks(shape, (_CHUNK_PX, _CHUNK_PX)),
            dtype=np.int32,
            meta=np.empty((0, 0), dtype=np.int32),
            name=f"{name}-{level}",
        )
        for level, shape in enumerate(shapes)
    ]
    return _tree(arrays, ("y", "x"), {}, pixel_size_um)


def _draw(raster: LabelRaster, step: int, block_info: Any = None) -> NDArray[np.int32]:
    (top, bottom), (left, right) = block_info[None]["array-location"]
    return raster.window((top, left), (bottom - top, right - left), step)


def _chunks(shape: tuple[int, ...], size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Cut every axis into whole chunks and what is left."""
    return tuple(
        (most,) * (extent // most) + ((extent % most,) if extent % most else ())
        for extent, most in zip(shape, size, strict=True)
    )


def _tree(arrays: list[Any], axes: tuple[str, ...], coords: Mapping[str, Any], pixel_size_um: float) -> Any:
    """Return a multi-scale element that lies in the global coordinate system, whose unit is the micrometre."""
    from spatialdata.transformations import Scale, set_transformation
    from xarray import DataArray, Dataset, DataTree

    levels = {
        f"scale{level}": Dataset({"image": DataArray(array, dims=axes, coords=dict(coords), name="image")})
        for level, array in enumerate(arrays)
    }
    tree = DataTree.from_dict(levels)
    set_transformation(tree, {"global": Scale([pixel_size_um] * 2, axes=("y", "x"))}, set_all=True)
    return tree
