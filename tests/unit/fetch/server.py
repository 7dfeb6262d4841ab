"""A web server on the loopback that keeps a log and misbehaves when it is told to."""

from __future__ import annotations

import re
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Served:
    """A file on the server, and what is known of every request for it.

    Args:
        data: its bytes.
        etag: its tag; none where absent.
        has_ranges: whether parts are given.
        faults: what goes wrong with the next requests, one after the other: `status`, `headers`, `drop_after` bytes,
            `wait_s` before an answer, `pause_s` between pieces of it, `length` (in place of the true Content-Length),
            `told` (in place of Content-Range), `spoil` (other bytes), `swap` (other data and tag from now on).
        forever: what goes wrong with every request once `faults` are used up.
        hold_after: bytes, over all requests, after which nothing more comes until `release` is set.
        sent: first byte and number of bytes of every answer.
    """

    data: bytes
    etag: str | None = '"1"'
    has_ranges: bool = True
    faults: list[dict[str, Any]] = field(default_factory=list)
    forever: dict[str, Any] = field(default_factory=dict)
    hold_after: int | None = None
    release: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    sent: list[list[int]] = field(default_factory=list)
    n_requests: int = 0
    url: str = ""

    @property
    def n_sent(self) -> int:
        return sum(n for _, n in self.sent)

    def sent_twice(self) -> int:
        """Return how many bytes went out more than once."""
        ends, twice = 0, 0
        for start, n in sorted(self.sent):
            twice += max(0, min(ends, start + n) - start)
            ends = max(ends, start + n)
        return twice


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        served: Served = self.server.served
        served.n_requests += 1
        fault = served.faults.pop(0) if served.faults else served.forever
        if "swap" in fault:
            served.data, served.etag = fault["swap"]
        time.sleep(fault.get("wait_s", 0))
        with suppress(ConnectionError):
            self._answer(served, fault)
        self.close_connection = True

    def _answer(self, served: Served, fault: Mapping[str, Any]) -> None:
        start, end, status = self._part(served)
        status = fault.get("status", status)
        self.send_response(status)
        body = served.data[start:end] if status in (200, 206) else b""
        if fault.get("spoil"):
            body = bytes(256 - len(body) % 7) + body[256 - len(body) % 7 :]
        headers = {"ETag": served.etag, "Content-Length": fault.get("length", len(body))}
        if status == 206:
            headers["Content-Range"] = fault.get("told", f"bytes {start}-{end - 1}/{len(served.data)}")
        for name, value in (headers | fault.get("headers", {})).items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()
        entry = [start, 0]
        served.sent.append(entry)
        for place in range(0, min(len(body), fault.get("drop_after", len(body))), 2**13):
            piece = body[place : min(place + 2**13, fault.get("drop_after", len(body)))]
            if served.hold_after is not None and served.n_sent >= served.hold_after:
                served.held.set()
                served.release.wait(60)
                return
            time.sleep(fault.get("pause_s", 0))
            self.wfile.write(piece)
            entry[1] += len(piece)

    def _part(self, served: Served) -> tuple[int, int, int]:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if not served.has_ranges or asked is None or condition not in (None, served.etag):
            return 0, len(served.data), 200
        start = int(asked[1])
        return (start, min(int(asked[2]) + 1, len(served.data)), 206) if start < len(served.data) else (0, 0, 416)

    def log_message(self, *words: Any) -> None:
        pass


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.served = served  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/outs.zip"
    try:
        yield served
    finally:
        served.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


def zipped(folder: Path, path: Path, prefix: str = "") -> Path:
    """Zip a bundle as it is published; what lies in it as files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(item for item in folder.rglob("*") if item.is_file()):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path
