"""Extraction as a whole: checks the plan, starts workers, drives them, and notes what was done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pipeline import fit_progress
from pipeline.cache.home import Home
from pipeline.cache.store import CorruptError
from pipeline.console import Bars, print_line
from pipeline.corpus.locked_store import LockedStore
from pipeline.corpus.open_corpus import Options, remember
from pipeline.corpus.recipe import Recipe
from pipeline.corpus.recipe_file import home_name, read_recipe, recipe_path
from pipeline.errors import AffectoryError, InputError
from pipeline.plan import estimate, last_extraction, preflight
from pipeline.plan.jobs import FitJob, Job, Plan
from pipeline.plan.session import Session
from pipeline.reason import Reason
from pipeline.run import preload, time_spent
from pipeline.run.driver import drive
from pipeline.run.inline_workers import Inline
from pipeline.run.outcome import RunCounts
from pipeline.run.stage_calls import Knobs

if TYPE_CHECKING:
    from pipeline.run.dask_workers import Workers  # Dask takes half a second to import: only if there is work

T = TypeVar("T")


def extract(session: Session, *, noted: bool = True) -> RunCounts:
    """Extracts what is missing, with live bars; see `drive`.

    noted: whether the corpus becomes the one that was extracted last, which later commands take if they name none.
    With a lock nothing is computed: the objects that it names are fetched if they are not here. Raises SpaceError if
    the plan needs more disk than there is, InputError for what a lock does not name.
    """

    def start(plan: Plan) -> Workers | Inline:
        session.check_train()
        preflight.check_raw(session.corpus.manifest, plan)
        preflight.check_weights(plan)
        preflight.check_compared(session.verdicts, plan)
        estimate.check_space(session.catalogue.store, plan, session.view_sizes(plan))
        return workers(session)

    with session.pinned():
        store = session.catalogue.store
        if isinstance(store, LockedStore):
            preflight.bring_locked(session.catalogue, session.plan())
            store.note_use()
        with Bars() as bars, _noting_fits(bars), _telling_fits():
            counts = drive(session.catalogue, session.plan, start, Knobs(), _shown_by(bars), session.location)
    session.home.sweep()
    if session.options.part or not noted:
        return counts  # of a part, the call that finishes what is left notes the extraction
    if counts.spent is not None:
        time_spent.keep(session.home.root, session.corpus.recipe.home_name, counts.spent)
    if counts.jobs or not last_extraction.is_noted(session):
        last_extraction.write(session)
    remember(session.home, session.options)
    return counts


def retry_failed(session: Session, stage: str = "", reason: str = "") -> Session:
    """A session in which the rows that failed, in one stage or for one reason if given, are computed again.

    Their shards serve until then. The doctor's findings are of an earlier day, so they are not taken over.
    """
    if isinstance(session.catalogue.store, LockedStore):
        raise InputError("with --locked, or for a release, nothing is computed, so nothing that failed is tried again")
    for rows in session.catalogue:
        for shard in rows.shards if stage in ("", rows.node.name) else ():
            record = rows.final(shard)
            reasons = record.reasons if record else {}
            failed = {i for i, why in reasons.items() if Reason(why).failed and reason in ("", why)}
            if record and failed:
                good = (key for row, key in zip(shard.rows, shard.keys, strict=True) if row.id not in failed)
                session.catalogue.store.demote(record, tuple(good))
    return replace(session, doctored=False)


def repaired(session: Session, work: Callable[[], T]) -> T:
    """`work()`; if it meets a corrupt object, which is then set aside, extracts again and does the work once more."""
    with session.pinned():
        try:
            return work()
        except CorruptError:
            extract(session)
            return work()


def workers(session: Session) -> Workers | Inline:
    """The workers that the options ask for, not started yet."""
    options = session.options
    if options.workers == 0:
        return Inline()
    from pipeline.run.dask_workers import Workers

    return Workers(options.scheduler, options.workers, options.gpus, imports(session.corpus.recipe, options))


def prepare(home: Home, options: Options) -> None:
    """Has the modules that workers need imported while a corpus is scanned that was not extracted before, since there
    will be work. Says nothing of errors in the recipe."""
    path = recipe_path(options.dataset)
    if options.workers == 0 or options.scheduler or time_spent.kept(home.root, home_name(path)):
        return
    with suppress(AffectoryError):
        recipe = read_recipe(path, root=options.root, changes=options.changes, memory=home.memory, home=home.root)
        preload.prepare(options.workers, imports(recipe, options))


def imports(recipe: Recipe, options: Options) -> list[str]:
    """The modules that stages import when they work, and those of the stages."""
    asked = [
        selection
        for name, selections in recipe.features.items()
        for modality, selection in selections.items()
        if options.modality in ("", modality) and name in (options.features or (name,))
    ]
    stages = {node.stage for selection in asked for part in selection.parts for node in part.walk()}
    return sorted({module for stage in stages for module in (type(stage).__module__, *stage.imports)})


@contextmanager
def _noting_fits(bars: Bars) -> Iterator[None]:
    """A context that notes on an interruption that rows still wait for fits, which no bar counts yet."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if any(left.endswith(" fits") for left in bars.left()):
            stop.add_note("the rows that wait for these fits")
        raise


class _Told(logging.Handler):
    """Prints what fits say, above the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        print_line(record.getMessage())


@contextmanager
def _telling_fits() -> Iterator[None]:
    """A context in which people see what fits say, see `pipeline.fit_progress`."""
    told, level = _Told(), fit_progress.log.level
    fit_progress.log.addHandler(told)
    fit_progress.log.setLevel(logging.INFO)
    try:
        yield
    finally:
        fit_progress.log.removeHandler(told)
        fit_progress.log.setLevel(level)


def _shown_by(bars: Bars) -> Callable[[Sequence[Job], Job | None], None]:
    """A bar for each modality, and one for fits, that grow with new jobs and advance with those that have ended."""

    def name(job: Job) -> tuple[str, str]:
        return ("fits", "fits") if isinstance(job, FitJob) else (job.modality, "rows")

    def watch(new: Sequence[Job], ended: Job | None) -> None:
        for job in new:
            bars.grow(*name(job), job.size)
        if ended is not None:
            bars.advance(name(ended)[0], ended.size)

    return watch
