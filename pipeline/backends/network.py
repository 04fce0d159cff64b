"""A network that changes to the fastest equal backend of this machine once it has worked long enough for that to pay.

Torch computes first. After `TRIAL_S` seconds of work the network is compiled by OpenVINO, compared with what torch
made of the last inputs, and timed; it changes if all values agree and OpenVINO is faster. So a short run pays for
no compiler. What was measured first is remembered in the home, and every process goes by it: those that come later
change as soon as they have worked for as long as OpenVINO takes to be ready, if the values agree there too, or
never try. So two workers that time a network at once choose the same. AFFECTORY_BACKEND names one backend instead.

No key holds the backend, because values of both are equal within the stage's tolerance, as values of two machines are.
"""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from dataclasses import replace

import torch
from torch import Tensor, nn

from pipeline.backends.compiled import Forward, available
from pipeline.backends.measured import Measured, agreed, key_of, processor, remembered
from pipeline.backends.spent import count
from pipeline.backends.trial import Sample, tried
from pipeline.cache import keys
from pipeline.errors import InputError

log = logging.getLogger(__name__)

SETTING = "AFFECTORY_BACKEND"
"""The environment variable that names the backend: auto, torch or openvino. It is in no key."""
BACKENDS = ("auto", "torch", "openvino")
TRIAL_S = 30.0
"""How many seconds a network works on torch before OpenVINO is tried, if nothing is known of it."""
SAMPLES = 4
"""How many batches of different shapes the two backends are compared on, the last ones that the network was given."""


class Network:
    """A network in evaluation mode with one output, whose first dimension is the batch, as is that of each input.

    tolerance: the largest difference between two backends, relative to the larger of 1 and the value. A network on a
    GPU, or in another precision than float32, stays with torch. Raises InputError if `SETTING` names no backend, or one
    that is not here.
    """

    def __init__(self, module: nn.Module, tolerance: float = 1e-4) -> None:
        self.module, self.tolerance = module.eval(), tolerance
        self._by_torch: Forward = module
        self._wanted = _wanted()
        self._settled = self._wanted == "torch" or not _may_change(module)
        self._wait_s = 0.0 if self._wanted == "openvino" else None
        self._worked_s = 0.0
        self._samples: OrderedDict[tuple[torch.Size, ...], Sample] = OrderedDict()
        self._compiled: Forward | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The output of the network. Raises InputError if a backend that `SETTING` names can't take the network."""
        if self._compiled is not None and (output := self._by_openvino(self._compiled, inputs)) is not None:
            return output
        began, used_s = time.perf_counter(), time.process_time()
        output = self._by_torch(*inputs)
        if output.is_cuda:  # the call returns before the GPU is done
            torch.cuda.synchronize(output.device)
        took_s, used_s = time.perf_counter() - began, time.process_time() - used_s
        count("torch", len(inputs[0]), took_s)
        if not self._settled:
            self._worked_s += took_s
            self._consider(Sample(inputs, output.clone(), used_s))
        return output

    def _by_openvino(self, compiled: Forward, inputs: tuple[Tensor, ...]) -> Tensor | None:
        """The output; None if OpenVINO fails, after which torch computes."""
        began = time.perf_counter()
        try:
            output = compiled(*inputs)
        except RuntimeError as error:
            log.warning("%s goes back to torch: %s", type(self.module).__name__, error)
            self._compiled = None
            return None
        count(f"openvino {keys.library_version('openvino')}", len(inputs[0]), time.perf_counter() - began)
        return output

    def _consider(self, sample: Sample) -> None:
        """Tries OpenVINO once torch has worked for long enough."""
        self._keep(sample)
        if self._wait_s is None:
            self._wait_s = self._remembered_wait_s()
        if self._settled or self._worked_s < self._wait_s:
            return
        self._settled = True
        key, name = key_of(self.module), type(self.module).__name__
        compiled, found = tried(self.module, list(self._samples.values()), remembered(key))
        self._samples.clear()
        measured = agreed(key, replace(found, tolerance=self.tolerance, network=name, machine=processor()))
        if self._accepts(measured):
            self._compiled = compiled
        log.info("%s computes by %s: %s", name, "OpenVINO" if self._compiled else "torch", measured)

    def _keep(self, sample: Sample) -> None:
        shapes = tuple(tensor.shape for tensor in sample.inputs)
        before = self._samples.pop(shapes, sample)
        self._samples[shapes] = sample._replace(torch_s=min(sample.torch_s, before.torch_s))
        while len(self._samples) > SAMPLES:
            self._samples.popitem(last=False)

    def _remembered_wait_s(self) -> float:
        """As long as OpenVINO takes to be ready. A network that is known to be no faster with it stays with torch."""
        measured = remembered(key_of(self.module))
        if measured is None:
            return TRIAL_S
        self._settled = not replace(measured, tolerance=self.tolerance).pays
        return measured.load_s

    def _accepts(self, measured: Measured) -> bool:
        if self._wanted != "openvino":
            return measured.pays
        if not measured.agrees:
            why = measured.why or f"values differ by {measured.difference:.2g}, above {self.tolerance:g}"
            raise InputError(f"{SETTING} is openvino, which can't take {type(self.module).__name__}: {why}")
        return True


def _wanted() -> str:
    name = os.environ.get(SETTING) or "auto"
    if name not in BACKENDS:
        raise InputError(f"{SETTING} is {name!r}, expected one of {', '.join(BACKENDS)}")
    if name == "openvino" and not available():
        raise InputError(f"{SETTING} is openvino, which is not installed or not made for this processor")
    return name


def _may_change(module: nn.Module) -> bool:
    first = next(module.parameters(), None)
    return first is not None and first.device.type == "cpu" and first.dtype == torch.float32 and available()
