"""Shared by corpora of actors who speak given sentences: clips found by their names, folds by actor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from re import Pattern

from manifests._cells import refuse_stray
from pipeline.errors import InputError, closest
from pipeline.reader import Fold, Labels, leave_one_out
from pipeline.utterance import Utterance


def clips(root: Path, folders: Sequence[Path], pattern: Pattern[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The groups of `pattern` in the name of each file that has it, and the file's path relative to the root.

    Files nearest to the root come first, then by path. Hidden files, such as AppleDouble's `._*`, do not have the
    pattern. Raises InputError for links that lead outside the root.
    """
    found = {path for folder in folders for path in folder.rglob("*") if pattern.fullmatch(path.name)}
    paths = sorted((path.relative_to(root) for path in found), key=lambda path: (len(path.parts), path.as_posix()))
    refuse_stray(root, paths)
    for path in paths:
        name = pattern.fullmatch(path.name)
        assert name is not None, "only such files are kept"
        yield name.groups(), path.as_posix()


def named(classes: Sequence[str], annotation: str, why_not: str, channel: str | None = None) -> Labels:
    """A label protocol of an annotation that names one of `classes`; other rows are left out.

    channel: if given, rows with another annotation `channel` are left out too.
    """

    def label(row: Utterance) -> int | None:
        value = row.labels.get(annotation)
        if channel not in (None, row.labels.get("channel")):
            return None
        return classes.index(str(value)) if value in classes else None

    return Labels("multiclass", tuple(classes), label, lambda row: why_not)


def folds(rows: Sequence[Utterance], protocol: str, parts: Mapping[str, str]) -> list[Fold]:
    """`cv`: a fold for each part of the actors, which tests on its actors and validates on those of the next part.
    `official`: the first of these folds alone, as no split is published.

    parts: speaker -> part. Raises InputError for another protocol, and if fewer than three parts have rows.
    """
    if protocol not in ("official", "cv"):
        raise InputError(f"no protocol {protocol!r}: {closest(protocol, ('official', 'cv'))}")
    part = {row.id: parts[row.speaker or ""] for row in rows}
    if len(set(part.values())) < 3:
        raise InputError(
            "folds by actor need actors of three of the five parts at least, to train, validate and test on"
        )
    made = leave_one_out(rows, lambda row: part[row.id], valid=None, group="speaker")
    return made if protocol == "cv" else [replace(made[0], name="official")]
