"""Nothing that learns ever receives a row that its fold tests on, in any protocol."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from pipeline.cache.home import Home
from pipeline.cli.train import trained
from pipeline.corpus.open_corpus import Options
from pipeline.plan.session import Session
from pipeline.run import worker
from pipeline.train import pretrain, train_models
from pipeline.train import train_fold as train
from pipeline.views.dataset import Dataset
from stages import _roberta
from stages.text_cnn import TextCnn
from stages.text_roberta import TextRoberta
from stages.text_word2vec import TextWord2vec
from stages.visual_cnn3d import VisualCnn3d

FITTED = {
    "text_word2vec": TextWord2vec,
    "text_cnn": TextCnn,
    "text_roberta": TextRoberta,
    "visual_cnn3d": VisualCnn3d,
}
RECIPE = """
[dataset]
reader   = "iemocap"
labels   = "six"
protocol = "official"

[features.mulg.text]
stage = "text_cnn"
epochs = 1
channels = 2
input.text_word2vec = { size = 4, epochs = 1, min_count = 1 }
align = { mode = "pad", length = 8 }
[features.mulg]
audio = { stage = "audio_mfcc", n_mfcc = 3, deltas = 0, rate_hz = 5.0, align = { mode = "pad", length = 8 } }
[features.mulg.visual]
stage = "visual_cnn3d"
name = "mc3_18"
weights = "random"
fine_tune = true
epochs = 1
frame_rate_hz = 5.0
clip = 2
clips = 1
size = 32
align = { mode = "pad", length = 1 }
[features.hjcag.text]
stage = "text_roberta"
init = "random"
fine_tune = true
hidden = 8
layers = 1
heads = 2
vocab_size = 300
max_tokens = 16
epochs = 1
align = { mode = "pad", length = 8 }

[train.mulg]
epochs = 1
pretrain_epochs = 1
unimodal_pretrain = true
class_weights = true
width = 4
hidden = 4
layers = 1
heads = 2
gru_layers = 1
[train.hjcag]
epochs = 1
d_model = 4
class_weights = true
unimodal_pretrain = false
"""


@dataclass
class Seen:
    """What each learner received: (fold or scope, learner) -> ids; the labels that class weights were counted from."""

    rows: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    weighed: list[tuple[str, Counter[int]]] = field(default_factory=list)
    within: str = ""
    ids: tuple[str, ...] = ()
    learning: bool = False

    def note(self, learner: str, ids: Iterable[str]) -> None:
        """Adds what a learner received."""
        self.rows.setdefault((self.within, learner), set()).update(ids)

    def named(self, rows: Iterable[int]) -> list[str]:
        """The ids of a view's rows."""
        return [self.ids[int(row)] for row in rows]


@pytest.fixture
def seen(monkeypatch) -> Seen:
    """Everything that learns runs as ever, and what it receives is written down."""
    noted = Seen()
    _around(monkeypatch, worker, "fit", lambda job, *_: setattr(noted, "within", job.scope))
    _around(monkeypatch, train_models, "train_fold", lambda request: _enter(noted, request))
    for name, stage in FITTED.items():
        _around(monkeypatch, stage, "fit", lambda _, *given, name=name: _note_fit(noted, name, *given))
    _around(monkeypatch, _roberta, "learn_tokenizer", lambda texts, *_: noted.note("pairs", map(_name_in, texts)))
    _around(monkeypatch, train, "statistics", lambda column, rows: noted.note("standardisation", noted.named(rows)))
    _around(monkeypatch, train, "class_weights", lambda labels, _: noted.weighed.append((noted.within, _count(labels))))
    for module, name in ((train, "training"), (pretrain, "pretraining")):
        _around(monkeypatch, module, "fit", lambda _, job, name=name: _note_loop(noted, name, job), noted)
    _around(monkeypatch, Dataset, "gather", lambda _, rows: noted.learning and noted.note("batches", noted.named(rows)))
    return noted


def _around(monkeypatch, owner, name: str, note: Callable[..., object], noted: Seen | None = None) -> None:
    real = getattr(owner, name)

    def noting(*given):
        note(*given)
        if noted is not None:
            noted.learning = True
        try:
            return real(*given)
        finally:
            if noted is not None:
                noted.learning = False

    monkeypatch.setattr(owner, name, noting)


