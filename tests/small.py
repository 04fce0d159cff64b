"""A small corpus with a small recipe, run in this process: what the tests of the machine stand on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.cache import shards
from pipeline.cache.home import Home
from pipeline.corpus.open_corpus import Options
from pipeline.corpus.recipe import Node
from pipeline.corpus.recipe_file import home_name
from pipeline.plan import shortfall
from pipeline.plan.catalogue import Catalogue, Shard
from pipeline.plan.planner import plan
from pipeline.plan.session import Session
from pipeline.run.driver import drive
from pipeline.run.extraction import extract
from pipeline.run.outcome import RunCounts
from pipeline.run.reference_job import open_session
from pipeline.run.stage_calls import Knobs
from pipeline.stage import Track
from pipeline.views import build_view

RECIPE = """
[dataset]
reader   = "iemocap"
labels   = "six"
protocol = "official"

[features.words.text]
stage = "text_cnn"
epochs = 2
channels = 4
input.text_word2vec = { size = 8, epochs = 1, min_count = 1 }
align = { mode = "pad", length = 12 }
[features.sound]
audio = { stage = "audio_mfcc", n_mfcc = 5, deltas = 0, rate_hz = 12.5, align = { mode = "pad", length = 32 } }
[features.pitch]
audio = { stage = "audio_opensmile", feature_set = "IS09", align = { mode = "broadcast", length = 4 } }
"""


def stored(catalogue: Catalogue, node: Node, shard: Shard) -> pa.Table:
    """The table of a shard that is there."""
    record = catalogue.store.find(node.digest, shard.key)
    assert record is not None
    return shards.open_table(catalogue.store.open(record))


def driven(catalogue: Catalogue, workers: Any, knobs: Knobs = Knobs()) -> RunCounts:
    """Everything that a catalogue asks for, done by these workers."""
    return drive(catalogue, lambda: plan(catalogue), lambda todo: workers, knobs, lambda new, ended: None)


def views(session: Session) -> dict[str, Any]:
    """Every view of a session, built."""
    return build_view.build_all_columns(session.corpus, session.catalogue, session.options.features, session.home.root)


@contextmanager
def left_as_it_was(home: Path) -> Iterator[None]:
    """A context at whose end a home is again as it was before."""
    kept = home.with_name(f"{home.name}-kept")
    shutil.copytree(home, kept)
    try:
        yield
    finally:
        shutil.rmtree(home)
        kept.rename(home)


@dataclass
class Small:
    """Extracts in this process and says what was computed, copied and called."""

    root: Path
    home: Path
    path: Path
    recipe: str = RECIPE
    workers: int = 0
    last: RunCounts = field(default_factory=RunCounts)

    @property
    def name(self) -> str:
        """What its files at home are named by."""
        return home_name(self.path)

    def take(self, home: Path) -> None:
        """Copies a home in which the same recipe was extracted from another folder, as if that had been this one."""
        shutil.copytree(home, self.home)
        [history] = (self.home / "history").iterdir()
        history.rename(history.with_name(self.name))

    def session(self, **options: Any) -> Session:
        """A session over the corpus as it now stands."""
        self.path.write_text(self.recipe)
        given: dict[str, Any] = {"root": str(self.root), "workers": self.workers, **options}
        return open_session(Home(self.home), Options(dataset=str(self.path), **given))

    def extract(self, **options: Any) -> dict[str, int]:
        """Rows computed by stage; `self.last` holds the whole report."""
        self.last = extract(self.session(**options))
        return self.count("computed")

    def count(self, kind: str) -> dict[str, int]:
        """A count of the last run, by stage, zeros left out."""
        return {name: count for name, count in getattr(self.last.total(), kind).items() if count}

    def rows(self) -> dict[tuple[str, str], tuple[str, Track]]:
        """Every cached row this recipe asks for: (stage, utterance) -> (row key, track), scopes of fits told apart."""
        return dict(self._rows())

    def _rows(self) -> Iterator[tuple[tuple[str, str], tuple[str, Track]]]:
        catalogue = self.session().catalogue
        for node, scope in catalogue.wanted:
            name = f"{node.name}@{scope.name}" if scope else node.name
            for shard in catalogue.of(node, scope).shards:
                for utterance, key, track in shards.read(stored(catalogue, node, shard)):
                    yield (name, utterance), (key, track)

    def failed(self) -> dict[str, dict[str, str]]:
        """Reasons by modality and utterance."""
        session = self.session()
        return shortfall.reasons(session.catalogue)

    def edit(self, utterance: str, old: str, new: str, kind: str = "transcriptions") -> None:
        """Replaces text in an utterance's line of its dialogue's transcription or evaluation."""
        [file] = self.root.glob(f"Session*/dialog/{kind}/{utterance.rpartition('_')[0]}.txt")
        lines = file.read_text().splitlines(keepends=True)
        changed = [line.replace(old, new) if utterance in line else line for line in lines]
        assert changed != lines
        file.write_text("".join(changed))
