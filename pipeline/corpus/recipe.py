"""A recipe once it is read and checked: its corpus, its stages with their parameters, and its training settings."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.cache import keys
from pipeline.cache.weights import pinned_digest
from pipeline.errors import InputError, closest
from pipeline.reader import Labels, Reader
from pipeline.stage import Modality, Stage
from pipeline.written_path import written_path

Mode = Literal["pad", "sample", "broadcast"]


@dataclass(frozen=True)
class Align:
    """How a modality is brought to `length` steps. Raises InputError for an unknown mode or a length below 1."""

    mode: Mode
    length: int

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise InputError(f"no align mode {self.mode!r}: {closest(self.mode, get_args(Mode))}")
        if self.length < 1:
            raise InputError(f"align.length must be at least 1, got {self.length}")

    @property
    def stored(self) -> int:
        """Steps kept on disk: for `broadcast` one vector, which is the same at all L steps (X6)."""
        return 1 if self.mode == "broadcast" else self.length

    def cropped(self, steps: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """How many of `steps` (any shape) are cut off at the end. Only `pad` cuts: `sample` spans the whole track."""
        return np.maximum(steps - self.length, 0) if self.mode == "pad" else np.zeros_like(steps)


class Dataset(BaseModel):
    """The `[dataset]` table. Keys that are not fields here are options of the reader."""

    model_config = ConfigDict(extra="allow")
    reader: str
    root: str = ""
    labels: str
    protocol: str = ""
    folds: str = ""
    max_failed: float = Field(0.05, ge=0, le=1)
    crossfit: int = Field(0, ge=0)
    limit: int = Field(0, ge=0)

    @field_validator("crossfit")
    @classmethod
    def _leaves_rows_to_learn_from(cls, parts: int) -> int:
        if parts == 1:
            raise ValueError("one part leaves no rows to learn from: 0 for none, else at least 2")
        return parts


class Alignment(BaseModel):
    """How a recipe has a modality brought to L steps; `auto` is the 99th percentile of the train lengths (X2)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    mode: Mode
    length: int | Literal["auto"] = "auto"

    @field_validator("length")
    @classmethod
    def _has_a_step(cls, length: int | str) -> int | str:
        if length != "auto" and int(length) < 1:
            raise ValueError(f"at least one step is needed, got {length}")
        return length


@dataclass(frozen=True)
class Node:
    """A stage with the parameters that enter its key, its inputs (raw kinds by name, or stages), and its digest.

    written: the text in the recipe of each parameter that names a variable of the environment, such as `$WORD2VEC`.
    family: the digest of the stage without the versions of its libraries. founding: the versions with which rows of
    this digest were first computed, by library; those installed here may be others that give the same values.
    """

    name: str
    stage: Stage
    params: Mapping[str, Any]
    inputs: tuple[Node | str, ...]
    digest: str
    written: Mapping[str, str] = field(default_factory=dict)
    family: str = ""
    founding: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        stage: Stage,
        params: Mapping[str, Any],
        inputs: tuple[Node | str, ...],
        founding: Mapping[str, str] | None = None,
        written: Mapping[str, str] | None = None,
    ) -> Node:
        """A stage with its digests; without `founding`, as the installed versions found it."""
        family = keys.family(stage, params, [i.digest if isinstance(i, Node) else i for i in inputs])
        versions = dict(keys.installed(stage) if founding is None else founding)
        digest = keys.stage_digest(family, versions)
        return cls(name, stage, params, inputs, digest, written or {}, family, versions)

    def founded(self, versions: Mapping[str, str]) -> Node:
        """The stage as these versions of its libraries founded it."""
        return Node.of(self.name, self.stage, self.params, self.inputs, versions, self.written)

    @property
    def random(self) -> bool:
        """Whether its network starts from random weights."""
        return "random" in self.params.values()

    @property
    def upstream(self) -> tuple[Node, ...]:
        """The inputs that are stages themselves."""
        return tuple(node for node in self.inputs if isinstance(node, Node))

    @property
    def depth(self) -> int:
        """The number of stages on the longest way from the raw input to this stage, which counts too."""
        return 1 + max((node.depth for node in self.upstream), default=0)

    def walk(self) -> Iterator[Node]:
        """This stage, then every stage upstream of it."""
        yield self
        for node in self.upstream:
            yield from node.walk()

    @property
    def scoped(self) -> bool:
        """True if its rows depend on a fit, its own or one upstream, and so on a fold."""
        return self.stage.fitted or any(node.scoped for node in self.upstream)

    @property
    def local_weights(self) -> dict[str, str]:
        """The digest of each local file or folder of weights that the stage reads, by its path."""
        named = [(getattr(self.stage, name), self.params[name]) for name in self._sources]
        return {name: digest for name, digest in named if digest != name and not pinned_digest(name)}

    @property
    def written_weights(self) -> dict[str, str]:
        """The same by the name in the recipe, which a machine without these weights knows too."""
        paths = {getattr(self.stage, name): self.written.get(name, getattr(self.stage, name)) for name in self._sources}
        return {paths[path]: digest for path, digest in self.local_weights.items()}

    @property
    def _sources(self) -> list[str]:
        return [f.name for f in fields(self.stage) if f.metadata.get("source")]

    def describe(self) -> dict[str, Any]:
        """The recipe of this stage as JSON: a readable form of what its digest is made of."""
        inputs = [node.describe() if isinstance(node, Node) else node for node in self.inputs]
        context = {"dialogue": asdict(self.stage.dialogue)} if self.stage.dialogue else {}
        return {
            "stage": self.name,
            "version": self.stage.version,
            "params": dict(self.params),
            "libraries": dict(self.founding),
            "inputs": inputs,
            **context,
            "digest": self.digest,
        }

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self.digest == other.digest


