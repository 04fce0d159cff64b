"""Trains one model on one fold, and scores it once on test."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from pipeline.cache import flock
from pipeline.cache.atomic import publish
from pipeline.corpus.recipe_training import TrainConfig, model_class, resolve
from pipeline.errors import InputError, needing_memory
from pipeline.model import Input, Model, Solved, Trainable
from pipeline.objective import Objective, class_weights, prior
from pipeline.reader import Fold, Label
from pipeline.score import metrics, predictions
from pipeline.score.predictions import Predictions
from pipeline.stage import Target
from pipeline.train.best_test import best_test, watched
from pipeline.train.fold_result import RESULT, FoldResult, file_digests, read_result
from pipeline.train.loop import EPOCHS, History, Job, as_csv, best_epoch, fit, pick_device, solve
from pipeline.train.model_file import build, save_model
from pipeline.train.predict import dataset_for, predict_all
from pipeline.train.pretrain import pretrain
from pipeline.views.dataset import Dataset, statistics
from pipeline.views.dialogue_rows import DialogueRows
from pipeline.views.view import Rows, View, open_view

log = logging.getLogger(__name__)

LOCK = ".lock"
"""The file in a fold's folder that the process which trains it locks."""
Device = Literal["auto", "cpu", "cuda"]
FUSION = "fusion"
"""The folder of the whole model's training, beside that of what is trained before."""


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """One model on one fold; can be sent to another process.

    config, training: overrides of the model's configuration and of the loop's settings, from `recipe_training.split`.
    ids: the utterances of the view. columns: modality -> directory of its column. labels: at least of all utterances of
    the fold. speakers: utterance -> speaker, read for `normalize = "speaker"` and by a `DialogueModel`. dialogues:
    utterance -> dialogue, for a `DialogueModel` alone; the ids are in the order of a dialogue's turns. run: the
    directory of this fold's files. digest: of everything that decides the result; files of another digest in `run` are
    not used. best_test_epoch: also score test after each epoch, which changes no other result (H3).
    """

    model: str
    config: Mapping[str, Any]
    training: Mapping[str, Any]
    ids: tuple[str, ...]
    columns: Mapping[str, Path]
    labels: Mapping[str, Label]
    target: Target
    fold: Fold
    speakers: Mapping[str, str]
    run: Path
    seed: int
    device: Device
    digest: str
    dialogues: Mapping[str, str] = field(default_factory=dict)
    best_test_epoch: bool = False

    @property
    def work(self) -> Path:
        """The directory of what a killed run resumes from; `FUSION` in it is that of the whole model."""
        return self.run / f".work-{self.digest}{'-watched' if self.best_test_epoch else ''}"

    @property
    def dialogue_rows(self) -> DialogueRows | None:
        """The dialogues and speakers of the view's rows; None if the model reads no dialogues."""
        speakers = [self.speakers.get(name, "") for name in self.ids]
        return DialogueRows.of([self.dialogues[name] for name in self.ids], speakers) if self.dialogues else None


class _Setup(NamedTuple):
    """A request, checked, with its view opened. parts: "train", "valid", "test" -> their rows."""

    request: TrainRequest
    config: Any
    settings: TrainConfig
    device: str
    view: View
    dataset: Dataset
    parts: Mapping[str, Rows]

    def usable(self, part: str) -> Rows:
        """The rows of a part that have a valid step of any modality."""
        rows = self.parts[part]
        return rows[self.view.usable[rows]]

    def labels(self, part: str) -> list[Label]:
        return [self.request.labels[self.view.ids[row]] for row in self.parts[part]]


def train_fold(request: TrainRequest) -> FoldResult:
    """Trains, selects on validation, scores once on test.

    A fold that was finished under the same digest is read from disk. One that was killed resumes after its last epoch,
    with the same result. If another process trains it, this one waits. Raises InputError that lists all unknown and
    impossible settings, or if the fold has no row to learn from, to select on or to score.
    """
    finished = _finished(request)
    if finished is not None:
        return finished
    setup = _set_up(request)
    request.run.mkdir(parents=True, exist_ok=True)
    training = needing_memory(f"training {request.model} on {request.fold.name}")
    with training, flock.alone(request.run / LOCK, lambda: _log_waiting(request)):
        return _finished(request) or _trained(setup)


