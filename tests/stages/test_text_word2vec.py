"""Word vectors, read from a file or trained on a fold's transcripts."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.reason import Reason
from pipeline.stage import Item, Rows, State, Target
from stages.text_word2vec import TextWord2vec

TARGET = Target("multiclass", ("a", "b"))
TRAIN = ["so happy , happy day", "a sad sad day", "that was a happy end !", "so sad , no end ?"] * 3
SMALL: dict[str, Any] = {"size": 6, "min_count": 2, "epochs": 2}
FILE = {"happy": [1.0, 2.0], "day": [-0.5, 0.25], "Day": [9.0, 9.0]}


def items(*texts: str) -> list[Item]:
    return [Item(str(index), {"text": text}) for index, text in enumerate(texts)]


def rows(texts: Sequence[str]) -> Rows:
    return Rows(items(*texts), [0] * len(texts))


def fitted(texts: Sequence[str] = TRAIN, **changes: Any) -> State:
    return TextWord2vec(**(SMALL | changes)).fit(rows(texts), rows(["unseen words"] * 9), TARGET, "cpu")


def digest(state: State) -> str:
    return hashlib.sha256(state.tensors["vectors"].tobytes() + state.text["words"].encode()).hexdigest()


def written(path: Path) -> Path:
    """FILE in word2vec's format: `.bin` is binary, all else text."""
    if path.name.endswith(".bin"):
        body = b"".join(word.encode() + b" " + struct.pack("2f", *vector) + b"\n" for word, vector in FILE.items())
        path.write_bytes(b"3 2\n" + body)
        return path
    lines = "".join(f"{word} {vector[0]} {vector[1]}\n" for word, vector in FILE.items())
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(f"3 2\n{lines}".encode()))
    else:
        path.write_text(f"3 2\n{lines}")
    return path


def test_only_words_of_train_rows_that_occur_min_count_times_get_a_vector() -> None:
    words = fitted([*TRAIN, "once"]).text["words"].split("\n")
    assert set(words) == {"so", "happy", "day", "a", "sad", "that", "was", "end", "no", "!", "?"}


def test_one_step_per_token_and_an_unknown_word_is_not_valid() -> None:
    state = fitted()
    (track,) = TextWord2vec(**SMALL).transform(None, state, items("Happy xyzzy day!"))
    index = {word: row for row, word in enumerate(state.text["words"].split("\n"))}
    assert track.values is not None and track.valid is not None
    assert track.valid.tolist() == [True, False, True, True]
    assert np.array_equal(track.values[[0, 2, 3]], state.tensors["vectors"][[index[w] for w in ("happy", "day", "!")]])
    assert not track.values[1].any()
    assert track.time_s is None


@pytest.mark.parametrize("text", ["", "  ", "[LAUGHTER]", "--"])
def test_a_text_without_a_token_has_a_reason(text: str) -> None:
    assert TextWord2vec(**SMALL).transform(None, fitted(), items(text))[0].reason is Reason.NO_TEXT


def test_a_text_of_unknown_words_is_wholly_invalid() -> None:
    (track,) = TextWord2vec(**SMALL).transform(None, fitted(), items("xyzzy plugh"))
    assert track.reason is None and track.valid is not None
    assert track.valid.tolist() == [False, False]


def test_a_fit_gives_the_same_bytes_in_a_process_with_another_hash_seed() -> None:
    program = "from tests.stages.test_text_word2vec import digest, fitted; print(digest(fitted()))"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == digest(fitted())


def test_another_seed_gives_other_vectors() -> None:
    assert not np.array_equal(fitted().tensors["vectors"], fitted(seed=1).tensors["vectors"])


