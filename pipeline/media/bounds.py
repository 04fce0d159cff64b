"""Bounds on what a file may make a decoder hold, whatever its bytes say.

What headers tell is refused before anything is decoded. What they don't tell meets the bound on the decoding process:
`pipeline.media.child` ends it a little below, because a library that is refused memory may take that for damage in the
clip, and carry on with other values.
"""

from __future__ import annotations

import math
import os
import resource

from pipeline.errors import InputError
from pipeline.media.child import Bound
from pipeline.reason import Reason, Unreadable

MOST_PIXELS = 2**26
"""The most pixels of a picture that is decoded: 8192 x 8192, twice those of 8K video."""
ROW_BYTES = 2**30
"""The most bytes of one row that stages get: an hour and a half of sound at 48 kHz, or 7,000 pictures of 224 x 224."""
SETTING = "AFFECTORY_DECODER_GIB"
"""The environment variable that sets `decoder_bytes`. It is in no key."""


def decoder_bytes() -> int:
    """The most memory that one decoding process may use: 4 GiB, or what the environment says. Raises InputError."""
    text = os.environ.get(SETTING) or "4"
    try:
        size_gib = float(text)
    except ValueError:
        size_gib = math.nan
    if not 0.25 <= size_gib <= 2**20:
        raise InputError(f"{SETTING} is {text!r}, expected a number of GiB, at least 0.25, such as 4")
    return int(size_gib * 2**30)


def decoder_bound() -> Bound:
    """What ends a decoding process: seven eighths of `decoder_bytes`."""
    size = decoder_bytes()
    return Bound(size * 7 // 8, Reason.TOO_LARGE, f"a larger {SETTING} than {size / 2**30:g} allows more")


def bound_this_process() -> None:
    """Has the kernel refuse this process more memory than `decoder_bytes`."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = decoder_bytes() if hard == resource.RLIM_INFINITY else min(decoder_bytes(), hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def check_pixels(width: int, height: int) -> None:
    """Raises Unreadable for pictures that are too large to be decoded."""
    if width * height > MOST_PIXELS:
        side = math.isqrt(MOST_PIXELS)
        raise Unreadable(
            Reason.TOO_LARGE, f"pictures of {width} x {height}; at most as many pixels as {side} x {side} are decoded"
        )


def check_row(size_bytes: int) -> None:
    """Raises Unreadable for a row that would hold more than `ROW_BYTES`."""
    if size_bytes > ROW_BYTES:
        held = f"{size_bytes / 2**30:.2f} GiB for one utterance"
        raise Unreadable(Reason.TOO_LARGE, f"{held}, at most {ROW_BYTES / 2**30:g} are decoded: cut it into several")