def _finished(request: TrainRequest) -> FoldResult | None:
    result = read_result(request.run)
    unusable = result is None or result.digest != request.digest or request.best_test_epoch > bool(result.best_test)
    return None if unusable else result


def _log_waiting(request: TrainRequest) -> None:
    log.warning("%s, %s: waiting for another process that trains the same", request.model, request.fold.name)


def _trained(setup: _Setup) -> FoldResult:
    """Trains under the fold's lock, so that nobody else writes into its folder."""
    request = setup.request
    (request.run / RESULT).unlink(missing_ok=True)
    model, pretrained, history = _train(setup)
    result = _finish(setup, model, pretrained, history)
    publish(request.run / RESULT, json.dumps(asdict(result), indent=1, allow_nan=False))
    for work in request.run.glob(".work-*"):
        shutil.rmtree(work)
    (request.run / LOCK).unlink()  # a process that waits for it finds the result
    return result


# --- before training -------------------------------------------------------------------------------------------


def _set_up(request: TrainRequest) -> _Setup:
    config, settings = resolve(model_class(request.model), request.config, request.training)
    view = open_view(request.ids, request.columns)
    parts = {part: view.rows(getattr(request.fold, part)) for part in ("train", "valid", "test")}
    _check(request, settings, view, parts)
    device, kind, by_speaker = pick_device(request.device), model_class(request.model), settings.normalize == "speaker"
    dataset = dataset_for(
        kind,
        view,
        request.labels,
        request.target,
        speakers=request.speakers if by_speaker else None,
        dialogues=request.dialogue_rows,
        device=device,
    )
    return _Setup(request, config, settings, device, view, dataset, parts)


def _check(request: TrainRequest, settings: TrainConfig, view: View, parts: Mapping[str, Rows]) -> None:
    used = [view.ids[row] for rows in parts.values() for row in rows]
    unlabelled = [name for name in used if name not in request.labels]
    empty = [part for part in ("train", "valid") if not view.usable[parts[part]].any()]
    errors = [f"{len(unlabelled)} utterances have no label: {', '.join(unlabelled[:5])}"] if unlabelled else []
    errors += [f"no {part} utterance has a valid step of any modality" for part in empty]
    if not len(parts["test"]):
        errors.append("no test utterance")
    if settings.class_weights and request.target.task == "regression":
        errors.append("class_weights needs classes, the task is regression")
    if settings.normalize == "speaker" and not all(request.speakers.get(name) for name in used):
        errors.append('normalize = "speaker" needs the speaker of every utterance')
    if errors:
        raise InputError("\n".join(f"fold {request.fold.name}: {error}" for error in errors))


# --- training --------------------------------------------------------------------------------------------------


def _train(setup: _Setup) -> tuple[Model, dict[str, History], History]:
    request, settings = setup.request, setup.settings
    torch.manual_seed(request.seed)
    model = build(request.model, setup.config, _inputs(setup.view), request.target.outputs)
    train, valid = setup.usable("train"), setup.usable("valid")
    if settings.normalize == "train":
        _standardise(model, setup.view, train)
    weights = class_weights(setup.dataset.labels[train], request.target) if settings.class_weights else None
    objective = Objective(request.target, weights)
    job = Job(setup.dataset, train, valid, objective, settings, request.seed, setup.device, request.work)
    watching = replace(job, watch=partial(_watched, setup)) if request.best_test_epoch else job
    if isinstance(model, Solved):
        return model, {}, solve(model, watching, request.target)
    pretrained = (
        pretrain(model, replace(job, directory=request.work / "pretrain")) if settings.unimodal_pretrain else {}
    )
    if settings.unimodal_pretrain == "frozen":
        for reduce in model.reductions().values():
            reduce.requires_grad_(False)
    model.begin(len(setup.view.ids), torch.from_numpy(train), setup.dataset.labels[train], request.target)
    return model, pretrained, fit(model, replace(watching, directory=request.work / FUSION))


