"""What the driver sends to workers: plain data, small, without features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.cache.keys import digest
from pipeline.cache.record import Ref
from pipeline.corpus.fit_scope import HeldOut
from pipeline.corpus.recipe import Node
from pipeline.reader import Label
from pipeline.reason import Reason
from pipeline.stage import Modality, Target
from pipeline.utterance import Utterance

FITS = ".fit"
"""Ends the folder of actions in which a stage's states stand, beside that of its shards."""


@dataclass(frozen=True)
class Stored:
    """Rows of an upstream stage that stand in the store: the row key of each utterance, and the shards to read."""

    shards: tuple[Ref, ...]
    keys: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """One stage over the rows of one shard.

    `state` is the fitted state, None for a stage that needs none. `copies` names, for rows that stand in another shard
    of this stage, that shard; `stored` holds upstream rows by the stage's name, where they are not computed in the
    same job.
    """

    node: Node
    shard: str
    keys: tuple[str, ...]
    state: Ref | None
    copies: Mapping[str, Ref]
    stored: Mapping[str, Stored]

    @property
    def key(self) -> tuple[str, str]:
        """The action it saves."""
        return self.node.digest, self.shard


@dataclass(frozen=True)
class ExtractJob:
    """One shard of one modality: decoded once, through all its stages.

    unreadable: the reason of each utterance whose file the doctor found to give nothing whatever part of it is read.
    """

    modality: Modality
    root: Path
    rows: tuple[Utterance, ...]
    runs: tuple[Run, ...]
    unreadable: Mapping[str, Reason] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The same for the same work."""
        return digest("extract", self.keys)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The actions it saves."""
        return [run.key for run in self.runs]

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


@dataclass(frozen=True)
class FitJob:
    """One fit: the rows of one scope's train and validation parts, and nothing else.

    held: what the fold tests on, which a fit refuses to see whoever planned it. left_out: by utterance, why the state
    that serves until now was learned without it.
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

    @property
    def id(self) -> str:
        """The same for the same work."""
        return digest("fit", self.keys)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The action it saves."""
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
    def modality(self) -> Modality:
        """The stage's."""
        return self.node.stage.modality

    @property
    def size(self) -> int:
        """One step of the progress bar."""
        return 1


Job = ExtractJob | FitJob
