"""RMFN, held against its equations."""

from __future__ import annotations

import pytest
import torch

from tests.models.baseline_cases import build, linear, masked, one_step
from tests.models.mulg_cases import DIMS

NAMES = ("text", "audio", "visual")
WIDTHS = {"text": 3, "audio": 2, "visual": 4}
VALID = {
    "text": torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]]).bool(),
    "audio": torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]).bool(),
    "visual": torch.tensor([[0, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 0]]).bool(),
}


def rmfn(**options):
    return build("rmfn", equal=True, fused=5, **{f"{m}_hidden": n for m, n in WIDTHS.items()}, **options)


def values():
    generator = torch.Generator().manual_seed(1)
    return {m: torch.randn(3, 4, d, generator=generator) for m, d in DIMS.items()}


def stages(fusion, h, known, count):
    """z [5] and the weights of each stage [count, H] of one row, written out."""
    a, c_u, s, c_s = torch.zeros(9), torch.tanh(linear(fusion.memory, h[None]))[0], torch.zeros(5), torch.zeros(5)
    fused, weights = [], []
    for _ in range(count):
        u, c_u = one_step(fusion.highlight, h, a, c_u)
        score = u.exp() * known
        a = score / score.sum()
        weights.append(a)
        s, c_s = one_step(fusion.fuse, weights[-1] * h, s, c_s)
        fused.append(s)
    return torch.tanh(linear(fusion.summarise, torch.cat(fused)[None]))[0], torch.stack(weights)


@pytest.mark.parametrize("count", [1, 3])
def test_stages_highlight_and_fuse_the_states_at_each_step_and_every_cell_reads_what_they_found(count: int) -> None:
    model, x = rmfn(stages=count), masked(values(), VALID)
    last, gates = [], []
    for row in range(3):
        h, c = ({m: torch.zeros(n) for m, n in WIDTHS.items()} for _ in range(2))
        z, known, shares = torch.zeros(5), {m: torch.zeros(n) for m, n in WIDTHS.items()}, []
        for t in range(4):
            for m in NAMES:
                if VALID[m][row, t]:
                    h[m], c[m] = one_step(model.cells.cells[m], torch.cat([x[m][row, t], z]), h[m], c[m])
                    known[m] = torch.ones(WIDTHS[m])
            if any(VALID[m][row, t] for m in NAMES):
                z, weights = stages(model.fusion, torch.cat(list(h.values())), torch.cat(list(known.values())), count)
                shares.append(torch.stack([part.sum(1) for part in weights.split((3, 2, 4), 1)]).mean(1))
        last.append(torch.cat([*h.values(), z]))
        gates.append(torch.stack(shares).mean(0))
    prediction = model(values(), VALID)
    torch.testing.assert_close(prediction.logits, linear(model.head, torch.stack(last)))
    torch.testing.assert_close(torch.stack(list(prediction.gates.values()), dim=1), torch.stack(gates))
    assert prediction.gates["audio"][1] == 0


def test_a_later_stage_highlights_something_else() -> None:
    model = rmfn()
    h, known = torch.randn(1, 9), torch.ones(1, 9).bool()
    _, weights = stages(model.fusion, h[0], known[0], 3)
    torch.testing.assert_close(model.fusion(h, known)[1][0], weights.mean(0))
    assert not torch.allclose(weights[0], weights[2], atol=1e-4)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="same length.*'text': 3"):
        build("rmfn")
