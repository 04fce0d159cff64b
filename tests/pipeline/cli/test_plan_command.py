"""What `plan` answers: rows, fits, estimates, and the disk without which an extraction does not start."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipeline.cache.record import encode
from pipeline.cache.weights import LOCK, Pin, Weights
from pipeline.errors import InputError, SpaceError
from pipeline.plan import estimate, session
from pipeline.run import extraction
from tests.pipeline.cli.test_commands import affectory, options  # noqa: F401 - a fixture
from tests.pipeline.cli.test_extract import STAGES, extract, plan


def test_plan_answers_with_what_extract_would_do(small):
    answer = plan(small)
    assert json.loads(json.dumps(answer)) == answer
    assert answer["dataset"] == "small"
    assert answer["compute"] == {"audio_mfcc": 60, "audio_opensmile": 60}
    assert answer["waiting"] == {"text_word2vec": 60, "text_cnn": 60}
    assert answer["fits"] == ["text_word2vec on official"]
    assert (answer["copy"].get("audio_mfcc", 0), answer["cached"]) == (0, {})
    assert answer["estimate"].keys() == STAGES
    assert all(cost == {"core_seconds": None, "megabytes": None} for cost in answer["estimate"].values())


def test_plan_computes_nothing_and_starts_no_worker(small, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a plan has nothing to run")

    monkeypatch.setattr(extraction, "drive", refuse)
    monkeypatch.setattr(extraction, "workers", refuse)
    assert plan(small)["compute"]
    assert not (small.home / "cache" / "actions").exists() and not (small.home / "last.json").exists()


def test_plan_says_what_is_cached_and_what_would_be_copied(extracted):
    small = extracted
    assert plan(small) | {"dataset": ""} == {
        "dataset": "",
        "weights": {"absent": [], "unpinned": []},
        "compute": {},
        "copy": {},
        "fits": [],
        "waiting": {},
        "cached": dict.fromkeys(STAGES, 60),
        "estimate": {},
        "views": {},
        "because": {},
        "libraries": [],
    }
    small.edit(small.session().corpus.manifest.rows[-1].id, "]: ", "]: well ")
    answer = plan(small, modality="text", changes=("features.words.text.input.text_word2vec.size=8",))
    assert answer["compute"]["text_word2vec"] == 1 and answer["copy"]["text_word2vec"] >= 1


def lose(small, stage):
    """Removes one shard of a stage; how many rows it held."""
    catalogue = small.session().catalogue
    [node] = {node for node, _ in catalogue.wanted if node.name == stage}
    shard = catalogue.of(node, None).shards[0]
    catalogue.store.action(node.digest, shard.key).unlink()
    return len(shard.rows)


def rewrite(small, stage, change):
    """Writes the records of a stage anew, as other machines would have made them."""
    store = small.session().catalogue.store
    for path, record in list(store.records()):
        if record.about.get("stage") == stage and "rows" in record.about:
            path.chmod(0o644)
            path.write_bytes(encode(change(record)))


def test_plan_estimates_by_what_a_row_of_the_same_stage_and_parameters_has_cost_here(extracted):
    small, rows = extracted, lose(extracted, "audio_opensmile")
    found = plan(small)["estimate"]
    assert found.keys() == {"audio_opensmile"} and found["audio_opensmile"]["core_seconds"] > 0
    store = small.session().catalogue.store
    of_stage = (record for _, record in store.records() if record.about.get("stage") == "audio_opensmile")
    left = [record for record in of_stage if "rows" in record.about]
    size = sum(record.size for record in left) / sum(record.about["rows"] for record in left)
    assert found["audio_opensmile"]["megabytes"] == round(size * rows / 1e6, 2) > 0


def test_plan_does_not_estimate_by_what_other_parameters_cost(extracted):
    changed = plan(extracted, changes=("features.pitch.audio.feature_set=GeMAPSv01b",))["estimate"]
    assert changed == {"audio_opensmile": {"core_seconds": None, "megabytes": None}}


def test_shards_of_another_machine_tell_how_large_rows_are_and_not_how_long_they_take_here(extracted):
    lose(extracted, "audio_opensmile")
    rewrite(extracted, "audio_opensmile", lambda record: replace(record, about={**record.about, "host": "elsewhere"}))
    found = plan(extracted)["estimate"]["audio_opensmile"]
    assert found["core_seconds"] is None and found["megabytes"] > 0


def test_plan_tells_the_size_of_the_views_it_makes_anew_where_their_width_is_known(extracted):
    small = extracted
    assert plan(small)["views"] == {}
    lose(small, "audio_opensmile")
    lose(small, "audio_mfcc")
    assert plan(small)["views"] == {"sound.audio": 60 * 32 * 5 * 4 / 1e6, "pitch.audio": 60 * 1 * 384 * 4 / 1e6}
    assert plan(small, modality="audio")["views"] == {}
    changed = plan(small, changes=("features.sound.audio.n_mfcc=7",))["views"]
    assert changed == {"sound.audio": None, "pitch.audio": 60 * 1 * 384 * 4 / 1e6}


def test_plan_tells_stages_of_one_name_apart(extracted):
    small = extracted
    small.recipe += """
