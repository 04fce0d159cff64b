"""`affectory errors`: the rows without values, each with its reason, its message and its file; and remarks on rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from pipeline.errors import InputError, closest
from pipeline.plan.catalogue import StageRows
from pipeline.plan.remarked import Remarked, remarked
from pipeline.plan.session import Session
from pipeline.reason import Reason, one_line
from pipeline.remark import Kind
from pipeline.stage import RAW
from pipeline.utterance import Utterance

_KINDS = {modality: kind for kind, modality in reversed(RAW.items())}


def failures(session: Session, stage: str = "", reason: str = "") -> list[dict[str, Any]]:
    """The rows of a session that have no values, in the order of the manifest.

    stage, reason: only those of this stage and reason. Utterances that have no such modality did not fail: they are
    listed only for the reason `absent`. Raises InputError with the closest name for an unknown stage or reason.
    """
    check(session, stage, reason)
    wanted = [rows for rows in session.catalogue if stage in ("", rows.node.name)]
    place = {name: number for number, name in enumerate(session.catalogue.rows)}
    failed = [entry for rows in wanted for entry in _of_stage(rows, session.catalogue.rows)]
    chosen = [entry for entry in failed if (entry["reason"] == reason if reason else Reason(entry["reason"]).failed)]
    return sorted(chosen, key=lambda entry: (place[entry["utterance"]], entry["stage"], entry["fold"] or ""))


def remarks(session: Session, stage: str = "", kind: str = "") -> list[dict[str, Any]]:
    """The remarks on a session's rows, in the order of the manifest; only those of this stage and kind, if given.

    Raises InputError with the closest name for an unknown stage or kind.
    """
    check(session, stage, kind, Kind)
    place = {name: number for number, name in enumerate(session.catalogue.rows)}
    every = (_remark(found, session.catalogue.rows[found.utterance]) for found in remarked(session.catalogue))
    chosen = [entry for entry in every if stage in ("", entry["stage"]) and kind in ("", entry["remark"])]
    return sorted(chosen, key=lambda entry: (place[entry["utterance"]], entry["stage"], entry["fold"] or ""))


def check(session: Session, stage: str, reason: str, reasons: type[Reason | Kind] = Reason) -> None:
    """Raises InputError with the closest name for a stage that the recipe does not have and for an unknown reason."""
    stages, known = {rows.node.name for rows in session.catalogue}, [str(one) for one in reasons]
    if stage and stage not in stages:
        raise InputError(f"no stage {stage!r} in this recipe: {closest(stage, stages)}")
    if reason and reason not in known:
        raise InputError(f"no {'reason' if reasons is Reason else 'remark'} {reason!r}: {closest(reason, known)}")


def _of_stage(rows: StageRows, utterances: Mapping[str, Utterance]) -> Iterator[dict[str, Any]]:
    for record in filter(None, map(rows.record, rows.shards)):
        for name, reason in record.reasons.items():
            if name in rows.ids:
                what = {"reason": reason, "transient": Reason(reason).transient}
                message = one_line(record.messages.get(name, ""))
                yield _entry(rows, utterances[name], what | {"message": message})


def _remark(found: Remarked, utterance: Utterance) -> dict[str, Any]:
    remark = found.remark
    what = {"remark": remark.kind.value, "part": remark.part, "whole": remark.whole, "unit": remark.kind.unit}
    return _entry(found.rows, utterance, what | {"message": one_line(str(remark))})


def _entry(rows: StageRows, utterance: Utterance, what: Mapping[str, Any]) -> dict[str, Any]:
    """A line about a row: its utterance, modality, stage and fold, then `what` is to be said, then its files."""
    files = utterance.files(_KINDS[rows.node.stage.modality])
    return {
        "utterance": utterance.id,
        "modality": rows.node.stage.modality,
        "stage": rows.node.name,
        "fold": rows.scope.name if rows.scope else None,
        **what,
        "file": ", ".join(files) or None,
    }


def failure_table(entries: Sequence[Mapping[str, Any]], what: str = "reason") -> Table:
    """Failures, or remarks if `what` is "remark", as a table. Folds of one stage with the same line share it."""
    names = ("utterance", "stage", what, "message", "file")
    table = Table(*(Column(name, overflow="fold") for name in names))
    lines = dict.fromkeys(tuple(str(entry[name] or "") for name in names) for entry in entries)
    for line in lines:
        table.add_row(*map(escape, line))
    return table
