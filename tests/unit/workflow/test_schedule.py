from __future__ import annotations

import random

import pytest

from mistline.core.errors import ResourceError
from mistline.workflow.jobs import Job
from mistline.workflow.schedule import Nodes, simulate


def job(name: str, *inputs: str, threads: int = 1, mem_mb: int = 100, gpu: int = 0) -> Job:
    """A job whose one output is its name."""
    return Job("stage", {}, inputs, (name,), (), None, threads, mem_mb, gpu, 0, "")


def test_what_the_most_waits_for_begins_first() -> None:
    # a, then b (1 h each) beside three others of 1 h, on two cores: 3 h only if a is not left for last.
    jobs = [job("x"), job("y"), job("z"), job("a"), job("b", "a"), job("c", "b", "elsewhere")]
    found = simulate(jobs, [1.0] * 6, Nodes(1, 2, 1000, 0))
    assert (found.seconds, found.busy, found.critical_s, found.critical) == (3.0, 1.0, 3.0, (3, 4, 5))


@pytest.mark.parametrize(
    ("nodes", "seconds"),
    [
        (Nodes(1, 8, 1000, 0), 1),  # all four at a time
        (Nodes(1, 4, 1000, 0), 2),  # cores for two
        (Nodes(2, 4, 1000, 0), 1),
        (Nodes(1, 1, 1000, 0), 4),  # threads are lowered to the core there is
        (Nodes(1, 8, 299, 0), 4),  # memory for one
        (Nodes(1, 8, 1000, 1), 2),  # two of them ask for the GPU
    ],
)
def test_jobs_wait_for_cores_memory_and_gpus(nodes: Nodes, seconds: float) -> None:
    jobs = [job(f"{number}", threads=2, mem_mb=150, gpu=int(number < 2)) for number in range(4)]
    assert simulate(jobs, [1.0] * 4, nodes).seconds == seconds


def test_a_job_larger_than_a_node_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"big: asks for 2,000 MB, and a node has 1,000; plan with more --memory"):
        simulate([job("big", mem_mb=2000)], [1.0], Nodes(4, 8, 1000, 0))
    with pytest.raises(ResourceError, match="asks for 2 GPUs"):
        simulate([job("big", gpu=2)], [1.0], Nodes(4, 8, 1000, 1))


def test_no_schedule_beats_the_longest_chain_or_the_cores() -> None:
    dice = random.Random(0)
    jobs = [job(str(n), *map(str, dice.sample(range(n), min(n, 2))), threads=dice.choice([1, 2, 4])) for n in range(60)]
    seconds = [dice.uniform(1, 9) for _ in jobs]
    found = simulate(jobs, seconds, Nodes(2, 4, 10_000, 0))
    work = sum(item.threads * taken for item, taken in zip(jobs, seconds, strict=True))
    least = max(found.critical_s, work / 8)
    assert least <= found.seconds <= work / 8 + 4 * found.critical_s
    assert found.busy == pytest.approx(work / 8 / found.seconds)
    assert sum(seconds[index] for index in found.critical) == pytest.approx(found.critical_s)


def test_nothing_to_be_done_takes_no_time() -> None:
    assert simulate([], [], Nodes(1, 1, 1, 0)).seconds == 0
