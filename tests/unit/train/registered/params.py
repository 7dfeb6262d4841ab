from __future__ import annotations

from mistline.config.base import Section


class Params(Section):
    steps: int = 20
    rate: float = 0.01
