"""Records: their bytes never change, and a reason that only another version knows is no error anywhere."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest

from pipeline.cache import shards
from pipeline.cache.record import DamagedError, Record, decode, decode_index, encode, encode_index
from pipeline.cache.store import Store
from pipeline.reason import Reason
from pipeline.remark import Kind, Remark
from pipeline.run.exchange import adopt
from tests.pipeline.cache.test_verify import KEY, STAGE
from tests.pipeline.cli.test_commands import affectory, options  # noqa: F401 - a fixture
from tests.pipeline.run.test_cache_rules import insert_after
from tests.small import stored, views

ACTION = f"""{{"digest": "f55ad2ce5fb0b0ab6efd95623dc0d97407d37a6ecbac13689af75f6162da7cc9",
 "about": {{
  "stage": "audio_mfcc"
 }},
 "key": "{"a" * 64}",
 "object": "{"c" * 64}",
 "reasons": {{
  "u1": "too_short"
 }},
 "rows": [
  "{"d" * 64}"
 ],
 "seconds": 1.5,
 "signature": "",
 "size": 6,
 "stage": "{"5" * 64}",
 "suffix": ".parquet"
}}""".encode()
RECORD = Record(
    stage=STAGE,
    key=KEY,
    object="c" * 64,
    suffix=".parquet",
    size=6,
    rows=("d" * 64,),
    seconds=1.5,
    reasons={"u1": "too_short"},
    about={"stage": "audio_mfcc"},
)


def test_an_action_is_these_bytes_for_ever_so_that_a_cache_of_an_earlier_version_is_used():
    assert encode(RECORD) == ACTION and decode(ACTION) == RECORD


def test_an_index_is_these_bytes_for_ever_since_locks_hold_its_digest():
    line = json.dumps(json.loads(b"{" + ACTION[ACTION.index(b",") + 1 :]), sort_keys=True)
    assert encode_index([RECORD]) == f"[\n{line}\n]\n".encode()
    assert decode_index(encode_index([RECORD]), STAGE) == [RECORD]


# --- remarks ---------------------------------------------------------------------------------------------------


def test_a_record_keeps_remarks_as_they_were_written_and_gives_those_of_a_row():
    remarks = {"text_cut": {"u1": "12/140", "u2": "1/129"}, "eaten_by_the_dog": {"u1": "1/2 all of it"}}
    kept = decode(encode(replace(RECORD, remarks=remarks)))
    assert kept.remarks == remarks and decode_index(encode_index([kept]), STAGE) == [kept]
    assert {*kept.remarks_on("u1")} == {Remark(Kind.TEXT_CUT, 12, 140), Remark(Kind.UNKNOWN, 1, 2, "all of it")}
    assert kept.remarks_on("u3") == ()


@pytest.mark.parametrize(
    "remarks",
    [
        ["text_cut"],
        {"text_cut": "u1"},
        {"text_cut": {"u1": 12}},
        {"text_cut": {"u1": ["12/140"]}},
        {"text_cut": {"u1": "12"}},
        {"text_cut": {"u1": "nan/140"}},
        {"text_cut": {"u1": "12/140 " + "x" * 1000}},
        {"text_cut": {"u1": "12/140 two\nlines"}},
    ],
)
def test_an_index_whose_remarks_have_another_form_is_refused(remarks):
    entry = json.loads(encode_index([RECORD]))[0] | {"remarks": remarks}
    with pytest.raises(DamagedError):
        decode_index(json.dumps([entry]).encode(), STAGE)


# --- reasons of another version --------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_does_not_have_is_refused_and_its_name_in_a_text_is_not(constant):
    named = replace(RECORD, about={"stage": constant})
    assert decode_index(encode_index([named]), STAGE) == [named]
    raw = encode_index([named]).replace(f'"{constant}"'.encode(), constant.encode())
    with pytest.raises(DamagedError, match="is no number of JSON"):
        decode_index(raw, STAGE)


def test_a_reason_that_this_version_does_not_know_is_unknown_failed_and_permanent():
    assert Reason("eaten_by_the_dog") is Reason.UNKNOWN
    assert Reason.UNKNOWN.failed and not Reason.UNKNOWN.transient
    with pytest.raises(ValueError, match="None is not a valid"):
        Reason(None)


def test_a_record_keeps_the_reason_of_another_version_as_it_was_written():
    foreign = replace(RECORD, reasons={"u1": "eaten_by_the_dog"})
    assert decode(encode(foreign)).reasons == {"u1": "eaten_by_the_dog"}


def test_a_record_of_a_worker_with_an_unknown_reason_is_adopted_as_final(tmp_path):
    store = Store(tmp_path)
    saved = store.save(STAGE, KEY, lambda path: path.write_bytes(b"x"), suffix=".parquet", reasons={"u": "late"})
    adopt(store, [replace(saved, key="b" * 64)])
    assert store.listing(STAGE) == {KEY: True, "b" * 64: True}


@pytest.fixture
def foreign(extracted):
    """An extraction in which one row of audio_mfcc failed for a reason that another version gave it; the utterance."""
    catalogue = extracted.session().catalogue
    [rows] = [rows for rows in catalogue if rows.node.name == "audio_mfcc"]
    shard, store = rows.shards[0], catalogue.store
    table, record = stored(catalogue, rows.node, shard), rows.record(shard)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    columns["frames"][0] = 0
    columns["reason"][0] = "eaten_by_the_dog"
    for name in ("values", "time_s", "valid"):
        columns[name][0] = None
    changed = pa.table(columns, schema=table.schema)
    store.action(record.stage, record.key).unlink()
    utterance = columns["utterance"][0]
    store.save(
        record.stage,
        record.key,
        lambda path: shards.write(changed, path),
        suffix=".parquet",
        rows=record.rows,
        reasons={utterance: "eaten_by_the_dog"},
        about=record.about,
    )
    return utterance


def test_an_extraction_leaves_a_row_with_an_unknown_reason_alone_and_says_why(extracted, foreign):
    assert extracted.extract() == {}
    assert extracted.failed()["audio"] == {foreign: "eaten_by_the_dog"}
    assert views(extracted.session(features=("sound",)))


def test_a_row_with_an_unknown_reason_is_copied_to_another_shard_as_unknown(extracted, foreign):
    beside = next(row for row in extracted.session().corpus.manifest.rows if row.id == foreign)
    insert_after(extracted, beside, f"{foreign[:-3]}999")
    assert extracted.extract(modality="audio")["audio_mfcc"] == 1
    assert extracted.rows()["audio_mfcc", foreign][1].reason is Reason.UNKNOWN


@pytest.mark.parametrize("command", ["status", "report", "extract", "plan"])
def test_a_row_with_an_unknown_reason_ends_no_command(affectory, extracted, foreign, monkeypatch, command):  # noqa: F811
    monkeypatch.setenv("AFFECTORY_HOME", str(extracted.home))
    code, out, err = affectory(command, *options(extracted, "--json"), *(["--workers", "0"] * (command == "extract")))
    assert code in (0, 3) and "Traceback" not in err and json.loads(out)
