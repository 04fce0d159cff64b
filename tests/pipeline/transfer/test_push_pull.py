"""Two teams and a remote: what is pushed, pulled and computed, counted in rows, objects and bytes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cache.home import Home
from pipeline.cache.record import encode
from pipeline.cache.remote import Remote
from pipeline.cache.remote_inventory import Inventory
from pipeline.cli.extract import extracted
from pipeline.cli.train import trained
from pipeline.corpus import pulled_manifest
from pipeline.corpus.lock_file import lock_path, read_lock
from pipeline.corpus.open_corpus import Options
from pipeline.errors import InputError, RemoteError
from pipeline.media.decode import decoded
from pipeline.plan.estimate import views
from pipeline.plan.session import Session
from pipeline.reason import Reason
from pipeline.run import extraction
from pipeline.transfer import push_pull
from tests.small import Small


def options(team: Small, url: str, **more) -> Options:
    team.path.write_text(team.recipe)
    return Options(dataset=str(team.path), root=str(team.root), workers=0, remote=url, **more)


def push(team: Small, url: str, *, text: bool = True, relock: bool = False, **more):
    return push_pull.push(Home(team.home), options(team, url, **more), text=text, relock=relock)


def pull(team: Small, url: str, *, split: str = "", **more):
    return push_pull.pull(Home(team.home), options(team, url, **more), split=split)


def extract(team: Small, url: str, *, relock: bool = False, **more):
    answer, _ = extracted(Session.open(Home(team.home), options(team, url, **more)), relock=relock)
    return {name: count for name, count in answer["computed"].items() if count}


@pytest.fixture
def other(small: Small, tmp_path: Path) -> Small:
    """Another team: the same recipe, an empty home, and no corpus."""
    place = tmp_path / "other"
    place.mkdir()
    return Small(place / "corpus", place / "home", place / small.path.name)


@pytest.fixture
def pushed(extracted: Small, bucket: str) -> Small:
    push(extracted, bucket)
    return extracted


def objects(team: Small) -> set[str]:
    """The objects of a team's cache."""
    return {path.name for path in (team.home / "cache" / "objects").rglob("*") if path.is_file()}


def keys_of(team: Small, url: str) -> dict[tuple[str, str], str]:
    team.path.write_text(team.recipe)
    catalogue = Session.open(Home(team.home), options(team, url)).catalogue
    found = {}
    for node, scope in catalogue.wanted:
        for shard in catalogue.of(node, scope).shards:
            assert catalogue.of(node).final(shard), (node.name, shard.key)
            found |= {(node.name, row.id): key for row, key in zip(shard.rows, shard.keys, strict=True)}
    return found


def there(url: str, root: Path) -> list[str]:
    """Every file of a remote."""
    remote = Remote(url, root)
    return sorted(remote._files.find(remote._where[1]))


# --- what travels ----------------------------------------------------------------------------------------------


def test_a_team_without_media_trains_on_what_another_pushed_and_extracts_nothing(extracted, other, bucket):
    for team in (extracted, other):
        team.recipe = team.recipe.replace("[features.sound]", "[train.hjcag]\nepochs = 1\n[features.hjcag]")
    push(extracted, bucket)
    assert pull(other, bucket)["missing"] == {}
    assert not other.root.exists() and extract(other, "") == {}
    assert keys_of(other, "") == keys_of(extracted, "")
    session = Session.open(Home(other.home), options(other, "", features=("hjcag",)))
    [answer], _ = trained(session, ["hjcag"], 0, extract=True)
    assert answer["metrics"]["pooled"]["accuracy"] is not None


def test_a_team_without_the_weights_has_the_keys_of_the_one_that_has_them(small, other, bucket, tmp_path):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("2 3\nthe 0.1 0.2 0.3\nand 0.3 0.2 0.1\n")
    for team in (small, other):
        head, _, _ = team.recipe.partition("[features.words.text]")
        table = f'stage = "text_word2vec", vectors = "{vectors}", align = {{ mode = "pad", length = 4 }}'
        team.recipe = f"{head}[features.words]\ntext = {{ {table} }}\n"
    small.extract()
    push(small, bucket)
    expected = keys_of(small, "")
    vectors.unlink()
    pull(other, bucket)
    assert keys_of(other, "") == expected and extract(other, "") == {}


