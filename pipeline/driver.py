"""Drives an extraction: plans, sends jobs to workers, plans again as fits end, and adds up what became of each row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from pipeline.call import Knobs
from pipeline.errors import InputError
from pipeline.exchange import Exchange, Place, adopt, marks, shares, token
from pipeline.extract import extract
from pipeline.fit import NotYetError, fit
from pipeline.inline import Inline
from pipeline.jobs import ExtractJob, FitJob, Job
from pipeline.manifest import Manifest
from pipeline.outcome import Died, Outcome
from pipeline.plan import Place as Wanted
from pipeline.plan import Plan, Planner
from pipeline.reader import Fold, Label
from pipeline.recipe import Node, Recipe, nodes
from pipeline.record import Record, Ref
from pipeline.scope import Scope, folds, labelled, scopes
from pipeline.stage import Target
from pipeline.store import CorruptError, Store

if TYPE_CHECKING:
    from pipeline.schedule import Workers  # Dask takes half a second to import: only where there is work

log = logging.getLogger(__name__)

ROUNDS = 3
"""How often a run plans again after an upstream object turned out corrupt."""


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
        """The folds of any protocol; see `pipeline.scope.folds`."""
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
    """What a run did, by modality."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    cached: dict[str, int] = field(default_factory=dict)
    jobs: int = 0

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


Watch = Callable[[Sequence[Job], Job | None], None]
"""Told of new jobs, and of every job that ended."""


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
    for _ in range(ROUNDS):
        if not plan.jobs:
            break
        with start() as workers:
            exchange = _exchange(planner, workers, place)
            sound = _round(planner, plan, workers, exchange, knobs, watch, report)
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
    """Runs a plan and what its fits make possible; False where something upstream was corrupt, to be made again."""
    queue = _Queue(planner, plan, watch)
    sound = True
    store = planner.store
    for job, result in workers.run(run, lambda: exchange.offer(store, queue.more()), exchange, knobs):
        if isinstance(result, Died):
            queue.died(job, result)
        elif isinstance(result, Outcome):
            _done(planner, job, result, watch, report)
        else:
            sound = False
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
    queue: _Queue, workers: Workers | Inline, exchange: Exchange, knobs: Knobs, watch: Watch, report: Report
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


class _Queue:
    """Gives each job once; plans again when a fit has ended or nothing is left, so that a fit's dependants start."""

    def __init__(self, planner: Planner, plan: Plan, watch: Watch) -> None:
        self.planner, self.watch = planner, watch
        self.isolated: list[ExtractJob] = []
        self._fresh: list[Job] = list(plan.jobs)
        self._given: set[tuple[str, str]] = set()
        self._open: dict[str, Job] = {}
        self._stale = False

    def more(self) -> list[Job]:
        """Jobs not given before, fits first."""
        if self._stale or not (self._fresh or self._open):
            self._fresh, self._stale = self.planner.plan().jobs, False
        left = [job for job in map(self._left, self._fresh) if job is not None]
        new = sorted(left, key=lambda job: not isinstance(job, FitJob))
        self._fresh = []
        self._given.update(key for job in new for key in job.keys)
        self._open.update((job.id, job) for job in new)
        self.watch(new, None)
        return new

    def _left(self, job: Job) -> Job | None:
        """What of a job was not given before: a shard that is under way, or partly saved, is not asked for again.

        None where nothing is left, or where what is left stands on something under way: it comes with a later plan.
        """
        if isinstance(job, FitJob):
            return None if self._given.issuperset(job.keys) else job
        left = [run for run in job.runs if run.key not in self._given]
        under_way = {run.node for run in job.runs if run.key in self._given}
        if not left or any(up in under_way and up.name not in run.stored for run in left for up in run.node.upstream):
            return None
        return replace(job, runs=tuple(left))

    def died(self, job: Job, death: Died) -> None:
        """Keeps a job that killed its workers for another run, row by row. A fit cannot be cut: that is an error."""
        if isinstance(job, FitJob):
            raise RuntimeError(f"fitting {job.node.name} on {job.scope} killed its workers: {death.reason}")
        log.warning("a job of %s killed its workers; running it row by row: %s", job.modality, death.reason)
        self.isolated.append(job)

    def ended(self, job: Job) -> None:
        self._open.pop(job.id, None)
        last = self._feeds_fit(job) and not any(map(self._feeds_fit, self._open.values()))
        self._stale = self._stale or isinstance(job, FitJob) or last

    def _feeds_fit(self, job: Job) -> bool:
        """True for rows of a stage that others stand on."""
        feeding = {up.name for node, _ in self.planner.wanted for up in node.upstream}
        return isinstance(job, ExtractJob) and any(run.node.name in feeding for run in job.runs)
