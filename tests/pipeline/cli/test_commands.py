"""The command line: exit codes, one JSON object on standard output, everything else on standard error."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from pipeline import interruption
from pipeline.cli import extract, main
from pipeline.errors import KilledError, RemoteError, SpaceError

ROOT = Path(__file__).parents[3]
COMMANDS = typer.main.get_command(main.app).commands  # type: ignore[attr-defined]
MODEL = """
[dataset]
reader = "iemocap"
labels = "six"
root   = "{root}"

[features.hjcag]
audio = {{ stage = "audio_mfcc", n_mfcc = 5, deltas = 0, rate_hz = 12.5, align = {{ mode = "pad", length = 8 }} }}

[train.hjcag]
epochs = 1
d_model = 8
unimodal_pretrain = false
"""


@pytest.fixture
def affectory(monkeypatch, capsys, tmp_path):
    """Runs a command in this process: (exit code, standard output, standard error)."""
    monkeypatch.setenv("AFFECTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(interruption, "listen", lambda: None)
    logger = logging.getLogger()
    handlers, levels = list(logger.handlers), {n: logging.getLogger(n).level for n in ("distributed", "pipeline")}

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["affectory", *arguments])
        try:
            main.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    yield run
    for handler in set(logger.handlers) - set(handlers):
        logger.removeHandler(handler)
        handler.close()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def options(small, *more):
    """The options of a call on the small corpus, in this process."""
    small.path.write_text(small.recipe)
    return ("--dataset", str(small.path), "--root", str(small.root), *more)


def said(text: str) -> str:
    """A message without the line breaks that a narrow terminal puts in."""
    return " ".join(text.split())


# --- output ----------------------------------------------------------------------------------------------------


def test_json_is_one_object_on_standard_output_and_progress_goes_to_standard_error(affectory, extracted):
    code, out, err = affectory("extract", *options(extracted, "--workers", "0", "--json"))
    answer = json.loads(out)
    assert code == 0 and len(out.splitlines()) == 1
    assert {"dataset", "computed", "copied", "cached", "failed", "seconds"} <= answer.keys()
    assert "Nothing to do" in err


def test_without_json_standard_output_is_empty(affectory, extracted):
    for command, more in (("extract", ["--workers", "0"]), ("plan", [])):
        code, out, err = affectory(command, *options(extracted, *more))
        assert (code, out) == (0, "") and err


def test_plan_prints_one_json_object(affectory, extracted):
    code, out, err = affectory("plan", *options(extracted, "--json"))
    assert code == 0 and len(out.splitlines()) == 1 and json.loads(out)["compute"] == {}


@pytest.mark.slow
def test_nothing_but_the_object_reaches_standard_output_from_workers_and_libraries_either(small):
    given = options(small, "--workers", "1", "--features", "words", "--features", "sound", "--json")
    line = [sys.executable, "-m", "pipeline.cli.main", "extract", *given]
    environment = {**os.environ, "AFFECTORY_HOME": str(small.home)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["computed"] == {"text_word2vec": 60, "text_cnn": 60, "audio_mfcc": 60}
    assert len(list((small.home / "runs" / "logs").glob("*-extract-small-*.log"))) == 1


def test_the_module_that_every_process_of_a_run_imports_again_imports_nothing():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, _ = scripts["affectory"].partition(":")
    program = f"import sys; before = set(sys.modules); import {module}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["pipeline", "pipeline.cli", module]


def test_an_override_reaches_the_recipe(affectory, extracted):
    change = "features.pitch.audio.feature_set=GeMAPSv01b"
    _, out, _ = affectory("plan", *options(extracted, "--json", "--set", change))
    assert json.loads(out)["compute"] == {"audio_opensmile": 60}


# --- exit codes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["extract", "--dataset", "demoo"], "did you mean demo"),
        (["plan", "--dataset", "demo", "--set", "features.hjcagg.audio.x=1"], "did you mean hjcag"),
        (["plan", "--dataset", "demo", "--modality", "sound"], "known: audio, text, visual"),
        (["train", "--dataset", "demo", "--model", "hjcagg"], "did you mean hjcag"),
        (["train", "--model", "hjcag"], "nothing was extracted yet"),
        (["report"], "nothing was extracted yet"),
        (["extract"], "dataset"),
        (["extract", "--dataset", "demo", "--worker", "1"], "--workers"),
        (["extract", "--dataset", "demo", "--workers", "-1"], "workers"),
        (["extrakt"], "extract"),
    ],
)
def test_bad_input_ends_with_2_one_message_and_no_traceback(affectory, arguments, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("DEMO_ROOT", str(tmp_path / "demo"))
    monkeypatch.setattr("manifests.demo.Demo.prepare", lambda self, root: None)
    monkeypatch.setattr("manifests.demo.Demo.scan", lambda self, root: [])
    code, out, err = affectory(*arguments)
    assert (code, out) == (2, "") and expected in said(err) and "Traceback" not in err


def test_an_absent_corpus_ends_with_2_and_says_where_it_looked_and_what_it_expects(affectory, small, tmp_path):
    small.path.write_text(small.recipe)
    code, out, err = affectory("extract", "--dataset", str(small.path), "--root", str(tmp_path / "nowhere"), "--json")
    assert (code, out) == (2, "")
    for part in (str(tmp_path / "nowhere"), "Session{1..5}/dialog/EmoEvaluation/<dialogue>.txt", "Unpack it"):
        assert part in said(err)


def test_a_message_is_not_taken_for_markup(affectory, small):
    small.recipe = small.recipe.replace('"pad"', '"[red]"')
    code, _, err = affectory("plan", *options(small))
    assert code == 2 and "features.words.text.align.mode" in err


def test_too_many_failed_clips_end_with_3_after_the_answer(affectory, extracted):
    small = extracted
    small.recipe = small.recipe.replace('labels   = "six"', 'labels = "six"\nmax_failed = 0.0')
    (small.root / small.session().corpus.manifest.rows[0].audio[0].path).unlink()
    code, out, err = affectory("extract", *options(small, "--workers", "0", "--modality", "audio", "--json"))
    assert code == 3 and json.loads(out)["failed"] == {"audio": {"missing_file": 1}}
    assert "1.7% of audio failed" in said(err)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KilledError("training hjcag on official killed its workers"), 3),
        (RemoteError("the remote is gone"), 4),
        (SpaceError("too small a disk"), 5),
        (OSError(28, "No space left on device"), 5),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_that_is_no_bug_has_its_exit_code(affectory, small, monkeypatch, error, code):
    def fail(session, relock):
        raise error

    monkeypatch.setattr(extract, "_extracted", fail)
    found, out, err = affectory("extract", *options(small, "--json"))
    assert (found, out) == (code, "") and err and "Traceback" not in err


def test_a_bug_keeps_its_traceback(affectory, small, monkeypatch):
    def fail(session, relock):
        raise ZeroDivisionError

    monkeypatch.setattr(extract, "_extracted", fail)
    with pytest.raises(ZeroDivisionError):
        affectory("extract", *options(small))


# --- train -----------------------------------------------------------------------------------------------------


def test_train_without_a_dataset_takes_the_one_extracted_last_and_says_which(affectory, small):
    small.path.write_text(MODEL.format(root=small.root))
    named = ("--dataset", str(small.path), "--workers", "0")
    code, _, err = affectory("train", *named, "--model", "hjcag", "--no-extract")
    assert code == 2 and "run `affectory extract` first" in said(err)
    assert affectory("extract", *named)[0] == 0
    code, out, err = affectory("train", "--model", "hjcag", "--workers", "0", "--json")
    assert code == 0 and f"Dataset:{small.path},theoneextractedlast." in "".join(err.split())
    answer = json.loads(out)
    assert {"model", "protocol", "folds", "metrics", "run"} <= answer.keys()
    assert (answer["model"], answer["protocol"], len(answer["folds"])) == ("hjcag", "official", 1)
    assert 0 <= answer["metrics"]["pooled"]["accuracy"] <= 1
    assert len(out.splitlines()) == 1


def test_train_tells_what_failed_as_extract_does_and_ends_with_3_after_the_answer(affectory, small):
    small.path.write_text(MODEL.format(root=small.root).replace("[features", "max_failed = 0.0\n[features"))
    next(small.root.glob("Session1/sentences/wav/*/*.wav")).unlink()
    for more in ((), ("--no-extract",)):
        named = ("--dataset", str(small.path), "--workers", "0", "--model", "hjcag", "--json", *more)
        code, out, err = affectory("train", *named)
        assert code == 3 and json.loads(out)["failed"] == {"audio": {"missing_file": 1}}
        assert "missing_file" in err and "1.7% of audio failed, more than max_failed = 0%" in said(err)
        assert "This copy differs from the published corpus" in said(err)


# --- help ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_every_command_has_an_example_that_it_understands(affectory, name):
    code, out, _ = affectory(name, "--help")
    assert code == 0 and "Example:" in out
    examples = re.findall(r"`affectory (.*?)`", COMMANDS[name].callback.__doc__)
    assert examples
    for command, *arguments in map(shlex.split, examples):
        assert command == name
        COMMANDS[name].make_context(name, arguments)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_is_explained(name):
    assert [option.name for option in COMMANDS[name].params if not option.help] == []
    assert "as_json" in {option.name for option in COMMANDS[name].params}


def test_help_is_quick_because_it_imports_nothing_heavy():
    program = "import sys; import pipeline.cli.main; print(*({'torch', 'dask', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == ([], "")
