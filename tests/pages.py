"""Reports of the small corpus, with runs of models that were made by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cache.home import Home
from pipeline.corpus.open_corpus import Options
from pipeline.pages.table import Sheet
from pipeline.plan.session import Session
from pipeline.reader import Label
from pipeline.report import page as report
from pipeline.report.models_section import Trained
from pipeline.score import metrics, predictions
from pipeline.stage import Target
from pipeline.views.build_view import column_keys
from tests.small import RECIPE, Small

KNOWN = RECIPE.replace('reader   = "iemocap"', 'reader = "demo"\nper_cell = 2')


class Page(HTMLParser):
    """The tags of a page with their attributes, its tables, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.tables: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        if self.tables and tag in ("caption", "th", "td"):
            self.tables[-1].append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def write(small: Small, media_bytes: int | None = None, **options: Any) -> tuple[dict[str, Any], Page]:
    answer = report.write(Session.open(*place(small, **options)), media_bytes)
    return answer, Page(Path(answer["report"]).read_text())


def place(small: Small, **options: Any) -> tuple[Home, Options]:
    small.path.write_text(small.recipe)
    return Home(small.home), Options(dataset=str(small.path), root=str(small.root), **options)


def fold(name: str, target: Target, logits: Any, truth: Sequence[Label], train: Sequence[Label]) -> dict[str, Any]:
    """A FoldResult as JSON, of given predictions on test."""
    found = {**metrics.evaluate(logits, truth, target), **metrics.majority(train, truth, target)}
    return {
        "fold": name,
        "seed": 0,
        "target": {"task": target.task, "classes": list(target.classes)},
        "metrics": found,
        "complete": found,
        "valid": found,
        "best_epoch": 1,
        "epochs": 3,
        "seconds": 1.0,
        "parameters": 1234567,
        "device": "cpu",
        "normalize": "train",
        "transductive": False,
        "counts": {"train": len(train), "valid": 0, "test": len(truth), "test_complete": len(truth)},
        "cropped": {"audio": dict.fromkeys(("train", "valid", "test"), {"utterances": 0.5, "steps": 0.25})},
        "gates": {"all": {"text": 0.2, "audio": 0.8}},
        "answers": {key: list(value) for key, value in metrics.answers(train, target).items()},
    }


def answer(model: str, folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first = folds[0]["metrics"]
    spread = dict.fromkeys(metrics.scalars(first), 0.125)
    summary = {"pooled": first, "mean": metrics.scalars(first), "std": spread, "folds": len(folds)}
    return {"model": model, "protocol": "official", "seed": 0, "folds": folds, "metrics": summary, "run": f"/x/{model}"}


def run(small: Small, model: str, *, right: bool, features: str = "") -> None:
    """A run that is always right, or that always says the first class; of a feature set as it now stands."""
    session = small.session()
    corpus = session.corpus
    folds = []
    for each in corpus.folds:
        truth = [corpus.labels[i] for i in each.test]
        logits = np.eye(len(corpus.target.classes))[np.asarray(truth) * right]
        made = fold(each.name, corpus.target, logits, truth, [corpus.labels[i] for i in each.train])
        made["digests"] = each.digests
        folds.append(made)
        place = small.home / "runs" / small.name / model / each.name
        place.mkdir(parents=True)
        (place / "epochs.csv").write_text("epoch,train_loss,valid_loss\n0,3.5,3\n1,2,2\n2,1,2.5\n")
    columns = [column_keys(corpus, session.catalogue, features, each) for each in corpus.folds if features]
    made = answer(model, folds) | {"columns": columns}
    (small.home / "runs" / small.name / f"{model}-official.json").write_text(json.dumps(made))


def guess(small: Small, model: str) -> None:
    """Writes what a run that was made by `run` predicts: always the first class, and surer of each row than before."""
    corpus = small.session().corpus
    for each in corpus.folds:
        parts = {}
        for split, ids in (("valid", each.valid), ("test", each.test)):
            logits = np.zeros((len(ids), len(corpus.target.classes)))
            logits[:, 0] = np.linspace(1, 3, len(ids))
            parts[split] = predictions.Predictions(ids, logits, [corpus.labels[i] for i in ids], {})
        place = small.home / "runs" / small.name / model / each.name / predictions.FILE
        predictions.write(place, each.name, corpus.target, parts)


def trained(folds: Sequence[dict[str, Any]], bound: float | None = None) -> Trained:
    return Trained(answer("any", folds), Path("nowhere"), 0.0, "", bound, ())


def column(sheet: Sheet, name: str) -> dict[str, str]:
    at = list(sheet.header).index(name)
    return {row[0].text: row[at].text for row in sheet.rows}
