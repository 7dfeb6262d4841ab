from __future__ import annotations

from collections.abc import Iterator

import pytest

from mistline.train.device import cpu_threads


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with cpu_threads(1):
        yield
