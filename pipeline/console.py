"""What a person sees while a run is under way and at its end. Everything goes to standard error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from pipeline.corpus.published import Count
from pipeline.plan.jobs import FitJob, Job
from pipeline.reason import Reason
from pipeline.run.driver import Report

console = Console(stderr=True)

NOT_MEASURED = "not measured here"


class Bars:
    """A live bar for each modality and one for fits, with rate and time left. A context manager; call it as a Watch."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:>7}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def __call__(self, new: Sequence[Job], ended: Job | None) -> None:  # noqa: D102 - see the class
        for job in new:
            self._grow(_bar(job), job.size)
        if ended is not None:
            self._advance(_bar(ended), ended.size)

    def _grow(self, name: str, size: int) -> None:
        if name not in self._bars:
            unit = "fits" if name == "fits" else "rows"
            self._bars[name] = self._progress.add_task(name, total=0, unit=unit, rate="")
        task = self._progress.tasks[self._bars[name]]
        self._progress.update(task.id, total=(task.total or 0) + size)

    def _advance(self, name: str, size: int) -> None:
        self._progress.advance(self._bars[name], size)
        task = self._progress.tasks[self._bars[name]]
        speed = task.speed or (task.completed / task.elapsed if task.elapsed else 0)
        self._progress.update(task.id, rate=f"{speed:.1f}/s")


def _bar(job: Job) -> str:
    return "fits" if isinstance(job, FitJob) else job.modality


def outcome_table(report: Report) -> Table:
    """Rows by stage: computed, copied from other shards, found in the cache; seconds."""
    table = Table("stage", "computed", "copied", "cached", "seconds", title="Extraction")
    total = report.total()
    for name in sorted({*total.seconds, *report.cached}):
        counts = (total.computed[name], total.copied[name], report.cached.get(name, 0))
        table.add_row(name, *map(str, counts), f"{total.seconds.get(name, 0):.1f}")
    return table


def reason_table(failed: dict[str, Counter[str]]) -> Table | None:
    """Utterances without features, by modality and reason; None where every one has them."""
    if not any(failed.values()):
        return None
    table = Table("modality", "reason", "utterances", "", title="Without features")
    for modality, reasons in sorted(failed.items()):
        for reason, count in reasons.most_common():
            note = "will be tried again" if Reason(reason).transient else ""
            table.add_row(modality, reason, str(count), note)
    return table


def count_table(differing: Sequence[Count]) -> Table:
    """Counts that are not as published."""
    table = Table("", "published", "here", "difference", title="This copy differs from the published corpus")
    for each in differing:
        table.add_row(each.name, f"{each.expected:,}", f"{each.found:,}", f"{each.difference:+,}")
    return table


def plan_table(answer: dict[str, Any]) -> Table:
    """What a plan would compute, by stage, and why."""
    table = Table("stage", "compute", "copy", "behind a fit", "cached", "core time", "disk", "because", title="Plan")
    kinds = ("compute", "copy", "pending", "cached")
    for name in sorted({name for kind in kinds for name in answer[kind]}):
        cost = answer["estimate"].get(name, {})
        seconds, size = cost.get("core_seconds"), cost.get("megabytes")
        figures = [NOT_MEASURED if v is None else f"{v} {unit}" for v, unit in ((seconds, "s"), (size, "MB"))]
        why = escape("\n".join(answer["because"].get(name, [])))
        table.add_row(name, *(str(answer[kind].get(name, 0)) for kind in kinds), *(figures if cost else ["", ""]), why)
    for fit in answer["fits"]:
        table.add_row(fit, "fit", "", "", "", "", "", "")
    for name, size in answer["views"].items():
        table.add_row(f"view {name}", "", "", "", "", "", NOT_MEASURED if size is None else f"{size:.2f} MB", "")
    return table


class ByteBar:
    """A bar of bytes that are sent or fetched. A context manager; `advance` may be called from any thread."""

    def __init__(self, what: str, total: int) -> None:
        columns = (TextColumn("{task.description:>7}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, TimeRemainingColumn(elapsed_when_finished=True), console=console)
        self._task = self._progress.add_task(what, total=total)

    def __enter__(self) -> ByteBar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def advance(self, size: int) -> None:
        """So many bytes have gone."""
        self._progress.advance(self._task, size)


class TrainBars:
    """A bar of finished folds for each model. A context manager."""

    def __init__(self, folds: Mapping[str, int]) -> None:
        columns = (TextColumn("{task.description:>7}"), BarColumn(), MofNCompleteColumn(), TextColumn("folds"))
        self._progress = Progress(*columns, TimeElapsedColumn(), console=console)
        self._bars = {name: self._progress.add_task(name, total=count) for name, count in folds.items()}

    def __enter__(self) -> TrainBars:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def done(self, model: str) -> None:
        """One fold of a model has ended."""
        self._progress.advance(self._bars[model])
