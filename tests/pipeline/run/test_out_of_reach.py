"""Files that are there and cannot be read: each costs its own rows, and only until it can be read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.cache.home import Home
from pipeline.corpus.open_corpus import Options
from pipeline.errors import InputError
from pipeline.media.doctor import doctor
from pipeline.plan import shortfall
from pipeline.run.extraction import extract
from pipeline.run.reference_job import open_session
from pipeline.transfer.push_pull import pull, push
from tests.stranger import USER, Stranger, possible

RECIPE = """
[dataset]
reader = "table"
labels = "label"
max_failed = 1.0
[features.pitch]
audio = { stage = "audio_opensmile", align = { mode = "broadcast", length = 2 } }
"""
GOOD, LONG, PIPE, GONE = "good.wav", f"{'long' * 80}.wav", "pipe.wav", "gone.wav"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return world(tmp_path)


@pytest.fixture
def other_place() -> Iterator[Path]:
    """A folder that a stranger can enter."""
    if not possible():
        pytest.skip("this user may not become another one")
    folder = Path(tempfile.mkdtemp())
    os.chown(world(folder), USER, USER)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def world(folder: Path) -> Path:
    (folder / "corpus" / "shut").mkdir(parents=True)
    for name in (GOOD, "shut/in.wav", "mute.wav"):
        noise = np.random.default_rng(len(name)).normal(0, 0.1, 16000)
        soundfile.write(folder / "corpus" / name, noise, 16000)
    os.mkfifo(folder / "corpus" / PIPE)
    (folder / "my.toml").write_text(RECIPE)
    return folder


def listed(folder: Path, *names: str) -> Options:
    rows = (f"u{i},{name},{i}\n" for i, name in enumerate(names))
    (folder / "corpus" / "utterances.csv").write_text("utterance,audio,label\n" + "".join(rows))
    return Options(str(folder / "my.toml"), str(folder / "corpus"), workers=0)


def reasons(home: Home, given: Options) -> dict[str, str]:
    extract(open_session(home, given))
    return shortfall.reasons(open_session(home, given).catalogue)["audio"]


def test_a_name_that_is_too_long_is_a_missing_file_and_a_pipe_is_not_waited_for(place):
    given, home = listed(place, GOOD, LONG, PIPE), Home(place / "home")
    session = open_session(home, given)
    summary = doctor("my", session.corpus.manifest.rows, session.corpus.manifest.root, home.doctor, workers=1)
    assert summary["reasons"]["audio"]["no split"] == {"missing_file": 1, "io_error": 1}
    assert reasons(home, given) == {"u1": "missing_file", "u2": "io_error"}
    os.remove(place / "corpus" / PIPE)
    shutil.copy(place / "corpus" / GOOD, place / "corpus" / PIPE)
    assert reasons(home, given) == {"u1": "missing_file"}


def test_weights_that_are_a_pipe_are_refused_and_not_waited_for(place, monkeypatch):
    (place / "my.toml").write_text(
        RECIPE + '[features.words]\ntext = { stage = "text_word2vec", vectors = "$PIPE", align = { mode = "pad" } }\n'
    )
    monkeypatch.setenv("PIPE", str(place / "corpus" / PIPE))
    with pytest.raises(InputError, match=r"the weights .*pipe.wav cannot be read: look at their permissions"):
        open_session(Home(place / "home"), listed(place, GOOD))


def test_a_corpus_that_lacks_a_file_can_be_pulled(place, tmp_path):
    given, remote = listed(place, GOOD, GONE), f"file://{tmp_path / 'remote'}"
    assert reasons(Home(place / "home"), given) == {"u1": "missing_file"}
    push(Home(place / "home"), Options(given.dataset, given.root, remote=remote))
    answer = pull(Home(place / "other"), Options(given.dataset, str(tmp_path / "nowhere"), remote=remote))
    assert answer["missing"] == {} and answer["objects"] > 0


def test_an_unreadable_file_or_folder_costs_its_rows_is_never_final_and_is_read_once_it_can_be(other_place):
    listed(other_place, GOOD, "mute.wav", "shut/in.wav")
    (other_place / "corpus" / "mute.wav").chmod(0)
    (other_place / "corpus" / "shut").chmod(0o700)
    stranger = Stranger(other_place / "home")
    given = ["--dataset", str(other_place / "my.toml"), "--root", str(other_place / "corpus")]
    first, errors, pushed = stranger.affectory(
        ["extract", *given, "--workers", "0"],
        ["errors", *given],
        ["push", *given, "--remote", f"file://{other_place / 'remote'}"],
    )
    assert first.code == 0 and errors.err.count("io_error") == 2
    assert "Not pushed, since not final: audio_opensmile" in pushed.said
    (other_place / "corpus" / "mute.wav").chmod(0o644)
    (other_place / "corpus" / "shut").chmod(0o755)
    [then] = stranger.affectory(["extract", *given, "--workers", "0", "--json"])
    assert then.code == 0 and '"failed": {}' in then.out
