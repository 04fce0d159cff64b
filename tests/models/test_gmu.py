"""GMU, held against its equations."""

from __future__ import annotations

import torch

from tests.models.baseline_cases import build, linear, masked, mean
from tests.models.mulg_cases import DIFFERENT, VALID, features

NAMES = ("text", "audio", "visual")


def test_the_gates_of_all_modalities_weigh_their_features_and_an_absent_one_has_none() -> None:
    model, x = build("gmu", hidden=6), masked(features(), DIFFERENT)
    means = {m: mean(x[m], DIFFERENT[m]) for m in NAMES}
    every = torch.cat(list(means.values()), dim=1)
    h = {m: torch.tanh(linear(model.feature[m], means[m])) for m in NAMES}
    z = {m: torch.sigmoid(linear(model.gate[m], every)) for m in NAMES}
    z["audio"][1] = 0.0  # the second row has no sound
    prediction = model(features(), DIFFERENT)
    torch.testing.assert_close(prediction.logits, linear(model.head, sum(z[m] * h[m] for m in NAMES)))
    total = sum(z[m].mean(1) for m in NAMES)
    for m in NAMES:
        torch.testing.assert_close(prediction.gates[m], z[m].mean(1) / total)
    assert prediction.gates["audio"][1] == 0


def test_a_row_without_anything_has_equal_shares() -> None:
    nothing = {m: torch.zeros_like(mask) for m, mask in VALID.items()}
    gates = build("gmu")(features(), nothing).gates
    torch.testing.assert_close(torch.stack(list(gates.values())), torch.full((3, 3), 1 / 3))
