"""MulG reads valid steps alone, in every variant."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tests.models.mulg_cases import DIFFERENT, DIMS, EACH_VARIANT, LENGTHS, VALID, Tensors, build, features, spoiled

BOOLEANS = st.lists(st.booleans(), min_size=36, max_size=36)


def masks_from(flat: list[bool]) -> Tensors:
    parts = torch.split(torch.tensor(flat).view(3, 12), list(LENGTHS.values()), dim=1)
    return dict(zip(LENGTHS, parts, strict=True))


@EACH_VARIANT
@given(flat=BOOLEANS, junk=st.sampled_from([float("nan"), float("inf"), -1e30, 7.0]))
@settings(max_examples=8, deadline=None)
def test_what_stands_at_invalid_steps_never_matters(options: dict[str, Any], flat: list[bool], junk: float) -> None:
    model, masks = build(**options), masks_from(flat)
    clean = model(features(), masks).logits
    assert clean.isfinite().all()
    torch.testing.assert_close(model(spoiled(features(), masks, junk), masks).logits, clean, rtol=0, atol=0)


@EACH_VARIANT
@given(flat=BOOLEANS, padding=st.integers(1, 4))
@settings(max_examples=8, deadline=None)
def test_more_padding_at_the_end_changes_no_logit(options: dict[str, Any], flat: list[bool], padding: int) -> None:
    model, longer, masks = build(**options), build(longer=padding, **options), masks_from(flat)
    values = {m: functional.pad(x, (0, 0, 0, padding), value=3.0) for m, x in features().items()}
    padded = {m: functional.pad(mask, (0, padding), value=False) for m, mask in masks.items()}
    torch.testing.assert_close(longer(values, padded).logits, model(features(), masks).logits, rtol=1e-4, atol=1e-5)


@EACH_VARIANT
@pytest.mark.parametrize("missing", DIMS)
def test_a_missing_modality_gives_a_finite_loss_and_no_gradient_to_its_features(
    options: dict[str, Any], missing: str
) -> None:
    model = build(**options)
    masks = {m: mask & (m != missing) for m, mask in VALID.items()}
    values = {m: x.requires_grad_() for m, x in spoiled(features(), masks, float("nan")).items()}
    model(values, masks).logits.abs().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    for m, x in values.items():
        assert x.grad is not None and x.grad.isfinite().all()
        assert x.grad.eq(0).all() == (m == missing)


def test_the_state_of_a_missing_modality_is_zero() -> None:
    model = build()
    states: list[Tensor] = []
    model.gru["audio"].register_forward_hook(lambda _, args, out: states.append(out))
    model(features(), DIFFERENT)  # the second row has no audio
    assert states[0][1].eq(0).all() and states[0][0].ne(0).any()


@EACH_VARIANT
def test_a_row_with_nothing_valid_has_finite_logits_and_leaves_the_others_alone(options: dict[str, Any]) -> None:
    model = build(**options)
    masks = {m: mask & torch.tensor([[True], [False], [True]]) for m, mask in VALID.items()}
    logits = model(features(), masks).logits
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[[0, 2]], model(features(), VALID).logits[[0, 2]])


@EACH_VARIANT
def test_a_row_is_scored_alike_alone_and_in_a_batch(options: dict[str, Any]) -> None:
    model = build(**options)
    together = model(features(), DIFFERENT).logits
    for row in range(3):
        one = slice(row, row + 1)
        alone = model({m: x[one] for m, x in features().items()}, {m: x[one] for m, x in DIFFERENT.items()}).logits
        torch.testing.assert_close(alone, together[one])


@pytest.mark.parametrize("mask_steps", [1, LENGTHS["audio"]])
def test_a_broadcast_modality_equals_the_same_vector_repeated(mask_steps: int) -> None:
    model, values, steps = build(), features(), LENGTHS["audio"]
    once = {**values, "audio": values["audio"][:, :1]}
    repeated = {**values, "audio": values["audio"][:, :1].repeat(1, steps, 1)}
    full = {**DIFFERENT, "audio": torch.tensor([[True], [True], [False]]).repeat(1, steps)}
    given_masks = {**full, "audio": full["audio"][:, :mask_steps]}
    torch.testing.assert_close(model(once, given_masks).logits, model(repeated, full).logits)
