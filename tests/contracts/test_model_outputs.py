"""What every model computes, whatever its architecture: rules for each file of `models/`."""

from __future__ import annotations

import pytest
import torch

from pipeline.corpus.recipe_training import model_class
from pipeline.model import MODALITIES, Input, Prediction
from pipeline.objective import Objective, targets
from pipeline.reader import Label
from pipeline.stage import Target
from pipeline.train.model_file import build as build_model
from tests.contracts.model_cases import (
    DIMS,
    EACH,
    EACH_SET,
    EACH_TRAINED,
    NUMBER,
    OUTPUTS,
    B,
    L,
    build,
    close,
    config,
    deciding,
    features,
    masks,
    monologues,
    picked,
    predict,
)

TARGETS: list[tuple[Target, Label]] = [
    (Target("multiclass", ("a", "b", "c")), 1),
    (Target("multilabel", ("a", "b")), (0, 1)),
    (Target("regression", ()), -1.5),
    (Target("regression", ("valence", "arousal", "dominance")), (1.0, 2.5, 4.0)),
]


@EACH
@EACH_SET
@pytest.mark.parametrize("outputs", [1, OUTPUTS])
def test_one_two_or_three_modalities_give_a_prediction(name: str, modalities: tuple[str, ...], outputs: int) -> None:
    model = build(name, modalities, outputs=outputs)
    model.maps = True
    prediction = predict(model, features(modalities), masks(modalities))
    assert isinstance(prediction, Prediction)
    assert (
        prediction.logits.shape == (B, outputs)
        and prediction.logits.dtype == torch.float32
        and prediction.logits.isfinite().all()
    )
    if prediction.gates is not None:
        assert prediction.gates.keys() == set(modalities)
        close(torch.stack(list(prediction.gates.values())).sum(0), torch.ones(B))
    for pair, weights in (prediction.attention or {}).items():
        assert set(pair.split("->")) <= set(modalities) and weights.shape == (B, L, L)
    assert not any(x.requires_grad for part in (prediction.gates, prediction.attention) for x in (part or {}).values())


@EACH
def test_attention_is_given_only_if_it_is_asked_for_and_changes_no_logit(name: str) -> None:
    model = build(name)
    without = predict(model, features(), masks())
    model.maps = True
    assert without.attention is None
    close(without.logits, predict(model, features(), masks()).logits)


@EACH_TRAINED
def test_a_seed_decides_the_weights_and_what_is_dropped(name: str) -> None:
    one, two, other = build(name), build(name), build(name, seed=1)
    close(predict(one, features(), masks()).logits, predict(two, features(), masks()).logits)
    assert not torch.allclose(predict(one, features(), masks()).logits, predict(other, features(), masks()).logits)
    dropped = []
    for model in (one.train(), two.train()):
        torch.manual_seed(7)
        dropped.append(predict(model, features(), masks()).logits)
    assert torch.equal(*dropped)


@EACH
def test_the_order_of_modalities_does_not_matter(name: str) -> None:
    torch.manual_seed(0)
    backwards = build(name, tuple(reversed(MODALITIES)))
    values, steps = features(), masks()
    turned = [dict(reversed(part.items())) for part in (values, steps)]
    assert torch.equal(predict(backwards, *turned).logits, predict(build(name), values, steps).logits)


@EACH
@EACH_SET
def test_steps_that_no_row_has_can_be_cut_off(name: str, modalities: tuple[str, ...]) -> None:
    if model_class(name).fixed_length:
        pytest.skip("its weights belong to steps")
    model, values = build(name, modalities), features(modalities)
    short = {m: mask & (torch.arange(L) < L - 1 - (m == "audio")) for m, mask in masks(modalities).items()}
    steps = {m: L - 1 - (m == "audio") for m in modalities}
    cut = [{m: x[:, : steps[m]] for m, x in part.items()} for part in (values, short)]
    close(predict(model, *cut).logits, predict(model, values, short).logits)


@EACH
@EACH_SET
def test_a_row_is_the_same_alone_and_among_others(name: str, modalities: tuple[str, ...]) -> None:
    model, values, steps = build(name, modalities), features(modalities), masks(modalities)
    together = predict(model, values, steps, monologues()).logits
    for row in range(B):
        close(predict(model, picked(values, [row]), picked(steps, [row]), monologues(1)).logits, together[[row]])
    order = torch.tensor([3, 0, 4, 1, 2])
    close(predict(model, picked(values, order), picked(steps, order), monologues()).logits, together[order])


