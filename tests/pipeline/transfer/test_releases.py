"""Releases between two teams: what is written, pushed and pulled, and that nothing is computed from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cache import keys
from pipeline.cache.home import Home
from pipeline.cache.remote_inventory import Inventory
from pipeline.cli.train import trained
from pipeline.corpus import pulled_manifest, release_file
from pipeline.corpus.open_corpus import Options
from pipeline.corpus.recipe_file import home_name
from pipeline.corpus.release_file import known, read_release, release_path
from pipeline.errors import InputError, RemoteError
from pipeline.plan.session import Session
from pipeline.run.extraction import extract
from pipeline.transfer import push_pull, releases
from tests.pipeline.cli.test_commands import affectory  # noqa: F401 - a fixture
from tests.teams import keys_of, options

LABEL = "team-1.0"


@pytest.fixture
def url(tmp_path):
    return f"file://{tmp_path}/remote"


@pytest.fixture
def empty(tmp_path):
    """A home with neither recipe nor lock nor corpus."""
    return Home(tmp_path / "empty")


def release(team, version="1.0", **more):
    text = more.pop("text", True)
    return releases.release(Home(team.home), options(team, "", **more), "team", version, text=text)


def shared(team, url, **more):
    """Releases a team's features and pushes them; the path of the release."""
    path = Path(release(team, **more)["path"])
    releases.push_release(Home(team.home), Options(dataset="", remote=url), str(path))
    return path


def pull(home, url, label=LABEL):
    return releases.pull_release(home, Options(dataset="", remote=url), label)


def opened(home, **more):
    """A session on the release that was pulled."""
    return Session.open(home, Options(dataset=str(known(home, LABEL)), workers=0, **more))


def computed(session):
    return {name: rows for name, rows in extract(session).total().computed.items() if rows}


def with_model(team):
    team.recipe = team.recipe.replace("[features.sound]", "[train.hjcag]\nepochs = 1\n[features.hjcag]")
    return team


# --- a release is all that is needed -----------------------------------------------------------------------------


def test_a_team_with_nothing_but_the_name_of_a_release_trains_at_once(extracted, empty, bucket):
    shared(with_model(extracted), bucket)
    answer = pull(empty, bucket)
    assert answer["objects"] > 6 and answer["missing"] == {} and answer["dataset"] == "small"
    session = opened(empty, features=("hjcag",))
    assert computed(session) == {} and not session.corpus.manifest.media
    [scores], _ = trained(session, ["hjcag"], 0, extract=True)
    assert scores["metrics"]["pooled"]["accuracy"] is not None
    assert pull(empty, bucket)["bytes"] == 0


def test_commands_find_a_release_by_name_and_the_last_one_without(affectory, extracted, url, empty, monkeypatch):  # noqa: F811
    shared(with_model(extracted), url)
    monkeypatch.setenv("AFFECTORY_HOME", str(empty.root))
    assert affectory("pull", "--release", LABEL, "--remote", url)[0] == 0
    for given in (["--dataset", LABEL], []):
        code, out, err = affectory("train", "--model", "hjcag", "--workers", "0", "--json", *given)
        assert code == 0, err
        assert json.loads(out)["metrics"]["pooled"]["accuracy"] is not None
    code, out, _ = affectory("status", "--dataset", LABEL, "--json")
    assert code == 0 and {stage["todo"] for stage in json.loads(out)["stages"].values()} == {0}


def test_a_release_is_pushed_by_name_and_a_dataset_or_a_release_is_needed(affectory, extracted, url, monkeypatch):  # noqa: F811
    monkeypatch.setenv("AFFECTORY_HOME", str(extracted.home))
    given = options(extracted, "")
    monkeypatch.setattr(release_file, "RECIPES", extracted.path.parent)
    line = ("release", "team", "1.0", "--dataset", given.dataset, "--root", given.root)
    assert json.loads(affectory(*line, "--json")[1])["new"]
    assert affectory("push", "--release", LABEL, "--remote", url)[0] == 0
    assert json.loads(affectory(*line, "--remote", url, "--json")[1])["objects"] == 0
    for given in ([], ["--dataset", "demo", "--release", LABEL]):
        code, _, err = affectory("push", "--remote", url, *given)
        assert code == 2 and "either a dataset" in err