def test_a_second_push_sends_nothing(pushed, bucket):
    before = there(bucket, pushed.home / "cache")
    assert push(pushed, bucket)["bytes"] == 0
    assert there(bucket, pushed.home / "cache") == before


def test_a_second_pull_brings_nothing(pushed, other, bucket):
    first = pull(other, bucket)
    assert first["bytes"] > 0 and pull(other, bucket)["bytes"] == 0


def test_after_one_audio_parameter_only_audio_runs_and_only_its_objects_are_pushed(pushed, bucket):
    before = objects(pushed)
    pushed.recipe = pushed.recipe.replace("n_mfcc = 5", "n_mfcc = 6")
    assert pushed.extract() == {"audio_mfcc": 60}
    new = objects(pushed) - before
    size = sum(path.stat().st_size for path in (pushed.home / "cache" / "objects").rglob("*") if path.name in new)
    answer = push(pushed, bucket, relock=True)
    assert (answer["objects"], answer["bytes"]) == (len(new), size)


@pytest.mark.parametrize(
    ("which", "stages"),
    [
        ({"modality": "audio"}, {"audio_mfcc", "audio_opensmile"}),
        ({"features": ("sound",)}, {"audio_mfcc"}),
        ({"split": "test"}, {"audio_mfcc", "audio_opensmile", "text_word2vec", "text_cnn"}),
    ],
)
def test_nothing_is_fetched_that_is_not_wanted(pushed, other, bucket, which, stages):
    everything = sum(1 for _ in (pushed.home / "cache" / "objects").rglob("*.*"))
    answer = pull(other, bucket, **which)
    assert 0 < answer["objects"] < everything
    records = [record for _, record in Session.open(Home(other.home), options(other, "")).catalogue.store.records()]
    assert {record.about["stage"] for record in records if "stage" in record.about} == stages


def test_a_shard_with_a_reason_that_may_pass_is_not_pushed(extracted, bucket):
    catalogue = extracted.session().catalogue
    [(node, scope)] = [place for place in catalogue.wanted if place[0].name == "audio_mfcc"]
    shard = catalogue.of(node, scope).shards[0]
    record = catalogue.of(node).final(shard)
    catalogue.store.demote(record, record.rows[1:])
    push(extracted, bucket)
    index = Remote(bucket, extracted.home / "cache").index(node.digest)
    assert shard.key not in index and len(index) == len(catalogue.of(node, scope).shards) - 1
    assert not lock_path(extracted.path).exists()


def test_without_text_no_transcript_leaves_and_keys_stay_the_same(extracted, other, bucket):
    push(extracted, bucket, text=False)
    pull(other, bucket)
    rows = Session.open(Home(other.home), options(other, "")).corpus.manifest.rows
    assert all(row.text is None and row.text_digest for row in rows)
    assert keys_of(other, "") == keys_of(extracted, "")


def test_what_a_pulled_manifest_cannot_compute_is_refused_with_what_is_missing(pushed, other, bucket):
    pull(other, bucket)
    other.recipe = other.recipe.replace("n_mfcc = 5", "n_mfcc = 6")
    with pytest.raises(InputError, match=r"no audio .*to compute them from: audio_mfcc: 60 rows"):
        extract(other, bucket)


def test_text_alone_is_computed_from_a_pulled_manifest_with_transcripts(pushed, other, bucket):
    pull(other, bucket)
    other.recipe = other.recipe.replace("channels = 4", "channels = 5")
    assert extract(other, bucket) == {"text_cnn": 60}


def test_a_pulled_manifest_without_transcripts_fits_no_text(extracted, other, bucket):
    push(extracted, bucket, text=False)
    pull(other, bucket)
    other.recipe = other.recipe.replace("min_count = 1", "min_count = 2")
    with pytest.raises(InputError, match="no text.*text_word2vec"):
        extract(other, bucket)


def test_a_push_that_broke_off_goes_on_with_what_is_not_there_yet(extracted, bucket, monkeypatch):
    sent: list[str] = []
    put = Inventory.put

    def breaking(self, ref, source):
        if len(sent) >= 3:
            raise RemoteError("the line is dead")
        sent.append(ref.object)
        put(self, ref, source)

    total = len(objects(extracted))
    with monkeypatch.context() as patch:
        patch.setattr(Inventory, "put", breaking)
        with pytest.raises(RemoteError, match="the line is dead"):
            push(extracted, bucket)
    assert push(extracted, bucket)["objects"] == total - len(set(sent))


