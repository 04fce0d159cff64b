"""The commands `extract` and `plan`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import typer
from pydantic import TypeAdapter

from pipeline.ask.changes import because
from pipeline.ask.failures import check as check_failures
from pipeline.cache.home import Home
from pipeline.cli import tables
from pipeline.cli.coverage import Coverage, covered
from pipeline.cli.options import (
    Dataset,
    FailedFor,
    Features,
    Gpus,
    Json,
    Limit,
    Locked,
    Modality,
    OrLast,
    Part,
    Protocol,
    Relock,
    RemoteUrl,
    RetryFailed,
    Root,
    Scheduler,
    Set,
    Stage,
    Workers,
    options,
    or_last,
    show_answer,
)
from pipeline.console import console, print_line
from pipeline.corpus.open_corpus import Options, remember
from pipeline.corpus.recipe import Node, distinct_names
from pipeline.corpus.recipe_file import home_name, recipe_path
from pipeline.errors import TOO_MANY_FAILED, InputError
from pipeline.plan import estimate, finished, preflight, remarked
from pipeline.plan.jobs import FitJob, Plan
from pipeline.plan.session import Session
from pipeline.run import extraction
from pipeline.run.outcome import RunCounts
from pipeline.run.reference_job import compare, open_session
from pipeline.transfer.final_records import check_whole
from pipeline.transfer.final_records import relock as write_lock
from pipeline.views import build_view
from pipeline.views.view import use_column

T = TypeVar("T")

_COVERAGE = TypeAdapter(Coverage)

commands = typer.Typer()


@commands.command()
def extract(
    dataset: Dataset,
    root: Root = "",
    modality: Modality = "",
    features: Features = None,
    protocol: Protocol = "",
    workers: Workers = None,
    scheduler: Scheduler = "",
    gpus: Gpus = 0,
    change: Set = None,
    limit: Limit = None,
    remote: RemoteUrl = "",
    locked: Locked = False,
    relock: Relock = False,
    retry_failed: RetryFailed = False,
    stage: Stage = "",
    reason: FailedFor = "",
    part: Part = "",
    as_json: Json = False,
) -> None:
    """Extracts the features of a corpus: computes those that the cache lacks, and nothing else.

    Example: `affectory extract --dataset iemocap --root /corpora/IEMOCAP_full_release --modality audio`
    """
    given = options(
        dataset,
        root,
        modality=modality,
        features=features,
        protocol=protocol,
        workers=workers,
        scheduler=scheduler,
        gpus=gpus,
        change=change,
        limit=limit,
        remote=remote,
        locked=locked,
        part=part,
    )
    _extract(given, _tried_again(retry_failed, stage, reason), relock, as_json)


def _tried_again(wanted: bool, stage: str, reason: str) -> tuple[str, str] | None:
    if (stage or reason) and not wanted:
        raise InputError("--stage and --reason choose what --retry-failed tries again: add --retry-failed (RETRY=1)")
    return (stage, reason) if wanted else None


def _extract(given: Options, retry: tuple[str, str] | None, relock: bool, as_json: bool) -> None:
    """retry: the stage and the reason of the failed rows to compute again, "" for any; None for no failed row."""
    home = Home()
    log = home.log_to_file("extract", home_name(recipe_path(given.dataset)))
    seen = finished.look(home, given, compare) if retry is None and not relock else None
    answer, failed = _unchanged(seen) or _planned_anew(home, given, seen, retry, relock)
    show_answer(answer, as_json, f"Log: {log}")
    if failed:
        raise typer.Exit(TOO_MANY_FAILED)


def _unchanged(seen: finished.Seen | None) -> tuple[dict[str, Any], bool] | None:
    """What the last extraction answered, shown again, if nothing has changed since; see `pipeline.plan.finished`."""
    began = time.perf_counter()
    said = seen.known() if seen else None
    if seen is None or said is None:
        return None
    answer = json.loads(said)
    coverage = _COVERAGE.validate_python(answer.pop("coverage"))
    columns = [path for folds in answer["view"].values() for paths in folds.values() for path in paths.values()]
    if not all(use_column(Path(path)) for path in columns):
        return None
    _show_counts(RunCounts(cached=answer["cached"]))
    coverage.show()
    seen.home.sweep()
    remember(seen.home, seen.options)
    return answer | {"seconds": round(time.perf_counter() - began, 2)}, coverage.too_many


def _planned_anew(
    home: Home, given: Options, seen: finished.Seen | None, retry: tuple[str, str] | None, relock: bool
) -> tuple[dict[str, Any], bool]:
    extraction.prepare(home, given)
    session = open_session(home, given)
    if retry is not None:
        check_failures(session, *retry)
        session = extraction.retry_failed(session, *retry)
    answer, coverage, failed = _extracted(session, relock)
    if seen and not (answer["jobs"] or answer["waiting"] or answer["left_out"]):
        seen.keep(session, json.dumps(answer | {"coverage": _COVERAGE.dump_python(coverage, mode="json")}))
    return answer, failed


def extracted(session: Session, *, relock: bool = False) -> tuple[dict[str, Any], bool]:
    """Extracts features, shows what was done, and builds the views.

    relock: replaces the recipe's lock by what is cached in the end. Returns the answer as JSON-able data, and whether
    too many clips failed or a job still waits.
    """
    answer, _, failed = _extracted(session, relock)
    return answer, failed


def _extracted(session: Session, relock: bool) -> tuple[dict[str, Any], Coverage, bool]:
    began = time.perf_counter()
    if relock:
        check_whole(session)
    counts, coverage = extract_shown(session)
    if relock:
        write_lock(session)
    answer = _answer(session, counts, coverage) | {"seconds": round(time.perf_counter() - began, 2)}
    if counts.spent:
        print_line(counts.spent.line)
    return answer, coverage, coverage.too_many or bool(counts.waiting)


def _answer(session: Session, counts: RunCounts, coverage: Coverage) -> dict[str, Any]:
    total = counts.total()
    return {
        "dataset": session.corpus.recipe.name,
        "jobs": counts.jobs,
        "computed": dict(total.computed),
        "copied": {name: count for name, count in total.copied.items() if count},
        "calls": dict(total.calls),
        "cached": counts.cached,
        "failed": {modality: dict(reasons) for modality, reasons in coverage.failed.items() if reasons},
        "left_out": coverage.left_out,
        "waiting": sorted(counts.waiting.values()),
        "differing": coverage.differing,
        "remarks": remarked.by_stage(coverage.remarks),
        "time": counts.spent.answer() if counts.spent else {},
        "view": {} if counts.waiting else _views(session),
    }


def _views(session: Session) -> dict[str, Any]:
    """The directories of all views, built if they are missing; none if a modality or a part alone was asked for."""
    if session.options.modality or session.options.part:
        return {}
    return extraction.repaired(session, lambda: _built(session))


def _built(session: Session) -> dict[str, Any]:
    return build_view.build_all_columns(session.corpus, session.catalogue, session.options.features, session.home.root)


@commands.command()
def plan(
    dataset: OrLast = "",
    root: Root = "",
    modality: Modality = "",
    features: Features = None,
    protocol: Protocol = "",
    change: Set = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Shows what `extract` would compute and why, with time and disk, and checks the recipe. Computes nothing.

    Example: `affectory plan --dataset demo --set features.hjcag.audio.feature_set=ComParE_2016`
    """
    home = Home(asks=True)
    dataset, root, change = or_last(home, dataset, root, change)
    given = options(dataset, root, modality=modality, features=features, protocol=protocol, change=change, limit=limit)
    session = open_session(home, given)
    session.check_train()
    answer = planned(session)
    if not as_json:
        for shown in tables.plan_tables(answer):
            console.print(shown, highlight=False)
    show_answer(answer, as_json, "")


