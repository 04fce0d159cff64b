"""What CMU-MOSI and CMU-MOSEI share: sentiment from -3 to 3, published folds of whole videos, files of a release."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from manifests._cells import Row, inside, refuse_stray
from pipeline.errors import InputError, closest
from pipeline.reader import Fold, Labels, in_parts, published_split
from pipeline.utterance import Utterance

SEVEN = ("-3", "-2", "-1", "0", "1", "2", "3")


# --- labels ----------------------------------------------------------------------------------------------------


def rounded(sentiment: float) -> int:
    """To the nearest of -3..3, a half to the even neighbour, as numpy and so most published Acc-7 do: 2.5 to 2."""
    return max(-3, min(3, round(sentiment)))


def derived(classes: tuple[str, ...], of: Callable[[float], object]) -> Labels:
    """A protocol made from the annotation `sentiment` alone: of gives one of `classes`, or None to leave out."""

    def label(row: Utterance) -> int | None:
        value = row.labels.get("sentiment")
        found = None if value is None else of(float(value))
        return None if found is None else classes.index(str(found))

    return Labels("multiclass", classes, label)


def _sentiment(row: Utterance) -> float | None:
    value = row.labels.get("sentiment")
    return None if value is None else float(value)


def _sign(sentiment: float) -> str | None:
    return None if sentiment == 0 else "positive" if sentiment > 0 else "negative"


def _below_zero(sentiment: float) -> str:
    return "negative" if sentiment < 0 else "nonnegative"


PROTOCOLS: Mapping[str, Labels] = {
    "sentiment": Labels("regression", (), _sentiment),
    "sentiment2": derived(("negative", "positive"), _sign),
    "sentiment2_nonneg": derived(("negative", "nonnegative"), _below_zero),
    "sentiment7": derived(SEVEN, rounded),
}
"""The number; its sign, zeros left out (papers since 2019); below zero or not (before 2019); rounded to seven."""


# --- folds -----------------------------------------------------------------------------------------------------


@cache
def published(corpus: str) -> Mapping[str, str]:
    """The part of each video in the published split, by id, as `<corpus>_folds.csv` beside this file lists them."""
    with Path(__file__).with_name(f"{corpus}_folds.csv").open(encoding="utf-8", newline="") as file:
        return {row["video"]: row["split"] for row in csv.DictReader(file)}


def folds(rows: Sequence[Utterance], protocol: str) -> list[Fold]:
    """`official`: the parts that rows name as their `split`, those without one in none; `cv`: five folds by video.

    Raises InputError on another protocol, and where a part of the official split has no row.
    """
    if protocol == "cv":
        return in_parts(rows, "dialogue")
    if protocol != "official":
        raise InputError(f"no protocol {protocol!r}: {closest(protocol, ('official', 'cv'))}")
    return [published_split(rows)]


# --- files -----------------------------------------------------------------------------------------------------


def places(root: Path, corpus: str) -> list[PurePosixPath]:
    """Where a release may stand, as paths from the root: itself, then its folders called after the corpus, by name.

    For mosi these are MOSI, CMU_MOSI, cmu-mosi, CMU_MOSI_Raw and the like. Links that lead outside are left out.
    """
    try:
        names = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    except OSError:
        return []
    called = re.compile(rf"(cmu)?{corpus}(raw)?")
    fitting = [name for name in names if called.fullmatch(re.sub(r"[-_ ]", "", name.lower())) and inside(root, name)]
    return [PurePosixPath(), *map(PurePosixPath, fitting)]


def files(root: Path, folder: PurePosixPath, suffix: str) -> list[PurePosixPath]:
    """The files of a folder that end so, by name; hidden ones, AppleDouble's `._*` among them, are left out.

    Raises InputError for links that lead outside the root.
    """
    names = sorted(path.name for path in (root / folder).glob(f"*{suffix}") if not path.name.startswith("."))
    found = [folder / name for name in names if (root / folder / name).is_file()]
    refuse_stray(root, found)
    return found


def read(root: Path, path: PurePosixPath) -> str:
    """A text file with or without a mark at its start; bytes that aren't UTF-8 cost a character each."""
    return (root / path).read_bytes().decode("utf-8-sig", errors="replace")


def lines(root: Path, path: PurePosixPath) -> Iterator[tuple[str, str]]:
    """Every line of a text file that isn't blank, after its place, `<path>:<line>`."""
    for number, line in enumerate(read(root, path).split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line.rstrip("\r")


def identifier(row: Row, name: str) -> str:
    """A cell that becomes part of a path: not empty, and one name, without folders."""
    cell = row.cells.get(name, "").strip()
    if not cell or cell == ".." or set("/\\\0") & set(cell):
        row.wrong(f"{name} = {cell!r} is not the name of a file")
    return cell


def score(row: Row, name: str, low: float = -3.0, high: float = 3.0) -> float | None:
    """The number in a cell, None where it is empty; one that lies outside the scale counts as wrong, and as None."""
    value = row.number(name)
    if value is not None and not low <= value <= high:
        row.wrong(f"{name} = {value:g} is not from {low:g} to {high:g}")
        return None
    return value


def check(rows: Iterable[Row]) -> None:
    """Raises one InputError that lists everything wrong with the rows."""
    if errors := [message for row in rows for message in row.errors]:
        raise InputError("\n".join(errors))
