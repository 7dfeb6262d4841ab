from __future__ import annotations

from pathlib import Path

from mistline.core import provenance
from mistline.core.files import read_json
from mistline.core.hashing import hash_file


def test_the_sidecar_tells_what_made_the_file(tmp_path: Path) -> None:
    source, middle, last = (tmp_path / name for name in ("source.csv", "middle.txt", "last.txt"))
    for path in (source, middle, last):
        path.write_text(path.name)
    common = {"params": {"a": 1}, "code": "abc", "seed": 7}
    provenance.record("first", outputs=[middle], inputs={"source": source}, **common)
    provenance.record("second", outputs=[last], inputs={"middle": middle}, **common)

    meta = read_json(provenance.sidecar(last))
    assert meta["stage"] == "second"
    assert meta["sha256"] == hash_file(last)
    assert meta["inputs"]["middle"]["sha256"] == hash_file(middle)
    assert meta["seed"] == 7
    assert {"mistline", "python", "numpy"} <= set(meta["versions"])


def test_a_folder_s_hash_follows_names_and_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/a").write_text("1")
    before = hash_file(folder)
    (folder / "sub/a").rename(folder / "sub/b")
    renamed = hash_file(folder)
    (folder / "sub/b").write_text("2")
    assert len({before, renamed, hash_file(folder)}) == 3
