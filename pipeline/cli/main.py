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

from pipeline import interruption
from pipeline.cache.atomic import UNWRITABLE, is_full
from pipeline.cache.home import Home
from pipeline.cli import (
    ask,
    bundle,
    compare,
    evaluate,
    export,
    extract,
    keep,
    maps,
    prepare,
    rank,
    share,
    sweep,
    train,
)
from pipeline.console import print_line
from pipeline.errors import AffectoryError, InputError, MachineError, SpaceError, lacks_memory, of_machine
from pipeline.run.library_folders import provide

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown")

for _group in (extract, train, compare, sweep, evaluate, bundle, maps, rank, prepare, share, export, keep, ask):
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


_UNUSABLE = (*UNWRITABLE, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
"""The errors of a path that this user may not read or write, or that is no such thing as is wanted."""
_BROKEN = (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOMEM, errno.EAGAIN)
"""The errors of a disk that fails, and of a machine that has no memory or process to give."""
_CLOSED = 128 + signal.SIGPIPE
"""The exit code if whoever reads the output has closed it, as `head` does: that of a program that this signal ends."""


def main() -> None:
    """Runs the command, and exits with the code of its error; see pipeline/errors.py."""
    gc.set_threshold(100_000, 20, 100)  # a manifest is a million objects without a reference cycle
    interruption.listen()
    logging.raiseExceptions = False  # a full disk is reported once, not at every line of the log
    logging.getLogger("distributed").setLevel(logging.ERROR)
    provide(Home().root)
    try:
        app()
    except AffectoryError as error:
        _end(error)
    except SystemExit as end:  # Typer turns KeyboardInterrupt and BrokenPipeError into one
        if isinstance(end.__context__, BrokenPipeError):
            sys.exit(_CLOSED)
        if end.code == interruption.INTERRUPTED:
            print_line(interruption.line(end))
        raise
    except Exception as error:
        known = _of_the_machine(error)
        if known is None:
            raise
        logging.getLogger(__name__).info("the command ends with an error", exc_info=error)
        _end(known)


def _end(error: AffectoryError) -> NoReturn:
    print_line(str(error), "red")
    sys.exit(error.exit_code)


def _of_the_machine(error: Exception) -> AffectoryError | None:
    """The error to end with if the machine is at fault, or a path that cannot be used; None for a bug."""
    if is_full(error):
        return SpaceError(f"no space left: {error}")
    if isinstance(error, OSError) and error.errno in _UNUSABLE and error.filename and error.strerror:
        return _of_a_path(Path(os.fsdecode(error.filename)).absolute(), error.strerror)
    if isinstance(error, OSError) and error.errno in _BROKEN:
        return MachineError(f"this machine fails: {error}")
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):
        return MachineError(f"{error.strerror}: set TMPDIR to a folder that can be written")
    if isinstance(error, UnicodeEncodeError) and error.encoding in ("utf-8", "utf8"):
        return InputError(f"{error.object[:200]!r} is no UTF-8, and libraries read no other names: rename it")
    if lacks_memory(error):
        return MachineError(f"this machine gives no more memory: use fewer workers ({error})")
    return of_machine(error)


def _of_a_path(path: Path, why: str) -> InputError:
    home = Home().root
    if not path.is_relative_to(home) and not home.is_relative_to(path):
        return InputError(f"{path}: {why}")
    return InputError(
        f"{path}: {why}. Affectory keeps its files in {home}: make that writable, or set AFFECTORY_HOME to a folder "
        "that is"
    )


if __name__ == "__main__":
    main()
