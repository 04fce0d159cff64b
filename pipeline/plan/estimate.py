"""What a plan will cost: rows to compute and to copy by stage, and time and disk as rows of that stage cost before."""

from __future__ import annotations

import shutil
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from pipeline.cache import shards
from pipeline.cache.store import Store
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.recipe import Align, Node, Selection
from pipeline.errors import InputError, SpaceError
from pipeline.plan.jobs import Plan

Cost = Mapping[str, float | None]
"""core_seconds and megabytes; None for what was not measured."""


def rows(plan: Plan) -> tuple[Counter[Node], Counter[Node]]:
    """Rows to compute and rows to copy, by stage, of the jobs that can run now."""
    compute, copy = Counter[Node](), Counter[Node]()
    for run in (run for job in plan.jobs for run in getattr(job, "runs", ())):
        there = sum(key in run.copies for key in run.keys)
        compute[run.node] += len(run.keys) - there
        copy[run.node] += there
    return compute, copy


def cost(store: Store, counts: Mapping[Node, int]) -> dict[Node, Cost]:
    """Seconds of one core and megabytes for each stage, from earlier shards of the same stage, parameters and all.

    Seconds are this machine's: a shard that was pulled says nothing of them. None where there is no such shard.
    """
    seconds, sizes = _rates(store)
    found: dict[Node, Cost] = {}
    for node, count in counts.items():
        second, size = seconds.get(node.digest), sizes.get(node.digest)
        found[node] = {
            "core_seconds": None if second is None else round(second * count, 1),
            "megabytes": None if size is None else round(size * count / 1e6, 2),
        }
    return found


def views(corpus: Corpus, store: Store, plan: Plan, only: Sequence[str]) -> dict[str, float | None]:
    """Megabytes of the columns that the rows of a plan will stand in, by feature set and modality, over all folds.

    None where length or width are not known yet: `auto`, or a stage of which there is no shard.
    """
    compute, copy = rows(plan)
    todo = {*compute, *copy, *plan.waiting}
    found = {}
    for name, selections in corpus.recipe.features.items():
        for modality, selection in selections.items() if not only or name in only else ():
            if todo.intersection(selection.parts):
                found[f"{name}.{modality}"] = _column(corpus, store, selection)
    return found


def check_space(store: Store, plan: Plan, columns: Mapping[str, float | None]) -> None:
    """Raises SpaceError where the cache's disk has less room than the plan's shards, and the columns of `views` made
    of them, are estimated to take.

    What was not measured counts nothing: then only a full disk stops the run.
    """
    compute, copy = rows(plan)
    each = {node.name: found["megabytes"] for node, found in cost(store, compute + copy + plan.waiting).items()}
    each |= {f"view {name}": size for name, size in columns.items()}
    needed = sum(size or 0.0 for size in each.values())
    store.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store.root).free / 1e6
    if needed > free:
        names = ", ".join(f"{name} {size:.0f} MB" for name, size in each.items() if size)
        raise SpaceError(f"{store.root} has {free:.0f} MB free, the plan needs about {needed:.0f} MB: {names}")


def _rates(store: Store) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds a row that was computed on this machine, and bytes a row, by the digest of the stage."""
    sums: dict[str, list[float]] = {}
    for _, record in store.records():
        about = record.about
        computed = about.get("computed", 0) if about.get("host") == socket.gethostname() else 0
        parts = (record.seconds if computed else 0.0, computed, record.size, about.get("rows", 0))
        total = sums.get(record.stage, [0.0] * len(parts))
        sums[record.stage] = [a + b for a, b in zip(total, parts, strict=True)]
    seconds = {stage: s / computed for stage, (s, computed, _, _) in sums.items() if computed}
    return seconds, {stage: size / rows for stage, (_, _, size, rows) in sums.items() if rows}


def _column(corpus: Corpus, store: Store, selection: Selection) -> float | None:
    """Megabytes of one modality's column in every fold."""
    broadcast, length = selection.align.mode == "broadcast", selection.align.length
    about = [_about(store, node) for node in selection.parts]
    if (length == "auto" and not broadcast) or not all(about):
        return None
    steps = Align(selection.align.mode, 1 if length == "auto" else length).stored
    width: int = sum(each["dim"] for each in about)
    item: int = max(np.dtype(each["dtype"]).itemsize for each in about)
    by_fold = length == "auto" or any(node.scoped for node in selection.parts)
    return len(corpus.manifest.rows) * steps * width * item * (len(corpus.folds) if by_fold else 1) / 1e6


def _about(store: Store, node: Node) -> Mapping[str, Any]:
    """What a shard of a stage says of its rows; nothing where none is here."""
    for key in store.listing(node.digest):
        record = store.find(node.digest, key)
        if record and store.here(record):
            with suppress(InputError):  # damaged: whoever reads it will set it aside
                return shards.about(shards.open_table(store.path(record), ["utterance"]))
    return {}
