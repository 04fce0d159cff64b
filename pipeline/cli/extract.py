"""The commands `extract` and `plan`, and what a person has to know of a corpus whose features are there."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import typer
from rich.markup import escape

from pipeline.cache.home import Home
from pipeline.cli import tables
from pipeline.cli.options import (
    Dataset,
    Features,
    Gpus,
    Json,
    Locked,
    Modality,
    Part,
    Protocol,
    Relock,
    RemoteUrl,
    RetryFailed,
    Root,
    Scheduler,
    Set,
    Workers,
    options,
    tell,
)
from pipeline.console import console
from pipeline.corpus import published, remarks
from pipeline.corpus.recipe import Node, distinct_names
from pipeline.corpus.recipe_file import home_name, recipe_path
from pipeline.errors import TOO_MANY_FAILED
from pipeline.plan import estimate, shortfall
from pipeline.plan.jobs import FitJob, Plan
from pipeline.plan.session import Session
from pipeline.report.changes import because
from pipeline.run import extraction
from pipeline.run.outcome import RunCounts
from pipeline.transfer.final_records import relock as write_lock
from pipeline.views import build_view

T = TypeVar("T")

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
    remote: RemoteUrl = "",
    locked: Locked = False,
    relock: Relock = False,
    retry_failed: RetryFailed = False,
    part: Part = "",
    as_json: Json = False,
) -> None:
    """Computes what is missing of a corpus's features, and nothing else.

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
        remote=remote,
        locked=locked,
        part=part,
    )
    home = Home()
    log = home.log_to_file("extract", home_name(recipe_path(dataset)))
    session = Session.open(home, given)
    answer, failed = extracted(extraction.retry_failed(session) if retry_failed else session, relock=relock)
    tell(answer, as_json, f"Log: {log}")
    if failed:
        raise typer.Exit(TOO_MANY_FAILED)


def extracted(session: Session, *, relock: bool = False) -> tuple[dict[str, Any], bool]:
    """Extracts, shows, and builds the views: the answer as JSON-able data, and whether too many clips failed or a job
    still waits. relock: replace the recipe's lock by what is here in the end."""
    began = time.perf_counter()
    counts, coverage = extract_shown(session)
    if relock:
        write_lock(session)
    answer = _answer(session, counts, coverage) | {"seconds": round(time.perf_counter() - began, 2)}
    return answer, coverage.too_many or bool(counts.waiting)


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
        "view": {} if counts.waiting else _views(session),
    }


def _views(session: Session) -> dict[str, Any]:
    """The directories of all views, built if they are missing; none if a modality or a part alone was asked for."""
    if session.options.modality or session.options.part:
        return {}
    return extraction.repaired(session, lambda: _built(session))


def _built(session: Session) -> dict[str, Any]:
    return build_view.every(session.corpus, session.catalogue, session.options.features, session.home.root)


@commands.command()
def plan(
    dataset: Dataset,
    root: Root = "",
    modality: Modality = "",
    features: Features = None,
    protocol: Protocol = "",
    change: Set = None,
    as_json: Json = False,
) -> None:
    """Says what `extract` would compute, with time and disk, and computes nothing.

    Example: `affectory plan --dataset demo --set features.hjcag.audio.feature_set=ComParE_2016`
    """
    given = options(dataset, root, modality=modality, features=features, protocol=protocol, change=change)
    answer = planned(Session.open(Home(), given))
    if not as_json:
        console.print(tables.plan_table(answer))
    tell(answer, as_json, "")


def planned(session: Session) -> dict[str, Any]:
    """What `extract` would compute, by stage, why, and what a row has cost here before.

    Stages of one name are told apart by their digests.
    """
    plan = session.plan()
    todo, copied = estimate.rows(plan)
    names = distinct_names(node for node, _ in session.catalogue.wanted)

    def by_name(counts: Mapping[Node, T]) -> dict[str, T]:
        return {names[node]: count for node, count in counts.items()}

    return {
        "dataset": session.corpus.recipe.name,
        "compute": by_name(todo),
        "copy": by_name(copied),
        "fits": _fits(plan),
        "waiting": by_name(plan.waiting),
        "cached": by_name(plan.cached),
        "because": because(session, plan),
        "estimate": by_name(estimate.cost(session.catalogue.store, todo + plan.waiting)),
        "views": session.view_sizes(plan),
    }


def _fits(plan: Plan) -> list[str]:
    return [f"{job.node.name} on {job.scope}" for job in plan.jobs if isinstance(job, FitJob)]


# --- what `train` shows too ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coverage:
    """What a corpus has no features of.

    failed: utterances by modality and reason. too_many: more than `max_failed` of a modality failed. differing: by how
    much counts differ from the published ones. left_out: by fit, the utterances that it had to leave out, with the
    reason.
    """

    failed: Mapping[str, Counter[str]]
    too_many: bool
    differing: Mapping[str, int]
    left_out: Mapping[str, Mapping[str, str]]


def extract_shown(session: Session) -> tuple[RunCounts, Coverage]:
    """Extracts what is missing, and shows what was done and what `covered` shows."""
    counts = extraction.extract(session)
    console.print(tables.extraction_table(counts))
    if not counts.jobs and not counts.waiting:
        part = session.options.part
        whole = "everything this recipe asks for is in the cache"
        console.print(f"Nothing to do: {f'the shards of part {part} are in the cache' if part else whole}.")
    for message in sorted(counts.waiting.values()):
        console.print(f"[red]{escape(message)}; the same command tries again[/red]", soft_wrap=True)
    return counts, covered(session)


def covered(session: Session) -> Coverage:
    """Finds and shows the utterances without features, whether this call or an earlier one met them, and whatever else
    a person has to know of this copy of the corpus."""
    by_utterance = shortfall.reasons(session.catalogue)
    failed = shortfall.counts(by_utterance)
    differing = published.differing(session.corpus)
    shown = (tables.reason_table(failed), tables.count_table(differing) if differing else None)
    for table in filter(None, shown):
        console.print(table)
    over = shortfall.over_limit(session.corpus, by_utterance)
    for modality, share in over.items():
        limit = session.corpus.recipe.max_failed
        console.print(f"[red]{share:.1%} of {modality} failed, more than max_failed = {limit:.0%}[/red]")
    if remarked := remarks.said(session.corpus.manifest.rows):
        console.print(remarked)
    left_out = shortfall.by_fit(session.catalogue)
    _tell_left_out(left_out)
    return Coverage(failed, bool(over), {count.name: count.difference for count in differing}, left_out)


def _tell_left_out(left_out: Mapping[str, Mapping[str, str]]) -> None:
    for name, missing in left_out.items():
        rows = escape(", ".join(f"{utterance}: {reason}" for utterance, reason in missing.items()))
        message = f"the fit of {escape(name)} left out {rows}; it is made again once they are there"
        console.print(f"[yellow]{message}[/yellow]", soft_wrap=True)
