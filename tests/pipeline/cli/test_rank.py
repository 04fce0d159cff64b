"""`affectory rank`: the feature sets of one modality, each probed under the same protocol."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.report.page import write
from tests.pipeline.cli.test_commands import affectory, options  # noqa: F401 - a fixture
from tests.small import RECIPE, Small

RANK = """
[[rank.audio]]
stage = "audio_mfcc"
n_mfcc = 3
deltas = 0

[[rank.audio]] # as in [features.sound], so it is the same feature set
stage = "audio_mfcc"
n_mfcc = 5
deltas = 0
rate_hz = 12.5
"""


def of_audio(small: Small, *more: str) -> tuple[str, ...]:
    return ("rank", *options(small, "--modality", "audio", "--workers", "0", "--json", *more))


@pytest.fixture
def ranked(extracted: Small) -> Small:
    extracted.recipe = RECIPE + RANK
    return extracted


def test_each_feature_set_has_one_line_and_validation_decides_the_order(ranked, affectory):  # noqa: F811
    code, out, err = affectory(*of_audio(ranked))
    assert code == 0, err
    rows = json.loads(out)["rank"]
    names = {row["features"] for row in rows}
    assert len(rows) == 3 and {name.partition("(")[0] for name in names} == {"audio_mfcc", "audio_opensmile"}
    assert "audio_opensmile" in names, "only parameters that distinguish stages of one name are shown"
    valid = [float(row["valid accuracy"]) for row in rows]
    assert valid == sorted(valid, reverse=True)
    assert {row["dimensions"] for row in rows} == {"3", "5", "384"}
    with Path(json.loads(out)["files"][1]).open(newline="") as file:
        assert [row["features"] for row in csv.DictReader(file)] == [row["features"] for row in rows]
    for row in rows:
        low, high = json.loads(row["test accuracy, 95 % over dialogues"])
        assert low <= float(row["test accuracy"]) <= high


def test_the_scores_are_those_of_the_reports_probes(ranked, affectory):  # noqa: F811
    _, out, _ = affectory(*of_audio(ranked))
    probe = write(ranked.session())["probes"]["sound/audio"]
    [row] = [row for row in json.loads(out)["rank"] if row["dimensions"] == "5"]
    assert float(row["test accuracy"]) == pytest.approx(probe["test"]["accuracy"], abs=5e-5)
    assert float(row["valid accuracy"]) == pytest.approx(probe["valid"]["accuracy"], abs=5e-5)
    assert float(row["majority accuracy"]) == pytest.approx(probe["majority"]["majority_accuracy"], abs=5e-5)


def test_what_is_listed_for_rank_alone_is_extracted_by_rank_alone_and_once(ranked, affectory):  # noqa: F811
    assert ranked.extract() == {}
    stages = {path.name for path in (ranked.home / "cache/actions").iterdir()}
    affectory(*of_audio(ranked))
    assert len({path.name for path in (ranked.home / "cache/actions").iterdir()} - stages) >= 1
    before = {path: path.stat().st_mtime_ns for path in (ranked.home / "cache/actions").rglob("*.json")}
    code, _, err = affectory(*of_audio(ranked, "--no-extract"))
    assert code == 0, err
    assert {path: path.stat().st_mtime_ns for path in (ranked.home / "cache/actions").rglob("*.json")} == before


def test_without_extraction_missing_features_are_an_error(ranked, affectory):  # noqa: F811
    code, _, err = affectory(*of_audio(ranked, "--no-extract"))
    assert code == 2 and "audio_mfcc is not extracted for all rows" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[rank.audio]]\nstage = "audio_mfc"', "rank.audio.stage: no 'audio_mfc' in stages/: did you mean audio_mfcc"),
        ('[[rank.sound]]\nstage = "audio_mfcc"', "rank.sound: "),
        ('[rank]\naudio = { stage = "audio_mfcc" }', "rank.audio: expected a list of tables"),
        ('[[rank.audio]]\nstage = "text_roberta"', "rank.audio: text_roberta is a stage of text"),
    ],
)
def test_a_wrong_list_is_refused_with_its_line(small: Small, text: str, message: str) -> None:
    small.recipe = f"{RECIPE}\n{text}\n"
    with pytest.raises(InputError) as error:
        small.session()
    number = len(RECIPE.splitlines()) + 2
    assert message in str(error.value) and any(f".toml:{line}:" in str(error.value) for line in (number, number + 1))


def test_a_modality_without_feature_sets_is_refused(ranked, affectory):  # noqa: F811
    code, _, err = affectory("rank", *options(ranked, "--modality", "visual"))
    assert code == 2 and "no feature set of 'visual' in this recipe" in err
