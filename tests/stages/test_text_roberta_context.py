"""Text encoders that read the turns before an utterance: the tokens by hand, the steps, and what a fit learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, PreTrainedTokenizerFast, RobertaConfig

from pipeline.dialogue import Turn
from pipeline.reason import Reason
from pipeline.remark import Kind, Remark
from pipeline.stage import Item, Rows
from stages._context import Passage, encode
from stages.text_roberta import TextRoberta
from tests.encoders import TWO, difference, made

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
WORDS = [*SPECIAL, "JOEY", "MONICA", ":", "hey", "why", "because", "he", "said", "so", "oh", ".", "?"]
HEY, WHY, BECAUSE = Turn("hey.", "Joey"), Turn("why?", "Monica"), Turn("because he said so.", "Joey")


def by_hand(tokens: str) -> list[int]:
    return [WORDS.index(token) for token in tokens.split()]


def a_tokenizer(longest: int = 32) -> Tokenizer:
    """One token for each word and each mark, with the special tokens of RoBERTa."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.enable_truncation(longest)
    return tokenizer


def passage(*turns: Turn) -> Passage:
    return Passage.of(turns, lambda text: text)


def tokens(*turns: Turn, longest: int = 32) -> list[int]:
    found: list[int] = encode(a_tokenizer(longest), passage(*turns)).ids
    return found


# --- the tokens ------------------------------------------------------------------------------------------------


def test_the_turns_before_come_first_each_after_its_speaker_and_the_utterance_last() -> None:
    assert tokens(HEY, WHY, BECAUSE) == by_hand(
        "<s> JOEY : hey . MONICA : why ? </s> </s> JOEY : because he said so . </s>"
    )


def test_an_utterance_without_a_turn_before_it_has_an_empty_first_segment() -> None:
    assert tokens(BECAUSE) == by_hand("<s> </s> </s> JOEY : because he said so . </s>")


def test_a_turn_without_a_known_speaker_or_without_a_text_is_written_without() -> None:
    found = tokens(Turn("hey.", None), Turn("", "Monica"), Turn("because.", None))
    assert found == by_hand("<s> hey . </s> </s> because . </s>")


@pytest.mark.parametrize(
    ("longest", "before"),
    [(19, "JOEY : hey . MONICA : why ?"), (18, "MONICA : why ?"), (15, "MONICA : why ?"), (14, "")],
)
def test_of_turns_that_are_too_long_together_the_oldest_are_left_out_whole(longest: int, before: str) -> None:
    found = tokens(HEY, WHY, BECAUSE, longest=longest)
    assert found == by_hand(f"<s> {before} </s> </s> JOEY : because he said so . </s>")


def test_an_utterance_that_is_too_long_alone_is_cut_at_its_end() -> None:
    assert tokens(HEY, BECAUSE, longest=9) == by_hand("<s> </s> </s> JOEY : because he said </s>")


def test_turns_that_are_left_out_and_the_end_of_an_utterance_that_is_cut_are_remarks() -> None:
    def remarks(longest: int) -> tuple[Remark, ...]:
        return encode(a_tokenizer(longest), passage(HEY, WHY, BECAUSE)).remarks

    both = Remark(Kind.TURNS_LEFT_OUT, 2, 2)
    assert (remarks(19), remarks(18), remarks(14)) == ((), (Remark(Kind.TURNS_LEFT_OUT, 1, 2),), (both,))
    assert remarks(9) == (Remark(Kind.TEXT_CUT, 2, 5), both)


def test_a_step_belongs_to_the_first_token_and_to_the_words_of_the_utterance_alone() -> None:
    seen = passage(HEY, BECAUSE)
    encoded = encode(a_tokenizer(), seen)
    assert np.array(encoded.ids)[encoded.own].tolist() == by_hand("<s> because he said so .")


# --- the stage -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small RoBERTa of random weights that reads these words."""
    folder = tmp_path_factory.mktemp("model")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=len(WORDS), max_position_embeddings=40, pad_token_id=1, **sizes)
    AutoModel.from_config(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=a_tokenizer(), pad_token="<pad>").save_pretrained(folder)
    return folder


def states(stage: TextRoberta, *dialogues: tuple[Turn, ...]) -> list[Any]:
    items = [Item(str(number), {"dialogue": turns}) for number, turns in enumerate(dialogues)]
    return [track.values for track in stage.transform(stage.load("cpu"), None, items)]


def test_states_are_those_of_the_published_encoder_on_the_tokens_by_hand(folder: Path) -> None:
    ids = by_hand("<s> MONICA : why ? </s> </s> JOEY : because he said so . </s>")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder).eval()(torch.tensor([ids])).last_hidden_state[0].numpy()
    [found] = states(TextRoberta(model=str(folder), max_tokens=32, context=1), (WHY, BECAUSE))
    assert difference([found], [hidden[[0, 9, 10, 11, 12, 13]]]) < 1e-5


def test_a_context_changes_the_states_and_not_their_number(folder: Path) -> None:
    read: dict[str, Any] = {"model": str(folder), "max_tokens": 32}
    alone = TextRoberta(**read)
    [plain] = [t.values for t in alone.transform(alone.load("cpu"), None, [Item("u", {"text": BECAUSE.text})])]
    [after, other] = states(TextRoberta(**read, context=2), (HEY, WHY, BECAUSE), (WHY, HEY, BECAUSE))
    assert plain is not None and len(plain) == len(after) == len(other) == 6
    assert difference([after], [plain]) > 1e-2 and difference([after], [other]) > 1e-4


def test_neither_neighbours_nor_their_order_move_the_states(folder: Path) -> None:
    stage = TextRoberta(model=str(folder), max_tokens=32, context=2)
    dialogues = [(HEY, WHY, BECAUSE), (BECAUSE,), (WHY, Turn("oh so so so so so so so.", None)), (HEY, WHY)]
    together = states(stage, *dialogues)
    assert difference(together, [states(stage, turns)[0] for turns in dialogues]) < 1e-5
    assert difference(together, states(stage, *dialogues[::-1])[::-1]) < 1e-5


def test_an_utterance_without_a_text_has_a_reason_whatever_was_said_before_it(folder: Path) -> None:
    stage = TextRoberta(model=str(folder), max_tokens=32, context=2)
    [track] = stage.transform(stage.load("cpu"), None, [Item("u", {"dialogue": (HEY, Turn("[LAUGHTER]", "Joey"))})])
    assert track.reason is Reason.NO_TEXT


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"context": -1}, "context is a number of turns, is -1"), ({"speakers": False}, "only for context above 0")],
)
def test_a_context_below_zero_and_speakers_that_nothing_reads_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**wrong).check()
    made(context=2, speakers=False).check()


def test_a_fit_learns_from_the_turns_before() -> None:
    """Every utterance says the same; only what was said before tells its class."""
    said = [Turn("I am so happy"), Turn("this is sad and gloomy")]
    items = [Item(str(number), {"dialogue": (said[number % 2], Turn("no"))}) for number in range(16)]
    rows = Rows(items, [0, 1] * 8)
    stage = made(context=1, epochs=20, learning_rate=5e-3, max_tokens=32)
    state = stage.fit(rows, Rows(items[:4], [0, 1] * 2), TWO, "cpu")
    tracks = stage.transform(stage.load("cpu"), state, items[:2])
    first = np.stack([track.values[0] for track in tracks if track.values is not None])
    logits = first @ state.tensors["head.weight"].T + state.tensors["head.bias"]
    assert logits.argmax(1).tolist() == [0, 1]
