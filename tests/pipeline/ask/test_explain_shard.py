"""`affectory explain`: everything that is known of a shard, wherever its file lies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from pipeline.ask import explain_shard
from pipeline.cache.home import Home
from pipeline.cache.store import Store
from pipeline.errors import InputError
from tests.pipeline.cli.test_commands import affectory  # noqa: F401 - a fixture
from tests.pipeline.plan.test_last_extraction import make_provisional
from tests.pipeline.plan.test_planner import HEAVY, files
from tests.pipeline.run.test_cache_rules import session5


def records(small, stage):
    """The records of a stage's shards."""
    catalogue = small.session().catalogue
    places = [(node, scope) for node, scope in catalogue.wanted if node.name == stage]
    every = [catalogue.of(node, scope) for node, scope in places]
    return [rows.final(shard) for rows in every for shard in rows.shards]


def ask(small, shard):
    return explain_shard.explain(Home(small.home), str(shard))


def path_of(small, record):
    return small.session().catalogue.store.path(record)


def test_it_says_which_stage_made_it_with_which_parameters_and_libraries(extracted):
    record = records(extracted, "audio_mfcc")[0]
    found = ask(extracted, path_of(extracted, record))
    node = next(node for node, _ in extracted.session().catalogue.wanted if node.name == "audio_mfcc")
    assert (found["kind"], found["stage"], found["state"]) == ("shard", "audio_mfcc", None)
    assert node.describe().items() <= found["recipe"].items()
    assert (found["object"], found["bytes"], found["rows"]) == (record.object, record.size, len(record.rows))
    assert (found["dim"], found["names"], found["dtype"]) == (5, 5, "float32")
    assert found["frames"] > found["rows"] and found["failed"] == {}


def test_it_says_where_when_and_how_long(extracted):
    record = records(extracted, "audio_opensmile")[0]
    [action] = ask(extracted, path_of(extracted, record))["actions"]
    assert action["final"] and action["key"] == record.key and action["seconds"] == round(record.seconds, 3)
    assert {name: action[name] for name in ("host", "backend", "at")} == {
        name: record.about[name] for name in ("host", "backend", "at")
    }


def test_a_shard_that_stands_on_a_fit_names_its_state_and_what_it_stands_on(extracted):
    record = records(extracted, "text_cnn")[0]
    found = ask(extracted, record.key)
    [upstream] = found["recipe"]["inputs"]
    assert upstream["stage"] == "text_word2vec"
    state = ask(extracted, found["state"])
    assert (state["kind"], state["stage"], state["scope"]) == ("state", "text_cnn", "official")
    assert state["train_rows"] > 0 and state["recipe"]["digest"] == found["recipe"]["digest"]


def test_file_object_and_key_or_the_first_digits_of_them_mean_the_same(extracted):
    record = records(extracted, "audio_mfcc")[-1]
    path = path_of(extracted, record)
    same = [ask(extracted, name) for name in (path, record.object, record.object[:12], record.key, record.key[:12])]
    assert all(found == same[0] for found in same)


def test_the_digits_that_plan_shows_of_a_stage_list_its_shards(extracted):
    first, second = records(extracted, "audio_opensmile")
    with pytest.raises(InputError, match="may mean 2 objects") as caught:
        ask(extracted, first.stage[:6])
    assert all(record.object[:16] in str(caught.value) for record in (first, second))


def test_rows_that_failed_are_listed_with_their_reasons(extracted):
    row = session5(extracted)[0]
    (extracted.root / row.audio[0].path).write_bytes(b"")
    extracted.extract(modality="audio")
    found = [ask(extracted, record.key) for record in records(extracted, "audio_mfcc")]
    assert [each["failed"] for each in found if each["failed"]] == [{row.id: "not_media"}]


def test_a_provisional_shard_is_said_to_be_one(extracted):
    row = session5(extracted)[0]
    before = {record.key for record in records(extracted, "audio_mfcc")}
    make_provisional(extracted, row.id)
    [gone] = before - {record.key for record in records(extracted, "audio_mfcc") if record}
    assert [action["final"] for action in ask(extracted, gone)["actions"]] == [False]


