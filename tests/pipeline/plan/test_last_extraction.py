"""What is noted of the last extraction, and what a plan says differs from it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from pipeline.ask.changes import because as because_now
from pipeline.cache.home import Home
from pipeline.cli.extract import planned
from pipeline.corpus.open_corpus import Options
from pipeline.plan import last_extraction
from pipeline.plan.catalogue import Catalogue
from pipeline.plan.session import Session
from tests.pipeline.plan.test_planner import HEAVY, files, remove_fits
from tests.pipeline.run.test_cache_rules import insert_after, session5, train_row


def note(small) -> Path:
    return small.home / "history" / small.name / "last.json"


def because(small, **options):
    small.path.write_text(small.recipe)
    given = Options(dataset=str(small.path), root=str(small.root), workers=0, **options)
    return planned(Session.open(Home(small.home), given))["because"]


def sound(small):
    """The small corpus's recipe with audio_mfcc alone."""
    head, _, rest = small.recipe.partition("[features.words.text]")
    small.recipe = head + rest[rest.index("[features.sound]") : rest.index("[features.pitch]")]
    return small


# --- the note --------------------------------------------------------------------------------------------------


def test_the_key_of_every_row_follows_from_what_is_noted(extracted):
    seen = last_extraction.read(extracted.home, extracted.name)
    by_name = {entry.name: entry for entry in seen.stages.values()}
    rows = extracted.rows()
    assert len(rows) == 240
    for (place, utterance), (key, _) in rows.items():
        name, _, scope = place.partition("@")
        assert seen.key(by_name[name], scope, utterance) == key


def test_a_run_without_work_leaves_the_note_as_it_is(extracted):
    before = files(note(extracted).parent)
    assert len(before) == 3  # the note, its rows, and what the run took
    assert extracted.extract() == {} and files(note(extracted).parent) == before


def test_a_run_without_work_notes_what_no_run_has_noted_yet(extracted):
    note(extracted).unlink()
    assert extracted.extract() == {} and last_extraction.read(extracted.home, extracted.name) is not None


def test_rows_that_no_stage_refers_to_any_more_are_removed(small):
    sound(small).extract()
    [before] = note(small).parent.glob("rows-*")
    row = session5(small)[3]
    insert_after(small, row, f"{row.id[:-3]}999")
    small.extract()
    [after] = note(small).parent.glob("rows-*")
    assert before != after and len(last_extraction.read(small.home, small.name).rows(entry(small))) == 61


def entry(small):
    [found] = last_extraction.read(small.home, small.name).stages.values()
    return found


def test_transcripts_and_labels_are_not_in_the_note(extracted):
    seen = last_extraction.read(extracted.home, extracted.name)
    rows = seen.rows(next(iter(seen.stages.values())))
    assert len(rows) == 60
    assert all(row.text is None and row.text_digest and not row.labels for row in rows.values())


def test_what_a_run_was_not_asked_for_stays_as_it_was_noted(extracted):
    row = session5(extracted)[3]
    insert_after(extracted, row, f"{row.id[:-3]}999")
    assert extracted.extract(features=("sound",)) == {"audio_mfcc": 1}
    assert because(extracted) == dict.fromkeys(("audio_opensmile", "text_word2vec", "text_cnn"), ["1 new utterance"])


def test_a_damaged_note_counts_as_none_and_is_written_again(extracted):
    for damage in (b"{", b"[]", note(extracted).read_bytes().replace(b'"params"', b'"parans"'), b"\xff"):
        note(extracted).write_bytes(damage)
        assert last_extraction.read(extracted.home, extracted.name) is None
        assert extracted.extract() == {} and last_extraction.read(extracted.home, extracted.name) is not None


def test_rows_of_other_bytes_than_their_name_says_are_not_used(extracted):
    [path] = note(extracted).parent.glob("rows-*")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    seen = last_extraction.read(extracted.home, extracted.name)
    assert [dict(seen.rows(each)) for each in seen.stages.values()] == [{}] * 4


# --- because ---------------------------------------------------------------------------------------------------


def test_what_was_never_extracted_is_new(small):
    assert because(sound(small)) == {"audio_mfcc": ["new"]}


def test_what_is_cached_has_no_because(extracted):
    assert because(extracted) == {}


def test_a_parameter_is_named_with_what_it_was_and_is(extracted):
    extracted.recipe = extracted.recipe.replace("n_mfcc = 5", "n_mfcc = 7")
    assert because(extracted) == {"audio_mfcc": ["params.n_mfcc: 5 -> 7"]}


def test_a_second_stage_of_the_same_kind_is_new_and_not_the_first_one_changed(extracted):
    second = extracted.recipe.partition("[features.pitch]")[2].replace("IS09", "GeMAPSv01b")
    extracted.recipe += f"[features.more]{second}"
    [new] = [n for n, _ in extracted.session().catalogue.wanted if n.params.get("feature_set") == "GeMAPSv01b"]
    assert because(extracted) == {f"audio_opensmile {new.digest[:6]}": ["new"]}


