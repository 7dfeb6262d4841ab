"""From the z-stack to the 8-bit image: CPU, peak at any number of planes or height, decodes, and the same pixels.

    python -m tests.benchmarks.projection --bundle DIR --check FILE --out DIR

projects one bundle and prints how often a JPEG2000 tile was decoded.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import zarr

from mistline.xenium.toy import ToySlide, write_bundle
from tests.benchmarks.bench import REPOSITORY, Bench, Gate, Usage, alternate, child, stage
from tests.benchmarks.published import measure_reference, scaled_image

_PEAK_MIB = 400
_MINMAX = '{"window":"minmax"}'
_SHAPES = {"low": (4, 2048), "tall": (4, 16_384), "deep": (32, 2048)}  # planes, rows
_COLUMNS = 512


def measure(bench: Bench) -> Iterator[Gate]:
    """Yield the gates of projection."""
    out = bench.scratch("projection")
    cache = out / "cache"
    check = _checked(bench.slide, out)
    peaks: list[float] = []

    def ours() -> float:
        used = _project(bench.slide, check, out)
        peaks.append(used.peak_mib)
        return used.cpu_s

    def published() -> float:
        bench.scratch("projection/cache")
        return measure_reference(bench, bench.scratch("projection/crops"), cache, 1).cpu_s

    cpu_s = alternate({"ours": ours, "reference": published}, bench.rounds)
    note = "both are JPEG2000 decoding by nine tenths; the reference with one crop"
    yield Gate("projection, CPU", "s", cpu_s["ours"], cpu_s["reference"], least=0.9, note=note)
    yield Gate("projection, peak", "MiB", max(peaks), limit=_PEAK_MIB, note=f"{bench.n_planes} planes")
    other = np.load(scaled_image(cache))
    image = zarr.open_array(out / "image.ome.zarr", path="0", mode="r")
    differing = int((np.asarray(image[0]) != other).sum())
    yield Gate("projection, pixels that differ in minmax mode", "px", differing, limit=0, note=f"of {other.size}")
    yield from _peaks_of_shapes(bench)


def _peaks_of_shapes(bench: Bench) -> Iterator[Gate]:
    """Project narrow slides, one higher, one with more planes than the first; count the decodes of each."""
    for name, (planes, rows) in _SHAPES.items():
        bundle = bench.work / f"projection-{name}"
        if not bundle.is_dir():
            toy = ToySlide("bench", "3.0", rows // 16, n_planes=planes, n_stains=1, shape_px=(rows, _COLUMNS))
            write_bundle(bundle, toy)
        out = bench.scratch(f"projection-{name}")
        check = _checked(bundle, out)
        peak = _project(bundle, check, out).peak_mib
        note = f"{planes} planes of {rows} x {_COLUMNS} px"
        yield Gate("projection, peak", "MiB", peak, limit=_PEAK_MIB, note=note)
        yield Gate("projection, decodes of a tile", "", _decodes(bundle, check, out / "counted"), limit=1, note=note)


def _checked(bundle: Path, out: Path) -> Path:
    about = ["--slide", "bench", "--donor", "d1", "--tissue", "toy", "--disease", "healthy", "--params", "{}"]
    child(stage("check-bundle", "--bundle", bundle, "--report", out / "bundle.json", *about))
    return out / "bundle.json"


def _project(bundle: Path, check: Path, out: Path) -> Usage:
    files = ["--bundle", bundle, "--check", check, "--image", out / "image.ome.zarr", "--summary", out / "image.json"]
    return child(stage("project-image", *files, "--params", _MINMAX, "--threads", "1"))


def _decodes(bundle: Path, check: Path, out: Path) -> float:
    words = [sys.executable, "-m", "tests.benchmarks.projection", "--bundle", bundle, "--check", check, "--out", out]
    path = {"PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"}
    return float(subprocess.run(list(map(str, words)), env=path, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Project with a decoder that counts; print decodes over full-resolution tiles."""
    parser = argparse.ArgumentParser(description="Count the decodes of a projection.")
    for name in ("bundle", "check", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    wanted = parser.parse_args()
    counted: list[int] = []
    lock, decode = threading.Lock(), imagecodecs.jpeg2k_decode

    def counting(*words: Any, **options: Any) -> Any:
        with lock:
            counted.append(1)
        return decode(*words, **options)

    imagecodecs.jpeg2k_decode = counting  # before tifffile looks it up
    import tifffile

    from mistline.stages.project_image import run

    wanted.out.mkdir()
    run(wanted.bundle, wanted.check, wanted.out / "image.ome.zarr", wanted.out / "image.json", _MINMAX, threads=2)
    with tifffile.TiffFile(wanted.bundle / "morphology.ome.tif") as file:
        tiles = sum(len(page.aspage().dataoffsets) for page in file.pages)
    print(len(counted) / tiles)


if __name__ == "__main__":
    main()
