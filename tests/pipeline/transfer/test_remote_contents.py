"""What `list` says of a remote without a recipe, and how little it asks for it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from pipeline.cache.home import Home
from pipeline.cache.keys import digest
from pipeline.cache.record import FITS, Record
from pipeline.cache.remote import Remote
from pipeline.cache.remote_inventory import Counts, Inventory
from pipeline.cli.tables import remote_tables
from pipeline.corpus.open_corpus import Options
from pipeline.corpus.release_file import read_release
from pipeline.errors import InputError
from pipeline.transfer.remote_contents import remote_contents
from tests.pipeline.cli.test_commands import affectory  # noqa: F401 - a fixture
from tests.pipeline.transfer.test_releases import shared
from tests.teams import push


@pytest.fixture
def empty(tmp_path):
    return Home(tmp_path / "empty")


@pytest.fixture
def requests(monkeypatch):
    """The S3 requests from now on, by operation."""
    from aiobotocore.client import AioBaseClient

    made, call = Counter(), AioBaseClient._make_api_call

    def counting(self, operation, *given):
        made[operation] += 1
        return call(self, operation, *given)

    monkeypatch.setattr(AioBaseClient, "_make_api_call", counting)
    return made


def contents(home, url):
    return remote_contents(home, Options(dataset="", remote=url))


def planted(remote, stage, count, rows=64):
    """Publishes an index of so many shards of a stage, whose objects are not there."""
    records = [
        Record(
            stage=stage,
            key=digest("key", stage, i),
            object=digest("object", stage, i),
            suffix=".parquet",
            size=1000,
            rows=tuple(digest("row", stage, i, j) for j in range(rows)),
            about={"stage": "audio_mfcc", "rows": rows, "computed": rows, "host": "here", "backend": "cpu"},
        )
        for i in range(count)
    ]
    remote.publish(stage, records)
    return records


def counted(home, url):
    """The same as `contents` says of stages, from every object's record."""
    remote = Remote(url, home.cache)
    for stage in remote.stages():
        records = list(remote.index(stage).values())
        rows = {row for record in records for row in record.rows}
        yield stage, (len(rows), len({r.object for r in records}), sum({r.object: r.size for r in records}.values()))


def test_a_remote_says_what_it_has_to_a_home_without_a_recipe(extracted, empty, bucket):
    agreed = read_release(shared(extracted, bucket))
    push(extracted, bucket)
    answer = contents(empty, bucket)
    [dataset], [release] = answer["datasets"], answer["releases"]
    assert (dataset["dataset"], dataset["rows"], dataset["manifests"]) == ("small", 60, 1)
    assert (release["release"], release["dataset"], release["rows"], release["stages"]) == ("team-1.0", "small", 60, 4)
    assert release["bytes"] == agreed.manifest.bytes + sum(stage.bytes for stage in agreed.stages.values())
    expected = dict(counted(empty, bucket))
    found = {s["digest"] + (FITS if s["fits"] else ""): (s["rows"], s["objects"], s["bytes"]) for s in answer["stages"]}
    assert found == {stage: counts for stage, counts in expected.items() if stage in found} and len(found) == 6
    assert {s["stage"] for s in answer["stages"]} == {"text_word2vec", "text_cnn", "audio_mfcc", "audio_opensmile"}


def test_listing_reads_no_index_and_lists_no_object(extracted, empty, bucket, requests):
    shared(extracted, bucket)
    stages = Remote(bucket, empty.cache).stages()
    requests.clear()
    contents(empty, bucket)
    assert requests["ListObjectsV2"] <= 4 and requests["GetObject"] == len(stages) + 1
    assert not (empty.cache / "index").exists()


def test_more_shards_ask_for_nothing_more(empty, bucket, requests, tmp_path):
    asked = []
    for count in (3, 300):
        planted(Inventory(bucket, tmp_path / "team"), "a" * 64, count, rows=2)
        requests.clear()
        [stage] = contents(empty, bucket)["stages"]
        asked.append(dict(requests))
        assert (stage["rows"], stage["objects"], stage["bytes"]) == (2 * count, count, 1000 * count)
    assert asked[0] == asked[1]