def test_the_keys_under_a_release_are_those_of_the_team_that_made_it(extracted, empty, url):
    shared(extracted, url)
    pull(empty, url)
    catalogue = opened(empty).catalogue
    found = {(n.name, i): k for n, scope in catalogue.wanted for i, k in catalogue.of(n, scope).keys.items()}
    assert found == keys_of(extracted, "")


def test_settings_and_protocol_that_were_in_force_are_part_of_a_release(extracted, empty, url):
    change = "features.sound.audio.n_mfcc=6"
    extracted.extract(changes=(change,), protocol="holdout")
    path = shared(extracted, url, changes=(change,), protocol="holdout")
    assert read_release(path).changes == (change, 'dataset.protocol="holdout"')
    pull(empty, url)
    session = opened(empty)
    assert computed(session) == {} and session.corpus.protocol == "holdout"
    assert session.corpus.recipe.features["sound"]["audio"].parts[0].params["n_mfcc"] == 6


def test_a_teams_own_folds_travel_with_a_release(extracted, empty, url):
    rows = extracted.session().corpus.manifest.rows
    parts = {"Ses01": "train", "Ses02": "train", "Ses03": "valid"}
    lines = [f"{row.id},{parts.get(row.id[:5], 'test')}" for row in rows]
    (extracted.path.parent / "ours.csv").write_text("\r\n".join(["utterance,split", *lines]))
    extracted.recipe = extracted.recipe.replace('"official"', '"own"\nfolds = "ours.csv"')
    extracted.extract()
    shared(extracted, url)
    pull(empty, url)
    folds = opened(empty).corpus.folds
    assert [fold.name for fold in folds] == ["ours"] and folds == extracted.session().corpus.folds
    assert computed(opened(empty)) == {}


def test_a_release_without_transcripts_has_the_same_keys(extracted, empty, url):
    shared(extracted, url, text=False)
    pull(empty, url)
    session = opened(empty)
    assert all(row.text is None and row.text_digest for row in session.corpus.manifest.rows)
    assert computed(session) == {}


def test_the_recipe_in_manifests_finds_the_manifest_too_if_it_is_the_released_one(extracted, empty, url, monkeypatch):
    shared(extracted, url)
    monkeypatch.setattr(releases, "RECIPES", extracted.path.parent)
    pull(empty, url)
    assert pulled_manifest.noted(empty.root, home_name(extracted.path)) == read_release(known(empty, LABEL)).pulled
    extracted.root.rename(extracted.root.with_name("gone"))
    assert computed(Session.open(empty, replace(options(extracted, ""), root=""))) == {}


def test_a_release_names_the_rows_to_use_whatever_the_versions_of_the_libraries_here_are(
    extracted, empty, url, monkeypatch
):
    shared(extracted, url)
    monkeypatch.setattr(keys, "library_version", lambda name: "0.0")
    assert pull(empty, url)["missing"] == {}
    assert computed(opened(empty)) == {}


# --- a release never changes -------------------------------------------------------------------------------------


def test_a_second_call_says_that_nothing_has_changed_and_other_features_need_another_version(extracted):
    assert release(extracted)["new"] and not release(extracted)["new"]
    extracted.recipe = extracted.recipe.replace("n_mfcc = 5", "n_mfcc = 6")
    with pytest.raises(InputError, match="not final: audio_mfcc 60 rows"):
        release(extracted)
    extracted.extract()
    with pytest.raises(InputError, match="never changes(.|\n)*another recipe(.|\n)*- audio_mfcc"):
        release(extracted)
    assert release(extracted, "1.1")["new"]


def test_a_remote_never_takes_another_release_of_the_same_name(extracted, url, tmp_path):
    path = shared(extracted, url)
    place = tmp_path / "remote" / "releases" / path.name
    before = place.read_bytes()
    changed = read_release(path).model_copy(update={"licence": "none"})
    path.write_text(release_file.dump(changed))
    with pytest.raises(InputError, match="has another team-1.0(.|\n)*another licence"):
        releases.push_release(Home(extracted.home), Options(dataset="", remote=url), str(path))
    assert place.read_bytes() == before


