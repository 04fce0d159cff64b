"""MulG's Table 1 in the recipes: every value of a corpus's column, whether the recipe or the model states it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.corpus.recipe_file import RECIPES, read_recipe
from pipeline.corpus.recipe_training import model_class, resolve, split

TABLE = {
    "mosei": (50, 16, 1e-3, 40, 0.3, 0.1, 0.1),
    "mosi": (100, 128, 1e-3, 40, 0.2, 0.1, 0.1),
    "iemocap": (50, 32, 1e-3, 40, 0.3, 0.2, 0.1),
    "meld": (50, 32, 1e-3, 40, 0.3, 0.2, 0.1),  # not in the table: as IEMOCAP
}


@pytest.mark.parametrize("corpus", TABLE)
def test_a_recipe_trains_mulg_with_its_column_of_table_1(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORD2VEC", str(tmp_path / "vectors.bin"))
    memory, home = tmp_path / "memory", tmp_path / "home"
    recipe = read_recipe(RECIPES / f"{corpus}.toml", root=str(tmp_path), memory=memory, home=home)
    kind = model_class("mulg")
    model, loop = resolve(kind, *split(kind, recipe.train["mulg"]))
    blocks = {model.attn_dropout, model.relu_dropout, model.res_dropout}
    assert len(blocks) == 1
    found = (loop.epochs, loop.batch_size, loop.learning_rate, model.hidden, model.embed_dropout, *blocks)
    assert (*found, model.out_dropout) == TABLE[corpus]
