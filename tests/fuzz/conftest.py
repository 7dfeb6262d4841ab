"""How the cases ended, printed at the end."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fuzz.cases import CHANGED, FAILED, REFUSED, UNHARMED

KINDS = (REFUSED, UNHARMED, CHANGED, FAILED)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows: dict[str, Counter[str]] = {}
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for key, value in report.user_properties:
            if key == "fuzz" and report.when == "call":
                rows.setdefault(value[0].split(":")[0], Counter()).update(value[1])
    if not rows:
        return
    rows["all"] = sum(rows.values(), Counter())
    terminalreporter.section("fuzz")
    for cells in (["files", "cases", *KINDS], ["---"] * 6):
        terminalreporter.write_line("| " + " | ".join(cells) + " |")
    for name, found in rows.items():
        numbers = [found.total(), *(found[kind] for kind in KINDS)]
        terminalreporter.write_line(f"| {name} | " + " | ".join(map(str, numbers)) + " |")
