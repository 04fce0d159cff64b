"""The sections of the report on features: coverage, failures, costs and fits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.cache.record import Record
from pipeline.corpus.fit_scope import Scope
from pipeline.corpus.recipe import Node, distinct_names
from pipeline.pages.charts import Chart, Curves, curves
from pipeline.pages.table import NONE, Cell, Sheet, amount, cell, size
from pipeline.plan import shortfall
from pipeline.plan.catalogue import Shard, StageRows
from pipeline.plan.session import Session
from pipeline.reason import Reason
from pipeline.report.corpus_section import parts
from pipeline.run import time_spent
from pipeline.utterance import Utterance

TIMES = (
    "Seconds of all workers together. Decode is the wait for raw input, which processes of their own decode ahead; "
    "load is that of stages, read that of rows of other stages; start is planning, and starting and ending workers; "
    "idle is the wait for a job."
)
"""What the kinds of `times` are."""
SHOWN = 10
"""The number of failed utterances that are listed for each stage and reason."""


@dataclass(frozen=True)
class StoredRows:
    """The shards of a stage in one scope, each with its record, or None if it is not in the store.

    While a fit is missing there are no shards.
    """

    node: Node
    scope: Scope | None
    wanted: Set[str]
    shards: tuple[tuple[Shard, Record | None], ...]

    @cached_property
    def rows(self) -> frozenset[str]:
        """The utterances that have a row, with values or with a reason."""
        return frozenset(row.id for shard, record in self.shards if record for row in shard.rows)

    @property
    def missing(self) -> Set[str]:
        """The utterances still to be extracted."""
        return self.wanted - self.rows


class Extracted:
    """Everything the store holds for a session's recipe. Each record is read once."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.stored = [_stored(rows) for rows in session.catalogue]
        self.names = distinct_names(stored.node for stored in self.stored)
        self.reasons = shortfall.reasons(session.catalogue)
        fitted = [rows for rows in session.catalogue if rows.node.stage.fitted]
        self.fits = [(rows.node, rows.scope, rows.state) for rows in fitted if rows.scope is not None]

    def incomplete(self) -> list[str]:
        """A line for each stage that lacks rows or a fit."""
        missing: Counter[Node] = Counter()
        wanted: Counter[Node] = Counter()
        for stored in self.stored:
            missing[stored.node] += len(stored.missing)
            wanted[stored.node] += len(stored.wanted)
        fits = Counter(node for node, _, record in self.fits if record is None)
        return [
            f"{self.names[node]}: {count:,} of {wanted[node]:,} rows" + (f", {fits[node]} fits" if fits[node] else "")
            for node, count in missing.items()
            if count
        ]


def _stored(rows: StageRows) -> StoredRows:
    records = tuple((shard, rows.record(shard)) for shard in rows.shards)
    return StoredRows(rows.node, rows.scope, rows.ids, records)


# --- coverage --------------------------------------------------------------------------------------------------


def covered(extracted: Extracted) -> Sheet:
    """The coverage by modality and part: utterances that have features, are absent, or failed, by reason."""
    groups = parts(extracted.session.corpus)
    modalities = dict.fromkeys(stored.node.stage.modality for stored in extracted.stored)
    rows = [row for modality in modalities for row in _covered(extracted, modality, groups)]
    return Sheet.of("Coverage, in utterances", ("modality", "status", *groups, "all", "share"), rows)


def _covered(extracted: Extracted, modality: str, groups: Mapping[str, Sequence[Utterance]]) -> Iterator[Sequence[Any]]:
    status = _statuses(extracted, modality)
    by_part = [Counter(status[row.id] for row in rows) for rows in groups.values()]
    everyone = Counter(status.values())
    for kind in sorted({"ok", *everyone}, key=lambda kind: (kind != "ok", kind != "absent", -everyone[kind])):
        share = amount(100 * everyone[kind] / len(status), "%")
        yield modality if kind == "ok" else "", _label(kind), *(c[kind] for c in by_part), everyone[kind], share


