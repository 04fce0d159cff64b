"""Reads a recipe, a TOML file.

All errors of a recipe are reported at once, each with its file and line, and with the closest known name if a name is
unknown.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline import plugins
from pipeline.cache import keys
from pipeline.cache.weights import LOCK, Weights
from pipeline.corpus.fit_scope import OWN
from pipeline.corpus.recipe import Dataset, Recipe, Selection, WrittenRoot
from pipeline.corpus.recipe_stages import Builder, build, find_plugin, note_errors
from pipeline.corpus.recipe_text import RecipeText
from pipeline.errors import InputError, closest
from pipeline.reader import Reader
from pipeline.stage import Modality, Stage

RECIPES = Path(plugins.__file__).parents[1] / "manifests"
LONGEST_NAME = 40
"""The longest part, in characters, of a recipe's file name that the names of its files at home begin with."""
TABLES = ("dataset", "features", "train")


def recipe_path(dataset: str) -> Path:
    """The file of a recipe, given by a path that ends in .toml or by its name in manifests/."""
    return Path(dataset) if dataset.endswith(".toml") else RECIPES / f"{dataset}.toml"


def home_name(path: Path) -> str:
    """The name of a recipe's files and folders at home, which no other recipe has.

    A recipe in manifests/ keeps its plain name. For one elsewhere, the start of a digest of its path is added, as in
    `my-3f9a1c2b`: two recipes `my.toml` in two folders share neither history nor runs nor reports. The same holds for a
    name that is too long or has characters other than letters, digits, `_`, `.` and `-`; these become `_`.
    """
    folder = path.parent.resolve()
    plain = re.sub(r"[^\w.-]", "_", path.stem).lstrip(".")[:LONGEST_NAME]
    if folder == RECIPES.resolve() and plain == path.stem:
        return plain
    return f"{plain or 'recipe'}-{keys.digest('recipe', str(folder / path.name))[:8]}"


def written_root(recipe: Path, text: str) -> WrittenRoot:
    """The root of a recipe's corpus, from the recipe's path and the `root` in it."""
    return WrittenRoot(recipe.stem, home_name(recipe), text)


def read_recipe(
    path: Path,
    *,
    root: str = "",
    changes: Sequence[str] = (),
    memory: Path,
    home: Path,
    elsewhere: Mapping[str, str] | None = None,
) -> Recipe:
    """Reads and checks a recipe.

    root: overrides the corpus root. changes: `table.key=value`, each with a TOML value. memory: the file that remembers
    digests of local weights; published weights are those that the lock file beside the recipe pins. elsewhere: the
    digests, by name, of weights on another machine whose manifest can take the place of the corpus, which then need not
    be here. Raises InputError with every error of the recipe.
    """
    text, tables = _opened(path, changes)
    dataset = _dataset(text, tables)
    features = _features(Builder(text, memory, Weights.read(path.with_name(LOCK)), elsewhere or {}), tables)
    train = _train(text, tables)
    find = partial(WrittenRoot.find, home=home, argument=root, needed=elsewhere is None)
    recipe = _recipe(text, dataset, find, features=features, train=train) if dataset else None
    text.finish()
    assert recipe is not None
    return recipe


