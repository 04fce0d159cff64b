"""The errors that are no bugs, each with the exit code of the command line."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class AffectoryError(Exception):
    """An error that the user can act on. The command line prints its message without a traceback."""

    exit_code = 1


class InputError(AffectoryError):
    """Bad input or a bad recipe: a missing corpus, a duplicate id, a misspelt parameter."""

    exit_code = 2


class KilledError(AffectoryError):
    """Some jobs killed their workers and were given up; the others were done."""

    exit_code = 3


class RemoteError(AffectoryError):
    """A remote could not be reached, or answered with something else than was asked for."""

    exit_code = 4


class SpaceError(AffectoryError):
    """The disk has too little space for what is to be written."""

    exit_code = 5


class MachineError(AffectoryError):
    """The machine lacks something that Affectory needs, such as a library. No clip is at fault."""

    exit_code = 6


_FULL = (errno.ENOSPC, errno.EDQUOT)
_BARRED = (errno.EACCES, errno.EPERM)
_LACKING = (errno.EROFS, errno.EMFILE, errno.ENFILE)


def of_machine(error: BaseException, reads_files: bool = False) -> AffectoryError | None:
    """The error to raise in place of one for which no clip is to blame; None if a clip may be to blame.

    A missing library, a full disk, a folder that may not be written. reads_files: whether the code that failed reads
    files of the corpus, so that a file that may not be read is the clip's own defect.
    """
    described = f"{type(error).__name__}: {error}"
    if isinstance(error, ImportError):
        return MachineError(f"a library is missing or broken ({described}): install Affectory again")
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL:
        return SpaceError(f"a disk is full ({described}): free some space, and call again")
    if number in _LACKING or (number in _BARRED and not reads_files):
        return MachineError(f"this machine does not let a stage or a decoder work ({described})")
    return None


_REFUSALS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""Parts of the messages of torch on a CPU, and of the libraries of CUDA, which raise a plain RuntimeError."""


def lacks_memory(error: BaseException) -> bool:
    """True for a refusal of memory by Python, numpy, CUDA, or torch on a CPU, which raises a RuntimeError."""
    refused = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return refused or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in _REFUSALS))


@contextmanager
def needing_memory(what: str) -> Iterator[None]:
    """Raises MachineError that says `what` needs the memory, in place of a refusal of it."""
    try:
        yield
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise MachineError(
            f"{what} needs more memory than this machine gives: use fewer workers, or a smaller batch_size ({error})"
        ) from error


TOO_MANY_FAILED = 3
"""The exit code if more rows of a modality failed than the recipe allows."""


def closest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the closest known names, or all of them."""
    names = sorted(known)
    similar = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(similar)}?" if similar else f"known: {', '.join(names) or 'none'}"
