"""MFM, held against its equations."""

from __future__ import annotations

import pytest
import torch

from models.mfm import MFMConfig, discrepancy
from tests.models.baseline_cases import build, linear, lstm, masked, one_step
from tests.models.mulg_cases import DIMS

NAMES = ("text", "audio", "visual")
SMALL = {
    f"{m}_{part}": size for m, size in zip(NAMES, (3, 2, 4), strict=True) for part in ("hidden", "latent", "factor")
}
SOME = {
    "text": torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]).bool(),
    "audio": torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]).bool(),
    "visual": torch.tensor([[0, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 0]]).bool(),
}


def mfm(**options):
    return build("mfm", equal=True, memory=5, common_latent=4, common_factor=3, **SMALL, **options)


def values():
    generator = torch.Generator().manual_seed(1)
    return {m: torch.randn(3, 4, d, generator=generator) for m, d in DIMS.items()}


def layers(net, x):
    """Two linear layers around a rectifier."""
    return linear(net[3], linear(net[0], x).relu())


def factor(net, x):
    return layers(net, x).relu()


def test_a_memory_of_attended_cell_states_and_the_last_hidden_states_give_the_logits() -> None:
    model, x = mfm(), masked(values(), SOME)
    rows = []
    for row in range(3):
        h, c = ({m: torch.zeros(cell.hidden_size) for m, cell in model.fuse.cells.cells.items()} for _ in range(2))
        memory = torch.zeros(5)
        for t in range(4):
            before = dict(c)
            for m in NAMES:
                if SOME[m][row, t]:
                    h[m], c[m] = one_step(model.fuse.cells.cells[m], x[m][row, t], h[m], c[m])
            if not any(SOME[m][row, t] for m in NAMES):
                continue
            seen = torch.cat([*before.values(), *c.values()])[None]
            attended = torch.softmax(layers(model.fuse.attend, seen), 1) * seen
            both = torch.cat([attended, memory[None]], dim=1)
            keep, add = (torch.sigmoid(layers(net, both))[0] for net in (model.fuse.keep, model.fuse.add))
            memory = keep * memory + add * torch.tanh(layers(model.fuse.change, attended))[0]
        rows.append(torch.cat([*h.values(), memory]))
    common = factor(model.factor, linear(model.latent, torch.stack(rows)))
    expected = linear(model.head[2], linear(model.head[0], common).relu())
    torch.testing.assert_close(model(values(), SOME).logits, expected)


def test_the_loss_adds_discrepancies_from_the_prior_and_what_decoding_misses_of_valid_steps() -> None:
    model = mfm(prior=3.0, text_rebuilt=2.0, audio_rebuilt=5.0, visual_rebuilt=7.0)
    prediction, x = model(values(), SOME), masked(values(), SOME)
    expected, here = torch.tensor(11.0), {m: SOME[m].any(1) for m in NAMES}
    torch.manual_seed(4)
    expected = expected + 3 * discrepancy(prediction.parts["latent"], torch.randn(3, 4))
    for m, weight in zip(NAMES, (2, 5, 7), strict=True):
        z = linear(model.own_latent[m], lstm(model.read[m].cell, x[m], SOME[m])[here[m]])
        expected = expected + 3 * discrepancy(z, torch.randn_like(z))
        f = torch.cat([prediction.parts["factor"][here[m]], factor(model.own_factor[m], z)], dim=1)
        missed = []
        for code, row, steps in zip(f, x[m][here[m]], SOME[m][here[m]], strict=True):
            said, h, c = code, torch.zeros_like(code), torch.zeros_like(code)
            for t in range(4):
                h, c = one_step(model.decode[m].cell, said, h, c)
                said = h
                missed += [linear(model.decode[m].out, h[None])[0] - row[t]] if steps[t] else []
        expected = expected + weight * torch.stack(missed).square().mean()
    torch.manual_seed(4)
    loss = model.loss(prediction, None, None, lambda logits, labels: torch.tensor(11.0))
    torch.testing.assert_close(loss, expected)
    assert not here["audio"].all()


def test_the_discrepancy_of_two_points_is_that_of_the_kernel() -> None:
    x, y = torch.zeros(1, 2), torch.tensor([[2.0, 0.0]])
    torch.testing.assert_close(discrepancy(x, y), 2 - 2 * torch.exp(torch.tensor(-1.0)))
    assert discrepancy(y, y) == 0


def test_the_label_is_decided_without_the_factors_of_single_modalities() -> None:
    model = mfm()
    model(values(), SOME).logits.sum().backward()
    assert model.latent.weight.grad.any()
    assert all(p.grad is None for part in (model.read, model.decode) for p in part.parameters())


def test_lengths_that_differ_and_negative_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="same length.*'text': 3"):
        build("mfm")
    with pytest.raises(ValueError, match=r"prior must be at least 0\naudio_rebuilt must be at least 0"):
        MFMConfig(prior=-1.0, audio_rebuilt=float("nan"))
