"""What can go wrong that is not a bug, each with the exit code the command line ends with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AffectoryError(Exception):
    """An error the user can act on. The command line prints its message without a traceback."""

    exit_code = 1


class InputError(AffectoryError):
    """Bad input or a bad recipe: a missing corpus, a duplicate id, a misspelt parameter."""

    exit_code = 2


class KilledError(AffectoryError):
    """Some of the work killed its worker and was not done; the rest was."""

    exit_code = 3


class RemoteError(AffectoryError):
    """A remote could not be reached or gave something else than was asked for."""

    exit_code = 4


class SpaceError(AffectoryError):
    """The disk is too small for what is to be written."""

    exit_code = 5


TOO_MANY_FAILED = 3
INTERRUPTED = 130


def closest(name: str, known: Iterable[str]) -> str:
    """Ends an error message on an unknown name: the closest known ones, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
