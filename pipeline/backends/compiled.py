"""Networks of torch compiled by OpenVINO for the processor here, in float32."""

from __future__ import annotations

import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor, nn

Forward = Callable[..., Tensor]
"""Takes the inputs of a network and returns its one output."""

_PLACE = "CPU"
_PICTURES = 4  # the least number of dimensions of a batch of pictures
_TELEMETRY = "openvino_telemetry"


def available() -> bool:
    """True on an x86-64 processor with OpenVINO installed."""
    return platform.machine() in ("x86_64", "AMD64") and find_spec("openvino") is not None


def compiled(module: nn.Module, example: Sequence[Tensor]) -> Forward:
    """The network as a function of inputs of any batch and length, on as many threads as torch uses.

    It is traced with `example`, so what the network's own code decides by values is decided once. Raises whatever torch
    or OpenVINO raises for a network that it can't take.
    """
    openvino = _openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    frontend = FrontEndManager().load_by_framework("pytorch")
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # the samples that are compared afterwards show whether the trace holds
        inputs = tuple(tensor.clone() for tensor in example)  # a trace takes no tensor made in inference mode
        decoder = TorchScriptPythonDecoder(module, example_input=inputs, trace_kwargs={"check_trace": False})
        read = frontend.convert(frontend.load(decoder))
    read.reshape({i: openvino.PartialShape(_open_shape(tensor)) for i, tensor in enumerate(inputs)})
    model = openvino.Core().compile_model(read, _PLACE, _settings())

    def forward(*tensors: Tensor) -> Tensor:
        outputs = model([tensor.contiguous().numpy() for tensor in tensors])
        return torch.from_numpy(outputs[0])

    return forward


def _open_shape(tensor: Tensor) -> list[int]:
    """The shape of an input, with -1 for what may vary: of pictures the batch alone, of sequences the length too."""
    return [-1, *tensor.shape[1:]] if tensor.ndim >= _PICTURES else [-1] * tensor.ndim


def _settings() -> dict[str, object]:
    """Float32 whatever the processor has; one stream, since a worker computes one batch at a time.

    No thread is pinned to a core: each process would choose the same cores, and all workers would share one.
    """
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }


def _openvino() -> ModuleType:
    """OpenVINO without the package by which it tells its maker of each use."""
    before = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if before is None:
            del sys.modules[_TELEMETRY]
        else:
            sys.modules[_TELEMETRY] = before
    found: ModuleType = openvino
    return found
