"""Evaluates a trained run: on a part of its own corpus or on another corpus, under conditions.

Every fold's model predicts the same part of its own fold; on another corpus every one predicts the same rows. With
everything kept, the scores on the run's own test part are those of its training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.cache.atomic import publish
from pipeline.cache.store import CorruptError
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.recipe import Alignment, Selection
from pipeline.corpus.recipe_training import model_class
from pipeline.errors import InputError
from pipeline.model import DialogueModel, Model
from pipeline.plan.session import Session
from pipeline.reader import Fold
from pipeline.score import metrics
from pipeline.score.intervals import by_row, over_dialogues, score_by_row
from pipeline.score.predictions import Predictions
from pipeline.stage import Modality
from pipeline.train.conditions import KEPT, Condition, with_noise
from pipeline.train.fold_result import FoldResult, summary
from pipeline.train.loop import pick_device
from pipeline.train.model_file import load_model
from pipeline.train.predict import dataset_for, predict_all
from pipeline.train.trained_run import TrainedRun
from pipeline.views.build_view import build_columns, column_keys
from pipeline.views.dataset import Dataset
from pipeline.views.dialogue_rows import DialogueRows
from pipeline.views.step_marks import StepMarks, step_marks
from pipeline.views.view import Rows, open_view, use_column

Part = Literal["train", "valid", "test"]
FOLDER = "evaluations"


@dataclass(frozen=True)
class Evaluation:
    """Rows that a run is evaluated on.

    session: of the corpus whose features are read, which has what the run's models read as its only feature set. own:
    whether it is the corpus that the run was trained on. part: of the folds. extract: computes the features of a
    session that are missing.
    """

    run: TrainedRun
    session: Session
    own: bool
    part: Part
    extract: Callable[[Session], object]

    @classmethod
    def of(
        cls, run: TrainedRun, trained: Session, other: Session | None, part: Part, extract: Callable[[Session], object]
    ) -> Evaluation:
        """trained: the session of the corpus that the run was trained on, under its protocol. other: of another corpus.

        Raises InputError if the corpora have other labels, if the folds have changed since the run was trained, or if a
        stage that was fitted on one corpus would be fitted on the other.
        """
        features = model_class(run.answer["model"]).features
        selections = trained.corpus.recipe.features[features]
        read: dict[Modality, Selection] = {m: s for m, s in selections.items() if m in run.columns(run.folds[0])}
        on = trained if other is None else other
        _check_target(run, on.corpus)
        if other is None:
            _check_folds(run, on.corpus)
        else:
            _refuse_fitted(read, f"a fit on {on.corpus.recipe.name}")
        corpus = replace(on.corpus, recipe=replace(on.corpus.recipe, features={features: read}))
        return cls(run, on.over(corpus, features), other is None, part, extract)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that the run's models read."""
        return tuple(self.session.corpus.recipe.features[self.features])

    @property
    def features(self) -> str:
        """The feature set that the run's models read."""
        return str(model_class(self.run.answer["model"]).features)

    def ids(self, result: FoldResult) -> list[str]:
        """The utterances that a fold's model is evaluated on, in the order of its fold."""
        folds = [fold for fold in self.session.corpus.folds if not self.own or fold.name == result.fold]
        return list(dict.fromkeys(i for fold in folds for i in getattr(fold, self.part)))

    @cached_property
    def kept(self) -> list[Predictions]:
        """The predictions of each fold's model with everything kept."""
        return self.predictions(KEPT)

    def predictions(self, condition: Condition) -> list[Predictions]:
        """The predictions of each fold's model. Noise first has features extracted, under their own keys."""
        session = self.session if condition.noise_db is None else self._noisy(condition)
        return [self._predictions(session, result, condition) for result in self.run.folds]

    def opened(self, result: FoldResult) -> tuple[Model, Dataset]:
        """A fold's model, on the CPU, and the corpus as it reads it."""
        dataset = self._dataset(self.session, result, self.run.card(result), "cpu")
        return load_model(self.run.folder / result.fold), dataset

    def current(self, result: FoldResult) -> Corpus:
        """The corpus with each modality brought to the steps that a fold's model learned from.

        Raises InputError if the recipe gives other features now than the model learned from, or if they are not
        extracted.
        """
        corpus = _aligned(self.session.corpus, self.features, self.run.card(result))
        learned = self.run.columns(result)
        if column_keys(corpus, self.session.catalogue, self.features, self._fold(result)) != {
            modality: learned[modality] for modality in self.modalities
        }:
            raise InputError(
                f"the recipe gives other features now than {self.run.name} learned from: train the model again, or set "
                "the recipe back"
            )
        return corpus

    def marks(self, result: FoldResult, ids: Sequence[str]) -> dict[Modality, dict[str, StepMarks]]:
        """What the steps are that a fold's model reads; nothing if their features are gone."""
        corpus = _aligned(self.session.corpus, self.features, self.run.card(result))
        try:
            return step_marks(corpus, self.session.catalogue, self.features, self._fold(result), ids)
        except (InputError, CorruptError):
            return {}

    def answer(self, condition: Condition) -> dict[str, Any]:
        """The scores under a condition as JSON.

        metrics: see `fold_result.summary`. less: the mean difference from everything kept in the score that rows have,
        and its 95 % interval over dialogues (X18).
        """
        tables, target = self.predictions(condition), self.run.target
        given = [result.answers for result in self.run.folds]
        pairs = zip(tables, given, strict=True)
        by_fold = [metrics.scored(table.logits, table.labels, best, target) for table, best in pairs]
        kept, now = (self._by_row(found) for found in (self.kept, tables))
        names = sorted(now)
        dialogues = {row.id: row.dialogue for row in self.session.corpus.manifest.rows}
        less = over_dialogues(np.array([now[i] - kept[i] for i in names]), [dialogues[i] for i in names])
        return {
            "condition": condition.text,
            "hidden": dict(condition.hidden),
            "noise_db": condition.noise_db,
            "sounds": condition.sounds,
            "rows": len(names),
            "metrics": summary(target, by_fold, tables, given),
            "less": {score_by_row(target): list(less)},
        }

    def _by_row(self, tables: Sequence[Predictions]) -> dict[str, float]:
        """The score of each utterance (`by_row`), the mean over the models that predict it."""
        found: dict[str, list[float]] = {}
        for table in tables:
            for name, score in zip(table.ids, by_row(table.logits, table.labels, self.run.target), strict=True):
                found.setdefault(name, []).append(float(score))
        return {name: float(np.mean(scores)) for name, scores in found.items()}

    def _noisy(self, condition: Condition) -> Session:
        audio = self.session.corpus.recipe.features[self.features]["audio"]
        _refuse_fitted({"audio": audio}, "a fit on noisy sound")
        corpus, ids = self.session.corpus, {i for result in self.run.folds for i in self.ids(result)}
        rows = with_noise(corpus.manifest.rows, ids, condition)
        noisy = self.session.over(replace(corpus, manifest=replace(corpus.manifest, rows=rows)), self.features)
        self.extract(noisy)
        return noisy

    def _predictions(self, session: Session, result: FoldResult, condition: Condition) -> Predictions:
        card, device = self.run.card(result), pick_device("auto")
        dataset = self._dataset(session, result, card, device)
        rows = dataset.view.rows(self.ids(result))
        dataset = dataset.hiding(condition.hides(dataset, rows))
        return self._predicted(result, card, dataset, rows, device)

    def _dataset(self, session: Session, result: FoldResult, card: Mapping[str, Any], device: str) -> Dataset:
        corpus, kind = session.corpus, model_class(result.model)
        utterances = corpus.manifest.rows
        speakers = {row.id: row.speaker or "" for row in utterances}
        told = DialogueRows.of([row.dialogue for row in utterances], list(speakers.values()))
        return dataset_for(
            kind,
            open_view(list(speakers), self._columns(session, result, card)),
            corpus.labels,
            self.run.target,
            speakers=speakers if result.transductive else None,
            dialogues=told if issubclass(kind, DialogueModel) else None,
            device=device,
        )

    def _predicted(
        self, result: FoldResult, card: Mapping[str, Any], dataset: Dataset, rows: Rows, device: str
    ) -> Predictions:
        labels = [self.session.corpus.labels[dataset.view.ids[row]] for row in rows]
        model, size = load_model(self.run.folder / result.fold), card["training"]["batch_size"]
        return predict_all(model, dataset, rows, labels, prior=card["prior"], size=size, device=device)

    def _columns(self, session: Session, result: FoldResult, card: Mapping[str, Any]) -> dict[str, Path]:
        """The columns that a fold's model reads, with as many steps as it learned from.

        On the run's own corpus, with everything kept, they are those that it learned from, built again if they are
        gone. Raises InputError if the recipe gives other features now and the run's own are gone.
        """
        corpus, home = _aligned(session.corpus, self.features, card), session.home.root
        fold = self._fold(result)
        own = {m: home / "views" / key for m, key in self.run.columns(result).items()}
        if self.own and session is self.session and _differs(corpus, session, self.features, fold, own):
            if not all(map(use_column, own.values())) or corpus.manifest.digest != self.run.answer["manifest"]:
                raise InputError(
                    f"the recipe gives other features now than {self.run.name} learned from: train the model again, or "
                    "set the recipe back"
                )
            return {m: own[m] for m in self.modalities}
        return dict(build_columns(corpus, session.catalogue, self.features, fold, home).items())

    def _fold(self, result: FoldResult) -> Fold | None:
        if not self.own:
            return None  # no stage is fitted
        return next(fold for fold in self.session.corpus.folds if fold.name == result.fold)


