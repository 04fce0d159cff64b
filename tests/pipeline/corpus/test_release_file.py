"""The file of a release: what it may say, and that it never changes."""

from __future__ import annotations

import json

import pytest

from pipeline.cache.home import Home
from pipeline.corpus import release_file
from pipeline.corpus.lock_file import Lock
from pipeline.corpus.release_file import (
    LARGEST,
    Release,
    agreed_digests,
    checked_label,
    dump,
    known,
    parse,
    read_release,
    release_path,
    write_release,
)
from pipeline.errors import InputError

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
SOUND = {
    "name": "team",
    "version": "1.0",
    "dataset": "small",
    "date": "2026-11-27",
    "rows": 60,
    "recipe": ["[dataset]", 'reader = "iemocap"'],
    "manifest": {"digest": A, "object": B, "key": C, "bytes": 100},
    "stages": {f"audio_mfcc {A}": {"index": B, "rows": 60, "failed": 1, "objects": 2, "bytes": 1000}},
}


def raw(**changes):
    return json.dumps(SOUND | changes).encode()


def inside(name, **changes):
    return {name: SOUND[name] | changes}


WRONG = {
    "no JSON": b"\x00" * 10,
    "a list": b"[]",
    "a field of a later version": raw(later=True),
    "a name that leads elsewhere": raw(name="../team"),
    "a name with a line break": raw(name="team\n"),
    "a version with a dash": raw(version="1-0"),
    "a dataset that leads elsewhere": raw(dataset="../../small"),
    "a hidden dataset": raw(dataset=".small"),
    "a date that is none": raw(date="today"),
    "rows that are a text": raw(rows="60"),
    "fewer rows than none": raw(rows=-1),
    "a recipe that is one text": raw(recipe="[dataset]"),
    "a line that holds two": raw(recipe=["a = 1\nb = 2"]),
    "an endless line": raw(recipe=["#" * 2001]),
    "an endless recipe": raw(recipe=["#"] * 10_001),
    "a digest in capitals": raw(**inside("manifest", digest="A" * 64)),
    "a path for a digest": raw(**inside("manifest", object="../../" + "a" * 58)),
    "a key with a line break": raw(**inside("manifest", key=C + "\n")),
    "a manifest of a petabyte": raw(**inside("manifest", bytes=1 << 50)),
    "a stage without a digest": raw(stages={"audio_mfcc": SOUND["stages"][f"audio_mfcc {A}"]}),
    "a stage that leads elsewhere": raw(stages={f"../x {A}": SOUND["stages"][f"audio_mfcc {A}"]}),
    "weights without a digest": raw(weights={"/data/vectors.bin": "x"}),
    "a pin without a digest": raw(pins={"a/b@c": {"revision": "c", "digest": "x", "files": [], "bytes": 1}}),
    "folds of a name that leads elsewhere": raw(folds={"name": "../folds", "lines": []}),
    "another label": raw(version="1.1"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_release_is_refused_with_the_field_that_is_wrong(kind):
    with pytest.raises(InputError, match="team-1.0"):
        parse(WRONG[kind], "team-1.0", "s3://team/releases/team-1.0.json")


@pytest.mark.parametrize(
    "label", ["", "team", "team-", "-1.0", "../team-1.0", "a/b-1.0", "team-1/0", "team-..", ".team-1.0", "team-1.0\n"]
)
def test_a_label_that_could_lead_elsewhere_is_refused_before_it_becomes_a_path(label, tmp_path):
    with pytest.raises(InputError, match="is no release"):
        release_path(tmp_path, label)
    assert known(Home(tmp_path), label) is None


@pytest.mark.parametrize("label", ["iemocap-1.0", "meld-fair-2", "my.clips-2026.11", "a_b-1_0"])
def test_a_label_is_a_name_and_a_version(label):
    assert checked_label(label) == label


def test_a_release_comes_back_as_it_was_written_and_is_written_once(tmp_path):
    path = release_path(tmp_path, "team-1.0")
    release = Release.model_validate(SOUND | {"recipe": tuple(SOUND["recipe"])})
    assert write_release(path, release) and read_release(path) == release
    before = path.read_bytes()
    assert not write_release(path, release.model_copy(update={"date": "2027-01-01"}))
    with pytest.raises(InputError, match="never changes") as refused:
        write_release(path, release.model_copy(update={"recipe": ("[dataset]",)}))
    assert "another recipe" in str(refused.value) and path.read_bytes() == before


def test_the_lock_of_a_release_names_what_the_release_names():
    release = parse(raw(weights={"vectors.bin": C}), "team-1.0", "here")
    stages = {f"audio_mfcc {A}": B}
    assert release.lock == Lock(manifest=A, manifest_object=B, weights={"vectors.bin": C}, stages=stages)
    assert release.pulled.digest == A and release.pulled.weights == {"vectors.bin": C}


def test_a_file_that_is_larger_than_any_release_is_not_read(tmp_path):
    path = tmp_path / "team-1.0.json"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(InputError, match="larger than any release"):
        read_release(path)


def test_what_releases_name_is_agreed_on_be_they_in_manifests_or_pulled(tmp_path, monkeypatch):
    monkeypatch.setattr(release_file, "RECIPES", tmp_path / "manifests")
    home = Home(tmp_path / "home")
    for folder, index in ((tmp_path / "manifests", A), (home.root, C)):
        stage = {f"audio_mfcc {A}": SOUND["stages"][f"audio_mfcc {A}"] | {"index": index}}
        path = release_path(folder, "team-1.0")
        path.parent.mkdir(parents=True)
        path.write_text(dump(parse(raw(stages=stage), "team-1.0", "here")))
    assert agreed_digests(home) == {A, B, C}
