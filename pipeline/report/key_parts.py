"""`affectory why`: what a row's key is made of, where the row stands, and what differs from the last extraction."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.cache import keys
from pipeline.errors import InputError, closest
from pipeline.plan import last_extraction
from pipeline.plan.last_extraction import Entry, Seen
from pipeline.plan.session import Session
from pipeline.report.status import Standing, standings
from pipeline.utterance import Utterance

NONE = "none"
"""What stands for a part that one of the two sides has not."""
ROW = "row of "
"""Begins the name of a part that is the key of an upstream row."""
_FIT = ("state", "train", "valid", "labels")
_MEDIA = {"audio": ("digest", "start_s", "end_s", "channel"), "video": ("digest", "start_s", "end_s", "crop")}

Parts = dict[str, Any]


def why(session: Session, utterance: str, stage: str, fold: str = "") -> dict[str, Any]:
    """`affectory why`: the parts of a row's key, where the row stands, and what differs from the last extraction.

    One entry under `rows` for each fit whose features the row gets, or for that of `fold` alone, and for each stage of
    this name. Raises InputError with the closest name where there is no such utterance, stage or fold.
    """
    _check(session, utterance, stage)
    now, then = last_extraction.present(session), last_extraction.read(session.home.root, session.corpus.recipe.name)
    found = [
        s for s in standings(session.catalogue, session.plan()) if s.node.name == stage and utterance in s.utterances
    ]
    folds = [s.scope.name for s in found if s.scope]
    if fold and fold not in folds:
        raise InputError(f"no fold {fold!r} of {stage}: {closest(fold, folds)}")
    rows = [_row(s, utterance, now, then) for s in found if not fold or (s.scope and s.scope.name == fold)]
    name = session.corpus.recipe.name
    return {"dataset": name, "utterance": utterance, "stage": stage, "last": then and then.at, "rows": rows}


def _check(session: Session, utterance: str, stage: str) -> None:
    names = {node.name for node, _ in session.catalogue.wanted}
    if stage not in names:
        raise InputError(f"no stage {stage!r} in this recipe: {closest(stage, names)}")
    rows = session.catalogue.rows
    if utterance not in rows:
        near = difflib.get_close_matches(utterance, rows, n=3) or list(rows)[:3]
        raise InputError(f"no utterance {utterance!r} among {len(rows):,}: {closest(utterance, near)}")


def _row(found: Standing, utterance: str, now: Seen, then: Seen | None) -> dict[str, Any]:
    entry = now.stages[found.node.digest]
    scope = found.scope.name if found.scope else None
    mine = parts(now, entry, scope, utterance)
    last = then.like(entry, now) if then else None
    known = last is not None and then is not None and utterance in then.rows(last)
    theirs = parts(then, last, scope, utterance) if then and last and known else None
    return {
        "fold": scope,
        "key": found.keys.get(utterance),
        "was": then.key(last, scope, utterance) if then and last else None,
        **_stands(found, utterance),
        "parts": [_part(name, mine, theirs) for name in [*mine, *((theirs or {}).keys() - mine.keys())]],
        "differs": differences(mine, theirs) if theirs is not None else [_unknown(then, last)],
    }


def _unknown(then: Seen | None, last: Entry | None) -> str:
    if then is None:
        return "no extraction is noted"
    return "new stage" if last is None else "new utterance"


def _part(name: str, mine: Parts, theirs: Parts | None) -> dict[str, Any]:
    """same: None where nothing is known of then."""
    found = {"part": name, "is": mine.get(name)}
    if theirs is None:
        return found | {"same": None}
    same = mine.get(name, NONE) == theirs.get(name, NONE)
    return found | {"same": same} | ({} if same else {"was": theirs.get(name)})


def _stands(found: Standing, utterance: str) -> dict[str, Any]:
    record = found.cached.get(utterance) or found.copied.get(utterance)
    if record is not None:
        made = {name: record.about.get(name) for name in ("host", "backend", "at")}
        reason = found.failed.get(utterance)
        return {"stands": "cached", "shard": record.key, "object": record.object, **made, "reason": reason}
    if utterance in found.again:
        return {"stands": "provisional", "reason": found.again[utterance]}
    return {"stands": "to do" if utterance in found.todo else "behind a fit", "reason": None}


# --- the parts of a key ----------------------------------------------------------------------------------------


def parts(seen: Seen, entry: Entry, scope: str | None, utterance: str) -> Parts:
    """What a row's key is made of, by name, and what the keys of the rows it stands on are made of."""
    found: Parts = {}
    for prefix, each in walk(seen, entry):
        if prefix:
            found[f"{ROW}{prefix[:-1]}"] = seen.key(each, scope, utterance)
        found |= stage_parts(prefix, each) | fit_parts(prefix, each, scope)
    row = seen.rows(entry).get(utterance)
    for kind in raw_kinds(seen, entry):
        found |= raw_parts(kind, row) if row else {}
    return found


