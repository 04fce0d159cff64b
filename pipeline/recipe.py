"""The recipe: a TOML file that says which corpus, which stages with which parameters, and how to train.

All errors of a recipe are reported at once, each with its file and line, unknown names with the closest known one.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from pipeline import keys, plugins
from pipeline.errors import InputError, closest
from pipeline.reader import Labels, Reader
from pipeline.source import Source
from pipeline.stage import RAW, Modality, Stage

Modes = Literal["pad", "sample", "broadcast"]


class Alignment(BaseModel):
    """How a modality reaches its L steps; `auto` is the 99th percentile of the train part's lengths (X2)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    mode: Modes
    length: int | Literal["auto"] = "auto"

    @field_validator("length")
    @classmethod
    def _has_a_step(cls, length: int | str) -> int | str:
        if length != "auto" and int(length) < 1:
            raise ValueError(f"at least one step is needed, got {length}")
        return length


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

    @field_validator("crossfit")
    @classmethod
    def _leaves_rows_to_learn_from(cls, parts: int) -> int:
        if parts == 1:
            raise ValueError("one part leaves no rows to learn from: 0 for none, else at least 2")
        return parts


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
    data, sets, train = (source.table([name], tree.get(name, {})) for name in ("dataset", "features", "train"))
    features = {name: build.features(name, table) for name, table in (sets or {}).items()}
    recipe = _dataset(source, path.stem, data or {}, root, home, features, train or {})
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
    place = source.checked(["dataset", "root"], lambda: corpus_root(name, root, data.root, home))
    reader = _reader(source, data)
    if reader is None:
        return None
    labels = source.checked(["dataset", "labels"], lambda: reader.protocol(data.labels))
    if place is None or labels is None:
        return None
    return Recipe(
        name, reader, place, labels, data.labels, data.protocol, data.max_failed, data.crossfit, features, train
    )


def _reader(source: Source, data: Dataset) -> Reader | None:
    kind = _plugin(source, ["dataset", "reader"], "manifests", data.reader, Reader)
    built: Reader | None = kind and _build(source, ["dataset"], kind, data.model_extra or {}, Dataset.model_fields)
    return built


def _plugin(source: Source, where: list[str], package: str, name: str, kind: type[Any]) -> Any:
    return source.checked(where, lambda: plugins.find(package, name, kind))


def corpus_root(name: str, argument: str, written: str, home: Path) -> Path:
    """Where the corpus lies: the argument, else `<NAME>_ROOT`, else what the recipe says, else `raw/<name>` at home."""
    place = (
        argument or os.environ.get(f"{name.upper()}_ROOT") or os.path.expandvars(written) or str(home / "raw" / name)
    )
    if "$" in place:
        raise InputError(f"{place} is not set: set it, or give ROOT=/path/to/the/corpus")
    return Path(place).expanduser().absolute()


@dataclass
class _Builder:
    source: Source
    memory: Path

    def features(self, name: str, table: Any) -> dict[Modality, Selection]:
        """The selection of each modality of a feature set, but for those with errors."""
        found: dict[Modality, Selection] = {}
        tables: dict[Any, Any] = self.source.table(["features", name], table) or {}
        for modality, each in tables.items():
            selection = self.selection(["features", name, modality], modality, each)
            if selection is not None:
                found[modality] = selection
        return found

    def selection(self, where: list[str], modality: Modality, given: Any) -> Selection | None:
        if modality not in RAW.values():
            self.source.error(where, closest(modality, RAW.values()))
            return None
        table = self.source.table(where, given)
        if table is None:
            return None
        params = dict(table)
        align = self.align([*where, "align"], params.pop("align", {}))
        nodes = [self.node(where, part) for part in self.parts(where, params)]
        for node in nodes:
            if node and node.stage.modality != modality:
                self.source.error(where, f"{node.name} is a stage of {node.stage.modality}")
        return None if align is None else Selection(tuple(node for node in nodes if node), align)

    def align(self, where: list[str], table: Any) -> Alignment | None:
        try:
            return Alignment.model_validate(table)
        except ValidationError as error:
            _note(self.source, where, error)
            return None

    def parts(self, where: list[str], params: dict[str, Any]) -> list[Any]:
        """The stages of a modality: what `concat` lists, else the table itself."""
        if "concat" not in params:
            return [params]
        parts = params.pop("concat")
        for name in params:
            self.source.error([*where, name], "beside concat only align can stand: parameters belong to its stages")
        if not isinstance(parts, list) or not parts:
            self.source.error([*where, "concat"], f"expected a list of stages, got {parts!r}")
            return []
        return parts

    def node(self, where: list[str], given: Any) -> Node | None:
        """The stage of a table, with those it stands on; None where something is wrong with it, which is noted."""
        table = self.source.table(where, given)
        if table is None:
            return None
        params = {k: os.path.expandvars(v) if isinstance(v, str) else v for k, v in table.items()}
        name, below = str(params.pop("stage", "")), params.pop("input", {})
        kind: type[Stage] | None = _plugin(self.source, [*where, "stage"], "stages", name, Stage)
        if kind is None:
            return None
        stage = _build(self.source, where, kind, params)
        inputs = self.inputs([*where, "input"], kind.inputs, below)
        if stage is None or any(i is None for i in inputs):
            return None
        try:
            return self._node(name, stage, tuple(i for i in inputs if i is not None))
        except ValueError as error:  # not a number, or infinite: neither has a key
            self.source.error(where, str(error))
            return None

    def inputs(self, where: list[str], names: Sequence[str], given: Any) -> list[Node | str | None]:
        """What a stage stands on: raw kinds by name, stages with the parameters given for them."""
        tables = self.source.table(where, given) or {}
        for unknown in tables.keys() - set(names):
            self.source.error([*where, unknown], closest(unknown, names))
        return [name if name in RAW else self.upstream([*where, name], name, tables.get(name, {})) for name in names]

    def upstream(self, where: list[str], name: str, given: Any) -> Node | None:
        table = self.source.table(where, given)
        return None if table is None else self.node(where, {**table, "stage": name})

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


def _build(
    source: Source, where: list[str], kind: type[Any], params: Mapping[str, Any], others: Iterable[str] = ()
) -> Any:
    """An instance of a plug-in's dataclass, its parameters checked; None where an error was noted.

    others: names known beside the parameters, for the messages.
    """
    known = {f.name for f in fields(kind)}
    unknown = sorted(params.keys() - known)
    for name in unknown:
        source.error([*where, name], f"no such parameter: {closest(name, {*known, *others})}")
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
