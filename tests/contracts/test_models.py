"""Rules that every model keeps, whatever its architecture. They run over all files of `models/`, with its defaults.

Shapes: B = 5 rows, L = 4 steps of every modality (one model mixes steps, so all have the same), D features.
"""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor

from pipeline.corpus.recipe_training import TrainConfig, model_class, resolve, split
from pipeline.errors import InputError
from pipeline.model import MODALITIES, Input, Prediction, Standardiser
from pipeline.objective import Objective, targets
from pipeline.plugins import names
from pipeline.reader import Label
from pipeline.stage import Target
from pipeline.train.model_file import build as build_model
from pipeline.train.model_file import load_model, save_model

MODELS = names("models")
EACH = pytest.mark.parametrize("name", MODELS)
SETS = [chosen for size in (1, 2, 3) for chosen in combinations(MODALITIES, size)]
EACH_SET = pytest.mark.parametrize("modalities", SETS, ids="+".join)
DIMS = {"text": 5, "audio": 6, "visual": 7}
B, L, OUTPUTS = 5, 4, 3
Tensors = dict[str, Tensor]
TARGETS: list[tuple[Target, Label]] = [
    (Target("multiclass", ("a", "b", "c")), 1),
    (Target("multilabel", ("a", "b")), (0, 1)),
    (Target("regression", ()), -1.5),
    (Target("regression", ("valence", "arousal", "dominance")), (1.0, 2.5, 4.0)),
]


def build(name: str, modalities: tuple[str, ...] = MODALITIES, seed: int = 0, outputs: int = OUTPUTS) -> Any:
    """The model with its defaults, its standardiser set as training sets it."""
    torch.manual_seed(seed)
    model = build_model(name, model_class(name).Config(), inputs(modalities), outputs)
    standardiser = next(part for part in model.modules() if isinstance(part, Standardiser))
    for modality in modalities:
        standardiser.set(modality, torch.full((DIMS[modality],), 0.5), torch.full((DIMS[modality],), 2.0))
    return model.eval()


def inputs(modalities: tuple[str, ...]) -> dict[str, Input]:
    return {modality: Input(DIMS[modality], L) for modality in modalities}


def features(modalities: tuple[str, ...] = MODALITIES, seed: int = 1) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    values = {modality: torch.randn(B, L, DIMS[modality], generator=generator) for modality in MODALITIES}
    return {modality: values[modality] for modality in modalities}


def masks(modalities: tuple[str, ...] = MODALITIES, missing: str = "") -> Tensors:
    """Ragged masks, at least one step valid in every row; of `missing` none in every other row."""
    steps = torch.arange(L)
    ragged = {m: steps < 1 + (torch.arange(B).unsqueeze(1) + i) % L for i, m in enumerate(MODALITIES)}
    if missing:
        ragged[missing] = ragged[missing] & (torch.arange(B) % 2 == 0).unsqueeze(1)
    return {modality: ragged[modality] for modality in modalities}


def picked(tensors: Tensors, rows: Any) -> Tensors:
    return {modality: x[rows] for modality, x in tensors.items()}


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


# --- what it says of itself ------------------------------------------------------------------------------------


@EACH
def test_a_model_names_its_features_and_its_settings(name: str) -> None:
    kind = model_class(name)
    assert isinstance(kind.features, str) and kind.features
    config, settings = resolve(kind, {}, {})
    assert config == kind.Config() and isinstance(settings, TrainConfig)
    assert json.loads(json.dumps(dict(kind.training))) == dict(kind.training)
    assert kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}(")


@EACH
def test_a_configuration_is_frozen_has_defaults_and_can_be_written_as_json(name: str) -> None:
    config = model_class(name).Config()
    assert type(config)(**json.loads(json.dumps(dataclasses.asdict(config), allow_nan=False))) == config
    for field in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, None)


@EACH
def test_a_configuration_refuses_what_is_not_a_choice(name: str) -> None:
    kind = model_class(name).Config
    for field, hint in get_type_hints(kind).items():
        if get_origin(hint) is Literal:
            assert all(kind(**{field: choice}) for choice in get_args(hint))
            with pytest.raises(ValueError, match=field):
                kind(**{field: "nonsense"})


