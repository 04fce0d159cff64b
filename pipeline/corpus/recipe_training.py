"""The settings of a training run: those of the loop and those of the model, checked together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.errors import InputError, closest
from pipeline.model import Model, Solved
from pipeline.plugins import find, name_of

Values = Mapping[str, Any]
Problem = tuple[tuple[str, ...], str]
"""The place in a table of settings, and what is wrong there."""


OF_SOLVED = ("batch_size", "normalize", "modalities")
"""The settings of the loop that a model reads whose weights are solved for."""


class TrainConfig(BaseModel):
    """Settings of the training loop. For a setting without a default, the model's `train_defaults` has a value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    """L2 penalty, added to the gradient as Adam does."""
    decay_factor: float = Field(gt=0)
    decay_every: int = Field(ge=0)
    """Epochs between two decays of the learning rate; 0 for no decay."""
    clip_norm: float = Field(ge=0)
    """Largest norm of the gradient; 0 for no clipping."""
    unimodal_pretrain: bool | Literal["frozen"]
    """Whether the reductions of each modality are first trained alone, and then stay as they are if "frozen" (X8)."""
    patience: int = Field(10, ge=0)
    """Epochs without a lower validation loss after which training stops; 0 to never stop early."""
    min_epochs: int = Field(1, ge=1)
    class_weights: bool = False
    """Whether the loss weighs each class by its inverse frequency in train."""
    normalize: Literal["train", "speaker", "none"] = "train"
    """Features are standardised by the train rows, by all rows of each speaker (which is transductive), or not at all
    (X1)."""
    modalities: tuple[Literal["text", "audio", "visual"], ...] = ()
    """The modalities that the model reads; all that its feature set has, if none is named."""
    modality_dropout: float = Field(0.0, ge=0, lt=1)
    """The probability with which a modality of a train row is hidden in a step; never all that the row has."""
    group_lengths: bool = False
    """Whether the rows of a batch are of like length, so that few steps of it are padding."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products in a training step; validation and prediction are in float32."""
    deterministic: bool = False
    """Whether torch may use only algorithms that give the same on each run; a GPU is slower then."""
    pretrain_epochs: int = Field(30, ge=1)
    pretrain_learning_rate: float = Field(1e-3, gt=0)

    def pretraining(self) -> TrainConfig:
        """The settings of one modality's pretraining: epochs and a learning rate of its own, without decay."""
        own = {"epochs": self.pretrain_epochs, "learning_rate": self.pretrain_learning_rate, "decay_every": 0}
        return self.model_copy(update=own)


def model_class(name: str) -> type[Model]:
    """The model in `models/<name>.py`. Raises InputError, with the closest name, if there is none."""
    return find("models", name, Model)  # type: ignore[type-abstract]


def problems(name: str, section: Values) -> list[Problem]:
    """Every problem of a recipe's `[train.<name>]`."""
    model = model_class(name)
    config, training = _parts(model, section)
    known = {key: value for key, value in training.items() if key in TrainConfig.model_fields}
    return [*_unknown(training, TrainConfig.model_fields, _names(model)), *_resolved(model, config, known)[2]]


def split(model: type[Model], section: Values) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits a recipe's `[train.<model>]` into overrides of the model's configuration and of the training loop.

    Raises InputError with all unknown names, each with the closest known one.
    """
    config, training = _parts(model, section)
    _refuse(model, _unknown(training, TrainConfig.model_fields, _names(model)))
    return config, training


def resolve(model: type[Model], config: Values, training: Values) -> tuple[Any, TrainConfig]:
    """The model's configuration and the loop's settings, with overrides. Raises one InputError with every problem."""
    configured, settings, wrong = _resolved(model, config, training)
    _refuse(model, wrong)
    return configured, settings


def all_settings(model: type[Model], section: Values) -> dict[str, Any]:
    """Every setting of the model and of the training loop under a recipe's `[train.<model>]`, as JSON has them."""
    config, training = resolve(model, *split(model, section))
    return {**asdict(config), **training.model_dump(mode="json")}


def _parts(model: type[Model], section: Values) -> tuple[dict[str, Any], dict[str, Any]]:
    names = _names(model)
    return ({n: v for n, v in section.items() if n in names}, {n: v for n, v in section.items() if n not in names})


def _names(model: type[Model]) -> list[str]:
    """The fields of a model's configuration."""
    return [field.name for field in fields(model.Config)]


def _resolved(model: type[Model], config: Values, training: Values) -> tuple[Any, Any, list[Problem]]:
    """The model's configuration and the loop's settings (None for one that is wrong), and every problem."""
    unknown = [*_unknown(config, _names(model)), *_unknown(training, TrainConfig.model_fields)]
    configured, wrong = _validated(model.Config, {n: v for n, v in config.items() if n in _names(model)})
    known = {n: v for n, v in training.items() if n in TrainConfig.model_fields}
    settings, refused = _validated(TrainConfig, {**model.train_defaults, **known})
    return configured, settings, [*unknown, *wrong, *refused, *_unread(model, known)]


def _unread(model: type[Model], training: Values) -> list[Problem]:
    """A problem for each setting of the training loop that a model does not read, since it is not trained by epochs."""
    unread = [name for name in training if issubclass(model, Solved) and name not in OF_SOLVED]
    return [((name,), "this model is solved for at once, and reads no such setting") for name in unread]


def _validated(kind: Any, values: Values) -> tuple[Any, list[Problem]]:
    """An instance of `kind` and no problems, or None and every problem of the values."""
    try:
        return TypeAdapter(kind).validate_python(values), []
    except ValidationError as error:
        return None, [problem for details in error.errors() for problem in _problems(details)]


def _problems(details: Mapping[str, Any]) -> list[Problem]:
    """A problem for each line of one of pydantic's errors."""
    where = tuple(map(str, details["loc"]))
    return [(where, line) for line in details["msg"].removeprefix("Value error, ").splitlines()]


def _unknown(section: Values, known: Iterable[str], others: Iterable[str] = ()) -> list[Problem]:
    """A problem for each name that is neither `known` nor among `others`, which another table may hold."""
    names = [*known, *others]
    return [((name,), f"no such setting: {closest(name, names)}") for name in section if name not in names]


def _refuse(model: type[Model], wrong: Sequence[Problem]) -> None:
    if wrong:
        raise InputError("\n".join(f"{'.'.join([name_of(model), *where])}: {message}" for where, message in wrong))
