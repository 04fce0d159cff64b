"""The parts that a row's key is made of, and the changes between two keys of a row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pipeline.cache import keys
from pipeline.plan.last_extraction import Entry, Seen
from pipeline.utterance import Stretch, Utterance


class Kind(StrEnum):
    """What a part of a key describes: something of a stage, of its fit, of its input."""

    VERSION = "version"
    PARAMETER = "params"
    LIBRARY = "libraries"
    CODE = "code"
    FIT = "fit"
    ROW = "row"
    TEXT = "text"
    DIALOGUE = "dialogue"
    AUDIO = "audio"
    VIDEO = "video"
    ID = "id"


SPEAKER = "speaker"
"""The part of a dialogue that is the utterance's own; its other parts are the turns before, as `2 before`."""
FIT_FIELDS = ("state", "train", "valid", "labels")
MEDIA_FIELDS = {
    Kind.AUDIO: ("digest", "start_s", "end_s", "channel"),
    Kind.VIDEO: ("digest", "start_s", "end_s", "crop"),
}


@dataclass(frozen=True)
class KeyPart:
    """One value that enters the key of a row.

    stage: "" for the row's own stage, else the path of upstream stages, as `text_cnn.text_word2vec`. name: what the
    value is called among those of its kind, "" if there is only one.
    """

    stage: str
    kind: Kind
    name: str
    value: Any

    @property
    def place(self) -> tuple[str, Kind, str]:
        """What the part is compared by: two keys have the same part if they agree in this."""
        return self.stage, self.kind, self.name

    @property
    def label(self) -> str:
        """How people see the part: `params.n_mfcc`, `text_word2vec.version`, `row of text_word2vec`."""
        if self.kind is Kind.ROW:
            return f"row of {self.stage}"
        return ".".join(filter(None, (self.stage, self.kind, self.name)))


@dataclass(frozen=True)
class Change:
    """A part of a key that is another now, or that only one of the two keys has."""

    was: KeyPart | None
    now: KeyPart | None

    @property
    def part(self) -> KeyPart:
        """The part as it is now, or as it was."""
        part = self.now or self.was
        assert part is not None, "one of the two keys has the part"
        return part

    @property
    def fit(self) -> str:
        """What another part of a fit's key means, such as `fit missing`; "" for a part of another kind."""
        part = self.part
        if part.kind is not Kind.FIT:
            return ""
        prefix = f"{part.stage}: " if part.stage else ""
        if part.name == "state" and self.now is not None and self.now.value is None:
            return f"{prefix}fit missing"
        if self.was is None or self.now is None:
            return f"{prefix}new fold"
        if part.name == "state":
            return f"{prefix}state changed"
        return f"{prefix}fitted on other {'labels' if part.name == 'labels' else 'rows'}"

    @property
    def line(self) -> str:
        """The change as a line to read, with both values if they are readable."""
        part, values = self.part, f"{_shown(self.was)} -> {_shown(self.now)}"
        if part.kind is Kind.FIT:
            return f"{self.fit}: {values}" if self.was and self.now and part.name != "state" else self.fit
        if part.kind is Kind.TEXT:
            return "text changed"
        if part.kind is Kind.DIALOGUE and part.name != SPEAKER:
            return f"the turn {part.name} {'changed' if self.was and self.now else 'is new' if self.now else 'is gone'}"
        if part.kind in MEDIA_FIELDS:
            place, _, field = f"{part.kind} {part.name}".rpartition(" ")
            return f"{place} media file changed" if field == "digest" else f"{place} {field}: {values}"
        return f"{part.label}: {values}"


def changes(now: Iterable[KeyPart], then: Iterable[KeyPart]) -> list[Change]:
    """The parts that differ between two keys.

    Keys of upstream rows are left out: whatever changed them is among the other parts.
    """
    new, old = ({part.place: part for part in parts} for parts in (now, then))
    every = (Change(old.get(place), new.get(place)) for place in dict.fromkeys((*new, *old)))
    return [change for change in every if change.was != change.now and change.part.kind is not Kind.ROW]


def _shown(part: KeyPart | None) -> str:
    return "none" if part is None or part.value is None else short(part.value)


