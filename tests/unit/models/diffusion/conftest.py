from __future__ import annotations

import pytest
import torch

from tests.unit.models.diffusion import synthetic


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def learnt(tmp_path_factory):
    """A model that was trained on synthetic cells; no test changes it."""
    with pytest.MonkeyPatch.context() as patch:
        synthetic.micro(patch)
        return synthetic.trained(tmp_path_factory.mktemp("learnt"))
