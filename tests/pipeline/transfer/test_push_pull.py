"""Two teams and a remote: what is pushed, pulled and computed, counted in rows, objects and bytes."""

from __future__ import annotations

import pytest

from pipeline.cache.home import Home
from pipeline.cache.remote import Remote
from pipeline.cache.remote_inventory import Inventory
from pipeline.cli.train import trained
from pipeline.corpus.lock_file import lock_path
from pipeline.errors import InputError, RemoteError
from pipeline.media.decode import decoded
from pipeline.plan.session import Session
from pipeline.reason import Reason
from pipeline.transfer import push_pull
from tests.teams import extract, keys_of, objects, options, pull, push, there


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


@pytest.mark.parametrize("do", [push, pull])
def test_nothing_is_pushed_or_pulled_of_a_part_of_a_corpus(extracted, tmp_path, do):
    push(extracted, f"file://{tmp_path}/remote")
    before = there(f"file://{tmp_path}/remote", extracted.home / "cache")
    with pytest.raises(InputError, match=r"of a whole corpus, and limit = 1 asks for a part"):
        do(extracted, f"file://{tmp_path}/remote", changes=("dataset.limit=1",))
    assert there(f"file://{tmp_path}/remote", extracted.home / "cache") == before


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