def short(value: Any) -> str:
    """A value to read; of a digest the first twelve digits."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text


# --- the parts of a key ----------------------------------------------------------------------------------------


def row_parts(seen: Seen, entry: Entry, scope: str | None, utterance: str) -> list[KeyPart]:
    """What enters a row's key, and what enters the keys of the upstream rows that it is computed from."""
    parts: list[KeyPart] = []
    for path, stage in walk(seen, entry):
        if path:
            parts.append(KeyPart(path, Kind.ROW, "", seen.key(stage, scope, utterance)))
        parts += [*stage_parts(path, stage), *fit_parts(path, stage, scope)]
    row = seen.rows(entry).get(utterance)
    if row is not None:
        parts += [part for kind, reading in raw_inputs(seen, entry) for part in raw_parts(kind, row, seen, reading)]
    return list({part.place: part for part in parts}.values())


def walk(seen: Seen, entry: Entry, path: str = "") -> Iterator[tuple[str, Entry]]:
    """A stage and every stage below it, each with the path of stages that leads to it."""
    yield path, entry
    for source in entry.about["inputs"]:
        if isinstance(source, dict) and (upstream := seen.stages.get(source["digest"])):
            yield from walk(seen, upstream, f"{path}.{upstream.name}" if path else upstream.name)


def stage_parts(path: str, entry: Entry) -> list[KeyPart]:
    """What enters the digest of a stage itself, without the stages below it."""
    tables = (
        (Kind.PARAMETER, entry.about["params"]),
        (Kind.LIBRARY, entry.about["libraries"]),
        (Kind.CODE, entry.code),
    )
    version = KeyPart(path, Kind.VERSION, "", entry.about["version"])
    return [version, *(KeyPart(path, kind, *item) for kind, table in tables for item in sorted(table.items()))]


def fit_parts(path: str, entry: Entry, scope: str | None) -> list[KeyPart]:
    """What enters the key of the stage's fit on `scope`; nothing if the stage is not fitted."""
    fitted = entry.fits.get(scope or "")
    return [KeyPart(path, Kind.FIT, name, getattr(fitted, name)) for name in FIT_FIELDS] if fitted else []


def raw_inputs(seen: Seen, entry: Entry) -> list[tuple[Kind, Entry]]:
    """Each kind of raw input of a stage, and the stage that reads it: this one, or the first of those below it."""
    inputs: dict[Kind, Entry] = {}
    for _, stage in walk(seen, entry):
        for source in stage.about["inputs"]:
            if isinstance(source, str):
                inputs.setdefault(Kind(source), stage)
    return list(inputs.items())


def raw_parts(kind: Kind, row: Utterance, seen: Seen, reading: Entry) -> list[KeyPart]:
    """What enters keys of an utterance's text, sound or pictures, and of the turns before it.

    reading: the stage that reads this kind of input.
    """
    text = KeyPart("", Kind.TEXT, "", keys.text_digest(row))
    if kind is Kind.TEXT:
        return [text]
    if kind is Kind.ID:
        return [KeyPart("", Kind.ID, "", row.id)]
    if kind is Kind.DIALOGUE:
        return [text, *_turn_parts(row, seen, reading)]
    stretches: Sequence[Stretch | None] = getattr(row, kind) or (None,)
    return [part for number, stretch in enumerate(stretches, start=1) for part in _stretch_parts(kind, number, stretch)]


def _turn_parts(row: Utterance, seen: Seen, reading: Entry) -> list[KeyPart]:
    speaker = [KeyPart("", Kind.DIALOGUE, SPEAKER, row.speaker)] if reading.about["dialogue"]["speakers"] else []
    numbered = enumerate(reversed(seen.turns(reading, row)), start=1)
    return speaker + [KeyPart("", Kind.DIALOGUE, f"{number} before", digest) for number, digest in numbered]


def _stretch_parts(kind: Kind, number: int, stretch: Stretch | None) -> Iterator[KeyPart]:
    """The names are plain for the first stretch, and those of the others tell which it is."""
    prefix = "" if number == 1 else f"stretch {number} "
    for name in MEDIA_FIELDS[kind]:
        value = getattr(stretch, name, None)
        yield KeyPart("", kind, f"{prefix}{name}", list(value) if isinstance(value, tuple) else value)
