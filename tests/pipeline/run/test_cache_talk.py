"""What is computed again of four hundred transcripts, in rows: edits, ids, weights, other recipes, failures."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from pipeline.cli.extract import extracted
from pipeline.plan.jobs import named
from pipeline.run import extraction
from pipeline.transfer import push_pull
from stages import text_word2vec
from tests import clips
from tests.clips import LEARNED_SET, WORDS_SET, Clips, sentence, talk

STAGE = "text_word2vec"


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the four hundred rows of frozen vectors are extracted."""
    made = talk(tmp_path_factory.mktemp("said"))
    assert made.extract() == {STAGE: 400}
    return made.home


@pytest.fixture
def table(said: Path, tmp_path: Path) -> Clips:
    """The same talk, over a copy of that home."""
    made = talk(tmp_path)
    shutil.copytree(said, made.home)
    return made


# --- edits of rows ---------------------------------------------------------------------------------------------


def test_one_in_a_hundred_new_utterances_over_many_dialogues_costs_one_in_a_hundred_rows(table):
    for d in (3, 17, 31, 46):
        new = table.line(f"d{d:02}_002") | {"utterance": f"d{d:02}_new", "turn": 25, "text": sentence(d, 500)}
        table.lines.append(new)
    assert table.extract() == {STAGE: 4}
    assert table.count("calls")[STAGE] <= 4
    assert {name for (_, name) in table.rows()} >= {"d03_new", "d46_new"}


def test_utterances_removed_from_many_dialogues_cost_nothing(table):
    table.lines = [line for n, line in enumerate(table.lines) if n % 97]
    assert table.extract() == {}
    assert len(table.rows()) == len(table.lines) == 395


def test_edited_transcripts_cost_their_own_rows_wherever_they_stand(table):
    for name in ("d00_000", "d25_004", "d49_007"):
        table.line(name)["text"] += " so"
    assert table.extract() == {STAGE: 3}


def test_a_transcript_that_comes_back_costs_nothing(table):
    before, line = table.line("d10_003")["text"], table.line("d10_003")
    line["text"] = "so"
    assert table.extract() == {STAGE: 1}
    line["text"] = before
    assert table.extract() == {} and table.last.jobs == 0


def test_two_utterances_that_swap_what_they_say_cost_nothing_and_swap_their_values(table):
    before = {name: key for (_, name), (key, _) in table.rows().items()}
    one, two = table.line("d04_001"), table.line("d40_005")
    one["text"], two["text"] = two["text"], one["text"]
    assert table.extract() == {}
    after = {name: key for (_, name), (key, _) in table.rows().items()}
    assert (after["d04_001"], after["d40_005"]) == (before["d40_005"], before["d04_001"])


def test_the_order_of_the_lines_in_a_file_costs_nothing_and_moves_no_shard(table):
    random.Random(1).shuffle(table.lines)
    assert table.extract() == {} and table.last.jobs == 0


@pytest.mark.parametrize("column", ["speaker", "mood", "split", "dialogue", "turn"])
def test_an_annotation_costs_no_row_of_a_frozen_stage(table, column):
    other = {"speaker": "s9", "mood": "low", "split": "train", "dialogue": "another", "turn": 999}
    for n in range(0, 400, 50):
        table.lines[n][column] = other[column]
    assert table.extract() == {}
    assert named(table.session().plan().cached) == {STAGE: 400}


def test_equal_text_under_other_ids_is_copied_and_stands_under_its_own_ids(table):
    for line in table.lines:
        line["utterance"] = f"other-{line['utterance']}"
    assert table.extract() == {} and table.count("copied") == {STAGE: 400}
    stored = {name for found in table.tables() for name in found["utterance"].to_pylist()}
    assert stored == {line["utterance"] for line in table.lines}


def test_equal_text_in_one_corpus_is_one_row_key_under_each_id(tmp_path):
    made = talk(tmp_path, dialogues=4)
    for line in made.lines:
        line["text"] = "so so"
    made.extract()
    rows = made.rows()
    assert {name for _, name in rows} == {line["utterance"] for line in made.lines}
    assert len({key for key, _ in rows.values()}) == 1


# --- weights, recipes ------------------------------------------------------------------------------------------


def test_local_weights_at_another_path_cost_nothing(table):
    (table.place / "words.txt").rename(table.place / "moved.txt")
    table.recipe = table.recipe.replace("words.txt", "moved.txt")
    assert table.extract() == {} and table.last.jobs == 0


def test_local_weights_with_other_bytes_cost_the_stage(table):
    clips.write_vectors(table.place / "words.txt", seed=1)
    assert table.extract() == {STAGE: 400} and table.count("copied") == {}


