"""The recipe: a TOML file that says which corpus, which stages with which parameters, and how to train.

All errors of a recipe are reported at once, each with its file and line, unknown names with the closest known one.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline import keys, plugins
from pipeline.errors import InputError, closest
from pipeline.reader import Labels, Reader
from pipeline.stage import RAW, Modality, Stage

Modes = Literal["pad", "sample", "broadcast"]


class Alignment(BaseModel):
    """How a modality reaches its L steps; `auto` is the 99th percentile of the train part's lengths (X2)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    mode: Modes
    length: int | Literal["auto"] = Field("auto")


@dataclass(frozen=True)
class Node:
    """A stage with its parameters and the stages it stands on. `params` is what enters the key."""

    name: str
    stage: Stage
    params: Mapping[str, Any]
    inputs: tuple[Node | str, ...]
    digest: str

    @property
    def upstream(self) -> tuple[Node, ...]:
        """The inputs that are stages themselves."""
        return tuple(node for node in self.inputs if isinstance(node, Node))

    @property
    def scoped(self) -> bool:
        """True where its rows depend on a fit, its own or one upstream, and so on a fold."""
        return self.stage.fitted or any(node.scoped for node in self.upstream)

    def describe(self) -> dict[str, Any]:
        """The recipe of this stage as JSON: what its key holds, readable."""
        versions = {name: keys.library_version(name) for name in self.stage.libraries}
        inputs = [node.describe() if isinstance(node, Node) else node for node in self.inputs]
        return {
            "stage": self.name,
            "version": self.stage.version,
            "params": dict(self.params),
            "libraries": versions,
            "inputs": inputs,
            "digest": self.digest,
        }

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self.digest == other.digest


@dataclass(frozen=True)
class Selection:
    """What one model eats of one modality: stages concatenated step by step, then aligned to L."""

    parts: tuple[Node, ...]
    align: Alignment


@dataclass(frozen=True)
class Recipe:
    """A checked recipe."""

    name: str
    reader: Reader
    root: Path
    labels: Labels
    label_protocol: str
    protocol: str
    max_failed: float
    crossfit: int
    features: Mapping[str, Mapping[Modality, Selection]]
    train: Mapping[str, Mapping[str, Any]]


class Dataset(BaseModel):
    """The `[dataset]` table; what it does not know goes to the reader."""

    model_config = ConfigDict(extra="allow")
    reader: str
    root: str = ""
    labels: str
    protocol: str = "official"
    max_failed: float = Field(0.05, ge=0, le=1)
    crossfit: int = Field(0, ge=0)


