"""A trained model on disk: `model.safetensors` beside `model.json`, from which it can be built again. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from safetensors import torch as tensors
from torch import nn

from pipeline.cache.atomic import publish, replacing
from pipeline.corpus.recipe_training import model_class
from pipeline.errors import InputError
from pipeline.model import Input, Model

WEIGHTS, CARD = "model.safetensors", "model.json"


def build(name: str, config: Any, inputs: Mapping[str, Input], outputs: int) -> Model:
    """A fresh model. Raises InputError if its configuration and its inputs contradict each other."""
    try:
        return model_class(name)(config, inputs, outputs)
    except ValueError as error:
        raise InputError(f"model {name}: {error}") from error


def save_model(directory: Path, model: Model, name: str, about: Mapping[str, Any]) -> None:
    """Writes the weights, with the standardiser's statistics, then the card from which the model is built again.

    about: whatever else a reader of `model.json` should know.
    """
    save_weights(model, directory / WEIGHTS)
    card = {
        "model": name,
        "features": model.features,
        "config": asdict(model.config),
        "inputs": {modality: asdict(given) for modality, given in model.inputs.items()},
        "outputs": model.outputs,
        **about,
    }
    publish(directory / CARD, json.dumps(card, indent=1))


def load_model(directory: Path) -> Model:
    """The model of a run, ready to predict. Raises InputError if there is none or its weights do not fit."""
    try:
        card = json.loads((directory / CARD).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{directory} holds no trained model: {error}") from error
    kind = model_class(card["model"])
    config: Any = TypeAdapter[Any](kind.Config).validate_python(card["config"])
    inputs = {modality: Input(**given) for modality, given in card["inputs"].items()}
    model = build(card["model"], config, inputs, card["outputs"])
    load_weights(model, directory / WEIGHTS)
    return model.eval()


def save_weights(model: nn.Module, path: Path) -> None:
    """Writes all parameters and buffers; the file appears complete or not at all."""
    with replacing(path) as partial:
        tensors.save_model(model, str(partial))


def load_weights(model: nn.Module, path: Path) -> None:
    """Fills a model from a file of `save_weights`. Raises InputError if names or shapes differ."""
    try:
        tensors.load_model(model, path)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path} does not fit {type(model).__name__}: {error}") from error
