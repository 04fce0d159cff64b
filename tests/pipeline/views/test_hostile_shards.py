"""Shards that another machine made otherwise than they say: each is refused when it is read, none becomes a view."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from pipeline.cache import shards
from pipeline.errors import InputError
from pipeline.plan.jobs import Stored
from pipeline.reason import Reason
from pipeline.run.extract_job import stored_tracks
from pipeline.stage import Spec, Track
from pipeline.views.build_view import build_columns


def about(**changes):
    """Changes the metadata of a shard; `recipe` is merged into that of the shard."""

    def changed(table):
        entries = json.loads(table.schema.metadata[shards.RECIPE])
        entries |= {**changes, "recipe": entries["recipe"] | changes.get("recipe", {})}
        return table.replace_schema_metadata({shards.RECIPE: json.dumps(entries)})

    return changed


def column(name, change):
    """Changes the values of a column, given as a Python list."""

    def changed(table):
        values = pa.array(change(table[name].to_pylist()), table.schema.field(name).type)
        return table.set_column(table.column_names.index(name), table.schema.field(name), values)

    return changed


def first(change):
    """Changes the first value of a list."""
    return lambda values: [change(values[0]), *values[1:]]


KINDS = {
    "of another stage": about(recipe={"digest": "0" * 64}),
    "of no stage": about(recipe={"digest": None}),
    "no width": about(dim=0),
    "a width that is a text": about(dim="5"),
    "another width": about(dim=1, names=[]),
    "a dtype that is none": about(dtype="object"),
    "too few names": about(names=["one"]),
    "other names": about(names=["a", "b", "c", "d", "e"]),
    "metadata that are no JSON": lambda table: table.replace_schema_metadata({shards.RECIPE: b"{"}),
    "metadata that are a list": lambda table: table.replace_schema_metadata({shards.RECIPE: b"[]"}),
    "a row missing": lambda table: table.slice(1),
    "a row twice": lambda table: pa.concat_tables([table, table.slice(0, 1)]),
    "another order": lambda table: table.take(list(range(table.num_rows))[::-1]),
    "another utterance": column("utterance", first(lambda name: "x")),
    "no utterance": column("utterance", first(lambda name: None)),
    "another key": column("row_key", first(lambda key: bytes(32))),
    "no key": column("row_key", first(lambda key: None)),
    "more frames than values": column("frames", first(lambda frames: frames + 1)),
    "fewer frames than none": column("frames", first(lambda frames: -1)),
    "no number of frames": column("frames", first(lambda frames: None)),
    "values that end within a step": column("values", first(lambda values: values[:-1])),
    "no values": column("values", first(lambda values: None)),
    "a value that is no number": column("values", first(lambda values: [None, *values[1:]])),
    "a valid step that is not finite": column("values", first(lambda values: [float("nan"), *values[1:]])),
    "an infinite step": column("values", first(lambda values: [float("inf"), *values[1:]])),
    "too few flags": column("valid", first(lambda valid: valid[:-1])),
    "a flag that is none": column("valid", first(lambda valid: [None, *valid[1:]])),
    "too many times": column("time_s", first(lambda times: [*times, 0.0])),
    "values beside a reason": column("reason", first(lambda reason: "too_short")),
}


def is_mfcc(wanted):
    return wanted[0].name == "audio_mfcc"


def planted(small, change):
    """Puts what `change` makes of a shard of audio_mfcc in that shard's place, as a push of another machine would."""
    catalogue = small.session().catalogue
    [(node, scope)] = filter(is_mfcc, catalogue.wanted)
    record = catalogue.of(node, scope).final(catalogue.of(node, scope).shards[-1])
    table = change(shards.open_table(catalogue.store.open(record)))
    catalogue.store.action(record.stage, record.key).unlink()
    write, store = (lambda path: shards.write(table, path)), catalogue.store
    store.save(record.stage, record.key, write, suffix=".parquet", rows=record.rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shard_that_is_not_what_was_asked_for_makes_no_view(extracted, kind):
    planted(extracted, KINDS[kind])
    session = extracted.session(features=("sound",))
    with pytest.raises(InputError, match=r"audio_mfcc: object \w{12} is not that shard"):
        build_columns(session.corpus, session.catalogue, "sound", session.corpus.folds[0], extracted.home)
    assert not list((extracted.home / "views").glob("[!.]*"))


@pytest.mark.parametrize("kind", ["of another stage", "a row missing", "another key", "an infinite step"])
def test_no_stage_reads_its_input_from_such_a_shard(extracted, kind):
    catalogue = extracted.session().catalogue
    rows = catalogue.of(*next(filter(is_mfcc, catalogue.wanted)))
    keys = {row.id: key for row, key in zip(rows.shards[-1].rows, rows.shards[-1].keys, strict=True)}
    planted(extracted, KINDS[kind])
    store = extracted.session().catalogue.store
    record = store.find(rows.node.digest, rows.shards[-1].key)
    with pytest.raises(InputError):
        dict(stored_tracks(Stored((record.ref,), keys), store))


def test_what_a_shard_promises_is_checked_alike_whether_its_tracks_have_flags_and_times_or_none():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    holes = np.where([[True], [False]], values, np.float32("nan"))
    tracks = [Track(values), Track.of(holes, np.arange(2), np.array([True, False])), Track.failed(Reason.TOO_SHORT)]
    rows = [(name, digit * 64) for name, digit in zip("abcd", "0123", strict=True)]
    tracks.append(Track.of(values[:0]))
    names, keys = zip(*rows, strict=True)
    table = shards.to_table(names, keys, tracks, Spec(3), {"digest": "5" * 64})
    shards.check(table, "5" * 64, rows)
    shards.check(table.slice(0, 0), "5" * 64)
