"""The `affectory` command: its subcommands, and the exit code and message of every error."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from pipeline.cache.atomic import is_full
from pipeline.cli import ask, extract, keep, prepare, share, train
from pipeline.console import print_line
from pipeline.errors import INTERRUPTED, AffectoryError, SpaceError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)

for _group in (extract, train, prepare, share, keep, ask):
    app.add_typer(_group.commands)


@app.callback(invoke_without_command=True)
def about(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Turns raw video, audio and transcripts into feature shards, and trains emotion models on them.

    `affectory COMMAND --help` explains a command and gives an example. Example: `affectory extract --dataset demo`
    """
    if show_version:
        sys.stdout.write(f"affectory {version('affectory')}\n")
        raise typer.Exit


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Runs the command, and exits with the code of its error; see pipeline/errors.py."""
    gc.set_threshold(100_000, 20, 100)  # a manifest is a million objects without a reference cycle
    signal.signal(signal.SIGTERM, _stop)
    logging.raiseExceptions = False  # a full disk is reported once, not at every line of the log
    logging.getLogger("distributed").setLevel(logging.ERROR)
    try:
        app()
    except AffectoryError as error:
        print_line(str(error), "red")
        sys.exit(error.exit_code)
    except SystemExit as end:  # Typer turns KeyboardInterrupt into one
        if end.code == INTERRUPTED:
            print_line("Interrupted. Finished work is kept: the same command goes on from there.")
        raise
    except Exception as error:
        if not is_full(error):
            raise
        print_line(f"no space left: {error}", "red")
        sys.exit(SpaceError.exit_code)


if __name__ == "__main__":
    main()
