"""A leak that no record admits still shows: with permuted labels nothing that is fitted can tell those of test rows."""

from __future__ import annotations

import math
import random
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.cache.home import Home
from pipeline.corpus.fit_scope import HeldOut, Scope
from pipeline.corpus.open_corpus import Options
from pipeline.errors import InputError
from pipeline.plan.catalogue import Catalogue
from pipeline.plan.jobs import FitJob
from pipeline.plan.planner import plan
from pipeline.plan.session import Session
from pipeline.run import extraction
from pipeline.run.extraction import extract
from pipeline.score.linear_probe import probe
from pipeline.views.build_view import build_columns
from pipeline.views.view import open_view
from tests.small import driven

CLASSES = tuple("abcdef")
PARTS = {"train": 26, "valid": 10, "test": 16}
"""Rows of each class: 312 in all, 96 of them to be told in the test."""
PERMUTATIONS = 20
CHANCE = 1 / len(CLASSES)
ERROR = math.sqrt(CHANCE * (1 - CHANCE) / (PARTS["test"] * len(CLASSES)))
"""The deviation by chance of one accuracy."""
FEATURES = {"vectors": "text", "filters": "text", "encoder": "text", "clips": "visual"}
RECIPE = """
[dataset]
reader   = "table"
labels   = "label"
classes  = ["a", "b", "c", "d", "e", "f"]
protocol = "official"

[features.vectors.text]
stage = "text_word2vec"
size = 16
epochs = 5
min_count = 1
align = { mode = "pad", length = 8 }
[features.filters.text]
stage = "text_cnn"
widths = [2, 3]
channels = 16
dropout = 0.0
learning_rate = 5e-3
batch_size = 16
patience = 2
epochs = 20
input.text_word2vec = { size = 16, epochs = 5, min_count = 1 }
align = { mode = "pad", length = 8 }
[features.encoder.text]
stage = "text_roberta"
init = "random"
fine_tune = true
hidden = 32
layers = 1
heads = 2
vocab_size = 400
max_tokens = 32
learning_rate = 2e-3
patience = 2
epochs = 25
align = { mode = "pad", length = 8 }
[features.clips.visual]
stage = "visual_cnn3d"
name = "mc3_18"
weights = "random"
fine_tune = true
frame_rate_hz = 4.0
clip = 2
clips = 1
size = 32
learning_rate = 1e-3
batch_size = 32
patience = 1
epochs = 6
align = { mode = "pad", length = 1 }
"""


@dataclass(frozen=True)
class Corpus:
    """Transcripts and clips of noise, each unlike the others, two in a dialogue; labels are drawn for each run."""

    root: Path

    def write_media(self) -> None:
        """Two frames for each row."""
        chance = np.random.default_rng(0)
        for name, _ in self.rows():
            write_clip(self.root / f"{name}.mp4", chance.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))

    def rows(self) -> list[tuple[str, str]]:
        """Id and part of every row."""
        parts = [part for part, size in PARTS.items() for _ in range(size * len(CLASSES))]
        return [(f"u{number:03}", part) for number, part in enumerate(parts)]

    def draw(self, seed: int) -> None:
        """Writes the table with labels permuted within each part, so that every part stays balanced."""
        chance, words = random.Random(seed), random.Random("words")
        labels = {part: chance.sample(CLASSES * size, len(CLASSES) * size) for part, size in PARTS.items()}
        lines = ["utterance,dialogue,split,label,text,video"]
        for number, (name, part) in enumerate(self.rows()):
            text = " ".join(f"w{words.randrange(150)}" for _ in range(7))
            lines.append(f"{name},d{number // 2},{part},{labels[part].pop()},{text},{name}.mp4")
        (self.root / "utterances.csv").write_text("\n".join(lines))


