"""MulG, held against the paper's equations written out in einsum, and its parts against small models by hand.

Letters of the einsums: b row, d e features, t s time steps of target and source.
"""

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from models._cross_modal import CrossModal
from models._layers import LastState, sinusoids
from models.mulg import MulGConfig, _Bilinear, _PaperGRU
from tests.models.mulg_cases import DIFFERENT, EACH_VARIANT, LENGTHS, Tensors, build, features

# --- equations 1 to 4: the GRU ---------------------------------------------------------------------------------


def paper_step(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, w_hs: Tensor) -> Tensor:
    """Equations (1)-(4) for one step: x [b, d], h [b, e]."""
    w_xr, w_xz, w_xs = w_x.chunk(3)
    w_hr, w_hz = w_h.chunk(2)

    def mapped(w: Tensor, v: Tensor) -> Tensor:
        return torch.einsum("ed,bd->be", w, v)

    r = 1 / (1 + torch.exp(-(mapped(w_xr, x) + mapped(w_hr, h))))  # (1)
    z = 1 / (1 + torch.exp(-(mapped(w_xz, x) + mapped(w_hz, h))))  # (2)
    candidate = torch.tanh(mapped(w_xs, x) + mapped(w_hs, r * h))  # (3)
    return (1 - z) * h + z * candidate  # (4)


def test_equations_1_to_4_are_the_paper_cell() -> None:
    torch.manual_seed(0)
    cell: Any = _PaperGRU(3, 4, layers=2)
    x = torch.randn(2, 5, 3)
    sequence = list(x.unbind(1))
    for k in range(2):
        h, states = torch.zeros(2, 4), []
        for x_t in sequence:
            h = paper_step(x_t, h, cell.w_x[k].weight, cell.w_h[k].weight, cell.w_hs[k].weight)
            states.append(h)
        sequence = states
    torch.testing.assert_close(cell(x, torch.ones(2, 5).bool()), sequence[-1])


@pytest.mark.parametrize(("update", "expected"), [(50.0, math.tanh(3.0)), (-50.0, 0.0)])
def test_equation_4_takes_the_candidate_where_z_is_one_and_the_old_state_where_it_is_zero(
    update: float, expected: float
) -> None:
    cell: Any = _PaperGRU(1, 1, layers=1)
    cell.w_x[0].weight.data = torch.tensor([[0.0], [update], [3.0]])
    torch.testing.assert_close(cell(torch.ones(1, 1, 1), torch.ones(1, 1).bool()), torch.tensor([[expected]]))


def test_the_torch_cell_has_z_the_other_way_round_and_resets_after_the_map() -> None:
    torch.manual_seed(0)
    cell, x = LastState(nn.GRU, 3, 4, layers=1), torch.randn(2, 5, 3)
    w_x, w_h, b_x, b_h = cell.parameters()
    h = torch.zeros(2, 4)
    for x_t in x.unbind(1):
        x_r, x_z, x_n = (torch.einsum("ed,bd->be", w_x, x_t) + b_x).chunk(3, -1)
        h_r, h_z, h_n = (torch.einsum("ed,bd->be", w_h, h) + b_h).chunk(3, -1)
        r, z = 1 / (1 + torch.exp(-x_r - h_r)), 1 / (1 + torch.exp(-x_z - h_z))
        h = (1 - z) * torch.tanh(x_n + r * h_n) + z * h
    torch.testing.assert_close(cell(x, torch.ones(2, 5).bool()), h)


@pytest.mark.parametrize("cell", [partial(LastState, nn.GRU), _PaperGRU])
@given(mask=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=2, max_size=2))
@settings(max_examples=25, deadline=None)
def test_a_gru_reads_the_valid_steps_alone_and_nothing_gives_zero(cell: Any, mask: Any) -> None:
    torch.manual_seed(0)
    gru, x = cell(3, 4, 2), torch.randn(2, 5, 3)
    states = gru(x, torch.tensor(mask))
    for row, valid, state in zip(x, torch.tensor(mask), states, strict=True):
        kept = row[valid].unsqueeze(0)
        alone = gru(kept, torch.ones(1, kept.shape[1]).bool())[0] if valid.any() else torch.zeros(4)
        torch.testing.assert_close(state, alone)


# --- equations 5 to 7: attention -------------------------------------------------------------------------------


def test_equations_5_to_7_are_the_bilinear_attention() -> None:
    torch.manual_seed(0)
    pair = _Bilinear(MulGConfig(hidden=4, attn_dropout=0.0))
    x1, x2, valid = torch.randn(3, 5, 4), torch.randn(3, 4, 4), DIFFERENT["visual"]
    e = torch.einsum("btd,de,bse->bts", x1, pair.w, x2)  # (5)
    weights = e.exp() * valid[:, None, :]
    alpha = weights / weights.sum(-1, keepdim=True)  # (6)
    attended, map_ = pair(x1, x2, valid, True)
    torch.testing.assert_close(map_, alpha)
    torch.testing.assert_close(attended, torch.einsum("bts,bsd->btd", alpha, x2))  # (7)


def norm(x: Tensor, layer: Any) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], layer.weight, layer.bias)


