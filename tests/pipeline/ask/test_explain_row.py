"""`affectory why`: the parts of a row's key, where the row stands, and what differs from the last extraction."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pipeline.ask import explain_row
from pipeline.cache.home import Home
from pipeline.corpus.open_corpus import Options
from pipeline.errors import InputError
from pipeline.plan.session import Session
from tests.pipeline.cli.test_commands import affectory, options  # noqa: F401 - a fixture
from tests.pipeline.plan.test_last_extraction import make_provisional, note
from tests.pipeline.plan.test_planner import HEAVY, files, remove_fits
from tests.pipeline.run.test_cache_rules import insert_after, session5, train_row


def ask(small, utterance, stage, fold="", **more):
    small.path.write_text(small.recipe)
    given = Options(dataset=str(small.path), root=str(small.root), workers=0, **more)
    return explain_row.why(Session.open(Home(small.home), given), utterance, stage, fold)


def row(small, utterance, stage, **more):
    [found] = ask(small, utterance, stage, **more)["rows"]
    return found


def part(found, name):
    [each] = [each for each in found["parts"] if each["part"] == name]
    return {key: value for key, value in each.items() if key != "part"}


@pytest.fixture
def utterance(extracted):
    return session5(extracted)[3].id


def test_a_cached_row_names_its_shard_and_who_made_it_when_and_where(extracted, utterance):
    found = row(extracted, utterance, "audio_mfcc")
    key, _ = extracted.rows()["audio_mfcc", utterance]
    assert (found["key"], found["was"], found["status"], found["differs"]) == (key, key, "cached", [])
    assert found["host"] and found["at"].startswith("20") and found["reason"] is None
    assert all(each["same"] is True for each in found["parts"])


def test_the_parts_are_those_of_the_stage_its_fit_its_input_and_the_rows_it_stands_on(extracted, utterance):
    found = row(extracted, utterance, "text_cnn")
    names = {each["part"] for each in found["parts"]}
    assert {"version", "params.epochs", "fit.state", "fit.train", "fit.labels", "text", "code.keys"} <= names
    assert {"row of text_word2vec", "text_word2vec.params.size", "text_word2vec.fit.state"} <= names
    upstream, _ = extracted.rows()["text_word2vec@official", utterance]
    assert part(found, "row of text_word2vec") == {"is": upstream, "same": True}
    assert {"audio.digest", "audio.start_s", "audio.end_s", "audio.channel"} <= {
        each["part"] for each in row(extracted, utterance, "audio_mfcc")["parts"]
    }


def test_a_changed_parameter_is_told_with_what_it_was(extracted, utterance):
    before, _ = extracted.rows()["audio_mfcc", utterance]
    extracted.recipe = extracted.recipe.replace("n_mfcc = 5", "n_mfcc = 20")
    found = row(extracted, utterance, "audio_mfcc")
    assert found["differs"] == ["params.n_mfcc: 5 -> 20"] and found["status"] == "to do"
    assert part(found, "params.n_mfcc") == {"is": 20, "was": 5, "same": False}
    assert found["key"] != found["was"] == before


def test_a_changed_transcript_is_told_once_however_many_stages_saw_it(extracted, utterance):
    extracted.edit(utterance, "]: ", "]: well ")
    assert row(extracted, utterance, "text_cnn")["differs"] == ["text changed"]
    assert row(extracted, utterance, "audio_mfcc")["differs"] == []


def test_another_media_file_is_told(extracted, utterance):
    one, other = session5(extracted)[3:5]
    (extracted.root / one.audio[0].path).write_bytes((extracted.root / other.audio[0].path).read_bytes())
    assert row(extracted, one.id, "audio_mfcc")["differs"] == ["audio media file changed"]


def test_a_label_that_a_fit_learns_from_is_named_and_the_row_waits_for_the_fit(extracted):
    learned = train_row(extracted)
    label = learned.labels["emotion"]
    extracted.edit(learned.id, f"\t{label}\t", f"\t{'sad' if label != 'sad' else 'ang'}\t", kind="EmoEvaluation")
    found = row(extracted, session5(extracted)[3].id, "text_cnn")
    assert (found["key"], found["status"]) == (None, "waiting")
    assert "fit missing" in found["differs"]
    assert any(line.startswith("fitted on other labels: ") for line in found["differs"])
    assert not any("rows" in line for line in found["differs"])


def test_other_rows_to_learn_from_are_told(extracted):
    learned = train_row(extracted)
    insert_after(extracted, learned, f"{learned.id[:-3]}999")
    found = row(extracted, session5(extracted)[3].id, "text_cnn")
    assert any(line.startswith("fitted on other rows: ") for line in found["differs"])


def test_a_new_utterance_is_told_as_such(extracted):
    beside = session5(extracted)[3]
    name = f"{beside.id[:-3]}999"
    insert_after(extracted, beside, name)
    found = row(extracted, name, "audio_mfcc")
    assert (found["differs"], found["was"], found["status"]) == (["new utterance"], None, "to do")


def test_a_stage_nobody_extracted_is_new_and_without_a_note_nothing_is_known(extracted, utterance):
    extracted.recipe += """[features.more]
    audio = { stage = "audio_mfcc", n_mfcc = 9, align = { mode = "pad", length = 4 } }
    """
    two = ask(extracted, utterance, "audio_mfcc")["rows"]
    assert sorted(str(each["differs"]) for each in two) == ["['new stage']", "[]"]
    note(extracted).unlink()
    found = row(extracted, utterance, "audio_opensmile")
    assert found["differs"] == ["no extraction is noted"] and {each["same"] for each in found["parts"]} == {None}


def test_after_a_run_without_work_nothing_has_changed_since_then(extracted, utterance):
    before = extracted.recipe
    extracted.recipe = before.replace("n_mfcc = 5", "n_mfcc = 7")
    assert extracted.extract(modality="audio")
    extracted.recipe = before
    assert row(extracted, utterance, "audio_mfcc")["differs"] == ["params.n_mfcc: 7 -> 5"]
    assert extracted.extract() == {} and row(extracted, utterance, "audio_mfcc")["differs"] == []


def test_a_failed_row_gives_its_reason(extracted, utterance):
    (extracted.root / session5(extracted)[3].audio[0].path).write_bytes(b"")
    extracted.extract(modality="audio")
    found = row(extracted, utterance, "audio_mfcc")
    assert (found["status"], found["reason"]) == ("cached", "not_media")
    make_provisional(extracted, utterance)
    found = row(extracted, utterance, "audio_mfcc")
    assert (found["status"], found["reason"]) == ("provisional", "out_of_memory")


def test_a_row_that_stands_in_another_shard_is_cached_there(extracted, utterance):
    beside = session5(extracted)[4]
    insert_after(extracted, beside, f"{beside.id[:-3]}999")
    assert row(extracted, utterance, "audio_mfcc")["status"] == "cached"


def test_each_fold_has_a_row_of_its_own_and_one_can_be_chosen(extracted, utterance):
    found = ask(extracted, utterance, "text_word2vec", protocol="cv")["rows"]
    assert [each["fold"] for each in found] == [f"test-Session{n}" for n in range(1, 6)]
    assert {str(each["differs"]) for each in found} == {"['fit missing', 'new fold']"}
    [one] = ask(extracted, utterance, "text_word2vec", fold="test-Session2", protocol="cv")["rows"]
    assert one["fold"] == "test-Session2"


@pytest.mark.parametrize(
    ("utterance", "stage", "fold", "expected"),
    [
        ("Ses05F_impro01_F0000", "audio_mfcc", "", "did you mean Ses05F_impro01_F000"),
        ("zebra", "audio_mfcc", "", "among 60: known: "),
        ("Ses05F_impro01_F000", "audio_mfc", "", "did you mean audio_mfcc"),
        ("Ses05F_impro01_F000", "text_cnn", "offical", "did you mean official"),
        ("Ses05F_impro01_F000", "audio_mfcc", "official", "known: none"),
    ],
)
def test_an_unknown_name_is_answered_with_the_closest(extracted, utterance, stage, fold, expected):
    known = session5(extracted)[0].id
    with pytest.raises(InputError) as error:
        ask(extracted, utterance.replace("Ses05F_impro01_F000", known), stage, fold)
    assert expected.replace("Ses05F_impro01_F000", known) in str(error.value)


def test_the_command_takes_the_dataset_that_was_extracted_last(affectory, extracted, utterance):  # noqa: F811
    code, out, err = affectory("why", utterance, "audio_mfcc", *options(extracted, "--json"))
    assert code == 0 and len(out.splitlines()) == 1 and json.loads(out)["rows"][0]["status"] == "cached"
    extracted.extract(modality="audio")
    code, out, err = affectory("why", utterance, "audio_mfcc")
    assert (code, out) == (0, "") and "params.n_mfcc: 5 (same)" in err and "nothing has changed" in err


def test_it_writes_nothing_and_imports_nothing_heavy(extracted, utterance):
    remove_fits(extracted, "text_cnn")
    given = extracted.session().options
    before = files(extracted.home) | files(extracted.root)
    program = (
        "import sys; from pathlib import Path; from pipeline.ask import explain_row as why\n"
        "from pipeline.cache.home import Home\n"
        "from pipeline.plan.session import Options, Session\n"
        f"options = Options(dataset={given.dataset!r}, root={given.root!r})\n"
        f"session = Session.open(Home(Path({str(extracted.home)!r})), options)\n"
        f"found = why.why(session, {utterance!r}, 'text_cnn')\n"
        f"print(len(found['rows']), *(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.split()) == ("", ["1"])
    assert files(extracted.home) | files(extracted.root) == before
