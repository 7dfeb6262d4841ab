from __future__ import annotations

from collections.abc import Iterator

import pytest

from mistline.train.device import cpu_threads
from tests.unit.models.gest import synthetic


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with cpu_threads(1):
        yield


@pytest.fixture(scope="session")
def learnt(tmp_path_factory):
    """A model that was trained on a small tissue, and the rows of its training; no test changes it."""
    with cpu_threads(1):
        return synthetic.trained(tmp_path_factory.mktemp("learnt"))
