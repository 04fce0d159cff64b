"""RAVEN, held against its equations."""

from __future__ import annotations

import pytest
import torch

from models.raven import RAVENConfig
from tests.models.baseline_cases import build, linear, lstm, masked
from tests.models.mulg_cases import DIFFERENT, VALID, features


@pytest.mark.parametrize("shift", [0.01, 100.0])
def test_words_are_shifted_by_gated_sound_and_pictures_no_further_than_their_length_allows(shift: float) -> None:
    model, x = build("raven", hidden=3, nonverbal=2, shift=shift), masked(features(), DIFFERENT)
    torch.nn.init.normal_(model.bias)
    words, shifted = x["text"], x["text"].clone()
    state = {m: lstm(model.sense[m].cell, x[m], DIFFERENT[m]) for m in ("audio", "visual")}
    for row in range(len(words)):
        for step, word in enumerate(words[row]):
            h = model.bias.clone()
            for m, vector in state.items():
                gate = linear(model.gate[m], torch.cat([vector[row], word])[None]).sigmoid()[0]
                h = h + gate * torch.einsum("od,d->o", model.shift[m].weight, vector[row])
            far = shift * word.square().sum().sqrt() / h.square().sum().sqrt()
            shifted[row, step] = word + min(far, torch.tensor(1.0)) * h
    expected = linear(model.head, lstm(model.read.cell, shifted, DIFFERENT["text"]))
    torch.testing.assert_close(model(features(), DIFFERENT).logits, expected, rtol=1e-4, atol=1e-5)


def test_words_alone_are_read_as_they_are() -> None:
    model, x = build("raven", modalities="text", hidden=3), masked(features(), VALID)
    expected = linear(model.head, lstm(model.read.cell, x["text"], VALID["text"]))
    torch.testing.assert_close(model({"text": features()["text"]}, {"text": VALID["text"]}).logits, expected)


def test_without_text_the_first_modality_takes_its_place() -> None:
    model = build("raven", modalities="audio visual")
    assert model.words == "audio" and list(model.sense) == ["visual"]


def test_a_shift_of_no_length_is_refused() -> None:
    with pytest.raises(ValueError, match="shift must be above 0"):
        RAVENConfig(shift=0.0)
