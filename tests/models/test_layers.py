"""What the models share, held against small computations by hand."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models._layers import (
    FeedForward,
    MultiHeadAttention,
    Residual,
    check_settings,
    expand,
    masked_softmax,
    sinusoids,
)
from pipeline.model import Standardiser, masked_mean, zero_invalid

NAN, INF = float("nan"), float("inf")


def fitted(mean: list[float], std: list[float]) -> Standardiser:
    standardise = Standardiser({"audio": len(mean)})
    standardise.set("audio", torch.tensor(mean), torch.tensor(std))
    return standardise


def standardised(standardise: Standardiser, values: Tensor, mask: Tensor) -> Tensor:
    return standardise.forward({"audio": values}, {"audio": mask})["audio"]


# --- inputs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    colour: Literal["red", "blue"] = "red"
    size: int = 1
    narrowed: int | None = None
    drop_dropout: float = 0.0
    flag: bool = False


def test_a_value_outside_a_literal_is_refused_by_name() -> None:
    check_settings(Choice(size=7))
    with pytest.raises(ValueError, match="colour.*'green'"):
        check_settings(Choice(colour="green"))  # type: ignore[arg-type]


def test_every_setting_that_cannot_be_is_told_at_once_a_line_each() -> None:
    wrong = Choice("green", size=0, narrowed=-3, drop_dropout=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError) as caught:
        check_settings(wrong, "", "and two do not fit")
    assert [line.split()[0] for line in str(caught.value).splitlines()] == [
        *("colour", "size", "narrowed", "drop_dropout", "and"),
    ]


# --- the standardiser ------------------------------------------------------------------------------------------


def test_values_are_centred_and_divided_by_their_deviation() -> None:
    out = standardised(fitted([1.0, -2.0], [2.0, 0.5]), torch.tensor([[[3.0, -1.0]]]), torch.ones(1, 1).bool())
    torch.testing.assert_close(out, torch.tensor([[[1.0, 2.0]]]))


def test_a_constant_dimension_gives_zero_even_where_it_moves_later() -> None:
    standardise = fitted([6902.0, 0.0, 0.0], [1e-4, 0.0, 1.0])  # 1e-4 beside 6902 is float32's rounding
    out = standardised(standardise, torch.tensor([[[6903.0, 5.0, 5.0]]]), torch.ones(1, 1).bool())
    torch.testing.assert_close(out, torch.tensor([[[0.0, 0.0, 5.0]]]))


def test_standardised_values_stop_at_ten_deviations() -> None:
    out = standardised(fitted([0.0, 0.0], [1.0, 1.0]), torch.tensor([[[99.0, -INF]]]), torch.ones(1, 1).bool())
    torch.testing.assert_close(out, torch.tensor([[[10.0, -10.0]]]))


def test_without_statistics_values_pass_unchanged_and_unclipped() -> None:
    out = standardised(Standardiser({"audio": 1}), torch.tensor([[[6902.0], [NAN]]]), torch.tensor([[True, False]]))
    torch.testing.assert_close(out, torch.tensor([[[6902.0], [0.0]]]))


def test_invalid_steps_give_zero_and_take_no_gradient_whatever_they_hold() -> None:
    values = torch.tensor([[[1.0], [NAN], [INF], [-INF]]], requires_grad=True)
    out = standardised(fitted([3.0], [2.0]), values, torch.tensor([[True, False, False, False]]))
    out.sum().backward()
    torch.testing.assert_close(out.detach().flatten(), torch.tensor([-1.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(values.grad, torch.tensor([[[0.5], [0.0], [0.0], [0.0]]]))


def test_a_broadcast_vector_is_valid_if_any_of_its_steps_is() -> None:
    mask = torch.tensor([[False, True, False], [False, False, False]])
    out = standardised(fitted([0.0], [1.0]), torch.tensor([[[2.0]], [[NAN]]]), mask)
    torch.testing.assert_close(out, torch.tensor([[[2.0]], [[0.0]]]))


def test_half_precision_features_are_standardised_in_full_precision() -> None:
    out = standardised(fitted([1000.0], [0.25]), torch.full((1, 1, 1), 1001.0).half(), torch.ones(1, 1).bool())
    assert out.dtype == torch.float32 and out.item() == 4.0


@pytest.mark.parametrize(("given_dtype", "own"), [(torch.float64, torch.float32), (torch.float32, torch.bfloat16)])
def test_values_leave_the_standardiser_in_the_models_own_precision(given_dtype: torch.dtype, own: torch.dtype) -> None:
    standardise = fitted([1.0], [2.0]).to(own)
    assert standardised(standardise, torch.ones(1, 1, 1, dtype=given_dtype), torch.ones(1, 1).bool()).dtype == own


def test_statistics_travel_with_the_state_dict() -> None:
    copy = Standardiser({"audio": 2})
    copy.load_state_dict(fitted([1.0, 2.0], [3.0, 0.0]).state_dict())
    out = standardised(copy, torch.tensor([[[100.0, 9.0]]]), torch.ones(1, 1).bool())
    torch.testing.assert_close(out, torch.tensor([[[10.0, 0.0]]]))


@pytest.mark.parametrize(("mean", "std"), [([0.0], [1.0]), ([NAN, 0.0], [1.0, 1.0]), ([0.0, 0.0], [1.0, -1.0])])
def test_impossible_statistics_are_refused(mean: list[float], std: list[float]) -> None:
    with pytest.raises(ValueError, match="audio"):
        Standardiser({"audio": 2}).set("audio", torch.tensor(mean), torch.tensor(std))


def test_expanding_repeats_one_vector_over_the_steps_of_its_mask_or_over_the_length() -> None:
    x = torch.randn(2, 1, 3)
    values, mask = expand(x, torch.ones(2, 1).bool(), 4)
    torch.testing.assert_close(values, x.repeat(1, 4, 1))
    assert mask.shape == (2, 4)
    assert expand(x, torch.ones(2, 5).bool(), 4)[0].shape == (2, 5, 3)
    with pytest.raises(ValueError, match="2 steps with a mask of 5"):
        expand(x.repeat(1, 2, 1), torch.ones(2, 5).bool(), 5)


# --- masked reductions -----------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_a_masked_mean_is_the_mean_of_the_valid_steps_and_zero_over_none(rows: list[list[bool]], seed: int) -> None:
    mask, x = torch.tensor(rows), torch.randn(len(rows), 4, 2, generator=torch.Generator().manual_seed(seed))
    expected = torch.stack([row[m].mean(0) if m.any() else torch.zeros(2) for row, m in zip(x, mask, strict=True)])
    torch.testing.assert_close(masked_mean(x.masked_fill(~mask[..., None], NAN), mask), expected)


def test_a_masked_mean_of_a_broadcast_vector_is_the_vector() -> None:
    x, mask = torch.randn(2, 1, 3), torch.tensor([[True, False, True], [False] * 3])
    torch.testing.assert_close(masked_mean(x, mask), torch.stack([x[0, 0], torch.zeros(3)]))


@given(st.lists(st.booleans(), min_size=5, max_size=5), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_a_masked_softmax_is_the_softmax_of_the_valid_entries_alone(valid: list[bool], seed: int) -> None:
    mask, x = torch.tensor(valid), 5 * torch.randn(5, generator=torch.Generator().manual_seed(seed))
    expected = torch.zeros(5)
    expected[mask] = x[mask].exp() / x[mask].exp().sum()
    torch.testing.assert_close(masked_softmax(x, mask), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_softmax_over_nothing_is_zero_and_so_is_its_gradient(dtype: torch.dtype) -> None:
    scores = torch.randn(2, 3).to(dtype).requires_grad_()
    weights = masked_softmax(scores, torch.tensor([[False] * 3, [True, False, True]]))
    (weights * torch.arange(3)).sum().backward()
    assert weights[0].eq(0).all() and weights[1, 1] == 0 and scores.grad is not None
    assert scores.grad[0].eq(0).all() and scores.grad.isfinite().all() and scores.grad[1, 0] != 0


def test_zeroing_invalid_steps_covers_nan_and_infinity() -> None:
    x = torch.tensor([[[1.0], [NAN], [INF]]])
    torch.testing.assert_close(zero_invalid(x, torch.tensor([[True, False, False]])), torch.tensor([[[1.0], [0], [0]]]))


# --- attention and positions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [6, 5])
def test_positions_are_the_sines_then_the_cosines_of_geometric_rates(width: int) -> None:
    positions = sinusoids(4, width, like=torch.zeros(1))
    half = (width + 1) // 2
    for t in range(4):
        angles = [t * 10_000 ** (-k / (half - 1)) for k in range(half)]
        expected = [*map(math.sin, angles), *map(math.cos, angles)][:width]
        torch.testing.assert_close(positions[t], torch.tensor(expected))


def test_multi_head_attention_equals_an_einsum_over_its_heads() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(6, 2, dropout=0.0)
    target, source = torch.randn(2, 3, 6), torch.randn(2, 4, 6)
    valid = torch.tensor([[True, True, False, True], [True, False, False, False]])
    q, k, v = (
        torch.einsum("btd,hed->bhte", x, part.weight.view(2, 3, 6))
        for x, part in [(target, layer.query), (source, layer.key), (source, layer.value)]
    )
    e = torch.einsum("bhte,bhse->bhts", q, k) / math.sqrt(3)
    e = e.exp() * valid[:, None, None, :]
    alpha = e / e.sum(-1, keepdim=True)
    joined = torch.einsum("bhts,bhse->bthe", alpha, v).reshape(2, 3, 6)
    out, weights = layer(target, source, valid, maps=True)
    torch.testing.assert_close(out, torch.einsum("btd,ed->bte", joined, layer.out.weight))
    torch.testing.assert_close(weights, alpha.mean(1))


@pytest.mark.parametrize("valid", [(3, 4), (3, 5, 4)], ids=["by source", "by target and source"])
def test_fused_attention_equals_that_which_keeps_its_weights_also_in_the_gradient(valid: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(6, 2, dropout=0.0)
    target, source = torch.randn(3, 5, 6, requires_grad=True), torch.randn(3, 4, 6)
    seen = torch.rand(valid) < 0.6
    seen[0] = False  # nothing to attend to
    (fused, none), (plain, weights) = (layer(target, source, seen, maps=maps) for maps in (False, True))
    assert none is None and weights is not None
    torch.testing.assert_close(fused, plain, rtol=0, atol=1e-6)
    gradients = [torch.autograd.grad(out.square().sum(), [target, *layer.parameters()]) for out in (fused, plain)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_attention_over_nothing_is_zero() -> None:
    layer, nothing = MultiHeadAttention(4, 2, 0.0), torch.zeros(1, 2).bool()
    for maps in (True, False):
        out, weights = layer(torch.randn(1, 3, 4), torch.randn(1, 2, 4), nothing, maps)
        assert out.eq(0).all() and (weights is None or weights.eq(0).all())


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="3 heads"):
        MultiHeadAttention(4, 3, 0.0)


# --- the three residual connections ----------------------------------------------------------------------------


def normed(x: Tensor, norm: Any) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled: Tensor = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias
    return scaled


def chain(variant: Literal["pre_ln", "post_ln", "residual"]) -> tuple[Residual, Tensor]:
    torch.manual_seed(1)
    residual = Residual(variant, 4, 2)
    for parameter in residual.parameters():
        nn.init.normal_(parameter, mean=1.0)
    return residual, torch.randn(3, 4)


def test_post_ln_normalises_after_each_addition() -> None:
    residual, x = chain("post_ln")
    first = normed(x + x.square(), residual.norms[0])
    second = normed(first + first.sin(), residual.norms[1])
    torch.testing.assert_close(residual(x, [torch.square, torch.sin]), second)


def test_pre_ln_normalises_what_each_branch_reads_and_the_end() -> None:
    residual, x = chain("pre_ln")
    first = x + normed(x, residual.norms[0]).square()
    second = first + normed(first, residual.norms[1]).sin()
    torch.testing.assert_close(residual(x, [torch.square, torch.sin]), normed(second, residual.last))


def test_residual_adds_the_normalised_sum_of_all_branches_to_the_post_ln_stream() -> None:
    residual, x = chain("residual")
    first = normed(x + x.square(), residual.norms[0])
    second = normed(first + first.sin(), residual.norms[1])
    direct = x + x.square() + first.sin()
    torch.testing.assert_close(residual(x, [torch.square, torch.sin]), second + normed(direct, residual.last))


def test_a_residual_chain_refuses_another_number_of_branches() -> None:
    with pytest.raises(ValueError):
        Residual("pre_ln", 4, 2)(torch.randn(1, 4), [torch.sin])


def test_a_feed_forward_branch_is_two_affine_maps_around_a_rectifier() -> None:
    feed, x = FeedForward(3, 5, 0.5, 0.5).eval(), torch.randn(2, 3)
    w1, b1, w2, b2 = feed.parameters()
    inner = (torch.einsum("bd,id->bi", x, w1) + b1).clamp(min=0)
    torch.testing.assert_close(feed(x), torch.einsum("bi,di->bd", inner, w2) + b2)
