"""Paths as people write them in recipes and on the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


def written_path(text: str, *, variables: bool = False) -> Path:
    """The path that a text names, with `~` as the user's home folder; variables: also `$NAME` as its value.

    A user or a variable that is not known here stays as it is written, so that a message about the path shows it.
    """
    return Path(os.path.expanduser(os.path.expandvars(text) if variables else text))  # noqa: PTH111 - which would raise


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """The text with `$NAME` and `${NAME}` as their values in `variables`, else in the environment.

    A variable that is not known stays as it is written.
    """
    return _VARIABLE.sub(lambda found: variables.get(found[1].strip("{}"), os.path.expandvars(found[0])), text)
