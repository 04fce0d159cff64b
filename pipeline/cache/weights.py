"""Published weights, pinned: a key then holds the digest of their bytes, and a stage loads the copy at home.

A source is what a recipe names, as the lock file lists it: `org/model@revision` of the hub, `torchvision/network/SET`,
or a URL. `affectory weights` fetches each, and notes it in `weights.lock.json` beside the recipe. With a pin, a stage's
field holds `pinned:<digest>:<source>` in place of the name: that travels to any worker, which looks in its own home.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.cache import keys
from pipeline.cache.atomic import publish
from pipeline.cache.home import Home
from pipeline.errors import InputError
from pipeline.stage import Stage

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

LOCK = "weights.lock.json"
"""The name of the lock file; it lies beside the recipes that it is for."""

HUB_TIMEOUT_S = 10.0

S = TypeVar("S", bound=Stage)

_COMMIT = re.compile(r"[0-9a-f]{40}")
_URL = re.compile(r"https?://.*")
_PINNED = re.compile(r"pinned:([0-9a-f]{64}):(.+)")


class Pin(BaseModel):
    """What a source stood for when it was fetched.

    revision: the hub's commit, torchvision's URL, or `sha256:` and the digest of a download. digest: `keys.file_digest`
    of the one file or of the folder that was kept; bytes: its size.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    revision: str
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    files: tuple[str, ...]
    bytes: int = Field(ge=0)


_PINS = TypeAdapter(dict[str, Pin])


@dataclass(frozen=True)
class Weights:
    """The pins of a lock file, by source."""

    pins: Mapping[str, Pin] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Weights:
        """The pins at `path`, none where there is no such file. Raises InputError where it is damaged."""
        if not path.exists():
            return cls()
        try:
            return cls(_PINS.validate_json(path.read_bytes()))
        except ValidationError as error:
            raise InputError(f"{path}: {error}; remove it, then `make weights` writes it anew") from error

    def write(self, path: Path) -> None:
        """Replaces the lock file; sources in order of their names, so that a change reads well in a review."""
        found = {source: pin.model_dump(mode="json") for source, pin in sorted(self.pins.items())}
        publish(path, json.dumps(found, indent=2) + "\n")

    def applied(self, stage: S) -> S:
        """The stage with each pinned source in place of its name."""
        found = {name: (source, self.pins[source]) for name, source in wanted(stage).items() if source in self.pins}
        changes = {name: f"pinned:{pin.digest}:{source}" for name, (source, pin) in found.items()}
        return replace(stage, **changes) if changes else stage


def wanted(stage: Stage) -> dict[str, str]:
    """The source in each field that names published weights: not those drawn at random, nor those at a local path."""
    if getattr(stage, "init", "pretrained") == "random":
        return {}
    named = {f.name: getattr(stage, f.name) for f in fields(stage) if f.metadata.get("source")}
    return {name: _source(stage, name, value) for name, value in named.items() if _is_published(value)}


def pinned_digest(name: str) -> str | None:
    """The digest in a pinned name; None in any other."""
    found = _PINNED.fullmatch(name)
    return found[1] if found else None


def local(name: str) -> str:
    """What a stage loads for a field that names weights: the path of the copy at home where it is pinned, else `name`.

    Raises InputError where the copy is absent, or is not what was pinned.
    """
    found = _PINNED.fullmatch(name)
    return str(held(folder(Home()), found[1], found[2])) if found else name


def check_revision(model: str, revision: str) -> None:
    """For a stage's `check`: raises ValueError for a model of the hub without a commit, which may change later."""
    if not _COMMIT.fullmatch(revision) and not Path(os.path.expandvars(model)).expanduser().is_dir():
        raise ValueError(
            f"{model} is no directory here, so it is read from the hub: pin it with revision = <commit>, all 40 digits"
            f"{f', not {revision!r}, which may move' if revision else ''}"
        )


def unreachable(model: str, revision: str) -> str:
    """Why the hub does not give a model, without the long wait of a read that is tried again; empty where it does."""
    try:
        describe(model, revision)
    except InputError as error:
        return str(error)
    return ""


def describe(model: str, revision: str) -> ModelInfo:
    """What the hub says of a model's files. Raises InputError where it says nothing twice, or has no such model."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError as HubError  # type: ignore[attr-defined]

    why = ""
    for _ in range(2):
        try:
            return HfApi().model_info(model, revision=revision or None, files_metadata=True, timeout=HUB_TIMEOUT_S)
        except (HubError, OSError, ValueError) as error:
            why = first_line(error)
    raise InputError(f"the hub cannot be reached or does not have it ({why})")


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def folder(home: Home) -> Path:
    """Where the copies are, each in a folder named by its digest."""
    return home.root / "weights"


def held(root: Path, digest: str, source: str) -> Path:
    """The copy below `root`, a file or a folder, verified once in a process; errors as of `local`."""
    path = kept(root / digest)
    if path is None:
        raise InputError(
            f"{source} is pinned, but not in {root / digest}: fetch it with `make weights`, or copy that folder from a "
            f"machine that has it, or name a local path in the recipe"
        )
    _verify(path, digest, source)
    return path


@cache
def _verify(path: Path, digest: str, source: str) -> None:
    if keys.file_digest(path) != digest:
        raise InputError(f"{path} is not the {source} that was pinned: `make weights` puts that in its place")


def kept(place: Path) -> Path | None:
    """What a folder of weights stands for: its file where it holds one alone, else itself; None where it is empty."""
    held = list(place.iterdir()) if place.is_dir() else []
    return held[0] if len(held) == 1 else place if held else None


def _is_published(value: str) -> bool:
    if value in ("", "random") or _PINNED.fullmatch(value):
        return False
    return not Path(value).expanduser().exists()


def _source(stage: Stage, name: str, value: str) -> str:
    """The source that the value of a field stands for: a set of `weights` beside the stage's `backbone` or `name`, the
    network; any other a model of the hub beside the stage's `revision`."""
    if _URL.fullmatch(value):
        return value
    network, revision = getattr(stage, "backbone", getattr(stage, "name", "")), getattr(stage, "revision", "")
    if network and name == "weights":
        return f"{network}/{value}" if network.startswith("timm/") else f"torchvision/{network}/{value}"
    return f"{value}@{revision}" if revision else value