def keep(evaluation: Evaluation, answers: Sequence[Mapping[str, Any]]) -> Path:
    """Writes the answers into the run's folder, beside those that other calls left there for the same rows."""
    corpus, part = evaluation.session.corpus, evaluation.part
    path = evaluation.run.folder / FOLDER / f"{corpus.recipe.home_name}-{corpus.protocol}-{part}.json"
    before = read_kept(path)
    conditions = {answer["condition"]: answer for answer in [*before.get("conditions", []), *answers]}
    about = {"dataset": corpus.recipe.name, "own": evaluation.own, "protocol": corpus.protocol, "part": part}
    publish(path, json.dumps({**about, "conditions": list(conditions.values())}, indent=1))
    return path


def read_kept(path: Path) -> dict[str, Any]:
    """What `keep` wrote; nothing if there is no such file, or if it is damaged."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept
    except (OSError, ValueError):
        return {}


def _check_target(run: TrainedRun, corpus: Corpus) -> None:
    if not corpus.labels:
        raise InputError(f"{corpus.recipe.name} has no labels to score predictions by")
    mine, theirs = run.target, corpus.target
    if (mine.task, mine.classes) != (theirs.task, theirs.classes):
        raise InputError(
            f"{run.name} predicts a {mine.task} of {', '.join(mine.classes) or 'one number'}, the labels of "
            f"{corpus.recipe.name} are a {theirs.task} of {', '.join(theirs.classes) or 'one number'}"
        )


def _check_folds(run: TrainedRun, corpus: Corpus) -> None:
    now = {fold.name: fold.digests for fold in corpus.folds}
    changed = [result.fold for result in run.folds if now.get(result.fold) != result.digests]
    if changed:
        raise InputError(f"{', '.join(changed)}: other rows than those of {run.name}: train it again")


def _refuse_fitted(selections: Mapping[Modality, Selection], fit: str) -> None:
    fitted = [node.name for s in selections.values() for part in s.parts for node in part.walk() if node.stage.fitted]
    if fitted:
        raise InputError(f"{', '.join(fitted)}: {fit} would be another one than that which the model learned from")


def _aligned(corpus: Corpus, features: str, card: Mapping[str, Any]) -> Corpus:
    """The corpus with each modality brought to the steps that a model learned from."""
    recipe = corpus.recipe
    read = {m: replace(s, align=Alignment(**card["align"][m])) for m, s in recipe.features[features].items()}
    return replace(corpus, recipe=replace(recipe, features={features: read}))


def _differs(corpus: Corpus, session: Session, features: str, fold: Fold | None, own: Mapping[str, Path]) -> bool:
    """True if the recipe gives other columns now, or if its features are not extracted."""
    try:
        found = column_keys(corpus, session.catalogue, features, fold)
    except InputError:
        return True
    return found != {modality: path.name for modality, path in own.items()}
