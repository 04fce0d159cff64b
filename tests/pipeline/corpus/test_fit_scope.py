"""Scopes: no fit sees a row whose features it makes for training, and none ever sees a test row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.iemocap import Iemocap
from pipeline.corpus import manifest
from pipeline.corpus.fit_scope import HeldOut, Scope, _parts, folds, labelled, scopes
from pipeline.errors import InputError
from pipeline.reader import Fold, Labels
from pipeline.utterance import Utterance


def corpus(sizes: Sequence[int]) -> list[Utterance]:
    """Dialogues of these sizes."""
    return [
        Utterance(id=f"d{d:02}u{u:02}", dialogue=f"d{d:02}", turn=u, labels={"mood": (d + u) % 2})
        for d, size in enumerate(sizes)
        for u in range(size)
    ]


def split(rows: Sequence[Utterance], valid: set[str], test: set[str], out: set[str] = frozenset()) -> Fold:  # type: ignore[assignment]
    """A fold by dialogues; those of `out` stand in no part."""
    ids: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for row in rows:
        part = "valid" if row.dialogue in valid else "test" if row.dialogue in test else "train"
        if row.dialogue not in out:
            ids[part].append(row.id)
    return Fold("one", *(tuple(ids[part]) for part in ("train", "valid", "test")))


ROWS = corpus([3, 5, 2, 4, 6, 3, 4, 3, 2])
FOLD = split(ROWS, {"d06"}, {"d07"}, {"d08"})
DIALOGUE = {row.id: row.dialogue for row in ROWS}


def maker(found: Sequence[Scope], name: str) -> Scope:
    [scope] = [scope for scope in found if name in scope.apply]
    return scope


def test_without_crossfit_one_fit_on_all_of_train_makes_every_row():
    [scope] = scopes(FOLD, ROWS, 0)
    assert (scope.name, scope.train, scope.valid) == ("one", FOLD.train, FOLD.valid)
    assert set(scope.apply) == {row.id for row in ROWS}


@pytest.mark.parametrize("k", [2, 3, 6])
def test_with_crossfit_every_row_is_made_once_and_a_train_row_by_a_fit_that_did_not_see_it(k):
    found = scopes(FOLD, ROWS, k)
    assert len(found) == k + 1 and len({scope.name for scope in found}) == k + 1
    assert sorted(name for scope in found for name in scope.apply) == [row.id for row in ROWS]
    for name in FOLD.train:
        assert name not in maker(found, name).train


@pytest.mark.parametrize("k", [0, 2, 3, 6])
def test_a_fit_sees_no_test_row_and_none_that_is_in_no_part(k):
    for scope in scopes(FOLD, ROWS, k):
        assert set(scope.train) <= set(FOLD.train) and scope.valid == FOLD.valid


def test_rows_outside_train_are_made_by_the_fit_on_all_of_train():
    found = scopes(FOLD, ROWS, 3)
    for row in ROWS:
        if row.id not in FOLD.train:
            assert maker(found, row.id).train == FOLD.train


def test_a_part_is_whole_dialogues_and_its_fit_saw_nobody_of_them():
    for scope in scopes(FOLD, ROWS, 3)[1:]:
        left_out = {DIALOGUE[name] for name in scope.apply}
        assert set(scope.apply) == {name for name in FOLD.train if DIALOGUE[name] in left_out}
        assert not left_out & {DIALOGUE[name] for name in scope.train}
        assert set(scope.train) | set(scope.apply) == set(FOLD.train)


def test_parts_are_of_about_equal_size():
    rows = corpus([4] * 40)
    sizes = [len(scope.apply) for scope in scopes(split(rows, {"d00"}, {"d01"}), rows, 5)[1:]]
    assert sum(sizes) == 38 * 4 and max(sizes) - min(sizes) <= 4


def test_parts_depend_on_neither_the_order_of_rows_nor_the_labels():
    moved = [Utterance(id=row.id, dialogue=row.dialogue, turn=row.turn) for row in reversed(ROWS)]
    one, other = ({frozenset(scope.apply) for scope in scopes(FOLD, rows, 3)[1:]} for rows in (ROWS, moved))
    assert one == other


def test_parts_of_many_dialogues_look_at_each_row_a_few_times_not_once_for_each_dialogue():
    class Counted:
        looks = 0

        def __init__(self, name):
            self.name = name

        @property
        def dialogue(self):
            Counted.looks += 1
            return self.name

    rows = [Counted(f"d{i}") for i in range(200)]
    assert sum(map(len, _parts(rows, 3))) == len(rows)
    assert Counted.looks <= 5 * len(rows)


def test_more_parts_than_dialogues_is_an_error():
    with pytest.raises(InputError, match="crossfit = 7 needs at least 7 train dialogues, there are 6"):
        scopes(FOLD, ROWS, 7)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=5, max_size=14), st.integers(2, 3))
def test_crossfit_holds_whatever_the_sizes_of_dialogues(sizes, k):
    rows = corpus(sizes)
    fold = split(rows, {"d00"}, {"d01"})
    found = scopes(fold, rows, k)
    assert sorted(name for scope in found for name in scope.apply) == sorted(row.id for row in rows)
    for scope in found[1:]:
        assert scope.train and scope.apply and not set(scope.train) & set(scope.apply)
    assert not any(set(scope.train) & set(fold.test) for scope in found)


# --- labels and folds ------------------------------------------------------------------------------------------


MOOD = Labels("multiclass", ("low", "high"), lambda row: None if row.turn == 0 else int(row.labels["mood"] or 0))


class Given:
    """A reader of these folds."""

    def __init__(self, *found: Fold) -> None:
        self.found, self.asked = list(found), []

    def folds(self, rows, protocol):
        self.asked += [row.id for row in rows]
        return self.found


def test_a_label_protocol_is_a_filter_over_the_whole_scan():
    kept = labelled(ROWS, MOOD)
    assert kept.keys() == {row.id for row in ROWS if row.turn}
    assert set(kept.values()) == {0, 1}, "the class of index 0 is a label and not its absence"


def test_folds_are_made_of_the_labelled_rows_alone():
    reader, kept = Given(FOLD), labelled(ROWS, MOOD)
    assert folds(reader, ROWS, kept, "official") == [FOLD]
    assert reader.asked == list(kept)


def test_a_dialogue_in_train_and_test_is_an_error_that_names_it():
    leak = Fold("leaky", FOLD.train, FOLD.valid, (*FOLD.test, FOLD.train[0]))
    with pytest.raises(InputError, match="fold leaky: train and test share dialogues: d00"):
        folds(Given(FOLD, leak), ROWS, labelled(ROWS, MOOD), "official")


@pytest.mark.parametrize("part", ["train", "valid"])
def test_a_dialogue_in_test_and_another_part_is_an_error_though_no_utterance_is(part):
    stray = FOLD.test[-1]
    leak = replace(FOLD, test=FOLD.test[:-1], **{part: (*getattr(FOLD, part), stray)})
    with pytest.raises(InputError, match=f"fold one: {part} and test share dialogues: d07"):
        folds(Given(leak), ROWS, labelled(ROWS, MOOD), "official")


@pytest.mark.parametrize("part", ["train", "valid"])
@pytest.mark.parametrize("group", ["session", "speaker"])
def test_what_the_folds_are_made_by_is_on_one_side_too_and_is_not_asked_of_other_folds(part, group):
    shared = {getattr(FOLD, part)[0], FOLD.test[0]}
    rows = [replace(row, **{group: "S1"}) if row.id in shared else row for row in ROWS]
    assert folds(Given(FOLD), rows, labelled(rows, MOOD), "official") == [FOLD]
    with pytest.raises(InputError, match=f"fold one: {part} and test share {group}s: S1"):
        folds(Given(replace(FOLD, group=group)), rows, labelled(rows, MOOD), "official")


def test_an_utterance_in_train_and_validation_is_an_error_that_names_it():
    leak = replace(FOLD, valid=(*FOLD.valid, FOLD.train[1]))
    with pytest.raises(InputError, match=f"train and valid share utterances: {FOLD.train[1]}"):
        folds(Given(leak), ROWS, labelled(ROWS, MOOD), "official")


@pytest.mark.parametrize("k", [0, 3])
def test_a_fit_is_told_the_test_rows_and_their_groups_and_those_it_makes_features_for(k):
    rows = [replace(row, session=f"S{row.dialogue}") for row in ROWS]
    test = HeldOut.of((row for row in rows if row.id in FOLD.test), "session")
    assert test.groups == {("dialogue", "d07"), ("session", "Sd07")}
    whole, *parts = scopes(replace(FOLD, group="session"), rows, k)
    assert whole.held == test and len(parts) == k
    for scope in parts:
        assert (scope.held.ids, scope.held.groups) == (test.ids | {*scope.apply}, test.groups)


def test_a_row_without_a_session_shares_none():
    held = HeldOut.of([ROWS[0]], "session")
    assert held.groups == {("dialogue", "d00")} and held.among(ROWS[3:]) == ""


def test_no_folds_is_an_error():
    with pytest.raises(InputError, match="protocol 'cv' gives no folds"):
        folds(Given(), ROWS, labelled(ROWS, MOOD), "cv")


def test_two_folds_of_one_name_are_an_error_that_tells_it():
    with pytest.raises(InputError, match="two folds of one name: one"):
        folds(Given(FOLD, FOLD), ROWS, labelled(ROWS, MOOD), "official")


# --- what validates, what is held out --------------------------------------------------------------------------


def test_a_whole_session_can_validate_instead_of_a_tenth_of_the_dialogues(demo_root):
    rows = manifest.build(Iemocap(valid="session"), demo_root, demo_root.parent / "memory").rows
    session = {row.id: row.session for row in rows}
    for fold in Iemocap(valid="session").folds(rows, "cv"):
        parts = [{session[i] for i in part} for part in (fold.train, fold.valid, fold.test)]
        assert [len(part) for part in parts] == [3, 1, 1] and not parts[0] & (parts[1] | parts[2])


def test_every_corpus_can_hold_dialogues_out_the_same_ones_every_time(demo_root):
    rows = manifest.build(Iemocap(), demo_root, demo_root.parent / "memory").rows
    kept = labelled(rows, Iemocap.labels["six"])
    [fold], [again] = (folds(Iemocap(), order, kept, "holdout") for order in (rows, rows[::-1]))
    assert [set(part) for part in (fold.train, fold.valid, fold.test)] == [
        set(part) for part in (again.train, again.valid, again.test)
    ]
    assert 0.1 <= len(fold.test) / len(kept) <= 0.3