def positioned(x: Tensor) -> Tensor:
    return x * math.sqrt(x.shape[-1]) + sinusoids(x.shape[1], x.shape[2], like=x)


@pytest.mark.parametrize("variant", ["pre_ln", "post_ln", "residual"])
def test_a_cross_modal_block_is_attention_and_feed_forward_under_its_residual_variant(variant: Any) -> None:
    torch.manual_seed(0)
    block: Any = CrossModal(4, layers=1, heads=2, residual=variant).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x1, x2, valid = torch.randn(3, 5, 4), torch.randn(3, 4, 4), DIFFERENT["visual"]
    x, source, (n1, n2) = positioned(x1), norm(positioned(x2), block.normalise), block.residual.norms

    def attention(y: Tensor) -> Tensor:
        attended: Tensor = block.attend[0](y, source, valid, False)[0]
        return attended

    if variant == "pre_ln":
        x = x + attention(norm(x, n1))
        expected = norm(x + block.feed[0](norm(x, n2)), block.residual.last)
    else:
        first = norm(x + attention(x), n1)
        expected = norm(first + block.feed[0](first), n2)
    if variant == "residual":
        expected = expected + norm(x + attention(x) + block.feed[0](first), block.residual.last)
    torch.testing.assert_close(block(x1, x2, valid, False)[0], expected)


def test_each_directed_pair_shows_how_the_target_attends_to_the_source() -> None:
    model = build()
    model.maps = True
    maps = model(features(), DIFFERENT).attention
    assert maps is not None and len(maps) == 6
    for pair, weights in maps.items():
        source, target = pair.split("->")
        assert weights.shape == (3, LENGTHS[target], LENGTHS[source]) and not weights.requires_grad
        anything = DIFFERENT[source].any(1).float()
        torch.testing.assert_close(weights.sum(-1), anything[:, None].expand(-1, LENGTHS[target]))
        assert weights.masked_select(~DIFFERENT[source][:, None, :]).eq(0).all()


def test_the_map_of_a_pair_is_that_of_its_last_layer() -> None:
    torch.manual_seed(0)
    block: Any = CrossModal(4, layers=2, heads=2).eval()
    maps: list[Tensor] = []
    for attend in block.attend:
        attend.register_forward_hook(lambda _, args, out: maps.append(out[1]))
    _, shown = block(torch.randn(3, 5, 4), torch.randn(3, 4, 4), DIFFERENT["visual"], True)
    assert torch.equal(shown, maps[1]) and not torch.equal(shown, maps[0])


# --- equations 8 and 9: fusion ---------------------------------------------------------------------------------


@EACH_VARIANT
def test_equations_8_and_9_cascade_the_last_states_and_reduce_them(options: dict[str, Any]) -> None:
    model = build(**options)
    states: list[Tensor] = []
    reduced: list[Tensor] = []
    for gru in model.gru.values():
        gru.register_forward_hook(lambda _, args, out: states.append(out))
    model.fuse.register_forward_hook(lambda _, args, out: reduced.append(out))
    logits = model(features(), DIFFERENT).logits
    concat = torch.cat(states, -1)  # (8)
    assert len(states) == (6 if options.get("gru") == "per_pair" else 3)
    expected = torch.einsum("de,be->bd", model.fuse.weight, concat) + model.fuse.bias  # (9)
    torch.testing.assert_close(reduced[0], expected)
    refined = model.residual(expected, [model.feed])  # the fourth block of Fig. 1
    torch.testing.assert_close(logits, torch.einsum("od,bd->bo", model.head.weight, refined) + model.head.bias)


def test_the_whole_bilinear_model_equals_the_paper_in_einsum() -> None:
    model = build(attention="bilinear", gru_cell="paper", gru_layers=1, residual="post_ln")
    x: Tensors = {}
    for m, v in features().items():
        fc, conv = model.refine[m][0], model.conv[m]
        v = (torch.einsum("ed,btd->bte", fc.weight, v) + fc.bias).clamp(min=0)
        x[m] = torch.einsum("edk,btd->bte", conv.weight, v) + conv.bias
    states = []
    for target, others in [("text", "audio visual"), ("audio", "text visual"), ("visual", "text audio")]:
        found = []
        for source in others.split():
            e = torch.einsum("btd,de,bse->bts", x[target], model.attend[f"{source}->{target}"].w, x[source])
            e = e.exp() * DIFFERENT[source][:, None, :]
            found.append(torch.einsum("bts,bsd->btd", e / e.sum(-1, keepdim=True).clamp(min=1e-30), x[source]))
        sequence, gru, h = torch.cat(found, -1), model.gru[target], torch.zeros(3, 8)
        for t in range(LENGTHS[target]):
            step = paper_step(sequence[:, t], h, gru.w_x[0].weight, gru.w_h[0].weight, gru.w_hs[0].weight)
            h = torch.where(DIFFERENT[target][:, t, None], step, h)
        states.append(h)
    h = torch.einsum("de,be->bd", model.fuse.weight, torch.cat(states, -1)) + model.fuse.bias
    h = norm(h + model.feed(h), model.residual.norms[0])
    expected = torch.einsum("od,bd->bo", model.head.weight, h) + model.head.bias
    torch.testing.assert_close(model(features(), DIFFERENT).logits, expected)