def test_a_parameter_of_an_upstream_stage_is_the_because_of_what_stands_on_it(extracted):
    extracted.recipe = extracted.recipe.replace("size = 8", "size = 9")
    found = because(extracted)
    assert found["text_word2vec"][0] == "params.size: 8 -> 9" and "fit missing" in found["text_word2vec"]
    assert "text_word2vec.params.size: 8 -> 9" in found["text_cnn"]


def test_other_versions_of_code_and_libraries_are_named(extracted):
    found = json.loads(note(extracted).read_text())
    for stage in (each for each in found["stages"] if each["name"] == "audio_mfcc"):
        stage["about"]["version"] += 1
        stage["about"]["libraries"] = dict.fromkeys(stage["about"]["libraries"], "0.0")
        stage["digest"] = "0" * 64
    note(extracted).write_text(json.dumps(found))
    node = next(node for node, _ in extracted.session().catalogue.wanted if node.name == "audio_mfcc")
    for path in (extracted.home / "cache" / "actions" / node.digest).iterdir():
        path.unlink()
    lines = because(extracted)["audio_mfcc"]
    version, libraries = node.stage.version, node.describe()["libraries"]
    assert lines == [
        f"version: {version + 1} -> {version}",
        *(f"libraries.{name}: 0.0 -> {libraries[name]}" for name in sorted(libraries)),
    ]


def test_rows_are_counted_by_what_is_the_matter_with_them(extracted):
    one, two, three = session5(extracted)[3:6]
    insert_after(extracted, one, f"{one.id[:-3]}999")
    extracted.edit(two.id, "]: ", "]: well ")
    audio = extracted.root / three.audio[0].path
    audio.write_bytes(audio.read_bytes()[:-2] + b"\1\1")
    found = because(extracted)
    for name in ("text_word2vec", "text_cnn"):
        assert sorted(found[name]) == ["1 new utterance", "1 transcript changed"]
    assert sorted(found["audio_mfcc"]) == ["1 media changed", "1 new utterance"]


def test_another_stretch_of_the_same_file_is_a_row_that_was_cut_anew(extracted):
    opened = extracted.session(features=("sound",))
    row = session5(extracted)[2]
    old = opened.catalogue
    rows = [replace(r, audio=(replace(r.audio[0], end_s=0.5),)) if r.id == row.id else r for r in old.manifest.rows]
    manifest = replace(old.manifest, rows=tuple(rows))
    opened = replace(opened, catalogue=Catalogue(manifest, old.store, old.target, old.labels, list(old.wanted)))
    assert because_now(opened, opened.plan()) == {"audio_mfcc": ["1 re-cut"]}


def test_a_label_that_a_fit_learns_from_is_the_because_of_its_stage(extracted):
    row = train_row(extracted)
    label = row.labels["emotion"]
    extracted.edit(row.id, f"\t{label}\t", f"\t{'sad' if label != 'sad' else 'ang'}\t", kind="EmoEvaluation")
    found = because(extracted)
    assert found.keys() <= {"text_word2vec", "text_cnn"}
    assert {"fit missing", "fitted on other labels"} <= set(found["text_cnn"])


def test_a_lost_state_is_a_missing_fit(extracted):
    remove_fits(extracted, "text_cnn")
    assert because(extracted) == {"text_cnn": ["fit missing"]}


def test_a_lost_object_is_no_longer_in_the_cache(extracted):
    catalogue = extracted.session().catalogue
    [node] = [node for node, _ in catalogue.wanted if node.name == "audio_mfcc"]
    shard = catalogue.of(node, None).shards[0]
    catalogue.store.path(catalogue.of(node).final(shard)).unlink()
    assert because(extracted) == {"audio_mfcc": [f"{len(shard.rows)} not in the cache"]}


def test_rows_with_a_reason_that_may_pass_are_to_be_tried_again(extracted):
    name = session5(extracted)[0].id
    make_provisional(extracted, name)
    assert because(extracted) == {"audio_mfcc": ["1 to be tried again (out_of_memory)"]}


def make_provisional(small, name):
    """As a worker without memory left it: one row of audio_mfcc without values, for now."""
    catalogue = small.session().catalogue
    [node] = [node for node, _ in catalogue.wanted if node.name == "audio_mfcc"]
    shard = next(s for s in catalogue.of(node, None).shards if name in [row.id for row in s.rows])
    record = replace(catalogue.of(node).final(shard), reasons={name: "out_of_memory"})
    good = (key for row, key in zip(shard.rows, shard.keys, strict=True) if row.id != name)
    catalogue.store.demote(record, tuple(good))


def test_a_plan_with_its_because_writes_nothing_and_imports_nothing_heavy(extracted):
    extracted.recipe = extracted.recipe.replace("n_mfcc = 5", "n_mfcc = 7").replace("size = 8", "size = 9")
    options = extracted.session().options
    before = files(extracted.home) | files(extracted.root)
    program = (
        "import sys; from pathlib import Path; from pipeline.cache.home import Home\n"
        "from pipeline.cli.extract import planned; from pipeline.plan.session import Options, Session\n"
        f"options = Options(dataset={options.dataset!r}, root={options.root!r})\n"
        f"plan = planned(Session.open(Home(Path({str(extracted.home)!r})), options))\n"
        f"print(len(plan['because']), *(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.split()) == ("", ["3"])
    assert files(extracted.home) | files(extracted.root) == before