def check_train(path: Path, train: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises InputError with every setting in a recipe's `[train.<model>]` that its model or the training loop refuses.

    `read_recipe` does not check these settings, since the models import torch, which takes longer than a whole plan.
    """
    if train:
        from pipeline.corpus.recipe_training import problems

        text = RecipeText(path)
        for name, section in train.items():
            for where, message in problems(name, section):
                text.error(["train", name, *where], message)
        text.finish()


def read_stages(path: Path, *, changes: Sequence[str] = (), memory: Path) -> list[Stage]:
    """Every stage of a recipe, upstream ones included, as written: no pin is applied, and no corpus is needed.

    Raises InputError with every error of the recipe's features.
    """
    text, tables = _opened(path, changes)
    features = _features(Builder(text, memory, Weights(), {}), tables)
    text.finish()
    parts = [node for sets in features.values() for selection in sets.values() for node in selection.parts]
    return [node.stage for part in parts for node in part.walk()]


def _opened(path: Path, changes: Sequence[str]) -> tuple[RecipeText, dict[str, Any]]:
    """The recipe's text and tables; unknown tables are noted. Raises InputError if there is no such file."""
    if not path.exists():
        known = [file.stem for file in path.parent.glob("*.toml")]
        raise InputError(f"no recipe {path}: {closest(path.stem, known)}")
    text = RecipeText(path)
    tables = _tables(text, changes)
    for name in tables.keys() - set(TABLES):
        text.error([name], closest(name, TABLES))
    return text, tables


def _tables(text: RecipeText, changes: Sequence[str]) -> dict[str, Any]:
    try:
        tables = tomllib.loads(text.text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{text.path}: {error}") from error
    for change in changes:
        _apply(tables, change)
    return tables


def _apply(tables: dict[str, Any], change: str) -> None:
    name, equals, written = change.partition("=")
    *parents, key = name.strip().split(".")
    if not equals:
        raise InputError(f"--set {change}: expected table.key=value")
    table = tables
    for parent in parents:
        if not isinstance(table.get(parent), dict):
            raise InputError(f"--set {change}: no table {parent!r}; {closest(parent, table)}")
        table = table[parent]
    try:
        table[key] = tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        table[key] = written


def _features(builder: Builder, tables: Mapping[str, Any]) -> dict[str, Mapping[Modality, Selection]]:
    sets = builder.text.table(["features"], tables.get("features", {}))
    return {name: builder.features(name, table) for name, table in (sets or {}).items()}


def _train(text: RecipeText, tables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each model, as written."""
    sections = text.table(["train"], tables.get("train", {})) or {}
    for name in sections.keys() - set(plugins.names("models")):
        text.error(["train", name], f"no such model: {closest(name, plugins.names('models'))}")
    return {name: text.table(["train", name], section) or {} for name, section in sections.items()}


def _dataset(text: RecipeText, tables: Mapping[str, Any]) -> Dataset | None:
    table = text.table(["dataset"], tables.get("dataset", {}))
    try:
        return Dataset.model_validate(table or {})
    except ValidationError as error:
        note_errors(text, ["dataset"], error)
        return None


def _recipe(
    text: RecipeText,
    dataset: Dataset,
    find: Callable[[WrittenRoot], Path],
    *,
    features: Mapping[str, Mapping[Modality, Selection]],
    train: Mapping[str, Mapping[str, Any]],
) -> Recipe | None:
    """The recipe; None if its root, reader or labels are wrong, which is noted. find: finds the corpus here."""
    written = written_root(text.path, dataset.root)
    root = text.checked(["dataset", "root"], lambda: find(written))
    reader = _reader(text, dataset)
    labels = text.checked(["dataset", "labels"], lambda: reader.protocol(dataset.labels)) if reader else None
    own_folds = _own_folds(text, dataset.folds)
    if root is None or reader is None or labels is None:
        return None
    return Recipe(
        name=written.name,
        home_name=written.home_name,
        reader=reader,
        root=root,
        written_root=written,
        labels=labels,
        label_protocol=dataset.labels,
        protocol=dataset.protocol or (OWN if own_folds else "official"),
        own_folds=own_folds,
        max_failed=dataset.max_failed,
        crossfit=dataset.crossfit,
        features=features,
        train=train,
    )


def _own_folds(text: RecipeText, written: str) -> Path | None:
    """The file of the team's own folds, whose path is relative to the recipe; None if the recipe names no file."""
    if not written:
        return None
    path = text.path.parent / Path(os.path.expandvars(written)).expanduser()
    if not path.is_file():
        text.error(["dataset", "folds"], f"no file {path}")
    return path


def _reader(text: RecipeText, dataset: Dataset) -> Reader | None:
    kind = find_plugin(text, ["dataset", "reader"], "manifests", dataset.reader, Reader)
    options = dataset.model_extra or {}
    reader: Reader | None = kind and build(text, ["dataset"], kind, options, Dataset.model_fields)
    return reader
