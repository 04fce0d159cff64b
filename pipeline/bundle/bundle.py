"""A bundle that is open: its files are checked, and its stages are those that this machine would run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.bundle.contents import METRICS, RECIPE, STATES, Contents, opened, read_contents
from pipeline.bundle.differences import DECODING, described, differences
from pipeline.bundle.probe import check_probe
from pipeline.corpus.recipe import Alignment, Node, Selection
from pipeline.corpus.recipe_file import read_features
from pipeline.errors import InputError
from pipeline.model import MODALITIES, Model
from pipeline.stage import Modality, Target
from pipeline.train.model_file import CARD, load_model


@dataclass(frozen=True)
class Bundle:
    """An open bundle.

    folder: of its files. selections: of each modality that the model reads, brought to the steps that it learned from.
    model: ready to predict.
    """

    folder: Path
    contents: Contents
    selections: Mapping[Modality, Selection]
    model: Model

    @cached_property
    def card(self) -> dict[str, Any]:
        """The card of the model, see `model_file`."""
        card: dict[str, Any] = json.loads((self.folder / CARD).read_text())
        return card

    @property
    def kind(self) -> type[Model]:
        """The class of the model."""
        return type(self.model)

    @property
    def target(self) -> Target:
        """What the model predicts."""
        return Target(self.card["target"]["task"], tuple(self.card["target"]["classes"]))

    @property
    def metrics(self) -> dict[str, Any]:
        """The scores of the model, see `make`."""
        metrics: dict[str, Any] = json.loads((self.folder / METRICS).read_text())
        return metrics

    @property
    def indispensable(self) -> tuple[Modality, ...]:
        """The modalities without which the model can't predict: all, unless training hid some, or the first decides."""
        read: tuple[Modality, ...] = tuple(m for m in MODALITIES if m in self.selections)  # type: ignore[misc]
        if self.card["training"].get("modality_dropout"):
            return ()
        return read[:1] if self.kind.first_decides else read

    def state(self, node: Node) -> Path:
        """The file of a stage's fitted state."""
        return self.folder / state_name(node)


def state_name(node: Node) -> str:
    """The name in a bundle of a stage's fitted state."""
    return f"{STATES}/{node.digest}.safetensors"


@contextmanager
def open_bundle(path: Path, memory: Path) -> Iterator[Bundle]:
    """Opens the folder or the zip of a bundle.

    memory: the file that remembers digests of local weights. Raises InputError if a file of it was changed, if its
    stages, their parameters or their libraries are not those of this machine, naming what differs, and if the model's
    code gives other predictions.
    """
    with opened(path) as folder:
        contents = read_contents(folder)
        selections = _selections(folder, contents, memory)
        _check_same(contents, selections)
        model = load_model(folder)
        check_probe(model, contents.probe)
        yield Bundle(folder, contents, selections, model)


def _selections(folder: Path, contents: Contents, memory: Path) -> dict[Modality, Selection]:
    """The selections of the recipe for the modalities that the model reads, aligned as it learned from."""
    read = read_features(folder / RECIPE, contents.features, changes=contents.changes, memory=memory)
    align = json.loads((folder / CARD).read_text())["align"]
    found = {m: replace(s, align=Alignment(**align[m])) for m, s in read.items() if m in contents.stages}
    if lacking := sorted(contents.stages.keys() - found.keys()):
        raise InputError(f"{folder / RECIPE} has no {', '.join(lacking)} in [features.{contents.features}]")
    return found


def _check_same(contents: Contents, selections: Mapping[Modality, Selection]) -> None:
    lines = [
        f"{kind}: decoding version {contents.decoding.get(kind)} in the bundle, {version} here"
        for kind, version in DECODING.items()
        if contents.decoding.get(kind) != version
    ]
    lines += differences(contents.stages, described(selections))
    if not lines:
        lines = [f"{name} is missing" for name in _states(selections) if name not in contents.files]
    if lines:
        raise InputError(
            "the features of this bundle are others than this machine would compute:\n"
            + "\n".join(lines)
            + "\nInstall what it was made with, or bundle the run again here"
        )


def _states(selections: Mapping[Modality, Selection]) -> Iterator[str]:
    nodes = (node for s in selections.values() for part in s.parts for node in part.walk())
    return (state_name(node) for node in nodes if node.stage.fitted)
