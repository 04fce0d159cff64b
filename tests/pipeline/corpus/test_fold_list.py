"""A team's own folds: a list of utterances, checked against the scan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.corpus.fold_list import read
from pipeline.errors import InputError
from pipeline.reader import Fold
from pipeline.utterance import Utterance

ROWS = [Utterance(id=f"u{i}", dialogue=f"d{i // 2}", turn=i % 2) for i in range(12)]
KEPT = [row.id for row in ROWS if row.id != "u5"]


@pytest.fixture
def folds(tmp_path: Path) -> Callable[[str], list[Fold]]:
    def listed(text: str) -> list[Fold]:
        path = tmp_path / "team.csv"
        path.write_text(text)
        return read(path, ROWS, KEPT)

    return listed


def lines(*rows: tuple[object, ...]) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


def test_a_split_alone_is_one_fold_named_by_the_file_and_rows_without_a_label_or_a_line_are_in_none(folds) -> None:
    splits = [(f"u{i}", ("train", "dev", "test")[i // 4]) for i in range(11)]
    assert folds(lines(("utterance", "split"), *splits)) == [
        Fold("team", ("u0", "u1", "u2", "u3"), ("u4", "u6", "u7"), ("u8", "u9", "u10"))
    ]


def test_a_fold_alone_tests_once_and_whole_dialogues_of_the_others_validate(folds) -> None:
    made = folds(lines(("utterance", "fold"), *((f"u{i}", "ab"[i % 4 // 2]) for i in range(12))))
    assert [each.name for each in made] == ["test-a", "test-b"]
    assert made[0].test == ("u0", "u1", "u4", "u8", "u9")
    assert set(made[0].train) | set(made[0].valid) == {"u2", "u3", "u6", "u7", "u10", "u11"}
    assert len(made[0].valid) == 2


def test_fold_and_split_together_are_one_fold_for_each_name(folds) -> None:
    rows = [(f"u{i}", fold, ("train", "valid", "test")[(i // 4 + fold) % 3]) for fold in (1, 2) for i in range(12)]
    one, two = folds(lines(("utterance", "fold", "split"), *rows))
    assert (one.name, two.name) == ("1", "2")
    assert one.test == two.train == ("u4", "u6", "u7")
    assert one.valid == two.test == ("u0", "u1", "u2", "u3")


def test_without_validating_rows_a_tenth_of_the_train_dialogues_validates(folds) -> None:
    [made] = folds(lines(("utterance", "split"), *((f"u{i}", "test" if i > 9 else "train") for i in range(12))))
    assert len(made.valid) in (1, 2) and not set(made.valid) & set(made.train)


def test_every_wrong_line_is_told_at_once(folds) -> None:
    text = lines(("utterance", "split"), ("u0", "train"), ("u99", "train"), ("u1", "trian"), ("u0", "test"))
    with pytest.raises(InputError) as caught:
        folds(text)
    said = str(caught.value)
    assert "team.csv:3: the scan has no utterance 'u99'" in said
    assert "team.csv:4: no split 'trian'" in said and "train" in said
    assert "team.csv:5: 'u0' is listed 2 times" in said


@pytest.mark.parametrize("header", [("utterance", "fold"), ("utterance", "fold", "split")])
@pytest.mark.parametrize("name", ["../../../../evil", "a/b", "..", ".", "two words", "", " "])
def test_a_fold_without_a_name_or_with_one_that_leaves_its_folder_is_a_wrong_line(folds, header, name: str) -> None:
    rows = [(f"u{i}", name if i == 3 else "team", "train" if i < 8 else "test")[: len(header)] for i in range(12)]
    with pytest.raises(InputError) as caught:
        folds(lines(header, *rows))
    [line] = str(caught.value).splitlines()
    assert f"team.csv:5: fold = {name.strip()!r} is not a name" in line


def test_a_fold_may_be_named_with_letters_of_any_language_digits_and_marks(folds) -> None:
    made = folds(lines(("utterance", "fold"), *((f"u{i}", ("été_1", "b-2.x")[i % 4 // 2]) for i in range(12))))
    assert [each.name for each in made] == ["test-b-2.x", "test-été_1"]


def test_lines_are_counted_as_in_the_file_blank_ones_too(folds) -> None:
    with pytest.raises(InputError, match=r"team.csv:5: the scan has no utterance 'u99'"):
        folds("utterance,split\nu0,train\n\n\nu99,train\n")


def test_a_list_that_is_not_utf8_says_so(tmp_path: Path) -> None:
    path = tmp_path / "team.csv"
    path.write_bytes("utterance,fold\nu0,été\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"team\.csv is not UTF-8$"):
        read(path, ROWS, KEPT)


@pytest.mark.parametrize("header", ["utterance", "split,fold", ""])
def test_a_list_without_the_columns_is_refused(folds, header: str) -> None:
    with pytest.raises(InputError, match="expected the column utterance"):
        folds(header + "\n")


def test_a_recipe_names_its_own_folds_and_another_protocol_can_still_be_asked_for(small) -> None:
    rows = small.session().corpus.manifest.rows
    parts = {"Session1": "train", "Session2": "valid"}
    listed = small.path.parent / "ours.csv"
    listed.write_text(lines(("utterance", "split"), *((row.id, parts.get(row.session, "test")) for row in rows)))
    small.recipe = small.recipe.replace('protocol = "official"', 'folds = "ours.csv"')
    corpus = small.session().corpus
    [made] = corpus.folds
    assert (corpus.protocol, made.name) == ("own", "ours")
    assert {row.session for row in rows if row.id in made.train} == {"Session1"}
    assert len(small.session(protocol="cv").corpus.folds) == 5


def test_own_folds_that_share_a_dialogue_between_train_and_test_are_refused(small) -> None:
    rows = small.session().corpus.manifest.rows
    parts = [("train", "valid", "test")[i % 3] for i in range(len(rows))]
    (small.path.parent / "ours.csv").write_text(
        lines(("utterance", "split"), *((row.id, part) for row, part in zip(rows, parts, strict=True)))
    )
    small.recipe = small.recipe.replace('protocol = "official"', 'folds = "ours.csv"')
    with pytest.raises(InputError, match="share dialogues"):
        _ = small.session().corpus.folds


def test_a_list_that_is_not_there_is_an_error_of_the_recipe_with_its_line(small) -> None:
    small.recipe = small.recipe.replace('protocol = "official"', 'folds = "nowhere.csv"')
    with pytest.raises(InputError, match=r":5: dataset.folds: no file .*nowhere.csv"):
        small.session()
