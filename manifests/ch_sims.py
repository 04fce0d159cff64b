"""CH-SIMS (Yu et al., 2020): 60 Chinese films and shows, 2,281 segments with sentiment, also of each modality alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from manifests import _sims
from manifests._sentiment import folds
from pipeline.reader import Fold, Labels, Reader
from pipeline.utterance import Utterance


@dataclass(frozen=True, kw_only=True)
class ChSims(Reader):
    """Reads MMSA's copy, in the root or in a folder of it named after the corpus (SIMS, CH-SIMS).

    Ids are `<video>_<clip>`, such as `video_0001_0001`, with the clip's leading zeros. The session is the video. The
    published split cuts through videos; each part of one is a dialogue of its own.

    Annotations: `sentiment` (-1 to 1), and `label_T`, `label_A`, `label_V`, what raters gave to the text, the sound and
    the pictures alone; `annotation` (Negative, Neutral, Positive).

    Label protocols: `sentiment` is the number, to regress; `sentiment2` (up to 0, above), `sentiment3` and `sentiment5`
    are the classes of MMSA's Acc-2, Acc-3 and Acc-5; `text_sentiment`, `audio_sentiment` and `visual_sentiment` are
    the numbers of one modality.
    """

    layout: ClassVar[str] = _sims.LAYOUT
    obtain: ClassVar[str] = (
        "The videos are linked from https://github.com/thuiar/MMSA, for research. Give the folder SIMS, or one above."
    )
    labels: ClassVar[Mapping[str, Labels]] = _sims.PROTOCOLS
    licence: ClassVar[str] = "CH-SIMS is for research; its videos belong to others: share what is made of it with care."
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = _sims.expected(
        {"train": 1368, "valid": 456, "test": 457},
        {"train": (452, 290, 207, 208, 211), "valid": (151, 97, 69, 69, 70), "test": (151, 97, 69, 69, 71)},
    )
    published: ClassVar[Mapping[str, str]] = dict.fromkeys(
        _sims.PROTOCOLS, "2,281 segments, 1,368 to train, 456 to validate and 457 to test (Yu et al. 2020), as in MMSA."
    )

    encoding: str = "utf-8"

    def scan(self, root: Path) -> list[Utterance]:
        """Every row of the table, whether its clip is there or not."""
        rows = _sims.scan(root, "(ch)?sims", self.encoding)
        if rows is None:
            raise self.missing(root)
        return rows

    def folds(self, rows: Sequence[Utterance], protocol: str) -> list[Fold]:
        """`official`: the published parts. `cv`: five folds by video."""
        return folds(rows, protocol, "session")
