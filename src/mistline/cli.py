"""The command line: one command a stage, its module imported only when it is called."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import mistline
from mistline.core import log
from mistline.core.errors import MistlineError, ResourceError, system_error

COMMANDS = {
    "toy": "Write synthetic Xenium bundles with known truth.",
    "init": "Scan bundles and write the slides section of a config.",
    "doctor": "Say what this machine has and what is missing.",
    "why": "Tell what made a file, and from what.",
    "plan": "Say hours, memory and disk of a run before anything runs.",
    "fetch": "Fetch bundles: from an address, for the slides of a sheet, or 10x's smallest.",
    "fetch-bundle": "Fetch the bundle of one slide, unless it is on disk.",
    "check-bundle": "Check a raw bundle; say what it is and what is wrong with it.",
    "project-image": "Project the z-stack and write the 8-bit pyramid.",
    "read-cells": "Join cells, boundaries and counts by id.",
    "read-table": "Read a slide given as h5ad or Visium folder.",
    "cut-patches": "Cut the image of every spot of a slide given as a table.",
    "cut-crops": "Cut one crop a cell into shards.",
    "cut-tiles": "Cut the tiles of one grid scale into shards.",
    "register-he": "Check the alignment of an H&E and put it on the DAPI grid.",
    "cut-he": "Cut the H&E records of one scale into shards.",
    "make-splits": "Divide the cohort into training, validation and test.",
    "fit-metacells": "Fit the meta-cell vocabulary on training cells.",
    "assign-metacells": "Give every cell of a slide its meta-cell.",
    "seal-dataset": "Prove one key across scales and write the manifest.",
    "seal-tables": "The same for slides given as tables.",
    "train": "Train a model.",
    "embed": "Embed a slide with a trained model.",
    "assign-folds": "Divide the cells as one task and protocol ask.",
    "predict": "Train a model on the folds of a task and predict unseen cells.",
    "read-reference": "Read a single-cell reference for imputed genes.",
    "fold-genes": "Divide genes shared with the reference into folds.",
    "impute-folds": "Impute the genes of each fold while they are closed.",
    "impute-slide": "Add genes to a slide that no panel measures.",
    "peer-environment": "Install a published method apart from everything else.",
    "peer-embed": "Embed a slide with a published method.",
    "peer-predict": "Train a published method on the folds of a task.",
    "peer-impute": "Impute closed genes with a published method.",
    "encode-cells": "Write latents and conditions of a slide's cells for a generator.",
    "pair-cells": "Pair cells of two states by optimal transport.",
    "train-generator": "Train a generator of cell images.",
    "generate": "Draw images of test cells with a trained generator.",
    "generate-cells": "Fill hidden squares of the test slides with a trained generator of cells.",
    "perturb": "Change circles of the test slides and generate what lies around them.",
    "edit": "Draw cells again with some of their genes changed.",
    "sweep": "Time sampling with and without token merging, and judge what it draws.",
    "evaluate": "Judge a model, or the controls, on a task.",
    "compare": "Test the rows of one table against each other.",
    "report": "Write the report.",
    "export-viewer": "Write a slide for napari and Xenium Explorer.",
    "export-lmdb": "Write 256 x 256 images as the published SPATIA code reads them.",
}


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and imports `mistline.stages.<name>` on use."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        """Return the commands in the order of the line."""
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:
        """Import the stage of one command."""
        if cmd_name not in COMMANDS:
            return None
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        module = importlib.import_module(f"mistline.stages.{cmd_name.replace('-', '_')}")
        gc.freeze()  # modules stay to the end; a garbage collection that looks at them all takes a tenth of a second
        app.command(name=cmd_name, help=COMMANDS[cmd_name])(module.run)
        return typer.main.get_command(app)

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:
        """List the commands without importing them."""
        # The default help would import every stage to learn its one line.
        typer.echo("Usage: mistline COMMAND [OPTIONS]\n\nFrom raw Xenium bundles to MIST.\n\nCommands:")
        for name, text in COMMANDS.items():
            typer.echo(f"  {name:<17} {text}")


app = typer.Typer(cls=LazyGroup, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


def _version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"mistline {mistline.__version__}")
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """From raw Xenium bundles to MIST."""


def main() -> None:
    """Run a command; end with one sentence and the exit code of the problem's class."""
    log.configure()
    try:
        app()
    except MistlineError as error:
        _end(error)
    except OSError as error:
        told = system_error(error, error.filename or sys.argv[1])
        if told is None:  # a bug of ours: its traceback is needed
            raise
        _end(told)
    except MemoryError as error:
        _end(ResourceError(sys.argv[1], f"out of memory ({error})", "give the job more memory (mem_mb), or less data"))


def _end(error: MistlineError) -> NoReturn:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(error.exit_code)
