"""`affectory train`: views from shards, one job for each model and fold on the workers, and their sum."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

import models
from pipeline.cache import flock, keys
from pipeline.cache.atomic import publish
from pipeline.cache.home import Home
from pipeline.console import TrainBars, console
from pipeline.corpus.recipe_training import model_class, split
from pipeline.errors import InputError
from pipeline.plan.session import Coverage, Options, Session, covered, extract_shown
from pipeline.reader import Fold
from pipeline.run.exchange import marks, shares
from pipeline.train.fold_result import FoldResult, summarise
from pipeline.train.train_fold import LOCK, TrainRequest, train_fold
from pipeline.views.build_view import columns

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


def train(
    home: Home, options: Options, names: Sequence[str], seed: int, *, extract: bool
) -> tuple[list[dict[str, Any]], bool]:
    """Trains each model on each fold; returns one answer a model, and whether too many clips failed.

    Extracts first what is missing, and shows what `affectory extract` shows; too many failures hinder no training, as
    they hinder no extraction. With `extract` False raises InputError where something is missing. Raises InputError too
    for a corpus without labels.
    """
    classes = {name: model_class(name) for name in names}
    features = tuple(options.features) or tuple(kind.features for kind in classes.values())
    session = Session.open(home, Options(**{**asdict(options), "features": features}))
    if not session.corpus.labels:
        raise InputError("this corpus has no labels to train on")
    session.check_train()
    found = extract_shown(session)[1] if extract else covered(session)
    runs = session.repaired(lambda: [_run(session, name, kind, seed) for name, kind in classes.items()])
    _train(session, runs)
    answers = [_answer(session, run, found) for run in runs]
    console.print(_table(answers))
    return answers, found.too_many


def work(job: FoldJob) -> FoldResult:
    """One job on a worker."""
    return train_fold(job.request)


def _run(session: Session, name: str, kind: type[Any], seed: int) -> Run:
    corpus, recipe = session.corpus, session.corpus.recipe
    config, training = split(kind, recipe.train.get(name, {}))
    made = [_request(session, name, kind, fold, config, training, seed) for fold in corpus.folds]
    digest = keys.digest("run", [digest for digest, _ in made])
    protocol = session.corpus.protocol
    path = session.home.runs / recipe.name / f"{name}-{protocol}-seed{seed}-{digest[:8]}"
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
    found = columns(corpus, session.planner, kind.features, fold, session.home.root)
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
    return keys.digest(LOOP_VERSION, keys.file_digest(Path(models.__path__[0])))


def _train(session: Session, runs: Sequence[Run]) -> None:
    jobs = [job for run in runs for job in run.jobs]
    by_path = {job.request.run: run for run in runs for job in run.jobs}
    once = iter([jobs])
    if any(flock.held(job.request.run / LOCK) for job in jobs):
        console.print("Another process trains the same: waiting for its results.")
    with session.workers() as workers, TrainBars({run.model: len(run.jobs) for run in runs}) as bars:
        workers.preflight()
        if not workers.agree(partial(shares, session.home.cache, marks(session.home.root))):
            raise InputError(
                f"not every worker shares {session.home.root} with this driver: training reads views there"
            )
        for job, result in workers.run(work, lambda: next(once, [])):
            if not isinstance(result, FoldResult):
                raise RuntimeError(f"training {job.request.model} on {job.request.fold.name} failed: {result}")
            by_path[job.request.run].results[result.fold] = result
            bars.done(job.request.model)


def _answer(session: Session, run: Run, found: Coverage) -> dict[str, Any]:
    """The JSON answer of one model, kept beside its folds and as the newest run of this model and protocol."""
    recipe = session.corpus.recipe
    folds = [run.results[fold.name] for fold in session.corpus.folds]
    protocol = session.corpus.protocol
    answer = {
        "model": run.model,
        "dataset": recipe.name,
        "protocol": protocol,
        "seed": folds[0].seed,
        "columns": [{m: path.name for m, path in job.request.columns.items()} for job in run.jobs],
        "folds": [asdict(fold) for fold in folds],
        "metrics": summarise(folds),
        "run": str(run.path),
        "failed": {modality: dict(reasons) for modality, reasons in found.failed.items()},
    }
    for path in (run.path / "run.json", session.home.runs / recipe.name / f"{run.model}-{protocol}.json"):
        publish(path, json.dumps(answer, indent=1))
    return answer


SHOWN = ("accuracy", "f1_weighted", "f1_macro", "uar", "f1", "mae", "corr", "ccc", "acc2_non0", "acc7")


def _table(answers: Sequence[Mapping[str, Any]]) -> Table:
    pooled = [answer["metrics"]["pooled"] for answer in answers]
    names = [name for name in SHOWN if isinstance(pooled[0].get(name), float)]
    table = Table("model", *names, title="Test")
    for answer, scores in zip(answers, pooled, strict=True):
        table.add_row(answer["model"], *(_figure(scores.get(name)) for name in names))
    table.add_row("majority", *(_figure(pooled[0].get(f"majority_{name}")) for name in names))
    return table


def _figure(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "-"
