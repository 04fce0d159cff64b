"""What a trained model did in detail: each class, the confusion matrix, the gate, what was cropped, the losses."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.report.charts import Chart, Curves, curves
from pipeline.report.models_section import Trained, mean
from pipeline.report.table import Cell, Sheet, cell


def details(run: Trained) -> list[Sheet]:
    """Scores of each class, head or number, the confusion matrix, the shares of a gate: what task and model have."""
    heads = _numbers(run) if run.target.several else _heads(run)
    found = [_classes(run), heads, _confusion(run), _gates(run)]
    return [sheet for sheet in found if sheet is not None]


def _classes(run: Trained) -> Sheet | None:
    each = run.pooled.get("classes", {})
    rows = [(name, c["precision"], c["recall"], c["f1"], c["support"]) for name, c in each.items()]
    return Sheet.of("Classes", ("class", "precision", "recall", "F1", "test rows"), rows) if rows else None


def _heads(run: Trained) -> Sheet | None:
    each = run.pooled.get("heads", {})
    rows = [
        (name, head["accuracy"], _constant(run, i), head["f1"], head["uar"], head["support"])
        for i, (name, head) in enumerate(each.items())
    ]
    header = ("class against the rest", "accuracy", "majority accuracy", "F1", "UAR", "positive test rows")
    return Sheet.of("Classes", header, rows) if rows else None


def _numbers(run: Trained) -> Sheet:
    """Each number of a regression of several, its error beside that of the train median."""
    trivial = run.pooled["majority_heads"]
    rows = [
        (name, head["mae"], trivial[name]["mae"], head["corr"], head["ccc"])
        for name, head in run.pooled["heads"].items()
    ]
    return Sheet.of("Targets", ("target", "MAE", "majority MAE", "Corr", "CCC"), rows)


def _constant(run: Trained, head: int) -> float:
    """The accuracy of a head's commoner answer in train, which for rare classes is high."""
    right = 0
    for fold in run.folds:
        says = int(np.argmax(np.reshape(fold["answers"][""], (-1, 2))[head]))
        positive = list(fold["metrics"]["heads"].values())[head]["support"]
        right += positive if says else fold["counts"]["test"] - positive
    return right / run.seen("test")


def _confusion(run: Trained) -> Sheet | None:
    matrix = run.pooled.get("confusion")
    if not matrix:
        return None
    names = run.folds[0]["target"]["classes"]
    rows = [(name, *_shaded(counts)) for name, counts in zip(names, matrix, strict=True)]
    note = "Rows are the truth, columns the prediction; the shade is the share of the row."
    return Sheet.of("Confusion", ("truth", *names), rows, note, heat=True)


def _shaded(counts: Sequence[int]) -> list[Cell]:
    return [Cell(f"{count:,}", share=count / max(sum(counts), 1), number=True) for count in counts]


def _gates(run: Trained) -> Sheet | None:
    each = [fold["gates"] for fold in run.folds if fold["gates"]]
    if not each:
        return None
    classes = list(dict.fromkeys(name for gates in each for name in gates))
    means = {name: mean([gates[name] for gates in each if name in gates]) for name in classes}
    modalities = list(means[classes[0]])
    rows = [(name, *(_share(found.get(m)) for m in modalities)) for name, found in means.items()]
    return Sheet.of("Mean share of each modality in the gate", ("class", *modalities), rows, heat=True)


def _share(value: float | None) -> Cell:
    return cell(None) if value is None else Cell(f"{value:.3f}", share=value, number=True)


def cropped(runs: Sequence[Trained]) -> Sheet | None:
    """What alignment to L cut off, by run, modality and part (X2); None where no model was trained."""
    rows = [
        (run.name, modality, *(_lost(run, modality, part) for part in ("train", "valid", "test")))
        for run in runs
        for modality in run.folds[0]["cropped"]
    ]
    note = "Utterances that lost steps; in brackets, the share of all steps that was lost. Means over folds."
    return (
        Sheet.of("Cropped by the view", ("model", "modality", "train", "valid", "test"), rows, note) if rows else None
    )


def _lost(run: Trained, modality: str, part: str) -> Cell:
    each = mean([fold["cropped"][modality][part] for fold in run.folds])
    return Cell(f"{each['utterances']:.1%} ({each['steps']:.1%})", loud=each["steps"] > 0.1, number=True)


def loss_curves(run: Trained) -> Chart | None:
    """The loss of each fold by epoch; of an only fold, what each modality was pretrained with, too."""
    panels: dict[str, Curves] = {}
    for fold in run.folds:
        for path in sorted((run.folder / fold["fold"]).glob("epochs*.csv")):
            alone = path.stem.removeprefix("epochs").strip("-")
            if not alone or len(run.folds) == 1:
                panels[f"{fold['fold']}{f', {alone} alone first' if alone else ''}"] = _epochs(path)
    best = {fold["fold"]: fold["best_epoch"] for fold in run.folds}
    return curves(f"Loss of {run.name} by epoch; the dot is the epoch that was kept", panels, best) if panels else None


def _epochs(path: Path) -> dict[str, list[float]]:
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {name: [float(row[f"{name}_loss"]) for row in rows] for name in ("train", "valid")}