def _inputs(view: View) -> dict[str, Input]:
    return {modality: Input(column.dim, column.length) for modality, column in view.columns.items()}


def _standardise(model: Model, view: View, rows: Rows) -> None:
    for modality, column in view.columns.items():
        mean, std = (torch.from_numpy(part) for part in statistics(column, rows))
        model.standardise.set(modality, mean, std)


# --- after training --------------------------------------------------------------------------------------------


def _finish(setup: _Setup, model: Model, pretrained: dict[str, History], history: History) -> FoldResult:
    request, run = setup.request, setup.request.run
    _save(setup, model)
    publish(run / EPOCHS, as_csv(history))
    for modality, epochs in pretrained.items():
        publish(run / f"epochs-{modality}.csv", as_csv(epochs))
    splits = {split: _predict(setup, model, split) for split in ("valid", "test")}
    predictions.write(run / predictions.FILE, request.fold.name, request.target, splits)
    train, test = setup.labels("train"), splits["test"]
    complete = setup.view.complete[setup.parts["test"]]
    return FoldResult(
        model=request.model,
        fold=request.fold.name,
        digest=request.digest,
        seed=request.seed,
        target={"task": request.target.task, "classes": list(request.target.classes)},
        metrics=_score(test, train, request.target),
        complete=_score(test.where(complete), train, request.target) if complete.any() else None,
        valid=_score(splits["valid"], train, request.target),
        **_effort(setup, model, pretrained, history),
        counts=_counts(setup),
        cropped={m: {p: c.cropped(r) for p, r in setup.parts.items()} for m, c in setup.view.columns.items()},
        gates=predictions.mean_gates(test, request.target),
        answers={name: list(values) for name, values in metrics.answers(train, request.target).items()},
        predictions=str(run / predictions.FILE),
        digests=request.fold.digests,
        files=file_digests(run),
        best_test=best_test(history),
    )


def _save(setup: _Setup, model: Model) -> None:
    request, settings = setup.request, setup.settings
    about = {
        "target": asdict(request.target),
        "align": {modality: asdict(column.align) for modality, column in setup.view.columns.items()},
        "training": settings.model_dump(),
        "normalize": settings.normalize,
        "prior": prior(setup.labels("train"), request.target).tolist(),
        "seed": request.seed,
        "digest": request.digest,
    }
    save_model(request.run, model, request.model, about)


def _predict(setup: _Setup, model: Trainable, part: str) -> Predictions:
    labels, settings = setup.labels(part), setup.settings
    given = prior(setup.labels("train"), setup.request.target)
    rows, size, device = setup.parts[part], settings.batch_size, setup.device
    return predict_all(model, setup.dataset, rows, labels, prior=given, size=size, device=device)


def _watched(setup: _Setup, model: Trainable) -> dict[str, float]:
    return watched(_predict(setup, model, "test"), setup.request.target)


def _score(predicted: Predictions, train: Sequence[Label], target: Target) -> dict[str, Any]:
    return metrics.scored(predicted.logits, predicted.labels, metrics.answers(train, target), target)


def _effort(setup: _Setup, model: Model, pretrained: Mapping[str, History], history: History) -> dict[str, Any]:
    seconds = [row["seconds"] for epochs in (history, *pretrained.values()) for row in epochs]
    return {
        "best_epoch": best_epoch(history),
        "epochs": len(history),
        "pretrain": {m: {"best_epoch": best_epoch(epochs), "epochs": len(epochs)} for m, epochs in pretrained.items()},
        "seconds": sum(seconds),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "device": torch.cuda.get_device_name() if setup.device == "cuda" else "cpu",
        "normalize": setup.settings.normalize,
        "transductive": setup.settings.normalize == "speaker",
    }


def _counts(setup: _Setup) -> dict[str, int]:
    test = setup.parts["test"]
    left_out = {f"{part}_left_out": len(rows) - len(setup.usable(part)) for part, rows in setup.parts.items()}
    sizes = {part: len(rows) for part, rows in setup.parts.items()}
    return {**sizes, **left_out, "test_complete": int(setup.view.complete[test].sum())}
