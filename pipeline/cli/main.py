"""The `affectory` command: its subcommands, and the exit code and message of every error."""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pipeline.cache.atomic import UNWRITABLE, is_full
from pipeline.cache.home import Home
from pipeline.cli import ask, extract, keep, prepare, share, train
from pipeline.console import print_line
from pipeline.errors import INTERRUPTED, AffectoryError, InputError, SpaceError
from pipeline.run.library_folders import provide

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


_UNUSABLE = (*UNWRITABLE, errno.ENOTDIR, errno.EEXIST)
"""The errors of a folder that this user cannot write to, and of a file in its place."""


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Runs the command, and exits with the code of its error; see pipeline/errors.py."""
    gc.set_threshold(100_000, 20, 100)  # a manifest is a million objects without a reference cycle
    signal.signal(signal.SIGTERM, _stop)
    logging.raiseExceptions = False  # a full disk is reported once, not at every line of the log
    logging.getLogger("distributed").setLevel(logging.ERROR)
    provide(Home().root)
    try:
        app()
    except AffectoryError as error:
        _end(error)
    except SystemExit as end:  # Typer turns KeyboardInterrupt into one
        if end.code == INTERRUPTED:
            print_line("Interrupted. Finished work is kept: the same command goes on from there.")
        raise
    except Exception as error:
        known = _of_the_disk(error)
        if known is None:
            raise
        _end(known)


def _end(error: AffectoryError) -> NoReturn:
    print_line(str(error), "red")
    sys.exit(error.exit_code)


def _of_the_disk(error: Exception) -> AffectoryError | None:
    """The message for a full disk, or for a home that cannot be used; None for any other error."""
    if is_full(error):
        return SpaceError(f"no space left: {error}")
    if not isinstance(error, OSError) or error.errno not in _UNUSABLE or error.filename is None:
        return None
    home, path = Home().root, Path(os.fsdecode(error.filename)).absolute()
    if not path.is_relative_to(home) and not home.is_relative_to(path):
        return None
    return InputError(
        f"{path}: {error.strerror}. Affectory keeps its files in {home}: make that writable, or set AFFECTORY_HOME to "
        "a folder that is"
    )


if __name__ == "__main__":
    main()
