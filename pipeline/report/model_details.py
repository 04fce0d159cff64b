"""The details of a trained model: scores per class, confusion matrix, gate, cropped steps, losses, calibration."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.pages.charts import Chart, Curves, curves, reliability
from pipeline.pages.table import Cell, Sheet, cell
from pipeline.report.models_section import Trained, mean
from pipeline.score import predictions
from pipeline.score.calibration import Calibration, calibration


def details(run: Trained) -> list[Sheet]:
    """The tables that the task and the model have: scores of each class or target, confusion matrix, gate."""
    heads = _targets(run) if run.target.several else _heads(run)
    sheets = [_classes(run), heads, _confusion(run), _gates(run)]
    return [sheet for sheet in sheets if sheet is not None]


def _classes(run: Trained) -> Sheet | None:
    classes = run.pooled.get("classes", {})
    rows = [(name, c["precision"], c["recall"], c["f1"], c["support"]) for name, c in classes.items()]
    return Sheet.of("Classes", ("class", "precision", "recall", "F1", "test rows"), rows) if rows else None


def _heads(run: Trained) -> Sheet | None:
    heads = run.pooled.get("heads", {})
    rows = [
        (name, head["accuracy"], _majority(run, i), head["f1"], head["uar"], head["support"])
        for i, (name, head) in enumerate(heads.items())
    ]
    header = ("class against the rest", "accuracy", "majority accuracy", "F1", "UAR", "positive test rows")
    return Sheet.of("Classes", header, rows) if rows else None


def _targets(run: Trained) -> Sheet:
    """The scores of each target of a regression of several, beside the error of the train median."""
    trivial = run.pooled["majority_heads"]
    rows = [
        (name, head["mae"], trivial[name]["mae"], head["corr"], head["ccc"])
        for name, head in run.pooled["heads"].items()
    ]
    return Sheet.of("Targets", ("target", "MAE", "majority MAE", "Corr", "CCC"), rows)


def _majority(run: Trained, head: int) -> float:
    """The accuracy of a head that always gives its more frequent train answer; high for rare classes."""
    right = 0
    for fold in run.folds:
        answer = int(np.argmax(np.reshape(fold["answers"][""], (-1, 2))[head]))
        positive = list(fold["metrics"]["heads"].values())[head]["support"]
        right += positive if answer else fold["counts"]["test"] - positive
    return right / run.seen("test")


def _confusion(run: Trained) -> Sheet | None:
    matrix = run.pooled.get("confusion")
    if not matrix:
        return None
    names = run.folds[0]["target"]["classes"]
    rows = [(name, *_shaded(counts)) for name, counts in zip(names, matrix, strict=True)]
    note = "Rows are true classes, columns are predicted classes: the share of the row, and the number of test rows."
    return Sheet.of("Confusion", ("truth", *names), rows, note, heat=True)


def _shaded(counts: Sequence[int]) -> list[Cell]:
    shares = [count / max(sum(counts), 1) for count in counts]
    return [Cell(f"{s:.0%} ({count:,})", share=s, number=True) for s, count in zip(shares, counts, strict=True)]


def _gates(run: Trained) -> Sheet | None:
    folds = [fold["gates"] for fold in run.folds if fold["gates"]]
    if not folds:
        return None
    classes = list(dict.fromkeys(name for gates in folds for name in gates))
    means = {name: mean([gates[name] for gates in folds if name in gates]) for name in classes}
    modalities = list(means[classes[0]])
    rows = [(name, *(_share(shares.get(m)) for m in modalities)) for name, shares in means.items()]
    return Sheet.of("Mean share of each modality in the gate", ("class", *modalities), rows, heat=True)


def _share(value: float | None) -> Cell:
    return cell(None) if value is None else Cell(f"{value:.3f}", share=value, number=True)


def cropped(runs: Sequence[Trained]) -> Sheet | None:
    """The steps that alignment to L cut off, by run, modality and part (X2); None if no model was trained."""
    rows = [
        (run.name, modality, *(_lost(run, modality, part) for part in ("train", "valid", "test")))
        for run in runs
        for modality in run.folds[0]["cropped"]
    ]
    note = "The share of utterances that lost steps and, in brackets, the share of steps lost. Means over folds."
    header = ("model", "modality", "train", "valid", "test")
    return Sheet.of("Steps cut off by alignment", header, rows, note) if rows else None


def _lost(run: Trained, modality: str, part: str) -> Cell:
    shares = mean([fold["cropped"][modality][part] for fold in run.folds])
    return Cell(f"{shares['utterances']:.1%} ({shares['steps']:.1%})", loud=shares["steps"] > 0.1, number=True)


def loss_curves(run: Trained) -> Chart | None:
    """The loss of each fold by epoch; of an only fold, also the loss of each modality's pretraining."""
    panels: dict[str, Curves] = {}
    best: dict[str, int | None] = {}
    for fold in run.folds:
        for path in sorted((run.folder / fold["fold"]).glob("epochs*.csv")):
            alone = path.stem.removeprefix("epochs").strip("-")
            if not alone or len(run.folds) == 1:
                name = f"{fold['fold']}, pretraining of {alone}" if alone else fold["fold"]
                panels[name] = _epochs(path)
                best[name] = fold["pretrain"][alone]["best_epoch"] if alone else fold["best_epoch"]
    return curves(f"Loss of {run.name} by epoch; the dot is the epoch that is kept", panels, best) if panels else None


def _epochs(path: Path) -> dict[str, list[float]]:
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {name: [float(row[f"{name}_loss"]) for row in rows] for name in ("train", "valid")}


def calibration_curve(run: Trained) -> Chart | None:
    """Confidence against accuracy on validation and test, all folds as one set; None of a regression, or if the
    predictions are gone."""
    if run.target.task == "regression" or not all(path.exists() for path in run.predictions):
        return None
    parts = {name: _calibration(run, split) for name, split in (("validation", "valid"), ("test", "test"))}
    caption = (
        f"Calibration of {run.name}: on the broken line, predictions are right as often as they are sure. The area of "
        "a dot is its share of predictions; the error is the mean distance from the line (expected calibration error)"
    )
    return reliability(caption, parts)


def _calibration(run: Trained, split: str) -> Calibration:
    folds = [predictions.read(path, split) for path in run.predictions]
    labels = [label for fold in folds for label in fold.labels]
    return calibration(np.concatenate([fold.logits for fold in folds]), labels, run.target)
