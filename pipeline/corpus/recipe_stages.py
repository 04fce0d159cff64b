"""Builds the stages that a recipe's tables ask for, and notes what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline import plugins
from pipeline.cache import keys
from pipeline.cache.weights import Weights, pinned_digest
from pipeline.corpus.recipe import Alignment, Node, Selection
from pipeline.corpus.recipe_text import Source
from pipeline.errors import InputError, closest
from pipeline.stage import RAW, Modality, Stage


@dataclass
class Builder:
    """Stages from tables.

    memory: remembers digests of local weights. weights: the pins of published ones. elsewhere: the digests of weights
    that lie on another machine, by the name the recipe gives them.
    """

    source: Source
    memory: Path
    weights: Weights
    elsewhere: Mapping[str, str]

    def features(self, name: str, table: Any) -> dict[Modality, Selection]:
        """The selection of each modality of a feature set, but for those with errors."""
        found: dict[Modality, Selection] = {}
        tables: dict[Any, Any] = self.source.table(["features", name], table) or {}
        for modality, each in tables.items():
            selection = self._selection(["features", name, modality], modality, each)
            if selection is not None:
                found[modality] = selection
        return found

    def _selection(self, where: list[str], modality: Modality, given: Any) -> Selection | None:
        if modality not in RAW.values():
            self.source.error(where, closest(modality, RAW.values()))
            return None
        table = self.source.table(where, given)
        if table is None:
            return None
        params = dict(table)
        align = self._align([*where, "align"], params.pop("align", {}))
        nodes = [node for part in self._parts(where, params) if (node := self._node(where, part))]
        for node in nodes:
            self._fits(where, node, modality, align)
        return None if align is None else Selection(tuple(nodes), align)

    def _fits(self, where: list[str], node: Node, modality: Modality, align: Alignment | None) -> None:
        """Notes a stage of another modality, and one that never gives as many steps as `align` asks for."""
        if node.stage.modality != modality:
            self.source.error(where, f"{node.name} is a stage of {node.stage.modality}")
        steps = node.stage.steps
        if align and align.mode != "broadcast" and align.length != "auto" and steps and align.length > steps:
            wrong = (
                f"{align.length} steps, but {node.name} gives {steps}: make this at most {steps}, or have it give more"
            )
            self.source.error([*where, "align", "length"], wrong)

    def _align(self, where: list[str], table: Any) -> Alignment | None:
        try:
            return Alignment.model_validate(table)
        except ValidationError as error:
            note(self.source, where, error)
            return None

    def _parts(self, where: list[str], params: dict[str, Any]) -> list[Any]:
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

    def _node(self, where: list[str], given: Any) -> Node | None:
        """The stage of a table, with those it stands on; None where something is wrong with it, which is noted."""
        table = self.source.table(where, given)
        if table is None:
            return None
        params = {k: os.path.expandvars(v) if isinstance(v, str) else v for k, v in table.items()}
        name, below = str(params.pop("stage", "")), params.pop("input", {})
        kind: type[Stage] | None = plugin(self.source, [*where, "stage"], "stages", name, Stage)
        if kind is None:
            return None
        stage = build(self.source, where, kind, params)
        inputs = self._inputs([*where, "input"], kind.inputs, below)
        if stage is None or any(i is None for i in inputs):
            return None
        try:
            return self._keyed(name, stage, tuple(i for i in inputs if i is not None))
        except ValueError as error:  # not a number, or infinite: neither has a key
            self.source.error(where, str(error))
            return None

    def _inputs(self, where: list[str], names: Sequence[str], given: Any) -> list[Node | str | None]:
        """What a stage stands on: raw kinds by name, stages with the parameters given for them."""
        tables = self.source.table(where, given) or {}
        for unknown in tables.keys() - set(names):
            self.source.error([*where, unknown], closest(unknown, names))
        return [name if name in RAW else self._upstream([*where, name], name, tables.get(name, {})) for name in names]

    def _upstream(self, where: list[str], name: str, given: Any) -> Node | None:
        table = self.source.table(where, given)
        return None if table is None else self._node(where, {**table, "stage": name})

    def _keyed(self, name: str, stage: Stage, inputs: tuple[Node | str, ...]) -> Node:
        stage = self.weights.applied(stage)
        params = keys.stage_params(stage, self._digest)
        upstream = [i.digest if isinstance(i, Node) else i for i in inputs]
        return Node(name, stage, params, inputs, keys.stage_digest(stage, params, upstream))

    def _digest(self, name: str) -> str:
        """What stands in the key for a name of weights: the digest of pinned or local ones, else the name itself."""
        from pipeline.media.files import media_digests

        if pinned := pinned_digest(name):
            return pinned
        path = Path(name).expanduser()
        if not name or not path.exists():
            return self.elsewhere.get(name, name)
        return keys.file_digest(path) if path.is_dir() else media_digests([path], self.memory)[path]


def plugin(source: Source, where: list[str], package: str, name: str, kind: type[Any]) -> Any:
    """The plug-in of that name and kind; None where there is none, which is noted."""
    return source.checked(where, lambda: plugins.find(package, name, kind))


def build(
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
        return note(source, where, error)
    except (ValueError, InputError) as error:
        return source.error(where, str(error))
    return None if unknown else built


def note(source: Source, where: Sequence[str], error: ValidationError) -> None:
    """Notes every error of a table at its own line."""
    for problem in error.errors():
        source.error([*where, *map(str, problem["loc"])], problem["msg"])
