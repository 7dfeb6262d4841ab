"""A training whose time limit is too short, on a real cluster: told to stop, sent again, and gone on with."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from mistline.core.hashing import hash_file
from tests.e2e.in_process import configure
from tests.slurm.cluster import LONGEST_S, ask
from tests.slurm.conftest import Start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * LONGEST_S, func_only=True)]


def stop_after_a_step(folder: Path) -> None:
    """Wait for the first state of a training, and stop its process there and then.

    SLURM counts minutes, a toy model trains for seconds: so it waits for its limit without computing.
    """
    deadline = time.monotonic() + LONGEST_S
    while not list(folder.glob("resume/*/*.safetensors")):
        assert time.monotonic() < deadline, f"no state in {folder}"
        time.sleep(0.01)
    (trainer,) = (int(path.name) for path in Path("/proc").glob("[0-9]*") if is_trainer(path, folder))
    os.kill(trainer, signal.SIGSTOP)


def is_trainer(process: Path, folder: Path) -> bool:
    """Whether a process of /proc writes that model: Python, not the shell that started it."""
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        here = Path(os.readlink(process / "cwd"))
    except OSError:
        return False
    return words[1:3] == ["-m", "mistline"] and folder / "weights.safetensors" in {here / word for word in words}


@pytest.mark.parametrize(("rule", "model"), [("train", "spatia"), ("train_generator", "diffusion")])
def test_a_training_goes_on_after_its_time_limit(rule: str, model: str, copy: Path, start: Start, nightly: bool):
    if model == "diffusion" and not nightly:
        pytest.skip("nightly: it needs an autoencoder and latents")
    folder = copy / "results/models" / model / "seed-0"
    before = hash_file(folder / "weights.safetensors")
    models = yaml.safe_load((copy / "config.yaml").read_text())["models"]
    models[model]["params"]["save_every"] = 1  # another setting, so that it is trained again, to the same weights
    configure(copy, models=models)
    # A retry asks for more memory than small nodes have. Naming one resource replaces the profile's whole list.
    resources = [f"{rule}:slurm_partition=gpu", f"{rule}:mem_mb=4000"]
    run = start(copy, "--set-resources", *resources, "--", str((folder / "weights.safetensors").relative_to(copy)))
    stop_after_a_step(folder)
    run.look()
    (job,) = run.of(rule)
    ask("scontrol", "update", f"jobid={job.number}", "endtime=now")
    assert run.finish() == 0, run.output
    first, second = run.of(rule)
    assert (first.state, second.state) == ("TIMEOUT", "COMPLETED")
    assert "going on after step" in (copy / f"results/logs/{rule}/{model}.seed-0.log").read_text()
    assert hash_file(folder / "weights.safetensors") == before
