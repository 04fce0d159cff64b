"""A command's work, without the command line: open a corpus, extract, plan."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from rich.markup import escape

from pipeline.cache import in_use
from pipeline.cache.home import STREAMS, Home
from pipeline.cache.store import CorruptError, Store
from pipeline.console import Bars, console, count_table, outcome_table, reason_table
from pipeline.corpus import open_corpus, remarks
from pipeline.corpus import published as counts
from pipeline.corpus.recipe import Node, labels
from pipeline.corpus.recipe_file import check_train, recipe_path
from pipeline.errors import InputError
from pipeline.plan import coverage, estimate, last_extraction
from pipeline.plan import shortfall as left_out
from pipeline.plan.catalogue import Planner
from pipeline.plan.planned import Plan
from pipeline.reason import Reason
from pipeline.report.changes import because
from pipeline.run.driver import Corpus, Report, drive
from pipeline.run.exchange import Place
from pipeline.run.inline_workers import Inline
from pipeline.run.stage_calls import Knobs
from pipeline.views import build_view

if TYPE_CHECKING:
    from pipeline.run.dask_workers import Workers

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What a call may say beside the recipe: none of it changes values but `root`, `protocol` and `changes`."""

    dataset: str
    root: str = ""
    modality: str = ""
    features: tuple[str, ...] = ()
    protocol: str = ""
    workers: int | None = None
    scheduler: str = ""
    gpus: int = 0
    changes: tuple[str, ...] = ()
    remote: str = ""
    locked: bool = False
    retry_failed: bool = False

    @property
    def url(self) -> str:
        """The remote cache: the option, else AFFECTORY_REMOTE, else none."""
        return self.remote or os.environ.get("AFFECTORY_REMOTE", "")


@dataclass(frozen=True)
class Session:
    """A corpus opened for work."""

    home: Home
    options: Options
    corpus: Corpus
    planner: Planner
    place: Place | None = None

    @classmethod
    def open(cls, home: Home, options: Options) -> Session:
        """Reads the recipe, scans the corpus or takes the manifest that was pulled, and plans for what is asked.

        `options.dataset` is a recipe's name in manifests/ or the path of a TOML file. Raises InputError.
        """
        opened = open_corpus.open_corpus(home, options)
        return cls(home, options, opened.corpus, _planner(home, options, opened.corpus, opened.store), opened.place)

    def under(self, protocol: str) -> Session:
        """The same under another protocol. Raises InputError where the corpus has no such folds."""
        if protocol == self.corpus.protocol:
            return self
        corpus = replace(self.corpus, protocol=protocol)
        planner = _planner(self.home, self.options, corpus, self.planner.store)
        return replace(self, corpus=corpus, planner=planner)

    def extract(self) -> Report:
        """Extracts what is missing, with live bars; see `drive`. Raises SpaceError where the plan needs more disk.

        With a lock nothing is computed: what it names is fetched where it is not here, and InputError says what it
        does not name.
        """
        with self.pinned():
            if self.options.locked:
                open_corpus.bring_locked(self.planner)
                in_use.note_locked(self.planner.store)
            with Bars() as bars:
                report = drive(self.planner, self._start, Knobs(), bars, self.place)
        self.home.sweep()
        if report.jobs or last_extraction.read(self.home.root, self.corpus.recipe.name) is None:
            last_extraction.write(self)
        self.home.remember(self.options.dataset, self.options.root, self.options.changes)
        return report

    def retry_failed(self) -> None:
        """Has the rows that failed computed again, whatever the reason; their shards serve until then."""
        if self.options.locked:
            raise InputError("with --locked nothing is computed, so nothing that failed is tried again")
        self.planner.doctored = None  # its findings are of an earlier day
        for node, scope in self.planner.wanted:
            for shard in self.planner.shards(node, scope) or ():
                record = self.planner.final(node, shard)
                failed = {i for i, why in record.reasons.items() if Reason(why).failed} if record else set()
                if record and failed:
                    good = (key for row, key in zip(shard.rows, shard.keys, strict=True) if row.id not in failed)
                    self.planner.store.demote(record, tuple(good))

    def _start(self) -> Workers | Inline:
        plan = self.planner.plan()
        self.check_train()
        open_corpus.check_raw(self.corpus.manifest, plan)
        estimate.check_space(self.planner.store, plan, self.view_sizes(plan))
        return self.workers()

    def view_sizes(self, plan: Plan) -> dict[str, float | None]:
        """Megabytes of the views that an extraction makes anew, see `pipeline.plan.estimate.views`."""
        if self.options.modality:
            return {}
        return estimate.views(self.corpus, self.planner.store, plan, self.options.features)

    def check_train(self) -> None:
        """Raises InputError for settings that some model would refuse, before hours of extraction."""
        check_train(recipe_path(self.options.dataset), self.corpus.recipe.train)

    def views(self) -> dict[str, Any]:
        """Every view the options ask for; see `pipeline.views.build_view.every`."""
        return build_view.every(self.corpus, self.planner, self.options.features, self.home.root)

    def repaired(self, work: Callable[[], T]) -> T:
        """`work()`, once more after another extraction where it met a corrupt object, which is set aside by then."""
        with self.pinned():
            try:
                return work()
            except CorruptError:
                self.extract()
                return work()

    def pinned(self) -> AbstractContextManager[None]:
        """Within it `gc` leaves every stage that is asked for alone."""
        return in_use.pinned(self.home.cache, (node.digest for node, _ in self.planner.wanted))

    def workers(self) -> Workers | Inline:
        """The workers of this call, not started yet."""
        if self.options.workers == 0:
            return Inline()
        from pipeline.run.dask_workers import Workers

        return Workers(self.options.scheduler, self.options.workers, self.options.gpus)


