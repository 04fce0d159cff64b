"""The jobs that the driver sends to workers, and the plan that lists them: plain data, small, without features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.cache.keys import digest
from pipeline.cache.record import FITS, REFERENCES, Ref
from pipeline.corpus.fit_scope import HeldOut
from pipeline.corpus.recipe import Node
from pipeline.reader import Label
from pipeline.reason import Reason
from pipeline.stage import Modality, Target
from pipeline.utterance import Utterance

PART_ROWS = 8
"""A part of a job has so many rows at least; what a batch holds is a stage's own affair, of frames or of tokens."""


@dataclass(frozen=True)
class Stored:
    """Cached rows of an upstream stage: the shards to read, and the row key of each utterance."""

    shards: tuple[Ref, ...]
    keys: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """One stage over the rows of one shard.

    state: the fitted state, None for a stage that needs none. copies: the shard to copy from, by row key, for rows that
    another shard of this stage holds. stored: upstream rows by the stage's name, unless the same job computes them.
    """

    node: Node
    shard: str
    keys: tuple[str, ...]
    state: Ref | None
    copies: Mapping[str, Ref]
    stored: Mapping[str, Stored]

    @property
    def key(self) -> tuple[str, str]:
        """Stage and key of the record it saves."""
        return self.node.digest, self.shard


@dataclass(frozen=True)
class ExtractJob:
    """One shard of one modality. Each clip is decoded once and goes through all the stages.

    unreadable: utterances whose file gives nothing whatever part of it is read, as the doctor found, with the reason.
    before: the turns before each row, as many as any of the stages reads; empty if none reads the dialogue.
    """

    modality: Modality
    root: Path
    rows: tuple[Utterance, ...]
    runs: tuple[Run, ...]
    unreadable: Mapping[str, Reason] = field(default_factory=dict)
    before: Mapping[str, tuple[Utterance, ...]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The same for the same work."""
        return digest("extract", self.keys)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Stage and key of each record it saves."""
        return [run.key for run in self.runs]

    @property
    def nodes(self) -> list[Node]:
        """The stages it runs."""
        return [run.node for run in self.runs]

    @property
    def reads(self) -> list[Ref]:
        """The objects it opens."""
        stored = [ref for run in self.runs for each in run.stored.values() for ref in each.shards]
        states = [run.state for run in self.runs if run.state is not None]
        return [*stored, *states, *(ref for run in self.runs for ref in run.copies.values())]

    @property
    def gpu(self) -> bool:
        """True where one of its stages wants a GPU."""
        return any(run.node.stage.gpu for run in self.runs)

    @property
    def size(self) -> int:
        """Rows times stages still to do, for the progress bar."""
        return sum(len(run.keys) for run in self.runs)

    def parts(self, count: int) -> list[ExtractJob]:
        """At most `count` jobs of about as many rows each, `PART_ROWS` at least, in their order."""
        rows = len(self.rows)
        count = max(1, min(count, rows // PART_ROWS))
        ends = [round(rows * number / count) for number in range(1, count)]
        return [self._between(first, last) for first, last in zip([0, *ends], [*ends, rows], strict=True)]

    def _between(self, first: int, last: int) -> ExtractJob:
        runs = tuple(replace(run, keys=run.keys[first:last]) for run in self.runs)
        return replace(self, rows=self.rows[first:last], runs=runs)


@dataclass(frozen=True)
class FitJob:
    """One fit: the rows of one scope's train and validation parts, and nothing else.

    held: the rows that the fold tests on, which a fit refuses to see whoever planned it. left_out: the utterances that
    the state which serves until now was learned without, with the reason. before: as in `ExtractJob`.
    """

    node: Node
    scope: str
    state: str
    target: Target
    root: Path
    train: tuple[Utterance, ...]
    valid: tuple[Utterance, ...]
    labels: Mapping[str, Label]
    stored: Mapping[str, Stored]
    held: HeldOut
    left_out: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, tuple[Utterance, ...]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The same for the same work."""
        return digest("fit", self.keys)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Stage and key of the record it saves."""
        return [(self.node.digest + FITS, self.state)]

    @property
    def reads(self) -> list[Ref]:
        """The objects it opens."""
        return [ref for each in self.stored.values() for ref in each.shards]

    @property
    def gpu(self) -> bool:
        """True where the stage wants a GPU."""
        return self.node.stage.gpu

    @property
    def name(self) -> str:
        """As messages call it."""
        return f"the fit of {self.node.name} on {self.scope}"

    @property
    def nodes(self) -> list[Node]:
        """The stage that is fitted."""
        return [self.node]

    @property
    def modality(self) -> Modality:
        """The modality of the stage."""
        return self.node.stage.modality

    @property
    def size(self) -> int:
        """One step of the progress bar."""
        return 1


@dataclass(frozen=True)
class ReferenceJob:
    """One stage on the built-in sample, see `pipeline.plan.references`.

    states: those that fitted stages use, by the digest of the stage.
    """

    node: Node
    states: Mapping[str, Ref]
    key: str

    @property
    def id(self) -> str:
        """The same for the same work, whatever states the sample goes through."""
        return digest("reference", self.node.digest)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Stage and key of the record it saves."""
        return [(self.node.family + REFERENCES, self.key)]

    @property
    def reads(self) -> list[Ref]:
        """The objects it opens."""
        return list(self.states.values())

    @property
    def gpu(self) -> bool:
        """False: on every machine the sample is computed by the processor, so that libraries alone are compared."""
        return False

    @property
    def name(self) -> str:
        """As messages call it."""
        return f"the reference of {self.node.name}"

    @property
    def nodes(self) -> list[Node]:
        """The stage, and those below it, which all run."""
        return list(dict.fromkeys(self.node.walk()))

    @property
    def modality(self) -> Modality:
        """The modality of the stage."""
        return self.node.stage.modality

    @property
    def size(self) -> int:
        """No row of the progress bar."""
        return 0


Job = ExtractJob | FitJob | ReferenceJob


@dataclass
class Plan:
    """Jobs to run now; by stage, the number of rows that wait for a fit and of rows that are cached."""

    jobs: list[Job] = field(default_factory=list)
    waiting: Counter[Node] = field(default_factory=Counter)
    cached: Counter[Node] = field(default_factory=Counter)


def named(counts: Mapping[Node, int]) -> Counter[str]:
    """The same by the name of the stage; stages of one name are added up."""
    by_name = Counter[str]()
    for node, count in counts.items():
        by_name[node.name] += count
    return by_name
