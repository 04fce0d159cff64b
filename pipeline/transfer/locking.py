"""Writes the lock of a recipe: the digests of everything that is held of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.cache.record import encode_index
from pipeline.cache.remote import Remote
from pipeline.console import console
from pipeline.corpus.lock_file import Lock, lock_path, read_lock, write_lock
from pipeline.corpus.recipe_file import recipe_path
from pipeline.errors import InputError
from pipeline.plan.jobs import FITS
from pipeline.plan.session import Session
from pipeline.transfer.final_records import every_node, held, local_weights


def relock(session: Session) -> dict[str, Any]:
    """Writes the lock from what this cache holds. Raises InputError where something is missing."""
    found = held(session)
    if found.incomplete:
        raise InputError(f"a lock names all of a recipe's features; not final: {found.missing()}")
    keeper = Remote("", session.home.cache)
    indexes = {stage: keeper.keep(encode_index(records)) for stage, records in found.indexes.items() if records}
    return lock(session, indexes, relock=True)


def lock(session: Session, indexes: Mapping[str, str], relock: bool) -> dict[str, Any]:
    """Writes the lock where there is none, or where it may be replaced; else says in what it differs."""
    recipe = session.corpus.recipe
    path = lock_path(recipe_path(session.options.dataset))
    names = {node.digest: node.name for node in every_node(recipe)}
    stages = {f"{names[stage.removesuffix(FITS)]} {stage}": digest for stage, digest in indexes.items()}
    mine = Lock(manifest=session.corpus.manifest.digest, weights=local_weights(recipe), stages=stages)
    differing = read_lock(path).differences(mine) if path.exists() else []
    if not path.exists() or (differing and relock):
        write_lock(path, mine)
        session.home.note_lock(path)
        console.print(f"Lock: {path}")
    elif differing:
        console.print(f"{path} names something else; --relock replaces it:\n" + "\n".join(differing))
    return {"path": str(path), "differing": differing}
