"""`affectory explain`: the stage of a shard or state, its parameters and libraries, where and when it was made."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cache import keys, shards
from pipeline.cache.home import Home
from pipeline.cache.record import FITS, PROVISIONAL, Record
from pipeline.cache.store import Store
from pipeline.errors import InputError

LISTED = 10
"""The number of objects that are listed if a prefix is ambiguous."""


@dataclass(frozen=True)
class _Action:
    """A record of this cache, and whether it is final."""

    record: Record
    final: bool


def explain(home: Home, shard: str) -> dict[str, Any]:
    """Answers `affectory explain` for a shard or a fitted state.

    shard: a file, wherever it was copied to, or a prefix of the digest of an object, of its key or of its stage, as
    `plan` shows it. `actions` is empty if this cache did not make it. Raises InputError if there is no such file or
    object, if a prefix is ambiguous, or if a file of the cache is corrupt.
    """
    store = Store(home.cache)
    path = Path(shard) if Path(shard).is_file() else None
    actions = _of_file(store, path) if path else _of_prefix(store, shard)
    record = actions[0].record if actions else None
    path = path or store.path(actions[0].record)
    here = path.is_file()
    answer = {
        "path": str(path) if here else None,
        "object": record.object if record else keys.file_digest(path),
        "bytes": path.stat().st_size if here or record is None else record.size,
        "actions": [_action_answer(action) for action in actions],
    }
    if record and (record.suffix != ".parquet" or "manifest" in record.about):
        return answer | _of_record(record)
    if here or record is None:
        return answer | _of_table(path)
    return answer | {"kind": "shard", "stage": record.about.get("stage")}


def _of_file(store: Store, path: Path) -> list[_Action]:
    """The actions of this cache whose object has the file's bytes."""
    digest = keys.file_digest(path)
    place = Path(os.path.realpath(path))
    if place.is_relative_to(os.path.realpath(store.root / "objects")) and place.parent.name + place.stem != digest:
        raise InputError(f"{path} is corrupt: its name is not the digest of its bytes. Extraction makes it again")
    return [action for action in _actions(store) if action.record.object == digest]


def _of_prefix(store: Store, prefix: str) -> list[_Action]:
    if not re.fullmatch("[0-9a-f]{6,64}", prefix):
        raise InputError(f"no file {prefix}, and it is no digest, which has at least six hexadecimal digits")
    every = _actions(store)
    actions = [a for a in every if a.record.object.startswith(prefix) or a.record.key.startswith(prefix)]
    actions = actions or [a for a in every if a.record.stage.startswith(prefix) and not a.record.stage.endswith(FITS)]
    objects = {action.record.object: action.record for action in actions}
    if not objects:
        raise InputError(f"nothing in {store.root} has an object, a key or a stage that begins with {prefix}")
    if len(objects) > 1:
        raise InputError(f"{prefix} may mean {len(objects)} objects:\n" + "\n".join(_choices(list(objects.values()))))
    return actions


def _choices(records: Sequence[Record]) -> list[str]:
    lines = [f"  object {r.object[:16]} key {r.key[:16]} {r.about.get('stage', '')}" for r in records[:LISTED]]
    return lines + ([f"  and {len(records) - LISTED} more"] if len(records) > LISTED else [])


def _actions(store: Store) -> list[_Action]:
    return [_Action(record, not path.stem.endswith(PROVISIONAL)) for path, record in store.records()]


def _action_answer(action: _Action) -> dict[str, Any]:
    record, about = action.record, action.record.about
    made = {name: about.get(name) for name in ("host", "backend", "networks", "at", "rows", "computed")}
    remarks = {kind: sorted(rows) for kind, rows in record.remarks.items()}
    return {"key": record.key, "final": action.final, **made, "seconds": round(record.seconds, 3), "remarks": remarks}


def _of_record(record: Record) -> dict[str, Any]:
    """What the record alone tells of a fitted state or a manifest."""
    about = record.about
    if not record.stage.endswith(FITS):
        return {"kind": "manifest", "dataset": about.get("dataset"), "manifest": about.get("manifest")}
    learned = {f"{part}_rows": len(about.get(part, ())) for part in ("train", "valid")}
    recipe = about.get("recipe")
    described = {"stage": about.get("stage"), "recipe": recipe if _is_recipe(recipe) else None}
    return {"kind": "state", **described, "scope": about.get("scope"), **learned, "log": about.get("log")}


