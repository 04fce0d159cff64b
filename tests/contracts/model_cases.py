"""What the contract tests of models build each model on: small modalities, ragged masks; its defaults, if not large.

Shapes: B = 5 rows, L = 4 steps of every modality (one model mixes steps, so all have the same), D features.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.corpus.recipe_training import model_class
from pipeline.model import MODALITIES, Batch, DialogueModel, Input, Model, Prediction, Solved, Turns
from pipeline.plugins import names
from pipeline.stage import Target
from pipeline.train.model_file import build as build_model

MODELS = names("models")
EACH = pytest.mark.parametrize("name", MODELS)
TRAINED = [name for name in MODELS if not issubclass(model_class(name), Solved)]
EACH_TRAINED = pytest.mark.parametrize("name", TRAINED)
DIALOGUE_MODELS = [name for name in MODELS if issubclass(model_class(name), DialogueModel)]
EACH_DIALOGUE_MODEL = pytest.mark.parametrize("name", DIALOGUE_MODELS)
SETS = [chosen for size in (1, 2, 3) for chosen in combinations(MODALITIES, size)]
EACH_SET = pytest.mark.parametrize("modalities", SETS, ids="+".join)
DIMS = {"text": 5, "audio": 6, "visual": 7}
B, L, OUTPUTS = 5, 4, 3
CLASSES, NUMBER = Target("multiclass", ("a", "b", "c")), Target("regression", ())
SMALL: dict[str, dict[str, int]] = {
    "ada_ign": {"context_hidden": 10, "hidden": 12, "layers": 4},
    "cfn_esa": {"width": 16, "layers": 2, "shift_hidden": 8},
    "dialogue_rnn": {"global_hidden": 10, "party_hidden": 12, "emotion_hidden": 8, "hidden": 14},
    "hjcag": {"d_model": 32, "visual_dim": 16},
    "mult": {"layers": 2, "memory_layers": 2},
    "multi_emo": {"width": 16, "inner": 20, "layers": 2},
    "rmfn": {"text_hidden": 16, "audio_hidden": 8, "visual_hidden": 12, "fused": 16},
    "sdt": {"hidden": 16},
    "tfn": {"text_hidden": 16, "text_out": 8, "audio_hidden": 8, "visual_hidden": 16, "fused": 16},
}
Tensors = dict[str, Tensor]


def build(name: str, modalities: tuple[str, ...] = MODALITIES, seed: int = 0, outputs: int = OUTPUTS) -> Model:
    """The model under `config`, its standardiser set as training sets it, and solved if that is how it learns."""
    torch.manual_seed(seed)
    model = build_model(name, config(name), inputs(modalities), outputs)
    for modality in modalities:
        model.standardise.set(modality, torch.full((DIMS[modality],), 0.5), torch.full((DIMS[modality],), 2.0))
    if isinstance(model, Solved):
        model.solve(*(batches(modalities, outputs, part) for part in (2, 3)), NUMBER if outputs == 1 else CLASSES)
    return model.eval()


def config(name: str) -> Any:
    """The defaults of a model, with those of `SMALL` where they would take long."""
    return model_class(name).Config(**SMALL.get(name, {}))


def batches(modalities: tuple[str, ...], outputs: int, seed: int) -> list[Batch]:
    """Four batches of random rows, among them every class of `CLASSES`."""
    labels = torch.arange(B) % outputs if outputs > 1 else torch.linspace(-1, 1, B)
    return [Batch(torch.arange(B), features(modalities, seed + 10 * i), masks(modalities), labels) for i in range(4)]


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


def predict(model: Model, values: Tensors, masks: Tensors, turns: Turns | None = None) -> Prediction:
    """What the model gives; one that reads dialogues finds all rows in those of `talk`, unless others are given."""
    rows = torch.arange(len(next(iter(values.values()))))
    return model.predict(Batch(rows, values, masks, rows, talk(len(rows)) if turns is None else turns))


def deciding(model: Model) -> tuple[str, ...]:
    """The modalities that the logits of a model depend on."""
    return tuple(model.inputs)[:1] if model.first_decides else tuple(model.inputs)


def talk(count: int = B) -> Turns:
    """Two dialogues of two speakers, three rows in the first and at most two in the second, out of order."""
    turns = torch.tensor([[2, 0, 1], [3, 4, -1]]) if count > 3 else torch.arange(count).unsqueeze(0)
    return Turns(turns, torch.tensor([1, 0, 0, 0, 1])[:count])


def monologues(count: int = B) -> Turns:
    """A dialogue of one turn for each row."""
    return Turns(torch.arange(count).unsqueeze(1), torch.zeros(count, dtype=torch.int64))


def picked(tensors: Tensors, rows: Any) -> Tensors:
    return {modality: x[rows] for modality, x in tensors.items()}


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
