"""The closed list of reasons for which an utterance has no values in a stage."""

from __future__ import annotations

import re
from enum import StrEnum


class Reason(StrEnum):
    """Why a row has no values.

    A permanent reason follows from the bytes of the input; after a transient one the same bytes may give values.
    `unknown` is any reason that this version does not know: another version wrote it to a record or a shard.
    """

    NOT_MEDIA = "not_media"
    DECODE_ERROR = "decode_error"
    NO_AUDIO_STREAM = "no_audio_stream"
    NO_VIDEO_STREAM = "no_video_stream"
    NO_TEXT = "no_text"
    TOO_SHORT = "too_short"
    TOO_LARGE = "too_large"
    NON_FINITE = "non_finite"
    NOTHING_VALID = "nothing_valid"
    MISSING_FILE = "missing_file"
    DECODER_CRASHED = "decoder_crashed"
    ABSENT = "absent"
    UNKNOWN = "unknown"
    IO_ERROR = "io_error"
    DECODER_HUNG = "decoder_hung"
    STAGE_ERROR = "stage_error"
    WORKER_DIED = "worker_died"
    OUT_OF_MEMORY = "out_of_memory"

    @property
    def transient(self) -> bool:
        """True if the same bytes may give values next time; a shard with such a row is provisional.

        `unknown` is permanent: the version that wrote it has decided already whether the shard is provisional.
        """
        return self in _TRANSIENT

    @property
    def failed(self) -> bool:
        """False for `absent` alone: an utterance without such a modality did not fail."""
        return self is not Reason.ABSENT

    @classmethod
    def _missing_(cls, value: object) -> Reason | None:
        return cls.UNKNOWN if isinstance(value, str) else None


_TRANSIENT = {Reason.IO_ERROR, Reason.DECODER_HUNG, Reason.STAGE_ERROR, Reason.WORKER_DIED, Reason.OUT_OF_MEMORY}


LONGEST = 300
"""The most characters of a message that a record keeps."""
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^/\s'\"]+/)+")


class Unreadable(Exception):  # noqa: N818 - it tells about a clip, not about the program
    """Raised by decoders and stages for one utterance, whose row then has this reason. detail: more about it."""

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
