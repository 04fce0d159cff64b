"""Where the rows of each stage stand: cached, to be copied, to do, behind a fit, or to be tried again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Column, Table

from pipeline.cache.record import Record
from pipeline.cache.store import Store
from pipeline.corpus.fit_scope import Scope
from pipeline.corpus.recipe import Node, distinct_names
from pipeline.plan import last_extraction
from pipeline.plan.catalogue import Catalogue, Shard
from pipeline.plan.jobs import ExtractJob, Plan, Run
from pipeline.plan.session import Session
from pipeline.reason import Reason


@dataclass
class Standing:
    """Where each row of a stage stands in one scope: every utterance is in one of the first five.

    copied: it stands in another shard, whose record that is. again: by utterance, a reason that may pass.
    failed: by utterance, why a row that is held has no values. keys: of rows, as far as they are known. state: None
    where the stage needs none or it is missing. records: of the shards that answer, and of the state.
    """

    node: Node
    scope: Scope | None
    cached: dict[str, Record] = field(default_factory=dict)
    copied: dict[str, Record | None] = field(default_factory=dict)
    todo: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    again: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    state: Record | None = None
    records: list[Record] = field(default_factory=list)

    @property
    def utterances(self) -> set[str]:
        """All of them."""
        return {*self.keys, *self.pending}

    @property
    def unfinished(self) -> list[str]:
        """The utterances that an extraction would compute, now or after a fit."""
        return [*self.todo, *self.again, *self.pending]


def standings(catalogue: Catalogue, plan: Plan) -> Iterator[Standing]:
    """Where every row stands, for each stage and scope of a plan."""
    runs = {run.key: run for job in plan.jobs if isinstance(job, ExtractJob) for run in job.runs}
    for rows in catalogue:
        found = Standing(rows.node, rows.scope, state=rows.state)
        found.records += [found.state] if found.state else []
        if rows.waiting:
            found.pending += [row.id for row in catalogue.manifest.rows if row.id in rows.ids]
        records = [rows.final(shard) for shard in rows.shards]
        passing = {} if all(records) else _passing(catalogue, rows.node)
        for shard, record in zip(rows.shards, records, strict=True):
            _stand(found, shard, record)
            if record is None:
                _stand_open(found, shard, catalogue.store, runs.get((rows.node.digest, shard.key)), passing)
        yield found


def _stand(found: Standing, shard: Shard, record: Record | None) -> None:
    ids = [row.id for row in shard.rows]
    found.keys.update(zip(ids, shard.keys, strict=True))
    if record is not None:
        found.records.append(record)
        found.cached.update(dict.fromkeys(ids, record))
        found.failed.update({i: why for i, why in record.reasons.items() if Reason(why).failed})


def _stand_open(found: Standing, shard: Shard, store: Store, run: Run | None, passing: Mapping[str, Record]) -> None:
    """Places the rows of a shard that is not final; `run` is what is planned for it, None while that has to wait."""
    if held := store.find(found.node.digest, shard.key):
        found.records.append(held)
    copies = run.copies if run else {}
    records = {ref: store.find(ref.stage, ref.key) for ref in set(copies.values())}
    for row, key in zip(shard.rows, shard.keys, strict=True):
        if key in copies:
            _copy(found, row.id, records[copies[key]])
        elif row.id in passing and key not in passing[row.id].rows:
            found.again[row.id] = passing[row.id].reasons[row.id]
        else:
            (found.todo if run else found.pending).append(row.id)


def _copy(found: Standing, name: str, record: Record | None) -> None:
    found.copied[name] = record
    why = record.reasons.get(name) if record else None
    if why is not None and Reason(why).failed:
        found.failed[name] = why


def _passing(catalogue: Catalogue, node: Node) -> dict[str, Record]:
    """By utterance, the provisional record of a stage that says why it has no values."""
    found: dict[str, Record] = {}
    for key, final in catalogue.listing(node.digest).items():
        record = None if final else catalogue.store.find(node.digest, key)
        found |= dict.fromkeys(record.reasons, record) if record else {}
    return found


# --- affectory status ------------------------------------------------------------------------------------------


def status(session: Session) -> dict[str, Any]:
    """`affectory status`: rows, fits and bytes by stage; a row counts once for each fit whose features it gets.

    Stages of one name are told apart by their digests. `remote_bytes` is what the remote alone holds.
    """
    store, name = session.catalogue.store, session.corpus.recipe.name
    last = last_extraction.read(session.home.root, name)
    by_stage: dict[str, list[Standing]] = {}
    called = distinct_names(node for node, _ in session.catalogue.wanted)
    for found in standings(session.catalogue, session.plan()):
        by_stage.setdefault(called[found.node], []).append(found)
    stages = {label: _counts(found) | _bytes(found, store) for label, found in by_stage.items()}
    remote = store.remote
    return {"dataset": name, "last": last and last.at, "remote": remote and remote.url, "stages": stages}


def _counts(standing: Sequence[Standing]) -> dict[str, int]:
    """Rows by where they stand; `failed` is a part of those cached or copied."""
    rows = {
        "cached": sum(len(found.cached) for found in standing),
        "copy": sum(len(found.copied) for found in standing),
        "todo": sum(len(found.todo) for found in standing),
        "pending": sum(len(found.pending) for found in standing),
        "provisional": sum(len(found.again) for found in standing),
    }
    fits = [found.state is not None for found in standing if found.node.stage.fitted]
    return {
        "rows": sum(rows.values()),
        **rows,
        "failed": sum(len(found.failed) for found in standing),
        "fits": sum(fits),
        "fits_missing": len(fits) - sum(fits),
    }


def _bytes(standing: Sequence[Standing], store: Store) -> dict[str, int]:
    """Of shards and states that answer for these rows, each object once."""
    objects = {record.object: record for found in standing for record in found.records}
    here = sum(record.size for record in objects.values() if store.here(record))
    return {"bytes": here, "remote_bytes": sum(record.size for record in objects.values()) - here}


def status_table(answer: Mapping[str, Any]) -> Table:
    """The numbers of `status`, for people, in rows of utterances and in MB; eighty columns wide."""
    heads = ("rows", "cached", "copy", "to do", "wait", "retry", "failed", "fits", "MB")
    note = "wait: behind a fit; retry: failed for a reason that may pass"
    stage = Column("stage", overflow="fold")
    table = Table(stage, box=SIMPLE, padding=(0, 0, 0, 1), title=answer["dataset"], caption=note)
    for head in (*heads, *(["remote MB"] if answer["remote"] else [])):
        table.add_column(head, justify="right", no_wrap=True)
    for name, found in sorted(answer["stages"].items()):
        counts = (found[kind] for kind in ("rows", "cached", "copy", "todo", "pending", "provisional", "failed"))
        total = found["fits"] + found["fits_missing"]
        fits = f"{found['fits']}/{total}" if total else ""
        sizes = [f"{found[kind] / 1e6:.1f}" for kind in ("bytes", "remote_bytes")]
        table.add_row(escape(name), *(f"{count:,}" for count in counts), fits, *sizes[: 2 if answer["remote"] else 1])
    return table
