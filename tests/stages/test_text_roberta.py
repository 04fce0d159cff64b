"""Hidden states of transformer encoders: one for each token, whatever else is in the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from pipeline.reason import Reason
from pipeline.remark import Kind, Remark
from pipeline.stage import State, Track
from stages._context import Passage
from stages._roberta import Encoder, batches, learn_tokenizer, make_model
from stages.text_roberta import TextRoberta
from tests.encoders import TEXTS, difference, fitted, items, made, saved, states

KINDS: list[type[PreTrainedConfig]] = [
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
]


@pytest.fixture(scope="module")
def state() -> State:
    return fitted(made())


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("roberta"), RobertaConfig)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_the_published_encoder_without_the_closing_token(
    tmp_path: Path, kind: type[PreTrainedConfig]
) -> None:
    folder = saved(tmp_path, kind)
    tokenizer, model = learn_tokenizer(TEXTS, 300, 16), AutoModel.from_pretrained(folder).eval()
    texts = ["a happy end", "sad", "no, I am so so happy to end this day"]
    with torch.inference_mode():
        expected = [model(torch.tensor([tokenizer.encode(t).ids])).last_hidden_state[0, :-1].numpy() for t in texts]
    found = states(TextRoberta(model=str(folder), max_tokens=16), None, *texts)
    assert difference(found, expected) < 1e-4


def test_the_first_step_alone_is_the_cls_output(published: Path) -> None:
    tokens, cls = (TextRoberta(model=str(published), max_tokens=16, output=o) for o in ("tokens", "cls"))
    assert np.array_equal(states(cls, None, TEXTS[0])[0], states(tokens, None, TEXTS[0])[0][:1])


def test_neither_neighbours_nor_their_order_nor_padding_move_the_states(published: Path) -> None:
    stage = TextRoberta(model=str(published), max_tokens=32)
    texts = ["a", *TEXTS[:4], "so " * 200]
    together = states(stage, None, *texts)
    assert difference(together, [states(stage, None, text)[0] for text in texts]) < 1e-4
    assert difference(together, states(stage, None, *texts[::-1])[::-1]) < 1e-4


def test_batches_are_sorted_by_length_and_hold_no_more_tokens_than_the_budget() -> None:
    lengths = [5, 300, 2, 128, 128, 1, 60]
    found = list(batches(lengths, 256))
    assert sorted(row for batch in found for row in batch) == list(range(7))
    assert all(len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= 256 for batch in found)
    assert [lengths[row] for batch in found for row in batch] == sorted(lengths)
    assert list(batches([], 256)) == []


def test_a_long_text_is_cut_at_max_tokens_the_closing_one_counted(state: State) -> None:
    assert [len(values) for values in states(made(), state, "happy " * 100)] == [15]


@pytest.mark.parametrize("output", ["tokens", "cls"])
def test_a_text_that_is_cut_has_a_remark_with_the_tokens_that_it_lost_and_had(published: Path, output: str) -> None:
    long, short = "no, this is sad, so sad and gloomy!", "sad"
    all_of_it = len(states(TextRoberta(model=str(published), max_tokens=38), None, long)[0]) - 1  # without the first
    stage = TextRoberta(model=str(published), max_tokens=12, output=output)
    cut, whole = stage.transform(stage.load("cpu"), None, items(long, short))
    assert 10 < all_of_it < 36
    assert (cut.remarks, whole.remarks) == ((Remark(Kind.TEXT_CUT, all_of_it - 10, all_of_it),), ())


def test_each_token_is_called_by_its_word_at_the_words_first_token_and_by_nothing_after_it(state: State) -> None:
    stage, text = made(), "no, sadness happy"
    words = stage.words(text, state)
    [values] = states(stage, state, text)
    assert words is not None and len(words) == len(values)
    assert [word for word in words if word] == ["<s>", "no", ",", "sadness", "happy"] and "" in words
    assert made(output="cls").words(text, state) is None and made(context=1).words(text, state) is None


def test_special_tokens_written_in_a_text_are_words(state: State) -> None:
    spoken, padded = states(made(), state, "<s></s>", "<pad>")
    assert len(spoken) > 3 and len(padded) > 2


@pytest.mark.parametrize("text", ["", " \n", "[LAUGHTER]"])
def test_an_empty_text_has_a_reason_and_spoils_none_beside_it(state: State, text: str) -> None:
    stage = made()
    empty, good = stage.transform(stage.load("cpu"), state, items(text, "happy"))
    assert (empty.reason, good.reason) == (Reason.NO_TEXT, None)


def test_a_batch_of_empty_texts_is_no_error(state: State) -> None:
    stage = made()
    assert stage.transform(stage.load("cpu"), state, items("", "")) == [Track.failed(Reason.NO_TEXT)] * 2


def test_one_worker_serves_several_states(state: State) -> None:
    stage = made()
    loaded, other = stage.load("cpu"), fitted(made(seed=1))
    first, second, third = (stage.transform(loaded, s, items("happy"))[0].values for s in (state, other, state))
    assert first is not None and second is not None and third is not None
    assert np.array_equal(first, third)
    assert not np.allclose(first, second)


def test_restoring_a_state_leaves_the_callers_random_numbers_alone(state: State) -> None:
    before = torch.get_rng_state()
    states(made(), state, "happy")
    assert torch.equal(torch.get_rng_state(), before)


def test_bfloat16_is_close_to_float32_and_comes_out_as_float32(published: Path) -> None:
    exact, rough = (TextRoberta(model=str(published), max_tokens=16, precision=p) for p in ("float32", "bf16"))
    found = states(rough, None, *TEXTS[:4])
    assert found[0].dtype == np.float32
    assert 0 < difference(found, states(exact, None, *TEXTS[:4])) < rough.spec(rough.load("cpu")).tolerance


def test_the_width_is_that_of_the_encoder(published: Path) -> None:
    read: dict[str, Any] = {"model": str(published), "max_tokens": 16}
    stages = (made(hidden=32), TextRoberta(**read), TextRoberta(**read, fine_tune=True))
    assert [stage.spec(stage.load("cpu")).dim for stage in stages] == [32, 16, 16]


def test_transforming_without_the_state_of_the_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="state"):
        made().transform(made().load("cpu"), None, items("happy"))


def test_texts_that_a_device_cannot_hold_at_once_are_halved_and_keep_their_states() -> None:
    words = ["so", "what", "do you", "never said", "that I could", "leave home again"]
    tokenizer = learn_tokenizer(words, 300, 16)
    encoder = Encoder(tokenizer, make_model(tokenizer, 300, 8, 1, 2, 16, 0))
    passages = [Passage(text) for text in words]
    whole = {row: states for row, states, _ in encoder.states(passages)}
    network, passes = encoder._network, []

    def small(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        passes.append(len(ids))
        if len(ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return network(ids, mask)

    encoder.__dict__["_network"] = small
    for _ in range(2):
        divided = {row: states for row, states, _ in encoder.states(passages)}
        assert divided.keys() == whole.keys()
        assert all(np.allclose(divided[row], whole[row], atol=1e-5) for row in whole)
    assert passes[0] > 2 and max(passes[len(passes) // 2 :]) <= 2