def test_a_release_in_git_wins_over_that_of_a_remote(extracted, empty, url, tmp_path, monkeypatch):
    path = shared(extracted, url)
    monkeypatch.setattr(release_file, "RECIPES", path.parents[1])
    place = tmp_path / "remote" / "releases" / path.name
    place.write_text(place.read_text().replace('"rows": 60', '"rows": 61', 1))
    with pytest.raises(RemoteError, match="has another release team-1.0 than"):
        pull(empty, url)
    assert not empty.cache.exists()


def test_a_release_that_was_pushed_is_pulled_long_after_the_cache_has_moved_on(extracted, empty, url):
    path = Path(release(extracted)["path"])
    extracted.recipe = extracted.recipe.replace("n_mfcc = 5", "n_mfcc = 6")
    extracted.extract()
    push_pull.push(Home(extracted.home), options(extracted, url))
    releases.push_release(Home(extracted.home), Options(dataset="", remote=url), str(path))
    pull(empty, url)
    assert opened(empty).corpus.recipe.features["sound"]["audio"].parts[0].params["n_mfcc"] == 5
    assert computed(opened(empty)) == {}


def test_objects_that_are_nowhere_are_named_before_anything_is_sent(extracted, url, tmp_path):
    path = Path(release(extracted)["path"])
    for file in (extracted.home / "cache" / "objects").rglob("*.safetensors"):
        file.unlink()
    with pytest.raises(InputError, match="objects of team-1.0 are neither here nor on"):
        releases.push_release(Home(extracted.home), Options(dataset="", remote=url), str(path))
    assert not (tmp_path / "remote" / "objects").exists()


def test_nothing_is_computed_under_a_release(extracted, empty, url):
    shared(extracted, url)
    pull(empty, url)
    with pytest.raises(InputError, match="not in the lock: audio_mfcc: 60"):
        extract(opened(empty, changes=("features.sound.audio.n_mfcc=6",)))


def test_a_release_that_was_not_pulled_is_said_to_be_not_here(extracted, empty):
    path = release(extracted)["path"]
    with pytest.raises(InputError, match="make pull RELEASE=team-1.0"):
        Session.open(empty, Options(dataset=path))


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_a_file_that_is_there_is_not_written_again(where, url, tmp_path, request):
    url = url if where == "disk" else request.getfixturevalue("bucket")
    remote = Inventory(url, tmp_path / "cache")
    assert remote.put_new("releases/a-1.json", b"first") == b"first"
    assert remote.put_new("releases/a-1.json", b"second") == b"first"
    with pytest.raises((FileExistsError, RemoteError)):
        remote._create("releases/a-1.json", b"third")
    assert remote.read_small("releases/a-1.json", 100) == b"first"
    assert [file.place for file in remote.files("releases")] == ["releases/a-1.json"]


# --- what the recipe of a release may not do ---------------------------------------------------------------------


def test_no_file_that_the_recipe_of_a_release_names_is_looked_at(small, empty, url, tmp_path, monkeypatch):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("2 3\nthe 0.1 0.2 0.3\nand 0.3 0.2 0.1\n")
    monkeypatch.setenv("VECTORS", str(vectors))
    head, _, _ = small.recipe.partition("[features.words.text]")
    table = 'stage = "text_word2vec", vectors = "$VECTORS", align = { mode = "pad", length = 4 }'
    small.recipe = f"{head}root = '{small.root}'\n[features.words]\ntext = {{ {table} }}\n"
    small.extract()
    path = shared(small, url)
    assert read_release(path).weights == {"$VECTORS": keys.file_digest(vectors)}
    vectors.write_text("secret")
    monkeypatch.setenv("SMALL_ROOT", str(small.root))
    assert pull(empty, url)["missing"] == {}
    session = opened(empty)
    assert computed(session) == {} and not session.corpus.manifest.media
    assert not session.corpus.recipe.root.exists()


