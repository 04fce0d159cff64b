"""Utterances, the rows of a manifest, and their form as an Arrow table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

Value = str | float | int | None

MISSING, UNREADABLE = "missing", "unreadable"
"""What stands in place of a file's digest if there is no such file, or if it cannot be read here and now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of a media file, in seconds of that file; None is its beginning or its end.

    path: relative to the corpus root. digest: the BLAKE3 of the file's bytes, None while unknown.
    """

    path: str
    start_s: float | None = None
    end_s: float | None = None
    digest: str | None = None

    @property
    def length_s(self) -> float | None:
        """The stated length; None if the stretch goes to the end of the file."""
        return None if self.end_s is None else self.end_s - (self.start_s or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio(Stretch):
    """A stretch of sound. channel: counted from 0, None for a mix of all."""

    channel: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Noise that is mixed into the sound of an utterance; `snr_db` is the ratio of their mean powers.

    seed: what decides white noise, or the place in the sound from which it is taken. sound: the absolute path of a
    sound, "" for white noise. digest: the BLAKE3 of its bytes, "" for white noise.
    """

    snr_db: float
    seed: int
    sound: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyAudio(Audio):
    """A stretch of sound of an utterance into which noise is mixed; all stretches of one utterance have the same."""

    noise: Noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Video(Stretch):
    """A stretch of pictures. crop: (left, top, width, height) as fractions of the frame, None for all of it."""

    crop: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One utterance of one speaker.

    audio, video: the stretches of its sound and of its pictures, in the order in which they are joined; most utterances
    have one of each, and one without sound or pictures has none. turn: its place in the dialogue, which alone decides
    what was said before it. text_digest: of a transcript that was left out, so that the row keeps its keys. start_s,
    end_s: the annotation's own times, which enter no key. split, session: the corpus's own. labels: every annotation,
    from which a recipe makes the label.
    """

    id: str
    dialogue: str
    turn: int
    speaker: str | None = None
    text: str | None = None
    text_digest: str | None = None
    audio: tuple[Audio, ...] = ()
    video: tuple[Video, ...] = ()
    start_s: float | None = None
    end_s: float | None = None
    split: str | None = None
    session: str | None = None
    labels: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.audio, Stretch) or isinstance(self.video, Stretch):
            raise TypeError("audio and video are tuples of stretches, such as (Audio(path=...),)")

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Those of its sound, then those of its pictures."""
        return (*self.audio, *self.video)

    def files(self, kind: str) -> list[str]:
        """The paths of its "audio" or "video", each once; none for another kind of input."""
        stretches: Sequence[Stretch] = {"audio": self.audio, "video": self.video}.get(kind, ())
        return list(dict.fromkeys(stretch.path for stretch in stretches))


_AUDIO = pa.struct(
    [
        ("path", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("channel", pa.int32()),
        ("digest", pa.string()),
    ]
)
_VIDEO = pa.struct(
    [
        ("path", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("crop", pa.list_(pa.float64())),
        ("digest", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("utterance", pa.string()),
        ("dialogue", pa.string()),
        ("turn", pa.int32()),
        ("speaker", pa.string()),
        ("text", pa.string()),
        ("text_digest", pa.string()),
        ("audio", pa.list_(_AUDIO)),
        ("video", pa.list_(_VIDEO)),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("split", pa.string()),
        ("session", pa.string()),
    ]
)


_FIELDS = {"audio": [field.name for field in _AUDIO], "video": [field.name for field in _VIDEO]}

PART = 10_000
"""So many rows are lists and dicts of Python at once on their way into a table."""


def in_order(utterances: Iterable[Utterance]) -> list[Utterance]:
    """The utterances sorted by dialogue, turn and id, so that the order of a scan never matters."""
    return sorted(utterances, key=lambda u: (u.dialogue, u.turn, u.id))


def to_table(utterances: Iterable[Utterance], *, annotated: bool = True) -> pa.Table:
    """The rows as an Arrow table: the columns of `SCHEMA`, then one for each annotation, named `label.<name>`.

    annotated: False leaves the annotations out.
    """
    rows = list(utterances)
    parts = (rows[start : start + PART] for start in range(0, len(rows), PART))
    table = pa.Table.from_batches(map(_batch, parts), SCHEMA).combine_chunks()
    for name in sorted({name for row in rows for name in row.labels}) if annotated else ():
        table = table.append_column(f"label.{name}", pa.array([row.labels.get(name) for row in rows]))
    return table


def _batch(rows: Sequence[Utterance]) -> pa.RecordBatch:
    columns = {name: [_cell(row, name) for row in rows] for name in SCHEMA.names}
    return pa.RecordBatch.from_pydict(columns, SCHEMA)


def _cell(row: Utterance, name: str) -> Any:
    value = getattr(row, "id" if name == "utterance" else name)
    if not isinstance(value, tuple):
        return value
    return [{field: getattr(stretch, field) for field in _FIELDS[name]} for stretch in value]


def from_table(table: pa.Table) -> list[Utterance]:
    """The inverse of `to_table`."""
    labels = [name for name in table.column_names if name.startswith("label.")]
    return [_row(record, labels) for record in table.to_pylist()]


def _row(record: dict[str, Any], labels: list[str]) -> Utterance:
    annotations = {name.removeprefix("label."): record.pop(name) for name in labels}
    audio, video = (record.pop(kind) or [] for kind in ("audio", "video"))
    for stretch in video:
        stretch["crop"] = stretch["crop"] and tuple(stretch["crop"])
    return Utterance(
        id=record.pop("utterance"),
        audio=tuple(Audio(**stretch) for stretch in audio),
        video=tuple(Video(**stretch) for stretch in video),
        labels={name: value for name, value in annotations.items() if value is not None},
        **record,
    )
