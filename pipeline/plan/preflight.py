"""Questions asked before a plan is run: are raw input and weights at hand, and is all that is asked for in the lock?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pipeline.cache import weights
from pipeline.corpus.manifest import Manifest
from pipeline.errors import InputError
from pipeline.plan.catalogue import Catalogue
from pipeline.plan.generations import Verdict
from pipeline.plan.jobs import ExtractJob, FitJob, Job, Plan, ReferenceJob, named
from pipeline.stage import RAW, Stage


def check_raw(manifest: Manifest, plan: Plan) -> None:
    """Raises InputError if the plan needs media or transcripts that are not here."""
    absent = _absent(manifest)
    rows = Counter(name for job in plan.jobs for name in _raw_rows(job, absent))
    reading = (job for job in plan.jobs if not isinstance(job, ReferenceJob))
    missing = {"text" if kind == "dialogue" else kind for job in reading for kind in _kinds(job) & absent}
    if rows:
        raise InputError(
            f"these features are neither here nor on the remote, and {manifest.root} has no "
            f"{' or '.join(sorted(missing))} to compute them from: {_counted(rows)}. Pull them, or give "
            "ROOT=/path/to/the/corpus"
        )


def check_weights(plan: Plan) -> None:
    """Raises InputError that names all weights which the plan's stages read, and which are pinned and not here."""
    if missing := absent_weights(plan):
        raise InputError(f"these weights are not here: {', '.join(missing)}. `make weights` fetches them")


def absent_weights(plan: Plan) -> list[str]:
    """The sources of weights that the plan's stages read, and that are pinned and not here."""
    return sorted({source for stage in _loaded(plan) for source in weights.absent(stage)})


def unpinned_weights(plan: Plan) -> list[str]:
    """The published sources that the plan's stages read and that nothing pins: they are fetched when a stage loads."""
    return sorted({source for stage in _loaded(plan) for source in weights.published_sources(stage).values()})


def check_compared(verdicts: Sequence[Verdict], plan: Plan) -> None:
    """Raises InputError if rows would be computed among rows of other libraries that were not compared with those here.

    verdicts: those on generations, see `pipeline.plan.generations`.
    """
    computed = {
        run.node
        for job in plan.jobs
        if isinstance(job, ExtractJob)
        for run in job.runs
        if any(key not in run.copies for key in run.keys)
    }
    computed |= {job.node for job in plan.jobs if isinstance(job, FitJob)}
    if wrong := [verdict.line for verdict in verdicts if verdict.comparison is None and verdict.node in computed]:
        raise InputError(
            "rows of other libraries can be read here, and none computed beside them:\n" + "\n".join(wrong)
        )


def bring_locked(catalogue: Catalogue, plan: Plan) -> None:
    """Fetches the objects that the lock names and that are not here.

    Raises InputError if something is asked for that is not in the lock, RemoteError if an object can't be had.
    """
    todo = named(plan.waiting) + Counter(name for job in plan.jobs for name in _rows(job))
    if todo:
        raise InputError(f"not in the lock: {_counted(todo)}. Leave out --locked, or agree on them with --relock")
    for rows in catalogue:
        for record in map(rows.final, rows.shards):
            if record is not None:
                catalogue.store.open(record)


def _loaded(plan: Plan) -> Iterator[Stage]:
    """The stages whose published weights are read: those that are fitted or frozen. A fitted state has its own."""
    for job in plan.jobs:
        if isinstance(job, FitJob):
            yield job.node.stage
        elif isinstance(job, ExtractJob):
            yield from (node.stage for node in job.nodes if not node.stage.fitted)


def _absent(manifest: Manifest) -> set[str]:
    """The kinds of raw input that are not here."""
    text = all(row.text is not None or row.text_digest is None for row in manifest.rows)
    return {kind for kind, modality in RAW.items() if (not text if modality == "text" else not manifest.media)}


def _kinds(job: Job) -> set[str]:
    """The kinds of raw input that a job's stages read."""
    return {kind for node in job.nodes for kind in node.inputs if isinstance(kind, str)}


def _raw_rows(job: Job, absent: set[str]) -> Iterator[str]:
    """The name of the stage for each row that would be computed from raw input that is absent."""
    if isinstance(job, ReferenceJob):
        return
    if isinstance(job, FitJob):
        yield from (f"{job.node.name} (fit)" for _ in (*job.train, *job.valid) if absent & _kinds(job))
        return
    for run in job.runs:
        if absent.intersection(run.node.stage.reads):
            yield from (run.node.name for key in run.keys if key not in run.copies)


def _rows(job: Job) -> list[str]:
    """The name of the stage for each row of a job; a fit counts as one, and a reference as none."""
    if isinstance(job, ReferenceJob):
        return []
    return [run.node.name for run in job.runs for _ in run.keys] if isinstance(job, ExtractJob) else [job.node.name]


def _counted(rows: Counter[str]) -> str:
    return ", ".join(f"{name}: {count:,} rows" for name, count in sorted(rows.items()))
