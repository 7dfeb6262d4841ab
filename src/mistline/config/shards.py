"""How records are packed into files."""

from __future__ import annotations

from pydantic import Field

from mistline.config.base import Section


class Shards(Section):
    """Bounds of the store; they change no record."""

    max_gb: float = Field(4.0, gt=0, description="largest size of one shard file; files that size copy and stage well")
