"""The report: what it says of a corpus, its features and its models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.ask.failures import failures as list_failures
from pipeline.report import models_section
from pipeline.report.corpus_section import expected
from pipeline.report.features_section import Extracted, covered, failures
from tests.pages import KNOWN, Page, column, run, write
from tests.small import Small


def test_the_answer_is_json_and_names_the_file_that_was_written(
    known: Small, written: tuple[dict[str, Any], Page]
) -> None:
    made, page = written
    assert Path(made["report"]).name == f"{known.name}.html"
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert set(made["probes"]) == {"words/text", "sound/audio", "pitch/audio"}
    assert made["incomplete"] == [] and "Not complete" not in page.words
    assert "The last extraction:" in page.words and "idle is the wait for a job" in page.words


def test_a_model_above_what_is_possible_is_suspected_of_a_leak(written: tuple[dict[str, Any], Page]) -> None:
    made, page = written
    assert made["bounds"]["all"] < 1
    assert made["models"]["perfect-official"]["missed"] == pytest.approx(made["bounds"]["all"] - 1)
    assert "perfect, official exceeds the known bound" in page.words
    assert "idle, official exceeds" not in page.words


def test_a_model_no_better_than_the_majority_is_said_so(written: tuple[dict[str, Any], Page]) -> None:
    assert "idle, official does not beat the majority" in written[1].words
    assert "perfect, official does not beat" not in written[1].words


def test_a_run_of_another_protocol_is_held_against_its_own_folds(
    known: Small, written: tuple[dict[str, Any], Page]
) -> None:
    made, page = write(known, protocol="cv")
    assert made["models"]["perfect-official"]["bound"] == written[0]["bounds"]["all"]
    assert "other folds" not in page.words
    assert "best probe (" in written[1].words and "best probe (" not in page.words  # protocols are never mixed (H2)


def test_a_run_of_other_folds_of_the_same_sizes_has_no_bound_and_is_to_be_trained_again(known: Small) -> None:
    run(known, "early", right=True)
    path = known.home / "runs" / known.name / "early-official.json"
    path.write_text(re.sub(r'"valid": "\w{64}"', '"valid": "another"', path.read_text()))
    made, page = write(known)
    path.unlink()
    assert made["models"]["early-official"]["bound"] is None
    assert "early, official was trained on other folds or labels" in page.words


def test_a_run_of_other_features_is_to_be_trained_again_and_held_against_no_probe(
    extracted: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    extracted.recipe = KNOWN
    monkeypatch.setattr(models_section, "_features", lambda model: "sound")
    run(extracted, "idle", right=False, features="sound")
    _, page = write(extracted)
    assert "than the recipe now gives" not in page.words and "does not beat the best probe" in page.words
    extracted.recipe = KNOWN.replace("n_mfcc = 5", "n_mfcc = 6")
    extracted.extract(modality="audio")
    _, page = write(extracted)
    assert "idle, official was trained on other features than the recipe now gives: train it again." in page.words
    assert "does not beat the best probe" not in page.words


def test_a_damaged_run_is_left_out(written: tuple[dict[str, Any], Page]) -> None:
    assert set(written[0]["models"]) == {"perfect-official", "idle-official"}


def test_the_pictures_of_a_run_are_shown_and_their_files_are_linked(written: tuple[dict[str, Any], Page]) -> None:
    made, page = written
    assert "Attention and gates" in page.words and page.words.count("Mean share in the gate") == 2
    linked = [href for tag, named in page.tags if tag == "a" and not (href := named["href"] or "").startswith("#")]
    assert [Path(href).suffix for href in linked] == [".svg", ".png", ".csv"]
    assert all((Path(made["report"]).parent / href).is_file() for href in linked)


def test_the_scores_are_printed_on_standard_error(
    known: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    write(known)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Missed by" in printed.err and "audio of sound" in printed.err


def test_what_is_not_extracted_is_named_and_hides_no_other(extracted: Small) -> None:
    extracted.recipe = KNOWN.replace("n_mfcc = 5", "n_mfcc = 6")
    made, page = write(extracted)
    assert made["incomplete"] == ["audio_mfcc: 60 of 60 rows"]
    assert "Not complete" in page.words
    assert set(made["probes"]) == {"words/text", "pitch/audio"}


def test_nothing_is_extracted_by_a_report_and_random_weights_are_loud(known: Small, tmp_path: Path) -> None:
    visual = 'visual = { stage = "visual_resnet50", weights = "random", align = { mode = "sample", length = 4 } }'
    made, page = write(Small(known.root, tmp_path, tmp_path / "small.toml", f"{KNOWN}[features.face]\n{visual}\n"))
    assert "Random weights. visual_resnet50" in page.words
    assert "visual_resnet50: 60 of 60 rows" in made["incomplete"]
    assert "text_cnn: 60 of 60 rows, 1 fits" in made["incomplete"]
    assert made["probes"] == {} and not (tmp_path / "cache" / "objects").exists()


def test_a_failed_clip_is_counted_in_its_part_and_named_with_its_file(extracted: Small) -> None:
    path = sorted(extracted.root.glob("Session5/sentences/wav/*/*.wav"))[0]
    path.unlink()
    extracted.extract()
    found = Extracted(extracted.session())
    rows = [[each.text for each in row] for row in covered(found).rows]
    assert ["", "failed: missing file", "0", "0", "1", "1", "1.7 %"] in rows
    [fine] = [row for row in rows if row[0] == "audio"]
    assert (fine[1], fine[-2]) == ("ok", "59")
    sheets = failures(list_failures(extracted.session()))
    assert [sheet.caption for sheet in sheets] == [f"audio_{name}: missing file, 1" for name in ("mfcc", "opensmile")]
    told = [path.stem, path.relative_to(extracted.root).as_posix(), "no such file"]
    assert [each.text for each in sheets[0].rows[0]] == told


def test_expected_counts_stand_beside_what_was_found(known: Small) -> None:
    session = Small(known.root, known.home, known.path).session()
    sheet = expected(session.corpus)
    assert sheet is not None
    assert column(sheet, "expected")["hap"] == "595"
    assert column(sheet, "difference")["hap"] == "-585"
