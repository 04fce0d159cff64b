"""EF-LSTM and LF-LSTM, held against LSTMs written out step by step."""

from __future__ import annotations

import pytest
import torch

from tests.models.baseline_cases import build, linear, lstm, masked
from tests.models.mulg_cases import DIFFERENT, DIMS, features


def test_lf_lstm_fuses_the_last_valid_states_of_one_lstm_for_each_modality() -> None:
    model, x = build("lf_lstm", hidden=3, layers=2), masked(features(), DIFFERENT)
    last = torch.cat([lstm(model.read[m].cell, x[m], DIFFERENT[m]) for m in ("text", "audio", "visual")], dim=1)
    expected = linear(model.head, linear(model.fuse, last).relu())
    torch.testing.assert_close(model(features(), DIFFERENT).logits, expected)


def test_ef_lstm_reads_the_steps_at_which_any_modality_is_valid_with_0_for_the_others() -> None:
    model = build("ef_lstm", equal=True, hidden=3, layers=2)
    masks = {m: torch.rand(3, 4) < 0.6 for m in DIMS}
    values = {m: torch.randn(3, 4, d) for m, d in DIMS.items()}
    x = masked(values, masks)
    beside = torch.cat([x["text"], x["audio"], x["visual"]], dim=-1)
    union = masks["text"] | masks["audio"] | masks["visual"]
    expected = linear(model.head, linear(model.fuse, lstm(model.read.cell, beside, union)).relu())
    torch.testing.assert_close(model(values, masks).logits, expected)


def test_ef_lstm_refuses_modalities_of_different_lengths_by_their_lengths() -> None:
    with pytest.raises(ValueError, match="same length.*'text': 3"):
        build("ef_lstm")
    build("ef_lstm", modalities="text")
