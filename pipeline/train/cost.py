"""What a trained model costs: parameters, floating-point operations, milliseconds an utterance."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
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
    """Of the model of a finished fold, on its test rows and on a CPU: {"parameters", "mflops", "ms", "peak_mb"}.

    mflops: millions of floating-point operations for one utterance, as torch counts those of matrix products and
    convolutions. ms: batch size -> milliseconds an utterance, the median of five turns; a batch that the test rows do
    not fill repeats them. For a `DialogueModel` one utterance is a dialogue of one turn, and 64 have the dialogues of
    the first test rows. peak_mb: megabytes of the tensors that the larger batch needs at once, beside the weights and
    the batch itself.
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
        "peak_mb": _peak_bytes(model, batches[SIZES[-1]]) / 1e6,
    }


class _LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that operations make, and the most that there are at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._sizes: dict[int, int] = {}
        self.peak_bytes: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._note, made)
        return made

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if (key := storage._cdata) not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, sum(self._sizes.values()))
            weakref.finalize(storage, self._sizes.pop, key)


def _peak_bytes(model: Model, batch: Batch) -> int:
    live = _LiveTensors()
    with torch.inference_mode(), live:
        model.predict(batch)
    return live.peak_bytes


def _ms(model: Model, batch: Batch) -> float:
    def once() -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            model.predict(batch)
        return (time.perf_counter() - began) * 1e3

    once()
    times: Sequence[float] = [once() for _ in range(TURNS)]
    return statistics.median(times)