def _statuses(extracted: Extracted, modality: str) -> dict[str, str]:
    """The status of each utterance: `ok`, `not extracted` or a reason."""
    reasons = extracted.reasons.get(modality, {})
    stages = [stored for stored in extracted.stored if stored.node.stage.modality == modality]
    missing = frozenset[str]().union(*(stored.missing for stored in stages))
    ids = [row.id for row in extracted.session.corpus.manifest.rows]
    return {i: reasons.get(i) or ("not extracted" if i in missing else "ok") for i in ids}


def _label(status: str) -> Cell:
    if status in ("ok", "not extracted"):
        return Cell(status, loud=status != "ok")
    reason = Reason(status)
    if not reason.failed:
        return Cell("absent: no such modality")
    return Cell(
        f"failed: {reason.value.replace('_', ' ')}" + (" (will be tried again)" if reason.transient else ""), loud=True
    )


def failures(failed: Iterable[Mapping[str, Any]]) -> list[Sheet]:
    """The first utterances that failed in each stage for each reason, with their messages and files.

    failed: the entries of `pipeline.ask.failures`. An utterance that failed in several folds of a stage counts once.
    """
    by_kind: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for entry in failed:
        by_kind.setdefault((entry["stage"], entry["reason"]), {}).setdefault(entry["utterance"], entry)
    return [_failures(stage, reason, list(entries.values())) for (stage, reason), entries in by_kind.items()]


def _failures(stage: str, reason: str, entries: Sequence[Mapping[str, Any]]) -> Sheet:
    table = [(entry["utterance"], entry["file"] or NONE, entry["message"] or NONE) for entry in entries[:SHOWN]]
    more = f"The first {SHOWN} of {len(entries):,}: `affectory errors --stage {stage}` lists all."
    caption = f"{stage}: {reason.replace('_', ' ')}, {len(entries):,}"
    return Sheet.of(caption, ("utterance", "file", "message"), table, more if len(entries) > SHOWN else "")


# --- costs -----------------------------------------------------------------------------------------------------


def costs(extracted: Extracted) -> Sheet:
    """The time that each stage's shards took, and their size on disk."""
    records: dict[Node, dict[str, Record]] = {}
    for stored in extracted.stored:
        of_stage = records.setdefault(stored.node, {})
        of_stage.update({record.key: record for _, record in stored.shards if record})
    store = extracted.session.catalogue.store
    rows = [(extracted.names[node], *_cost(list(by_key.values()), store)) for node, by_key in records.items()]
    header = (
        "stage",
        "shards",
        "rows",
        "computed",
        "copied",
        "seconds",
        "rows/s",
        "on disk",
        "backend",
        "host",
        "stored",
    )
    note = "Seconds are spent inside the stage, without reading and decoding media. Copied rows cost no time."
    return Sheet.of("Cost of the features", header, rows, note)


def times(extracted: Extracted) -> Sheet | None:
    """Where the time of the last extraction went that had something to do; None if none is kept."""
    session = extracted.session
    spent = time_spent.kept(session.home.root, session.corpus.recipe.home_name)
    if spent is None:
        return None
    rows = [(kind, amount(spent.seconds[kind]), amount(100 * share, "%")) for kind, share in spent.shares.items()]
    caption = f"The last extraction: {spent.wall_s:,.1f} s on {spent.workers} workers"
    return Sheet.of(caption, ("kind", "seconds", "share"), rows, TIMES)


def _cost(records: Sequence[Record], store: Any) -> Iterator[Any]:
    stats = [store.path(record).stat() for record in records if store.here(record)]
    computed, rows = (sum(record.about.get(kind, 0) for record in records) for kind in ("computed", "rows"))
    seconds = sum(record.seconds for record in records)
    yield from (len(records), rows, computed, rows - computed, amount(seconds))
    yield amount(computed / seconds if seconds else None)
    yield size(sum(stat.st_size for stat in stats))
    yield from (_names(records, "backend"), _names(records, "host"))
    yield _span([stat.st_mtime for stat in stats])


