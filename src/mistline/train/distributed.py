"""Several processes that train one model together, one a device: started by torchrun, by srun or by `train.spawn`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from mistline.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the processes this is.

    Args:
        rank: 0 .. world - 1; 0 writes the files.
        world: number of processes.
        local: which of those on this machine, and so which of its GPUs is its own.
    """

    rank: int = 0
    world: int = 1
    local: int = 0


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of a training, as one of them sees them; alone, every method returns what it is given."""

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> Team:
        """Return the team that `joined` opened, or a process alone."""
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank."""
        found = [value]
        if self.world > 1:
            found = [None] * self.world
            dist.all_gather_object(found, value)
        return found


def found(environment: Mapping[str, str] = os.environ) -> Place:
    """Return the place that torchrun or srun gave this process; alone, where neither did.

    SLURM's own variables count only in a step of srun: a batch script sees `SLURM_NTASKS` and `SLURM_PROCID` too.

    Raises:
        ConfigError: srun started it on several machines, and nothing says where rank 0 is.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        rank = int(environment["RANK"])
        return Place(rank, int(environment["WORLD_SIZE"]), int(environment.get("LOCAL_RANK", rank)))
    world = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if world == 1:
        return Place()
    if int(environment.get("SLURM_STEP_NUM_NODES", 1)) > 1 and "MASTER_ADDR" not in environment:
        what = "srun started processes on several machines, and MASTER_ADDR is not set"
        raise ConfigError("train", what, "export MASTER_ADDR=NAME of the first machine of the job before srun")
    return Place(int(environment["SLURM_PROCID"]), world, int(environment.get("SLURM_LOCALID", 0)))


@contextlib.contextmanager
def joined(place: Place, device: str, store: TCPStore | None = None) -> Iterator[None]:
    """Be one of the processes: over NCCL between GPUs, over Gloo between CPUs.

    Args:
        place: of this process; alone, nothing is opened.
        device: cpu, or the GPU of this process.
        store: where they meet; None for the address that the environment names, on this machine by default.
    """
    if place.world == 1:
        yield
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    address = None
    if store is None:
        host = os.environ.get("MASTER_ADDR", "127.0.0.1")
        port = os.environ.get("MASTER_PORT", str(20_000 + int(os.environ.get("SLURM_JOB_ID", 0)) % 20_000))
        address = f"tcp://{host}:{port}"
    dist.init_process_group(backend, address, store=store, rank=place.rank, world_size=place.world)
    try:
        yield
    finally:
        dist.destroy_process_group()
