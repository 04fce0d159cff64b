"""What the files of a recipe are called at home: no two recipes share them, whatever their files are called."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.cache.home import Home
from pipeline.corpus.open_corpus import Options, remember
from pipeline.corpus.recipe_file import LONGEST_NAME, RECIPES, home_name


def test_a_recipe_of_the_project_keeps_its_plain_name():
    assert home_name(RECIPES / "iemocap.toml") == "iemocap"


def test_a_recipe_elsewhere_has_a_name_that_its_path_makes_unique(tmp_path):
    names = {home_name(tmp_path / folder / "my.toml") for folder in ("a", "b")}
    assert len(names) == 2 and all(re.fullmatch(r"my-[0-9a-f]{8}", name) for name in names)


def test_a_recipe_elsewhere_never_takes_the_name_of_one_of_the_project(tmp_path):
    assert home_name(tmp_path / "iemocap.toml") != "iemocap"


def test_one_recipe_has_one_name_however_its_folder_is_written(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    monkeypatch.chdir(tmp_path)
    ways = ("folder/my.toml", "link/my.toml", "folder/../link/my.toml", f"{tmp_path}/folder/my.toml")
    assert len({home_name(Path(way)) for way in ways}) == 1


@pytest.mark.parametrize("stem", ["n" * 250, "ü" * 100, "..", ".hidden", "a b", "a\nb", "*", "x\udcff"])
def test_a_name_that_is_long_or_odd_becomes_one_short_name_of_a_file(stem):
    name = home_name(RECIPES / f"{stem}.toml")
    assert re.fullmatch(r"\w[\w.-]*-[0-9a-f]{8}", name)
    assert len(name) <= LONGEST_NAME + 9 and len(f"{name}.parquet".encode()) <= 255


def test_names_that_become_equal_without_their_odd_characters_stay_apart(tmp_path):
    assert len({home_name(tmp_path / f"{stem}.toml") for stem in ("a b", "a_b", "a*b", "n" * 90, "n" * 91)}) == 5


def test_a_recipe_extracted_last_is_found_again_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    home = Home(tmp_path / "home")
    remember(home, Options("my.toml", root="corpus", changes=("a=1",)))
    assert home.last() == (str(tmp_path / "one" / "my.toml"), str(tmp_path / "one" / "corpus"), ["a=1"])
    remember(home, Options("iemocap"))
    assert home.last() == ("iemocap", "", [])
