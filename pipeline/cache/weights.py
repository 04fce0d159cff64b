"""Published weights, pinned: a key holds the digest of their bytes, and a stage loads the copy in the home folder.

A source is `org/model@revision` of the hub, `torchvision/network/SET`, or a URL: see `Stage.sources`. `affectory
weights` fetches the sources that a recipe names, and pins them in `weights.lock.json` beside the recipe. The field of a
stage then holds `pinned:<digest>:<source>` instead of a name; a worker looks for the copy in its own home folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.cache import keys
from pipeline.cache.atomic import publish
from pipeline.cache.home import Home
from pipeline.errors import InputError
from pipeline.stage import Stage
from pipeline.text_file import regular
from pipeline.written_path import written_path

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

LOCK = "weights.lock.json"
"""The name of the lock file, which is in the folder of the recipes it is for."""

HUB_TIMEOUT_S = 10.0

S = TypeVar("S", bound=Stage)

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SET = re.compile(r"\w+")
_URL = re.compile(r"https?://.*")
_PINNED = re.compile(r"pinned:([0-9a-f]{64}):(.+)")


class Pin(BaseModel):
    """The content of a source when it was fetched.

    revision: the hub's commit, torchvision's URL, or `sha256:` and the digest of a download. digest: `keys.file_digest`
    of the one file or of the folder that was kept. bytes: its size.
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
        """The pins in a file; none if there is no such file. Raises InputError if it is damaged."""
        if not path.exists():
            return cls()
        try:
            return cls(_PINS.validate_json(regular(path).read_bytes()))
        except ValidationError as error:
            raise InputError(f"{path}: {error}; remove it, then `make weights` writes it anew") from error

    def write(self, path: Path) -> None:
        """Replaces the lock file. Sources are sorted, so that a change is easy to review."""
        pins = {source: pin.model_dump(mode="json") for source, pin in sorted(self.pins.items())}
        publish(path, json.dumps(pins, indent=2) + "\n")

    def applied(self, stage: S) -> S:
        """The stage with its sources replaced by their pins, as far as there are any."""
        pinned = {name: source for name, source in published_sources(stage).items() if source in self.pins}
        changes = {name: f"pinned:{self.pins[source].digest}:{source}" for name, source in pinned.items()}
        return replace(stage, **changes) if changes else stage


# --- names of weights ------------------------------------------------------------------------------------------


def hub_source(model: str, revision: str) -> str:
    """The source of a model of the hub at a revision. A local path, a URL and a pinned name are sources themselves."""
    return f"{model}@{revision}" if revision and _is_name(model) else model


def network_source(network: str, weights: str) -> str:
    """The source of weights that torchvision, or timm (`timm/<name>`), publishes for a network; see `hub_source`.

    A set of theirs is named by a plain word, whatever lies in the working directory under that name.
    """
    if not _SET.fullmatch(weights):
        return weights
    return f"{network}/{weights}" if network.startswith("timm/") else f"torchvision/{network}/{weights}"


def published_sources(stage: Stage) -> dict[str, str]:
    """The sources of a stage that can be fetched, by field: all but those at local paths and those already pinned."""
    return {name: source for name, source in stage.sources().items() if _is_published(getattr(stage, name))}


def pinned_digest(name: str) -> str | None:
    """The digest in a pinned name; None for any other name."""
    match = _PINNED.fullmatch(name)
    return match[1] if match else None


def local(name: str) -> str:
    """The path of the copy at home for a pinned name; any other name as it is.

    Stages call it before they load. Raises InputError if the copy is missing or has other bytes than were pinned.
    """
    match = _PINNED.fullmatch(name)
    return str(verified_copy(weights_folder(Home()), match[1], match[2])) if match else name


def absent(stage: Stage) -> list[str]:
    """The pinned sources of a stage whose copies are not at home; reads none of them."""
    pins = filter(None, map(_PINNED.fullmatch, stage.sources().values()))
    return [pin[2] for pin in pins if copy_in(weights_folder(Home()) / pin[1]) is None]


def check_there(stage: Stage) -> None:
    """Raises InputError if pinned weights of a stage are not at home."""
    if missing := absent(stage):
        raise InputError(f"its weights {', '.join(missing)} are not here")


def _is_published(name: str) -> bool:
    return not _PINNED.fullmatch(name) and not written_path(name).exists()


def _is_name(name: str) -> bool:
    return _is_published(name) and not _URL.fullmatch(name)


# --- copies at home --------------------------------------------------------------------------------------------


def weights_folder(home: Home) -> Path:
    """The folder of all copies, each in a folder named by its digest."""
    return home.root / "weights"


def verified_copy(root: Path, digest: str, source: str) -> Path:
    """The file or folder of a copy below `root`, verified once per process. Raises InputError as `local` does."""
    path = copy_in(root / digest)
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


@cache
def check_hub_cache(model: str, revision: str) -> None:
    """Raises InputError if a file of a model in the hub's cache is not what the hub said it is; once per process.

    The cache names the content of a large file by its SHA-256, and of a small one as git does.
    """
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(model, revision=revision, local_files_only=True))
    for path in sorted(folder.rglob("*")):
        content = path.resolve()
        if path.is_file() and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", content.name):
            _check_name(content, content.name, f"{path.name} of {model}")


def check_torch_cache(path: Path) -> None:
    """Raises InputError if a file in torch's cache is not the published one, whose name ends with the beginning of its
    SHA-256."""
    if match := re.search(r"-([0-9a-f]{8,64})\.", path.name):
        _check_name(path, match[1], path.name)


def _check_name(path: Path, name: str, what: str) -> None:
    """name: the beginning of the SHA-256 of a file, or the whole SHA-1 by which git names its content."""
    with path.open("rb") as file:
        if len(name) == 40:
            content = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
            found = hashlib.file_digest(file, lambda: content).hexdigest()
        else:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(name):
        raise InputError(f"{path} is not the {what} that was published: remove it, then it is fetched again")


def copy_in(folder: Path) -> Path | None:
    """The only file in a folder, or the folder itself if it holds several; None if it is empty or missing."""
    paths = list(folder.iterdir()) if folder.is_dir() else []
    return paths[0] if len(paths) == 1 else folder if paths else None


# --- the hub ---------------------------------------------------------------------------------------------------


def check_revision(model: str, revision: str) -> None:
    """Raises ValueError for a model of the hub without a commit, which may change later. For a stage's `check`."""
    if not _COMMIT.fullmatch(revision) and not written_path(model, variables=True).is_dir():
        raise ValueError(
            f"{model} is no directory here, so it is read from the hub: pin it with revision = <commit>, all 40 digits"
            f"{f', not {revision!r}, which may move' if revision else ''}"
        )


def unreachable(model: str, revision: str) -> str:
    """Why the hub cannot give a model, found out by one quick question; empty if it can."""
    try:
        describe(model, revision)
    except InputError as error:
        return str(error)
    return ""


def describe(model: str, revision: str) -> ModelInfo:
    """The hub's description of a model's files. Raises InputError if it fails twice, or has no such model."""
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
    """The first line of an error's message, or its type if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
