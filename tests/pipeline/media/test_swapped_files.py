"""A remembered digest is never believed for other bytes, however alike the files are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from pipeline.cache import keys
from pipeline.errors import InputError
from pipeline.media import files
from pipeline.run.extraction import extract
from pipeline.run.stage_calls import check_weights
from stages.text_roberta import TextRoberta
from stages.text_word2vec import TextWord2vec
from stages.visual_resnet50 import VisualResnet50
from tests.clips import SOUND_SET, WORDS_SET, of, sounds, talk, write_sound, write_vectors

STAGE = "audio_mfcc"


@pytest.fixture
def heard(tmp_path):
    made = sounds(tmp_path)
    assert made.extract() == {STAGE: 24}
    return made


def keep_times(path: Path, change) -> None:
    """Changes a file in a way that keeps its name, its size and its time of writing."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def edit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[200:400] = bytes(200)
    path.write_bytes(data)


def swap(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    edit(other)
    other.replace(path)


@pytest.mark.parametrize("change", [edit, swap])
def test_forty_files_changed_with_kept_name_size_and_time_cost_their_forty_rows(tmp_path, change):
    lines = [
        {
            "utterance": f"u{n:02}",
            "dialogue": f"d{n // 4}",
            "turn": n,
            "split": "train",
            "mood": "",
            "audio": f"{n:02}.wav",
        }
        for n in range(40)
    ]
    (tmp_path / "corpus").mkdir()
    for n in range(40):
        write_sound(tmp_path / "corpus" / f"{n:02}.wav", 0.1, n)
    table = of(tmp_path, lines, SOUND_SET)
    assert table.extract() == {STAGE: 40}
    for n in range(40):
        keep_times(tmp_path / "corpus" / f"{n:02}.wav", change)
    assert table.extract() == {STAGE: 40}


def test_a_file_that_did_not_change_is_hashed_once(heard, monkeypatch):
    monkeypatch.setattr(keys, "file_digest", lambda path: pytest.fail(f"{path} is hashed again"))
    heard.session()


def test_the_digest_of_a_file_that_changes_while_it_is_hashed_is_not_remembered(tmp_path, monkeypatch):
    path, memo = tmp_path / "a.wav", tmp_path / "memo.sqlite"
    path.write_bytes(b"one")
    real = keys.file_digest

    def overwriting(name: Path) -> str:
        digest = real(name)
        path.write_bytes(b"two")
        return digest

    monkeypatch.setattr(keys, "file_digest", overwriting)
    first = files.media_digests([path], memo)[path]
    monkeypatch.setattr(keys, "file_digest", real)
    assert files.media_digests([path], memo)[path] != first


def test_a_file_that_is_truncated_while_it_is_hashed_does_not_kill_the_process(tmp_path):
    path = tmp_path / "long"
    program = (
        "import os, sys, threading, pathlib\n"
        "from pipeline.cache import keys\n"
        "path, stop = pathlib.Path(sys.argv[1]), threading.Event()\n"
        "def cut():\n"
        "    while not stop.is_set():\n"
        "        os.truncate(path, 0); os.truncate(path, 2 ** 28)\n"
        "path.touch(); os.truncate(path, 2 ** 28)\n"
        "thread = threading.Thread(target=cut); thread.start()\n"
        "for _ in range(5): keys.file_digest(path)\n"
        "stop.set(); thread.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("size", [0, 1, keys.BLOCK - 1, keys.BLOCK, keys.BLOCK + 1])
def test_a_digest_is_that_of_all_bytes_whatever_the_size_of_a_block(tmp_path, size):
    data = np.random.default_rng(size).bytes(size)
    (tmp_path / "file").write_bytes(data)
    assert keys.file_digest(tmp_path / "file") == blake3(data).hexdigest()


def test_caches_and_time_stamps_in_a_folder_of_weights_do_not_enter_its_digest(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    before = keys.file_digest(model)
    noted = model / ".cache" / "huggingface" / "download" / "config.json.metadata"
    noted.parent.mkdir(parents=True)
    noted.write_text("f" * 40 + "\n1795737077.5\n")
    (model / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (model / "__pycache__").mkdir()
    (model / "__pycache__" / "m.pyc").write_bytes(b"code")
    os.utime(model / "config.json", (0, 0))
    assert keys.file_digest(model) == before
    (model / "vocab.json").write_text("{}")
    assert keys.file_digest(model) != before


# --- weights ---------------------------------------------------------------------------------------------------


def test_weights_that_change_between_plan_and_load_are_an_error_and_cache_nothing(tmp_path):
    table = talk(tmp_path, dialogues=4, turns=2, sets=WORDS_SET)
    session = table.session()
    keep_times(tmp_path / "words.txt", lambda path: path.write_text(path.read_text()[:-6] + "00000\n"))
    [node] = {rows.node for rows in session.catalogue}
    with pytest.raises(InputError, match="not what it was when the run was planned"):
        check_weights(node)

    with pytest.raises(InputError, match="not what it was when the run was planned"):
        extract(session)
    assert list(table.session().catalogue.store.records()) == []


def test_weights_that_change_while_they_are_loaded_are_an_error(tmp_path, monkeypatch):
    table = talk(tmp_path, dialogues=4, turns=2, sets=WORDS_SET)
    real = TextWord2vec.load

    def load(self, device):
        write_vectors(tmp_path / "words.txt", seed=1)
        return real(self, device)

    monkeypatch.setattr(TextWord2vec, "load", load)
    with pytest.raises(InputError, match="not what it was when the run was planned"):
        extract(table.session())
    assert list(table.session().catalogue.store.records()) == []


@pytest.mark.parametrize("name", ["random", "IMAGENET1K_V2", "FacebookAI"])
def test_a_folder_in_the_working_directory_named_as_a_parameter_changes_no_key(tmp_path, monkeypatch, name):
    stages = [VisualResnet50(weights="random"), VisualResnet50(weights="IMAGENET1K_V2"), TextRoberta(init="random")]
    before = [keys.stage_params(stage, digest_of) for stage in stages]
    (tmp_path / name).mkdir()
    (tmp_path / name / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.chdir(tmp_path)
    assert [keys.stage_params(stage, digest_of) for stage in stages] == before


def digest_of(source: str) -> str:
    return keys.file_digest(Path(source)) if Path(source).exists() else source