TEXTS = {
    "a reader that is no plug-in": ('reader   = "iemocap"', 'reader = "../../evil"'),
    "a stage that is no plug-in": ('stage = "audio_mfcc"', 'stage = "os"'),
    "a private module as a stage": ('stage = "audio_mfcc"', 'stage = "_hub"'),
    "folds in a file of this machine": ('protocol = "official"', 'folds = "/etc/passwd"'),
    "a nesting without end": ('protocol = "official"', "protocol = " + "[" * 1500),
    "a number without end": ('protocol = "official"', "protocol = " + "9" * 1900),
    "other parameters": ("n_mfcc = 5", "n_mfcc = 6"),
    "another label protocol": ('labels   = "six"', 'labels = "vad"'),
    "no recipe": None,
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_recipe_that_was_changed_on_the_remote_is_refused_and_not_kept(extracted, empty, url, tmp_path, kind):
    path = shared(extracted, url)
    agreed = read_release(path)
    old, new = TEXTS[kind] or ("", "")
    recipe = tuple(line.replace(old, new) for line in agreed.recipe) if TEXTS[kind] else ()
    assert recipe != agreed.recipe
    place = tmp_path / "remote" / "releases" / path.name
    place.write_text(release_file.dump(agreed.model_copy(update={"recipe": recipe})))
    with pytest.raises(InputError):
        pull(empty, url)
    assert known(empty, LABEL) is None and not list(empty.cache.glob("actions/*/*"))


@pytest.mark.parametrize("field", ["manifest", "index", "object"])
def test_what_is_not_as_the_release_says_is_refused_and_the_release_is_not_kept(extracted, empty, url, tmp_path, field):
    path = shared(extracted, url)
    agreed, remote = read_release(path), tmp_path / "remote"
    if field == "manifest":
        [place] = remote.glob(f"objects/{agreed.manifest.object[:2]}/{agreed.manifest.object[2:]}.parquet")
    elif field == "index":
        [place] = remote.glob(f"index/*/*-{next(iter(agreed.stages.values())).index}.json")
    else:
        place = max(remote.glob("objects/*/*.parquet"), key=lambda file: file.stat().st_size)
    place.write_bytes(place.read_bytes()[::-1])
    with pytest.raises(RemoteError):
        pull(empty, url)
    assert known(empty, LABEL) is None


def test_a_label_is_checked_before_the_remote_is_asked_for_it(empty, url, tmp_path):
    (tmp_path / "remote" / "releases").mkdir(parents=True)
    (tmp_path / "secret-1.json").write_text("{}")
    with pytest.raises(InputError, match="is no release"):
        pull(empty, url, "../../secret-1")
    with pytest.raises(InputError, match="has no release team-1.0"):
        pull(empty, url)


def test_what_a_release_names_is_kept_by_gc_on_the_remote_and_its_manifest_here(extracted, empty, url, monkeypatch):
    from pipeline.cache import gc, gc_remote
    from pipeline.transfer.remote_contents import released_digests

    path = shared(extracted, url)
    pull(empty, url)
    agreed, later = read_release(path), 1e11
    remote = Inventory(url, empty.cache)
    assert released_digests(remote) == agreed.named
    place = next(file for file in remote.files("index") if file.place.split("/")[1] == agreed.pulled.record.stage)
    remote.remove(place)
    kept = gc_remote.collect(remote, Home(extracted.home.parent / "third"), 30, agreed.named, later)
    assert kept.objects == () and kept.indexes == ()
    listed = {gc.digest_of(item.path) for stage in gc.collect(empty, 30, later).stages for item in stage.objects}
    assert listed and agreed.manifest.object not in listed


def test_a_release_of_a_release_is_refused_and_so_is_a_push_of_one_as_a_dataset(extracted, url):
    path = release(extracted)["path"]
    given = Options(dataset=path, remote=url)
    with pytest.raises(InputError, match="is a release already"):
        releases.release(Home(extracted.home), given, "again", "1.0")
    with pytest.raises(InputError, match="pushed by its name"):
        push_pull.push(Home(extracted.home), given)
    assert release_path(extracted.path.parent, LABEL).exists()
