"""`affectory status`: rows, fits and bytes by stage."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

from pipeline.ask import status
from pipeline.cache.home import Home
from pipeline.cache.record import REFERENCES
from pipeline.cache.store import Store
from pipeline.corpus.open_corpus import Options
from pipeline.plan.session import Session
from pipeline.transfer import push_pull
from tests.pipeline.cli.test_commands import affectory, options  # noqa: F401 - a fixture
from tests.pipeline.plan.test_last_extraction import make_provisional
from tests.pipeline.plan.test_planner import HEAVY, files, remove_fits
from tests.pipeline.run.test_cache_rules import insert_after, session5

EVERY = {"text_word2vec", "text_cnn", "audio_mfcc", "audio_opensmile"}
NONE = dict.fromkeys(
    ("cached", "copy", "todo", "waiting", "provisional", "failed", "remarked", "fits", "fits_missing"), 0
)


def opened(small, **more):
    small.path.write_text(small.recipe)
    given = Options(dataset=str(small.path), root=str(small.root), workers=0, **more)
    return Session.open(Home(small.home), given)


def stages(small, **more):
    """The counts of each stage, bytes left out."""
    found = status.status(opened(small, **more))["stages"]
    return {name: {k: v for k, v in counts.items() if "bytes" not in k} for name, counts in found.items()}


def test_before_an_extraction_rows_are_to_do_or_wait_for_a_fit(small):
    found = status.status(opened(small))
    assert found["last"] is None and found["remote"] is None and found["stages"].keys() == EVERY
    counts = stages(small)
    assert counts["audio_mfcc"] == NONE | {"rows": 60, "todo": 60}
    assert counts["text_cnn"] == NONE | {"rows": 60, "waiting": 60, "fits_missing": 1}
    assert {each["bytes"] + each["remote_bytes"] for each in found["stages"].values()} == {0}


def test_after_it_all_are_cached_and_the_bytes_are_those_of_shards_and_states(extracted):
    found = status.status(opened(extracted))
    counts = stages(extracted)
    assert counts["audio_mfcc"] == NONE | {"rows": 60, "cached": 60}
    assert counts["text_cnn"] == NONE | {"rows": 60, "cached": 60, "fits": 1}
    records = [record for _, record in Store(extracted.home / "cache").records()]
    sizes = {r.object: r.size for r in records if not r.stage.endswith(REFERENCES)}.values()
    assert sum(each["bytes"] for each in found["stages"].values()) == sum(sizes) > 0
    assert found["last"].startswith("20")


def test_rows_of_a_shard_that_moved_are_to_be_copied_and_the_new_one_is_to_do(extracted):
    beside = session5(extracted)[4]
    insert_after(extracted, beside, f"{beside.id[:-3]}999")
    found = stages(extracted, modality="audio")["audio_mfcc"]
    assert found["todo"] == 1 and found["copy"] > 0 and found["copy"] + found["cached"] == 60 == found["rows"] - 1


def test_a_row_to_be_tried_again_is_provisional_and_one_that_cannot_be_had_is_failed(small):
    one, two = session5(small)[:2]
    (small.root / one.audio[0].path).write_bytes(b"")
    small.extract(features=("sound",))
    assert stages(small)["audio_mfcc"] == NONE | {"rows": 60, "cached": 60, "failed": 1}
    make_provisional(small, two.id)
    found = stages(small)["audio_mfcc"]
    assert (found["provisional"], found["todo"], found["cached"] + found["copy"]) == (1, 0, 59)


def test_a_missing_fit_is_counted_and_the_rows_that_depend_on_it_wait(extracted):
    remove_fits(extracted, "text_word2vec")
    found = stages(extracted)
    assert found["text_word2vec"] == NONE | {"rows": 60, "waiting": 60, "fits_missing": 1}
    assert found["text_cnn"]["waiting"] == 60 and found["audio_mfcc"]["cached"] == 60


def test_stages_of_one_name_are_told_apart_by_their_digests(extracted):
    second = extracted.recipe.partition("[features.pitch]")[2].replace("IS09", "GeMAPSv01b")
    extracted.recipe += f"[features.more]{second}"
    found = {name: counts for name, counts in stages(extracted).items() if name.startswith("audio_opensmile ")}
    assert sorted(counts["todo"] for counts in found.values()) == [0, 60]


def test_a_row_counts_once_for_each_fold_it_is_fitted_on(extracted):
    found = stages(extracted, protocol="cv")
    assert (found["text_cnn"]["rows"], found["text_cnn"]["fits_missing"]) == (300, 5)
    assert found["audio_mfcc"] == NONE | {"rows": 60, "cached": 60}


def test_what_the_remote_alone_holds_is_told_apart(extracted, bucket):
    session = opened(extracted, remote=bucket)
    push_pull.push(session.home, session.options, text=True, relock=False)
    before = status.status(opened(extracted, remote=bucket))
    shutil.rmtree(extracted.home / "cache")
    after = status.status(opened(extracted, remote=bucket))
    assert before["remote"] == after["remote"] == bucket
    for name in EVERY:
        one, other = before["stages"][name], after["stages"][name]
        assert (one["remote_bytes"], other["bytes"], other["remote_bytes"]) == (0, 0, one["bytes"])
        assert one["cached"] == other["cached"] == 60


def test_the_command_prints_a_table_or_the_same_numbers_as_json(affectory, extracted, monkeypatch):  # noqa: F811
    monkeypatch.setattr("pipeline.console.console.width", 200, raising=False)
    code, out, err = affectory("status", *options(extracted, "--json"))
    assert code == 0 and len(out.splitlines()) == 1
    found = json.loads(out)["stages"]["text_cnn"]
    code, out, err = affectory("status", *options(extracted))
    assert (code, out) == (0, "")
    [line] = [line for line in err.splitlines() if "text_cnn" in line]
    shown = line.split()
    assert shown[:3] == ["text_cnn", str(found["rows"]), str(found["cached"])]
    assert shown[-2:] == ["1/1", f"{found['bytes'] / 1e6:.1f}"]


def test_it_writes_nothing_and_imports_nothing_heavy(extracted):
    asked = extracted.session().options
    before = files(extracted.home) | files(extracted.root)
    program = (
        "import sys; from pathlib import Path; from pipeline.ask import status\n"
        "from pipeline.cache.home import Home\n"
        "from pipeline.plan.session import Options, Session\n"
        f"options = Options(dataset={asked.dataset!r}, root={asked.root!r})\n"
        f"found = status.status(Session.open(Home(Path({str(extracted.home)!r})), options))\n"
        f"print(len(found['stages']), *(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.split()) == ("", ["4"])
    assert files(extracted.home) | files(extracted.root) == before
