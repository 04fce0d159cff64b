"""Calls stages: loads each once in a process, runs batches here or in a child process, halves a batch that fails."""

from __future__ import annotations

import logging
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.cache import keys
from pipeline.cache.home import Home
from pipeline.cache.states import load_state
from pipeline.corpus.recipe import Node
from pipeline.errors import AffectoryError, InputError, lacks_memory, of_machine
from pipeline.media.child import Bound, Child
from pipeline.media.files import media_digests
from pipeline.reason import Reason, Unreadable
from pipeline.stage import Item, Spec, State, Track
from pipeline.written_path import written_path

log = logging.getLogger(__name__)

ALONE_S = 600.0
"""How long one utterance may take in a child process, loading the weights included."""

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")

LOADED = 4
"""How many stages a worker keeps loaded."""
_loaded: OrderedDict[str, tuple[Any, Spec]] = OrderedDict()

_DEATHS = (Reason.DECODER_CRASHED, Reason.DECODER_HUNG)

Transform = Callable[[list[Item]], list[Track]]


@dataclass(frozen=True)
class Knobs:
    """How a run is done. None of this is in a key, because no value may depend on it.

    device: "cpu", "cuda", or "auto", which is a GPU for stages that want one if the worker sees one.
    isolated: each utterance goes through its stages in a child process, so that one that kills it costs itself alone.
    lenient: a fit leaves out a row that failed for a transient reason, and waits for it no longer.
    """

    device: str = "auto"
    batch: int | None = None
    isolated: bool = False
    lenient: bool = False

    def on_worker(self, gpu: bool) -> Knobs:
        """The same with the device decided. gpu: whether the job wants one."""
        if self.device != "auto":
            return self
        return replace(self, device=_best_device() if gpu else "cpu")


@dataclass(frozen=True)
class Call:
    """A stage that is ready: the Spec of its output, and the function that runs a batch."""

    spec: Spec
    transform: Transform


def here(node: Node, device: str, state: Path | None) -> Call:
    """The stage, loaded in this process."""
    learned = _learned(state) if state else None
    with machine_to_blame():
        heavy, spec = loaded(node, device, learned)

    def transform(items: list[Item]) -> list[Track]:
        with machine_to_blame():
            return node.stage.transform(heavy, learned, items)

    return Call(spec, transform)


@contextmanager
def machine_to_blame() -> Iterator[None]:
    """Raises MachineError or SpaceError for what the machine lacks. A stage reads no file of the corpus."""
    try:
        yield
    except Exception as error:
        if fault := of_machine(error):
            raise fault from error
        raise


def alone_bound() -> Bound:
    """How much memory an utterance alone may take in a child process: most of what is free, so that the machine goes on
    and the kernel need not choose what to kill."""
    import psutil

    free = min(psutil.virtual_memory().available, _allowed_bytes())
    return Bound(free * 3 // 4, Reason.OUT_OF_MEMORY, "use a machine with more, or a shorter clip")


def _allowed_bytes() -> int:
    """How much memory the container allows; more than any machine has if none says so."""
    try:
        return int(CONTAINER_LIMIT.read_text())
    except (OSError, ValueError):  # no container, or "max"
        return sys.maxsize


def in_child(child: Child, node: Node, device: str, state: Path | None) -> Call:
    """The stage in a child process, one utterance at a time. One that kills the child is `worker_died`, one that takes
    all memory `out_of_memory`, and the others go on.

    Raises InputError if the stage kills the child before it saw an utterance.
    """
    try:
        spec: Spec = child.call(_spec, node, device, state, deadline_s=ALONE_S)
    except Unreadable as why:
        raise InputError(f"{node.name} cannot be loaded, its process ends with {why}: check its weights") from why
    return Call(spec, lambda items: [_alone(child, node, device, state, item) for item in items])


def loaded(node: Node, device: str, state: State | None) -> tuple[Any, Spec]:
    """What a stage loads, and its Spec; kept for the life of the worker process, whatever state comes next."""
    key = f"{node.digest}@{device}"
    if key not in _loaded:
        heavy = _heavy(node, device, state)
        _loaded[key] = (heavy, node.stage.spec(heavy))
        while len(_loaded) > LOADED:
            _loaded.popitem(last=False)
    _loaded.move_to_end(key)
    return _loaded[key]


def check_weights(node: Node) -> None:
    """Raises InputError if a local file or folder of weights is not, here and now, what the stage's key says.

    Pinned weights are checked where they are read: see `pipeline.cache.weights.local`.
    """
    for name, digest in node.local_weights.items():
        path = written_path(name)
        here = keys.file_digest(path) if path.is_dir() else media_digests([path], Home().memory)[path]
        if here != digest:
            raise InputError(f"{name} is not here, or is not what it was when the run was planned: plan again")


def _heavy(node: Node, device: str, state: State | None) -> Any:
    """What a stage loads. Weights that change between plan and load are an error, never values under a wrong key."""
    check_weights(node)
    heavy = node.stage.restore(state, device) if state else node.stage.load(device)
    check_weights(node)
    return heavy


def by_halves(transform: Transform, items: list[Item], name: str) -> tuple[list[Track], int]:
    """The tracks of all items, and the number of calls of the stage. A batch that fails is halved until the failure is
    that of a single row, whose reason it becomes; one for which no row is to blame is raised. name: of the stage."""
    try:
        return transform(items), 1
    except AffectoryError:
        raise
    except Unreadable as why:
        failed = Track.failed(why.reason, why.detail)
    except Exception as error:
        reason = Reason.OUT_OF_MEMORY if lacks_memory(error) else Reason.STAGE_ERROR
        failed = Track.failed(reason, f"{type(error).__name__}: {error}")
        log.exception("%s failed on %d utterances, first %s", name, len(items), items[0].id)
    if len(items) == 1:
        return [failed], 1
    half = len(items) // 2
    (first, before), (second, after) = (by_halves(transform, part, name) for part in (items[:half], items[half:]))
    return first + second, 1 + before + after


@lru_cache(maxsize=2)
def _learned(path: Path) -> State:
    """A state, kept while jobs use it: a stage sets its network up once for each state it is handed."""
    return load_state(path)


def _spec(node: Node, device: str, state: Path | None) -> Spec:
    return here(node, device, state).spec


def _transform_one(node: Node, device: str, state: Path | None, item: Item) -> Track:
    return here(node, device, state).transform([item])[0]


def _alone(child: Child, node: Node, device: str, state: Path | None, item: Item) -> Track:
    try:
        track: Track = child.call(_transform_one, node, device, state, item, deadline_s=ALONE_S)
    except Unreadable as why:
        return Track.failed(Reason.WORKER_DIED if why.reason in _DEATHS else why.reason, why.detail)
    return track


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
