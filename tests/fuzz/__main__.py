"""Run one case again: `python -m tests.fuzz SUBJECT SEED`, as a failed test names it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.fuzz.cases import try_cases
from tests.fuzz.subjects import GROUPS


def main(name: str, seed: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for number, make in enumerate(GROUPS.values()):
        for subject in make(folder / f"{number}/all"):
            if subject.name == name:
                for verdict in try_cases(subject, (-1, seed), folder / "cases"):
                    print(f"seed {verdict.seed}: {verdict.change}: {verdict.kind}\n{verdict.told}")
                print(f"its files: {folder}/cases")
                return
    sys.exit(f"no subject {name!r}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
