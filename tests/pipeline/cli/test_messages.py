"""What people read: whole paths, tables of 80 columns, settings that are carried over, and why an option is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from tests.pipeline.cli.test_commands import affectory, options, said  # noqa: F401 - a fixture among them

SECOND = """
[features.more]
audio = { stage = "audio_mfcc", n_mfcc = 7, deltas = 0, rate_hz = 12.5, align = { mode = "pad", length = 32 } }
"""
CHANGE = "features.pitch.audio.feature_set=GeMAPSv01b"


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


def test_the_version_is_that_of_the_package(affectory):  # noqa: F811
    assert affectory("--version") == (0, f"affectory {version('affectory')}\n", "")


def test_the_path_of_the_log_stays_on_one_line(affectory, extracted, monkeypatch):  # noqa: F811
    monkeypatch.setenv("COLUMNS", "40")
    _, _, err = affectory("extract", *options(extracted, "--workers", "0"))
    [line] = [line for line in err.splitlines() if line.startswith("Log: ")]
    assert line.endswith(".log") and len(line) > 40


def test_a_path_in_an_error_stays_on_one_line_and_is_printed_as_it_is(affectory, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("COLUMNS", "40")
    missing = tmp_path / "a folder with a long name [red] :smile:" / "mine.toml"
    code, _, err = affectory("plan", "--dataset", str(missing))
    assert code == 2 and str(missing) in err.splitlines()[0]


def test_a_plan_refuses_a_setting_that_no_model_has_and_names_the_right_one(affectory, small):  # noqa: F811
    small.session()
    code, _, err = affectory("plan", *options(small, "--set", "train.hjcag.droput=0.1"))
    assert code == 2 and "dropout" in said(err)


def test_a_plan_fits_80_columns_with_whole_names_and_says_once_what_was_not_measured(affectory, extracted, narrow):  # noqa: F811
    extracted.recipe += SECOND
    code, _, err = affectory("plan", *options(extracted, "--set", CHANGE))
    assert code == 0 and max(map(len, err.splitlines())) <= 80 and "…" not in err
    mfcc = [rows.node for rows in extracted.session().catalogue if rows.node.name == "audio_mfcc"]
    new = [f"audio_mfcc {node.digest[:6]}" for node in mfcc if node.params["n_mfcc"] == 7]
    assert f"Not measured here, so not estimated: {new[0]}, audio_opensmile." in said(err)
    assert "params.feature_set: IS09 -> GeMAPSv01b" in said(err)


def test_a_plan_shows_the_views_in_a_table_of_their_own(affectory, extracted, narrow):  # noqa: F811
    node = next(node for node, _ in extracted.session().catalogue.wanted if node.name == "audio_mfcc")
    for path in (extracted.home / "cache" / "actions" / node.digest).iterdir():
        path.unlink()
        break
    _, _, err = affectory("plan", *options(extracted))
    assert "Views to build" in err and "sound.audio" in err.partition("Views to build")[2]
    assert "sound.audio" not in err.partition("Views to build")[0]


def test_settings_of_the_last_extraction_are_carried_over_and_each_is_printed(affectory, extracted):  # noqa: F811
    given = options(extracted, "--set", CHANGE, "--set", "dataset.max_failed=0.5")
    assert affectory("extract", *given, "--modality", "audio", "--workers", "0")[0] == 0
    code, _, err = affectory("plan")
    assert code == 0 and err.splitlines()[:4] == [
        f"Dataset: {extracted.path}, the one extracted last.",
        f"Root: {extracted.root}, as in that extraction.",
        f"Set: {CHANGE}, as in that extraction.",
        "Set: dataset.max_failed=0.5, as in that extraction.",
    ]
    _, _, err = affectory("plan", "--root", str(extracted.root))
    assert "Root:" not in err and f"Set: {CHANGE}" in err


def test_a_dataset_that_is_named_carries_nothing_over(affectory, extracted):  # noqa: F811
    assert affectory("extract", *options(extracted, "--set", CHANGE, "--modality", "audio", "--workers", "0"))[0] == 0
    _, _, err = affectory("plan", *options(extracted))
    assert "Set:" not in err and "Root:" not in err


@pytest.mark.parametrize("days", ["0.5", "0", "-3", "nan"])
def test_gc_of_less_than_a_day_is_refused_with_the_reason(affectory, days):  # noqa: F811
    code, _, err = affectory("gc", "--older-than", days)
    words = said(err.replace("│", ""))
    assert code == 2 and "What is younger than a day is never deleted: a run may be about to use it." in words


def test_the_help_names_the_file_of_the_lock(affectory, narrow):  # noqa: F811
    _, out, _ = affectory("extract", "--help")
    assert out.count("<dataset>.lock.json") == 2


def test_the_script_of_completion_is_one_that_bash_reads():
    environment = {**os.environ, "_AFFECTORY_COMPLETE": "source_bash"}
    command = "import sys; sys.argv[0] = 'affectory'; from pipeline.cli.start import main; main()"
    done = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert "_AFFECTORY_COMPLETE=complete_bash" in done.stdout
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0


@pytest.mark.parametrize(("typed", "completed"), [("--dataset iem", "iemocap"), ("--model hjc", "hjcag")])
def test_a_shell_completes_names_of_corpora_and_models(typed, completed):
    line = f"affectory train {typed}"
    environment = {**os.environ, "_AFFECTORY_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "3"}
    command = "import sys; sys.argv[0] = 'affectory'; from pipeline.cli.start import main; main()"
    done = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [completed], done.stderr