def test_half_an_upload_does_not_count_as_the_object(extracted, tmp_path):
    url = f"file://{tmp_path}/remote"
    _, record = max(extracted.session().catalogue.store.records(), key=lambda pair: pair[1].size)
    place = tmp_path / "remote" / "objects" / record.object[:2] / f"{record.object[2:]}.parquet.12-ab.part"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x" * record.size)
    everything = len(objects(extracted))
    assert push(extracted, url)["objects"] == everything


def test_a_transcript_that_was_left_out_is_no_absent_one(extracted, other, bucket):
    push(extracted, bucket, text=False)
    pull(other, bucket)
    row = Session.open(Home(other.home), options(other, "")).corpus.manifest.rows[0]
    [(_, found)] = decoded("text", [row], other.root, [[]], Home(other.home).memory)
    assert found.reason is Reason.IO_ERROR


def test_an_object_that_the_remote_lost_is_sent_again_where_a_repair_is_asked_for(pushed, bucket):
    remote = Remote(bucket, pushed.home / "cache")
    _, record = max(pushed.session().catalogue.store.records(), key=lambda pair: pair[1].size)
    remote._files.rm_file(remote._full(remote._object(record)))
    assert push(pushed, bucket)["objects"] == 0
    answer = push_pull.push(Home(pushed.home), options(pushed, bucket), repair=True)
    assert (answer["objects"], answer["bytes"]) == (1, record.size)


@pytest.mark.parametrize("prefix", ["", "/team/features"])
def test_a_remote_may_be_a_folder_that_is_not_there_yet(extracted, other, tmp_path, prefix):
    url = f"file://{tmp_path}/remote{prefix}"
    push(extracted, url)
    assert pull(other, url)["missing"] == {}
    assert keys_of(other, "") == keys_of(extracted, "")
    assert not list((tmp_path / "remote").rglob("*.part"))


# --- read-through ----------------------------------------------------------------------------------------------


def test_what_the_remote_holds_is_not_computed(pushed, bucket, tmp_path):
    newcomer = Small(pushed.root, tmp_path / "new", pushed.path)
    assert extract(newcomer, bucket, modality="audio") == {}
    assert objects(newcomer) == set()


