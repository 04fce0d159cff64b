"""Counts how often a row took all memory or killed its process, so that it is not tried for ever.

Either may be the machine's fault, and is transient. A row to which it happens in three tries has a permanent reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.cache.record import Record
from pipeline.reason import Reason
from pipeline.stage import Track

MOST_TRIES = 3
"""The try with which such a reason becomes permanent."""
FINALLY = {Reason.OUT_OF_MEMORY: Reason.TOO_LARGE, Reason.WORKER_DIED: Reason.DECODER_CRASHED}
"""What a transient reason becomes."""
TRIES = "tries"
"""The entry of `Record.about` with the number of tries by utterance."""


def counted(tracks: Mapping[str, Track], before: Record | None) -> dict[str, int]:
    """How often each row of a shard was tried that has such a reason. before: the record of the shard so far."""
    tries = before.about.get(TRIES, {}) if before else {}
    return {name: tries.get(name, 0) + 1 for name, track in tracks.items() if track.reason in FINALLY}


def settled(tracks: Mapping[str, Track], tries: Mapping[str, int]) -> dict[str, Track]:
    """The tracks, of which those that failed in as many tries as they may have a permanent reason."""
    return {name: _final(track, tries.get(name, 0)) for name, track in tracks.items()}


def _final(track: Track, tries: int) -> Track:
    if track.reason is None or tries < MOST_TRIES:
        return track
    return replace(track, reason=FINALLY[track.reason], message=f"{track.reason} in {tries} tries: {track.message}")
