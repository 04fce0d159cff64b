"""The lock `<dataset>.lock.json` beside a recipe: digests that a team agreed on, short enough to review like code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.cache.atomic import publish
from pipeline.errors import InputError
from pipeline.text_file import regular

DIGEST = "^[0-9a-f]{64}$"


class Lock(BaseModel):
    """The digests of a manifest, of local weights by name, and of each stage's index by the stage's name and digest.

    manifest: of the rows. manifest_object: of the bytes of the object that holds them, which are checked before any of
    it is read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    manifest: str = Field(pattern=DIGEST)
    manifest_object: str = Field(pattern=DIGEST)
    weights: Mapping[str, str] = {}
    stages: Mapping[str, str]

    @property
    def indexes(self) -> dict[str, str]:
        """The digest of each stage's index, by the stage's digest."""
        return {name.rpartition(" ")[2]: digest for name, digest in self.stages.items()}

    def differences(self, other: Lock) -> list[str]:
        """A line for each difference between this lock and `other`."""
        lines = []
        for name in ("manifest", "manifest_object"):
            old, new = getattr(self, name), getattr(other, name)
            lines += [f"{name} {old[:12]} -> {new[:12]}"] if old != new else []
        for kind in ("weights", "stages"):
            old, new = getattr(self, kind), getattr(other, kind)
            lines += [f"- {_short(name)}" for name in old.keys() - new.keys()]
            lines += [f"+ {_short(name)}" for name in new.keys() - old.keys()]
            changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
            lines += [f"{_short(name)}: {old[name][:12]} -> {new[name][:12]}" for name in changed]
        return lines


def lock_path(recipe: Path) -> Path:
    """The lock's path, beside the recipe."""
    return recipe.with_suffix(".lock.json")


def read_lock(path: Path) -> Lock:
    """Reads a lock. Raises InputError if there is none, or if it is damaged."""
    try:
        return Lock.model_validate_json(regular(path).read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"no lock {path}: `make push` or `affectory extract --relock` writes it") from error
    except ValidationError as error:
        raise InputError(f"{path}: {error}") from error


def write_lock(path: Path, lock: Lock) -> None:
    """Replaces the lock. Its lines are sorted, so that a change is easy to review."""
    tables = {"weights": dict(sorted(lock.weights.items())), "stages": dict(sorted(lock.stages.items()))}
    ordered = lock.model_copy(update=tables)
    publish(path, ordered.model_dump_json(indent=1) + "\n")


def _short(name: str) -> str:
    stage, _, digest = name.rpartition(" ")
    return f"{stage} {digest[:12]}{Path(digest).suffix}" if stage else name
