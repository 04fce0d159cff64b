"""The sections of the report on corpus and recipe: counts, folds, labels, lengths, stages, versions."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.published import Count, compared, notes
from pipeline.corpus.recipe import Alignment, Node, Recipe, every_node
from pipeline.pages.charts import Chart, grouped, histogram
from pipeline.pages.table import Cell, Sheet, amount, cell, parameters
from pipeline.reader import Label
from pipeline.stage import Target
from pipeline.utterance import Utterance

LIBRARIES = ("affectory", "numpy", "pyarrow", "scikit-learn", "torch")
"""The libraries that decide scores, in addition to those that the stages name."""


def parts(corpus: Corpus) -> dict[str, list[Utterance]]:
    """The rows of each part of the only fold, or the test rows of each of several folds; last, the rows in none."""
    by_id = {row.id: row for row in corpus.manifest.rows}
    if len(corpus.folds) == 1:
        [only] = corpus.folds
        named = {"train": only.train, "valid": only.valid, "test": only.test}
    else:
        named = {fold.name: fold.test for fold in corpus.folds}
    by_part = {name: [by_id[i] for i in ids] for name, ids in named.items()}
    used = {i for ids in named.values() for i in ids}
    rest = [row for row in corpus.manifest.rows if row.id not in used]
    return by_part | ({"in no part" if by_part else "all": rest} if rest else {})


def facts(corpus: Corpus, protocol: str) -> dict[str, str]:
    """The facts at the head of the report, by name."""
    rows, recipe = corpus.manifest.rows, corpus.recipe
    classes = f": {', '.join(recipe.labels.classes)}" if recipe.labels.classes else ""
    return {
        "Utterances": f"{len(rows):,}, of which {len(corpus.labels):,} have a label",
        "Dialogues": f"{len({row.dialogue for row in rows}):,}",
        "Speakers": _distinct(row.speaker for row in rows),
        "Sessions": _distinct(row.session for row in rows),
        "Labels": f"{recipe.label_protocol} ({recipe.labels.task}{classes})",
        "Protocol": f"{protocol}, {len(corpus.folds)} fold{'s' * (len(corpus.folds) != 1)}",
        "Cross-fitting": _crossfit(recipe),
    }


def _crossfit(recipe: Recipe) -> str:
    if not any(node.stage.fitted for node in every_node(recipe)):
        return "not needed: no stage is fitted"
    if recipe.crossfit:
        return f"{recipe.crossfit} parts: the features of train rows come from fits that did not see them"
    return "off: the features of train rows come from fits that saw them"


def _distinct(names: Iterable[str | None]) -> str:
    known = {name for name in names if name}
    return f"{len(known):,}" if known else "not known"


def folds(corpus: Corpus) -> Sheet:
    """The sizes of the parts of each fold."""
    speaker = {row.id: row.speaker for row in corpus.manifest.rows}

    def shared(train: Sequence[str], test: Sequence[str]) -> int:
        return len({speaker[i] for i in train if speaker[i]} & {speaker[i] for i in test})

    rows = [(f.name, len(f.train), len(f.valid), len(f.test), shared(f.train, f.test)) for f in corpus.folds]
    return Sheet.of("Folds", ("fold", "train", "valid", "test", "speakers in train and test"), rows)


# --- labels ----------------------------------------------------------------------------------------------------


def labels(corpus: Corpus) -> tuple[Sheet, Chart | None]:
    """How often each class occurs in each part; for regression, the quantiles of the labels."""
    every = {name: [corpus.labels[r.id] for r in rows if r.id in corpus.labels] for name, rows in parts(corpus).items()}
    by_part = {name: labels for name, labels in every.items() if labels}
    if corpus.target.task == "regression":
        return _spread(by_part, corpus.target), None
    classes = corpus.target.classes
    counts = {name: _counts(labels, len(classes)) for name, labels in by_part.items()}
    total = [sum(column) for column in zip(*counts.values(), strict=True)] if counts else [0] * len(classes)
    table = [(name, *(column[i] for column in counts.values()), total[i]) for i, name in enumerate(classes)]
    sheet = Sheet.of("Utterances of each class", ("class", *counts, "all"), [*table, ("all", *_sums(counts, total))])
    return sheet, grouped("Utterances of each class, by part", classes, counts, "utterances") if counts else None


def _counts(labels: Sequence[Label], classes: int) -> list[int]:
    if isinstance(labels[0], tuple):
        return [int(count) for count in np.asarray(labels).sum(axis=0)]
    return [int(count) for count in np.bincount(np.asarray(labels, int), minlength=classes)]


def _sums(counts: Mapping[str, Sequence[int]], total: Sequence[int]) -> list[int]:
    return [sum(column) for column in (*counts.values(), total)]


def _spread(by_part: Mapping[str, Sequence[Any]], target: Target) -> Sheet:
    """The quantiles of each target of a regression in each part; the target is named if there are several."""
    numbers = [f"{name}, " for name in target.classes] if target.several else [""]
    rows = [
        (f"{number}{part}", len(labels), *_quantiles(np.reshape(labels, (len(labels), -1))[:, i].astype(float)))
        for i, number in enumerate(numbers)
        for part, labels in by_part.items()
    ]
    return Sheet.of("Labels", ("part", "rows", *QUANTILES), rows)


def label_text(label: Label | None, target: Target) -> str:
    """The class of an utterance, its classes, or the sign of its number."""
    value: Any = label
    if value is None:
        return "no label"
    if target.task == "multiclass":
        return target.classes[int(value)]
    if target.task == "multilabel":
        return ", ".join(name for name, on in zip(target.classes, value, strict=True) if on) or "none"
    first = float(np.ravel(value)[0])
    return "negative" if first < 0 else "positive" if first > 0 else "zero"


def expected(corpus: Corpus) -> Sheet | None:
    """The published counts beside those of this copy; None if the reader does not know the published ones."""
    counts = compared(corpus)
    if not counts:
        return None
    rows = [(count.name, count.expected, count.found, _difference(count)) for count in counts]
    note = "Expected: the counts of the published corpus. If they differ, this copy is incomplete or another release."
    return Sheet.of("Against the published counts", ("", "expected", "found", "difference"), rows, note)


def _difference(count: Count) -> Cell:
    return Cell(f"{count.difference:+,}" if count.difference else "0", loud=bool(count.difference), number=True)


# --- lengths ---------------------------------------------------------------------------------------------------

QUANTILES = ("least", "5 %", "median", "mean", "95 %", "most")


def lengths(corpus: Corpus) -> tuple[Sheet, list[Chart]]:
    """The durations of the utterances and the numbers of their words, as quantiles and as histograms."""
    measures: dict[str, tuple[str, int, Callable[[Utterance], float | None]]] = {
        "Duration": ("seconds", 2, duration),
        "Transcript": ("words", 1, lambda row: None if row.text is None else float(len(row.text.split()))),
    }
    rows, charts = [], []
    for name, (unit, decimals, measure) in measures.items():
        values = np.array([v for row in corpus.manifest.rows if (v := measure(row)) is not None])
        if len(values):
            figures = [amount(v, "", decimals) for v in _quantiles(values)]
            rows.append((f"{name}, {unit}", len(values), *figures, amount(values.sum(), "", 0)))
            charts.append(histogram(f"{name}; the last bar holds the longest 1 %", values.tolist(), unit))
    return Sheet.of("Lengths of utterances", ("", "known for", *QUANTILES, "sum"), rows), charts


def duration(row: Utterance) -> float | None:
    """Seconds by the annotation, else by the stretches of its media together; None if neither gives them."""
    if row.start_s is not None and row.end_s is not None:
        return row.end_s - row.start_s
    for stretches in (row.audio, row.video):
        lengths = [stretch.length_s for stretch in stretches if stretch.length_s is not None]
        if stretches and len(lengths) == len(stretches):
            return sum(lengths)
    return None


def _quantiles(values: np.ndarray[Any, Any]) -> list[float]:
    low, middle, high = np.percentile(values, (5, 50, 95)).tolist()
    return [float(values.min()), low, middle, float(values.mean()), high, float(values.max())]


# --- recipe ----------------------------------------------------------------------------------------------------


def stages(recipe: Recipe) -> Sheet:
    """The stages of each feature set, with the parameters that differ from their defaults."""
    rows = [
        (name if first else "", modality if first else "", *_stage(node, selection.align if node is part else None))
        for name, table in recipe.features.items()
        for modality, selection in table.items()
        for part in selection.parts
        for node in part.walk()
        for first in [node is selection.parts[0]]
    ]
    header = ("feature set", "modality", "stage", "weights", "parameters that differ from the default", "aligned")
    return Sheet.of("Stages", header, rows)


def every_parameter(recipe: Recipe) -> Sheet:
    """All parameters of all stages, as they enter the keys."""
    rows = [
        (node.name, node.stage.version, node.digest[:12], parameters(node.params), _inputs(node))
        for node in every_node(recipe)
    ]
    return Sheet.of("Every parameter", ("stage", "version", "digest", "parameters", "reads"), rows)


def _inputs(node: Node) -> str:
    return ", ".join(source.name if isinstance(source, Node) else source for source in node.inputs)


def _weights(node: Node) -> Cell:
    if node.random:
        return Cell("random weights", loud=True)
    return cell("fitted per fold" if node.stage.fitted else "as named" if _named(node) else "none")


def _named(node: Node) -> bool:
    return any(f.metadata.get("source") and node.params[f.name] for f in fields(node.stage))


def _changed(node: Node) -> dict[str, Any]:
    default = {f.name: f.default for f in fields(node.stage) if f.default is not MISSING}
    return {name: value for name, value in node.params.items() if name not in default or default[name] != value}


def _stage(node: Node, align: Alignment | None) -> Sequence[Any]:
    """The cells of a stage that is aligned, or, without `align`, of one that another stage reads."""
    name = node.name if align else f"↳ {node.name}"
    aligned = f"{align.mode}, {align.length}" if align else ""
    return name, _weights(node), parameters(_changed(node)) or "defaults", aligned


def versions(recipe: Recipe) -> Sheet:
    """The installed versions of the libraries that decide features and scores."""
    decides: dict[str, list[str]] = {}
    for node in every_node(recipe):
        for name in node.stage.libraries:
            decides.setdefault(name, []).append(node.name)
    names = sorted({*LIBRARIES, *decides})
    rows = [
        ("python", platform.python_version(), ""),
        *((n, _version(n), ", ".join(dict.fromkeys(decides.get(n, ())))) for n in names),
    ]
    return Sheet.of("Versions", ("library", "version", "decides the values of"), rows)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


NOTES_SHOWN = 100


def notes_sheet(rows: Iterable[Utterance]) -> Sheet | None:
    """The first notes of the reader; None if it made none."""
    every = list(notes(rows))
    if not every:
        return None
    more = f"{len(every) - NOTES_SHOWN:,} more are not shown." if len(every) > NOTES_SHOWN else ""
    return Sheet.of("Notes on single clips", ("utterance", "note"), every[:NOTES_SHOWN], more)
