"""Reads a recipe: a TOML file, or the text in a release.

All errors of a recipe are reported at once, each with its file and line, and with the closest known name if a name is
unknown. A release may come from a remote, so a recipe in it leads nowhere on this machine: its root, its variables of
the environment and the names of its weights are not looked up, and its folds are those that the release holds.
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
from pipeline.corpus.recipe_text import RECIPES, RecipeText, read_text
from pipeline.corpus.release_file import Release, released
from pipeline.errors import InputError, closest
from pipeline.reader import Reader
from pipeline.stage import Modality, Stage
from pipeline.written_path import written_path

LONGEST_NAME = 40
"""The longest part, in characters, of a recipe's file name that the names of its files at home begin with."""
TABLES = ("dataset", "features", "train", "rank")


def recipe_path(dataset: str) -> Path:
    """The file of a recipe: a name in manifests/, or a path that ends in .toml, or in .json for a release."""
    return Path(dataset) if dataset.endswith((".toml", ".json")) else RECIPES / f"{dataset}.toml"


def home_name(path: Path) -> str:
    """The name of a recipe's files and folders at home, which no other recipe has.

    A recipe in manifests/ keeps its plain name. For one elsewhere, the start of a digest of its path is added, as in
    `my-3f9a1c2b`: two recipes `my.toml` in two folders share neither history nor runs nor reports. The same holds for a
    name that is too long or has characters other than letters, digits, `_`, `.` and `-`; these become `_`. For a
    release, the start of a digest of its content is added, so that it has one name wherever its file is.
    """
    if release := released(path):
        return f"{release.label}-{keys.digest('release', release.model_dump(mode='json'))[:8]}"
    folder = Path(os.path.realpath(path.parent))
    plain = re.sub(r"[^\w.-]", "_", path.stem).lstrip(".")[:LONGEST_NAME]
    if folder == RECIPES.resolve() and plain == path.stem:
        return plain
    return f"{plain or 'recipe'}-{keys.digest('recipe', str(folder / path.name))[:8]}"


def written_root(recipe: Path, text: str) -> WrittenRoot:
    """The root of a recipe's corpus, from the recipe's path and the `root` in it; a release has none."""
    release = released(recipe)
    return WrittenRoot(release.dataset if release else recipe.stem, home_name(recipe), text, followed=release is None)


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
    release = released(path)
    text, tables = _opened(path, changes, release)
    dataset = _dataset(text, tables)
    builder = _builder(text, memory, elsewhere, release)
    builder.variables = _root_variables(path, dataset, root)
    find = partial(WrittenRoot.find, home=home, argument=root, needed=elsewhere is None)
    features, train, rank = _features(builder, tables), _train(text, tables), _rank(builder, tables)
    recipe = _recipe(text, dataset, find, release, features=features, train=train, rank=rank) if dataset else None
    text.finish()
    assert recipe is not None
    return recipe


