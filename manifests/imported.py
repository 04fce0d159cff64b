"""A file of features that others extracted, such as MMSA's `unaligned_50.pkl`: rows, texts, labels and split from it.

There is no raw corpus: the stages `text_imported`, `audio_imported` and `visual_imported` look each utterance up in the
same file. docs/exchange.md says what is read of each format.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from manifests._sentiment import PROTOCOLS
from pipeline.errors import InputError, closest
from pipeline.formats import feature_file
from pipeline.reader import Fold, Labels, Reader, fold, held_out, in_parts
from pipeline.utterance import Utterance


@dataclass(frozen=True, kw_only=True)
class Imported(Reader):
    """Reads the file that the root is, or the only file of features in the root.

    Ids are the file's; `video$_$3` becomes `video_3`, as the readers of CMU-MOSI and CMU-MOSEI name it. The dialogue is
    the video. A video that the file's split cuts through, as CH-SIMS' does, becomes a dialogue in each part.

    Label protocols: those of CMU-MOSI, of the annotation `sentiment`; and `label`, which is the annotation that the
    option `label` names: a name or an index of `classes`, or without `classes` a number to regress.
    """

    layout: ClassVar[str] = (
        "a file of features: MMSA's .pkl, the .pkl of DialogueRNN, an .npz, a Parquet file, or a folder of them"
    )
    obtain: ClassVar[str] = (
        "MMSA's files are linked from https://github.com/thuiar/MMSA; set IMPORTED_ROOT to the file. "
        "docs/exchange.md says what other files can be read."
    )
    labels: ClassVar[Mapping[str, Labels]] = {
        **PROTOCOLS,
        "label": Labels("regression", (), lambda row: _number(row, "label")),
    }

    label: str = "label"
    classes: tuple[str, ...] = ()

    def protocol(self, name: str) -> Labels:
        """The protocol of this name; `label` has the task and the classes of the options. Raises InputError."""
        found = super().protocol(name)
        if name != "label":
            return found
        if self.classes:
            return Labels("multiclass", tuple(self.classes), self._index)
        return Labels("regression", (), lambda row: _number(row, self.label))

    def scan(self, root: Path) -> list[Utterance]:
        """The utterances of the file. Raises InputError if it cannot be read, or has labels that are no `classes`."""
        if not feature_file.candidates(root):
            raise self.missing(root)
        rows = list(feature_file.read(feature_file.find(root)).rows)
        if self.classes:
            for row in rows:
                self._index(row)
        parts: dict[str, set[str | None]] = defaultdict(set)
        for row in rows:
            parts[row.dialogue].add(row.split)
        cut = {dialogue for dialogue, found in parts.items() if len(found) > 1}
        return [replace(row, dialogue=f"{row.dialogue}_{row.split}") if row.dialogue in cut else row for row in rows]

    def folds(self, rows: Sequence[Utterance], protocol: str) -> list[Fold]:
        """`official`: the file's parts; if it has no valid part, a tenth of the train dialogues validates. `cv`: five
        folds by dialogue."""
        if protocol == "cv":
            return in_parts(rows, "dialogue")
        if protocol != "official":
            raise InputError(f"no protocol {protocol!r}: {closest(protocol, ('official', 'cv'))}")
        train, valid, test = ([row for row in rows if row.split == part] for part in ("train", "valid", "test"))
        if not train or not test:
            raise InputError("protocol official needs rows of train and of test, and the file has none: try cv")
        if not valid:
            train, valid = held_out(train, 0.1, "valid-official")
        return [fold("official", train, valid, test)]

    def _index(self, row: Utterance) -> int | None:
        value = row.labels.get(self.label)
        if value is None:
            return None
        if isinstance(value, str) and value in self.classes:
            return self.classes.index(value)
        if isinstance(value, str) or value != int(value) or not 0 <= value < len(self.classes):
            raise InputError(f"{row.id}: {self.label} = {value!r} is none of the {len(self.classes)} classes")
        return int(value)


def _number(row: Utterance, name: str) -> float | None:
    value = row.labels.get(name)
    return None if value is None else float(value)
