"""What `extract` answers, and what a session refuses before it starts to work."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from pipeline.cache.home import Home
from pipeline.cli.extract import extracted as extract_command
from pipeline.cli.extract import planned
from pipeline.cli.train import trained
from pipeline.corpus.open_corpus import Options
from pipeline.errors import InputError
from pipeline.plan.session import Session
from pipeline.run.inline_workers import Inline
from pipeline.train import train_models

STAGES = {"text_word2vec", "text_cnn", "audio_mfcc", "audio_opensmile"}
TABLE = """
[dataset]
reader = "table"
labels = "label"

[features.sound]
audio = { stage = "audio_mfcc", n_mfcc = 5, align = { mode = "pad", length = 4 } }
[features.hjcag]
audio = { stage = "audio_mfcc", n_mfcc = 5, align = { mode = "pad", length = 4 } }
[features.words.text]
stage = "text_word2vec"
min_count = 1
align = { mode = "pad", length = 4 }
"""


def answers(small, **options):
    """(home, options) of a call on the small corpus."""
    small.path.write_text(small.recipe)
    given = {"root": str(small.root), "workers": 0, **options}
    return Home(small.home), Options(dataset=str(small.path), **given)


def extract(small, **options):
    return extract_command(Session.open(*answers(small, **options)))


def plan(small, **options):
    return planned(Session.open(*answers(small, **options)))


def test_extract_answers_with_rows_by_stage(small):
    answer, failed = extract(small, modality="audio")
    assert json.loads(json.dumps(answer)) == answer and not failed
    assert answer["dataset"] == "small" and answer["seconds"] > 0
    assert answer["computed"] == {"audio_mfcc": 60, "audio_opensmile": 60}
    assert answer["time"]["share"]["audio_opensmile"] > 0 and len(answer["time"]["idle_s"]) == 1
    assert (answer["copied"], answer["cached"], answer["failed"]) == ({}, {}, {})


def test_extract_again_answers_that_everything_is_cached_and_nothing_was_called(extracted):
    answer, failed = extract(extracted)
    assert (answer["jobs"], answer["computed"], answer["calls"], failed) == (0, {}, {}, False)
    assert answer["cached"] == dict.fromkeys(STAGES, 60)


def test_extract_tells_what_was_copied_from_other_shards(extracted):
    small = extracted
    row = small.session().corpus.manifest.rows[-1]
    small.edit(row.id, "]: ", "]: well ")
    answer, _ = extract(small, features=("words",))
    assert answer["computed"]["text_cnn"] == 1 and answer["copied"]["text_cnn"] >= 1


def test_extract_counts_stages_of_one_name_apart(small):
    small.recipe += """
