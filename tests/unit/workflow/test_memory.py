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


def test_a_task_that_judges_all_cells_asks_for_more_than_one_that_draws_some() -> None:
    cohort = [slide(cells=500_000, genes=300)] * 4
    asked = {task: memory_mb("evaluate", cohort, 1, task) for task in ("domains", "retrieval")}
    assert asked["retrieval"] == memory_mb("evaluate", cohort, 1)
    assert asked["domains"] > asked["retrieval"] + 4840 * 2  # measured: megabytes a million cells, 256 dimensions


def test_folds_of_many_slides_are_asked_for() -> None:
    one, many = [slide(cells=1_000_000)], [slide(cells=20_000)] * 50
    assert memory_mb("assign_folds", many, 1) > memory_mb("assign_folds", one, 1)
