"""Manifests that nobody checked: one that is refused is refused whole, and leaves nothing behind."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cache.home import Home
from pipeline.cache.remote import Remote
from pipeline.cache.store import Store
from pipeline.corpus import pulled_manifest
from pipeline.corpus.lock_file import Lock, lock_path, read_lock, write_lock
from pipeline.errors import InputError, RemoteError
from pipeline.plan.session import Session
from pipeline.utterance import Utterance, to_table
from tests.teams import options, pull, push


@pytest.fixture
def url(tmp_path):
    return f"file://{tmp_path}/remote"


def plant(team, url, rows, digest="0" * 64, change=lambda table: table):
    """Pushes rows as the manifest of a team's corpus, as a hostile machine would."""
    store = Store(team.home / "elsewhere")
    write = partial(pq.write_table, change(to_table(rows)))
    about = {"manifest": digest, "weights": {}, "dataset": team.path.stem}
    record = store.save(pulled_manifest.stage_of(team.path.stem), digest, write, suffix=".parquet", about=about)
    remote = Remote(url, team.home / "elsewhere")
    remote.put(record, store.path(record))
    remote.publish(record.stage, [record], newest=True)


def first(change):
    """Changes the first row."""
    return lambda rows: [change(rows[0]), *rows[1:]]


HOSTILE = {
    "a time that is no number": first(lambda row: replace(row, start_s=float("nan"))),
    "an endless stretch": first(lambda row: replace(row, audio=(replace(row.audio[0], end_s=float("inf")),))),
    "a crop that is no number": first(
        lambda row: replace(row, video=(replace(row.video[0], crop=(0, 0, float("nan"), 1)),))
    ),
    "a crop of three numbers": first(lambda row: replace(row, video=(replace(row.video[0], crop=(0, 0, 1)),))),
    "an annotation that is no number": first(lambda row: replace(row, labels={**row.labels, "valence": float("nan")})),
    "a label outside the classes": first(lambda row: replace(row, labels={**row.labels, "emotion": "\x1b[2J"})),
    "no annotations": lambda rows: [replace(row, labels={}) for row in rows],
    "no id": first(lambda row: replace(row, id=None)),
    "no dialogue": first(lambda row: replace(row, dialogue=None)),
    "no turn": first(lambda row: replace(row, turn=None)),
    "no path": first(lambda row: replace(row, audio=(replace(row.audio[0], path=None),))),
    "a digest that is none": first(lambda row: replace(row, text=None, text_digest="../x")),
    "a path that leads outside": first(lambda row: replace(row, audio=(replace(row.audio[0], path="../../x.wav"),))),
    "one id twice": lambda rows: [*rows, rows[0]],
    "no row": lambda rows: [],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_manifest_is_an_input_error_and_leaves_no_note(small, other, url, kind):
    rows = list(small.session().corpus.manifest.rows)
    plant(other, url, HOSTILE[kind](rows))
    with pytest.raises(InputError):
        pull(other, url)
    assert pulled_manifest.noted(other.home, other.name) is None
    assert list(Store(other.home / "cache").records()) == []


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_a_stretch_that_is_null_is_refused(small, other, url, kind):
    def nothing(table):
        column, place = table[kind], table.column_names.index(kind)
        return table.set_column(place, kind, pa.array([[None]] * len(table), column.type))

    plant(other, url, small.session().corpus.manifest.rows, change=nothing)
    with pytest.raises(InputError, match="a stretch of no file"):
        pull(other, url)


@pytest.mark.parametrize("here", [True, False])
def test_a_manifest_with_labels_outside_the_classes_is_refused_also_where_the_release_is(small, other, url, here):
    found = small.session().corpus.manifest
    hostile = replace(found, rows=tuple(HOSTILE["no annotations"](list(found.rows))))
    team = small if here else other
    plant(team, url, hostile.rows, hostile.digest)
    with pytest.raises(InputError, match="are not of this label protocol"):
        pull(team, url)
    assert pulled_manifest.noted(team.home, team.name) is None


def test_a_refused_manifest_leaves_the_note_of_an_earlier_one(small, other, url):
    found = small.session().corpus.manifest
    plant(other, url, found.rows, found.digest)
    pull(other, url)
    before = pulled_manifest.noted(other.home, other.name)
    plant(other, url, HOSTILE["no id"](list(found.rows)))
    with pytest.raises(InputError):
        pull(other, url)
    assert pulled_manifest.noted(other.home, other.name) == before
    assert Session.open(Home(other.home), options(other, "")).corpus.manifest.digest == found.digest


def locked(small, url):
    """A lock that names a manifest which was pushed."""
    found = small.session().corpus.manifest
    plant(small, url, found.rows, found.digest)
    record = pulled_manifest.latest(Remote(url, small.home / "cache"), small.path.stem).record
    return Lock(manifest=found.digest, manifest_object=record.object, stages={})


def test_a_locked_pull_takes_the_object_that_the_lock_names_and_reads_no_other(small, other, url, monkeypatch):
    other.path.write_text(other.recipe)
    lock = locked(small, url)
    write_lock(lock_path(other.path), lock)
    plant(other, url, [Utterance(id="x", dialogue="d", turn=0)], lock.manifest)
    read, opened = pulled_manifest._table, []
    monkeypatch.setattr(pulled_manifest, "_table", lambda path: opened.append(path) or read(path))
    assert pull(other, url, locked=True)["manifest"] == lock.manifest
    assert {path.parent.name + path.stem for path in opened} == {lock.manifest_object}


def test_a_locked_pull_reads_nothing_if_the_object_has_other_bytes(small, other, url, tmp_path, monkeypatch):
    other.path.write_text(other.recipe)
    lock = locked(small, url)
    write_lock(lock_path(other.path), lock)
    [place] = (tmp_path / "remote" / "objects").rglob("*.parquet")
    place.write_bytes(bytes(place.stat().st_size))
    monkeypatch.setattr(pulled_manifest, "_table", lambda path: pytest.fail("it was read"))
    with pytest.raises(RemoteError):
        pull(other, url, locked=True)


def test_a_lock_names_the_manifest_that_was_pushed_with_it(extracted, other, url):
    push(extracted, url)
    shutil.copy(lock_path(extracted.path), lock_path(other.path))
    assert pull(other, url, locked=True)["missing"] == {}
    noted = pulled_manifest.noted(other.home, other.name)
    assert noted.record.object == read_lock(lock_path(extracted.path)).manifest_object
