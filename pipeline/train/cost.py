"""What a trained model costs: parameters, floating-point operations, milliseconds an utterance."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.model import Batch, Model
from pipeline.train.model_file import load_model
from pipeline.train.train_fold import TrainRequest
from pipeline.views.dataset import Dataset
from pipeline.views.view import open_view

SIZES = (1, 64)
"""The batches that are timed, in utterances."""
TURNS = 5


def cost(request: TrainRequest) -> dict[str, Any]:
    """Of the model of a finished fold, on its test rows and on a CPU: {"parameters", "mflops", "ms"}.

    mflops: millions of floating-point operations for one utterance, as torch counts those of matrix products and
    convolutions. ms: batch size -> milliseconds an utterance, the median of five turns; a batch that the test rows do
    not fill repeats them. For a `DialogueModel` one utterance is a dialogue of one turn, and 64 have the dialogues of
    the first test rows.
    """
    model, view = load_model(request.run), open_view(request.ids, request.columns)
    dataset = Dataset(view, request.labels, request.target, dialogues=request.dialogue_rows)
    rows = view.rows(request.fold.test)
    batches = {size: dataset.gather(torch.from_numpy(rows).repeat(size)[:size]) for size in SIZES}
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.predict(batches[1])
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "mflops": counter.get_total_flops() / 1e6,
        "ms": {size: _ms(model, batch) / size for size, batch in batches.items()},
    }


def _ms(model: Model, batch: Batch) -> float:
    def once() -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            model.predict(batch)
        return (time.perf_counter() - began) * 1e3

    once()
    times: Sequence[float] = [once() for _ in range(TURNS)]
    return statistics.median(times)
