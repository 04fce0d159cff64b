"""TFN and LMF, held against outer products written out in einsum.

Letters of the einsums: b row, t a v channels of the three modalities with a 1 before them, o output, r rank.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.models.baseline_cases import build, linear, lstm, masked, mean
from tests.models.mulg_cases import DIFFERENT, features

SMALL: dict[str, Any] = {"text_hidden": 3, "text_out": 2, "audio_hidden": 3, "visual_hidden": 4}


def vectors(model: Any) -> list[Tensor]:
    """The vector of each modality, a 1 before it."""
    x = masked(features(), DIFFERENT)
    text = model.read["text"]
    found = [linear(text.layer[1], lstm(text.read.cell, x["text"], DIFFERENT["text"]))]
    for m in ("audio", "visual"):
        vector = mean(x[m], DIFFERENT[m])
        for layer in model.read[m].layers:
            vector = linear(layer, vector).relu() if isinstance(layer, nn.Linear) else vector
        found.append(vector)
    return [torch.cat([torch.ones(3, 1), vector], dim=1) for vector in found]


def test_tfn_fuses_the_outer_product_of_the_modalities_with_a_1_beside_each() -> None:
    model = build("tfn", fused=5, **SMALL)
    product = torch.einsum("bt,ba,bv->btav", *vectors(model)).flatten(1)  # (1 + 2) (1 + 3) (1 + 4) entries
    assert product.shape == (3, 60)
    fused = linear(model.fuse[2], linear(model.fuse[0], product).relu()).relu()
    torch.testing.assert_close(model(features(), DIFFERENT).logits, linear(model.head, fused))


def test_lmf_is_tensor_fusion_with_a_weight_tensor_of_low_rank() -> None:
    model = build("lmf", rank=3, **SMALL)
    nn.init.normal_(model.bias)
    w = torch.einsum("r,rto,rao,rvo->tavo", model.weights[0], *(model.factors[m] for m in ("text", "audio", "visual")))
    expected = torch.einsum("bt,ba,bv,tavo->bo", *vectors(model), w) + model.bias
    torch.testing.assert_close(model(features(), DIFFERENT).logits, expected)


def test_the_entries_of_a_single_modality_are_its_vector_with_a_1() -> None:
    model = build("tfn", modalities="audio", **SMALL)
    assert model.fuse[0].in_features == 1 + SMALL["audio_hidden"]
