"""Compiles a network by OpenVINO, and measures it on inputs of which torch's outputs and seconds are known."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import psutil
import torch
from torch import Tensor, nn

from pipeline.backends.compiled import Forward, compiled
from pipeline.backends.measured import Measured

TURNS = 2
"""How many times OpenVINO is timed once it is warm; the least counts."""
COPIES = 3
"""How many times the size of the weights has to be free in memory: the trace, the model and its packed weights."""

Inputs = tuple[Tensor, ...]


class Sample(NamedTuple):
    """What torch made of a batch, and the least seconds of processors that it took for one of these shapes."""

    inputs: Inputs
    output: Tensor
    torch_s: float


def tried(
    module: nn.Module, samples: Sequence[Sample], known: Measured | None = None
) -> tuple[Forward | None, Measured]:
    """The network compiled, or None if that fails, and how it compares with torch. The last sample is timed.

    known: an earlier measurement, whose seconds are taken over; the values are compared all the same.
    """
    needed = COPIES * sum(value.nbytes for value in module.state_dict().values())
    if psutil.virtual_memory().available < needed:
        return None, Measured(why=f"too little memory is free: {needed} bytes are needed")
    began = time.perf_counter()
    try:
        forward = compiled(module, samples[-1].inputs)
        difference = max(_difference(sample.output, forward(*sample.inputs)) for sample in samples)
    except Exception as error:  # tracing runs the network's own code, and compilers raise anything
        return None, Measured(why=f"{type(error).__name__}: {error}")
    load_s = time.perf_counter() - began
    last = samples[-1]
    openvino_s = known.openvino_s if known else min(_seconds(forward, last.inputs) for _ in range(TURNS))
    return forward, Measured(known.torch_s if known else last.torch_s, openvino_s, load_s, difference)


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the larger of 1 and the value; infinite for other shapes, and for a value
    that only one of the two has."""
    if ours.shape != theirs.shape:
        return float("inf")
    difference = ((theirs - ours).abs() / ours.abs().clamp(min=1)).nan_to_num(nan=torch.inf)
    difference[(ours == theirs) | (ours.isnan() & theirs.isnan())] = 0
    return float(difference.max()) if difference.numel() else 0.0


def _seconds(forward: Forward, inputs: Inputs) -> float:
    """Seconds of processors in this process, which other work on the machine moves less than those of a clock."""
    began = time.process_time()
    forward(*inputs)
    return time.process_time() - began
