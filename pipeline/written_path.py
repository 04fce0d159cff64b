"""Paths as people write them in recipes and on the command line."""

from __future__ import annotations

import os
from pathlib import Path


def written_path(text: str, *, variables: bool = False) -> Path:
    """The path that a text names, with `~` as the user's home folder; variables: also `$NAME` as its value.

    A user or a variable that is not known here stays as it is written, so that a message about the path shows it.
    """
    return Path(os.path.expanduser(os.path.expandvars(text) if variables else text))  # noqa: PTH111 - which would raise
