"""What a plan will cost: rows to compute and to copy by stage, and their time and disk as earlier rows cost them."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from pipeline.cache import atomic, shards
from pipeline.cache.store import Store
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.recipe import Align, Node, Selection, distinct_names
from pipeline.errors import InputError
from pipeline.plan.jobs import ExtractJob, Plan

Cost = Mapping[str, float | None]
"""core_seconds and megabytes; None if nothing was measured."""


def rows(plan: Plan) -> tuple[Counter[Node], Counter[Node]]:
    """The number of rows to compute and of rows to copy, by stage, in the jobs that can run now."""
    compute, copy = Counter[Node](), Counter[Node]()
    for run in (run for job in plan.jobs if isinstance(job, ExtractJob) for run in job.runs):
        copied = sum(key in run.copies for key in run.keys)
        compute[run.node] += len(run.keys) - copied
        copy[run.node] += copied
    return compute, copy


def cost(store: Store, counts: Mapping[Node, int]) -> dict[Node, Cost]:
    """Seconds of one core and megabytes for so many rows of each stage, judged by earlier shards of the same stage with
    the same parameters.

    Seconds are judged by shards of this machine alone. A figure is None if there is no such shard.
    """
    seconds, sizes = _rates(store, {node.digest for node in counts})
    return {
        node: {
            "core_seconds": _times(seconds.get(node.digest), count, 1),
            "megabytes": _times(sizes.get(node.digest), count / 1e6, 2),
        }
        for node, count in counts.items()
    }


def views(corpus: Corpus, store: Store, plan: Plan, only: Sequence[str]) -> dict[str, float | None]:
    """Megabytes of the columns that a plan's rows will be in, over all folds, by `<feature set>.<modality>`.

    None while length or width are unknown: the length is `auto`, or a stage has no shard yet.
    """
    compute, copy = rows(plan)
    todo = {*compute, *copy, *plan.waiting}
    sizes = {}
    for name, selections in corpus.recipe.features.items():
        for modality, selection in selections.items() if not only or name in only else ():
            if todo.intersection(selection.parts):
                sizes[f"{name}.{modality}"] = _column(corpus, store, selection)
    return sizes


def check_space(store: Store, plan: Plan, columns: Mapping[str, float | None]) -> None:
    """Raises SpaceError if the plan's shards, and the `columns` of views made of them, are estimated to take more than
    the disk of the cache has free.

    Whatever was not measured counts nothing; then only a full disk stops the run.
    """
    compute, copy = rows(plan)
    todo = compute + copy + plan.waiting
    names = distinct_names(todo)
    sizes = {names[node]: each["megabytes"] or 0.0 for node, each in cost(store, todo).items()}
    sizes |= {f"view {name}": size or 0.0 for name, size in columns.items()}
    needed = sum(sizes.values())
    store.root.mkdir(parents=True, exist_ok=True)
    parts = ", ".join(f"{name} {size:,.0f} MB" for name, size in sizes.items() if size)
    atomic.check_space(store.root, needed * 1e6, f"the plan ({parts})")


def _times(rate: float | None, count: float, digits: int) -> float | None:
    return None if rate is None else round(rate * count, digits)


def _rates(store: Store, stages: Collection[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds for a row computed on this machine, and bytes for a row, by the digest of the stage."""
    sums = {stage: np.zeros(4) for stage in stages}
    for _, record in store.records(stages):
        about = record.about
        computed = about.get("computed", 0) if about.get("host") == socket.gethostname() else 0
        sums[record.stage] += (record.seconds if computed else 0.0, computed, record.size, about.get("rows", 0))
    seconds = {stage: float(spent / computed) for stage, (spent, computed, _, _) in sums.items() if computed}
    return seconds, {stage: float(size / count) for stage, (_, _, size, count) in sums.items() if count}


def _column(corpus: Corpus, store: Store, selection: Selection) -> float | None:
    """Megabytes of the columns of one modality in all folds."""
    broadcast, length = selection.align.mode == "broadcast", selection.align.length
    about = [_about(store, node) for node in selection.parts]
    if (length == "auto" and not broadcast) or not all(about):
        return None
    steps = Align(selection.align.mode, 1 if length == "auto" else length).stored
    width: int = sum(part["dim"] for part in about)
    item: int = max(np.dtype(part["dtype"]).itemsize for part in about)
    by_fold = length == "auto" or any(node.scoped for node in selection.parts)
    return len(corpus.manifest.rows) * steps * width * item * (len(corpus.folds) if by_fold else 1) / 1e6


def _about(store: Store, node: Node) -> Mapping[str, Any]:
    """What some shard of a stage says of its rows; empty if none is here."""
    for key in store.listing(node.digest):
        record = store.find(node.digest, key)
        if record and store.here(record):
            with suppress(InputError):  # a damaged shard is set aside when it is read
                return shards.about(shards.open_table(store.path(record), ["utterance"]))
    return {}
