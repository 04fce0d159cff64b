"""What every model declares, keeps and refuses: rules for each file of `models/`."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch

from pipeline.corpus.recipe_training import TrainConfig, all_settings, model_class, resolve, split
from pipeline.errors import InputError
from pipeline.model import MODALITIES, Input, Model, Standardiser
from pipeline.plugins import names
from pipeline.train.model_file import load_model, save_model
from tests.contracts.model_cases import EACH, EACH_SET, OUTPUTS, B, L, build, config, features, inputs, masks, predict


@EACH
def test_a_model_names_its_features_and_its_settings(name: str) -> None:
    kind = model_class(name)
    assert isinstance(kind.features, str) and kind.features
    config, settings = resolve(kind, {}, {})
    assert config == kind.Config() and isinstance(settings, TrainConfig)
    assert json.loads(json.dumps(dict(kind.train_defaults))) == dict(kind.train_defaults)
    assert kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}(")


@EACH
def test_each_ablation_is_a_setting_of_the_model_that_makes_it_another(name: str) -> None:
    kind = model_class(name)
    for ablation, changes in kind.ablations.items():
        assert all_settings(kind, changes) != all_settings(kind, {}), ablation
    assert len({str(changes) for changes in kind.ablations.values()}) == len(kind.ablations)


@EACH
def test_a_paper_claims_scores_of_corpora_that_have_a_reader(name: str) -> None:
    assert set(model_class(name).claimed) <= set(names("manifests"))


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
        whole, share = hint in (int, int | None), field.endswith("dropout")
        for impossible in (0, -1) if whole else (-0.1, 1.0, math.nan) if share else ():
            with pytest.raises(ValueError, match=field):
                kind(**{field: impossible})


@EACH
def test_everything_impossible_in_the_settings_is_one_input_error_before_a_model_is_built(name: str) -> None:
    kind = model_class(name)
    hints = get_type_hints(kind.Config)
    impossible: dict[str, Any] = {field: 0 for field, hint in hints.items() if hint in (int, int | None)}
    impossible |= {field: 1.5 for field in hints if field.endswith("dropout")}
    with pytest.raises(InputError) as caught:
        resolve(kind, impossible, {"epochs": 0})
    told = [line.split()[1] for line in str(caught.value).splitlines() if not line.startswith(f"{name}.")]
    assert told == [field for field in hints if field in impossible] and f"{name}.epochs: " in str(caught.value)


@EACH
def test_a_setting_is_of_the_model_or_of_the_loop_and_never_of_both(name: str) -> None:
    kind = model_class(name)
    of_model = {field.name for field in dataclasses.fields(kind.Config)}
    assert not of_model & set(TrainConfig.model_fields)
    assert split(kind, {**dict.fromkeys(of_model, 1), **kind.train_defaults}) == (
        dict.fromkeys(of_model, 1),
        kind.train_defaults,
    )


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
def test_a_model_that_is_pretrained_by_default_has_something_to_pretrain(name: str) -> None:
    assert build(name).reductions() or not model_class(name).train_defaults["unimodal_pretrain"]


@EACH
def test_a_model_keeps_what_it_is_built_from_and_its_modalities_in_one_order(name: str) -> None:
    given = config(name)
    model = model_class(name)(given, inputs(tuple(reversed(MODALITIES))), OUTPUTS)
    assert isinstance(model, Model) and model.config is given and model.outputs == OUTPUTS
    assert list(model.inputs.items()) == list(inputs(MODALITIES).items())


@EACH
def test_there_is_one_standardiser_and_its_statistics_are_saved_with_the_weights(name: str) -> None:
    model = build(name)
    assert sum(isinstance(part, Standardiser) for part in model.modules()) == 1
    assert {f"standardise.mean_{m}" for m in MODALITIES} <= model.state_dict().keys()


@EACH
def test_unknown_modalities_and_none_at_all_are_refused(name: str) -> None:
    kind = model_class(name)
    for wrong in ({}, {"smell": Input(3, L)}, {"text": Input(5, L), "smell": Input(3, L)}):
        with pytest.raises(ValueError, match="modalities must be"):
            kind(kind.Config(), wrong, OUTPUTS)


@EACH
@EACH_SET
def test_a_model_comes_back_from_disk_as_it_was(name: str, modalities: tuple[str, ...], tmp_path: Path) -> None:
    model = build(name, modalities)
    save_model(tmp_path, model, name, {"seed": 0})
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "model.json"}
    loaded = load_model(tmp_path)
    assert type(loaded) is type(model) and loaded.config == model.config and not loaded.training
    assert torch.equal(
        predict(loaded, features(modalities), masks(modalities)).logits,
        predict(model, features(modalities), masks(modalities)).logits,
    )
    assert loaded.state_dict().keys() == model.state_dict().keys()
