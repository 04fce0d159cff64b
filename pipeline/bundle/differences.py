"""What differs between the stages that a bundle's model learned from and those that this machine would run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.corpus.recipe import Node, Selection
from pipeline.media import audio, video
from pipeline.stage import Modality

DECODING = {"audio": audio.VERSION, "video": video.VERSION}
"""The versions of the code that decodes sound and pictures."""

Described = Mapping[Modality, tuple[Mapping[str, Any], ...]]


def founded_here(node: Node) -> Node:
    """The stage, and those upstream of it, as the installed versions of their libraries found it."""
    inputs = tuple(founded_here(source) if isinstance(source, Node) else source for source in node.inputs)
    return Node.of(node.name, node.stage, node.params, inputs, None, node.written)


def described(selections: Mapping[Modality, Selection]) -> dict[Modality, tuple[Mapping[str, Any], ...]]:
    """modality -> its stages as JSON, see `Node.describe`."""
    return {m: tuple(json.loads(json.dumps(node.describe())) for node in s.parts) for m, s in selections.items()}


def differences(was: Described, now: Described) -> Iterator[str]:
    """A line for each difference: a stage, its version, a parameter, a library."""
    for modality in sorted({*was, *now}):
        then, here = was.get(modality, ()), now.get(modality, ())
        if [stage.get("stage") for stage in then] != [stage.get("stage") for stage in here]:
            yield f"{modality}: other stages"
            continue
        for pair in zip(then, here, strict=True):
            yield from _of_stage(*pair)


def _of_stage(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    name = was["stage"]
    yield from _changed(f"{name}: version", was.get("version"), now.get("version"))
    for kind in ("params", "libraries", "dialogue"):
        then, here = was.get(kind) or {}, now.get(kind) or {}
        for key in sorted({*then, *here}):
            yield from _changed(f"{name}: {key}", then.get(key), here.get(key))
    sources = was.get("inputs", []), now.get("inputs", [])
    if [_name(source) for source in sources[0]] != [_name(source) for source in sources[1]]:
        yield f"{name}: other inputs"
        return
    for then, here in zip(*sources, strict=True):
        if isinstance(then, Mapping):
            yield from _of_stage(then, here)


def _name(source: Any) -> Any:
    return source.get("stage") if isinstance(source, Mapping) else source


def _changed(what: str, was: Any, now: Any) -> Iterator[str]:
    if was != now:
        yield f"{what} {_shown(was)} in the bundle, {_shown(now)} here"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)[:80]