class Source:
    """The text of a recipe: finds the line of a table's key for error messages, and collects the errors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = path.read_text().splitlines()
        self.errors: list[str] = []

    def error(self, table: Sequence[str], message: str) -> None:
        """Notes an error at the deepest part of `table` that has a line."""
        self.errors.append(f"{self.path}:{self.line(table)}: {'.'.join(table)}: {message}")

    def line(self, table: Sequence[str]) -> int:
        """The line, from 1, of the longest prefix of `table` that stands in the file."""
        number, head = 1, ""
        for i, text in enumerate(self.lines, 1):
            stripped = text.strip()
            if stripped.startswith("["):
                head = stripped.strip("[]")
            name = head if stripped.startswith("[") else f"{head}.{stripped.partition('=')[0].strip()}"
            if ".".join(table) == name or ".".join(table).startswith(name + "."):
                number = i
        return number

    def finish(self) -> None:
        """Raises InputError with all errors noted."""
        if self.errors:
            raise InputError("\n".join(self.errors))


def load(path: Path, *, root: str = "", changes: Sequence[str] = (), memory: Path, home: Path) -> Recipe:
    """Reads and checks a recipe.

    `root` overrides the corpus root; `changes` are `table.key=value` with a TOML value. `memory` remembers digests
    of local weights. Raises InputError with every error of the recipe.
    """
    if not path.exists():
        known = [p.stem for p in path.parent.glob("*.toml")]
        raise InputError(f"no recipe {path}: {closest(path.stem, known)}")
    source = Source(path)
    tree = _tree(path, changes)
    for name in tree.keys() - {"dataset", "features", "train"}:
        source.error([name], closest(name, ["dataset", "features", "train"]))
    build = _Builder(source, memory)
    features = {
        name: {m: s for m in table if (s := build.selection(name, m, table[m])) is not None}
        for name, table in tree.get("features", {}).items()
    }
    recipe = _dataset(source, path.stem, tree.get("dataset", {}), root, home, features, tree.get("train", {}))
    source.finish()
    assert recipe is not None
    return recipe


def _tree(path: Path, changes: Sequence[str]) -> dict[str, Any]:
    try:
        tree = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: {error}") from error
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
    source: Source, name: str, table: dict[str, Any], root: str, home: Path, features: Any, train: Any
) -> Recipe | None:
    try:
        data = Dataset.model_validate(table)
    except ValidationError as error:
        _note(source, ["dataset"], error)
        return None
    reader = _reader(source, data)
    if reader is None:
        return None
    try:
        labels = reader.protocol(data.labels)
        place = corpus_root(name, root, data.root, home)
    except InputError as error:
        source.error(["dataset", "labels" if "protocol" in str(error) else "root"], str(error))
        return None
    return Recipe(
        name, reader, place, labels, data.labels, data.protocol, data.max_failed, data.crossfit, features, train
    )


def _reader(source: Source, data: Dataset) -> Reader | None:
    try:
        kind = plugins.find("manifests", data.reader, Reader)  # type: ignore[type-abstract]
    except InputError as error:
        source.error(["dataset", "reader"], str(error))
        return None
    built: Reader | None = _build(source, ["dataset"], kind, data.model_extra or {})
    return built


def corpus_root(name: str, argument: str, written: str, home: Path) -> Path:
    """Where the corpus lies: the argument, else `<NAME>_ROOT`, else what the recipe says, else `raw/<name>` at home."""
    place = (
        argument or os.environ.get(f"{name.upper()}_ROOT") or os.path.expandvars(written) or str(home / "raw" / name)
    )
    if "$" in place:
        raise InputError(f"{place} is not set: set it, or give ROOT=/path/to/the/corpus")
    return Path(place).expanduser()


@dataclass
class _Builder:
    source: Source
    memory: Path

    def selection(self, features: str, modality: Modality, table: dict[str, Any]) -> Selection | None:
        where = ["features", features, modality]
        if modality not in RAW.values():
            self.source.error(where, closest(modality, RAW.values()))
            return None
        try:
            align = Alignment.model_validate(table.get("align", {}))
        except ValidationError as error:
            _note(self.source, [*where, "align"], error)
            return None
        parts = table["concat"] if "concat" in table else [{k: v for k, v in table.items() if k != "align"}]
        nodes = [self.node(where, part) for part in parts]
        for node in nodes:
            if node and node.stage.modality != modality:
                self.source.error(where, f"{node.name} is a stage of {node.stage.modality}")
        return Selection(tuple(node for node in nodes if node), align)

    def node(self, where: list[str], table: dict[str, Any]) -> Node | None:
        params = dict(table)
        name, given = params.pop("stage", None), params.pop("input", {})
        params = {k: os.path.expandvars(v) if isinstance(v, str) else v for k, v in params.items()}
        try:
            kind = plugins.find("stages", str(name), Stage)  # type: ignore[type-abstract]
        except InputError as error:
            self.source.error([*where, "stage"], str(error))
            return None
        stage = _build(self.source, where, kind, params)
        for unknown in given.keys() - set(kind.inputs):
            self.source.error([*where, "input", unknown], closest(unknown, kind.inputs))
        inputs = [i if i in RAW else self.node(where, {"stage": i, **given.get(i, {})}) for i in kind.inputs]
        if stage is None or any(i is None for i in inputs):
            return None
        return self._node(str(name), stage, tuple(i for i in inputs if i is not None))

    def _node(self, name: str, stage: Stage, inputs: tuple[Node | str, ...]) -> Node:
        params = keys.stage_params(stage, self._digest)
        upstream = [i.digest if isinstance(i, Node) else i for i in inputs]
        return Node(name, stage, params, inputs, keys.stage_digest(stage, params, upstream))

    def _digest(self, name: str) -> str:
        from pipeline.manifest import media_digests

        path = Path(name).expanduser()
        if not name or not path.exists():
            return name
        return keys.file_digest(path) if path.is_dir() else media_digests([path], self.memory)[path]


def _build(source: Source, where: list[str], kind: type[Any], params: Mapping[str, Any]) -> Any:
    """An instance of a plug-in's dataclass, its parameters checked; None where an error was noted."""
    known = {f.name for f in fields(kind)}
    unknown = sorted(params.keys() - known)
    for name in unknown:
        source.error([*where, name], f"no such parameter: {closest(name, known)}")
    try:
        built = TypeAdapter(kind).validate_python({k: v for k, v in params.items() if k in known})
        if isinstance(built, Stage):
            built.check()
    except ValidationError as error:
        return _note(source, where, error)
    except (ValueError, InputError) as error:
        return source.error(where, str(error))
    return None if unknown else built


def _note(source: Source, where: Sequence[str], error: ValidationError) -> None:
    for problem in error.errors():
        source.error([*where, *map(str, problem["loc"])], problem["msg"])


def nodes(recipe: Recipe, modality: str | None = None, only: Sequence[str] = ()) -> Iterator[Node]:
    """Each stage that the recipe asks for by name, once; of one modality, or of some feature sets, where given."""
    seen = set()
    for name, selections in recipe.features.items():
        for selection in (s for m, s in selections.items() if modality in (None, m) and (not only or name in only)):
            for node in selection.parts:
                if node.digest not in seen:
                    seen.add(node.digest)
                    yield node
