"""What a training run may be told: the settings of the loop and of the model, checked together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import nn

from pipeline.errors import InputError, closest
from pipeline.plugins import find, name_of

Values = Mapping[str, Any]
Problem = tuple[tuple[str, ...], str]
"""Where in a table of settings, and what is wrong there."""


class TrainConfig(BaseModel):
    """Settings of the training loop; those without a default come from the model's `training`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    """L2, as Adam adds it to the gradient."""
    decay_factor: float = Field(gt=0)
    decay_every: int = Field(ge=0)
    """Epochs between two decays of the learning rate; 0 never decays."""
    clip_norm: float = Field(ge=0)
    """Largest norm of the gradient; 0 does not clip."""
    unimodal_pretrain: bool
    """Train the reductions of each modality alone first (X8)."""
    patience: int = Field(10, ge=0)
    """Epochs without a better validation loss before training stops; 0 never stops early."""
    min_epochs: int = Field(1, ge=1)
    class_weights: bool = False
    """Weigh the loss by the inverse frequency of the classes in train."""
    normalize: Literal["train", "speaker", "none"] = "train"
    """Standardise by the train rows, or by all rows of each speaker, which is transductive, or not at all (X1)."""
    pretrain_epochs: int = Field(30, ge=1)
    pretrain_learning_rate: float = Field(1e-3, gt=0)

    def pretraining(self) -> TrainConfig:
        """The settings of one modality's pretraining: its own epochs and learning rate, no decay of the latter."""
        own = {"epochs": self.pretrain_epochs, "learning_rate": self.pretrain_learning_rate, "decay_every": 0}
        return self.model_copy(update=own)


def model_class(name: str) -> type[Any]:
    """The model in `models/<name>.py`. Raises InputError with the closest name."""
    return find("models", name, nn.Module)


def problems(name: str, section: Values) -> list[Problem]:
    """All that is wrong with a recipe's `[train.<name>]`."""
    model = model_class(name)
    config, training = _parts(model, section)
    known = {key: value for key, value in training.items() if key in TrainConfig.model_fields}
    return [*_unknown(training, TrainConfig.model_fields, _names(model)), *_resolved(model, config, known)[2]]


def split(model: type[Any], section: Values) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sorts a recipe's `[train.<model>]` into overrides of the model's configuration and of the training loop.

    Raises InputError with all unknown names, each with the closest known one.
    """
    config, training = _parts(model, section)
    _raise(model, _unknown(training, TrainConfig.model_fields, _names(model)))
    return config, training


def resolve(model: type[Any], config: Values, training: Values) -> tuple[Any, TrainConfig]:
    """The model's configuration and the loop's, with overrides. Raises InputError with all that is wrong at once."""
    built, settings, found = _resolved(model, config, training)
    _raise(model, found)
    return built, settings


def _parts(model: type[Any], section: Values) -> tuple[dict[str, Any], dict[str, Any]]:
    names = _names(model)
    return ({n: v for n, v in section.items() if n in names}, {n: v for n, v in section.items() if n not in names})


def _names(model: type[Any]) -> list[str]:
    """The fields of a model's configuration."""
    return [field.name for field in fields(model.Config)]


def _resolved(model: type[Any], config: Values, training: Values) -> tuple[Any, Any, list[Problem]]:
    found = [*_unknown(config, _names(model)), *_unknown(training, TrainConfig.model_fields)]
    built = _checked(model.Config, {n: v for n, v in config.items() if n in _names(model)}, found)
    known = {n: v for n, v in training.items() if n in TrainConfig.model_fields}
    settings = _checked(TrainConfig, {**model.training, **known}, found)
    return built, settings, found


def _checked(kind: Any, values: Values, found: list[Problem]) -> Any:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        for problem in error.errors():
            where = tuple(map(str, problem["loc"]))
            found += [(where, line) for line in problem["msg"].removeprefix("Value error, ").splitlines()]


def _unknown(section: Values, known: Iterable[str], others: Iterable[str] = ()) -> list[Problem]:
    """others: names that are known too, elsewhere."""
    names = [*known, *others]
    return [((name,), f"no such setting: {closest(name, names)}") for name in section if name not in names]


def _raise(model: type[Any], found: Sequence[Problem]) -> None:
    if found:
        raise InputError("\n".join(f"{'.'.join([name_of(model), *where])}: {said}" for where, said in found))