[features.more]
audio = { stage = "audio_mfcc", n_mfcc = 7, deltas = 0, rate_hz = 12.5, align = { mode = "pad", length = 32 } }
"""
    mfcc = [rows.node for rows in small.session().catalogue if "mfcc" in rows.node.name]
    five, seven = [f"audio_mfcc {node.digest[:6]}" for node in mfcc]
    answer = plan(small)
    assert answer["cached"][five] == 60 and answer["compute"] == {seven: 60}
    assert answer["because"].keys() == answer["estimate"].keys() == {seven} and "audio_opensmile" in answer["cached"]


def test_plan_and_extract_agree(extracted):
    small = extracted
    changes = ("features.pitch.audio.feature_set=GeMAPSv01b",)
    planned = plan(small, changes=changes)
    answer, _ = extract(small, changes=changes)
    assert answer["computed"] == planned["compute"] and answer["cached"] == planned["cached"]


def test_a_plan_that_needs_more_disk_than_there_is_is_refused_before_work(extracted, monkeypatch):
    extract(extracted)  # makes the views
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    monkeypatch.setattr(extraction, "workers", lambda session: pytest.fail("no worker may start"))
    assert extract(extracted)[0]["jobs"] == 0
    lose(extracted, "audio_opensmile")
    with pytest.raises(SpaceError, match="audio_opensmile"):
        extract(extracted)


def test_views_count_among_what_a_plan_needs(extracted, monkeypatch):
    monkeypatch.setattr(estimate, "cost", lambda store, counts: {})
    lose(extracted, "audio_opensmile")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=20_000))
    with pytest.raises(SpaceError, match=r"view pitch\.audio"):
        extract(extracted)


WEIGHTS = """
[dataset]
reader = "iemocap"
labels = "six"

[features.far]
text = { stage = "text_word2vec", vectors = "https://example.org/words.bin.gz", align = { mode = "pad", length = 4 } }
visual = { stage = "visual_resnet50", align = { mode = "sample", length = 4 } }
"""
SOURCES = ["https://example.org/words.bin.gz", "torchvision/resnet50/IMAGENET1K_V2"]


def test_all_weights_that_are_not_here_are_told_by_plan_and_before_workers_start(small):
    small.recipe = WEIGHTS
    assert plan(small)["weights"] == {"absent": [], "unpinned": SOURCES}
    pin = Pin(revision="r", digest="d" * 64, files=("w",), bytes=1)
    Weights(dict.fromkeys(SOURCES, pin)).write(small.path.parent / LOCK)
    assert plan(small)["weights"] == {"absent": SOURCES, "unpinned": []}
    with pytest.raises(InputError, match=", ".join(map(re.escape, SOURCES))):
        extract(small)


def test_settings_that_were_found_sound_are_not_looked_at_again(extracted, affectory, monkeypatch):  # noqa: F811
    def refuse(*arguments):
        raise AssertionError("looked at again")

    assert affectory("plan", *options(extracted, "--set", "train.mulg.hidden=4"))[0] == 0
    monkeypatch.setattr(session, "check_train", refuse)
    assert affectory("plan", *options(extracted, "--set", "train.mulg.hidden=4"))[0] == 0
    with pytest.raises(AssertionError):
        affectory("plan", *options(extracted, "--set", "train.mulg.hidden=5"))