@EACH
def test_a_configuration_refuses_sizes_below_one_and_dropouts_that_are_no_share(name: str) -> None:
    kind = model_class(name).Config
    for field, hint in get_type_hints(kind).items():
        for impossible in (0, -1) if hint in (int, int | None) else (-0.1, 1.0, math.nan) if hint is float else ():
            with pytest.raises(ValueError, match=field):
                kind(**{field: impossible})


@EACH
def test_everything_impossible_in_the_settings_is_one_input_error_before_a_model_is_built(name: str) -> None:
    kind = model_class(name)
    hints = get_type_hints(kind.Config)
    impossible: dict[str, Any] = {field: 0 for field, hint in hints.items() if hint in (int, int | None)}
    impossible |= {field: 1.5 for field, hint in hints.items() if hint is float}
    with pytest.raises(InputError) as caught:
        resolve(kind, impossible, {"epochs": 0})
    told = [line.split()[1] for line in str(caught.value).splitlines() if not line.startswith(f"{name}.")]
    assert told == [field for field in hints if field in impossible] and f"{name}.epochs: " in str(caught.value)


@EACH
def test_a_setting_is_of_the_model_or_of_the_loop_and_never_of_both(name: str) -> None:
    kind = model_class(name)
    of_model = {field.name for field in dataclasses.fields(kind.Config)}
    assert not of_model & set(TrainConfig.model_fields)
    assert split(kind, {**dict.fromkeys(of_model, 1), **kind.training}) == (dict.fromkeys(of_model, 1), kind.training)


@EACH
@EACH_SET
def test_reductions_are_parts_of_the_model_by_modality(name: str, modalities: tuple[str, ...]) -> None:
    model = build(name, modalities)
    parts = {id(part) for part in model.modules()}
    values = features(modalities)
    for modality, reduction in model.reductions().items():
        assert modality in modalities and id(reduction) in parts
        assert reduction(values[modality]).shape[:2] == (B, L)


@EACH
def test_there_is_one_standardiser_and_its_statistics_are_saved_with_the_weights(name: str) -> None:
    model = build(name)
    assert sum(isinstance(part, Standardiser) for part in model.modules()) == 1
    assert {f"mean_{m}" for m in MODALITIES} <= {key.rpartition(".")[2] for key in model.state_dict()}


@EACH
def test_unknown_modalities_and_none_at_all_are_refused(name: str) -> None:
    kind = model_class(name)
    for wrong in ({}, {"smell": Input(3, L)}, {"text": Input(5, L), "smell": Input(3, L)}):
        with pytest.raises(ValueError, match="modalities must be"):
            kind(kind.Config(), wrong, OUTPUTS)


# --- what it computes ------------------------------------------------------------------------------------------


@EACH
@EACH_SET
@pytest.mark.parametrize("outputs", [1, OUTPUTS])
def test_one_two_or_three_modalities_give_a_prediction(name: str, modalities: tuple[str, ...], outputs: int) -> None:
    model = build(name, modalities, outputs=outputs)
    found = model(features(modalities), masks(modalities))
    assert isinstance(found, Prediction)
    assert found.logits.shape == (B, outputs) and found.logits.dtype == torch.float32 and found.logits.isfinite().all()
    if found.gates is not None:
        assert found.gates.keys() == set(modalities)
        close(torch.stack(list(found.gates.values())).sum(0), torch.ones(B))
    for pair, weights in (found.attention or {}).items():
        assert set(pair.split("->")) <= set(modalities) and weights.shape == (B, L, L)
    assert not any(x.requires_grad for part in (found.gates, found.attention) for x in (part or {}).values())


@EACH
def test_a_seed_decides_the_weights_and_what_is_dropped(name: str) -> None:
    one, two, other = build(name), build(name), build(name, seed=1)
    close(one(features(), masks()).logits, two(features(), masks()).logits)
    assert not torch.allclose(one(features(), masks()).logits, other(features(), masks()).logits)
    dropped = []
    for model in (one.train(), two.train()):
        torch.manual_seed(7)
        dropped.append(model(features(), masks()).logits)
    assert torch.equal(*dropped)


@EACH
def test_the_order_of_modalities_does_not_matter(name: str) -> None:
    torch.manual_seed(0)
    backwards = build(name, tuple(reversed(MODALITIES)))
    values, steps = features(), masks()
    turned = [dict(reversed(part.items())) for part in (values, steps)]
    assert torch.equal(backwards(*turned).logits, build(name)(values, steps).logits)