[features.more]
audio = { stage = "audio_mfcc", n_mfcc = 7, deltas = 0, rate_hz = 12.5, align = { mode = "pad", length = 32 } }
"""
    sets = ("sound", "more")
    five, seven = [f"audio_mfcc {rows.node.digest[:6]}" for rows in small.session(features=sets).catalogue]
    (small.root / small.session().corpus.manifest.rows[0].audio[0].path).unlink()
    answer, _ = extract(small, features=("sound",))
    assert answer["computed"] == {"audio_mfcc": 60}
    answer, _ = extract(small, features=sets)
    assert (answer["computed"], answer["cached"]) == ({seven: 60}, {five: 60})
    assert answer["calls"].keys() == {seven}


@pytest.mark.parametrize(("limit", "over"), [(0.04, True), (0.05, False)])
def test_failed_clips_are_counted_by_reason_and_too_many_are_told(extracted, limit, over):
    small = extracted
    small.recipe = small.recipe.replace('labels   = "six"', f'labels = "six"\nmax_failed = {limit}')
    for row in small.session().corpus.manifest.rows[:3]:
        (small.root / row.audio[0].path).unlink()
    answer, failed = extract(small, modality="audio")
    assert answer["failed"] == {"audio": {"missing_file": 3}} and failed == over


def test_a_failure_is_told_again_when_nothing_is_computed(extracted):
    small = extracted
    (small.root / small.session().corpus.manifest.rows[0].audio[0].path).unlink()
    first, _ = extract(small)
    again, _ = extract(small)
    assert again["jobs"] == 0 and again["failed"] == first["failed"] == {"audio": {"missing_file": 1}}


def test_extract_remembers_the_dataset_for_a_train_that_names_none(small):
    with pytest.raises(InputError, match="nothing was extracted yet"):
        Home(small.home).last()
    extract(small, features=("sound",))
    assert Home(small.home).last() == (str(small.path), str(small.root), [])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"dataset"'])
def test_a_damaged_note_of_the_last_dataset_is_as_none(tmp_path, text):
    (tmp_path / "last.json").write_text(text)
    with pytest.raises(InputError, match="nothing was extracted yet"):
        Home(tmp_path).last()


def test_what_killed_runs_left_half_written_is_swept_after_a_week_and_nothing_else(extracted):
    home, options = answers(extracted)
    old, young = home.cache / "partial" / "old", home.cache / "partial" / "young"
    view = home.root / "views" / ".half"
    view.mkdir(parents=True)
    (view / "values.npy").touch()
    for path in (old, young):
        path.touch()
    kept = sorted(home.cache.glob("objects/*/*"))
    for path in (old, view):
        os.utime(path, times=(0, 0))
    extract_command(Session.open(home, options))
    assert (old.exists(), view.exists(), young.exists()) == (False, False, True)
    assert sorted(home.cache.glob("objects/*/*")) == kept


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"modality": "adio"}, "no modality 'adio' in this recipe: did you mean audio?"),
        ({"modality": "visual"}, "no modality 'visual' in this recipe"),
        ({"features": ("sounds",)}, "no feature set 'sounds' in this recipe: did you mean sound"),
        ({"protocol": "oficial"}, "no protocol 'oficial': did you mean official?"),
        ({"changes": ("features.sound.audio.n_mffc=3",)}, "did you mean n_mfcc"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest(small, options, said):
    with pytest.raises(InputError) as caught:
        plan(small, **options)
    assert said in str(caught.value)


def test_an_unknown_protocol_is_refused_before_the_corpus_is_looked_for(small, tmp_path):
    with pytest.raises(InputError, match="no protocol 'oficial'"):
        extract(small, root=str(tmp_path / "nowhere"), protocol="oficial")


def test_an_absent_root_names_where_it_looked_the_layout_and_how_to_get_the_corpus(small, tmp_path):
    with pytest.raises(InputError) as caught:
        extract(small, root=str(tmp_path / "nowhere"))
    for part in (str(tmp_path / "nowhere"), "EmoEvaluation", "https://sail.usc.edu/iemocap"):
        assert part in str(caught.value)


def test_settings_that_training_would_refuse_are_refused_before_anything_is_extracted(small):
    small.recipe += "[train.hjcag]\nlerning_rate = 1\n"
    with pytest.raises(InputError, match=r"small.toml:\d+: train.hjcag.lerning_rate: .*did you mean learning_rate"):
        extract(small, features=("sound",))
    assert not (small.home / "cache" / "actions").exists()


def test_train_refuses_features_that_the_recipe_does_not_have(small):
    with pytest.raises(InputError, match="no feature set 'hjcag'"):
        trained(Session.open(*answers(small, features=("hjcag",))), ["hjcag"], 0, extract=False)


def test_training_checks_the_workers_before_it_uses_them(extracted, monkeypatch):
    class Wrong(Inline):
        def preflight(self):
            raise InputError("these workers offer nothing")

    small = extracted
    small.recipe = small.recipe.replace("[features.sound]", "[features.hjcag]")
    home, given = answers(small)
    opened = Session.open(home, replace(given, features=("hjcag",)))
    extract_command(opened)
    monkeypatch.setattr(train_models, "workers_of", lambda session: Wrong())
    with pytest.raises(InputError, match="these workers offer nothing"):
        trained(opened, ["hjcag"], 0, extract=False)


@pytest.fixture
def unlabelled(small):
    """A table of twenty clips and nothing else: no labels, no splits, no transcripts."""
    clips = sorted(small.root.glob("Session*/sentences/wav/*/*.wav"))[:20]
    lines = [f"{path.stem},{path.relative_to(small.root)}" for path in clips]
    (small.root / "utterances.csv").write_text("\n".join(["utterance,audio", *lines]))
    small.recipe = TABLE
    return small


def test_a_corpus_without_labels_can_be_planned_and_extracted(unlabelled):
    assert plan(unlabelled, features=("sound",))["compute"] == {"audio_mfcc": 20}
    answer, failed = extract(unlabelled, features=("sound",))
    assert (answer["computed"], answer["failed"], failed) == ({"audio_mfcc": 20}, {}, False)


def test_a_corpus_without_labels_has_nothing_to_fit_or_to_train_on(unlabelled):
    with pytest.raises(InputError, match="no labels to fit on"):
        extract(unlabelled)
    with pytest.raises(InputError, match="no labels"):
        trained(Session.open(*answers(unlabelled)), ["hjcag"], 0, extract=False)
