"""Which rows a label protocol keeps: counts by class and part, the published counts, and why others are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from pipeline.console import table
from pipeline.corpus import published
from pipeline.corpus.corpus import Corpus
from pipeline.errors import InputError
from pipeline.reader import PARTS

ALL, NOWHERE = "all", "in no part"


def rows(corpus: Corpus) -> dict[str, Any]:
    """Answers `affectory rows`, as JSON-able data.

    parts: the ids of each part of each fold, and of the labelled rows that are in none, by the part's name. counts: the
    rows of each part by class, and `all` of them. left_out: why rows have no label, with their number. published: which
    published set this is, in words. stated: each published count that is known, beside that of this corpus. no_folds:
    why the corpus has no parts under its protocol, "" if it has.
    """
    recipe = corpus.recipe
    parts, no_folds = _parts(corpus)
    without = (row for row in corpus.manifest.rows if row.id not in corpus.labels)
    return {
        "dataset": recipe.name,
        "labels": recipe.label_protocol,
        "others": sorted(recipe.reader.labels.keys() - {recipe.label_protocol}),
        "protocol": corpus.protocol,
        "published": recipe.reader.published.get(recipe.label_protocol, ""),
        "utterances": len(corpus.manifest.rows),
        "labelled": len(corpus.labels),
        "counts": {part: _counts(corpus, ids) for part, ids in {ALL: tuple(corpus.labels), **parts}.items()},
        "stated": {c.name: {"published": c.expected, "here": c.found} for c in published.compared(corpus)},
        "left_out": dict(Counter(map(recipe.labels.why_not, without)).most_common()),
        "no_folds": no_folds,
        "parts": {part: list(ids) for part, ids in parts.items()},
    }


def _parts(corpus: Corpus) -> tuple[dict[str, tuple[str, ...]], str]:
    """The ids of each part, and why there are none."""
    try:
        folds = corpus.folds
    except InputError as error:  # a copy that cannot be split can still be counted
        return {}, str(error)
    if len(folds) == 1:
        parts = {part: getattr(folds[0], part) for part in PARTS}
    else:
        parts = {f"{fold.name} {part}": getattr(fold, part) for fold in folds for part in PARTS}
    inside = {i for ids in parts.values() for i in ids}
    outside = tuple(i for i in corpus.labels if i not in inside)
    return {**parts, NOWHERE: outside} if folds and outside else parts, ""


def _counts(corpus: Corpus, ids: Sequence[str]) -> dict[str, int]:
    counts = Counter(name for i in ids for name in published.classes(corpus.labels[i], corpus.target))
    classes = () if corpus.target.task == "regression" else corpus.target.classes
    return {**{name: counts[name] for name in classes}, ALL: len(ids)}


# --- what is shown ---------------------------------------------------------------------------------------------


def row_tables(answer: Mapping[str, Any]) -> Iterator[Table | str]:
    """The answer of `rows` in tables and lines that fit 80 columns."""
    yield _counted(answer)
    yield from _compared(answer["stated"])
    if answer["published"]:
        yield answer["published"]
    if answer["no_folds"]:
        yield f"No parts under the protocol {answer['protocol']}: {answer['no_folds']}"
    if answer["left_out"]:
        yield _left_out(answer)
    if answer["others"]:
        yield f"Other label protocols: {', '.join(answer['others'])}."


def _counted(answer: Mapping[str, Any]) -> Table:
    title = f"{answer['dataset']}, labels {answer['labels']}, protocol {answer['protocol']}"
    shown = table(escape(title), "", *map(escape, answer["counts"][ALL]))
    for part, counts in answer["counts"].items():
        shown.add_row(escape(part), *(f"{count:,}" for count in counts.values()))
    return shown


def _compared(stated: Mapping[str, Mapping[str, int]]) -> Iterator[Table | str]:
    differing = {name: count for name, count in stated.items() if count["published"] != count["here"]}
    if not differing:
        if stated:
            yield f"This copy has all {len(stated)} published counts."
        return
    shown = table("Counts that are not as published", "", "published", "here")
    for name, count in differing.items():
        shown.add_row(escape(name), f"{count['published']:,}", f"{count['here']:,}")
    yield shown


def _left_out(answer: Mapping[str, Any]) -> Table:
    total, of = answer["utterances"] - answer["labelled"], answer["utterances"]
    shown = table(f"Left out: {total:,} of {of:,}", "why", "rows")
    for why, count in answer["left_out"].items():
        shown.add_row(escape(why), f"{count:,}")
    return shown
