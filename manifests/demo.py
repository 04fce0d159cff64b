"""A synthetic corpus in IEMOCAP's layout, whose best possible accuracies are known.

Ten drawn actors with synthetic voices speak 30 x `per_cell` utterances in five sessions; six emotions are equally
frequent in each session. Transcript, voice and face each show the true emotion in .65 of the utterances of every
session and emotion, and another emotion in the rest. How often two or three of them are right together is as expected
if they were independent, and is filled by quota. Words have the unequal frequencies of a natural language (see
`_vocabulary`), so that rare ones cannot be learned from other utterances. Duration, lip movement and the number of
words carry no information. So one modality can score .65 at best, and all three about .78.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from manifests import iemocap
from manifests._quota import EMOTIONS, MODALITIES, Cue, vote_accuracy
from pipeline.errors import InputError
from pipeline.reader import Labels
from pipeline.utterance import Utterance

VERSION = 4

_MARKER = "demo.json"
_CUES = "Documentation/cues.csv"


@dataclass(frozen=True, kw_only=True)
class Demo(iemocap.Iemocap):
    """Makes and reads the synthetic corpus of `seed`, with `per_cell` utterances of each emotion in each session.

    Adds the annotations `cue_text`, `cue_audio` and `cue_visual`: the emotion that each modality shows.
    """

    layout: ClassVar[str] = f"{_MARKER}\n{_CUES}\n{iemocap.Iemocap.layout}"
    obtain: ClassVar[str] = "The corpus is synthetic and is written when it is first asked for: `make demo`."
    licence: ClassVar[str] = "The corpus is synthetic: share it as you like."
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = {}
    published: ClassVar[Mapping[str, str]] = {}
    labels: ClassVar[Mapping[str, Labels]] = {
        "six": iemocap.Iemocap.labels["six"]
    }  # the labels that the bounds are for

    seed: int = 0
    per_cell: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per_cell < 1 or self.seed < 0:
            raise InputError(f"per_cell = {self.per_cell} must be at least 1, seed = {self.seed} at least 0")

    def prepare(self, root: Path) -> None:
        """Writes the corpus unless it is there: beside `root`, then renamed. Replaces one of other options.

        Raises InputError if `root` holds anything but a synthetic corpus.
        """
        if self._is_at(root):
            return
        if root.exists() and not (root / _MARKER).is_file() and (not root.is_dir() or any(root.iterdir())):
            raise InputError(f"{root} holds something else than the synthetic corpus: choose another root")
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as folder:
            self._write(Path(folder) / "new")
            self._publish(Path(folder), root)

    def scan(self, root: Path) -> list[Utterance]:
        """Every utterance, with its cues. Raises InputError if the corpus of these options is not at `root`."""
        if not self._is_at(root):
            raise self.missing(root)
        with (root / _CUES).open(encoding="utf-8", newline="") as stream:
            cues = {row["utterance"]: {f"cue_{m}": row[m] for m in MODALITIES} for row in csv.DictReader(stream)}
        return [replace(row, labels={**row.labels, **cues[row.id]}) for row in super().scan(root)]

    def bounds(self, rows: Sequence[Utterance]) -> Mapping[str, float]:
        """The best six-class accuracies on `rows`: for a modality, how often it is right; for `all`, the Bayes vote."""
        cues = [_cue(row) for row in rows]
        if not cues:
            return {}
        single = {m: sum(cue.shown[m] == cue.emotion for cue in cues) / len(cues) for m in MODALITIES}
        return {**single, "all": vote_accuracy(cues)}

    def _is_at(self, root: Path) -> bool:
        marker = root / _MARKER
        return marker.is_file() and marker.read_text(encoding="utf-8") == self._marker()

    def _marker(self) -> str:
        options = {"corpus": "synthetic", "version": VERSION, "seed": self.seed, "per_cell": self.per_cell}
        return json.dumps({**options, "emotions": EMOTIONS}, indent=1) + "\n"

    def _write(self, folder: Path) -> None:
        from manifests._synthesis import write_corpus  # PyAV, OpenCV and SciPy are needed only to write

        folder.mkdir()
        write_corpus(folder, self.per_cell, self.seed)
        (folder / _MARKER).write_text(self._marker(), encoding="utf-8")

    def _publish(self, folder: Path, root: Path) -> None:
        """Renames the new corpus to `root`, unless another process has done so meanwhile."""
        if root.exists() and not self._is_at(root):
            root.rename(folder / "old")
        try:
            (folder / "new").rename(root)
        except OSError:
            if not self._is_at(root):
                raise


def _cue(row: Utterance) -> Cue:
    return Cue(emotion=str(row.labels["emotion"]), shown={m: str(row.labels[f"cue_{m}"]) for m in MODALITIES})
