"""`affectory status`: how many rows of each stage are cached, to copy, to do, waiting for a fit, or provisional."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from pipeline.cache.record import Record
from pipeline.cache.store import Store
from pipeline.console import table
from pipeline.corpus.fit_scope import Scope
from pipeline.corpus.recipe import Node, distinct_names
from pipeline.plan import last_extraction
from pipeline.plan.catalogue import Catalogue, Shard, StageRows
from pipeline.plan.jobs import ExtractJob, Plan, Run
from pipeline.plan.session import Session
from pipeline.reason import Reason


class Status(StrEnum):
    """The status of a row. Every row has exactly one."""

    CACHED = "cached"
    COPY = "copy"
    """Another shard of the same stage holds the row, so it is copied and not computed."""
    TODO = "to do"
    WAITING = "waiting"
    """A fit that the row depends on is missing."""
    PROVISIONAL = "provisional"
    """The row failed for a transient reason and is tried again."""


UNFINISHED = (Status.TODO, Status.PROVISIONAL, Status.WAITING)
"""The rows that an extraction computes, now or after a fit."""


class Row(NamedTuple):
    """One row of a stage.

    key: None while a fit is missing. record: of the shard that holds the row, None unless it is cached or copied.
    reason: why it has no values; of a cached row only if it failed, of a provisional row the transient reason.
    """

    status: Status
    key: str | None = None
    record: Record | None = None
    reason: str | None = None


@dataclass
class StageStatus:
    """The rows of a stage in one scope, by utterance.

    state: the record of the stage's own fitted state; None if the stage is not fitted or the state is missing.
    records: of the shards that hold the rows, provisional ones included, and of the state.
    """

    node: Node
    scope: Scope | None
    state: Record | None
    rows: dict[str, Row] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)

    @property
    def unfinished(self) -> list[str]:
        """The utterances whose rows an extraction computes, now or after a fit."""
        return [utterance for utterance, row in self.rows.items() if row.status in UNFINISHED]


def statuses(catalogue: Catalogue, plan: Plan) -> Iterator[StageStatus]:
    """The status of every row, for each stage and scope of a plan."""
    runs = {run.key: run for job in plan.jobs if isinstance(job, ExtractJob) for run in job.runs}
    for rows in catalogue:
        status = StageStatus(rows.node, rows.scope, rows.state)
        status.records += [rows.state] if rows.state else []
        if rows.waiting:
            ids = [row.id for row in catalogue.manifest.rows if row.id in rows.ids]
            status.rows.update(dict.fromkeys(ids, Row(Status.WAITING)))
        _add_shards(status, rows, catalogue, runs)
        yield status


def _add_shards(
    status: StageStatus, rows: StageRows, catalogue: Catalogue, runs: Mapping[tuple[str, str], Run]
) -> None:
    finals = [rows.final(shard) for shard in rows.shards]
    provisional = {} if all(finals) else _provisional(catalogue, rows.node)
    for shard, final in zip(rows.shards, finals, strict=True):
        if final is not None:
            _add_cached(status, shard, final)
        else:
            run = runs.get((rows.node.digest, shard.key))
            _add_open(status, shard, catalogue.store, run, provisional)


def _add_cached(status: StageStatus, shard: Shard, record: Record) -> None:
    status.records.append(record)
    for row, key in zip(shard.rows, shard.keys, strict=True):
        status.rows[row.id] = Row(Status.CACHED, key, record, _failure(record, row.id))


def _add_open(
    status: StageStatus, shard: Shard, store: Store, run: Run | None, provisional: Mapping[str, Record]
) -> None:
    """Adds the rows of a shard that is not final. `run` computes the shard; None if it has to wait for a fit."""
    if record := store.find(status.node.digest, shard.key):
        status.records.append(record)
    copies = run.copies if run else {}
    holders = {ref: store.find(ref.stage, ref.key) for ref in set(copies.values())}
    for row, key in zip(shard.rows, shard.keys, strict=True):
        failed = provisional.get(row.id)
        if key in copies:
            holder = holders[copies[key]]
            status.rows[row.id] = Row(Status.COPY, key, holder, _failure(holder, row.id) if holder else None)
        elif failed is not None and key not in failed.rows:
            status.rows[row.id] = Row(Status.PROVISIONAL, key, None, failed.reasons[row.id])
        else:
            status.rows[row.id] = Row(Status.TODO if run else Status.WAITING, key)


def _failure(record: Record, utterance: str) -> str | None:
    """The reason why a row failed; None if it has values, or if the utterance has no such modality."""
    reason = record.reasons.get(utterance)
    return reason if reason is not None and Reason(reason).failed else None


def _provisional(catalogue: Catalogue, node: Node) -> dict[str, Record]:
    """For each utterance without values in a provisional shard of the stage, the record of that shard."""
    by_utterance: dict[str, Record] = {}
    for key, final in catalogue.listing(node.digest).items():
        record = None if final else catalogue.store.find(node.digest, key)
        by_utterance |= dict.fromkeys(record.reasons, record) if record else {}
    return by_utterance


# --- affectory status ------------------------------------------------------------------------------------------

_KEYS = {
    "cached": Status.CACHED,
    "copy": Status.COPY,
    "todo": Status.TODO,
    "waiting": Status.WAITING,
    "provisional": Status.PROVISIONAL,
}
"""The statuses as the JSON answer names them."""


def status(session: Session) -> dict[str, Any]:
    """Answers `affectory status`: rows, fits and bytes by stage. A row counts once for each fit whose features it gets.

    Stages of one name are distinguished by their digests. `remote_bytes` counts what only the remote holds.
    """
    store, recipe = session.catalogue.store, session.corpus.recipe
    last = last_extraction.read(session.home.root, recipe.home_name)
    by_stage: dict[str, list[StageStatus]] = {}
    names = distinct_names(node for node, _ in session.catalogue.wanted)
    for scoped in statuses(session.catalogue, session.plan()):
        by_stage.setdefault(names[scoped.node], []).append(scoped)
    stages = {label: _counts(scopes) | _bytes(scopes, store) for label, scopes in by_stage.items()}
    remote = store.remote
    return {
        "dataset": recipe.name,
        "last": last and last.at,
        "remote": remote and remote.url,
        "stages": stages,
        "libraries": [verdict.answer() for verdict in session.verdicts],
    }


def _counts(scopes: Sequence[StageStatus]) -> dict[str, int]:
    """Rows by status; `failed` and `remarked` count some of those that are cached or copied."""
    rows = [row for scoped in scopes for row in scoped.rows.values()]
    by_status = Counter(row.status for row in rows)
    fits = [scoped.state is not None for scoped in scopes if scoped.node.stage.fitted]
    return {
        "rows": len(rows),
        **{key: by_status[status] for key, status in _KEYS.items()},
        "failed": sum(row.record is not None and row.reason is not None for row in rows),
        "remarked": sum(_remarked(utterance, row) for scoped in scopes for utterance, row in scoped.rows.items()),
        "fits": sum(fits),
        "fits_missing": len(fits) - sum(fits),
    }


def _remarked(utterance: str, row: Row) -> bool:
    return row.record is not None and any(utterance in written for written in row.record.remarks.values())


def _bytes(scopes: Sequence[StageStatus], store: Store) -> dict[str, int]:
    """The bytes of the shards and states of these rows, each object once."""
    objects = {record.object: record for scoped in scopes for record in scoped.records}
    here = sum(record.size for record in objects.values() if store.here(record))
    return {"bytes": here, "remote_bytes": sum(record.size for record in objects.values()) - here}


def status_table(answer: Mapping[str, Any]) -> Table:
    """The answer of `status` as a table that fits 80 columns; sizes in MB. A column without a number is left out."""
    lines = {escape(name): _cells(counts) for name, counts in sorted(answer["stages"].items())}
    heads = [head for head in _HEADS if head in _ALWAYS or any(cells[head] for cells in lines.values())]
    note = "waiting: for a fit; retry: provisional, failed for a transient reason; remarks: rows that have any"
    shown = table(answer["dataset"], "stage", *heads, caption=note)
    for name, cells in lines.items():
        shown.add_row(name, *("0" if not cells[head] and head != "fits" else cells[head] for head in heads))
    return shown


_HEADS = ("rows", "cached", "copy", "to do", "waiting", "retry", "failed", "remarks", "fits", "MB", "remote MB")
_ALWAYS = ("rows", "cached", "to do", "MB")


def _cells(counts: Mapping[str, Any]) -> dict[str, str]:
    """The cells of a stage by head; empty for a number that is 0."""
    rows = (counts[kind] for kind in ("rows", *_KEYS, "failed", "remarked"))
    total = counts["fits"] + counts["fits_missing"]
    fits = f"{counts['fits']}/{total}" if total else ""
    sizes = (f"{counts[kind] / 1e6:.1f}" if counts[kind] else "" for kind in ("bytes", "remote_bytes"))
    return dict(zip(_HEADS, (*(f"{count:,}" if count else "" for count in rows), fits, *sizes), strict=True))
