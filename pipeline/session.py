"""A command's work, without the command line: open a corpus, extract, plan."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline import counts, coverage, estimate, manifest, remarks, view
from pipeline.call import Knobs
from pipeline.driver import Corpus, Report, drive
from pipeline.errors import InputError, closest
from pipeline.home import STREAMS, Home
from pipeline.inline import Inline
from pipeline.load import read_recipe, recipe_path
from pipeline.plan import Planner
from pipeline.progress import Bars, console, count_table, outcome_table, reason_table
from pipeline.recipe import Recipe
from pipeline.store import CorruptError, Store

if TYPE_CHECKING:
    from pipeline.schedule import Workers

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


@dataclass(frozen=True)
class Session:
    """A corpus opened for work."""

    home: Home
    options: Options
    corpus: Corpus
    planner: Planner

    @classmethod
    def open(cls, home: Home, options: Options) -> Session:
        """Reads the recipe, scans the corpus, and plans for what the options ask.

        `options.dataset` is a recipe's name in manifests/ or the path of a TOML file. Raises InputError.
        """
        path = recipe_path(options.dataset)
        read = read_recipe(path, root=options.root, changes=options.changes, memory=home.memory, home=home.root)
        _known(options, read)
        scanned = manifest.build(read.reader, read.root, home.memory)
        corpus = Corpus(read, scanned, options.protocol or read.protocol)
        places = corpus.places(options.modality or None, options.features)
        doctored = home.doctor / STREAMS
        planner = Planner(scanned, Store(home.cache), corpus.target, corpus.labels, places, doctored)
        return cls(home, options, corpus, planner)

    def extract(self) -> Report:
        """Extracts what is missing, with live bars; see `drive`. Raises SpaceError where the plan needs more disk."""
        with Bars() as bars:
            report = drive(self.planner, self._start, Knobs(), bars)
        self.home.sweep()
        self.home.remember(self.options.dataset, self.options.root, self.options.changes)
        return report

    def _start(self) -> Workers | Inline:
        estimate.check_space(self.planner.store, self.planner.plan())
        return self.workers()

    def views(self) -> dict[str, Any]:
        """Every view the options ask for; see `pipeline.view.every`."""
        return view.every(self.corpus, self.planner, self.options.features, self.home.root)

    def repaired(self, work: Callable[[], T]) -> T:
        """`work()`, once more after another extraction where it met a corrupt object, which is set aside by then."""
        try:
            return work()
        except CorruptError:
            self.extract()
            return work()

    def workers(self) -> Workers | Inline:
        """The workers of this call, not started yet."""
        if self.options.workers == 0:
            return Inline()
        from pipeline.schedule import Workers

        return Workers(self.options.scheduler, self.options.workers, self.options.gpus)


def _known(options: Options, read: Recipe) -> None:
    modalities = {m for selections in read.features.values() for m in selections}
    if options.modality and options.modality not in modalities:
        raise InputError(f"no modality {options.modality!r} in this recipe: {closest(options.modality, modalities)}")
    for name in set(options.features) - read.features.keys():
        raise InputError(f"no feature set {name!r} in this recipe: {closest(name, read.features)}")


def extract(home: Home, options: Options) -> tuple[dict[str, Any], bool]:
    """`affectory extract`: the answer as JSON-able data, and whether too many clips failed."""
    began = time.perf_counter()
    session = Session.open(home, options)
    report = session.extract()
    by_utterance = coverage.reasons(session.planner)
    failed = coverage.counts(by_utterance)
    over = coverage.over_limit(session.corpus, by_utterance)
    _show(report, failed, over, session.corpus.recipe.max_failed)
    missing = counts.differing(session.corpus)
    if missing:
        console.print(count_table(missing))
    if noted := remarks.said(session.corpus.manifest.rows):
        console.print(noted)
    total = report.total()
    answer = {
        "dataset": session.corpus.recipe.name,
        "jobs": report.jobs,
        "computed": dict(total.computed),
        "copied": {name: count for name, count in total.copied.items() if count},
        "calls": dict(total.calls),
        "cached": report.cached,
        "failed": {modality: dict(found) for modality, found in failed.items() if found},
        "differing": {each.name: each.difference for each in missing},
        "seconds": round(time.perf_counter() - began, 2),
        "view": {} if options.modality else session.repaired(session.views),
    }
    return answer, bool(over)


def _show(report: Report, failed: dict[str, Counter[str]], over: dict[str, float], limit: float) -> None:
    console.print(outcome_table(report))
    if not report.jobs:
        console.print("Nothing to do: everything this recipe asks for is in the cache.")
    table = reason_table(failed)
    if table is not None:
        console.print(table)
    for modality, share in over.items():
        console.print(f"[red]{share:.1%} of {modality} failed, more than max_failed = {limit:.0%}[/red]")


def plan(home: Home, options: Options) -> dict[str, Any]:
    """`affectory plan`: what `extract` would compute, by stage, with what a row has cost here before."""
    session = Session.open(home, options)
    found = session.planner.plan()
    todo, copied = estimate.rows(found)
    fits = [f"{job.node.name} on {job.scope}" for job in found.jobs if not hasattr(job, "runs")]
    return {
        "dataset": session.corpus.recipe.name,
        "compute": dict(todo),
        "copy": dict(copied),
        "fits": fits,
        "pending": dict(found.pending),
        "cached": dict(found.cached),
        "estimate": estimate.cost(session.planner.store, todo + found.pending),
    }
