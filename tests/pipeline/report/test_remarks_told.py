"""Remarks as commands tell them: `extract` and `status` count them, `errors` lists them, a report begins with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import RobertaConfig

from pipeline.ask import explain_row, explain_shard, status
from pipeline.ask.failures import remarks
from pipeline.cli.extract import extracted
from pipeline.errors import InputError
from pipeline.plan import remarked
from pipeline.remark import Kind
from pipeline.report.features_section import Extracted
from pipeline.report.remarks_section import Remarks
from tests.clips import Clips, of, write_vectors
from tests.encoders import saved
from tests.pages import column, write
from tests.pipeline.cli.test_commands import affectory, options  # noqa: F401 - a fixture

SETS = """
[features.words.text]
stage = "text_word2vec"
vectors = "$PLACE/words.txt"
align = { mode = "pad", length = 8 }
[features.encoded.text]
stage = "text_roberta"
model = "$PLACE/model"
max_tokens = 24
align = { mode = "pad", length = 8 }
"""
TEXTS = {
    "train": ["waa wab waa", "so waa waa so"] * 4,
    "valid": ["waa wab"] * 4,
    "test": ["waa xx yy so", "waa wab", "waa", "so"],
}
LONG = "waa " * 12


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """Sixteen utterances, extracted: one of test has two words without a vector, and one is cut by the encoder."""
    folder = tmp_path_factory.mktemp("spoken")
    write_vectors(folder / "words.txt")
    saved(folder / "model", RobertaConfig)
    said = [(split, text) for split, texts in TEXTS.items() for text in texts]
    said[0] = ("train", LONG)
    lines = [
        {"utterance": f"u{n:02}", "dialogue": f"d{n // 2}", "turn": n % 2, "split": split, "text": text}
        | {"mood": ("low", "high")[n % 2]}
        for n, (split, text) in enumerate(said)
    ]
    made = of(folder, lines, SETS)
    made.extract()
    return made


def lost(clips: Clips) -> tuple[int, int]:
    """The tokens of the long text that were cut off, and all its tokens, as the record has them."""
    [entry] = remarks(clips.session(), stage="text_roberta")
    return int(entry["part"]), int(entry["whole"])


def test_an_extraction_counts_remarks_by_stage_and_kind_also_those_of_earlier_ones(
    spoken: Clips, capsys: pytest.CaptureFixture[str]
) -> None:
    answer, _ = extracted(spoken.session())
    part, whole = lost(spoken)
    assert answer["remarks"] == {
        "text_roberta": {"text_cut": {"rows": 1, "of": 16, "part": part, "whole": whole}},
        "text_word2vec": {"unknown_words": {"rows": 1, "of": 16, "part": 2, "whole": 4}},
    }
    said = capsys.readouterr().err
    assert f"1 of 16 rows of text_roberta have the remark text_cut: {part} of their {whole} tokens cut off" in said
    assert "1 of 16 rows of text_word2vec have the remark unknown_words: 2 of their 4 words without a vector" in said


def test_status_counts_the_rows_that_have_remarks(spoken: Clips) -> None:
    stages = status.status(spoken.session())["stages"]
    assert {name: counts["remarked"] for name, counts in stages.items()} == {"text_roberta": 1, "text_word2vec": 1}


def test_remarks_are_listed_by_stage_and_kind_and_an_unknown_name_is_refused_with_the_closest(spoken: Clips) -> None:
    session = spoken.session()
    assert [(e["utterance"], e["remark"]) for e in remarks(session)] == [("u00", "text_cut"), ("u12", "unknown_words")]
    assert remarks(session, stage="text_word2vec", kind="text_cut") == []
    assert remarks(session, kind="unknown_words") == [
        {
            "utterance": "u12",
            "modality": "text",
            "stage": "text_word2vec",
            "fold": None,
            "remark": "unknown_words",
            "part": 2.0,
            "whole": 4.0,
            "unit": "words",
            "message": "2 of 4 words without a vector",
            "file": None,
        }
    ]
    with pytest.raises(InputError, match="no remark 'text_cuts': did you mean text_cut"):
        remarks(session, kind="text_cuts")


def test_the_command_lists_remarks_as_json_or_as_a_table(spoken: Clips, affectory, monkeypatch) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    monkeypatch.setenv("AFFECTORY_HOME", str(spoken.home))
    code, out, _ = affectory("errors", *options(spoken, "--remarks", "--json"))
    assert code == 0 and [e["utterance"] for e in json.loads(out)["remarks"]] == ["u00", "u12"]
    code, out, err = affectory("errors", *options(spoken, "--remarks", "--reason", "unknown_words"))
    assert (code, out) == (0, "") and "u12" in err and "u00" not in err and "1 utterances with remarks." in err


def test_the_report_shows_remarks_and_the_share_of_words_without_a_vector_by_part(spoken: Clips) -> None:
    found = Remarks(Extracted(spoken.session()))
    assert found.unknown == {"text_word2vec": {"train": 0, "valid": 0, "test": 2 / 8}}
    by_kind, by_part = found.sheets()
    assert column(by_kind, "rows") == {"text_roberta": "1", "text_word2vec": "1"}
    assert column(by_part, "test") == {"text_word2vec": "25.0 %"}


def test_the_first_lines_of_the_report_name_what_many_rows_have(spoken: Clips) -> None:
    answer, page = write(spoken)
    part, whole = lost(spoken)
    assert f"text_cut: {part} of their {whole} tokens cut off." in page.words.partition("Utterances")[0]
    assert "text_word2vec has no vector for many words: 25.0% of test." in answer["warnings"]
    assert answer["remarks"]["text_word2vec"]["unknown_words"]["rows"] == 1


def test_what_few_rows_have_is_none_of_the_first_lines() -> None:
    few, many = (remarked.Count("text_roberta", Kind.TEXT_CUT, rows, 100, 1, 1) for rows in (5, 6))
    assert (few.large, many.large) == (False, True)


def test_an_answer_without_remarks_says_so(tmp_path: Path, affectory) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    write_vectors(tmp_path / "words.txt")
    line = {"utterance": "u", "dialogue": "d", "turn": 1, "split": "train", "text": "waa", "mood": "low"}
    made = of(tmp_path, [line], SETS.partition("[features.encoded")[0])
    made.extract()
    code, _, err = affectory("errors", *options(made, "--remarks"))
    assert code == 0 and "No row has a remark." in err
    assert list(Remarks(Extracted(made.session())).sheets()) == []


def test_why_tells_the_remarks_on_a_row_and_explain_those_in_a_shard(spoken: Clips) -> None:
    session = spoken.session()
    answer = explain_row.why(session, "u12", "text_word2vec")
    [row] = answer["rows"]
    assert row["remarks"] == {"unknown_words": "2 of 4 words without a vector"}
    assert "  remark unknown_words: 2 of 4 words without a vector\n" in explain_row.as_text(answer)
    shard = explain_shard.explain(session.home, row["object"])
    assert [action["remarks"] for action in shard["actions"]] == [{"unknown_words": ["u12"]}]
    assert "  remark unknown_words on u12" in explain_shard.as_text(shard)
    [other] = explain_row.why(session, "u01", "text_word2vec")["rows"]
    assert other["remarks"] == {}
