"""Predicts clips with a bundle: features by the path of `extract`, predictions by the path of training and `evaluate`.

A home folder of its own holds what is computed, and is deleted at the end.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.bundle.bundle import Bundle
from pipeline.bundle.clips import Clip, common_root, utterances
from pipeline.bundle.contents import RECIPE
from pipeline.bundle.transcribe import transcribe
from pipeline.cache.home import Home
from pipeline.cache.record import FITS
from pipeline.cache.store import Store
from pipeline.corpus import manifest
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.open_corpus import Options
from pipeline.corpus.recipe import Node, Recipe, Selection, WrittenRoot
from pipeline.errors import InputError
from pipeline.model import DialogueModel
from pipeline.plan import shortfall
from pipeline.plan.catalogue import Catalogue
from pipeline.plan.session import Session
from pipeline.reader import Fold, Label, Labels, Reader
from pipeline.run.extraction import extract
from pipeline.score.predictions import Predictions
from pipeline.stage import Modality, Target
from pipeline.train.loop import pick_device
from pipeline.train.predict import dataset_for, predict_all
from pipeline.utterance import Utterance
from pipeline.views.build_view import build_columns
from pipeline.views.dialogue_rows import DialogueRows
from pipeline.views.view import open_view

FOLD = "clips"
_WAY_OUT: Mapping[Modality, str] = {
    "text": "say it by --text, --subtitles or a .txt beside the clip, or have it recognised by --asr MODEL",
    "audio": "give --audio",
    "visual": "give --video",
}
_NO_ROWS: Mapping[str, list[str]] = {"train": [], "valid": []}
"""What the record of a bundle's state says of the rows here that it learned from."""


@dataclass(frozen=True)
class Predicted:
    """The predictions of utterances, in their order.

    usable: [N], False for one without features of any modality, which has no prediction. reasons: modality ->
    utterance -> why it has no features.
    """

    rows: Sequence[Utterance]
    predictions: Predictions
    usable: NDArray[np.bool_]
    reasons: Mapping[str, Mapping[str, str]]
    target: Target


def read_clips(bundle: Bundle, clips: Sequence[Clip], asr: str) -> list[Utterance]:
    """The utterances of clips. asr: a recogniser that gives those their text that have none, see `transcribe`.

    Raises InputError as `check_given` and `transcribe` do.
    """
    root = common_root(clips)
    rows = utterances(clips, root)
    if asr and "text" in bundle.selections:
        rows = transcribe(rows, root, asr)
    check_given(bundle, rows)
    return rows


def check_given(bundle: Bundle, rows: Sequence[Utterance]) -> None:
    """Raises InputError if an utterance lacks a modality that the model can't do without."""
    for modality in bundle.indispensable:
        if lacking := sum(not _has(row, modality) for row in rows):
            raise InputError(
                f"{lacking} of {len(rows)} utterances have no {modality}, which this model was not trained to do "
                f"without: {_WAY_OUT[modality]}. A model trained with modality_dropout predicts without it"
            )


def _has(row: Utterance, modality: Modality) -> bool:
    return row.text is not None if modality == "text" else bool(row.audio if modality == "audio" else row.video)


def predict(bundle: Bundle, rows: Sequence[Utterance], root: Path, workers: int = 0) -> Predicted:
    """Predicts utterances whose files are below `root`. workers: processes that extract; 0 extracts in this one.

    Raises InputError as `check_given` does, and if their features can't be extracted.
    """
    check_given(bundle, rows)
    with tempfile.TemporaryDirectory(prefix="affectory-predict-") as folder:
        session = _session(bundle, rows, root, Home(Path(folder)), workers)
        counts = extract(session, noted=False)
        if counts.waiting:
            raise InputError("\n".join(sorted(counts.waiting.values())))
        return _predicted(bundle, session)


def _predicted(bundle: Bundle, session: Session) -> Predicted:
    corpus, [fold] = session.corpus, session.corpus.folds
    rows = corpus.manifest.rows
    columns = build_columns(corpus, session.catalogue, bundle.contents.features, fold, session.home.root)
    told = DialogueRows.of([row.dialogue for row in rows], [row.speaker or "" for row in rows])
    device = pick_device("auto")
    dataset = dataset_for(
        bundle.kind,
        open_view([row.id for row in rows], {str(modality): path for modality, path in columns.items()}),
        {},
        bundle.target,
        speakers=None,
        dialogues=told if issubclass(bundle.kind, DialogueModel) else None,
        device=device,
    )
    numbers, size, prior = np.arange(len(rows)), bundle.card["training"]["batch_size"], bundle.card["prior"]
    predictions = predict_all(bundle.model, dataset, numbers, [], prior=prior, size=size, device=device)
    return Predicted(rows, predictions, dataset.usable, shortfall.reasons(session.catalogue), bundle.target)


