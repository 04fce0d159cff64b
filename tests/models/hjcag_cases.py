"""What the tests of HJCAG build it on: three small modalities of one length, and masks."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.hjcag import HJCAG, HJCAGConfig
from pipeline.model import Input

L = 4
DIMS = {"text": 5, "audio": 6, "visual": 7}
VALID = {m: torch.ones(3, L).bool() for m in DIMS}
DIFFERENT = {
    "text": torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]).bool(),
    "audio": torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]).bool(),
    "visual": torch.tensor([[0, 1, 0, 1], [1, 1, 1, 0], [1, 0, 1, 1]]).bool(),
}
Tensors = dict[str, Tensor]


def build(config: HJCAGConfig | None = None, modalities: str = "text audio visual", length: int = L) -> Any:
    torch.manual_seed(0)
    config = config or HJCAGConfig(d_model=4, visual_dim=3)
    model = HJCAG(config, {m: Input(DIMS[m], length) for m in modalities.split()}, outputs=6).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def features(length: int = L, rows: int = 3, seed: int = 1) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(rows, length, d, generator=generator) for m, d in DIMS.items()}


def spoiled(values: Tensors, masks: Tensors, with_: float) -> Tensors:
    return {m: x.masked_fill(~masks[m].unsqueeze(-1), with_) for m, x in values.items()}


def close(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-4, atol=1e-5)
