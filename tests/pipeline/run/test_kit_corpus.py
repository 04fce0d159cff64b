"""Real speech, real faces and deliberately broken files in one `table` corpus, through the real extractors."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import fields

import numpy as np
import pytest

from pipeline import interruption
from pipeline.cache import shards
from pipeline.cache.home import Home
from pipeline.corpus.open_corpus import Options
from pipeline.plan.session import Session
from tests.small import stored
from tests.stranger import affectory

RECIPE = """
[dataset]
reader     = "table"
labels     = "label"
label      = "emotion"
classes    = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
max_failed = 0.21

[features.functionals]
audio  = { stage = "audio_opensmile", feature_set = "IS09", align = { mode = "broadcast", length = 8 } }
[features.frames]
audio  = { stage = "audio_mfcc", align = { mode = "pad", length = 40 } }
[features.frames.visual]
stage    = "visual_resnet50"
backbone = "resnet18"
frames   = 2
size     = 32
weights  = "random"
align    = { mode = "sample", length = 2 }
[features.motion.visual]
stage   = "visual_cnn3d"
name    = "mc3_18"
clip    = 4
clips   = 1
size    = 32
weights = "random"
align   = { mode = "pad", length = 1 }
"""

IS10 = "features.functionals.audio.feature_set=IS10"
AUDIO = {
    "01_truncated_no_moov.mp4": "decode_error",
    "03_zero_byte.mp4": "not_media",
    "04_text_renamed.mp4": "not_media",
    "05_video_no_audio_stream.mp4": "no_audio_stream",
    "15_float32_nan_samples.wav": "non_finite",
    "16_10ms_clip.wav": "too_short",
    "._22_dia0_utt0.mp4": "not_media",
}
VISUAL = {
    "01_truncated_no_moov.mp4": "decode_error",
    "03_zero_byte.mp4": "not_media",
    "04_text_renamed.mp4": "not_media",
    "06_audio_only.mp4": "no_video_stream",
    "._22_dia0_utt0.mp4": "not_media",
}


@pytest.fixture(scope="module")
def extracted(kit, tmp_path_factory):
    """Good and bad media, extracted by the command line; (session, answer, exit code)."""
    place = tmp_path_factory.mktemp("kit")
    for folder in ("media", "bad"):
        shutil.copytree(kit / folder, place / "corpus" / folder)
    return extract(place, media(place / "corpus"))


@pytest.fixture(scope="module")
def acted(kit, tmp_path_factory):
    """RAVDESS, its IS10 extracted likewise; the session."""
    place = tmp_path_factory.mktemp("acted")
    shutil.copytree(kit / "ravdess", place / "corpus" / "ravdess")
    return extract(
        place, ravdess(place / "corpus" / "ravdess"), "--features", "functionals", "--set", IS10, changes=(IS10,)
    )[0]


def extract(place, rows, *options, changes=()):
    """Extracts a table of these rows below `place`; (session, answer, exit code)."""
    root, recipe = place / "corpus", place / "kit.toml"
    write_table(root, rows)
    recipe.write_text(RECIPE)
    line = ["extract", "--dataset", str(recipe), "--root", str(root), "--workers", "0", "--json", *options]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AFFECTORY_HOME", str(place / "home"))
        patched.setattr(interruption, "listen", lambda: None)
        done = affectory(line)
    session = Session.open(Home(place / "home"), Options(str(recipe), root=str(root), changes=changes))
    return session, json.loads(done.out), done.code


def ravdess(folder):
    with (folder / "labels.csv").open() as file:
        for row in csv.DictReader(file):
            yield row["id"], f"ravdess/{row['file']}", "", f"actor-{row['actor']}", row["emotion"]


def media(root):
    for path in sorted([*(root / "bad").iterdir(), *(root / "media").iterdir()]):
        video = "" if path.suffix == ".wav" else path.relative_to(root)
        yield path.name, path.relative_to(root), video, "", ""


def write_table(root, rows):
    with (root / "utterances.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["utterance", "audio", "video", "speaker", "emotion"])
        table.writerows(rows)


def tracks(session, stage):
    for node, scope in session.catalogue.wanted:
        for shard in session.catalogue.of(node, scope).shards if node.name == stage else ():
            for name, _, track in shards.read(stored(session.catalogue, node, shard)):
                yield name, track


def reasons(session, stage):
    return {name: t.reason.value for name, t in tracks(session, stage) if t.reason and t.reason.failed}


def test_the_exit_code_follows_the_share_of_failures(extracted):
    _, answer, code = extracted
    audio, visual = (sum(n for r, n in answer["failed"][m].items() if r != "absent") for m in ("audio", "visual"))
    assert visual / 26 < 0.21 < audio / 31
    assert code == 3


def test_every_bad_clip_has_its_reason_and_no_good_one_has_any(extracted):
    session, _, _ = extracted
    assert reasons(session, "audio_mfcc").items() <= AUDIO.items()
    assert reasons(session, "audio_opensmile") == AUDIO
    assert reasons(session, "visual_resnet50") == VISUAL
    assert reasons(session, "visual_cnn3d") == VISUAL


def test_every_good_clip_has_finite_features(extracted):
    session, _, _ = extracted
    for stage in ("audio_opensmile", "audio_mfcc", "visual_resnet50", "visual_cnn3d"):
        good = [track for _, track in tracks(session, stage) if track.reason is None]
        assert good and all(np.isfinite(track.values[track.valid]).all() and track.valid.any() for track in good)


def test_an_utterance_without_video_is_absent_and_has_not_failed(extracted):
    session, answer, _ = extracted
    absent = [name for name, t in tracks(session, "visual_resnet50") if t.reason == "absent"]
    assert len(absent) == 5 and answer["failed"]["visual"]["absent"] == len(absent)


@pytest.mark.slow
def test_is10_equals_a_direct_call_of_opensmile(acted, kit):
    import opensmile
    import soundfile

    smile = opensmile.Smile(opensmile.FeatureSet.IS10, opensmile.FeatureLevel.Functionals)
    cached = dict(tracks(acted, "audio_opensmile"))
    for name in sorted(cached)[::64]:
        samples, rate_hz = soundfile.read(kit / "ravdess" / "flac16k" / f"{name}.flac", dtype="float32")
        direct = smile.process_signal(samples, rate_hz).to_numpy()
        np.testing.assert_allclose(cached[name].values, direct, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_is10_reaches_58_percent_on_eight_emotions_of_unseen_actors(acted):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = [row for row in acted.corpus.manifest.rows if row.labels.get("emotion")]
    cached = dict(tracks(acted, "audio_opensmile"))
    values = np.concatenate([cached[row.id].values for row in rows])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    scores = cross_val_score(
        model, values, [row.labels["emotion"] for row in rows], groups=[row.speaker for row in rows], cv=GroupKFold(8)
    )
    assert len(rows) == 256 and scores.mean() >= 0.58


def test_a_shard_tells_its_whole_recipe(extracted):
    session, _, _ = extracted
    for node, scope in session.catalogue.wanted:
        shard = session.catalogue.of(node, scope).shards[0]
        about = shards.about(stored(session.catalogue, node, shard))
        assert about["recipe"]["stage"] == node.name
        assert about["recipe"]["params"].keys() == {field.name for field in fields(node.stage)}
        assert about["recipe"]["libraries"].keys() == set(node.stage.libraries)
        assert len(about["names"]) in (0, about["dim"])
