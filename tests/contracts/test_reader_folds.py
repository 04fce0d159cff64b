"""Rules of every reader, whatever its corpus: its label protocols and its folds."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.fit_scope import labelled
from pipeline.errors import InputError
from pipeline.reader import Reader
from pipeline.utterance import Utterance, in_order
from tests.contracts.reader_cases import READERS, build

EACH = pytest.mark.parametrize("name", READERS)
PROTOCOLS = pytest.mark.parametrize("protocol", ["official", "cv"])


# --- labels ----------------------------------------------------------------------------------------------------


@EACH
def test_every_label_is_what_its_task_says(name: str, corpus: Callable[[str], Path]) -> None:
    reader, rows = build(name), build(name).scan(corpus(name))
    for protocol in reader.labels:
        labels = reader.protocol(protocol)
        found = labelled(rows, labels)
        assert found, f"the small corpus has no row of {protocol}"
        assert len(set(labels.classes)) == len(labels.classes)
        for label in found.values():
            if labels.task == "multiclass":
                assert type(label) is int and 0 <= label < len(labels.classes)
            elif labels.task == "multilabel":
                assert isinstance(label, tuple) and len(label) == len(labels.classes) and set(label) <= {0, 1}
            else:
                numbers = label if isinstance(label, tuple) else (label,)
                assert isinstance(label, tuple) == (len(labels.classes) > 1)
                assert len(numbers) == max(1, len(labels.classes))
                assert all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)


@EACH
def test_an_unknown_label_protocol_names_those_there_are(name: str) -> None:
    with pytest.raises(InputError, match="no label protocol 'nonsense'"):
        build(name).protocol("nonsense")


# --- folds -----------------------------------------------------------------------------------------------------


def kept(name: str, root: Path) -> list[Utterance]:
    """The rows of the first label protocol."""
    reader = build(name)
    rows = in_order(reader.scan(root))
    found = labelled(rows, reader.protocol(next(iter(reader.labels))))
    return [row for row in rows if row.id in found]


@EACH
@PROTOCOLS
def test_folds_are_disjoint_none_is_empty_and_no_dialogue_stands_on_two_sides(
    name: str, protocol: str, corpus: Callable[[str], Path]
) -> None:
    rows = kept(name, corpus(name))
    dialogue = {row.id: row.dialogue for row in rows}
    folds = build(name).folds(rows, protocol)
    assert folds and len({fold.name for fold in folds}) == len(folds)
    for fold in folds:
        parts = [fold.train, fold.valid, fold.test]
        assert all(parts) and max(Counter(i for part in parts for i in part).values()) == 1
        sides = [{dialogue[i] for i in part} for part in parts]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


@EACH
def test_cross_validation_tests_every_row_once(name: str, corpus: Callable[[str], Path]) -> None:
    rows = kept(name, corpus(name))
    folds = build(name).folds(rows, "cv")
    assert len(folds) > 1
    assert sorted(i for fold in folds for i in fold.test) == sorted(row.id for row in rows)
    for fold in folds:
        assert {*fold.train, *fold.valid, *fold.test} == {row.id for row in rows}


@EACH
@PROTOCOLS
def test_folds_depend_on_neither_the_order_of_rows_nor_their_labels(
    name: str, protocol: str, corpus: Callable[[str], Path]
) -> None:
    rows, reader = kept(name, corpus(name)), build(name)
    bare = [dataclasses.replace(row, labels={}) for row in reversed(rows)]
    assert as_sets(reader, rows, protocol) == as_sets(reader, bare, protocol)


def as_sets(reader: Reader, rows: Sequence[Utterance], protocol: str) -> list[tuple[Any, ...]]:
    return [(f.name, set(f.train), set(f.valid), set(f.test)) for f in reader.folds(rows, protocol)]


@EACH
@PROTOCOLS
def test_folds_hold_only_the_rows_they_are_made_of(name: str, protocol: str, corpus: Callable[[str], Path]) -> None:
    rows = kept(name, corpus(name))
    some = [row for i, row in enumerate(rows) if i % 4]
    for fold in build(name).folds(some, protocol):
        assert {*fold.train, *fold.valid, *fold.test} <= {row.id for row in some}


@EACH
def test_an_unknown_protocol_names_those_there_are(name: str, corpus: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="no protocol 'officail': did you mean official"):
        build(name).folds(kept(name, corpus(name)), "officail")
