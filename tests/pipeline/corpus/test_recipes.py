"""The recipes that come with the project."""

from __future__ import annotations

import pytest

from pipeline.corpus.recipe_file import RECIPES, check_train, read_recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_sound(path, tmp_path, monkeypatch):
    monkeypatch.setenv("WORD2VEC", str(tmp_path / "vectors.bin"))
    read = read_recipe(path, root=str(tmp_path), memory=tmp_path / "memory", home=tmp_path / "home")
    check_train(path, read.train)
    assert read.features and all(read.features.values())


@pytest.mark.parametrize("name", ["ch_sims", "ch_sims_v2", "demo", "iemocap", "meld", "mosei", "mosi", "table"])
def test_the_recipes_of_corpora_with_films_feed_both_papers_models(name, tmp_path, monkeypatch):
    monkeypatch.setenv("WORD2VEC", str(tmp_path / "vectors.bin"))
    path = RECIPES / f"{name}.toml"
    read = read_recipe(path, root=str(tmp_path), memory=tmp_path / "memory", home=tmp_path / "home")
    assert {"hjcag", "mulg"} <= read.features.keys()
    assert all(read.features[model].keys() == {"text", "audio", "visual"} for model in ("hjcag", "mulg"))
