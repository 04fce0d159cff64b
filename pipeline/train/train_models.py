"""Trains models on every fold: one job on the workers for each model and fold, and the answer that adds them up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import plugins
from pipeline.cache import flock, keys
from pipeline.cache.atomic import publish
from pipeline.console import Bars, print_line
from pipeline.corpus.recipe_training import model_class, split
from pipeline.errors import InputError, KilledError
from pipeline.plan.session import Session
from pipeline.reader import Fold
from pipeline.run.exchange import inodes, shares
from pipeline.run.extraction import workers as workers_of
from pipeline.train.fold_result import FoldResult, summarise
from pipeline.train.train_fold import LOCK, TrainRequest, train_fold
from pipeline.views.build_view import build_columns

LOOP_VERSION = 2
"""Bumped when the training loop gives other results from the same request."""


@dataclass(frozen=True)
class FoldJob:
    """One model on one fold, as a job for the workers."""

    request: TrainRequest
    gpu: bool = True

    @property
    def id(self) -> str:
        """The same for the same work."""
        return keys.digest("train", self.request.digest)


@dataclass
class Run:
    """One model's folds and where their files go."""

    model: str
    path: Path
    jobs: list[FoldJob]
    results: dict[str, FoldResult] = field(default_factory=dict)


def work(job: FoldJob) -> FoldResult:
    """One job on a worker."""
    return train_fold(job.request)


def prepare(session: Session, name: str, seed: int) -> Run:
    """The jobs of one model on all folds; builds the views that are missing. Raises InputError for unknown settings,
    and for features that are not extracted."""
    corpus, recipe, kind = session.corpus, session.corpus.recipe, model_class(name)
    config, training = split(kind, recipe.train.get(name, {}))
    made = [_request(session, name, kind, fold, config, training, seed) for fold in corpus.folds]
    digest = keys.digest("run", [digest for digest, _ in made])
    protocol = session.corpus.protocol
    path = session.home.runs / recipe.home_name / f"{name}-{protocol}-seed{seed}-{digest[:8]}"
    jobs = [FoldJob(TrainRequest(**request, run=path / request["fold"].name)) for _, request in made]
    return Run(name, path, jobs)


def _request(
    session: Session,
    name: str,
    kind: type[Any],
    fold: Fold,
    config: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: int,
) -> tuple[str, dict[str, Any]]:
    """Everything of a TrainRequest but where its files go, and the digest of what decides the result."""
    corpus, rows = session.corpus, session.corpus.manifest.rows
    found = build_columns(corpus, session.catalogue, kind.features, fold, session.home.root)
    named = {modality: path.name for modality, path in found.items()}
    labels = {i: corpus.labels[i] for part in (fold.train, fold.valid, fold.test) for i in part}
    speakers = {row.id: row.speaker or "" for row in rows}
    decides = [name, _code(), config, training, named, labels, asdict(corpus.target), speakers, asdict(fold), seed]
    digest = keys.digest("fold", decides)
    request = {
        "model": name,
        "config": config,
        "training": training,
        "ids": tuple(row.id for row in rows),
        "columns": found,
        "labels": labels,
        "target": corpus.target,
        "fold": fold,
        "speakers": speakers,
        "seed": seed,
        "device": "auto",
        "digest": digest,
    }
    return digest, request


def _code() -> str:
    """The models' source: an edited model is another model. The loop has a version of its own."""
    return keys.digest(LOOP_VERSION, keys.file_digest(plugins.folder("models")))


def train(session: Session, runs: Sequence[Run]) -> None:
    """Trains every fold of the runs on the session's workers, with a bar for each model.

    A fold that kills its worker costs itself: the others are trained, then KilledError names those that were not.
    """
    jobs = [job for run in runs for job in run.jobs]
    by_path = {job.request.run: run for run in runs for job in run.jobs}
    once = iter([jobs])
    if any(flock.held(job.request.run / LOCK) for job in jobs):
        print_line("Another process trains the same: waiting for its results.")
    killed: list[str] = []
    with workers_of(session) as workers, Bars() as bars:
        for run in runs:
            bars.grow(run.model, "folds", len(run.jobs))
        workers.preflight()
        if not workers.agree(partial(shares, session.home.cache, inodes(session.home.root))):
            raise InputError(
                f"not every worker shares {session.home.root} with this driver: training reads views there"
            )
        for job, result in workers.run(work, lambda: next(once, [])):
            if isinstance(result, FoldResult):
                by_path[job.request.run].results[result.fold] = result
                bars.advance(job.request.model)
            else:
                killed.append(f"training {job.request.model} on {job.request.fold.name} {result.advice}")
    if killed:
        raise KilledError("\n".join(killed))


def answer(session: Session, run: Run, failed: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """The JSON answer of one model, kept beside its folds and as the newest run of this model and protocol.

    failed: utterances without features, by modality and reason.
    """
    recipe = session.corpus.recipe
    folds = [run.results[fold.name] for fold in session.corpus.folds]
    protocol = session.corpus.protocol
    found = {
        "model": run.model,
        "dataset": recipe.name,
        "protocol": protocol,
        "seed": folds[0].seed,
        "columns": [{m: path.name for m, path in job.request.columns.items()} for job in run.jobs],
        "folds": [asdict(fold) for fold in folds],
        "metrics": summarise(folds),
        "run": str(run.path),
        "failed": {modality: dict(reasons) for modality, reasons in failed.items()},
    }
    for path in (run.path / "run.json", session.home.runs / recipe.home_name / f"{run.model}-{protocol}.json"):
        publish(path, json.dumps(found, indent=1))
    return found
