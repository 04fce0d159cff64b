"""The section of the report on remarks: how many rows have them, and the share of words without a vector by part."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

from pipeline.cache import shards
from pipeline.cache.store import CorruptError
from pipeline.corpus.recipe import Node
from pipeline.errors import InputError
from pipeline.pages.table import Cell, Sheet, amount
from pipeline.plan import remarked
from pipeline.remark import Kind
from pipeline.report.corpus_section import parts
from pipeline.report.features_section import Extracted, StoredRows

Words = Mapping[str, tuple[float, float]]
"""By utterance, the words of its transcript that have no vector, and all its words."""


class Remarks:
    """What is to be said of the remarks on the rows that the store holds."""

    def __init__(self, extracted: Extracted) -> None:
        self._extracted = extracted
        self.counts = remarked.counts(extracted.session.catalogue)

    @cached_property
    def unknown(self) -> dict[str, dict[str, float | None]]:
        """For each stage with words that have no vector, their share by part; None where it is not known."""
        stages = {count.stage for count in self.counts if count.kind is Kind.UNKNOWN_WORDS}
        names = self._extracted.names
        nodes = {stored.node: names[stored.node] for stored in self._extracted.stored if names[stored.node] in stages}
        return {name: dict(self._shares(node)) for node, name in nodes.items()}

    def sheets(self) -> Iterator[Sheet]:
        """The remarks by stage and kind, and the words without a vector by part; none if there are none."""
        rows = [
            (c.stage, c.kind.value, c.rows, Cell(f"{c.share:.1%}", loud=c.large, number=True), c.amounts)
            for c in self.counts
        ]
        note = "Doubts about rows that have values. `affectory errors --remarks` lists them."
        if rows:
            yield Sheet.of("Remarks", ("stage", "remark", "rows", "of the rows", "in all"), rows, note)
        if self.unknown:
            groups = parts(self._extracted.session.corpus)
            shares = [(name, *(_cell(of_stage[part]) for part in groups)) for name, of_stage in self.unknown.items()]
            yield Sheet.of("Words without a vector", ("stage", *groups), shares)

    def notices(self) -> Iterator[str]:
        """A line for whatever a person should see first."""
        for count in self.counts:
            if count.large and count.kind is not Kind.UNKNOWN_WORDS:
                yield f"{count}."
        for stage, shares in self.unknown.items():
            large = {part: share for part, share in shares.items() if share and share > remarked.LARGE_SHARE}
            if large:
                some = ", ".join(f"{share:.1%} of {part}" for part, share in large.items())
                yield f"{stage} has no vector for many words: {some}."

    def _shares(self, node: Node) -> Iterator[tuple[str, float | None]]:
        corpus = self._extracted.session.corpus
        for part, rows in parts(corpus).items():
            scopes = [
                stored
                for stored in self._extracted.stored
                if stored.node is node and (stored.scope is None or len(corpus.folds) == 1 or stored.scope.name == part)
            ]
            words = [self._words(stored, {row.id for row in rows}) for stored in scopes]
            yield part, _share([known for known in words if known is not None]) if None not in words else None

    def _words(self, stored: StoredRows, ids: Collection[str]) -> Words | None:
        """None if a shard is not here. A row without a remark has a vector for each word, which is a step."""
        store = self._extracted.session.catalogue.store
        words: dict[str, tuple[float, float]] = {}
        for _, record in stored.shards:
            if record is None or not store.here(record):
                return None
            try:
                table = shards.open_table(store.open(record), ["utterance", "frames"])
            except (CorruptError, InputError):
                return None
            steps = zip(table["utterance"].to_pylist(), table["frames"].to_pylist(), strict=True)
            words |= {name: (0.0, float(count)) for name, count in steps if name in ids}
            for name in record.remarks.get(Kind.UNKNOWN_WORDS, {}).keys() & words.keys():
                [remark] = [one for one in record.remarks_on(name) if one.kind is Kind.UNKNOWN_WORDS]
                words[name] = (remark.part, remark.whole)
        return words


def _share(words: Sequence[Words]) -> float | None:
    every = [counts for of_scope in words for counts in of_scope.values()]
    whole = sum(count for _, count in every)
    return sum(unknown for unknown, _ in every) / whole if whole else None


def _cell(share: float | None) -> Cell:
    return amount(None if share is None else 100 * share, "%")
