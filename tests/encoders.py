"""Small text encoders for tests of `text_roberta`: as `transformers` saves them, or made and fitted here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModel,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from pipeline.reader import Label
from pipeline.stage import Item, Rows, State, Target
from stages._roberta import learn_tokenizer
from stages.text_roberta import TextRoberta

TWO = Target("multiclass", ("glad", "sad"))
TEXTS = ["I am so happy today", "no, this is sad!", "happy, happy, happy", "a sad and gloomy end of it all"] * 4
LABELS = [0, 1, 0, 1] * 4
SMALL: dict[str, Any] = {"hidden": 16, "layers": 1, "heads": 2, "vocab_size": 300, "max_tokens": 16, "epochs": 2}


def items(*texts: str) -> list[Item]:
    return [Item(str(index), {"text": text}) for index, text in enumerate(texts)]


def rows(texts: Sequence[str], labels: Sequence[Label]) -> Rows:
    return Rows(items(*texts), labels)


def made(**changes: Any) -> TextRoberta:
    return TextRoberta(**({"init": "random"} | SMALL | changes))


def fitted(stage: TextRoberta, target: Target = TWO, labels: Sequence[Label] = LABELS) -> State:
    return stage.fit(rows(TEXTS, labels), rows(TEXTS[:4], labels[:4]), target, "cpu")


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
