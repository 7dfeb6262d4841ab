"""Bundles from a server that drops connections, lies and changes its mind."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import zipfile
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest

from mistline.config.fetch import Fetch
from mistline.core.errors import InputError, MistlineError, OutputError, ResourceError
from mistline.fetch import http
from mistline.fetch.bundle import ORIGIN, Source, fetch
from mistline.fetch.copy import BLOCK, Copy
from tests.unit.fetch.conftest import SETTINGS, WANTED, as_zip, contents, files, usual_zip
from tests.unit.fetch.server import Served

READ = {name: data for name, data in files().items() if WANTED.is_read(name)}
WHOLE = len(usual_zip())


def get(served: Served, bundle: Path, **known: object) -> dict:
    return fetch(Source(served.url, **known), bundle, WANTED, SETTINGS)


def refused(kind: type[MistlineError], match: str, served: Served, bundle: Path, **known: object) -> None:
    with pytest.raises(kind, match=match) as error:
        get(served, bundle, **known)
    assert "\n" not in str(error.value)
    assert not bundle.exists()


def is_whole(bundle: Path) -> bool:
    found = contents(bundle)
    found.pop(ORIGIN)
    return found == READ and [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_only_what_is_read_is_fetched(served, bundle):
    told = get(served, bundle)
    assert is_whole(bundle)
    assert served.n_sent < WHOLE / 2
    assert served.sent_twice() == 0
    assert (told["n_bytes"], told["etag"], told["checksums"]) == (WHOLE, '"1"', {})
    assert told["files"]["image"]["n_bytes"] == 5 * BLOCK
    n_requests = served.n_requests
    assert get(served, bundle) == told  # on disk: told again, from the bundle itself
    assert served.n_requests == n_requests


@pytest.mark.parametrize("prefix", ["outs/", "a/b c/"])
def test_a_bundle_in_a_folder_of_its_zip(served, bundle, prefix):
    served.data = as_zip(prefix=prefix)
    get(served, bundle)
    assert is_whole(bundle)


def test_what_is_on_disk_is_used_as_it_is(served, bundle):
    bundle.mkdir(parents=True)
    (bundle / "mine").touch()
    assert get(served, bundle) == {"found": True}
    assert (served.n_requests, [*bundle.iterdir()]) == (0, [bundle / "mine"])
    shutil.rmtree(bundle)
    bundle.mkdir()  # an empty folder is none
    get(served, bundle)
    assert is_whole(bundle)


def test_a_checksum_is_of_all_of_it(served, bundle):
    known = {"sha256": hashlib.sha256(served.data).hexdigest().upper(), "md5": hashlib.md5(served.data).hexdigest()}
    refused(InputError, "its md5 is .*, and 0{32} was announced", served, bundle, **known | {"md5": "0" * 32})
    served.sent.clear()
    told = get(served, bundle, **known)
    assert is_whole(bundle)
    assert told["checksums"]["sha256"] == known["sha256"].lower()
    assert (served.n_sent, served.sent_twice()) == (WHOLE, 0)


def test_dropped_connections_cost_no_block_twice(served, bundle):
    served.faults = [{}, {}, *({"drop_after": BLOCK + 5000} for _ in range(12))]
    get(served, bundle, md5=hashlib.md5(served.data).hexdigest())
    assert is_whole(bundle)
    assert served.n_requests > 14
    assert served.sent_twice() <= 12 * 8000 < BLOCK * 2  # the broken block of each, and none but those


def test_without_ranges_it_is_one_stream_from_the_start(served, bundle):
    served.has_ranges = False
    served.faults = [{"drop_after": WHOLE - BLOCK}]
    get(served, bundle)
    assert is_whole(bundle)
    assert [start for start, _ in served.sent] == [0, 0]
    shutil.rmtree(bundle)
    served.forever = {"drop_after": WHOLE - BLOCK}
    refused(ResourceError, "3 attempts in a row brought nothing that can be kept", served, bundle)


def test_another_file_under_the_address_is_begun_anew(served, bundle):
    other = as_zip({**files(), "table": b"another"})
    served.faults = [{}, {}, {"swap": (other, '"2"')}]
    get(served, bundle)
    assert (bundle / "table").read_bytes() == b"another"
    shutil.rmtree(bundle)
    served.faults = [{}, {"swap": (usual_zip(), '"3"')}, {}, {"swap": (other, '"4"')}]
    refused(InputError, "it changes while it is fetched", served, bundle)
    served.etag = None  # a server that tells states apart by nothing but their size
    served.faults = [{}, {"swap": (other + b"\0", None)}]
    get(served, bundle)


@pytest.mark.parametrize(
    ("fault", "kind", "sentence"),
    [
        ({"status": 404}, InputError, r"no such file \(404 Not Found\); correct the url"),
        ({"status": 403}, InputError, r"does not give it to us \(403 Forbidden\)"),
        ({"status": 418}, InputError, "the server refuses"),
        ({"status": 500}, ResourceError, "3 attempts in a row .*500"),
        ({"status": 429, "headers": {"Retry-After": "0"}}, ResourceError, "3 attempts in a row .*429"),
        ({"status": 204}, InputError, "answers 204"),
        ({"drop_after": 100}, ResourceError, "the connection ended before the bytes that were announced"),
        ({"length": 9 * BLOCK}, InputError, "the server contradicts itself"),
        ({"length": 10}, InputError, "the server contradicts itself"),
        ({"told": "bytes 0-65535/*"}, InputError, "answers 206 with the range"),
        ({"told": "bytes 7-65542/99999999"}, InputError, "the server contradicts itself"),
        ({"told": f"bytes 0-65535/{WHOLE // 2}"}, InputError, "the server contradicts itself"),
        ({"headers": {"Content-Encoding": "gzip"}}, InputError, "coded as gzip"),
        ({"status": 302, "headers": {"Location": "file:///etc/passwd"}}, InputError, "redirection is not followed"),
        ({"status": 302, "headers": {"Location": "ftp://127.0.0.1/a"}}, InputError, "ftp: addresses are not fetched"),
        ({"status": 307, "headers": {"Location": "/again"}}, InputError, "redirection is not followed"),
    ],
)
def test_a_server_that_will_not_or_lies(served, bundle, fault, kind, sentence):
    served.forever = fault
    refused(kind, sentence, served, bundle)
    served.forever = {}
    get(served, bundle)  # nothing of it stands in the way of the next run
    assert is_whole(bundle)


def test_a_silent_server_and_a_slow_one_are_given_up(served, bundle):
    hasty = Fetch(timeout_s=0.2, attempts=2, pause_s=0)
    served.forever = {"wait_s": 0.5}
    with pytest.raises(ResourceError, match=r"2 attempts in a row .*the server went silent"):
        fetch(Source(served.url), bundle, WANTED, hasty)
    served.forever = {"pause_s": 0.05}  # 8 KB at a time: never silent, and no block in time
    with pytest.raises(ResourceError, match=r"2 attempts in a row .*less than 65536 bytes in 0.2 s"):
        fetch(Source(served.url), bundle, WANTED, hasty)


@pytest.mark.parametrize(
    ("length", "kind", "sentence"),
    [
        (WHOLE - 5000, InputError, "not a whole zip"),
        (WHOLE + 5000, ResourceError, "before the bytes that were announced"),
        (None, InputError, "does not say how large it is"),
        (10**15, OutputError, r"fetching it takes 1e\+06 GB"),
    ],
)
def test_a_stream_of_another_length(served, bundle, length, kind, sentence):
    served.has_ranges, served.forever = False, {"length": length}
    refused(kind, sentence, served, bundle)
    served.forever = {}
    refused(InputError, f"it has {WHOLE} bytes, and 5 were announced", served, bundle, n_bytes=5)
    get(served, bundle, n_bytes=WHOLE)


def test_other_bytes_are_refused_and_fetched_anew(served, bundle):
    served.faults = [{}, {}, {"spoil": True}, {"spoil": True}]
    refused(InputError, "not a whole zip", served, bundle)
    served.sent.clear()
    get(served, bundle)
    assert is_whole(bundle)
    assert served.n_sent < 8 * BLOCK


def test_a_directory_without_end_is_not_read(served, bundle, monkeypatch):
    monkeypatch.setattr("mistline.fetch.download.MAX_READ", 300)
    refused(InputError, r"its directory claims \d+ bytes", served, bundle)


def test_redirects_are_followed(served, bundle):
    served.faults = [{"status": code, "headers": {"Location": f"/{code}"}} for code in (301, 302, 303, 307, 308)]
    get(served, bundle)
    assert is_whole(bundle)


def test_no_room_is_said_before_the_files_come(served, bundle, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=9 * BLOCK))
    refused(OutputError, "fetching it takes .* GB, and .* GB are free; free space", served, bundle)
    assert served.n_sent <= 2 * BLOCK  # what the zip says of itself


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("file:///etc/passwd", "file: addresses are not fetched"),
        ("s3://bucket/key", "s3: addresses are not fetched"),
        ("/data/outs.zip", "plain: addresses are not fetched"),
        ("http:///outs.zip", "names no server"),
        ("https://me:secret@host/outs.zip", "holds a user name"),
        ("http://host/a\r\nX: y", "a character that belongs in no address"),
        ("http://host:port/a", "not an address"),
        ("http://[host/a", "not an address"),
    ],
)
def test_addresses_that_are_not_fetched(bundle, url, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        fetch(Source(url), bundle, WANTED, SETTINGS)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_https_is_not_left_and_its_certificates_count(bundle, monkeypatch):
    handler = http._Redirects()
    with pytest.raises(InputError, match="from https to http"):
        handler.redirect_request(SimpleNamespace(full_url="https://a/b", type="https"), None, 302, "", {}, "http://a/b")
    untrusted = ssl.SSLCertVerificationError(1, "bad")
    untrusted.verify_message = "self-signed certificate"

    def fail(*_words, **_options):
        raise URLError(untrusted)

    monkeypatch.setattr(http._OPENER, "open", fail)
    with pytest.raises(InputError, match=r"cannot be trusted \(self-signed certificate\)"):
        fetch(Source("https://a/b?key=secret"), bundle, WANTED, SETTINGS)


def test_one_process_at_a_time(served, bundle):
    with Copy(bundle.with_name(f".{bundle.name}.fetch"), served.url):
        refused(OutputError, "another process is fetching this bundle", served, bundle)
    assert served.n_requests == 0
    get(served, bundle)


def test_a_bundle_that_appears_meanwhile_is_left_alone(served, bundle, monkeypatch):
    def appear(archive, member, folder):
        bundle.mkdir(exist_ok=True)
        (bundle / "theirs").touch()

    monkeypatch.setattr("mistline.fetch.bundle.unpack", appear)
    with pytest.raises(OutputError, match="it appeared while it was fetched"):
        get(served, bundle)
    assert contents(bundle) == {"theirs": b""}
    assert zipfile.is_zipfile(bundle.with_name(f".{bundle.name}.fetch") / "archive.zip")