def test_a_stage_taken_out_of_the_recipe_and_put_back_costs_nothing(table):
    whole = table.recipe
    table.recipe = clips.HEAD + LEARNED_SET.replace("size = 4", "size = 3")
    table.extract()
    table.recipe = whole
    assert table.extract() == {} and table.last.jobs == 0


def test_a_stage_that_two_feature_sets_ask_for_is_computed_once(tmp_path):
    made = talk(tmp_path, sets=WORDS_SET + WORDS_SET.replace("words.text", "again.text").replace("8", "5"))
    assert made.extract() == {STAGE: 400}


def test_another_recipe_over_the_same_corpus_shares_its_rows(table):
    table.path = table.path.with_name("other.toml")
    table.recipe = table.recipe.replace("features.words", "features.mine").replace("length = 8", "length = 3")
    assert table.extract() == {} and table.last.jobs == 0


def test_another_corpus_that_says_the_same_shares_its_rows_and_pays_for_the_rest(table, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    made = talk(other)
    made.home, made.lines = table.home, made.lines[:100]
    for line in made.lines[:7]:
        line["text"] = f"so {line['text']}"
    for line in made.lines:
        line["dialogue"] = f"x{line['dialogue']}"
    assert made.extract() == {STAGE: 7} and made.count("copied") == {STAGE: 93}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("length = 8", "length = 3"),
        ('mode = "pad"', 'mode = "sample"'),
        ("[features.words.text]", "[train.mulg]\nhidden = 8\nepochs = 2\n[features.words.text]"),
        ('protocol = "official"', 'protocol = "cv"'),
        ('protocol = "official"', 'protocol = "official"\ncrossfit = 3\nmax_failed = 0.5'),
        ('classes  = ["low", "high"]', 'classes  = ["high", "low", "none"]'),
    ],
)
def test_what_only_views_and_models_read_costs_nothing(table, old, new):
    assert old in table.recipe
    table.recipe = table.recipe.replace(old, new)
    assert table.extract() == {} and table.last.jobs == 0


@pytest.mark.parametrize("option", [{"workers": 7}, {"gpus": 2}, {"scheduler": "tcp://elsewhere:8786"}])
def test_who_computes_costs_nothing(table, option):
    plan = table.session(**option).plan()
    assert plan.jobs == [] and named(plan.cached) == {STAGE: 400}


def test_of_a_split_that_was_pulled_no_row_is_computed_and_of_the_others_every_one(table, tmp_path):
    session = table.session(remote=f"file://{tmp_path}/remote")
    push_pull.push(session.home, session.options)
    table.home = tmp_path / "newcomer"
    session = table.session(remote=f"file://{tmp_path}/remote")
    assert push_pull.pull(session.home, session.options, split="test")["missing"] == {}
    assert table.extract() == {STAGE: 320} and table.last.cached == {STAGE: 80}


# --- failures --------------------------------------------------------------------------------------------------


def test_retry_failed_runs_exactly_the_rows_that_failed_and_keeps_the_good_ones(table):
    for name in ("d11_002", "d33_006"):
        table.line(name)["text"] = "[LAUGHTER]"
    table.home = table.place / "empty"
    assert table.extract() == {STAGE: 400}
    good = {place: row for place, row in table.rows().items() if row[1].reason is None}
    assert table.extract() == {} and len(good) == 398
    answer, _ = extracted(again(table))
    assert answer["computed"] == {STAGE: 2} and answer["copied"][STAGE] >= 30
    assert {p: k for p, (k, t) in table.rows().items() if t.reason is None} == {p: k for p, (k, _) in good.items()}
    assert table.extract() == {}


def again(made: Clips):
    """A session of `--retry-failed`."""
    return extraction.retry_failed(made.session())


def test_a_failure_that_may_pass_is_tried_again_and_its_good_rows_are_copied(table, monkeypatch):
    table.line("d20_003")["text"] = "so so so so so"
    look_up = text_word2vec._look_up

    def short_of_memory(vectors, words):
        if words == ["so"] * 5:
            raise MemoryError
        return look_up(vectors, words)

    with monkeypatch.context() as patched:
        patched.setattr(text_word2vec, "_look_up", short_of_memory)
        assert table.extract() == {STAGE: 1}
        assert table.failed()["text"] == {"d20_003": "out_of_memory"}
        assert table.extract() == {STAGE: 1}
    assert table.extract() == {STAGE: 1} and table.count("copied")[STAGE] >= 15
    assert table.failed()["text"] == {} and table.extract() == {}


def test_an_utterance_without_a_single_word_that_has_a_vector_has_a_reason_and_is_not_tried_again(table):
    table.line("d25_004")["text"] = "qqq zzz"
    assert table.extract() == {STAGE: 1}
    assert table.failed()["text"] == {"d25_004": "nothing_valid"}
    assert table.extract() == {}
