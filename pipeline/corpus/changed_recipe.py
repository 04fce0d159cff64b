"""Writes a recipe with some of its values changed, and all else as its authors wrote it, comments included."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from pipeline.cache.atomic import publish
from pipeline.cache.weights import LOCK
from pipeline.corpus.recipe import Recipe
from pipeline.corpus.recipe_file import parsed_change
from pipeline.corpus.recipe_text import read_text
from pipeline.corpus.release_file import released
from pipeline.errors import InputError


def write_changed(path: Path, recipe: Recipe, changes: Sequence[str], folder: Path) -> Path:
    """Writes the recipe of `path` under its own name into a folder, with the pins of weights that lie beside it.

    recipe: as it was read, whose corpus and folds the new file names by their absolute paths if the old one said no
    root. changes: `table.key=value`, as for `read_recipe`. Raises InputError for a release, which holds no such file.
    """
    if released(path):
        raise InputError(f"{path} is a release: only a recipe can be written anew")
    values = dict(map(parsed_change, changes))
    document = tomlkit.parse(read_text(path))
    dataset: Any = document["dataset"]
    if not dataset.get("root"):
        values.setdefault("dataset.root", str(recipe.root))
    if recipe.own_folds is not None:
        values["dataset.folds"] = str(recipe.own_folds.absolute())
    for name, value in values.items():
        _set(document, name, value)
    folder.mkdir(parents=True, exist_ok=True)
    if (pins := path.with_name(LOCK)).exists():
        shutil.copyfile(pins, folder / LOCK)
    written = folder / path.name
    publish(written, tomlkit.dumps(document))
    return written


def _set(document: Any, name: str, value: Any) -> None:
    *parents, key = name.split(".")
    table = document
    try:
        for parent in parents:
            if parent not in table:
                table[parent] = tomlkit.table()
            table = table[parent]
        table[key] = list(value) if isinstance(value, tuple) else value
    except (TOMLKitError, TypeError, KeyError) as error:
        raise InputError(f"{name} cannot be set in this recipe: {error}") from error


def as_changes(values: Mapping[str, Any]) -> list[str]:
    """Values by name as changes of a recipe, `table.key=value`, each value as TOML writes it."""
    return [f"{name}={tomlkit.item(value).as_string()}" for name, value in values.items()]
