"""Names that SpatialData and every file system take."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

logger = logging.getLogger("mistline.export")


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Map names to letters, digits, `_`, `.` and `-`, told apart whatever the case; a changed one is logged."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = re.sub(r"[^\w.-]+", "_", name).strip(".") or "unnamed"
        safe, number = stem, 1
        while safe.casefold() in taken:
            number += 1
            safe = f"{stem}_{number}"
        taken.add(safe.casefold())
        found[name] = safe
        if safe != name:
            logger.info("%r is called %s in what is exported", name, safe)
    return found
