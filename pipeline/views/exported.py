"""The features of a fold as the content of a file that another tool reads: what a model would see, before scaling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from pipeline.corpus.corpus import Corpus
from pipeline.errors import InputError, closest
from pipeline.formats.content import Content, Steps, Tracks
from pipeline.plan.catalogue import Catalogue
from pipeline.plan.session import Session
from pipeline.reader import PARTS, Fold, Label
from pipeline.stage import Modality
from pipeline.utterance import Utterance, Value
from pipeline.views.build_view import build_column
from pipeline.views.view import Column, Rows, open_view


def fold_of(corpus: Corpus, name: str) -> Fold:
    """The fold of this name, or the only one. Raises InputError if there is none, or several and no name."""
    if not corpus.folds:
        raise InputError("this corpus has no labels, so it has no folds to export")
    if not name and len(corpus.folds) == 1:
        return corpus.folds[0]
    by_name = {fold.name: fold for fold in corpus.folds}
    if name not in by_name:
        asked = f"no fold {name!r}" if name else f"protocol {corpus.protocol} has several folds, name one of them"
        raise InputError(f"{asked}: {closest(name, by_name)}")
    return by_name[name]


def content(
    session: Session, features: str, fold: Fold | None, *, aligned: bool = False, modality: Modality | None = None
) -> Content:
    """The rows of a fold's three parts, in the order of the manifest, with the aligned features of each modality.

    The split is the fold's, and the annotation `label` what a model learns: a number, or the index of a class, whose
    name is the annotation `class`; several numbers or heads are `label_<name>`. A modality has as many steps as its
    view keeps, without the padding after its last valid one. aligned: all modalities have all L steps, and a vector
    that stands for all of them is repeated. modality: the only one that is read. Without a fold the rows are all of the
    corpus, without a split. Raises InputError if modalities have not the same L, and if features are missing.
    """
    corpus = session.corpus
    ids = [row.id for row in corpus.manifest.rows]
    view = {
        name: open_view(ids, {name: path}).columns[name]
        for name, selection in corpus.recipe.features[features].items()
        if modality in (None, name)
        for path in [build_column(corpus, session.catalogue, selection, fold, session.home.root)]
    }
    lengths = {modality: column.length for modality, column in view.items()}
    if aligned and len(set(lengths.values())) > 1:
        raise InputError(f"{features} has {_counted(lengths)} steps, and this format wants one number: see `align`")
    parts = dict.fromkeys(ids) if fold is None else parts_of(fold)
    rows = tuple(labelled(row, parts[row.id], corpus) for row in corpus.manifest.rows if row.id in parts)
    numbers = np.flatnonzero([name in parts for name in ids])
    return Content(rows, {name: _tracks(column, numbers, aligned) for name, column in view.items()})


def parts_of(fold: Fold) -> dict[str, str | None]:
    """utterance -> train, valid or test."""
    return {name: part for part in PARTS for name in getattr(fold, part)}


def about(session: Session, features: str, fold: Fold, exported: Content) -> dict[str, Any]:
    """What was exported: which rows, labels, split and features, as JSON."""
    corpus, recipe = session.corpus, session.corpus.recipe
    selections, kept = recipe.features[features], {row.id for row in exported.rows}
    return {
        "dataset": recipe.name,
        "protocol": corpus.protocol,
        "fold": fold.name,
        "rows": dict(Counter(str(row.split) for row in exported.rows)),
        "left_out": {
            "without a label": sum(row.id not in corpus.labels for row in corpus.manifest.rows),
            "in no part of the fold": len(corpus.labels.keys() - kept),
        },
        "split_digests": fold.digests,
        "labels": {
            "protocol": recipe.label_protocol,
            "task": corpus.target.task,
            "classes": list(corpus.target.classes),
        },
        "features": {m: _described(session.catalogue, corpus, m, features, exported) for m in selections},
        "normalisation": "none: values are those of the stages, after alignment",
        "licence": recipe.reader.licence,
    }


def _described(
    catalogue: Catalogue, corpus: Corpus, modality: Modality, features: str, exported: Content
) -> dict[str, Any]:
    selection, tracks = corpus.recipe.features[features][modality], exported.tracks[modality]
    return {
        "stages": [node.describe() for node in selection.parts],
        "align": selection.align.model_dump(),
        "dimensions": tracks.dim,
        "names": list(tracks.names),
    }


def labelled(row: Utterance, part: str | None, corpus: Corpus) -> Utterance:
    """An utterance without its media and annotations; its labels are what a model learns, none if it has no label."""
    labels = _labels(corpus.labels[row.id], corpus) if row.id in corpus.labels else {}
    return Utterance(
        id=row.id,
        dialogue=row.dialogue,
        turn=row.turn,
        speaker=row.speaker,
        text=row.text,
        split=part,
        labels=labels,
    )


def _labels(label: Label, corpus: Corpus) -> Mapping[str, Value]:
    classes = corpus.target.classes
    if isinstance(label, tuple):
        return {f"label_{name}": value for name, value in zip(classes, label, strict=True)}
    if corpus.target.task == "multiclass":
        return {"label": label, "class": classes[int(label)]}
    return {"label": label}


def _tracks(column: Column, numbers: Rows, aligned: bool) -> Tracks:
    return Tracks(column.dim, partial(_whole if aligned else _steps, column, numbers), column.names)


def _steps(column: Column, numbers: Rows, row: int) -> Steps | None:
    mask = np.asarray(column.mask[numbers[row]])
    places = np.flatnonzero(mask)
    if not len(places):
        return None
    values = np.asarray(column.values[numbers[row]], np.float32)
    return Steps(values[: places[-1] + 1], mask[: places[-1] + 1])


def _whole(column: Column, numbers: Rows, row: int) -> Steps:
    """All L steps, of which the padding is not valid."""
    values, mask = np.asarray(column.values[numbers[row]], np.float32), np.asarray(column.mask[numbers[row]])
    times = column.length // len(mask)  # more than once for a vector that stands for all steps
    return Steps(np.repeat(values, times, axis=0), np.repeat(mask, times))


def _counted(lengths: Mapping[Modality, int]) -> str:
    return ", ".join(f"{length} {modality}" for modality, length in lengths.items())
