"""What the stages of generators share."""

from __future__ import annotations

import pytest

from mistline.train.device import cpu_threads
from tests.unit.infer.untrained import Line, build_line


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """Latents and an untrained generator, which tests only read."""
    with cpu_threads(1):
        return build_line(tmp_path_factory.mktemp("generator") / "results")
