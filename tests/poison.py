"""Stages and decoders that misbehave on purpose, for one utterance: what a broken library or a cursed file does."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.cache.keys import digest
from pipeline.corpus.recipe import Node
from pipeline.stage import Item, Spec, Stage, State, Track

MACHINE = {
    "library": ImportError("libgomp.so.1: cannot open shared object file"),
    "full": OSError(errno.ENOSPC, "No space left on device"),
    "barred": PermissionError(errno.EACCES, "Permission denied", "/home/nobody/.cache"),
}
"""What is the fault of a machine, by its name."""


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
    """Ends this process as a crash in C or the kernel would, hangs, fails, runs out of memory, takes all of it, or
    lacks what a machine should have.
    """
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(9)
    if how == "hang":
        time.sleep(3600)
    if how == "memory":
        raise MemoryError
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "eat":
        eat()
    if how in MACHINE:
        raise MACHINE[how]
    raise RuntimeError("misbehaving as told")


def eat() -> None:
    """Takes memory until something ends this process."""
    held = [b""]
    while held:
        held.append(bytes(2**20))
        held[-1] = held[-1].replace(b"\0", b"\1")
        time.sleep(0.002)


def node(victim: str, how: str) -> Node:
    """The stage as a recipe would give it."""
    stage = Poisoned(victim=victim, how=how)
    return Node("poisoned", stage, {"victim": victim, "how": how}, ("text",), digest("poisoned", victim, how))