@EACH
def test_what_invalid_steps_hold_changes_nothing(name: str) -> None:
    model, steps = build(name), masks(missing="audio")
    expected = predict(model, features(), steps).logits
    for junk in (1e6, torch.nan, torch.inf):
        spoiled = {m: x.masked_fill(~steps[m].unsqueeze(-1), junk) for m, x in features().items()}
        close(predict(model, spoiled, steps).logits, expected)


@EACH_TRAINED
def test_valid_steps_change_something(name: str) -> None:
    model, steps = build(name), masks()
    before = predict(model, features(), steps).logits
    for modality in MODALITIES:
        values = features()
        values[modality] = values[modality].flip(0) * 2
        same = torch.allclose(predict(model, values, steps).logits, before, rtol=1e-4, atol=1e-5)
        assert same == (modality not in deciding(model))


@EACH_TRAINED
@pytest.mark.parametrize("missing", MODALITIES)
def test_a_wholly_missing_modality_gives_a_finite_loss_and_no_gradient(name: str, missing: str) -> None:
    model, steps = build(name).train(), masks(missing=missing)
    junk = {m: x.masked_fill(~steps[m].unsqueeze(-1), torch.nan) for m, x in features().items()}
    values = {m: x.requires_grad_() for m, x in junk.items()}
    predict(model, values, steps).logits.square().sum().backward()
    for modality in deciding(model):
        grad = values[modality].grad
        assert grad is not None and grad.isfinite().all() and not grad[~steps[modality]].any()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@EACH
def test_a_row_with_nothing_valid_is_finite_and_spoils_no_other(name: str) -> None:
    model, steps = build(name), masks()
    expected = predict(model, features(), steps, monologues()).logits
    nothing = {m: mask & (torch.arange(B) != 2).unsqueeze(1) for m, mask in steps.items()}
    logits = predict(model, features(), nothing, monologues()).logits
    others = [0, 1, 3, 4]
    assert logits.isfinite().all()
    close(logits[others], expected[others])


@EACH
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_broadcast_vector_is_the_same_as_the_vector_at_every_step(name: str, modality: str) -> None:
    model, values, steps = build(name), features(), masks()
    values[modality], steps[modality] = values[modality][:, :1], torch.arange(B).unsqueeze(1) % 2 == 0
    once = predict(model, values, steps).logits
    values[modality], steps[modality] = values[modality].expand(-1, L, -1), steps[modality].expand(-1, L)
    close(once, predict(model, values, steps).logits)


@EACH_TRAINED
def test_every_parameter_learns(name: str) -> None:
    model, labels = build(name, outputs=1).train(), torch.linspace(-2, 3, B)
    complete = {m: torch.ones(B, L, dtype=torch.bool) for m in MODALITIES}
    model.begin(B, torch.arange(B), labels, NUMBER)
    for seed in range(4):
        prediction = predict(model, features(seed=seed), complete)
        model.loss(prediction, labels, torch.arange(B), lambda logits, _: logits.square().sum()).backward()
    still = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@EACH_TRAINED
@pytest.mark.parametrize(("target", "label"), TARGETS, ids=lambda each: getattr(each, "task", ""))
def test_the_loss_of_every_kind_of_target_is_finite_and_reaches_the_logits(
    name: str, target: Target, label: Label
) -> None:
    model = build(name, outputs=target.outputs).train()
    logits = predict(model, features(), masks()).logits
    logits.retain_grad()
    loss = Objective(target)(logits, targets([label] * B, target))
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.any(dim=0).all()


@EACH_TRAINED
def test_the_gradient_is_that_of_the_function(name: str) -> None:
    model, steps = build(name).double(), picked(masks(missing="audio"), slice(2))
    values = [x[:2].double().requires_grad_() for x in features().values()]

    def logits(*each: torch.Tensor) -> torch.Tensor:
        return predict(model, dict(zip(MODALITIES, each, strict=True)), steps).logits

    assert torch.autograd.gradcheck(logits, values, fast_mode=True)


@EACH_TRAINED
def test_one_row_of_one_step_is_learned_from(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, config(name), {m: Input(DIMS[m], 1) for m in MODALITIES}, 1).train()
    values, labels = {m: x[:1, :1] for m, x in features().items()}, torch.tensor([2.0])
    steps = {m: torch.ones(1, 1, dtype=torch.bool) for m in MODALITIES}
    model.begin(1, torch.tensor([0]), labels, NUMBER)
    prediction = predict(model, values, steps)
    model.loss(prediction, labels, torch.tensor([0]), Objective(NUMBER)).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients) and any(gradient.any() for gradient in gradients)
