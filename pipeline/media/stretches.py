"""Stretches of files: which samples they hold, and the name of the one that fails where an utterance has several."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipeline.reason import Unreadable
from pipeline.utterance import Stretch


@contextmanager
def naming(stretches: Sequence[Stretch], index: int) -> Iterator[None]:
    """Says in the detail of an Unreadable raised inside which of the stretches it is about."""
    try:
        yield
    except Unreadable as error:
        raise Unreadable(error.reason, name(stretches, index) + error.detail) from error


def name(stretches: Sequence[Stretch], index: int) -> str:
    """The beginning of a message about one of several stretches; "" for the only one."""
    return f"stretch {index + 1} of {len(stretches)}, {stretches[index].path}: " if len(stretches) > 1 else ""


def sample_range(stretch: Stretch, rate_hz: int) -> tuple[int, int]:
    """The first sample, and the one after the last; `sys.maxsize` stands for the end of the file."""
    first = max(0, round((stretch.start_s or 0.0) * rate_hz))
    return first, sys.maxsize if stretch.end_s is None else max(first, round(stretch.end_s * rate_hz))