def test_the_counts_of_a_stage_are_of_all_its_indexes_and_of_records_that_answer(empty, tmp_path):
    url = f"file://{tmp_path}/remote"
    records = planted(Inventory(url, tmp_path / "a"), "a" * 64, 3, rows=2)
    worse, new = replace(records[0], object="0" * 64, reasons={"u": "too_short"}), replace(records[1], key="1" * 64)
    Inventory(url, tmp_path / "b").publish("a" * 64, [worse, new])
    [stage] = contents(empty, url)["stages"]
    assert (stage["rows"], stage["objects"]) == (6, 3)
    assert [(s, (c.rows, c.objects, c.bytes)) for s, c in Inventory(url, tmp_path / "c").contents().items()] == list(
        counted(empty, url)
    )


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"rows": -1}', b"x" * 5000, None])
def test_a_stage_whose_counts_are_missing_or_damaged_is_counted_by_its_indexes(empty, tmp_path, raw):
    url = f"file://{tmp_path}/remote"
    planted(Inventory(url, tmp_path / "a"), "a" * 64, 3)
    [place] = (tmp_path / "remote" / "counts").rglob("*.json")
    place.unlink()
    if raw is not None:
        place.write_bytes(raw)
    [stage] = contents(empty, url)["stages"]
    assert (stage["stage"], stage["rows"], stage["objects"]) == ("audio_mfcc", 192, 3)


def test_counts_go_with_their_index(tmp_path):
    remote = Inventory(f"file://{tmp_path}/remote", tmp_path / "a")
    planted(remote, "a" * 64, 1)
    [index] = remote.files("index")
    remote.remove(index)
    assert remote.files("counts") == [] and remote.contents() == {}


def test_a_release_that_cannot_be_read_is_named_and_the_others_are_listed(extracted, empty, tmp_path):
    url = f"file://{tmp_path}/remote"
    shared(extracted, url)
    (tmp_path / "remote" / "releases" / "bad-1.json").write_text("{}")
    (tmp_path / "remote" / "releases" / "\x1b[2J-1.json").write_text("{}")
    answer = contents(empty, url)
    assert [release["release"] for release in answer["releases"]] == ["team-1.0"]
    assert len(answer["unreadable"]) == 2 and any("bad-1" in line for line in answer["unreadable"])


def test_an_empty_remote_has_nothing_and_no_remote_is_an_input_error(empty, tmp_path, monkeypatch):
    answer = contents(empty, f"file://{tmp_path}/remote")
    assert (answer["datasets"], answer["releases"], answer["stages"]) == ([], [], [])
    assert list(remote_tables(answer)) == []
    monkeypatch.delenv("AFFECTORY_REMOTE", raising=False)
    with pytest.raises(InputError, match="which remote"):
        contents(empty, "")


def test_the_command_shows_tables_or_one_json_object(affectory, extracted, tmp_path):  # noqa: F811
    url = f"file://{tmp_path}/remote"
    shared(extracted, url)
    code, out, err = affectory("list", "--remote", url)
    assert (code, out) == (0, "") and all(word in err for word in ("Releases", "team-1.0", "Datasets", "audio_mfcc"))
    code, out, _ = affectory("list", "--remote", url, "--json")
    assert code == 0 and json.loads(out)["remote"] == url


def test_counts_hold_names_and_numbers_only_within_bounds():
    for wrong in ({"rows": -1}, {"bytes": 1 << 63}, {"stage": "x" * 201}, {"later": 1}, {"rows": "1"}):
        with pytest.raises(ValueError):
            Counts.model_validate_json(json.dumps({"rows": 1, "objects": 1, "bytes": 1} | wrong))


@pytest.mark.slow
def test_ten_thousand_shards_are_listed_by_as_few_requests_as_ten(empty, bucket, requests, tmp_path):
    team, stages = Inventory(bucket, tmp_path / "team"), ["a" * 64, "b" * 64, "c" * 64, "d" * 64]
    asked = []
    for count in (10, 2500):
        for stage in stages:
            planted(team, stage, count)
        requests.clear()
        found = contents(empty, bucket)["stages"]
        asked.append(dict(requests))
        assert sum(stage["objects"] for stage in found) == count * len(stages)
        assert sum(stage["rows"] for stage in found) == 64 * count * len(stages)
    assert asked[0] == asked[1]
