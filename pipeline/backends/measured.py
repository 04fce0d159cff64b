"""What was measured of a network on this machine, remembered in the home by processor, network and versions."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import get_num_threads, nn

from pipeline.cache import keys
from pipeline.cache.atomic import where_writable
from pipeline.cache.home import Home
from pipeline.cache.memo import Memo

MEMORY = "backends.sqlite"
"""The file of a cache in which measurements are remembered."""
FASTER = 1.05
"""How many times as fast a backend has to be for a network to change to it; less may be an error of timing."""

_CPUINFO = Path("/proc/cpuinfo")
_LIBRARIES = ("torch", "openvino")


@dataclass(frozen=True)
class Measured:
    """A network on torch and on OpenVINO, with the same inputs.

    torch_s, openvino_s: seconds of processors for one pass. load_s: seconds until OpenVINO was ready and its values
    were compared. difference: the largest between the two, relative to the larger of 1 and the value. why: what
    kept OpenVINO from running; "" if nothing did. tolerance: the largest difference that the network's stage
    allows. network, machine: their names, for people.
    """

    torch_s: float = 0.0
    openvino_s: float = 0.0
    load_s: float = 0.0
    difference: float = 0.0
    why: str = ""
    tolerance: float = 1e-4
    network: str = ""
    machine: str = ""

    @property
    def agrees(self) -> bool:
        """True if OpenVINO ran and gave values within the tolerance."""
        return not self.why and self.difference <= self.tolerance

    @property
    def pays(self) -> bool:
        """True if OpenVINO gave equal values, and was faster by enough."""
        return self.agrees and self.openvino_s * FASTER < self.torch_s


def key_of(module: nn.Module) -> str:
    """What a measurement is remembered by: the machine, the network's layers and their shapes, and versions."""
    form = [(name, list(value.shape)) for name, value in module.state_dict().items()]
    kinds = [type(part).__name__ for part in module.modules()]
    machine = [processor(), os.cpu_count(), get_num_threads()]
    versions = [keys.library_version(name) for name in _LIBRARIES]
    return keys.digest("backend", machine, versions, kinds, form)


def processor() -> str:
    """The name of the processor's model."""
    return _cpuinfo("model name") or platform.processor()


def cpu_flags() -> frozenset[str]:
    """The extensions of the processor's instructions, by the kernel's names; none where the kernel names none."""
    return frozenset(_cpuinfo("flags").split())


def _cpuinfo(field: str) -> str:
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def remembered(key: str) -> Measured | None:
    """What was measured before; None if nothing was, or if the note is damaged."""
    return _read(_memo().get([key]).get(key))


def remember(key: str, measured: Measured) -> None:
    """Notes a measurement in place of an earlier one; a home that is not writable is left as it is."""
    with where_writable():
        _memo().put({key: json.dumps(asdict(measured))})


def agreed(key: str, measured: Measured) -> Measured:
    """Notes a measurement unless there is one, and returns the one that is noted then: the seconds by which all
    workers choose, with what this process found of the values. One that does not agree replaces the note."""
    first: Measured | None = None
    if measured.agrees:
        with where_writable():
            first = _read(_memo().add({key: json.dumps(asdict(measured))})[key])
    else:
        remember(key, measured)
    return replace(measured, torch_s=first.torch_s, openvino_s=first.openvino_s) if first else measured


def every_one() -> list[Measured]:
    """All that is remembered, by the names of networks."""
    notes = filter(None, map(_read, _memo().all().values()))
    return sorted(notes, key=lambda note: (note.network, note.machine))


def _read(note: str | None) -> Measured | None:
    try:
        return Measured(**json.loads(note or ""))
    except (ValueError, TypeError):
        return None


def _memo() -> Memo:
    return Memo(Home().cache / MEMORY)
