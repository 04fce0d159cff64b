"""What the tests of MulG build it on: three small modalities with lengths of their own, masks, every variant."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.mulg import MulG, MulGConfig
from pipeline.model import Input

DIMS = {"text": 5, "audio": 6, "visual": 7}
LENGTHS = {"text": 3, "audio": 5, "visual": 4}
VALID = {m: torch.ones(3, n).bool() for m, n in LENGTHS.items()}
DIFFERENT = {
    "text": torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool(),
    "audio": torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 1, 0, 1, 0]]).bool(),
    "visual": torch.tensor([[0, 1, 0, 1], [1, 1, 1, 0], [1, 0, 1, 1]]).bool(),
}
SMALL: dict[str, Any] = {"width": 6, "hidden": 8, "heads": 2}
Tensors = dict[str, Tensor]


def build(modalities: str = "text audio visual", outputs: int = 2, longer: int = 0, **options: Any) -> Any:
    torch.manual_seed(0)
    inputs = {m: Input(DIMS[m], LENGTHS[m] + longer) for m in modalities.split()}
    return MulG(MulGConfig(**{**SMALL, **options}), inputs, outputs).eval()


def features(seed: int = 1) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(3, LENGTHS[m], d, generator=generator) for m, d in DIMS.items()}


def spoiled(values: Tensors, masks: Tensors, with_: float) -> Tensors:
    return {m: x.masked_fill(~masks[m].unsqueeze(-1), with_) for m, x in values.items()}


VARIANTS: list[dict[str, Any]] = [
    {},
    {"residual": "post_ln", "gru": "per_pair"},
    {"residual": "residual", "gru_cell": "paper"},
    {"attention": "bilinear"},
    {"attention": "bilinear", "gru": "per_pair", "gru_cell": "paper"},
    {"pairs": "self"},
    {"pairs": "none", "gru_layers": 1},
]
EACH_VARIANT = pytest.mark.parametrize("options", VARIANTS, ids=lambda o: " ".join(map(str, o.values())) or "default")
