"""Compiles a network by OpenVINO, and measures the result beside torch on inputs that the network was given."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import psutil
import torch
from torch import Tensor, nn

from pipeline.backends.compiled import Forward, compiled
from pipeline.backends.measured import Measured

TURNS = 3
"""How many times each backend is timed; the least counts."""
COPIES = 3
"""How many times the size of the weights has to be free in memory: the trace, the model and its packed weights."""

Inputs = tuple[Tensor, ...]


def tried(
    module: nn.Module, samples: Sequence[Inputs], known: Measured | None = None
) -> tuple[Forward | None, Measured]:
    """The network compiled, or None if that fails, and how it compares with torch. The last sample is timed.

    known: an earlier measurement, whose seconds are taken over; the values are compared all the same.
    """
    needed = COPIES * sum(value.nbytes for value in module.state_dict().values())
    if psutil.virtual_memory().available < needed:
        return None, Measured(why=f"too little memory is free: {needed} bytes are needed")
    began = time.perf_counter()
    try:
        forward = compiled(module, samples[-1])
        load_s = time.perf_counter() - began
        difference = max(_difference(module(*inputs), forward(*inputs)) for inputs in samples)
    except Exception as error:  # tracing runs the network's own code, and compilers raise anything
        return None, Measured(why=f"{type(error).__name__}: {error}")
    torch_s, openvino_s = (known.torch_s, known.openvino_s) if known else _timed((module, forward), samples[-1])
    return forward, Measured(torch_s, openvino_s, load_s, difference)


def _timed(ways: Sequence[Forward], inputs: Inputs) -> tuple[float, float]:
    """The least seconds of processors of each of two ways, which take turns."""
    turns = [[_seconds(way, inputs) for way in ways] for _ in range(TURNS)]
    first_s, second_s = map(min, zip(*turns, strict=True))
    return first_s, second_s


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the larger of 1 and the value; infinite for other shapes, and for a value
    that only one of the two has."""
    if ours.shape != theirs.shape:
        return float("inf")
    difference = ((theirs - ours).abs() / ours.abs().clamp(min=1)).nan_to_num(nan=torch.inf)
    difference[(ours == theirs) | (ours.isnan() & theirs.isnan())] = 0
    return float(difference.max()) if difference.numel() else 0.0


def _seconds(way: Callable[..., Tensor], inputs: Inputs) -> float:
    """Seconds of processors in this process, which other work on the machine moves less than those of a clock."""
    began = time.process_time()
    way(*inputs)
    return time.process_time() - began