def test_a_copy_elsewhere_explains_itself_without_the_cache_that_made_it(extracted, tmp_path):
    record = records(extracted, "audio_opensmile")[0]
    copy = shutil.copy(path_of(extracted, record), tmp_path / "mine.parquet")
    inside = ask(extracted, copy)
    extracted.home = tmp_path / "nobody"
    outside = ask(extracted, copy)
    assert inside["actions"] and outside["actions"] == []
    assert {**inside, "actions": []} == outside
    assert "No action record" in explain_shard.as_text(outside) and "IS09" in explain_shard.as_text(outside)
    assert not extracted.home.exists()


def test_digits_that_two_objects_share_are_refused_with_a_list(extracted):
    one, two = records(extracted, "audio_mfcc")[0], records(extracted, "audio_opensmile")[0]
    Store(extracted.home / "cache").adopt(replace(two, key=one.key[:20] + "0" * 44))
    with pytest.raises(InputError, match="may mean 2 objects") as error:
        ask(extracted, one.key[:20])
    assert one.object[:16] in str(error.value) and two.object[:16] in str(error.value)


@pytest.mark.parametrize("name", ["abcde", "no/such/file.parquet", "ABCDEF", "zzzzzz", "f" * 65])
def test_what_is_no_file_and_no_digest_is_refused(extracted, name):
    with pytest.raises(InputError, match="no file"):
        ask(extracted, name)


def test_digits_that_nothing_begins_with_are_refused(extracted):
    with pytest.raises(InputError, match="nothing in"):
        ask(extracted, "0" * 63)


def test_a_file_that_is_no_shard_is_refused(extracted, tmp_path):
    record = records(extracted, "audio_mfcc")[0]
    table = pq.read_table(path_of(extracted, record))
    text, bare, odd = (tmp_path / name for name in ("notes.parquet", "bare.parquet", "odd.parquet"))
    text.write_text("not parquet")
    pq.write_table(table.replace_schema_metadata({}), bare)
    for recipe in ("[]", '{"recipe": {"stage": "x"}}', "{", '{"recipe": 1, "names": []}'):
        pq.write_table(table.replace_schema_metadata({"affectory": recipe}), odd)
        with pytest.raises(InputError, match="no shard"):
            ask(extracted, odd)
    for path in (text, bare):
        with pytest.raises(InputError):
            ask(extracted, path)


def test_a_corrupt_file_of_the_cache_is_said_to_be_corrupt(extracted):
    path = path_of(extracted, records(extracted, "audio_mfcc")[0])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="is corrupt"):
        ask(extracted, path)


def test_an_object_that_is_gone_is_told_from_its_record_alone(extracted):
    record = records(extracted, "audio_mfcc")[0]
    path_of(extracted, record).unlink()
    found = ask(extracted, record.object)
    assert (found["path"], found["stage"], found["bytes"]) == (None, "audio_mfcc", record.size)
    assert "not in this cache" in explain_shard.as_text(found)


def test_the_command_prints_lines_or_one_json_object(affectory, extracted):  # noqa: F811
    record = records(extracted, "audio_mfcc")[0]
    code, out, err = affectory("explain", record.object[:10], "--json")
    assert code == 0 and len(out.splitlines()) == 1 and json.loads(out)["stage"] == "audio_mfcc"
    code, out, err = affectory("explain", record.object[:10])
    assert (code, out) == (0, "") and "params.n_mfcc = 5" in err and record.about["host"] in err


def test_it_writes_nothing_and_imports_nothing_heavy(extracted):
    record = records(extracted, "text_cnn")[0]
    before = files(extracted.home)
    program = (
        "import sys; from pathlib import Path; from pipeline.ask import explain_shard as explain\n"
        "from pipeline.cache.home import Home\n"
        f"found = explain.explain(Home(Path({str(extracted.home)!r})), {record.key!r})\n"
        f"print(found['stage'], *(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.split()) == ("", ["text_cnn"])
    assert files(extracted.home) == before
