"""Builds the stages that a recipe's tables ask for, and notes the errors in these tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline import plugins
from pipeline.cache import keys
from pipeline.cache.weights import Weights, pinned_digest
from pipeline.corpus.recipe import Alignment, Node, Selection
from pipeline.corpus.recipe_text import RecipeText
from pipeline.errors import InputError, closest
from pipeline.stage import ID, RAW, Modality, Stage
from pipeline.utterance import UNREADABLE
from pipeline.written_path import expanded, written_path


@dataclass
class Builder:
    """Builds stages from a recipe's tables; what is wrong with a table is noted in `text`.

    memory: the file that remembers digests of local weights. weights: the pins of published ones. elsewhere: the
    digests of weights that are on another machine, by the name that the recipe gives them. here: False for the recipe
    of a release, whose weights are all elsewhere: no variable and no path in it is looked up. variables: those that
    have another value than in the environment.
    """

    text: RecipeText
    memory: Path
    weights: Weights
    elsewhere: Mapping[str, str]
    here: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)

    def features(self, name: str, value: Any) -> dict[Modality, Selection]:
        """The selection of each modality of a feature set; modalities with errors are left out."""
        selections: dict[Modality, Selection] = {}
        tables: dict[Any, Any] = self.text.table(["features", name], value) or {}
        for modality, table in tables.items():
            selection = self._selection(["features", name, modality], modality, table)
            if selection is not None:
                selections[modality] = selection
        return selections

    def ranked(self, modality: Modality, value: Any) -> tuple[Selection, ...]:
        """The selections in a list of `[rank]`; they are padded if they say nothing else."""
        where = ["rank", modality]
        if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
            self.text.error(where, f"expected a list of tables, each as in a feature set, got {value!r}")
            return ()
        found = [self._selection(where, modality, {"align": {"mode": "pad"}, **table}) for table in value]
        return tuple(selection for selection in found if selection is not None)

    def _selection(self, where: list[str], modality: Modality, value: Any) -> Selection | None:
        if modality not in RAW.values():
            self.text.error(where, closest(modality, set(RAW.values())))
            return None
        table = self.text.table(where, value)
        if table is None:
            return None
        params = dict(table)
        align = self._align([*where, "align"], params.pop("align", {}))
        nodes = [node for part in self._parts(where, params) if (node := self._node(where, part))]
        for node in nodes:
            self._check_fit(where, node, modality, align)
        return None if align is None else Selection(tuple(nodes), align)

    def _check_fit(self, where: list[str], node: Node, modality: Modality, align: Alignment | None) -> None:
        """Notes a stage of another modality, and one that never gives as many steps as `align` asks for."""
        if node.stage.modality != modality:
            self.text.error(where, f"{node.name} is a stage of {node.stage.modality}")
        steps = node.stage.steps
        if align and align.mode != "broadcast" and align.length != "auto" and steps and align.length > steps:
            message = (
                f"{align.length} steps, but {node.name} gives {steps}: make this at most {steps}, or have it give more"
            )
            self.text.error([*where, "align", "length"], message)

    def _align(self, where: list[str], table: Any) -> Alignment | None:
        try:
            return Alignment.model_validate(table)
        except ValidationError as error:
            note_errors(self.text, where, error)
            return None

    def _parts(self, where: list[str], params: dict[str, Any]) -> list[Any]:
        """The tables of a modality's stages: those in the list `concat`, or else the modality's own table."""
        if "concat" not in params:
            return [params]
        parts = params.pop("concat")
        for name in params:
            self.text.error([*where, name], "beside concat only align is allowed: parameters belong to its stages")
        if not isinstance(parts, list) or not parts:
            self.text.error([*where, "concat"], f"expected a list of stages, got {parts!r}")
            return []
        return parts

    def _node(self, where: list[str], value: Any) -> Node | None:
        """The stage of a table, with the stages upstream of it; None if there is an error, which is noted."""
        table = self.text.table(where, value)
        if table is None:
            return None
        params = {k: expanded(v, self.variables) if isinstance(v, str) and self.here else v for k, v in table.items()}
        written = {k: v for k, v in table.items() if isinstance(v, str) and params[k] != v}
        name, upstream = str(params.pop("stage", "")), params.pop("input", {})
        kind: type[Stage] | None = find_plugin(self.text, [*where, "stage"], "stages", name, Stage)
        if kind is None:
            return None
        stage = build(self.text, where, kind, params, here=self.here and not self._left_behind(table))
        inputs = self._inputs([*where, "input"], stage.reads if stage else kind.inputs, upstream)
        if stage is None or any(source is None for source in inputs):
            return None
        try:
            return self._keyed(name, stage, tuple(source for source in inputs if source is not None), written)
        except ValueError as error:  # NaN and infinity have no key
            self.text.error(where, str(error))
            return None

    def _left_behind(self, table: Mapping[str, Any]) -> bool:
        """True if a stage names local weights of the team whose manifest was pulled, which are not here."""
        names = [name for name in table.values() if isinstance(name, str) and name in self.elsewhere]
        return any(not written_path(expanded(name, self.variables)).exists() for name in names)

    def _inputs(self, where: list[str], names: Sequence[str], value: Any) -> list[Node | str | None]:
        """The inputs of a stage: raw kinds by name, and stages with the parameters that the table gives them."""
        tables = self.text.table(where, value) or {}
        for unknown in tables.keys() - set(names):
            self.text.error([*where, unknown], closest(unknown, names))
        raw = (*RAW, ID)
        return [name if name in raw else self._upstream([*where, name], name, tables.get(name, {})) for name in names]

    def _upstream(self, where: list[str], name: str, value: Any) -> Node | None:
        table = self.text.table(where, value)
        return None if table is None else self._node(where, {**table, "stage": name})

    def _keyed(self, name: str, stage: Stage, inputs: tuple[Node | str, ...], written: Mapping[str, str]) -> Node:
        stage = self.weights.applied(stage)
        names = {getattr(stage, parameter): text for parameter, text in written.items()}
        params = keys.stage_params(stage, lambda source: self._weights_digest(source, names.get(source, source)))
        return Node.of(name, stage, params, inputs, written=written)

    def _weights_digest(self, name: str, written: str) -> str:
        """What a key holds for weights of this name: their digest if they are pinned or local, else the name itself.

        written: the name in the recipe, by which weights that are elsewhere are known.
        """
        from pipeline.media.files import media_digests

        if pinned := pinned_digest(name):
            return pinned
        path = written_path(name)
        if not name or not self.here or not path.exists():
            return self.elsewhere.get(written, name)
        digest = keys.file_digest(path) if path.is_dir() else media_digests([path], self.memory)[path]
        if digest == UNREADABLE:
            raise InputError(f"the weights {name} cannot be read: look at their permissions")
        return digest


def find_plugin(text: RecipeText, where: list[str], package: str, name: str, kind: type[Any]) -> Any:
    """The plug-in of that name and kind; None if there is none, which is noted."""
    return text.checked(where, lambda: plugins.find(package, name, kind))


def build(
    text: RecipeText,
    where: list[str],
    kind: type[Any],
    params: Mapping[str, Any],
    others: Iterable[str] = (),
    *,
    here: bool = True,
) -> Any:
    """An instance of a plug-in's dataclass with checked parameters; None if there is an error, which is noted.

    others: names that the table may hold beside the parameters; messages on unknown names suggest them too. here: False
    for a stage that will not run here, which is not asked whether its weights are at hand.
    """
    known = {f.name for f in fields(kind)}
    unknown = sorted(params.keys() - known)
    for name in unknown:
        text.error([*where, name], f"no such parameter: {closest(name, {*known, *others})}")
    try:
        plugin = TypeAdapter(kind).validate_python({k: v for k, v in params.items() if k in known})
        if here and isinstance(plugin, Stage):
            plugin.check()
    except ValidationError as error:
        return note_errors(text, where, error)
    except (ValueError, InputError) as error:
        return text.error(where, str(error))
    return None if unknown else plugin


def note_errors(text: RecipeText, where: Sequence[str], error: ValidationError) -> None:
    """Notes every error of a table at its own line."""
    for problem in error.errors():
        text.error([*where, *map(str, problem["loc"])], problem["msg"])