def check_train(path: Path, train: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises InputError with every setting in a recipe's `[train.<model>]` that its model or the training loop refuses.

    `read_recipe` does not check these settings, since the models import torch, which takes longer than a whole plan.
    """
    if train:
        from pipeline.corpus.recipe_training import problems

        text = _text(path, released(path))
        for name, section in train.items():
            for where, message in problems(name, section):
                text.error(["train", name, *where], message)
        text.finish()


def read_stages(path: Path, *, changes: Sequence[str] = (), memory: Path) -> list[Stage]:
    """Every stage of a recipe, upstream ones included, as written: no pin is applied, and no corpus is needed.

    Raises InputError with every error of the recipe's features, and for a release.
    """
    if released(path):
        raise InputError(f"{path} is a release: its features are computed already, so it needs no weights")
    text, tables = _opened(path, changes, None)
    builder = Builder(text, memory, Weights(), {})
    features, ranked = _features(builder, tables), _rank(builder, tables)
    text.finish()
    selections = [s for sets in features.values() for s in sets.values()] + [
        s for sets in ranked.values() for s in sets
    ]
    return [node.stage for selection in selections for part in selection.parts for node in part.walk()]


def read_features(path: Path, name: str, *, changes: Sequence[str] = (), memory: Path) -> Mapping[Modality, Selection]:
    """The selections of one feature set of a recipe, with the pins beside it; the corpus is not looked for.

    Raises InputError with every error in the feature set.
    """
    text, tables = _opened(path, changes, None)
    sets = text.table(["features"], tables.get("features", {})) or {}
    selections = _builder(text, memory, None, None).features(name, sets.get(name, {}))
    text.finish()
    return selections


def _opened(path: Path, changes: Sequence[str], release: Release | None) -> tuple[RecipeText, dict[str, Any]]:
    """The recipe's text and tables; unknown tables are noted. Raises InputError if there is no such file."""
    if not path.exists():
        known = [file.stem for file in path.parent.glob("*.toml")]
        hint = f": {closest(path.stem, known)}" if known else ""
        if path.parent != RECIPES:
            hint += f". A dataset is a recipe's path, such as /my/clips/clips.toml, or its name in {RECIPES}"
        raise InputError(f"no recipe {path.absolute()}{hint}")
    text = _text(path, release)
    tables = _tables(text, [*(release.changes if release else ()), *changes])
    for name in tables.keys() - set(TABLES):
        text.error([name], closest(name, TABLES))
    return text, tables


def _text(path: Path, release: Release | None) -> RecipeText:
    return RecipeText(path, release.text if release else read_text(path))


def _builder(text: RecipeText, memory: Path, elsewhere: Mapping[str, str] | None, release: Release | None) -> Builder:
    """Builds the stages with the pins beside the recipe, or with those of a release, which looks nothing up here."""
    if release:
        return Builder(text, memory, Weights(release.pins), release.weights, here=False)
    return Builder(text, memory, Weights.read(text.path.with_name(LOCK)), elsewhere or {})


def _root_variables(path: Path, dataset: Dataset | None, root: str) -> dict[str, str]:
    """The variables that lead to a corpus: `<NAME>_ROOT`, and the one that its recipe names as the root.

    The stages that name one, such as those of imported features, then read what the reader reads. root: the argument.
    """
    own = f"{path.stem.upper()}_ROOT"
    given = root or os.environ.get(own, "")
    named = re.fullmatch(r"\$\{?(\w+)\}?", dataset.root) if dataset else None
    return dict.fromkeys({own, named[1] if named else own}, str(written_path(given).absolute())) if given else {}


def _tables(text: RecipeText, changes: Sequence[str]) -> dict[str, Any]:
    try:
        tables = tomllib.loads(text.text)
    except (ValueError, RecursionError) as error:  # also for a number or a nesting that is too long
        raise InputError(f"{text.path}: {error}") from error
    for change in changes:
        _apply(tables, change)
    return tables


def parsed_change(change: str) -> tuple[str, Any]:
    """The name and the value of `table.key=value`; a value that is no TOML is a string. Raises InputError."""
    name, equals, written = change.partition("=")
    if not equals:
        raise InputError(f"--set {change}: expected table.key=value")
    try:
        return name.strip(), tomllib.loads(f"value = {written}")["value"]
    except (ValueError, RecursionError):
        return name.strip(), written


def _apply(tables: dict[str, Any], change: str) -> None:
    name, value = parsed_change(change)
    *parents, key = name.split(".")
    table = tables
    of_a_model = len(parents) == 2 and parents[0] == "train" and parents[1] in plugins.names("models")
    for parent in parents:
        if of_a_model:  # a recipe needs no table for a model whose defaults it takes
            table.setdefault(parent, {})
        if not isinstance(table.get(parent), dict):
            raise InputError(f"--set {change}: no table {parent!r}; {closest(parent, table)}")
        table = table[parent]
    table[key] = value


def _features(builder: Builder, tables: Mapping[str, Any]) -> dict[str, Mapping[Modality, Selection]]:
    sets = builder.text.table(["features"], tables.get("features", {}))
    return {name: builder.features(name, table) for name, table in (sets or {}).items()}


def _rank(builder: Builder, tables: Mapping[str, Any]) -> dict[Modality, tuple[Selection, ...]]:
    by_modality: dict[Any, Any] = builder.text.table(["rank"], tables.get("rank", {})) or {}
    return {modality: builder.ranked(modality, listed) for modality, listed in by_modality.items()}


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
    release: Release | None,
    *,
    features: Mapping[str, Mapping[Modality, Selection]],
    train: Mapping[str, Mapping[str, Any]],
    rank: Mapping[Modality, tuple[Selection, ...]],
) -> Recipe | None:
    """The recipe; None if its root, reader or labels are wrong, which is noted. find: finds the corpus here."""
    written = written_root(text.path, dataset.root)
    root = text.checked(["dataset", "root"], lambda: find(written))
    reader = _reader(text, dataset)
    labels = text.checked(["dataset", "labels"], lambda: reader.protocol(dataset.labels)) if reader else None
    own_folds = _own_folds(text, dataset.folds, release)
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
        rank=rank,
        limit=dataset.limit,
    )


def _own_folds(text: RecipeText, written: str, release: Release | None) -> Path | None:
    """The file of the team's own folds, whose path is relative to the recipe; None if the recipe names no file.

    A release holds them itself.
    """
    if not written:
        return None
    path = text.path if release else text.path.parent / written_path(written, variables=True)
    if release and not release.folds:
        text.error(["dataset", "folds"], "the release does not hold them")
    if not path.is_file():
        text.error(["dataset", "folds"], f"no file {path}")
    return path


def _reader(text: RecipeText, dataset: Dataset) -> Reader | None:
    kind = find_plugin(text, ["dataset", "reader"], "manifests", dataset.reader, Reader)
    options = dataset.model_extra or {}
    reader: Reader | None = kind and build(text, ["dataset"], kind, options, Dataset.model_fields)
    return reader
