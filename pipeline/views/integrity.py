"""Keeps columns sound: each has the digests of its files beside them, which are checked once in a process."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.cache import keys
from pipeline.cache.atomic import publish, where_writable
from pipeline.cache.verify import Damage

log = logging.getLogger(__name__)

FILES = ("values.npy", "mask.npy", "steps.npy", "column.json")
DIGESTS = "digests.json"

_sound: set[Path] = set()
"""The columns that this process has checked."""


def note_digests(path: Path) -> None:
    """Writes the digests of a column's files beside them. Raises FileNotFoundError if one is missing."""
    publish(path / DIGESTS, json.dumps(_digests(path)))


def damage(path: Path) -> str:
    """Why a column is damaged; empty for a sound one.

    A column of a version that noted no digests gets its digests at its first use, if its folder is writable.
    """
    if path in _sound:
        return ""
    try:
        noted = _noted(path)
        differing = [name for name, digest in _digests(path).items() if noted is not None and noted.get(name) != digest]
        if noted is None:
            with where_writable():
                note_digests(path)
    except FileNotFoundError as error:
        return f"it lacks {Path(error.filename).name}"
    except (OSError, ValueError) as error:
        return f"it cannot be read: {error}"
    if differing:
        return f"{' and '.join(differing)} {'has' if len(differing) == 1 else 'have'} other bytes than were written"
    _sound.add(path)
    return ""


def set_aside(path: Path, why: str) -> None:
    """Renames a damaged column, so that it is built again. `Home.sweep` deletes it after a week."""
    log.warning("%s is damaged: %s; it is set aside and built again", path, why)
    _sound.discard(path)
    aside = path.with_name(f".damaged-{path.name}-{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):  # another process has set it aside
        path.rename(aside)
        os.utime(aside)


def verify(root: Path) -> dict[str, Any]:
    """Reads every column of a home and sets damaged ones aside: their number, their bytes, and the damage."""
    columns = sorted(path for path in (root / "views").glob("[!.]*") if path.is_dir())
    size = sum(file.lstat().st_size for path in columns for file in path.iterdir())
    damaged = [{"place": found.place, "why": found.why} for found in _damaged(columns)]
    return {"columns": len(columns), "bytes": size, "damaged": damaged}


def _damaged(columns: list[Path]) -> Iterator[Damage]:
    for path in columns:
        if why := damage(path):
            with where_writable():
                set_aside(path, why)
            yield Damage(f"views/{path.name}", why)


def _noted(path: Path) -> dict[str, str] | None:
    """The digests beside a column's files; None if none were noted. Raises ValueError if the note is damaged."""
    if not (path / DIGESTS).exists():
        return None
    noted = json.loads((path / DIGESTS).read_bytes())
    return noted if isinstance(noted, dict) else {}


def _digests(path: Path) -> dict[str, str]:
    return {name: keys.file_digest(path / name) for name in FILES}
