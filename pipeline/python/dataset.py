"""A dataset in Python: its rows and splits, its stages and what of them is extracted, its runs, its features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.ask.rows import rows as counted
from pipeline.ask.status import status
from pipeline.cache import shards
from pipeline.cache.home import Home
from pipeline.corpus.open_corpus import Options
from pipeline.corpus.recipe import Node, distinct_names
from pipeline.errors import InputError, closest
from pipeline.formats.content import Content, Steps, Tracks
from pipeline.plan.session import Session
from pipeline.python.features import Features, as_dict
from pipeline.python.tables import as_html, as_text
from pipeline.reader import Fold
from pipeline.run.reference_job import open_session
from pipeline.score.metrics import scalars
from pipeline.stage import Modality
from pipeline.train.trained_run import listed
from pipeline.utterance import Utterance
from pipeline.views.build_view import ShardTracks, stage_tracks
from pipeline.views.exported import content, fold_of, labelled, parts_of


def open(
    dataset: str, *, root: str = "", protocol: str = "", changes: Sequence[str] = (), remote: str = "", home: str = ""
) -> Dataset:
    """Opens a dataset by the name of its recipe, or by the path of a recipe.

    root: where the corpus is, if the recipe or its variable does not say it. protocol: official, cv or another of the
    reader's. changes: settings of the recipe, such as "dataset.labels=six". remote: URL of a remote cache that is read
    where the local one has nothing. home: the folder of the cache and the runs; default AFFECTORY_HOME, else data/.
    Raises InputError for a recipe or a corpus that is not there.
    """
    options = Options(dataset, root, protocol=protocol, changes=tuple(changes), remote=remote)
    return Dataset(open_session(Home(Path(home) if home else None, asks=True), options))


class Dataset:
    """A dataset that was opened. In a terminal or a notebook it shows its splits, stages and runs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def name(self) -> str:
        """The name of the dataset."""
        return self._session.corpus.recipe.name

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, by their index; none for a regression."""
        return self._session.corpus.target.classes

    @property
    def folds(self) -> list[str]:
        """The folds of the protocol; none without labels."""
        return [fold.name for fold in self._session.corpus.folds]

    @property
    def splits(self) -> pd.DataFrame:
        """The labelled rows of each part by class, and all of them, as `affectory rows` counts them."""
        return pd.DataFrame(counted(self._session.corpus)["counts"]).T

    @property
    def stages(self) -> pd.DataFrame:
        """Each stage: the feature sets that read it, its modality and dimensions, its rows, and those extracted.

        A row counts once for each fit whose features it gets. Dimensions are known once a row is extracted.
        """
        self._session.catalogue.refresh()
        counts = status(self._session)["stages"]
        table = pd.DataFrame([self._stage(node, counts[name]) for name, node in self._nodes.items()], [*self._nodes])
        return table.astype({"dim": "Int64"})

    @property
    def runs(self) -> pd.DataFrame:
        """The newest run of each name: its protocol, folds and test scores, means over folds."""
        found = [*listed(self._session.home.runs / self._session.corpus.recipe.home_name)]
        return pd.DataFrame([_scored(answer) for answer in found], [answer["name"] for answer in found])

    def rows(self, fold: str = "") -> pd.DataFrame:
        """All utterances: the index `id`, and dialogue, turn, speaker, text, split and labels.

        fold: whose parts are the split, if the protocol has several. Rows without a label or in no part have none.
        """
        rows = self._utterances(self._fold(fold))
        return pd.DataFrame([as_dict(row) for row in rows]).set_index("id")

    def features(self, name: str, modality: Modality | None = None, *, split: str = "", fold: str = "") -> Features:
        """The features of a feature set, or of a stage by its name in `stages`.

        Those of a feature set are what a model reads, aligned as the recipe says, of the labelled rows of a fold. Those
        of a stage are of every utterance, as they were extracted, and are read fastest in the order of the corpus.
        modality: the only one of the feature set. split: train, valid or test. fold: needed if the protocol has
        several. Raises InputError for a name that is not there, and if features are not extracted yet.
        """
        recipe, chosen = self._session.corpus.recipe, self._fold(fold, needed=name in self._scoped)
        self._session.catalogue.refresh()
        if name in self._nodes:
            found = self._of_stage(self._nodes[name], chosen)
        elif name not in recipe.features:
            raise InputError(f"no features {name!r}: {closest(name, [*recipe.features, *self._nodes])}")
        elif modality and modality not in recipe.features[name]:
            raise InputError(f"{name} has no {modality}: {closest(modality, map(str, recipe.features[name]))}")
        else:
            found = content(self._session, name, chosen, modality=modality)
        whole = Features(name, found)
        return whole.of(split) if split else whole

    def __repr__(self) -> str:
        return as_text(self._title, self._tables, _EMPTY)

    def _repr_html_(self) -> str:
        return as_html(self._title, self._tables, _EMPTY)

    @property
    def _title(self) -> str:
        corpus = self._session.corpus
        utterances, dialogues = len(corpus.manifest.rows), len({row.dialogue for row in corpus.manifest.rows})
        counts = f"{utterances:,} utterances in {dialogues:,} dialogues, {len(corpus.labels):,} of them labelled"
        return f"{self.name}: {counts} (labels {corpus.recipe.label_protocol}, protocol {corpus.protocol})"

    @property
    def _tables(self) -> dict[str, pd.DataFrame]:
        return {"Splits": self.splits, "Stages": self.stages, "Runs": self.runs}

    @property
    def _nodes(self) -> dict[str, Node]:
        """Every stage of the recipe by its distinct name."""
        return {name: node for node, name in distinct_names(node for node, _ in self._session.catalogue.wanted).items()}

    @property
    def _below(self) -> dict[str, set[Node]]:
        """The stages of each feature set, those upstream included."""
        sets = self._session.corpus.recipe.features.items()
        return {name: {n for s in chosen.values() for part in s.parts for n in part.walk()} for name, chosen in sets}

    @property
    def _scoped(self) -> set[str]:
        """Feature sets, and stages that depend on a fit: their features are those of a fold."""
        return {name for name, node in self._nodes.items() if node.scoped} | self._session.corpus.recipe.features.keys()

    def _fold(self, name: str, *, needed: bool = False) -> Fold | None:
        """The fold of a name, or the only one; None if it is not needed, and for a corpus without labels."""
        folds = self._session.corpus.folds
        return fold_of(self._session.corpus, name) if name or len(folds) == 1 or (needed and folds) else None

    def _utterances(self, fold: Fold | None) -> list[Utterance]:
        parts = parts_of(fold) if fold else {}
        corpus = self._session.corpus
        return [labelled(row, parts.get(row.id), corpus) for row in corpus.manifest.rows]

    def _of_stage(self, node: Node, fold: Fold | None) -> Content:
        tracks = stage_tracks(self._session.corpus, self._session.catalogue, node, fold)
        rows = tuple(row for row in self._utterances(fold) if row.id in tracks)
        dim, names = tracks.form()
        return Content(rows, {node.stage.modality: Tracks(dim, partial(_steps, tracks, rows), names)})

    def _stage(self, node: Node, counts: dict[str, int]) -> dict[str, Any]:
        reading = [name for name, below in self._below.items() if node in below]
        return {
            "features": ", ".join(reading),
            "modality": node.stage.modality,
            "dim": self._dim(node),
            "rows": counts["rows"],
            "extracted": counts["cached"],
            "failed": counts["failed"],
        }

    def _dim(self, node: Node) -> int | None:
        """The dimensions of a stage, by the first of its shards that is here."""
        store = self._session.catalogue.store
        for scope in self._session.corpus.scopes_of(node):
            rows = self._session.catalogue.of(node, scope)
            records = (record for shard in rows.shards if (record := rows.record(shard)) and store.here(record))
            for record in records:
                return int(shards.about(shards.open_table(store.open(record), ["utterance"]))["dim"])
        return None


_EMPTY = {
    "Splits": "no labelled rows",
    "Stages": "no stages",
    "Runs": "none yet: `affectory train` trains a model",
}


def _steps(tracks: ShardTracks, rows: Sequence[Utterance], number: int) -> Steps | None:
    track = tracks[rows[number].id]
    if track.values is None or track.valid is None:
        return None
    return Steps(np.asarray(track.values, np.float32), track.valid)


def _scored(answer: Mapping[str, Any]) -> dict[str, Any]:
    scores = {name: score for name, score in scalars(answer["metrics"]["mean"]).items() if "majority" not in name}
    return {"protocol": answer["protocol"], "folds": answer["metrics"]["folds"], **scores}
