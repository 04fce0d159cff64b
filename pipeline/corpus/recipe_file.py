"""Reads a recipe, a TOML file.

All its errors are reported at once, each with its file and line, unknown names with the closest known one.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline import plugins
from pipeline.cache import keys
from pipeline.cache.weights import LOCK, Weights
from pipeline.corpus.fit_scope import OWN
from pipeline.corpus.recipe import CorpusRoot, Recipe, Selection
from pipeline.corpus.recipe_stages import Builder, build, note, plugin
from pipeline.corpus.recipe_text import Source
from pipeline.errors import InputError, closest
from pipeline.reader import Reader
from pipeline.stage import Modality, Stage

RECIPES = Path(plugins.__file__).parents[1] / "manifests"
LONGEST_NAME = 40
"""Characters of a recipe's name that its files at home are named by."""


class Dataset(BaseModel):
    """The `[dataset]` table; what it does not know goes to the reader."""

    model_config = ConfigDict(extra="allow")
    reader: str
    root: str = ""
    labels: str
    protocol: str = ""
    folds: str = ""
    max_failed: float = Field(0.05, ge=0, le=1)
    crossfit: int = Field(0, ge=0)

    @field_validator("crossfit")
    @classmethod
    def _leaves_rows_to_learn_from(cls, parts: int) -> int:
        if parts == 1:
            raise ValueError("one part leaves no rows to learn from: 0 for none, else at least 2")
        return parts


def recipe_path(dataset: str) -> Path:
    """The file of a recipe: a path that ends in .toml, or a name in manifests/."""
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

    `root` overrides the corpus root; `changes` are `table.key=value` with a TOML value. `memory` remembers digests
    of local weights; published ones are those that the lock file beside the recipe pins. `elsewhere` is given where
    another machine's manifest can stand for the corpus: the digests of its local weights, by name. Raises InputError
    with every error of the recipe.
    """
    source, tree = _opened(path, changes)
    data = source.table(["dataset"], tree.get("dataset", {}))
    features = _features(Builder(source, memory, Weights.read(path.with_name(LOCK)), elsewhere or {}), tree)
    recipe = _dataset(source, data or {}, root, home, features, _train(source, tree), elsewhere is None)
    source.finish()
    assert recipe is not None
    return recipe


def check_train(path: Path, train: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises InputError with every name and value in a recipe's `[train.<model>]` that its model or the loop refuses.

    `read_recipe` leaves that out: it takes the models, which import torch, and a plan has no time for it.
    """
    if train:
        from pipeline.corpus.recipe_training import problems

        source = Source(path)
        for name, section in train.items():
            for where, said in problems(name, section):
                source.error(["train", name, *where], said)
        source.finish()


def read_stages(path: Path, *, changes: Sequence[str] = (), memory: Path) -> list[Stage]:
    """Every stage of a recipe, also those that others stand on, as they are written: no pin is applied and no corpus
    needed. Raises InputError with every error of the recipe's features."""
    source, tree = _opened(path, changes)
    features = _features(Builder(source, memory, Weights(), {}), tree)
    source.finish()
    parts = [node for selections in features.values() for each in selections.values() for node in each.parts]
    return [node.stage for part in parts for node in part.walk()]


def _opened(path: Path, changes: Sequence[str]) -> tuple[Source, dict[str, Any]]:
    """The recipe's text and tables, unknown tables noted. Raises InputError where there is no such file."""
    if not path.exists():
        known = [p.stem for p in path.parent.glob("*.toml")]
        raise InputError(f"no recipe {path}: {closest(path.stem, known)}")
    source = Source(path)
    tree = _tree(source, changes)
    for name in tree.keys() - {"dataset", "features", "train"}:
        source.error([name], closest(name, ["dataset", "features", "train"]))
    return source, tree


def _features(builder: Builder, tree: Mapping[str, Any]) -> dict[str, Mapping[Modality, Selection]]:
    sets = builder.source.table(["features"], tree.get("features", {}))
    return {name: builder.features(name, table) for name, table in (sets or {}).items()}


def _train(source: Source, tree: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each model, as they are written."""
    sections = source.table(["train"], tree.get("train", {})) or {}
    for name in sections.keys() - set(plugins.names("models")):
        source.error(["train", name], f"no such model: {closest(name, plugins.names('models'))}")
    return {name: source.table(["train", name], section) or {} for name, section in sections.items()}


def _tree(source: Source, changes: Sequence[str]) -> dict[str, Any]:
    try:
        tree = tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source.path}: {error}") from error
    for change in changes:
        _apply(tree, change)
    return tree


def _apply(tree: dict[str, Any], change: str) -> None:
    name, found, text = change.partition("=")
    *tables, key = name.strip().split(".")
    if not found:
        raise InputError(f"--set {change}: expected table.key=value")
    place = tree
    for table in tables:
        if not isinstance(place.get(table), dict):
            raise InputError(f"--set {change}: no table {table!r}; {closest(table, place)}")
        place = place[table]
    try:
        place[key] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        place[key] = text


def _dataset(
    source: Source, table: dict[str, Any], root: str, home: Path, features: Any, train: Any, needed: bool
) -> Recipe | None:
    try:
        data = Dataset.model_validate(table)
    except ValidationError as error:
        note(source, ["dataset"], error)
        return None
    place = corpus_root(source.path, data.root)
    found = source.checked(["dataset", "root"], lambda: place.find(home, root, needed=needed))
    reader = _reader(source, data)
    if reader is None:
        return None
    labels = source.checked(["dataset", "labels"], lambda: reader.protocol(data.labels))
    listed = _listed(source, data.folds)
    if found is None or labels is None:
        return None
    return Recipe(
        name=place.name,
        home_name=place.home_name,
        reader=reader,
        root=found,
        corpus_root=place,
        labels=labels,
        label_protocol=data.labels,
        protocol=data.protocol or (OWN if listed else "official"),
        own_folds=listed,
        max_failed=data.max_failed,
        crossfit=data.crossfit,
        features=features,
        train=train,
    )


def _listed(source: Source, written: str) -> Path | None:
    """The team's own list of folds, relative to the recipe."""
    if not written:
        return None
    path = source.path.parent / Path(os.path.expandvars(written)).expanduser()
    if not path.is_file():
        source.error(["dataset", "folds"], f"no file {path}")
    return path


def _reader(source: Source, data: Dataset) -> Reader | None:
    kind = plugin(source, ["dataset", "reader"], "manifests", data.reader, Reader)
    built: Reader | None = kind and build(source, ["dataset"], kind, data.model_extra or {}, Dataset.model_fields)
    return built


def corpus_root(recipe: Path, written: str) -> CorpusRoot:
    """Where the corpus of a recipe lies; `written` is the `root` in the recipe."""
    return CorpusRoot(recipe.stem, home_name(recipe), written)
