"""Drives an extraction: plans, sends jobs to workers, plans again as fits end, and adds up what became of each row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from pipeline.cache.record import Record, Ref
from pipeline.cache.store import CorruptError, Store
from pipeline.corpus.fit_scope import Scope, folds, labelled, scopes
from pipeline.corpus.manifest import Manifest
from pipeline.corpus.recipe import Node, Recipe, nodes
from pipeline.errors import InputError
from pipeline.plan.catalogue import Place as Wanted
from pipeline.plan.catalogue import Planner
from pipeline.plan.jobs import ExtractJob, Job
from pipeline.plan.planned import Plan
from pipeline.reader import Fold, Label
from pipeline.reason import Died, Outcome
from pipeline.run.exchange import Exchange, Place, adopt, marks, shares, token
from pipeline.run.extract_job import extract
from pipeline.run.fit_job import NotYetError, fit
from pipeline.run.inline_workers import Inline
from pipeline.run.job_queue import Turns, Watch
from pipeline.run.stage_calls import Knobs
from pipeline.stage import Target

if TYPE_CHECKING:
    from pipeline.run.dask_workers import Workers  # Dask takes half a second to import: only where there is work

log = logging.getLogger(__name__)

ROUNDS = 3
"""How often a run plans again after an upstream object turned out corrupt, or a fit had to wait for a row; in the last
one fits wait no longer."""


@dataclass(frozen=True)
class Corpus:
    """A recipe's manifest with its labels, folds and the scopes of their fits.

    Folds are made when something first needs them: a corpus without labels or splits can still be extracted.
    """

    recipe: Recipe
    manifest: Manifest
    protocol: str

    @cached_property
    def target(self) -> Target:
        """What fits and models learn to predict."""
        return Target(self.recipe.labels.task, self.recipe.labels.classes)

    @cached_property
    def labels(self) -> Mapping[str, Label]:
        """The label of each utterance that the label protocol keeps."""
        return labelled(self.manifest.rows, self.recipe.labels)

    @cached_property
    def folds(self) -> tuple[Fold, ...]:
        """The protocol's folds; none without labels. Raises InputError where the corpus does not allow it."""
        if not self.labels:
            return ()
        return tuple(self.folds_of(self.protocol))

    def folds_of(self, protocol: str) -> list[Fold]:
        """The folds of any protocol; see `pipeline.corpus.fit_scope.folds`."""
        return folds(self.recipe.reader, self.manifest.rows, self.labels, protocol, self.recipe.own_folds)

    @cached_property
    def scopes(self) -> Mapping[str, tuple[Scope, ...]]:
        """The scopes of each fold's fits."""
        return {fold.name: tuple(scopes(fold, self.manifest.rows, self.recipe.crossfit)) for fold in self.folds}

    def places(self, modality: str | None = None, features: Sequence[str] = ()) -> Iterator[Wanted]:
        """Every stage asked for, with each scope it is needed in."""
        for node in nodes(self.recipe, modality, features):
            for scope in self.scopes_of(node):
                yield node, scope

    def scopes_of(self, node: Node) -> Sequence[Scope | None]:
        """The scopes a stage is needed in: all rows at once for a stage that stands on no fit."""
        if node.scoped and not self.folds:
            raise InputError(f"{node.name} stands on a fit, and this corpus has no labels to fit on")
        return [scope for fold in self.folds for scope in self.scopes[fold.name]] if node.scoped else [None]


@dataclass
class Report:
    """What a run did, by modality. waiting: by job, why it could not be done in the end."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    cached: dict[str, int] = field(default_factory=dict)
    jobs: int = 0
    waiting: dict[str, str] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Adds the outcome of one job."""
        self.outcomes.setdefault(outcome.modality, Outcome(outcome.modality)).add(outcome)
        self.jobs += 1

    def total(self) -> Outcome:
        """The sum over modalities."""
        total = Outcome("all")
        for outcome in self.outcomes.values():
            total.add(outcome)
        return total


@dataclass(frozen=True)
class Again:
    """Stands for the outcome of a job that has to wait for something upstream, corrupt or failed for now.

    lost: the object that is damaged or gone, if that is why.
    """

    message: str
    lost: Ref | None = None


