"""One request for some bytes of a remote file, and what its answer says of the file."""

from __future__ import annotations

import http.client
import re
import ssl
import time
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib import error, request
from urllib.parse import urlsplit, urlunsplit

import mistline
from mistline.config.fetch import refused
from mistline.core.errors import InputError

_BUSY = {408, 425, 429, 500, 502, 503, 504}
_CLOSED = {401, 402, 403, 407, 451}
_BY_HAND = "correct the url, or download and unzip it by hand"


class DroppedError(Exception):
    """The connection failed, or the server is busy: another attempt may do.

    Args:
        what: what happened.
        wait_s: how long the server asks to wait.
    """

    def __init__(self, what: str, wait_s: float = 0) -> None:
        self.what, self.wait_s = what, wait_s
        super().__init__(what)


class ChangedError(Exception):
    """The remote file is not, or no longer, the one that was begun."""


@dataclass(frozen=True)
class Version:
    """What tells one state of a remote file from another.

    Args:
        n_bytes: its size.
        etag: the server's name for this state, where it gives one.
        modified: when it was changed last, as the server says it.
        has_ranges: whether the server gives parts of it.
    """

    n_bytes: int
    etag: str | None
    modified: str | None
    has_ranges: bool

    @property
    def condition(self) -> dict[str, str]:
        """The header that asks for a part only of this state: a weak tag cannot ask."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        told = strong or (self.modified if self.etag is None else None)
        return {"If-Range": told} if told else {}


@dataclass(frozen=True)
class Answer:
    """An answer that has begun: bytes `start` to `end` of the file are to be read from it."""

    version: Version
    start: int
    end: int
    stream: http.client.HTTPResponse

    def read(self, n: int, timeout_s: float) -> bytes:
        """Return exactly the next n bytes.

        Raises:
            DroppedError: the connection ended, failed or took longer than the timeout.
        """
        data = b""
        until = time.monotonic() + timeout_s
        while len(data) < n:
            try:
                more = self.stream.read1(n - len(data))
            except (OSError, http.client.HTTPException) as problem:
                raise DroppedError(_told(problem)) from problem
            if not more:
                raise DroppedError("the connection ended before the bytes that were announced")
            data += more
            if time.monotonic() > until and len(data) < n:
                raise DroppedError(f"less than {n} bytes in {timeout_s:g} s")
        return data


def shown(url: str) -> str:
    """Return an address without its query or its user, which may be secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the url"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def ask(url: str, start: int, end: int, known: Version | None, timeout_s: float) -> Answer:
    """Ask for bytes `start` to `end` of a file.

    Args:
        url: its address, http or https.
        start: first byte.
        end: one past the last byte.
        known: the state of the file that was begun, if it was.
        timeout_s: seconds to wait for an answer.

    Raises:
        InputError: the server refuses, has no such file, or contradicts itself.
        DroppedError: no answer, or a busy server.
        ChangedError: the file is no longer in the state that is known.
    """
    headers = {
        "User-Agent": f"mistline/{mistline.__version__}",
        "Accept-Encoding": "identity",
        "Range": f"bytes={start}-{end - 1}",
        **(known.condition if known else {}),
    }
    try:
        stream = _OPENER.open(request.Request(url, headers=headers), timeout=timeout_s)
    except error.HTTPError as refusal:
        with refusal:
            if refusal.code == 416 and known:
                raise ChangedError from refusal
            raise _refusal(url, refusal) from refusal
    except (OSError, http.client.HTTPException) as problem:
        reason = problem.reason if isinstance(problem, error.URLError) else problem
        if isinstance(reason, ssl.SSLCertVerificationError):
            what = f"its certificate cannot be trusted ({reason.verify_message})"
            raise InputError(shown(url), what, "correct the url, or the certificates of this machine") from problem
        raise DroppedError(_told(reason)) from problem
    try:
        answer = _understand(url, stream, start, end)
        if known and not _is_same(known, answer.version):
            raise ChangedError
    except BaseException:
        stream.close()
        raise
    return answer


def _understand(url: str, stream: http.client.HTTPResponse, start: int, end: int) -> Answer:
    coding = stream.headers.get("Content-Encoding", "identity")
    length = stream.headers.get("Content-Length", "")
    n_bytes = int(length) if length.isdecimal() else None
    if coding != "identity":
        raise InputError(shown(url), f"the server sends it coded as {coding}, which was not asked for", _BY_HAND)
    if stream.status == 200:
        if n_bytes is None:
            raise InputError(shown(url), "the server does not say how large it is", _BY_HAND)
        return Answer(_version(n_bytes, stream.headers, has_ranges=False), 0, n_bytes, stream)
    told = stream.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", told)
    if stream.status != 206 or match is None:
        what = f"asked for bytes from {start}, the server answers {stream.status} with the range {told!r}"
        raise InputError(shown(url), what, _BY_HAND)
    first, stop, total = int(match[1]), int(match[2]) + 1, int(match[3])
    if first != start or not first < stop <= min(end, total) or n_bytes not in (None, stop - first):
        what = f"the server contradicts itself: asked for bytes {start}-{end - 1}, it sends {length} as {told}"
        raise InputError(shown(url), what, _BY_HAND)
    return Answer(_version(total, stream.headers, has_ranges=True), first, stop, stream)


def _version(n_bytes: int, headers: Message, *, has_ranges: bool) -> Version:
    return Version(n_bytes, headers.get("ETag"), headers.get("Last-Modified"), has_ranges)


def _is_same(known: Version, found: Version) -> bool:
    if known.n_bytes != found.n_bytes or known.has_ranges != found.has_ranges:
        return False
    if known.etag is not None and found.etag is not None:
        return known.etag == found.etag
    return None in (known.modified, found.modified) or known.modified == found.modified


def _refusal(url: str, refusal: error.HTTPError) -> Exception:
    told = f"{refusal.code} {refusal.reason}".strip()
    if refusal.code in _BUSY:
        wait = refusal.headers.get("Retry-After", "")
        return DroppedError(f"the server answers {told}", float(wait) if wait.isdecimal() else 0)
    if refusal.code in (404, 410):
        return InputError(shown(url), f"the server has no such file ({told})", "correct the url")
    if refusal.code in _CLOSED:
        return InputError(shown(url), f"the server does not give it to us ({told})", _BY_HAND)
    what = "the server's redirection is not followed" if 300 <= refusal.code < 400 else "the server refuses"
    return InputError(shown(url), f"{what} ({' '.join(told.split())})", _BY_HAND)


def _told(problem: Any) -> str:
    if isinstance(problem, TimeoutError):
        return "the server went silent"
    return str(problem).strip().rstrip(".") or type(problem).__name__


class _Redirects(request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and from https never to http."""

    def redirect_request(self, req: request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the request that follows, with the same headers."""
        why = refused(newurl)
        if why is None and req.type == "https" and urlsplit(newurl).scheme == "http":
            why = "it leads from https to http"
        if why:
            raise InputError(shown(req.full_url), f"it redirects to {shown(newurl)}, and {why}", "correct the url")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> request.OpenerDirector:
    """Return an opener that knows http and https and nothing else: no files, no ftp, no data."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        _Redirects(),
        request.HTTPErrorProcessor(),
        request.HTTPDefaultErrorHandler(),
        request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


_OPENER = _opener()
