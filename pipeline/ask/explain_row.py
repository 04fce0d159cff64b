"""`affectory why`: the parts of a row's key, the row's status, and what has changed since the last extraction."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.ask.key_parts import Change, KeyPart, changes, row_parts, short
from pipeline.ask.status import StageStatus, Status, statuses
from pipeline.errors import InputError, closest
from pipeline.plan import last_extraction
from pipeline.plan.last_extraction import Entry, Seen
from pipeline.plan.session import Session


def why(session: Session, utterance: str, stage: str, fold: str = "") -> dict[str, Any]:
    """Answers `affectory why`: the parts of a row's key, the row's status, and what changed since the last extraction.

    `rows` has one entry for each fit whose features the row gets (that of `fold` alone, if given), and for each stage
    of this name. Raises InputError, with the closest name, if there is no such utterance, stage or fold.
    """
    _check(session, utterance, stage)
    recipe = session.corpus.recipe
    now, then = last_extraction.present(session), last_extraction.read(session.home.root, recipe.home_name)
    every = statuses(session.catalogue, session.plan())
    scopes = [status for status in every if status.node.name == stage and utterance in status.rows]
    folds = [status.scope.name for status in scopes if status.scope]
    if fold and fold not in folds:
        raise InputError(f"no fold {fold!r} of {stage}: {closest(fold, folds)}")
    rows = [_row(s, utterance, now, then) for s in scopes if not fold or (s.scope and s.scope.name == fold)]
    return {"dataset": recipe.name, "utterance": utterance, "stage": stage, "last": then and then.at, "rows": rows}


def _check(session: Session, utterance: str, stage: str) -> None:
    names = {node.name for node, _ in session.catalogue.wanted}
    if stage not in names:
        raise InputError(f"no stage {stage!r} in this recipe: {closest(stage, names)}")
    rows = session.catalogue.rows
    if utterance not in rows:
        near = difflib.get_close_matches(utterance, rows, n=3) or list(rows)[:3]
        raise InputError(f"no utterance {utterance!r} among {len(rows):,}: {closest(utterance, near)}")


def _row(status: StageStatus, utterance: str, now: Seen, then: Seen | None) -> dict[str, Any]:
    entry = now.stages[status.node.digest]
    scope = status.scope.name if status.scope else None
    parts = row_parts(now, entry, scope, utterance)
    last = then.like(entry, now) if then else None
    old = None
    if then and last and utterance in then.rows(last):
        old = row_parts(then, last, scope, utterance)
    return {
        "fold": scope,
        "key": status.rows[utterance].key,
        "was": then.key(last, scope, utterance) if then and last else None,
        **_status(status, utterance),
        "parts": _compared(parts, old),
        "differs": _unknown(then, last) if old is None else _lines(parts, old),
    }


def _lines(now: Sequence[KeyPart], then: Sequence[KeyPart]) -> list[str]:
    return list(dict.fromkeys(change.line for change in changes(now, then)))


def _unknown(then: Seen | None, last: Entry | None) -> list[str]:
    if then is None:
        return ["no extraction is noted"]
    return ["new stage" if last is None else "new utterance"]


def _compared(now: Sequence[KeyPart], then: Sequence[KeyPart] | None) -> list[dict[str, Any]]:
    """Each part as JSON; `same` is None if nothing is known of the last extraction."""
    if then is None:
        return [{"part": part.label, "is": part.value, "same": None} for part in now]
    new, old = ({part.place: part for part in parts} for parts in (now, then))
    return [_compared_part(new.get(place), old.get(place)) for place in dict.fromkeys((*new, *old))]


def _compared_part(now: KeyPart | None, then: KeyPart | None) -> dict[str, Any]:
    label = Change(then, now).part.label
    answer = {"part": label, "is": now.value if now else None, "same": now == then}
    return answer if now == then else answer | {"was": then.value if then else None}


def _status(status: StageStatus, utterance: str) -> dict[str, Any]:
    """The status of a row as JSON. A row that another shard holds is cached: its shard and object are named."""
    row = status.rows[utterance]
    if row.record is None:
        return {"status": row.status, "reason": row.reason}
    made = {name: row.record.about.get(name) for name in ("host", "backend", "at")}
    shard = {"shard": row.record.key, "object": row.record.object}
    remarks = {remark.kind.value: str(remark) for remark in row.record.remarks_on(utterance)}
    return {"status": Status.CACHED, **shard, **made, "reason": row.reason, "remarks": remarks}


# --- the answer as text ----------------------------------------------------------------------------------------


def as_text(answer: Mapping[str, Any]) -> str:
    """The answer of `why` for people."""
    text = []
    for row in answer["rows"]:
        fold = f", fold {row['fold']}" if row["fold"] else ""
        text.append(f"{answer['utterance']} through {answer['stage']}{fold}: {_status_text(row)}")
        text += [f"  remark {kind}: {said}" for kind, said in row.get("remarks", {}).items()]
        text += [f"  {_part_text(part)}" for part in row["parts"]]
        since = f"since {answer['last']}" if answer["last"] else "since then"
        text += [f"  {since}: {line}" for line in row["differs"] or ["nothing has changed"]]
    return "\n".join(text)


def _status_text(row: Mapping[str, Any]) -> str:
    key = f"key {short(row['key'])}, " if row["key"] else "no key yet, "
    failed = f", without values: {row['reason']}" if row["reason"] else ""
    if row["status"] != Status.CACHED:
        text = "waiting for a fit" if row["status"] == Status.WAITING else row["status"]
        return f"{key}{text}{failed}"
    return f"{key}cached in shard {short(row['shard'])}, made on {row['host']} at {row['at']}{failed}"


def _part_text(part: Mapping[str, Any]) -> str:
    compared = {True: "same", False: f"was {short(part.get('was'))}", None: "not known of the last extraction"}
    return f"{part['part']}: {short(part['is'])} ({compared[part['same']]})"
