"""CH-SIMS v2.0 (Liu et al., 2022): 4,403 Chinese segments with sentiment, chosen for what voice and face say."""

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
class ChSimsV2(Reader):
    """Reads the supervised part as it is unpacked, in the root or in a folder of it (ch-simsv2s, SIMS_V2).

    Ids, annotations and label protocols are those of `ch_sims`. The unsupervised part, without labels, is not read.
    """

    layout: ClassVar[str] = _sims.LAYOUT
    obtain: ClassVar[str] = (
        "Raw.zip and meta.csv of CH-SIMS v2(s) are linked from https://github.com/thuiar/ch-sims-v2, for research. "
        "Give the folder ch-simsv2s, or one above it."
    )
    labels: ClassVar[Mapping[str, Labels]] = _sims.PROTOCOLS
    licence: ClassVar[str] = "CH-SIMS v2.0 is for research; its videos belong to others: share what is made with care."
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = _sims.expected(
        {"train": 2722, "valid": 647, "test": 1034},
        {"train": (921, 433, 232, 318, 818), "valid": (224, 110, 62, 83, 168), "test": (291, 211, 93, 183, 256)},
    )
    published: ClassVar[Mapping[str, str]] = dict.fromkeys(
        _sims.PROTOCOLS,
        "The 4,403 segments of the supervised part, 2,722 to train, 647 to validate and 1,034 to test, as in the table "
        "of https://github.com/thuiar/ch-sims-v2 (show/DataSplit.png) and in MMSA; the paper (Liu et al. 2022) says "
        "4,402.",
    )

    encoding: str = "utf-8"

    def scan(self, root: Path) -> list[Utterance]:
        """Every row of the table, whether its clip is there or not."""
        rows = _sims.scan(root, r"(ch)?simsv2(\.0)?s?", self.encoding)
        if rows is None:
            raise self.missing(root)
        return rows

    def folds(self, rows: Sequence[Utterance], protocol: str) -> list[Fold]:
        """`official`: the published parts. `cv`: five folds by video."""
        return folds(rows, protocol, "session")
