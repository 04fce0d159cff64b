"""`affectory errors`: the rows without values, each with its reason, its message and its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from pipeline.errors import InputError, closest
from pipeline.plan.catalogue import StageRows
from pipeline.plan.session import Session
from pipeline.reason import Reason, one_line
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


def check(session: Session, stage: str, reason: str) -> None:
    """Raises InputError with the closest name for a stage that the recipe does not have and for an unknown reason."""
    stages, reasons = {rows.node.name for rows in session.catalogue}, [str(known) for known in Reason]
    if stage and stage not in stages:
        raise InputError(f"no stage {stage!r} in this recipe: {closest(stage, stages)}")
    if reason and reason not in reasons:
        raise InputError(f"no reason {reason!r}: {closest(reason, reasons)}")


def _of_stage(rows: StageRows, utterances: Mapping[str, Utterance]) -> Iterator[dict[str, Any]]:
    for record in filter(None, map(rows.record, rows.shards)):
        for name, reason in record.reasons.items():
            if name in rows.ids:
                files = utterances[name].files(_KINDS[rows.node.stage.modality])
                yield {
                    "utterance": name,
                    "modality": rows.node.stage.modality,
                    "stage": rows.node.name,
                    "fold": rows.scope.name if rows.scope else None,
                    "reason": reason,
                    "transient": Reason(reason).transient,
                    "message": one_line(record.messages.get(name, "")),
                    "file": ", ".join(files) or None,
                }


def failure_table(failed: Sequence[Mapping[str, Any]]) -> Table:
    """The failures as a table. Folds of one stage with the same failure share a line."""
    names = ("utterance", "stage", "reason", "message", "file")
    table = Table(*(Column(name, overflow="fold") for name in names))
    lines = dict.fromkeys(tuple(str(entry[name] or "") for name in names) for entry in failed)
    for line in lines:
        table.add_row(*map(escape, line))
    return table