def _enter(noted: Seen, request) -> None:
    noted.within, noted.ids = request.fold.name, request.ids


def _note_fit(noted: Seen, name: str, train, valid, *_) -> None:
    for part, rows in (("train", train), ("valid", valid)):
        noted.note(f"{name} {part}", [item.id for item in rows.items])


def _note_loop(noted: Seen, name: str, job) -> None:
    for part in ("train", "valid"):
        noted.note(f"{name} {part}", noted.named(getattr(job, part)))


def _name_in(text: str) -> str:
    return text.split()[0]


def _count(labels) -> Counter[int]:
    return Counter(labels.tolist())


def named_transcripts(small) -> None:
    """Makes every transcript begin with the id of its utterance, so that a text tells whose it is."""
    for file in small.root.glob("Session*/dialog/transcriptions/*.txt"):
        file.write_text(re.sub(r"^(\S+)( \[.*?\]: )", r"\1\2\1 ", file.read_text(), flags=re.MULTILINE))


def own_folds(small) -> None:
    """Two folds of a list, which are cut between the dialogues of every session."""
    rows = small.session().corpus.manifest.rows
    place = {name: "ab"[i % 2] for i, name in enumerate(sorted({row.dialogue for row in rows}))}
    lines = ["utterance,fold", *(f"{row.id},{place[row.dialogue]}" for row in rows)]
    (small.path.parent / "ours.csv").write_text("\n".join(lines))
    small.recipe = small.recipe.replace('protocol = "official"', 'folds = "ours.csv"')


def answers(small, **options):
    """(home, options) of a call on the small corpus, in this process."""
    small.path.write_text(small.recipe)
    return Home(small.home), Options(dataset=str(small.path), root=str(small.root), workers=0, **options)


FITS_OF_A_SCOPE = {"pairs", *(f"{name} {part}" for name in FITTED for part in ("train", "valid"))}
LEARNERS_OF_A_FOLD = {
    "standardisation",
    "batches",
    *(f"{name} {part}" for name in ("training", "pretraining") for part in ("train", "valid")),
}


@pytest.mark.parametrize(
    ("protocol", "count"),
    [
        pytest.param("official", 1, marks=pytest.mark.slow),
        pytest.param("cv", 5, marks=pytest.mark.slow),
        pytest.param("own", 2, marks=pytest.mark.slow),
        ("crossfit", 1),
    ],
)
def test_no_learner_receives_a_test_row_in_any_protocol(small, seen, protocol, count):
    small.recipe = RECIPE
    named_transcripts(small)
    if protocol == "own":
        own_folds(small)
    if protocol == "crossfit":
        small.recipe = RECIPE.replace('protocol = "official"', 'protocol = "official"\ncrossfit = 2')
    options = {"protocol": "cv"} if protocol == "cv" else {}
    corpus = small.session(**options).corpus
    features = ("mulg", "hjcag")
    trained(Session.open(*answers(small, features=features, **options)), list(features), 0, extract=True)
    scopes = {scope.name: (fold, scope) for fold in corpus.folds for scope in corpus.scopes[fold.name]}
    assert len(corpus.folds) == count
    expected = {(name, learner) for name in scopes for learner in FITS_OF_A_SCOPE}
    expected |= {(fold.name, learner) for fold in corpus.folds for learner in LEARNERS_OF_A_FOLD}
    assert seen.rows.keys() == expected, "a learner was not watched, or did not run"
    by_id = {row.id: row for row in corpus.manifest.rows}
    for (name, learner), ids in seen.rows.items():
        fold, scope = scopes[name]
        assert ids and not ids & {*fold.test}, learner
        assert not scope.held.among(by_id[i] for i in ids), learner
        assert ids <= {*allowed(fold, scope, learner)}, learner
    for name, labels in seen.weighed:
        assert labels == Counter(corpus.labels[i] for i in scopes[name][0].train)
    assert len(seen.weighed) == 2 * count


def allowed(fold, scope, learner: str) -> tuple[str, ...]:
    """The rows that a learner may receive at most."""
    of = scope if learner in FITS_OF_A_SCOPE else fold
    if learner == "batches":
        return (*of.train, *of.valid)
    return of.valid if learner.endswith(" valid") else of.train
