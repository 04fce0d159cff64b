"""Stages and decoders that misbehave on purpose, for one utterance: what a broken library or a cursed file does."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.cache.keys import digest
from pipeline.corpus.recipe import Node
from pipeline.stage import Item, Spec, Stage, State, Track


@dataclass(frozen=True, kw_only=True)
class Poisoned(Stage):
    """The length of a transcript, but for the utterance `victim`, of which it does what `how` says."""

    version: ClassVar[int] = 1
    modality: ClassVar = "text"
    inputs: ClassVar[tuple[str, ...]] = ("text",)

    victim: str
    how: str

    def spec(self, loaded: Any) -> Spec:
        """One number."""
        return Spec(1)

    def transform(self, loaded: Any, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """[1, 1] for each transcript."""
        for item in batch:
            if item.id == self.victim:
                misbehave(self.how)
        return [Track.of(np.full((1, 1), len(item["text"]), np.float32)) for item in batch]


def misbehave(how: str) -> None:
    """Ends this process as a crash in C would, hangs, fails, or runs out of memory."""
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(9)
    if how == "hang":
        time.sleep(3600)
    if how == "memory":
        raise MemoryError
    raise RuntimeError("misbehaving as told")


def node(victim: str, how: str) -> Node:
    """The stage as a recipe would give it."""
    stage = Poisoned(victim=victim, how=how)
    return Node("poisoned", stage, {"victim": victim, "how": how}, ("text",), digest("poisoned", victim, how))