@EACH
@EACH_SET
def test_a_row_is_the_same_alone_and_among_others(name: str, modalities: tuple[str, ...]) -> None:
    model, values, steps = build(name, modalities), features(modalities), masks(modalities)
    together = model(values, steps).logits
    for row in range(B):
        close(model(picked(values, [row]), picked(steps, [row])).logits, together[[row]])
    order = torch.tensor([3, 0, 4, 1, 2])
    close(model(picked(values, order), picked(steps, order)).logits, together[order])


@EACH
def test_what_invalid_steps_hold_changes_nothing(name: str) -> None:
    model, steps = build(name), masks(missing="audio")
    expected = model(features(), steps).logits
    for junk in (1e6, torch.nan, torch.inf):
        spoiled = {m: x.masked_fill(~steps[m].unsqueeze(-1), junk) for m, x in features().items()}
        close(model(spoiled, steps).logits, expected)


@EACH
def test_valid_steps_change_something(name: str) -> None:
    model, steps = build(name), masks()
    before = model(features(), steps).logits
    for modality in MODALITIES:
        values = features()
        values[modality] = values[modality].flip(0) * 2
        assert not torch.allclose(model(values, steps).logits, before, rtol=1e-4, atol=1e-5)


@EACH
@pytest.mark.parametrize("missing", MODALITIES)
def test_a_wholly_missing_modality_gives_a_finite_loss_and_no_gradient(name: str, missing: str) -> None:
    model, steps = build(name).train(), masks(missing=missing)
    junk = {m: x.masked_fill(~steps[m].unsqueeze(-1), torch.nan) for m, x in features().items()}
    values = {m: x.requires_grad_() for m, x in junk.items()}
    model(values, steps).logits.square().sum().backward()
    for modality, x in values.items():
        assert x.grad is not None and x.grad.isfinite().all()
        assert not x.grad[~steps[modality]].any()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@EACH
def test_a_row_with_nothing_valid_is_finite_and_spoils_no_other(name: str) -> None:
    model, steps = build(name), masks()
    expected = model(features(), steps).logits
    nothing = {m: mask & (torch.arange(B) != 2).unsqueeze(1) for m, mask in steps.items()}
    found = model(features(), nothing).logits
    others = [0, 1, 3, 4]
    assert found.isfinite().all()
    close(found[others], expected[others])


@EACH
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_broadcast_vector_is_the_same_as_the_vector_at_every_step(name: str, modality: str) -> None:
    model, values, steps = build(name), features(), masks()
    values[modality], steps[modality] = values[modality][:, :1], torch.arange(B).unsqueeze(1) % 2 == 0
    once = model(values, steps).logits
    values[modality], steps[modality] = values[modality].expand(-1, L, -1), steps[modality].expand(-1, L)
    close(once, model(values, steps).logits)


@EACH
def test_every_parameter_learns(name: str) -> None:
    model = build(name).train()
    complete = {m: torch.ones(B, L, dtype=torch.bool) for m in MODALITIES}
    for seed in range(4):
        model(features(seed=seed), complete).logits.square().sum().backward()
    still = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@EACH
@pytest.mark.parametrize(("target", "label"), TARGETS, ids=lambda each: getattr(each, "task", ""))
def test_the_loss_of_every_kind_of_target_is_finite_and_reaches_the_logits(
    name: str, target: Target, label: Label
) -> None:
    model = build(name, outputs=target.outputs).train()
    logits = model(features(), masks()).logits
    logits.retain_grad()
    loss = Objective(target)(logits, targets([label] * B, target))
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.any(dim=0).all()


# --- on disk ---------------------------------------------------------------------------------------------------


@EACH
@EACH_SET
def test_a_model_comes_back_from_disk_as_it_was(name: str, modalities: tuple[str, ...], tmp_path: Path) -> None:
    model = build(name, modalities)
    save_model(tmp_path, model, name, inputs(modalities), OUTPUTS, {"seed": 0})
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "model.json"}
    loaded = load_model(tmp_path)
    assert type(loaded) is type(model) and loaded.config == model.config and not loaded.training
    assert torch.equal(
        loaded(features(modalities), masks(modalities)).logits, model(features(modalities), masks(modalities)).logits
    )
    assert loaded.state_dict().keys() == model.state_dict().keys()
