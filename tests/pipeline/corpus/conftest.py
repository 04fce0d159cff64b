"""Fixtures that read a text as a recipe."""

from __future__ import annotations

import re

import pytest

from pipeline.corpus.recipe import Recipe
from pipeline.corpus.recipe_file import read_recipe
from pipeline.errors import InputError


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Reads a text as the recipe `corpus`, with nothing set in the environment."""
    monkeypatch.delenv("CORPUS_ROOT", raising=False)

    def read(text: str, *changes: str, root: str = "") -> Recipe:
        path = tmp_path / "corpus.toml"
        path.write_text(text)
        return read_recipe(path, root=root, changes=changes, memory=tmp_path / "memory", home=tmp_path / "home")

    return read


@pytest.fixture
def errors(load):
    """The errors of a recipe: (line, message)."""

    def read(text: str, *changes: str) -> list[tuple[int, str]]:
        with pytest.raises(InputError) as caught:
            load(text, *changes)
        found = [re.fullmatch(r".*corpus\.toml:(\d+): (.*)", line) for line in str(caught.value).splitlines()]
        return [(int(each[1]), each[2]) for each in found if each]

    return read
