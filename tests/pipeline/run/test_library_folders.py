"""Libraries that keep files on disk have a folder for them, whoever the user is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.run import library_folders
from tests.stranger import USER, Stranger, possible

VARIABLES = ("NUMBA_CACHE_DIR", "MPLCONFIGDIR", "HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
PROVIDES = "import pipeline.run.library_folders as it, pipeline.cache.home as at; it.provide(at.Home().root)"


@pytest.fixture
def nobody(monkeypatch, tmp_path) -> Path:
    """The Affectory home of a user whose own home cannot be made, with packages that lie in a read-only folder."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.setattr(library_folders, "_beside_source", lambda package: iter([Path("/dev/null/packages")]))
    return tmp_path / "home"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the stranger owns."""
    if not possible():
        pytest.skip("this user may not become another one")
    folder = Path(tempfile.mkdtemp())
    os.chown(folder, USER, USER)
    yield folder
    shutil.rmtree(folder)


def test_without_a_users_home_every_library_has_a_folder_in_the_affectory_home(nobody):
    given = library_folders.provide(nobody)
    assert sorted(given) == ["HF_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TORCH_HOME"]
    assert all(folder.is_relative_to(nobody) for folder in given.values())
    assert {name: os.environ[name] for name in given} == {name: str(folder) for name, folder in given.items()}


def test_a_variable_that_the_user_set_and_a_folder_that_can_be_written_are_left_alone(nobody, monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert library_folders.provide(nobody) == {} and os.environ["NUMBA_CACHE_DIR"] == "/mine"


def test_models_in_a_folder_that_can_only_be_read_are_still_found(nobody, monkeypatch, tmp_path):
    (tmp_path / "huggingface").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library_folders, "writable", lambda folder: folder == nobody)
    assert sorted(library_folders.provide(nobody)) == ["MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TORCH_HOME"]


def test_compiled_code_is_kept_where_no_other_user_can_write(nobody):
    ours = library_folders.provide(nobody)["NUMBA_CACHE_DIR"]
    assert ours.stat().st_mode & 0o777 == 0o700
    ours.chmod(0o777)
    os.environ.pop("NUMBA_CACHE_DIR")
    other = library_folders.provide(nobody)["NUMBA_CACHE_DIR"]
    assert other != ours and other.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def no_temporary(monkeypatch):
    """No folder takes temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/dev/null/tmp"])
    monkeypatch.setenv("TMPDIR", "/dev/null/mine")


def test_without_any_folder_to_write_to_nothing_is_set(nobody, no_temporary):
    assert library_folders.provide(Path("/dev/null/home")) == {}


def test_temporary_files_go_to_the_affectory_home_if_no_other_folder_takes_them(nobody, no_temporary):
    given = library_folders.provide(nobody)["TMPDIR"]
    assert given.parent == nobody / "libraries" and os.environ["TMPDIR"] == tempfile.gettempdir() == str(given)


def test_a_user_without_home_or_rights_can_import_what_numba_compiles(place):
    packages = place / "packages"
    packages.mkdir(mode=0o755)
    (packages / "compiled.py").write_text("import numba\n@numba.njit(cache=True)\ndef one(): return 1\n")
    stranger = Stranger(place / "home")
    bare = stranger.python("-c", "import compiled", folder=packages)
    assert "cannot cache function" in bare.stderr
    given = stranger.python("-c", f"{PROVIDES}; import compiled", folder=packages)
    assert given.returncode == 0, given.stderr
    assert (place / "home" / "libraries" / f"numba-{USER}").stat().st_uid == USER


@pytest.mark.slow
def test_a_user_without_home_or_rights_extracts_mfcc(place, small):
    """numba compiles all anew, which takes most of a minute."""
    shutil.copytree(small.root, place / "corpus")
    (place / "my.toml").write_text(small.recipe)
    line = ["extract", "--dataset", place / "my.toml", "--root", place / "corpus", "--features", "sound"]
    [ended] = Stranger(place / "home").affectory([*line, "--workers", "1"])
    assert ended.code == 0 and "stage_error" not in ended.err
