"""What the tests of models of conversations build them on: modalities and dialogues of the contract tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.corpus.recipe_training import model_class
from pipeline.model import MODALITIES
from tests.contracts.model_cases import OUTPUTS, features, inputs, masks

DIALOGUES = ([2, 0, 1], [3, 4])
"""The rows of the dialogues of `model_cases.talk`, in the order of their turns."""


def build(name: str, modalities: tuple[str, ...] = MODALITIES, **options: Any) -> Any:
    """A model of random weights, in evaluation, whose standardiser has no statistics."""
    torch.manual_seed(0)
    kind = model_class(name)
    return kind(kind.Config(**options), inputs(modalities), OUTPUTS).eval()


def vectors() -> dict[str, Tensor]:
    """The mean of each row's valid steps, [B, D] for each modality; of sound, which every other row lacks, 0 there."""
    steps = masks(missing="audio")
    count = {m: mask.sum(dim=1, keepdim=True).clamp(min=1) for m, mask in steps.items()}
    return {m: torch.einsum("btd,bt->bd", x, steps[m].float()) / count[m] for m, x in features().items()}


def linear(layer: Any, x: Tensor) -> Tensor:
    """A linear layer as an einsum: [..., d] -> [..., o]."""
    return torch.einsum("od,...d->...o", layer.weight, x) + (0 if layer.bias is None else layer.bias)
