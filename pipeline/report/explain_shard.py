"""`affectory explain`: which stage made a shard, with which parameters, from which state, where and when."""

from __future__ import annotations

import json
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
"""How many of the objects that a prefix may mean are named."""


@dataclass(frozen=True)
class _Action:
    """A record of this cache, and whether it is final."""

    record: Record
    final: bool


def explain(home: Home, shard: str) -> dict[str, Any]:
    """What is known of a shard, or of a fitted state: a file, wherever it was copied to, or a prefix of the digest of
    its object or of a key that it answers.

    `actions` is empty where this cache did not make it. Raises InputError where there is no such thing, where a prefix
    means several, and where a file of the cache is corrupt.
    """
    store = Store(home.cache)
    path = Path(shard) if Path(shard).is_file() else None
    found = _of_file(store, path) if path else _of_prefix(store, shard)
    path = path or store.path(found[0].record)
    here = path.is_file()
    answer = {
        "path": str(path) if here else None,
        "object": found[0].record.object if found else keys.file_digest(path),
        "bytes": path.stat().st_size if here else found[0].record.size,
        "actions": [_told_action(action) for action in found],
    }
    if found and found[0].record.suffix != ".parquet" or (found and "manifest" in found[0].record.about):
        return answer | _of_record(found[0].record)
    return answer | (_of_table(path) if here else {"kind": "shard", "stage": found[0].record.about.get("stage")})


def _of_file(store: Store, path: Path) -> list[_Action]:
    """The actions of this cache that the file's bytes answer."""
    digest = keys.file_digest(path)
    place = path.resolve()
    if place.is_relative_to((store.root / "objects").resolve()) and place.parent.name + place.stem != digest:
        raise InputError(f"{path} is corrupt: its bytes are not those its name says; extraction makes it again")
    return [action for action in _actions(store) if action.record.object == digest]


def _of_prefix(store: Store, prefix: str) -> list[_Action]:
    if not re.fullmatch("[0-9a-f]{6,64}", prefix):
        raise InputError(f"no file {prefix}, and no digest: six hexadecimal digits at least")
    found = [a for a in _actions(store) if a.record.object.startswith(prefix) or a.record.key.startswith(prefix)]
    objects = {action.record.object: action.record for action in found}
    if not objects:
        raise InputError(f"nothing in {store.root} has an object or a key that begins with {prefix}")
    if len(objects) > 1:
        raise InputError(f"{prefix} may mean {len(objects)} objects:\n" + "\n".join(_choices(list(objects.values()))))
    return found


def _choices(records: Sequence[Record]) -> list[str]:
    lines = [f"  object {r.object[:16]} key {r.key[:16]} {r.about.get('stage', '')}" for r in records[:LISTED]]
    return lines + ([f"  and {len(records) - LISTED} more"] if len(records) > LISTED else [])


def _actions(store: Store) -> list[_Action]:
    return [_Action(record, not path.stem.endswith(PROVISIONAL)) for path, record in store.records()]


def _told_action(action: _Action) -> dict[str, Any]:
    record, about = action.record, action.record.about
    made = {name: about.get(name) for name in ("host", "backend", "at", "rows", "computed")}
    return {"key": record.key, "final": action.final, **made, "seconds": round(record.seconds, 3)}


def _of_record(record: Record) -> dict[str, Any]:
    """What a record alone says, of a fitted state or a manifest."""
    about = record.about
    if not record.stage.endswith(FITS):
        return {"kind": "manifest", "dataset": about.get("dataset"), "manifest": about.get("manifest")}
    learned = {f"{part}_rows": len(about.get(part, ())) for part in ("train", "valid")}
    recipe = about.get("recipe")
    described = {"stage": about.get("stage"), "recipe": recipe if _is_recipe(recipe) else None}
    return {"kind": "state", **described, "scope": about.get("scope"), **learned, "log": about.get("log")}


def _of_table(path: Path) -> dict[str, Any]:
    """What the file itself says. Raises InputError where it is no shard."""
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
    """The recipe in a file's schema. Raises InputError where it is not in the form that `shards.to_table` writes."""
    try:
        found = json.loads(metadata[name])
        sound = _is_recipe(found["recipe"]) and isinstance(found["names"], list)
        sound = sound and {"dim", "dtype", "tolerance"} <= found.keys()
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise InputError(f"{path} is no shard: its schema holds no recipe")
    return dict(found)


def _is_recipe(found: Any) -> bool:
    """True for what `Node.describe` writes."""
    if not isinstance(found, dict) or not all(isinstance(found.get(n), kind) for n, kind in _RECIPE.items()):
        return False
    return all(isinstance(source, str) or _is_recipe(source) for source in found["inputs"])


_RECIPE = {"stage": str, "params": dict, "libraries": dict, "inputs": list, "digest": str}


# --- to be read ------------------------------------------------------------------------------------------------


def as_text(answer: Mapping[str, Any]) -> str:
    """The answer of `explain` in lines."""
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
        below = _recipe_lines(source, indent + "  ") if isinstance(source, dict) else [f"{indent}  {source}"]
        lines += [f"{indent}  from {below[0].strip()}", *below[1:]]
    return lines


def _action_lines(actions: Sequence[Mapping[str, Any]]) -> list[str]:
    if not actions:
        return ["No action record: this cache did not make it, so when and where it was made is not known."]
    lines = []
    for action in actions:
        final = "" if action["final"] else ", provisional"
        made = f"{action['seconds']} s on {action['host']} ({action['backend']}) at {action['at']}"
        lines.append(f"key {action['key'][:12]}{final}: {made}")
    return lines
