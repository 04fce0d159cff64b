"""`affectory doctor --system`: what this machine has and lacks, before anything runs on it."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from pipeline.backends.measured import Measured, cpu_flags, every_one, processor
from pipeline.cache import keys
from pipeline.cache.atomic import writable
from pipeline.cache.home import Home
from pipeline.plugins import find, names
from pipeline.stage import Stage

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "AFFECTORY_BACKEND")
FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_tile")
"""What a processor may have that networks run faster by."""
HUB_S = 3.0
"""Seconds after which a hub that does not answer counts as out of reach."""


def system(home: Home) -> dict[str, Any]:
    """Facts by name, as JSON has them. Asks the hub for one answer; reads no corpus and writes nothing."""
    import psutil

    memory = psutil.virtual_memory()
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in FLAGS if flag in cpu_flags()],
        "variables": {name: os.environ[name] for name in THREADS if name in os.environ},
        "memory_bytes": {"total": memory.total, "available": memory.available},
        "gpus": list(_gpus()),
        "disks": {name: _disk(path) for name, path in _folders(home).items()},
        "hub": _hub(),
        "python": platform.python_version(),
        "libraries": {name: keys.library_version(name) for name in _libraries()},
        "networks": [asdict(note) | {"backend": _backend(note)} for note in every_one()],
    }


def system_table(found: dict[str, Any]) -> Table:
    """The answer of `system`, a fact a line."""
    shown = Table(title="This machine", show_header=False, box=None, padding=(0, 2, 0, 0))
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for name, text in _lines(found):
        shown.add_row(name, escape(text))
    return shown


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "processor", f"{found['processor']}, {found['cores']} cores for this process"
    yield "instructions", ", ".join(found["flags"]) or "none that networks run faster by"
    yield "variables", ", ".join(f"{name}={value}" for name, value in found["variables"].items()) or "none is set"
    total, free = (found["memory_bytes"][name] / 1e9 for name in ("total", "available"))
    yield "memory", f"{total:,.1f} GB, {free:,.1f} GB available"
    for gpu in found["gpus"] or [None]:
        yield (
            "GPU",
            f"{gpu['name']}, {gpu['bytes'] / 1e9:,.1f} GB, CUDA {gpu['cuda']}" if gpu else "none that torch finds",
        )
    for name, disk in found["disks"].items():
        access = "" if disk["writable"] else ", cannot be written"
        yield name, f"{disk['path']}: {disk['free_bytes'] / 1e9:,.1f} GB free{access}"
    hub = found["hub"]
    yield "hub", f"{hub['url']}: {hub['problem'] or 'reachable'}"
    yield "libraries", ", ".join(f"{name} {version}" for name, version in found["libraries"].items())
    for note in found["networks"]:
        yield "network", _chosen(note)


def _backend(note: Measured) -> str:
    return "openvino" if note.pays else "torch"


def _chosen(note: dict[str, Any]) -> str:
    """By what a network computes, and why."""
    if note["why"]:
        return f"{note['network']} by torch: {note['why']}"
    ratio = note["torch_s"] / max(note["openvino_s"], 1e-9)
    return (
        f"{note['network']} by {note['backend']}: OpenVINO is {ratio:.2f} times as fast, "
        f"and differs by {note['difference']:.1g} ({note['machine']})"
    )


def _gpus() -> Iterator[dict[str, Any]]:
    import torch

    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        yield {"name": about.name, "bytes": about.total_memory, "cuda": str(torch.version.cuda)}


def _folders(home: Home) -> dict[str, Path]:
    return {"home": home.root, "cache": home.cache, "temporary files": Path(tempfile.gettempdir())}


def _disk(path: Path) -> dict[str, Any]:
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    return {"path": str(path), "free_bytes": shutil.disk_usage(there).free, "writable": writable(path)}


def _hub() -> dict[str, str]:
    from huggingface_hub import constants, get_session
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    problem = ""
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_S)
    except (OSError, HTTPError) as error:
        problem = f"out of reach ({type(error).__name__}); weights come from local paths then"
    return {"url": constants.ENDPOINT, "problem": problem}


def _libraries() -> list[str]:
    used = {library for name in names("stages") for library in find("stages", name, Stage).libraries}  # type: ignore[type-abstract]
    return sorted(used)