def _names(records: Sequence[Record], kind: str) -> Cell:
    """The hosts or backends that made the shards. Several backends stand out, since their values may differ."""
    names = sorted({str(record.about[kind]) for record in records if record.about.get(kind)})
    return Cell(", ".join(names), loud=kind == "backend" and len(names) > 1) if names else cell(None)


def _span(times: Sequence[float]) -> str:
    days = sorted({time.strftime("%Y-%m-%d", time.localtime(t)) for t in times})
    return " to ".join(dict.fromkeys((days[0], days[-1]))) if days else ""


def library_versions(extracted: Extracted) -> Sheet | None:
    """The rows of each stage that several versions of its libraries computed; None if there is no such stage."""
    rows = [
        (extracted.names[node] if first else "", versions or "not noted", count)
        for node, counts in _by_versions(extracted).items()
        for first, (versions, count) in zip((True, *[False] * len(counts)), counts.most_common(), strict=False)
        if len(counts) > 1
    ]
    note = "On the built-in sample all give the same values within the stage's tolerance, so that rows may be mixed."
    header = ("stage", "versions", "rows")
    return Sheet.of("Stages of several versions of libraries", header, rows, note) if rows else None


def _by_versions(extracted: Extracted) -> dict[Node, Counter[str]]:
    """By stage, how many of its rows each set of versions computed. A row counts once for each fit that it is of."""
    by_stage: dict[Node, Counter[str]] = {}
    for stored in extracted.stored:
        counts = by_stage.setdefault(stored.node, Counter())
        for shard, record in stored.shards if stored.node.founding else ():
            about = record.about if record else {}
            versions, otherwise = about.get("libraries", {}), about.get("otherwise", {})
            if record:
                counts.update(_versions(otherwise.get(row.id, versions)) for row in shard.rows)
    return by_stage


def _versions(libraries: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(libraries.items()))


# --- fits ------------------------------------------------------------------------------------------------------


def fits(extracted: Extracted) -> Sheet | None:
    """The rows that each fit learned from, and its epochs and losses; None if no stage is fitted."""
    rows = [(extracted.names[node], scope.name, *_fit(record)) for node, scope, record in extracted.fits]
    header = ("stage", "fitted on", "train rows", "valid rows", "epochs", "epoch kept", "valid loss", "seconds")
    note = "With cross-fitting, the fit of a part does not see the train rows that get its features."
    return Sheet.of("Fits", header, rows, note) if rows else None


def _fit(record: Record | None) -> Sequence[Any]:
    if record is None:
        return (Cell("not fitted yet", loud=True), *[None] * 5)
    about, log = record.about, record.about.get("log", {})
    lines, best = _curves(log), log.get("best_epoch")
    losses = lines.get("valid", ())
    lowest = losses[best] if best is not None and best < len(losses) else None
    epochs = max(map(len, lines.values()), default=None)
    kept = None if best is None else best + 1
    return len(about.get("train", ())), len(about.get("valid", ())), epochs, kept, lowest, amount(record.seconds)


def fit_curves(extracted: Extracted) -> list[Chart]:
    """The losses of every fit that logged them, one chart per stage."""
    panels: dict[str, dict[str, Curves]] = {}
    best: dict[str, dict[str, int | None]] = {}
    for node, scope, record in extracted.fits:
        log = record.about.get("log", {}) if record else {}
        if lines := _curves(log):
            name = extracted.names[node]
            panels.setdefault(name, {})[scope.name] = lines
            best.setdefault(name, {})[scope.name] = log.get("best_epoch")
    return [curves(f"Loss of {name} by epoch", scopes, best[name]) for name, scopes in panels.items()]


def _curves(log: Mapping[str, Any]) -> dict[str, list[float]]:
    """The entries of a log that have one number per epoch."""
    return {name.removesuffix("_loss"): values for name, values in log.items() if isinstance(values, list) and values}