def planned(session: Session) -> dict[str, Any]:
    """What `extract` would compute by stage, why, and how much time and disk it needs, as JSON-able data.

    Stages of one name are distinguished by their digests. libraries: what other versions of them do to the features.
    """
    plan = session.plan()
    computed, copied = estimate.rows(plan)
    names = distinct_names(node for node, _ in session.catalogue.wanted)

    def by_name(counts: Mapping[Node, T]) -> dict[str, T]:
        return {names[node]: count for node, count in counts.items()}

    return {
        "dataset": session.corpus.recipe.name,
        "compute": by_name(computed),
        "copy": by_name(copied),
        "fits": _fits(plan),
        "waiting": by_name(plan.waiting),
        "cached": by_name(plan.cached),
        "because": because(session, plan),
        "estimate": by_name(estimate.cost(session.catalogue.store, computed + plan.waiting)),
        "views": session.view_sizes(plan),
        "weights": {"absent": preflight.absent_weights(plan), "unpinned": preflight.unpinned_weights(plan)},
        "libraries": [verdict.answer() for verdict in session.verdicts],
    }


def _fits(plan: Plan) -> list[str]:
    return [f"{job.node.name} on {job.scope}" for job in plan.jobs if isinstance(job, FitJob)]


def extract_shown(session: Session, *, noted: bool = True) -> tuple[RunCounts, Coverage]:
    """Extracts missing features, and shows what was done and the coverage. noted: see `extraction.extract`."""
    counts = extraction.extract(session, noted=noted)
    _show_counts(counts, session.options.part)
    for message in sorted(counts.waiting.values()):
        print_line(f"{message}; the same command tries again", "red")
    return counts, covered(session)


def _show_counts(counts: RunCounts, part: str = "") -> None:
    console.print(tables.extraction_table(counts))
    if not counts.jobs and not counts.waiting:
        whole = "everything this recipe asks for is in the cache"
        print_line(f"Nothing to do: {f'the shards of part {part} are in the cache' if part else whole}.")
