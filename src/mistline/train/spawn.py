"""Starting the processes of a training on one machine."""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from mistline.core import log
from mistline.core.errors import MistlineError, ResourceError
from mistline.core.processes import end_with_parent
from mistline.train.distributed import Place, joined
from mistline.train.signals import heard

_LOOPBACK = "127.0.0.1"
_GRACE_S = 20.0  # for the others to end by themselves, once one has failed

Work = Callable[[Place], None]


def spawn(world: int, work: Work, device: str = "cuda") -> None:
    """Run `work` in so many processes on this machine that have joined each other; returns when all are done.

    They meet on the loopback interface. SIGTERM and SIGUSR1 are passed on to them; they end when this one does.

    Args:
        world: number of processes.
        work: what each does; it must pickle.
        device: cpu, or cuda for one GPU each.

    Raises:
        MistlineError: the first that a process raised, by rank.
        ResourceError: a process ended without saying why.
    """
    fresh = multiprocessing.get_context("spawn")
    store = TCPStore(_LOOPBACK, 0, is_master=True, wait_for_workers=False)
    processes: list[BaseProcess] = []
    inboxes: list[Connection] = []

    def tell(number: int) -> None:
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    with heard(tell):
        for rank in range(world):
            inbox, outbox = fresh.Pipe(duplex=False)
            process = fresh.Process(target=_run, args=(Place(rank, world, rank), store.port, device, work, outbox))
            process.start()
            outbox.close()  # the process has the only other end: without it, nothing more can come
            processes.append(process)
            inboxes.append(inbox)
        _wait(processes)
    _judge(processes, [_told(inbox) for inbox in inboxes])


def _run(place: Place, port: int, device: str, work: Work, outbox: Connection) -> None:
    """Be one process."""
    end_with_parent()
    log.configure(logging.INFO if place.rank == 0 else logging.WARNING)
    if any(name == "lo" for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    own = f"cuda:{place.local}" if device == "cuda" else device
    try:
        with joined(place, own, TCPStore(_LOOPBACK, port, is_master=False)):
            work(place)
    except MistlineError as error:
        outbox.send(error)
        raise SystemExit(error.exit_code) from None


def _wait(processes: Sequence[BaseProcess]) -> None:
    """Wait for all; once one has failed, the others wait for it in vain and are ended."""
    deadline = None
    while any(process.is_alive() for process in processes):
        if deadline is None and any(process.exitcode for process in processes):
            deadline = time.monotonic() + _GRACE_S
        if deadline is not None and time.monotonic() > deadline:
            for process in processes:
                process.kill()
        connection.wait([process.sentinel for process in processes if process.is_alive()], timeout=1.0)


def _told(inbox: Connection) -> MistlineError | None:
    try:
        error: MistlineError = inbox.recv()
    except EOFError:
        return None
    return error


def _judge(processes: Sequence[BaseProcess], told: Sequence[MistlineError | None]) -> None:
    for error in told:
        if error is not None:
            raise error
    for rank, process in enumerate(processes):
        if process.exitcode:
            what = f"process {rank} of {len(processes)} ended with exit code {process.exitcode}"
            remedy = "see its last message; after -9, give the job more memory (mem_mb)"
            raise ResourceError("train", what, remedy)
