"""The remarks on the cached rows that a catalogue asks for: one by one, and counted by stage and kind."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from pipeline.cache.record import Record
from pipeline.corpus.recipe import Node, distinct_names
from pipeline.plan.catalogue import Catalogue, Shard, StageRows
from pipeline.remark import Kind, Remark, amount

LARGE_SHARE = 0.05
"""The share of a stage's rows above which the remarks of one kind are among the first that a person should see."""


class Remarked(NamedTuple):
    """A remark and its row."""

    rows: StageRows
    utterance: str
    remark: Remark


@dataclass(frozen=True)
class Count:
    """The remarks of one kind on the rows of a stage. A row counts once for each fit whose features it gets.

    rows: those with such a remark, `of` so many that are cached. part, whole: the sums over the remarks.
    """

    stage: str
    kind: Kind
    rows: int
    of: int
    part: float
    whole: float

    @property
    def share(self) -> float:
        """The share of the stage's rows that have such a remark."""
        return self.rows / self.of

    @property
    def large(self) -> bool:
        """True if so many rows have such a remark that a person should see it first."""
        return self.share > LARGE_SHARE

    @property
    def amounts(self) -> str:
        """The sums in words."""
        return f"{amount(self.part)} of their {amount(self.whole)} {self.kind.unit} {self.kind.said}"

    def answer(self) -> dict[str, Any]:
        """The numbers as JSON-able data."""
        return {name: value for name, value in asdict(self).items() if name not in ("stage", "kind")}

    def __str__(self) -> str:
        return f"{self.rows:,} of {self.of:,} rows of {self.stage} have the remark {self.kind.value}: {self.amounts}"


def remarked(catalogue: Catalogue) -> Iterator[Remarked]:
    """Every remark on a cached row."""
    for rows, shard, record in _records(catalogue):
        for row in shard.rows:
            for remark in record.remarks_on(row.id):
                yield Remarked(rows, row.id, remark)


def counts(catalogue: Catalogue) -> list[Count]:
    """The remarks by stage and kind, for stages and kinds that have any. Stages of one name are told apart."""
    names = distinct_names(node for node, _ in catalogue.wanted)
    cached: Counter[Node] = Counter()
    by_kind: defaultdict[tuple[Node, Kind], list[Remark]] = defaultdict(list)
    for rows, shard, record in _records(catalogue):
        cached[rows.node] += len(shard.rows)
        of_rows = (record.remarks_on(row.id) for row in shard.rows if record.remarks)
        for remark in (remark for remarks in of_rows for remark in remarks):
            by_kind[rows.node, remark.kind].append(remark)
    every = (_count(names[node], kind, cached[node], remarks) for (node, kind), remarks in by_kind.items())
    return sorted(every, key=lambda count: (count.stage, count.kind))


def by_stage(counted: Iterable[Count]) -> dict[str, dict[str, dict[str, Any]]]:
    """The counts as JSON-able data, by stage and kind."""
    answer: dict[str, dict[str, dict[str, Any]]] = {}
    for count in counted:
        answer.setdefault(count.stage, {})[count.kind.value] = count.answer()
    return answer


def _records(catalogue: Catalogue) -> Iterator[tuple[StageRows, Shard, Record]]:
    for rows in catalogue:
        for shard in rows.shards:
            if record := rows.said(shard):
                yield rows, shard, record


def _count(stage: str, kind: Kind, cached: int, remarks: list[Remark]) -> Count:
    part, whole = (sum(getattr(remark, name) for remark in remarks) for name in ("part", "whole"))
    return Count(stage, kind, len(remarks), cached, part, whole)