# --- clips as a corpus -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ClipReader(Reader):
    """Gives rows that are known already, with one fold for all of them, from which nothing learns."""

    layout: ClassVar[str] = "clips, wherever they are"
    obtain: ClassVar[str] = "Give files by --video and --audio."
    labels: ClassVar[Mapping[str, Labels]] = {}

    rows: tuple[Utterance, ...]

    def scan(self, root: Path) -> list[Utterance]:
        """The rows."""
        return list(self.rows)

    def folds(self, rows: Sequence[Utterance], protocol: str) -> list[Fold]:
        """One fold, whose test part is all rows."""
        return [Fold(FOLD, (), (), tuple(row.id for row in rows))]


@dataclass(frozen=True)
class ClipCorpus(Corpus):
    """A corpus without labels that yet has a fold, in which the states of a bundle give their features to all rows."""

    @cached_property
    def folds(self) -> tuple[Fold, ...]:
        """The fold of all rows."""
        return tuple(self.recipe.reader.folds(self.manifest.rows, FOLD))


def _session(bundle: Bundle, rows: Sequence[Utterance], root: Path, home: Home, workers: int) -> Session:
    """The clips opened for work, with the states of the bundle in the cache of `home`."""
    home.check_edition()
    features = bundle.contents.features
    recipe = _recipe(bundle, ClipReader(rows=tuple(rows)), root)
    corpus = ClipCorpus(recipe, manifest.build(recipe.reader, root, home.memory), FOLD)
    wanted = list(corpus.wanted(features=(features,)))
    labels: Mapping[str, Label] = {}
    catalogue = Catalogue(corpus.manifest, Store(home.cache), corpus.target, labels, wanted)
    _save_states(bundle, recipe, catalogue, corpus)
    options = Options(dataset=str(bundle.folder / RECIPE), features=(features,), workers=workers)
    return Session(home, options, corpus, catalogue, doctored=False)


def _recipe(bundle: Bundle, reader: Reader, root: Path) -> Recipe:
    selections = {m: Selection(tuple(map(_unfounded, s.parts)), s.align) for m, s in bundle.selections.items()}
    target = bundle.target
    return Recipe(
        name=FOLD,
        home_name=FOLD,
        reader=reader,
        root=root,
        written_root=WrittenRoot(FOLD, FOLD, str(root), followed=False),
        labels=Labels(target.task, target.classes, lambda row: None),
        label_protocol="",
        protocol=FOLD,
        own_folds=None,
        max_failed=1.0,
        crossfit=0,
        features={bundle.contents.features: selections},
        train={},
    )


def _unfounded(node: Node) -> Node:
    """The stage without the versions of its libraries, which the bundle has compared: no reference of it is needed."""
    inputs = tuple(_unfounded(source) if isinstance(source, Node) else source for source in node.inputs)
    return Node.of(node.name, node.stage, node.params, inputs, {}, node.written)


def _save_states(bundle: Bundle, recipe: Recipe, catalogue: Catalogue, corpus: Corpus) -> None:
    """Saves the bundle's states as those of fits that learned from no row of this corpus, upstream ones first."""
    [scope] = corpus.scopes[FOLD]
    for node, bundled in sorted(_fitted(bundle, recipe), key=lambda pair: pair[0].depth):
        key = catalogue.of(node, scope).state_key
        assert key is not None, "the states upstream are saved"
        copy = partial(_copied, bundle.state(bundled))
        catalogue.store.save(node.digest + FITS, key, copy, suffix=".safetensors", about=_NO_ROWS)
        catalogue.refresh()


def _copied(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _fitted(bundle: Bundle, recipe: Recipe) -> Iterator[tuple[Node, Node]]:
    """Each fitted stage once, and the same stage as the bundle names it."""
    selections: Mapping[Modality, Selection] = recipe.features[bundle.contents.features]
    pairs = {
        node: bundled
        for modality, selection in selections.items()
        for part, own in zip(selection.parts, bundle.selections[modality].parts, strict=True)
        for node, bundled in zip(part.walk(), own.walk(), strict=True)
        if node.stage.fitted
    }
    yield from pairs.items()
