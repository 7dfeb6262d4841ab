"""Make the environment of a published method; that it cannot be made is a result too."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mistline.core.files import write_json
from mistline.core.provenance import record
from mistline.tasks.peers.environment import make
from mistline.workflow.digest import code_digest


def run(
    method: Annotated[str, typer.Option(help="Name of the method.")],
    lock: Annotated[Path, typer.Option(help="Its requirements, locked.")],
    environment: Annotated[Path, typer.Option(help="Folder of the environment to make.")],
    status: Annotated[Path, typer.Option(help="What came of it (JSON) to write.")],
) -> None:
    """Make an environment."""
    found = make(method, lock, environment)
    write_json(status, asdict(found))
    record(
        "peer_environment",
        outputs=[status],
        inputs={"lock": lock},
        params={"method": method},
        code=code_digest("peer_environment"),
    )
