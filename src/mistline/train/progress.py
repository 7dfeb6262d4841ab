"""How a training goes: means of its losses, and a line of progress in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from mistline.train.distributed import Team

logger = logging.getLogger("mistline.train")

Sums = dict[str, list[float]]  # name -> [sum, weight]

_LOGGED_S = 30.0


def add(sums: Sums, name: str, value: float, weight: float) -> None:
    """Take one value of a loss into its mean."""
    kept = sums.setdefault(name, [0.0, 0.0])
    kept[0], kept[1] = kept[0] + value * weight, kept[1] + weight


def pooled(sums: Sums, team: Team) -> Sums:
    """Return the sums of all processes; a loss may have come in some of them only."""
    if team.world == 1:
        return sums
    total: Sums = {}
    for found in team.gather(sums):
        for name, (value, weight) in found.items():
            kept = total.setdefault(name, [0.0, 0.0])
            kept[0], kept[1] = kept[0] + value, kept[1] + weight
    return total


def means(sums: Mapping[str, list[float]]) -> dict[str, float]:
    """Return name -> mean."""
    return {name: value / weight for name, (value, weight) in sums.items()}


class Pace:
    """Logs records a second and the time left, now and then; clock times never enter the metrics.

    Args:
        total: steps of the training.
        done: of them, when this process began.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total = total
        self._done = self._first = done
        self._begun = self._logged = time.monotonic()
        self._records = 0

    def step(self, records: int) -> None:
        """Count a step of so many records."""
        self._done += 1
        self._records += records
        now = time.monotonic()
        if now - self._logged < _LOGGED_S:
            return
        left = (now - self._begun) / (self._done - self._first) * (self._total - self._done)
        rate = self._records / (now - self._logged)
        logger.info("step %d of %d  %.0f records/s  %s left", self._done, self._total, rate, _shown(left))
        self._logged, self._records = now, 0


def _shown(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