def _of_table(path: Path) -> dict[str, Any]:
    """What the file itself tells. Raises InputError if it is not a shard."""
    table = shards.open_table(path, ["utterance", "frames", "reason"])
    about = _about(path, shards.RECIPE, table.schema.metadata)
    columns = zip(table["utterance"].to_pylist(), table["reason"].to_pylist(), strict=True)
    return {
        "kind": "shard",
        "stage": about["recipe"]["stage"],
        "recipe": {name: value for name, value in about["recipe"].items() if name != "state"},
        "state": about["recipe"].get("state"),
        "rows": table.num_rows,
        "frames": sum(table["frames"].to_pylist()),
        "failed": {utterance: reason for utterance, reason in columns if reason is not None},
        "dim": about["dim"],
        "names": len(about["names"]),
        "dtype": about["dtype"],
        "tolerance": about["tolerance"],
    }


def _about(path: Path, name: bytes, metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The recipe in a file's schema. Raises InputError if it does not have the form that `shards.to_table` writes."""
    try:
        about = json.loads(metadata[name])
        sound = _is_recipe(about["recipe"]) and isinstance(about["names"], list)
        sound = sound and {"dim", "dtype", "tolerance"} <= about.keys()
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise InputError(f"{path} is no shard: its schema holds no recipe")
    return dict(about)


def _is_recipe(value: Any) -> bool:
    """True for what `Node.describe` writes."""
    if not isinstance(value, dict) or not all(isinstance(value.get(n), kind) for n, kind in _RECIPE.items()):
        return False
    return all(isinstance(source, str) or _is_recipe(source) for source in value["inputs"])


_RECIPE = {"stage": str, "params": dict, "libraries": dict, "inputs": list, "digest": str}


# --- the answer as text ----------------------------------------------------------------------------------------


def as_text(answer: Mapping[str, Any]) -> str:
    """The answer of `explain` for people."""
    lines = [f"{answer['kind']} of {answer.get('stage') or answer.get('dataset')}"]
    plain = ("path", "object", "bytes", "scope", "train_rows", "valid_rows", "manifest", "state")
    lines += [f"{name}: {answer[name]}" for name in plain if answer.get(name) is not None]
    if answer["path"] is None:
        lines.append("The object is not in this cache.")
    if "rows" in answer:
        lines.append(f"rows: {answer['rows']} of {answer['frames']} steps, {len(answer['failed'])} without values")
        lines.append(f"values: {answer['dim']} x {answer['dtype']}, {answer['names']} names, +-{answer['tolerance']}")
    lines += [f"  {utterance}: {reason}" for utterance, reason in answer.get("failed", {}).items()]
    lines += _recipe_lines(answer["recipe"]) if answer.get("recipe") else []
    return "\n".join(lines + _action_lines(answer["actions"]))


def _recipe_lines(recipe: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = [f"{indent}stage {recipe['stage']}, version {recipe.get('version')}, digest {recipe['digest'][:12]}"]
    for table in ("params", "libraries"):
        lines += [f"{indent}  {table}.{name} = {json.dumps(value)}" for name, value in recipe[table].items()]
    for source in recipe["inputs"]:
        read = f"{source} {json.dumps(recipe.get(source))}" if source == "dialogue" else source
        below = _recipe_lines(source, indent + "  ") if isinstance(source, dict) else [f"{indent}  {read}"]
        lines += [f"{indent}  from {below[0].strip()}", *below[1:]]
    return lines


def _action_lines(actions: Sequence[Mapping[str, Any]]) -> list[str]:
    if not actions:
        return ["No action record: this cache did not make it, so it is not known when and where it was made."]
    lines = []
    for action in actions:
        final = "" if action["final"] else ", provisional"
        made = f"{action['seconds']} s on {action['host']} ({action['backend']}) at {action['at']}"
        lines.append(f"key {action['key'][:12]}{final}: {made}")
        lines += [
            f"  {backend}: {spent['inputs']:.0f} inputs, {spent['rate_hz']:g} a second"
            for backend, spent in (action["networks"] or {}).items()
        ]
        lines += [f"  remark {kind} on {', '.join(rows)}" for kind, rows in action["remarks"].items()]
    return lines
