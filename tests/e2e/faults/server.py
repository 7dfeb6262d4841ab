"""Runs `mistline` commands in forked children of a process that has imported the stages and done nothing else.

So a command starts at once, does its real work, may be killed, confined or given its own mounts, and leaves this
process as it was. One JSON order a line on stdin, one JSON answer a line on stdout; see `runner.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import json
import logging
import os
import select
import signal
import struct
import sys
import time
import traceback
from typing import Any

_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "os.link", "os.symlink"}
CANNOT = 99  # exit code: this machine does not allow the confinement that was asked for
_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_PRIVATE, _READ_ONLY, _REMOUNT, _BIND = 0x44000, 1, 32, 4096
_CAPABILITY_VERSION = 0x20080522
_NO_NEW_PRIVILEGES, _SET_FILTER, _FILTER = 38, 22, 2  # of prctl
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # instructions of a filter of system calls
_CALL, _SECOND_ARGUMENT = 0, 24  # where they find these
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_CALLS = {"pread64": 17, "fcntl": 72, "flock": 73}  # their numbers on x86-64
_LOCKING = (5, 6, 7, 36, 37, 38)  # what fcntl does with locks


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        for command in order:
            importlib.import_module(f"mistline.stages.{command['words'][0].replace('-', '_')}")
        answers = [_start(command) for command in order]
        sys.stdout.write(json.dumps([_finish(*item) for item in answers]) + "\n")
        sys.stdout.flush()


def _start(command: dict[str, Any]) -> tuple[int, float, float | None, int]:
    reading, writing = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os._exit(_child(command, writing))
    os.close(writing)
    return pid, started, command.get("kill_after_s"), reading


def _finish(pid: int, started: float, kill_after_s: float | None, reading: int) -> dict[str, Any]:
    ended = os.pidfd_open(pid)
    rest_s = None if kill_after_s is None else max(0.0, started + kill_after_s - time.monotonic())
    if not select.select([ended], [], [], rest_s)[0]:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seconds = time.monotonic() - started
    os.close(ended)
    with os.fdopen(reading) as stream:
        told = json.loads(stream.read() or "{}")
    for name in told.get("modules", ()):  # imported here, once, so that children to come find it done
        with contextlib.suppress(ImportError):  # torch_geometric makes some while it runs
            importlib.import_module(name)
    return {"code": code, "seconds": seconds, "n_changes": told.get("n_changes", 0)}


def _child(command: dict[str, Any], writing: int) -> int:
    for descriptor, path in ((0, os.devnull), (1, command["output"]), (2, command["output"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666), descriptor)
    known = set(sys.modules)
    changes = _Changes(command.get("kill_at_change"))
    sys.addaudithook(changes)
    code = _confined(command)
    sys.stdout.flush()
    sys.stderr.flush()
    logging.shutdown()
    fresh = [name for name in sys.modules if name not in known and not name.startswith("_")]
    with os.fdopen(writing, "w") as stream:
        json.dump({"modules": fresh, "n_changes": changes.n}, stream)
    return code


class _Changes:
    """Counts what is done to the file system, and ends the process, as kill -9 does, before the n-th change."""

    def __init__(self, last: int | None) -> None:
        self.n = 0
        self._last = last

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            _, mode, flags = arguments
            is_change = bool(set(mode or "") & set("wxa+")) or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR))
        else:
            is_change = event in _CHANGES
        if is_change:
            self.n += 1
            if self.n == self._last:
                os.kill(os.getpid(), signal.SIGKILL)


def _confined(command: dict[str, Any]) -> int:
    try:
        os.chdir(command["cwd"])
        if command.get("tmpfs") or command.get("read_only"):
            _own_mounts(command)
        if command.get("without_privileges"):
            _drop_privileges()
        for call, number in command.get("refuse", ()):
            _refuse(call, number)
    except OSError as error:
        traceback.print_exception(error)
        return CANNOT
    from mistline.cli import main as run

    sys.argv = ["mistline", *command["words"]]
    try:
        run()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException as error:  # noqa: BLE001 - as the interpreter does
        traceback.print_exception(error)
        return 1
    finally:
        if command.get("list"):  # what nobody else can see
            names = [os.path.join(*item) for item in _walk(command["tmpfs"][0])]
            with open(command["list"], "w") as file:
                file.write("\n".join(names))
    return 0


def _walk(folder: str) -> list[tuple[str, str]]:
    """Return (folder, name) of everything below, folders as seen from the first."""
    return [
        (os.path.relpath(place, folder), name) for place, *kinds in os.walk(folder) for names in kinds for name in names
    ]


def _own_mounts(command: dict[str, Any]) -> None:
    """Give this process mounts that nobody else sees: a small disk, or a folder that is read-only."""
    if _LIBC.unshare(_NEW_MOUNTS):
        user, group = os.getuid(), os.getgid()
        _call("unshare", _NEW_MOUNTS | _NEW_USER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    _call("mount", None, b"/", None, _PRIVATE, None)
    if command.get("tmpfs"):
        folder, n_bytes = command["tmpfs"]
        _call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={n_bytes}".encode())
        if command.get("fill"):
            with open(os.path.join(folder, "filling"), "wb") as file:
                file.write(bytes(n_bytes))
    if command.get("read_only"):
        folder = os.fsencode(command["read_only"])
        _call("mount", folder, folder, None, _BIND, None)
        _call("mount", None, folder, None, _BIND | _REMOUNT | _READ_ONLY, None)


def _drop_privileges() -> None:
    """Let root obey the mode bits of files, as everybody else must."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())


def _refuse(call: str, number: int) -> None:
    """Let the kernel answer a system call of this process with an error: of fcntl, where it is about locks."""
    if os.uname().machine != "x86_64":
        raise OSError(errno.ENOSYS, "filters of system calls are written for x86-64")
    n = len(_LOCKING)
    steps = [(_LOAD, 0, 0, _CALL), (_IF_EQUAL, 1, 0, _CALLS[call])]  # jumps over so many: if equal, if not
    if call == "fcntl":
        steps[1] = (_IF_EQUAL, 0, n + 1, _CALLS[call])
        steps.append((_LOAD, 0, 0, _SECOND_ARGUMENT))
        steps += [(_IF_EQUAL, n - place, 0, command) for place, command in enumerate(_LOCKING)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE | number)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    header = ctypes.create_string_buffer(struct.pack("=H6xQ", len(steps), ctypes.addressof(program)))
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _call("prctl", _SET_FILTER, _FILTER, header, 0, 0)


def _call(name: str, *arguments: Any) -> None:
    if getattr(_LIBC, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
