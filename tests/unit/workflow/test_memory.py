from __future__ import annotations

from mistline.config.slides import Slide
from mistline.workflow.memory import LARGEST_MB, memory_mb


def slide(**announced: int) -> Slide:
    return Slide(slide="s", bundle="b", donor="d", tissue="t", disease="x", **announced)


def test_grows_with_the_slide_and_the_attempt() -> None:
    small, large = slide(cells=10_000, genes=300), slide(cells=1_000_000, genes=5000)
    assert memory_mb("read_cells", [small], 1) < memory_mb("read_cells", [large], 1)
    assert memory_mb("read_cells", [small], 3) == 3 * memory_mb("read_cells", [small], 1)


def test_streaming_stages_do_not_grow() -> None:
    assert memory_mb("project_image", [slide(cells=10)], 1) == memory_mb("project_image", [slide(cells=10**6)], 1)


def test_is_capped() -> None:
    assert memory_mb("read_cells", [slide(cells=10**9)], 9) == LARGEST_MB
