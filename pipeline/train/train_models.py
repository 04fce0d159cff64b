"""Trains models on every fold: one job for each model and fold, and one answer for each model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline import plugins
from pipeline.cache import flock, keys
from pipeline.cache.atomic import publish
from pipeline.console import print_line
from pipeline.corpus.recipe_training import TrainConfig, all_settings, model_class, resolve, split
from pipeline.errors import InputError, KilledError
from pipeline.model import DialogueModel, Model
from pipeline.plan.session import Session
from pipeline.plugins import name_of
from pipeline.reader import Fold
from pipeline.run.exchange import inodes, shares
from pipeline.run.extraction import workers as workers_of
from pipeline.stage import Modality
from pipeline.train.fold_result import FoldResult, summarise
from pipeline.train.progress import EpochBars, Training
from pipeline.train.run_name import RunName
from pipeline.train.tensorboard import TensorBoard
from pipeline.train.train_fold import FUSION, LOCK, Device, TrainRequest, train_fold
from pipeline.views.build_view import build_columns

LOOP_VERSION = 4
"""Bumped when the same request gives other results, because the training loop has changed."""


@dataclass(frozen=True)
class FoldJob:
    """One model on one fold, as a job for a worker."""

    request: TrainRequest
    gpu: bool = True

    @property
    def id(self) -> str:
        """A digest: jobs that do the same have the same id."""
        return keys.digest("train", self.request.digest)


@dataclass
class Run:
    """One model on all folds: its jobs, the directory of its files, and the results so far, by fold.

    settings: of the model and of the training loop, all of them.
    """

    name: RunName
    settings: dict[str, Any]
    path: Path
    jobs: list[FoldJob]
    results: dict[str, FoldResult] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The name of the model."""
        return self.name.model


def work(job: FoldJob) -> FoldResult:
    """Does one job, on a worker."""
    return train_fold(job.request)


def check(session: Session, models: Sequence[str]) -> None:
    """Raises InputError if a corpus has no labels, or if a model can't learn them."""
    if not session.corpus.labels:
        raise InputError("this corpus has no labels to train on")
    target = session.corpus.target
    unfit = [name for name in models if not model_class(name).learns(target)]
    if unfit:
        several = f" of {len(target.classes)}" if target.several or target.task != "regression" else " of one number"
        raise InputError(f"{', '.join(unfit)} can't learn the labels of this corpus, a {target.task}{several}")
    session.check_train()


def prepare(
    session: Session,
    name: str,
    seed: int,
    ablation: Mapping[str, Any] = MappingProxyType({}),
    device: Device = "auto",
    *,
    best_test_epoch: bool = False,
) -> Run:
    """The jobs of one model on all folds, with their columns, which are written if they do not exist yet.

    ablation: settings that differ from the recipe's `[train.<name>]`, and are in the name of the run. device: where it
    is trained, which decides nothing else. best_test_epoch: see `TrainRequest`. Raises InputError for unknown settings,
    and for features that are not extracted.
    """
    corpus, recipe = session.corpus, session.corpus.recipe
    section = {**recipe.train.get(name, {}), **ablation}
    requests = [_request(session, name, section, fold, seed) for fold in corpus.folds]
    digest = keys.digest("run", [request.digest for request in requests])
    path = session.home.runs / recipe.home_name / f"{name}-{corpus.protocol}-seed{seed}-{digest[:8]}"
    jobs = [
        FoldJob(replace(request, run=path / request.fold.name, device=device, best_test_epoch=best_test_epoch))
        for request in requests
    ]
    kind = model_class(name)
    changes = [
        *session.options.changes,
        *(f"train.{name}.{key}={json.dumps(value)}" for key, value in ablation.items()),
    ]
    called = RunName.of(name, kind.features, corpus.protocol, changes, seed)
    return Run(called, all_settings(kind, section), path, jobs)