@dataclass(frozen=True)
class Selection:
    """The input of a model from one modality: stages concatenated step by step, then aligned to L steps."""

    parts: tuple[Node, ...]
    align: Alignment


@dataclass(frozen=True)
class WrittenRoot:
    """The root of a corpus as its recipe writes it, by which each machine finds its own copy.

    name, home_name: see `Recipe`. text: the `root` in the recipe, which may name variables of the environment.
    followed: False for a release, of which neither the text nor a variable leads to a folder.
    """

    name: str
    home_name: str
    text: str
    followed: bool = True

    def find(self, home: Path, argument: str = "", *, needed: bool = True) -> Path:
        """The argument, else the variable `<NAME>_ROOT`, else what the recipe says, else `raw/<home_name>` at home.

        Raises InputError if what the recipe says names a variable that is not set, and the corpus is `needed`.
        """
        at_home = home / "raw" / self.home_name
        written = os.environ.get(f"{self.name.upper()}_ROOT") or os.path.expandvars(self.text) if self.followed else ""
        root = argument or written or str(at_home)
        if "$" in root and needed:
            raise InputError(
                f"{root} is not set: set it, or give ROOT=/path/to/the/corpus; `affectory fetch` says how to get it"
            )
        return at_home.absolute() if "$" in root else written_path(root).absolute()


@dataclass(frozen=True)
class Recipe:
    """A checked recipe.

    name: the recipe file's, which people and remotes know it by. home_name: that of its files at home, which no other
    recipe has. own_folds: a team's list of folds, which the protocol `own` reads. rank: more feature sets, which
    `affectory rank` alone extracts. limit: see `Corpus.limited`.
    """

    name: str
    home_name: str
    reader: Reader
    root: Path
    written_root: WrittenRoot
    labels: Labels
    label_protocol: str
    protocol: str
    own_folds: Path | None
    max_failed: float
    crossfit: int
    features: Mapping[str, Mapping[Modality, Selection]]
    train: Mapping[str, Mapping[str, Any]]
    rank: Mapping[Modality, tuple[Selection, ...]] = field(default_factory=dict)
    limit: int = 0


def distinct_names(nodes: Iterable[Node]) -> dict[Node, str]:
    """A label for each stage: its name, followed by the start of its digest if several stages have this name."""
    distinct = dict.fromkeys(nodes)
    counts = Counter(node.name for node in distinct)
    return {node: node.name if counts[node.name] == 1 else f"{node.name} {node.digest[:6]}" for node in distinct}


def nodes(recipe: Recipe, modality: str | None = None, only: Sequence[str] = ()) -> Iterator[Node]:
    """Each stage that the recipe's feature sets name, once, without the stages upstream.

    modality, only: restrict the stages to one modality, and to these feature sets.
    """
    chosen = [sets for name, sets in recipe.features.items() if not only or name in only]
    selections = [selection for sets in chosen for m, selection in sets.items() if modality in (None, m)]
    yield from dict.fromkeys(node for selection in selections for node in selection.parts)


def every_node(recipe: Recipe) -> list[Node]:
    """Each stage of a recipe, once: those that its feature sets name, and those upstream."""
    return list(dict.fromkeys(node for asked in nodes(recipe) for node in asked.walk()))


def random_weights(asked: Iterable[Node]) -> list[str]:
    """The names of the stages, and of those upstream, whose networks start from random weights."""
    return sorted({node.name for one in asked for node in one.walk() if node.random})
