"""HJCAG reads valid steps alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from models.hjcag import HJCAGConfig
from tests.models.hjcag_cases import DIFFERENT, DIMS, VALID, L, Tensors, build, close, features, spoiled

BOOLEANS = st.lists(st.lists(st.booleans(), min_size=L, max_size=L), min_size=9, max_size=9)


def masks_from(rows: list[list[bool]]) -> Tensors:
    return dict(zip(DIMS, torch.tensor(rows).view(3, 3, L), strict=True))


@given(BOOLEANS, st.sampled_from([float("nan"), float("inf"), -1e30, 7.0]), st.sampled_from(["unified", "native"]))
@settings(max_examples=40, deadline=None)
def test_what_stands_at_invalid_steps_never_matters(rows: list[list[bool]], junk: float, space: str) -> None:
    model, masks = build(HJCAGConfig(d_model=4, visual_dim=3, space=space)), masks_from(rows)  # type: ignore[arg-type]
    clean = model(features(), masks).logits
    assert clean.isfinite().all()
    torch.testing.assert_close(model(spoiled(features(), masks, junk), masks).logits, clean, rtol=0, atol=0)


@given(BOOLEANS, st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_padding_equals_a_model_of_the_shorter_length_with_the_corner_of_the_same_weights(
    rows: list[list[bool]], padding: int
) -> None:
    short, masks = build(), masks_from(rows)
    long = build(length=L + padding)
    corner = dict(short.state_dict())
    for name, weights in long.state_dict().items():
        if ".w_c." in name or ".w_h." in name:
            weights = weights.clone()
            weights[:L, :L] = corner[name]
            corner[name] = weights
    long.load_state_dict(corner)
    values = {m: functional.pad(x, (0, 0, 0, padding), value=3.0) for m, x in features().items()}
    padded = {m: functional.pad(mask, (0, padding), value=False) for m, mask in masks.items()}
    expected, actual = short(features(), masks), long(values, padded)
    torch.testing.assert_close(actual.logits, expected.logits, rtol=1e-4, atol=1e-5)
    close(actual.gates or {}, expected.gates or {})


def test_without_masks_padding_counts_as_content_but_garbage_still_does_not() -> None:
    model = build(HJCAGConfig(d_model=4, visual_dim=3, mask="none"))
    plain, masked = model(features(), VALID).logits, model(features(), DIFFERENT).logits
    assert not torch.allclose(plain, masked)
    zeros = spoiled(features(), DIFFERENT, 0.0)
    torch.testing.assert_close(masked, model(zeros, VALID).logits)
    torch.testing.assert_close(masked, model(spoiled(features(), DIFFERENT, float("nan")), DIFFERENT).logits)


@pytest.mark.parametrize("missing", DIMS)
def test_a_missing_modality_gives_a_finite_loss_no_gate_and_no_gradient_to_its_features(missing: str) -> None:
    model = build()
    masks = {m: mask & (m != missing) for m, mask in VALID.items()}
    values = {m: x.requires_grad_() for m, x in spoiled(features(), masks, float("nan")).items()}
    prediction = model(values, masks)
    functional.cross_entropy(prediction.logits, torch.tensor([0, 1, 2])).backward()
    assert prediction.gates is not None and prediction.gates[missing].eq(0).all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    for m, x in values.items():
        assert x.grad is not None and x.grad.isfinite().all()
        assert x.grad.eq(0).all() == (m == missing)


def test_a_row_with_nothing_valid_has_finite_logits_and_leaves_the_others_alone() -> None:
    model = build()
    masks = {m: mask & torch.tensor([[True], [False], [True]]) for m, mask in VALID.items()}
    logits = model(features(), masks).logits
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[[0, 2]], model(features(), VALID).logits[[0, 2]])


def test_a_row_is_scored_alike_alone_and_in_a_batch() -> None:
    model = build()
    together = model(features(), DIFFERENT).logits
    for row in range(3):
        one = slice(row, row + 1)
        alone = model({m: x[one] for m, x in features().items()}, {m: x[one] for m, x in DIFFERENT.items()}).logits
        torch.testing.assert_close(alone, together[one])


@pytest.mark.parametrize("mask_steps", [1, L])
def test_a_broadcast_modality_equals_the_same_vector_repeated(mask_steps: int) -> None:
    model, values = build(), features()
    once = {**values, "audio": values["audio"][:, :1]}
    repeated = {**values, "audio": values["audio"][:, :1].repeat(1, L, 1)}
    masks = {**DIFFERENT, "audio": torch.tensor([[True], [True], [False]])}
    full = {**masks, "audio": masks["audio"].repeat(1, L)}
    given_masks = {**masks, "audio": full["audio"][:, :mask_steps]}
    torch.testing.assert_close(model(once, given_masks).logits, model(repeated, full).logits)