def test_an_unreachable_remote_is_warned_of_and_the_work_goes_on_here(small, tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    assert extract(small, f"file://{tmp_path}/file/under", modality="audio")
    assert capsys.readouterr().err.count("going on without the remote") == 1


def test_push_and_pull_of_an_unreachable_remote_are_remote_errors(extracted, tmp_path):
    (tmp_path / "file").write_text("no folder")
    for call in (push, pull):
        with pytest.raises(RemoteError, match="cannot be reached"):
            call(extracted, f"file://{tmp_path}/file/under")


def test_a_damaged_object_on_the_remote_is_computed_instead(pushed, bucket, tmp_path):
    remote = Remote(bucket, pushed.home / "cache")
    catalogue = pushed.session().catalogue
    [(node, scope)] = [place for place in catalogue.wanted if place[0].name == "audio_mfcc"]
    record = catalogue.of(node).final(catalogue.of(node, scope).shards[0])
    place = remote._full(remote._object(record))
    remote._files.pipe_file(place, b"x" * record.size)
    newcomer = Small(pushed.root, tmp_path / "new", pushed.path)
    session = Session.open(Home(newcomer.home), options(newcomer, bucket, features=("sound",)))
    assert extraction.extract(session).jobs == 0
    extraction.repaired(session, lambda: views(session))
    assert newcomer.session().catalogue.store.find(node.digest, record.key)


# --- two writers -----------------------------------------------------------------------------------------------


def test_of_two_records_of_a_key_the_first_pushed_wins_for_ever(pushed, bucket, tmp_path):
    remote = Remote(bucket, pushed.home / "cache")
    [stage] = [node.digest for node, _ in pushed.session().catalogue.wanted if node.name == "audio_mfcc"]
    first = dict(remote.index(stage))
    key, record = next(iter(first.items()))
    late = replace(record, object="0" * 64, seconds=99.0)
    remote.publish(stage, [late])
    assert Remote(bucket, tmp_path).index(stage) == first


def test_two_machines_that_push_the_same_rows_end_with_one_index_of_them(extracted, bucket, tmp_path):
    second = Small(extracted.root, tmp_path / "second", extracted.path)
    second.extract(modality="audio")
    push(extracted, bucket)
    sent = push(second, bucket, modality="audio")
    assert sent["objects"] == 0
    for node, _ in second.session(modality="audio").catalogue.wanted:
        assert len(Remote(bucket, tmp_path).segments(node.digest)) == 1


# --- the lock --------------------------------------------------------------------------------------------------


def test_push_writes_a_short_lock_and_says_what_differs_before_it_is_replaced(pushed, bucket):
    path = lock_path(pushed.path)
    assert len(path.read_text().splitlines()) < 20
    before = path.read_text()
    pushed.recipe = pushed.recipe.replace("n_mfcc = 5", "n_mfcc = 6")
    pushed.extract()
    differing = push(pushed, bucket)["lock"]["differing"]
    assert [line[:12] for line in sorted(differing)] == ["+ audio_mfcc", "- audio_mfcc"] and path.read_text() == before
    push(pushed, bucket, relock=True)
    assert path.read_text() != before and push(pushed, bucket)["lock"]["differing"] == []


def test_locked_uses_what_the_lock_names_though_the_cache_holds_another(pushed, other, bucket):
    other.path.write_text(other.recipe)
    shutil.copy(lock_path(pushed.path), lock_path(other.path))
    assert pull(other, bucket, locked=True)["missing"] == {}
    assert extract(other, bucket, locked=True) == {}
    lost = max((other.home / "cache" / "objects").rglob("*.parquet"), key=lambda path: path.stat().st_size)
    lost.chmod(0o644)
    lost.unlink()
    assert extract(other, bucket, locked=True) == {} and lost.exists()


def test_locked_refuses_what_the_lock_does_not_name(pushed, bucket):
    pushed.recipe = pushed.recipe.replace("n_mfcc = 5", "n_mfcc = 6")
    with pytest.raises(InputError, match="not in the lock: audio_mfcc: 60"):
        extract(pushed, bucket, locked=True)


def test_locked_refuses_another_manifest(pushed, bucket):
    pushed.edit("Ses01F_impro01_F000", ": ", ": Well, ")
    with pytest.raises(InputError, match=r"the manifest here is \w+, .*lock.json names"):
        extract(pushed, bucket, locked=True)


def test_a_lock_is_written_without_a_remote_and_only_of_everything(extracted):
    extract(extracted, "", relock=True)
    assert len(read_lock(lock_path(extracted.path)).stages) == 6
    assert extract(extracted, "", locked=True) == {}


def test_an_index_that_was_changed_under_a_lock_is_refused(pushed, other, bucket):
    other.path.write_text(other.recipe)
    shutil.copy(lock_path(pushed.path), lock_path(other.path))
    remote = Remote(bucket, pushed.home / "cache")
    [stage] = [node.digest for node, _ in pushed.session().catalogue.wanted if node.name == "audio_mfcc"]
    [segment] = remote.segments(stage)
    place = remote._full(f"index/{stage}/{segment.name}")
    raw = remote._files.cat_file(place)
    remote._files.pipe_file(place, raw.replace(b'"seconds"', b'"SECONDS"', 1))
    with pytest.raises(RemoteError, match="is damaged"):
        pull(other, bucket, locked=True)


# --- what is not believed --------------------------------------------------------------------------------------


def test_a_manifest_that_is_not_what_its_record_says_is_refused(pushed, other, bucket):
    pull(other, bucket)
    found = pulled_manifest.noted(other.home, other.name)
    lie = replace(found.record, about={**found.record.about, "manifest": "0" * 64})
    (other.home / "pulled" / f"{other.name}.json").write_bytes(encode(lie))
    with pytest.raises(InputError, match="is not what its record says"):
        extract(other, "")


def test_a_damaged_note_of_what_was_pulled_asks_to_pull_again(pushed, other, bucket):
    pull(other, bucket)
    note = other.home / "pulled" / f"{other.name}.json"
    note.write_text(json.dumps({"digest": "0"}))
    with pytest.raises(InputError, match="pull again"):
        extract(other, "")


def test_a_remote_without_this_corpus_says_who_could_push_it(small, bucket):
    with pytest.raises(InputError, match="make push"):
        pull(small, bucket)


def test_without_a_remote_push_asks_for_one(small):
    with pytest.raises(InputError, match="AFFECTORY_REMOTE"):
        push(small, "")