def _planner(home: Home, options: Options, corpus: Corpus, store: Store) -> Planner:
    places = corpus.places(options.modality or None, options.features)
    return Planner(corpus.manifest, store, corpus.target, corpus.labels, places, home.doctor / STREAMS)


def extract(home: Home, options: Options, *, relock: bool = False) -> tuple[dict[str, Any], bool]:
    """`affectory extract`: the answer as JSON-able data, and whether too many clips failed or a job still waits.

    relock: replace the recipe's lock by what is here in the end.
    """
    began = time.perf_counter()
    session = Session.open(home, options)
    if options.retry_failed:
        session.retry_failed()
    report, found = extract_shown(session)
    if relock:
        from pipeline.transfer.locking import relock as write_lock

        write_lock(session)
    total = report.total()
    answer = {
        "dataset": session.corpus.recipe.name,
        "jobs": report.jobs,
        "computed": dict(total.computed),
        "copied": {name: count for name, count in total.copied.items() if count},
        "calls": dict(total.calls),
        "cached": report.cached,
        "failed": {modality: dict(reasons) for modality, reasons in found.failed.items() if reasons},
        "left_out": found.left_out,
        "waiting": sorted(report.waiting.values()),
        "differing": found.differing,
        "seconds": round(time.perf_counter() - began, 2),
        "view": {} if options.modality or report.waiting else session.repaired(session.views),
    }
    return answer, found.too_many or bool(report.waiting)


def extract_shown(session: Session) -> tuple[Report, Coverage]:
    """Extracts what is missing, and shows what was done and what `covered` shows."""
    report = session.extract()
    console.print(outcome_table(report))
    if not report.jobs:
        console.print("Nothing to do: everything this recipe asks for is in the cache.")
    for message in sorted(report.waiting.values()):
        console.print(f"[red]{escape(message)}; the same command tries again[/red]")
    return report, covered(session)


@dataclass(frozen=True)
class Coverage:
    """What a corpus has no features of: utterances by modality and reason, whether they are more than `max_failed` of
    one, by how much its counts differ from the published ones, and what each fit had to leave out, with the reason."""

    failed: Mapping[str, Counter[str]]
    too_many: bool
    differing: Mapping[str, int]
    left_out: Mapping[str, Mapping[str, str]]


def covered(session: Session) -> Coverage:
    """Finds and shows what has no features and why, whether this call or an earlier one met it, and what else a person
    has to know of this copy of the corpus."""
    by_utterance = coverage.reasons(session.planner)
    failed = coverage.counts(by_utterance)
    over = coverage.over_limit(session.corpus, by_utterance)
    missing = counts.differing(session.corpus)
    tables = (reason_table(failed), count_table(missing) if missing else None)
    for table in filter(None, tables):
        console.print(table)
    for modality, share in over.items():
        limit = session.corpus.recipe.max_failed
        console.print(f"[red]{share:.1%} of {modality} failed, more than max_failed = {limit:.0%}[/red]")
    if noted := remarks.said(session.corpus.manifest.rows):
        console.print(noted)
    without = left_out.by_fit(session.planner)
    for name, lacking in without.items():
        rows = ", ".join(f"{utterance}: {reason}" for utterance, reason in lacking.items())
        console.print(
            f"[yellow]the fit of {escape(name)} left out {escape(rows)}; it is made again once they are there[/yellow]"
        )
    return Coverage(failed, bool(over), {each.name: each.difference for each in missing}, without)


def plan(home: Home, options: Options) -> dict[str, Any]:
    """`affectory plan`: what `extract` would compute, by stage, why, and what a row has cost here before.

    Stages of one name are told apart by their digests.
    """
    session = Session.open(home, options)
    found = session.planner.plan()
    todo, copied = estimate.rows(found)
    called = labels(node for node, _ in session.planner.wanted)
    costs = estimate.cost(session.planner.store, todo + found.behind)

    def by_label(counts: Mapping[Node, T]) -> dict[str, T]:
        return {called[node]: count for node, count in counts.items()}

    fits = [f"{job.node.name} on {job.scope}" for job in found.jobs if not hasattr(job, "runs")]
    return {
        "dataset": session.corpus.recipe.name,
        "compute": by_label(todo),
        "copy": by_label(copied),
        "fits": fits,
        "pending": by_label(found.behind),
        "cached": by_label(found.there),
        "because": because(session, found),
        "estimate": by_label(costs),
        "views": session.view_sizes(found),
    }
