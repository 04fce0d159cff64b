"""Transformer encoders that are fine-tuned or made here: what a fit learns, from which rows, and to which bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import (
    BertConfig,
    DistilBertConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from pipeline.errors import InputError
from pipeline.reader import Label
from pipeline.stage import Rows, State, Target
from stages._roberta import learn_tokenizer, make_model
from stages.text_roberta import TextRoberta
from tests.encoders import LABELS, TEXTS, TWO, difference, fitted, items, made, rows, saved, states


@pytest.fixture(scope="module")
def state() -> State:
    return fitted(made())


def test_equal_rows_give_equal_bytes_and_another_seed_gives_others(state: State) -> None:
    again, other = fitted(made()), fitted(made(seed=1))
    assert {n: v.tobytes() for n, v in state.tensors.items()} == {n: v.tobytes() for n, v in again.tensors.items()}
    assert state.text == again.text
    assert state.tensors["head.weight"].tobytes() != other.tensors["head.weight"].tobytes()


def test_the_tokenizer_learns_from_train_rows_alone(state: State) -> None:
    held = rows(["zebra zebra zebra"] * 4, LABELS[:4])
    other = made().fit(rows(TEXTS, LABELS), held, TWO, "cpu")
    assert other.text["tokenizer"] == state.text["tokenizer"]


def test_a_tokenizer_learned_here_leaves_no_text_unknown() -> None:
    tokenizer = learn_tokenizer(TEXTS, 300, 64)
    text = "\N{FACE WITH TEARS OF JOY} \N{CYRILLIC SMALL LETTER ZHE} zebra"
    decoded = "".join(token for token in tokenizer.encode(text).tokens if token not in ("<s>", "</s>"))
    assert len(decoded) == len(f" {text}".encode())
    assert None not in tokenizer.encode(text).ids


def test_rows_without_a_text_take_no_part_in_the_fit(state: State) -> None:
    with_empty = Rows(items("", *TEXTS), [1, *LABELS])
    other = made().fit(with_empty, rows(TEXTS[:4], LABELS[:4]), TWO, "cpu")
    assert other.tensors["head.weight"].tobytes() == state.tensors["head.weight"].tobytes()


def test_a_fit_without_a_text_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no train row"):
        made().fit(rows([""], [0]), rows([], []), TWO, "cpu")


def test_training_tells_happy_texts_from_sad_ones() -> None:
    stage = made(epochs=15, learning_rate=5e-3)
    learned = fitted(stage)
    first = np.stack([values[0] for values in states(stage, learned, "so happy, I am", "a gloomy, sad day")])
    logits = first @ learned.tensors["head.weight"].T + learned.tensors["head.bias"]
    assert logits.argmax(1).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("target", "labels", "outputs"),
    [
        (Target("regression", ()), [1.5, -2.0, 0.5, -0.5] * 4, 1),
        (Target("regression", ("x", "y")), [(1.0, 2.5), (3.0, 4.0), (5.0, 1.0), (2.0, 2.0)] * 4, 2),
        (Target("multilabel", ("a", "b")), [(1, 0), (0, 1), (1, 1), (0, 0)] * 4, 4),
    ],
)
def test_every_task_can_train_the_encoder(target: Target, labels: list[Label], outputs: int) -> None:
    assert fitted(made(epochs=1), target, labels).tensors["head.weight"].shape == (outputs, 16)


def test_fine_tuning_starts_from_the_published_weights_and_its_state_needs_no_file_of_weights(tmp_path: Path) -> None:
    folder = saved(tmp_path, RobertaConfig)
    stage = TextRoberta(model=str(folder), fine_tune=True, max_tokens=16, epochs=1, repeats=2, learning_rate=1e-6)
    learned = fitted(stage)
    (folder / "model.safetensors").unlink()
    after = states(stage, learned, *TEXTS[:2])
    before = states(TextRoberta(model=str(saved(tmp_path, RobertaConfig)), max_tokens=16), None, *TEXTS[:2])
    assert stage.fitted
    assert 0 < difference(before, after) < 1e-2


@pytest.mark.parametrize("kind", [BertConfig, DistilBertConfig])
def test_other_encoders_are_fine_tuned_and_restored_too(tmp_path: Path, kind: type[PreTrainedConfig]) -> None:
    folder = saved(tmp_path, kind)
    tuned = TextRoberta(model=str(folder), fine_tune=True, max_tokens=16, epochs=1, repeats=1, learning_rate=1e-6)
    after = states(tuned, fitted(tuned), *TEXTS[:2])
    assert 0 < difference(states(TextRoberta(model=str(folder), max_tokens=16), None, *TEXTS[:2]), after) < 1e-2


def test_activations_that_are_computed_twice_give_the_same_encoder(state: State) -> None:
    twice = fitted(made(gradient_checkpointing=True))
    assert twice.tensors.keys() == state.tensors.keys()
    for name, value in state.tensors.items():
        np.testing.assert_allclose(twice.tensors[name], value, atol=1e-4, err_msg=name)


def test_a_fit_under_autocast_keeps_float32_weights_and_learns_nearly_the_same(state: State) -> None:
    half = fitted(made(fit_precision="bf16"))
    losses = [np.array(found.log["train_loss"]) for found in (half, state)]
    assert {value.dtype for value in half.tensors.values()} == {np.dtype("float32")}
    assert 0 < abs(losses[0] - losses[1]).max() < 0.05


def test_weight_decay_shrinks_what_is_learned() -> None:
    plain, decayed = (fitted(made(weight_decay=decay, learning_rate=5e-3)) for decay in (0.0, 5.0))
    size = [sum(float((value**2).sum()) for value in found.tensors.values()) for found in (plain, decayed)]
    assert size[1] < size[0]


def test_random_weights_are_drawn_from_the_seed() -> None:
    tokenizer = learn_tokenizer(["so it goes"], 300, 16)
    torch.manual_seed(0)
    first = make_model(tokenizer, 300, 8, 1, 2, 16, 0).state_dict()
    torch.manual_seed(0)
    second = make_model(tokenizer, 300, 8, 1, 2, 16, 0).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_token_starts_from_the_same_vector_whatever_its_number() -> None:
    one, two = (learn_tokenizer([text] * 3, 300, 16) for text in ("so it goes", "and so on it goes so"))
    vectors = [make_model(t, 300, 8, 1, 2, 16, 0).get_input_embeddings().weight for t in (one, two)]
    shared = [token for token in one.get_vocab() if two.token_to_id(token) not in (None, one.token_to_id(token))]
    assert shared, "the two tokenizers must number some token differently"
    for token in shared:
        assert torch.equal(vectors[0][one.token_to_id(token)], vectors[1][two.token_to_id(token)])


def test_fits_on_different_words_start_alike_and_tell_the_classes_along_the_same_axes() -> None:
    """X9: fits on parts of the train rows, of which each has its own words, give features that stand together."""

    def learned(texts: Sequence[str], **changes: Any) -> Mapping[str, NDArray[Any]]:
        stage = made(epochs=1, vocab_size=320, **changes)
        return stage.fit(rows(texts, LABELS), rows([], []), TWO, "cpu").tensors

    one = learned(TEXTS, learning_rate=1e-9)
    other = learned(["it goes on", "so long"] * 8, learning_rate=1e-9)
    for name in ("head.weight", "model.encoder.layer.0.attention.self.query.weight"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-6)
    assert np.array_equal(learned(TEXTS, learning_rate=1e-2)["head.weight"], one["head.weight"])
