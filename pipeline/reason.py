"""What became of each utterance in each stage: the closed list of reasons, counts, and the failure gate."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class Reason(StrEnum):
    """Why a row has no values. A permanent reason is a function of the bytes; a transient one is worth another try."""

    NOT_MEDIA = "not_media"
    DECODE_ERROR = "decode_error"
    NO_AUDIO_STREAM = "no_audio_stream"
    NO_VIDEO_STREAM = "no_video_stream"
    NO_TEXT = "no_text"
    TOO_SHORT = "too_short"
    NON_FINITE = "non_finite"
    MISSING_FILE = "missing_file"
    DECODER_CRASHED = "decoder_crashed"
    ABSENT = "absent"
    IO_ERROR = "io_error"
    DECODER_HUNG = "decoder_hung"
    STAGE_ERROR = "stage_error"
    WORKER_DIED = "worker_died"
    OUT_OF_MEMORY = "out_of_memory"

    @property
    def transient(self) -> bool:
        """True where the same bytes may give values next time; such a shard stays provisional."""
        return self in _TRANSIENT

    @property
    def failed(self) -> bool:
        """False for `absent` alone: an utterance that has no such modality did not fail."""
        return self is not Reason.ABSENT


_TRANSIENT = {Reason.IO_ERROR, Reason.DECODER_HUNG, Reason.STAGE_ERROR, Reason.WORKER_DIED, Reason.OUT_OF_MEMORY}


LONGEST = 300
"""Characters of a message that a record keeps."""
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^/\s'\"]+/)+")


class Unreadable(Exception):  # noqa: N818 - a finding about a clip more than an error
    """Raised by decoders and stages for one utterance; becomes that row's reason."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail}" if self.detail else self.reason.value


def one_line(text: str) -> str:
    """A message as records keep it: its first line without control characters and without folders of this machine."""
    first = next((line for line in text.strip().splitlines() if line.strip()), "")
    printable = "".join(character for character in first if character.isprintable())
    return _FOLDERS.sub("", printable)[:LONGEST]
