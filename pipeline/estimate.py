"""What a plan will cost: rows to compute and to copy by stage, and time and disk as rows of that stage cost before."""

from __future__ import annotations

import shutil
from collections import Counter

from pipeline.errors import SpaceError
from pipeline.plan import Plan
from pipeline.store import Store


def rows(plan: Plan) -> tuple[Counter[str], Counter[str]]:
    """Rows to compute and rows to copy, by stage, of the jobs that can run now."""
    compute, copy = Counter[str](), Counter[str]()
    for run in (run for job in plan.jobs for run in getattr(job, "runs", ())):
        there = sum(key in run.copies for key in run.keys)
        compute[run.node.name] += len(run.keys) - there
        copy[run.node.name] += there
    return compute, copy


def cost(store: Store, counts: Counter[str]) -> dict[str, dict[str, float | None]]:
    """Seconds of one core and bytes for each stage, from earlier shards of that stage; None where there is none."""
    rates = _rates(store)
    found: dict[str, dict[str, float | None]] = {}
    for name, count in counts.items():
        seconds, size = rates.get(name, (None, None))
        found[name] = {
            "core_seconds": None if seconds is None else round(seconds * count, 1),
            "megabytes": None if size is None else round(size * count / 1e6, 2),
        }
    return found


def check_space(store: Store, plan: Plan) -> None:
    """Raises SpaceError where the cache's disk has less room than the plan's shards are estimated to take.

    Features without an earlier shard count nothing: then only a full disk stops the run.
    """
    compute, copy = rows(plan)
    each = cost(store, compute + copy + plan.pending)
    needed = sum(found["megabytes"] or 0.0 for found in each.values())
    store.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store.root).free / 1e6
    if needed > free:
        names = ", ".join(f"{name} {found['megabytes']:.0f} MB" for name, found in each.items() if found["megabytes"])
        raise SpaceError(f"{store.root} has {free:.0f} MB free, the plan needs about {needed:.0f} MB: {names}")


def _rates(store: Store) -> dict[str, tuple[float, float]]:
    """Seconds and bytes a row by stage name, over every shard of the cache that was computed and not copied."""
    sums: dict[str, list[float]] = {}
    for _, record in store.records():
        about = record.about
        if about.get("computed"):
            total = sums.setdefault(about["stage"], [0.0, 0.0, 0.0, 0.0])
            parts = (record.seconds, about["computed"], record.size, about["rows"])
            sums[about["stage"]] = [a + b for a, b in zip(total, parts, strict=True)]
    return {name: (s / computed, size / rows) for name, (s, computed, size, rows) in sums.items()}
