"""Remembers the examinations of media files by the digests of their bytes, from run to run.

A key also holds the versions of the code and of the libraries that examined the file, so no examination is taken for
that of other bytes, or of another version.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from pipeline.cache import keys
from pipeline.cache.memo import Memo
from pipeline.media.doctor_file import DECODERS, VERSION
from pipeline.media.doctor_rules import AudioFacts, Examination, Kind, VideoFacts
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Utterance

_LIBRARIES = ("av", "soundfile")
_OF_EVERY_STRETCH = (Reason.NOT_MEDIA, Reason.NO_AUDIO_STREAM, Reason.NO_VIDEO_STREAM)
_FACTS: Mapping[Kind, type[AudioFacts | VideoFacts]] = {"audio": AudioFacts, "video": VideoFacts}


class Content(NamedTuple):
    """The audio or the video of every file whose bytes have this digest."""

    kind: Kind
    digest: str


def recall(contents: Collection[Content], memory: Path) -> dict[Content, Examination]:
    """The examinations that are remembered for some of `contents`. `memory` is the doctor's memo."""
    key_of = {content: _key(content) for content in contents}
    notes = Memo(memory).get(key_of.values())
    examinations = {content: _unpacked(content.kind, notes.get(key)) for content, key in key_of.items()}
    return {content: examination for content, examination in examinations.items() if examination is not None}


def remember(examinations: Mapping[Content, Examination], memory: Path) -> None:
    """Remembers examinations, except those that failed for a transient reason, because the file was missing, or for a
    bound that a setting may raise."""
    Memo(memory).put(
        {
            _key(content): _packed(examination)
            for content, examination in examinations.items()
            if not isinstance(examination, Unreadable) or not _may_change(examination.reason)
        }
    )


def unreadable(rows: Iterable[Utterance], memory: Path) -> dict[tuple[str, str], Reason]:
    """By modality and utterance, the reason of the first file that gives no values whatever stretch of it is read.

    Only these reasons depend neither on the stretch nor on the decoder, so that extraction may take them over without
    opening the file.
    """
    contents = [((modality, row.id), content) for row in rows for modality, content in _contents(row)]
    examinations = recall({content for _, content in contents}, memory)
    reasons: dict[tuple[str, str], Reason] = {}
    for place, content in contents:
        examination = examinations.get(content)
        if isinstance(examination, Unreadable) and examination.reason in _OF_EVERY_STRETCH:
            reasons.setdefault(place, examination.reason)
    return reasons


def _contents(row: Utterance) -> Iterator[tuple[str, Content]]:
    yield from (("audio", Content("audio", stretch.digest)) for stretch in row.audio if stretch.digest is not None)
    yield from (("visual", Content("video", stretch.digest)) for stretch in row.video if stretch.digest is not None)


def _may_change(reason: Reason) -> bool:
    return reason.transient or reason in (Reason.MISSING_FILE, Reason.TOO_LARGE)


def _key(content: Content) -> str:
    libraries = [keys.library_version(name) for name in _LIBRARIES]
    return keys.digest("doctor", VERSION, DECODERS, libraries, content.kind, content.digest)


def _packed(examination: Examination) -> str:
    if isinstance(examination, Unreadable):
        return json.dumps({"reason": examination.reason, "detail": examination.detail})
    return json.dumps(asdict(examination))


def _unpacked(kind: Kind, note: str | None) -> Examination | None:
    """None for a note that is missing or was not written by `_packed`."""
    try:
        value = json.loads(note or "")
        if "reason" in value:
            return Unreadable(Reason(value["reason"]), str(value["detail"]))
        return _FACTS[kind](**value)
    except (ValueError, TypeError, KeyError):
        return None
