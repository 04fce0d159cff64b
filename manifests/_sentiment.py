"""Shared by CMU-MOSI and CMU-MOSEI: sentiment from -3 to 3, published folds of whole videos, files of a release."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from manifests._cells import Row, inside, refuse_stray
from pipeline.errors import InputError, closest
from pipeline.reader import Fold, Group, Labels, in_parts, published_split
from pipeline.text_file import read_text
from pipeline.utterance import Utterance

SEVEN = ("-3", "-2", "-1", "0", "1", "2", "3")


# --- labels ----------------------------------------------------------------------------------------------------


def rounded(sentiment: float) -> int:
    """Rounds to the nearest of -3..3, halves to the even neighbour, as numpy and most published Acc-7 do: 2.5 to 2."""
    return max(-3, min(3, round(sentiment)))


def derived(classes: tuple[str, ...], of: Callable[[float], object]) -> Labels:
    """A label protocol of the annotation `sentiment`: `of` gives one of `classes`, or None to leave the row out."""

    def label(row: Utterance) -> int | None:
        value = row.labels.get("sentiment")
        name = None if value is None else of(float(value))
        return None if name is None else classes.index(str(name))

    return Labels("multiclass", classes, label, why_not)


def why_not(row: Utterance) -> str:
    """Why a row has no label made from its sentiment."""
    return "no sentiment" if row.labels.get("sentiment") is None else "sentiment 0"


def _sentiment(row: Utterance) -> float | None:
    value = row.labels.get("sentiment")
    return None if value is None else float(value)


def _sign(sentiment: float) -> str | None:
    return None if sentiment == 0 else "positive" if sentiment > 0 else "negative"


def _below_zero(sentiment: float) -> str:
    return "negative" if sentiment < 0 else "nonnegative"


PROTOCOLS: Mapping[str, Labels] = {
    "sentiment": Labels("regression", (), _sentiment, why_not),
    "sentiment2": derived(("negative", "positive"), _sign),
    "sentiment2_nonneg": derived(("negative", "nonnegative"), _below_zero),
    "sentiment7": derived(SEVEN, rounded),
}
"""The number; its sign, without zeros (papers since 2019); below zero or not (before 2019); seven rounded classes."""


# --- folds -----------------------------------------------------------------------------------------------------


@cache
def published(corpus: str) -> Mapping[str, str]:
    """The part of each video in the published split, by id, from `<corpus>_folds.csv` beside this file."""
    with Path(__file__).with_name(f"{corpus}_folds.csv").open(encoding="utf-8", newline="") as file:
        return {row["video"]: row["split"] for row in csv.DictReader(file)}


def folds(rows: Sequence[Utterance], protocol: str, video: Group = "dialogue") -> list[Fold]:
    """`official`: the parts that rows have as their `split`; rows without one are left out. `cv`: five folds by video.

    video: the field of an utterance that names its video.
    Raises InputError for another protocol, and if a part of the official split has no row.
    """
    if protocol == "cv":
        return in_parts(rows, video)
    if protocol != "official":
        raise InputError(f"no protocol {protocol!r}: {closest(protocol, ('official', 'cv'))}")
    return [published_split(rows)]


# --- files -----------------------------------------------------------------------------------------------------


def release_folders(root: Path, corpus: str) -> list[PurePosixPath]:
    """The folders that may hold a release, relative to the root: the root, then its folders named after the corpus.

    For mosi these are MOSI, CMU_MOSI, cmu-mosi, CMU_MOSI_Raw and the like, by name. Links that lead outside are left
    out.
    """
    try:
        names = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    except OSError:
        return []
    pattern = re.compile(rf"(cmu)?{corpus}(raw)?")
    named = [name for name in names if pattern.fullmatch(re.sub(r"[-_ ]", "", name.lower())) and inside(root, name)]
    return [PurePosixPath(), *map(PurePosixPath, named)]


def files(root: Path, folder: PurePosixPath, suffix: str) -> list[PurePosixPath]:
    """The files of a folder that end with `suffix`, by name. Hidden ones, such as AppleDouble's `._*`, are left out.

    Raises InputError for links that lead outside the root.
    """
    names = sorted(path.name for path in (root / folder).glob(f"*{suffix}") if not path.name.startswith("."))
    paths = [folder / name for name in names if (root / folder / name).is_file()]
    refuse_stray(root, paths)
    return paths


def lines(root: Path, path: PurePosixPath, encoding: str) -> Iterator[tuple[str, str]]:
    """Every line of a text file that is not blank, after its place, `<path>:<line>`. Raises InputError for a file in
    another encoding."""
    for number, line in enumerate(read_text(root / path, encoding, str(path)).split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line.rstrip("\r")


def score(row: Row, name: str, low: float = -3.0, high: float = 3.0) -> float | None:
    """The number in a cell; None if it is empty, or if it is outside the scale, which is an error of the row."""
    value = row.number(name)
    if value is not None and not low <= value <= high:
        row.wrong(f"{name} = {value:g} is not from {low:g} to {high:g}")
        return None
    return value
