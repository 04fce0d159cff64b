"""The `affectory` command. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import gc
import logging
import signal
import sys

import typer
from rich.markup import escape

from pipeline.cache.atomic import is_full
from pipeline.cli import ask, extract, keep, prepare, share, train
from pipeline.console import console
from pipeline.errors import INTERRUPTED, AffectoryError, SpaceError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)

for _group in (extract, train, prepare, share, keep, ask):
    app.add_typer(_group.commands)


@app.callback()
def about() -> None:
    """Raw video, audio and transcripts to feature shards to trained models."""


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Runs the command and ends with the exit code of its error: see pipeline/errors.py."""
    gc.set_threshold(100_000, 20, 100)  # a manifest is a million objects without a cycle
    signal.signal(signal.SIGTERM, _stop)
    logging.raiseExceptions = False  # a full disk is said once, not at every line of the log
    logging.getLogger("distributed").setLevel(logging.ERROR)
    try:
        app()
    except AffectoryError as error:
        console.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        sys.exit(error.exit_code)
    except SystemExit as end:  # Typer makes one of KeyboardInterrupt
        if end.code == INTERRUPTED:
            console.print("Interrupted. What was finished is kept: the same command goes on from there.")
        raise
    except Exception as error:
        if not is_full(error):
            raise
        console.print(f"[red]no space left: {escape(str(error))}[/red]")
        sys.exit(SpaceError.exit_code)


if __name__ == "__main__":
    main()