def _request(session: Session, name: str, section: Mapping[str, Any], fold: Fold, seed: int) -> TrainRequest:
    """The request of one fold. section: the settings of the model. Its run is the directory of all runs, since a run's
    own is named by all of its folds."""
    corpus, rows, kind = session.corpus, session.corpus.manifest.rows, model_class(name)
    config, training = split(kind, section)
    built = build_columns(corpus, session.catalogue, kind.features, fold, session.home.root)
    columns: dict[str, Path] = {m: built[m] for m in _chosen(kind, resolve(kind, config, training)[1], list(built))}
    names = {modality: path.name for modality, path in columns.items()}
    labels = {i: corpus.labels[i] for part in (fold.train, fold.valid, fold.test) for i in part}
    speakers = {row.id: row.speaker or "" for row in rows}
    dialogues = {row.id: row.dialogue for row in rows} if issubclass(kind, DialogueModel) else {}
    decides = [name, _code(name), config, training, names, labels, asdict(corpus.target), speakers, asdict(fold), seed]
    if dialogues:
        decides.append(list(dialogues.items()))  # the order of turns decides too
    return TrainRequest(
        model=name,
        config=config,
        training=training,
        ids=tuple(row.id for row in rows),
        columns=columns,
        labels=labels,
        target=corpus.target,
        fold=fold,
        speakers=speakers,
        run=session.home.runs,
        seed=seed,
        device="auto",
        digest=keys.digest("fold", decides),
        dialogues=dialogues,
    )


def _chosen(kind: type[Model], settings: TrainConfig, known: Sequence[Modality]) -> Sequence[Modality]:
    """The modalities that a model reads. Raises InputError if its feature set lacks one that the settings name."""
    absent = [m for m in settings.modalities if m not in known]
    if absent:
        raise InputError(f"{name_of(kind)}.modalities: [features.{kind.features}] has no {', '.join(absent)}")
    return settings.modalities or known


def _code(model: str) -> str:
    """A digest of a model's source, of what models share, and of the loop's version: an edited model is trained again,
    and a new one leaves the others alone."""
    folder = plugins.folder("models")
    sources = [folder / f"{model}.py", *sorted(folder.glob("_*.py"))]
    return keys.digest(LOOP_VERSION, [(path.name, keys.file_digest(path)) for path in sources])


def train(session: Session, runs: Sequence[Run], board: TensorBoard | None = None) -> None:
    """Trains every fold of the runs on the session's workers, with a bar for each model, and for TensorBoard if asked.

    If a fold kills its worker, the others are still trained; then KilledError names the folds that were not. Raises
    InputError if a worker does not see this disk.
    """
    jobs = [job for run in runs for job in run.jobs]
    by_path = {job.request.run: run for run in runs for job in run.jobs}
    batches = iter([jobs])
    trainings = {job.request.run: _training(run, job) for run in runs for job in run.jobs}
    if any(flock.held(job.request.run / LOCK) for job in jobs):
        print_line("Another process trains the same: waiting for its results.")
    killed: list[str] = []
    watch = board.note if board else None
    with workers_of(session) as workers, EpochBars(list(trainings.values()), watch) as bars:
        workers.preflight()
        if not workers.agree(partial(shares, session.home.cache, inodes(session.home.root))):
            raise InputError(
                f"not every worker shares {session.home.root} with this driver: training reads views there"
            )
        for job, result in workers.run(work, lambda: next(batches, [])):
            if isinstance(result, FoldResult):
                by_path[job.request.run].results[result.fold] = result
                bars.end(trainings[job.request.run])
                if board:
                    board.end(trainings[job.request.run], result)
            else:
                killed.append(f"training {job.request.model} on {job.request.fold.name} {result.advice}")
    if killed:
        raise KilledError("\n".join(killed))


def _training(run: Run, job: FoldJob) -> Training:
    return Training(run.model, job.request.work / FUSION, job.request.run, run.settings["epochs"])


def answer(
    session: Session, run: Run, failed: Mapping[str, Mapping[str, int]], *, listed: bool = True
) -> dict[str, Any]:
    """The JSON answer of one model. It is written beside its folds, and as the newest run of its name (`RunName`).

    failed: utterances without features, by modality and reason. listed: False for a trial of a sweep, which is found by
    its folder alone.
    """
    recipe = session.corpus.recipe
    folds = [run.results[fold.name] for fold in session.corpus.folds]
    protocol = session.corpus.protocol
    summary = {
        "model": run.model,
        "name": run.name.text,
        "changes": list(run.name.changes),
        "settings": run.settings,
        "dataset": recipe.name,
        "protocol": protocol,
        "seed": folds[0].seed,
        "opened": {name: getattr(session.options.anywhere, name) for name in ("dataset", "root", "changes")},
        "manifest": session.corpus.manifest.digest,
        "columns": [{m: path.name for m, path in job.request.columns.items()} for job in run.jobs],
        "folds": [asdict(fold) for fold in folds],
        "metrics": summarise(folds),
        "run": str(run.path),
        "failed": {modality: dict(reasons) for modality, reasons in failed.items()},
    }
    newest = session.home.runs / recipe.home_name / f"{run.name.stem}.json"
    for path in (run.path / "run.json", *([newest] if listed else [])):
        publish(path, json.dumps(summary, indent=1))
    return summary