def write_clip(path: Path, frames: np.ndarray) -> None:
    """frames [T, H, W, 3] at four a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    made = Corpus(tmp_path_factory.mktemp("noise"))
    made.write_media()
    return made


def opened(corpus: Corpus, home: Path, *features: str) -> Session:
    recipe = home.parent / "noise.toml"
    recipe.write_text(RECIPE)
    return Session.open(Home(home), Options(dataset=str(recipe), root=str(corpus.root), workers=0, features=features))


def accuracies(session: Session) -> dict[str, float]:
    """How well a probe of each fitted feature tells the test rows."""
    corpus, fold = session.corpus, session.corpus.folds[0]
    ids = [row.id for row in corpus.manifest.rows]
    found = {}
    for features in session.options.features or FEATURES:
        view = open_view(ids, build_columns(corpus, session.catalogue, features, fold, session.home.root))
        scores = probe(view, FEATURES[features], corpus.labels, corpus.target, fold)
        found[features] = scores["test"]["accuracy"]
    return found


def honest(corpus: Corpus, folder: Path, seed: int) -> dict[str, float]:
    """The pipeline as it is, on labels permuted before its fits."""
    corpus.draw(seed)
    session = opened(corpus, folder / "home")
    extract(session)
    found = accuracies(session)
    shutil.rmtree(folder / "home")
    return found


@pytest.fixture(scope="module")
def null(corpus, tmp_path_factory) -> list[dict[str, float]]:
    """Accuracies of the honest pipeline under each permutation."""
    folder = tmp_path_factory.mktemp("null")
    return [honest(corpus, folder, seed) for seed in range(PERMUTATIONS)]


@pytest.mark.slow
def test_no_fitted_feature_of_the_honest_pipeline_tells_permuted_labels_of_test_rows(null):
    error = ERROR / math.sqrt(len(null))
    z = {name: (np.mean([each[name] for each in null]) - CHANCE) / error for name in FEATURES}
    assert len(null) >= 20 and max(z.values()) < 3.0, f"one-sided, over four features, below 1 %: {z}"


@pytest.mark.slow
def test_one_more_permutation_of_the_honest_pipeline_lies_within_the_null_to_one_deviation(corpus, null, tmp_path):
    more = honest(corpus, tmp_path, PERMUTATIONS)
    assert max(more.values()) < max(max(each.values()) for each in null) + ERROR, more


@pytest.mark.slow
@pytest.mark.parametrize("features", ["filters", "encoder", "clips"])
def test_a_state_that_saw_the_test_rows_and_hides_it_exceeds_the_null_by_ten_points(corpus, null, tmp_path, features):
    corpus.draw(PERMUTATIONS)
    session = opened(corpus, tmp_path / "home", features)
    inject(session, features, hide=True)
    extract(session)
    leaky = accuracies(session)
    highest = max(max(each.values()) for each in null)
    assert leaky[features] >= highest + 0.10, (leaky, highest)


@pytest.mark.slow
def test_the_same_state_is_refused_where_its_record_says_what_it_saw(corpus, tmp_path):
    corpus.draw(PERMUTATIONS)
    session = opened(corpus, tmp_path / "home", "filters")
    inject(session, "filters", hide=False)
    extract(session)
    with pytest.raises(InputError, match="saw test rows of official"):
        accuracies(session)


def inject(session: Session, features: str, *, hide: bool) -> None:
    """Fits the stages of a feature set on every row there is, and saves their states as those of the honest fits."""
    corpus, store = session.corpus, session.catalogue.store
    fold, everyone = corpus.folds[0], tuple(row.id for row in corpus.manifest.rows)
    [mine] = {node for selection in corpus.recipe.features[features].values() for node in selection.parts}
    wide = Scope("everyone", everyone, (), everyone, HeldOut(frozenset(), frozenset()))
    leaking = Catalogue(corpus.manifest, store, corpus.target, corpus.labels, [(mine, wide)])
    driven(leaking, extraction.workers(session))
    own = Catalogue(corpus.manifest, store, corpus.target, corpus.labels, [(mine, corpus.scopes[fold.name][0])])
    while fits := [job for job in plan(own).jobs if isinstance(job, FitJob)]:
        for job in fits:
            record = leaking.of(job.node, wide).state
            said = {"train": list(fold.train), "valid": list(fold.valid)} if hide else {}
            store.adopt(replace(record, key=job.state, about={**record.about, **said}))