def walk(seen: Seen, entry: Entry, prefix: str = "") -> Iterator[tuple[str, Entry]]:
    """A stage and those below it, each with what its parts' names begin with."""
    yield prefix, entry
    for source in entry.about["inputs"]:
        if isinstance(source, dict) and (upstream := seen.stages.get(source["digest"])):
            yield from walk(seen, upstream, f"{prefix}{upstream.name}.")


def stage_parts(prefix: str, entry: Entry) -> Parts:
    """What a stage itself puts into its digest; the parts of the stages below are left out."""
    about = entry.about
    found = {f"{prefix}version": about["version"]}
    for table in ("params", "libraries"):
        found |= {f"{prefix}{table}.{name}": value for name, value in sorted(about[table].items())}
    return found | {f"{prefix}code.{name}": version for name, version in sorted(entry.code.items())}


def fit_parts(prefix: str, entry: Entry, scope: str | None) -> Parts:
    """What a fit of the stage on `scope` is known by; nothing for a stage that learns nothing."""
    fitted = entry.fits.get(scope or "")
    return {f"{prefix}fit.{name}": getattr(fitted, name) for name in _FIT} if fitted else {}


def raw_kinds(seen: Seen, entry: Entry) -> list[str]:
    """text, audio, video: what a stage stands on in the end."""
    inputs = (source for _, each in walk(seen, entry) for source in each.about["inputs"])
    return list(dict.fromkeys(source for source in inputs if isinstance(source, str)))


def raw_parts(kind: str, row: Utterance) -> Parts:
    """What a row's text, sound or pictures are known by."""
    if kind == "text":
        return {"text": keys.text_digest(row)}
    media = getattr(row, kind)
    found = {f"{kind}.{name}": getattr(media, name) if media else None for name in _MEDIA[kind]}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


# --- what differs ----------------------------------------------------------------------------------------------


def differences(mine: Parts, theirs: Parts) -> list[str]:
    """A line for each part that is another now, once; upstream keys are left out, since what moved them is told."""
    lines = [_line(name, theirs.get(name, NONE), mine.get(name, NONE)) for name in differing(mine, theirs)]
    return list(dict.fromkeys(lines))


def differing(mine: Parts, theirs: Parts) -> list[str]:
    """The names of the parts that are others now, those that one side has not among them."""
    names = dict.fromkeys((*mine, *theirs))
    return [n for n in names if not n.startswith(ROW) and mine.get(n, NONE) != theirs.get(n, NONE)]


def _line(name: str, was: Any, now: Any) -> str:
    if fit := fit_words(name, was, now):
        return fit + (f": {short(was)} -> {short(now)}" if "other" in fit else "")
    kind, _, part = name.partition(".")
    if name == "text":
        return "text changed"
    if kind in _MEDIA and part == "digest":
        return f"{kind} media file changed"
    return f"{f'{kind} {part}' if kind in _MEDIA else name}: {short(was)} -> {short(now)}"


def fit_words(name: str, was: Any, now: Any) -> str:
    """What another part of a fit's key comes to; "" for a part of another kind."""
    prefix, found, part = name.rpartition("fit.")
    if not found or part not in _FIT:
        return ""
    about = f"{prefix[:-1]}: " if prefix else ""
    if part == "state" and now is None:
        return f"{about}fit missing"
    if NONE in (was, now):
        return f"{about}new fold"
    if part == "state":
        return f"{about}state changed"
    return f"{about}fitted on other {'labels' if part == 'labels' else 'rows'}"


def short(value: Any) -> str:
    """A value to be read; of a digest the first digits."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text


# --- to be read ------------------------------------------------------------------------------------------------


def told(answer: Mapping[str, Any]) -> str:
    """The answer of `why` in lines."""
    lines = []
    for row in answer["rows"]:
        fold = f", fold {row['fold']}" if row["fold"] else ""
        lines.append(f"{answer['utterance']} through {answer['stage']}{fold}: {_where(row)}")
        lines += [f"  {_told_part(part)}" for part in row["parts"]]
        since = f"since {answer['last']}" if answer["last"] else "since then"
        lines += [f"  {since}: {line}" for line in row["differs"] or ["nothing has changed"]]
    return "\n".join(lines)


def _where(row: Mapping[str, Any]) -> str:
    key = f"key {short(row['key'])}, " if row["key"] else "no key yet, "
    failed = f", without values: {row['reason']}" if row["reason"] else ""
    if row["stands"] != "cached":
        return f"{key}{row['stands']}{failed}"
    return f"{key}cached in shard {short(row['shard'])}, made on {row['host']} at {row['at']}{failed}"


def _told_part(part: Mapping[str, Any]) -> str:
    known = {True: "same", False: f"was {short(part.get('was'))}", None: "not known of the last extraction"}
    return f"{part['part']}: {short(part['is'])} ({known[part['same']]})"