def test_words_that_share_contexts_come_closer_than_words_that_do_not() -> None:
    sentences = ["cat dog pet", "dog cat pet", "cat pet dog", "car bus road", "bus car road", "car road bus"] * 30
    state = fitted(sentences, size=16, epochs=30)
    vectors = state.tensors["vectors"] / np.linalg.norm(state.tensors["vectors"], axis=1, keepdims=True)
    index = {word: row for row, word in enumerate(state.text["words"].split("\n"))}
    assert vectors[index["cat"]] @ vectors[index["dog"]] > vectors[index["cat"]] @ vectors[index["bus"]]


def test_train_rows_without_a_frequent_word_are_an_input_error() -> None:
    with pytest.raises(InputError, match="2 times in 2 train transcripts"):
        fitted(["one two", "three"])


@pytest.mark.parametrize("name", ["vectors.bin", "vectors.txt", "vectors.txt.gz"])
def test_a_file_in_word2vecs_format_needs_no_fit(tmp_path: Path, name: str) -> None:
    stage = TextWord2vec(vectors=str(written(tmp_path / name)))
    stage.check()
    loaded = stage.load("cpu")
    (track,) = stage.transform(loaded, None, items("Happy DAY, unknown"))
    assert not stage.fitted
    assert stage.spec(loaded).dim == 2
    assert track.values is not None and track.valid is not None
    assert track.values.tolist() == [[1.0, 2.0], [-0.5, 0.25], [0.0, 0.0]]
    assert track.valid.tolist() == [True, True, False]


@pytest.mark.parametrize("name", ["glove.txt", "glove.txt.gz"])
def test_vectors_without_a_first_line_of_counts_are_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    opened = gzip.open if name.endswith(".gz") else open
    with opened(tmp_path / name, "wt", encoding="utf-8") as file:
        file.write("the 1.0 2.0\ncafé 3.0 4.0\n")
    with pytest.raises(InputError, match="not in word2vec's format.*GloVe.*first line"):
        TextWord2vec(vectors=str(tmp_path / name)).load("cpu")


def test_the_case_of_the_text_is_that_of_the_files_words(tmp_path: Path) -> None:
    stage = TextWord2vec(vectors=str(written(tmp_path / "v.txt")), case="keep")
    (track,) = stage.transform(stage.load("cpu"), None, items("Day day Happy"))
    assert track.values is not None
    assert track.values.tolist() == [[9.0, 9.0], [-0.5, 0.25], [0.0, 0.0]]


def test_a_limit_reads_the_files_first_words_alone(tmp_path: Path) -> None:
    stage = TextWord2vec(vectors=str(written(tmp_path / "v.bin")), limit=1)
    (track,) = stage.transform(stage.load("cpu"), None, items("happy day"))
    assert track.valid is not None
    assert track.valid.tolist() == [True, False]


def test_a_missing_file_is_an_input_error_that_says_where_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no word vectors at .*gone\.bin(.|\n)*GoogleNews"):
        TextWord2vec(vectors=str(tmp_path / "gone.bin")).load("cpu")


@pytest.mark.parametrize("name", ["broken.bin", "broken.txt"])
@pytest.mark.parametrize("content", [b"", b"no header at all\n", b"3 2\nhappy 1.0 2.0\n"])
def test_a_file_of_another_format_is_an_input_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="not in word2vec's format"):
        TextWord2vec(vectors=str(tmp_path / name)).load("cpu")


@pytest.mark.parametrize("changes", [{"size": 0}, {"window": 0}, {"min_count": 0}, {"epochs": 0}, {"limit": 5}])
def test_numbers_that_train_nothing_and_a_limit_without_a_file_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        TextWord2vec(**changes).check()


@pytest.mark.parametrize("changes", [{"size": 50}, {"window": 2}, {"min_count": 1}, {"epochs": 99}, {"seed": 1}])
def test_a_training_beside_a_file_of_vectors_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(changes))}: nothing is trained"):
        TextWord2vec(vectors="words.bin", **changes).check()
    TextWord2vec(**changes).check()


def test_transforming_without_the_state_of_the_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="state"):
        TextWord2vec().transform(None, None, items("happy"))