def run(job: Job, exchange: Exchange, knobs: Knobs) -> Outcome | Again:
    """One job on a worker."""
    store, knobs = exchange.store(), knobs.on_worker(job.gpu)
    if (saved := _saved(job, store)) is not None:
        return exchange.share(store, Outcome(job.modality, saved=saved))
    job = exchange.localised(job)
    try:
        outcome = extract(job, store, knobs) if isinstance(job, ExtractJob) else fit(job, store, knobs)
    except CorruptError as error:
        log.warning("%s", error)
        return Again(error.message, error.ref)
    except NotYetError as error:
        log.warning("%s", error)
        return Again(str(error))
    return exchange.share(store, outcome)


def _saved(job: Job, store: Store) -> list[Record] | None:
    """The records of everything a job would save, where another driver has done it since this one planned."""
    found = [record for key in job.keys if (record := store.held(*key)) is not None]
    try:
        for record in found:
            store.open(record)
    except CorruptError:
        return None
    return found if len(found) == len(job.keys) else None


def drive(
    planner: Planner, start: Callable[[], Workers | Inline], knobs: Knobs, watch: Watch, place: Place | None = None
) -> Report:
    """Runs everything the planner asks for; starts no workers where there is nothing to do.

    place: where workers find the corpus that do not see this machine's disk; they need a remote.
    """
    report = Report()
    plan = planner.plan()
    report.cached = dict(plan.cached)
    for left in reversed(range(ROUNDS)):
        report.waiting = {}
        if not plan.jobs:
            break
        with start() as workers:
            exchange = _exchange(planner, workers, place)
            sound = _round(planner, plan, workers, exchange, replace(knobs, lenient=not left), watch, report)
        if sound:
            break
        plan = planner.plan()
    return report


def _exchange(planner: Planner, workers: Workers | Inline, place: Place | None) -> Exchange:
    """By the cache alone where all workers see it, else by the remote. Raises InputError where there is none."""
    store, root = planner.store, planner.manifest.root
    url = store.remote.url if store.remote else ""
    workers.preflight()
    with token(store.root) as seen:
        if workers.agree(partial(shares, store.root, marks(seen, root))):
            return Exchange(store.root, url)
    if not url or place is None:
        raise InputError(
            f"not every worker sees {store.root} and {root}, or some have an AFFECTORY_HOME of their own: mount them "
            "there, or set AFFECTORY_REMOTE, through which they then exchange shards"
        )
    exchange = Exchange(store.root, url, place)
    workers.everywhere(place.ready)
    return exchange


def _round(
    planner: Planner,
    plan: Plan,
    workers: Workers | Inline,
    exchange: Exchange,
    knobs: Knobs,
    watch: Watch,
    report: Report,
) -> bool:
    """Runs a plan and what its fits make possible; False where a job has to wait for something upstream."""
    queue = Turns(planner, plan, watch)
    sound = True
    store = planner.store
    for job, result in workers.run(run, lambda: exchange.offer(store, queue.more()), exchange, knobs):
        if isinstance(result, Died):
            queue.died(job, result)
        elif isinstance(result, Outcome):
            _done(planner, job, result, watch, report)
        else:
            sound = False
            report.waiting[job.id] = result.message
            if result.lost is not None:
                store.distrust(result.lost)
        queue.ended(job)
    _isolated(queue, workers, exchange, knobs, watch, report)
    return sound and not queue.isolated


def _done(planner: Planner, job: Job, outcome: Outcome, watch: Watch, report: Report) -> None:
    adopt(planner.store, outcome.saved)
    report.add(replace(outcome, saved=[]))
    watch((), job)


def _isolated(
    queue: Turns, workers: Workers | Inline, exchange: Exchange, knobs: Knobs, watch: Watch, report: Report
) -> None:
    if not queue.isolated:
        return
    once = iter([queue.isolated])
    alone = replace(knobs, isolated=True)
    for job, result in workers.run(run, lambda: next(once, []), exchange, alone):
        if isinstance(result, Died):
            raise RuntimeError(f"a job of {job.modality} kills its workers even row by row: {result.reason}")
        if isinstance(result, Outcome):
            _done(queue.planner, job, result, watch, report)
        else:
            report.waiting[job.id] = result.message
