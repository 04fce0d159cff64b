"""MCTN, held against its equations."""

from __future__ import annotations

import pytest
import torch

from models.mctn import MCTNConfig
from tests.models.baseline_cases import build, linear, masked, one_step
from tests.models.mulg_cases import DIFFERENT, VALID, features

H = 4
MIDDLE = {**DIFFERENT, "text": torch.tensor([[1, 0, 1], [1, 0, 0], [0, 1, 1]]).bool()}


def mctn(modalities="text audio visual", **options):
    return build("mctn", modalities=modalities, hidden=H, **options)


def encoded(encoder, steps):
    """The sum of both directions at each step, [s, h] -> [s, h]."""
    ways = []
    for cell, order in ((encoder.onwards, 1), (encoder.backwards, -1)):
        h = c = torch.zeros(H)
        states = []
        for x in list(steps)[::order]:
            h, c = one_step(cell, x, h, c, "_l0")
            states.append(h)
        ways.append(torch.stack(states[::order]))
    return ways[0] + ways[1]


def decoded(decoder, code, count):
    """As many states as `count`, each from what the one before it attends to in code [s, h]."""
    h = c = torch.zeros(H)
    states = []
    for _ in range(count):
        energy = torch.tanh(linear(decoder.code, code) + torch.einsum("oh,h->o", decoder.state.weight, h))
        weights = torch.einsum("oh,sh->s", decoder.score.weight, energy).softmax(0)
        h, c = one_step(decoder.cell, torch.einsum("s,sh->h", weights, code), h, c)
        states.append(h)
    return torch.stack(states)


def codes(model, words):
    """The codes of words [s, D] by each encoder."""
    found = [encoded(model.encode[0], linear(model.into["text"], words))]
    return [*found, encoded(model.encode[1], found[0])]


def test_the_code_of_the_code_of_words_is_read_by_an_lstm_whose_states_are_weighed() -> None:
    model, x = mctn(), masked(features(), MIDDLE)
    rows = []
    for words, valid in zip(x["text"], MIDDLE["text"], strict=True):
        h = c = torch.zeros(H)
        states = []
        for step in codes(model, words[valid])[1]:
            h, c = one_step(model.read, step, h, c, "_l0")
            states.append(h)
        read = torch.stack(states)
        rows.append(torch.einsum("s,sh->h", torch.tanh(linear(model.weigh, read)[:, 0]).softmax(0), read))
    torch.testing.assert_close(model(features(), MIDDLE).logits, linear(model.head, torch.stack(rows)))


def test_the_loss_adds_what_translations_miss_there_back_and_to_the_third_in_rows_with_both_ends() -> None:
    model, x = mctn(translation=2.0, cycle=3.0, second=5.0), masked(features(), MIDDLE)
    there, back, third = [], [], []
    for row in range(3):
        words, heard = MIDDLE["text"][row], MIDDLE["audio"][row]
        said = x["text"][row, words]
        first, second = codes(model, said)
        seen = linear(model.out["visual"], decoded(model.decode[1], second, 4)) - x["visual"][row]
        third.append(seen[MIDDLE["visual"][row]])
        if heard.any():
            sound = linear(model.out["audio"], decoded(model.decode[0], first, 5))
            there.append((sound - x["audio"][row])[heard])
            again = encoded(model.encode[0], linear(model.into["audio"], sound[heard]))
            back.append(linear(model.out["text"], decoded(model.decode[0], again, len(said))) - said)
    errors = [torch.cat(part).square().mean() for part in (there, back, third)]
    loss = model.loss(model(features(), MIDDLE), None, None, lambda logits, labels: torch.tensor(7.0))
    torch.testing.assert_close(loss, 7 + 2 * errors[0] + 3 * errors[1] + 5 * errors[2])
    assert len(there) == 2


def test_words_alone_are_needed_to_predict() -> None:
    model = mctn()
    silent = {m: mask & (m == "text") for m, mask in VALID.items()}
    torch.testing.assert_close(model(features(), silent).logits, model(features(), VALID).logits)


def test_two_modalities_have_one_encoder_and_one_is_translated_to_nothing() -> None:
    two, one = mctn("audio visual"), mctn("visual")
    assert (two.source, two.targets, len(two.encode), len(two.decode)) == ("audio", ["visual"], 1, 1)
    prediction = one({"visual": features()["visual"]}, {"visual": VALID["visual"]})
    assert one.loss(prediction, None, None, lambda logits, labels: logits.sum()) == prediction.logits.sum()


def test_negative_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cycle must be at least 0"):
        MCTNConfig(cycle=-1.0)
