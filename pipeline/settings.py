"""What a training run may be told: the settings of the loop and of the model, checked together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import nn

from pipeline.errors import InputError, closest
from pipeline.plugins import find, name_of

Values = Mapping[str, Any]


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


def split(model: type[Any], section: Values) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sorts a recipe's `[train.<model>]` into overrides of the model's configuration and of the training loop.

    Raises InputError with all unknown names, each with the closest known one.
    """
    of_model = {field.name for field in fields(model.Config)}
    config = {name: value for name, value in section.items() if name in of_model}
    training = {name: value for name, value in section.items() if name not in of_model}
    known = [*of_model, *TrainConfig.model_fields]
    _raise([_unknown(model, name, known) for name in training if name not in TrainConfig.model_fields])
    return config, training


def resolve(model: type[Any], config: Values, training: Values) -> tuple[Any, TrainConfig]:
    """The model's configuration and the loop's, with overrides. Raises InputError with all that is wrong at once."""
    of_model = [field.name for field in fields(model.Config)]
    errors = [_unknown(model, name, of_model) for name in config if name not in of_model]
    errors += [
        _unknown(model, name, TrainConfig.model_fields) for name in training if name not in TrainConfig.model_fields
    ]
    built = _checked(model, model.Config, {n: v for n, v in config.items() if n in of_model}, errors)
    known = {n: v for n, v in training.items() if n in TrainConfig.model_fields}
    settings = _checked(model, TrainConfig, {**model.training, **known}, errors)
    _raise(errors)
    return built, settings


def _checked(model: type[Any], kind: Any, values: Values, errors: list[str]) -> Any:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join([name_of(model), *map(str, problem["loc"])])
            errors += [f"{name}: {line}" for line in problem["msg"].removeprefix("Value error, ").splitlines()]


def _unknown(model: type[Any], name: str, known: Any) -> str:
    return f"{name_of(model)}.{name}: no such setting: {closest(name, known)}"


def _raise(errors: list[str]) -> None:
    if errors:
        raise InputError("\n".join(errors))
