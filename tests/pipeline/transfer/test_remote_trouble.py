"""A remote that is out of reach, damaged, empty, or written to by two machines at once."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipeline.cache.home import Home
from pipeline.cache.record import encode
from pipeline.cache.remote import Remote
from pipeline.corpus import pulled_manifest
from pipeline.errors import InputError, RemoteError
from pipeline.plan.session import Session
from pipeline.run import extraction
from tests.small import Small, views
from tests.teams import extract, objects, options, pull, push


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


def test_of_two_records_of_a_key_the_first_pushed_wins_for_ever(pushed, bucket, tmp_path):
    remote = Remote(bucket, pushed.home / "cache")
    [stage] = [node.digest for node, _ in pushed.session().catalogue.wanted if node.name == "audio_mfcc"]
    first = dict(remote.index(stage))
    key, record = next(iter(first.items()))
    late = replace(record, object="0" * 64, seconds=99.0)
    remote.publish(stage, [late])
    assert Remote(bucket, tmp_path).index(stage) == first


@pytest.mark.slow
def test_two_machines_that_push_the_same_rows_end_with_one_index_of_them(extracted, bucket, tmp_path):
    second = Small(extracted.root, tmp_path / "second", extracted.path)
    second.extract(modality="audio")
    push(extracted, bucket)
    sent = push(second, bucket, modality="audio")
    assert sent["objects"] == 0
    for node, _ in second.session(modality="audio").catalogue.wanted:
        assert len(Remote(bucket, tmp_path).segments(node.digest)) == 1


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
