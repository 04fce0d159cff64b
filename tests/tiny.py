"""A tiny model on a tiny view, trained in this process: what the tests of the training loop share."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from torch import nn

from pipeline.corpus.recipe import Align
from pipeline.model import Model, Prediction, masked_mean
from pipeline.reader import Fold
from pipeline.stage import Target, Track
from pipeline.train import loop
from pipeline.train.train_fold import TrainRequest, train_fold
from pipeline.views.view import write_column

N = 60
IDS = tuple(f"u{i:02}" for i in range(N))
FOLD = Fold("one", IDS[:36], IDS[36:46], IDS[46:])
CLASSES = Target("multiclass", ("a", "b", "c"))
LABELS = {name: i % 3 for i, name in enumerate(IDS)}
NOTHING, NO_AUDIO = (5, 40, 50), (7, 52)
VAD = Target("regression", ("valence", "arousal", "dominance"))
NUMBERS = {name: (1.0 + i % 3, 5.0 - i % 3, 2.0 + i % 3 % 2) for i, name in enumerate(IDS)}
WILD = {"learning_rate": 0.3, "epochs": 40, "patience": 3, "decay_every": 0}
"""Settings under which the validation loss rises again before the last epoch."""


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    width: int = 4
    dropout: float = 0.2


class Tiny(Model):
    """One reduction for each modality, their sum gated equally, one linear layer."""

    Config = TinyConfig
    features = "tiny"
    train_defaults: ClassVar = dict(
        epochs=6,
        batch_size=8,
        learning_rate=0.02,
        beta1=0.9,
        beta2=0.99,
        weight_decay=1e-4,
        decay_factor=0.5,
        decay_every=2,
        clip_norm=1.0,
        unimodal_pretrain=False,
    )

    def __init__(self, config, inputs, outputs):
        super().__init__(config, inputs, outputs)
        self.reduce = nn.ModuleDict({m: nn.Linear(i.dim, config.width) for m, i in inputs.items()})
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, outputs)

    def reductions(self):
        return dict(self.reduce.items())

    def forward(self, values, masks):
        x = self.standardise(values, masks)
        fused = sum(masked_mean(self.reduce[m](x[m]), masks[m]) for m in x)
        present = {m: mask.any(dim=1).float() for m, mask in masks.items()}
        total = sum(present.values()).clamp(min=1)
        return Prediction(self.head(self.drop(fused)), gates={m: share / total for m, share in present.items()})


def write_view(directory: Path, change: Iterable[int] = (), length: int = 4) -> dict[str, Path]:
    """Text of three steps that says the label, audio of one vector of noise; the text of `change` is replaced."""
    rng = np.random.default_rng(0)
    text: list[Track | None] = []
    audio: list[Track | None] = []
    for i in range(N):
        signal = np.eye(3)[i % 3] * 3
        text.append(Track.of((rng.standard_normal((3, 3)) + signal).astype(np.float32)))
        audio.append(Track.of((rng.standard_normal((1, 5)) * 100).astype(np.float32)))
    for i in NOTHING:
        text[i] = audio[i] = None
    for i in NO_AUDIO:
        audio[i] = None
    for i in change:
        text[i] = Track.of(rng.standard_normal((4, 3)).astype(np.float32) * 1000)
    write_column(directory / "text", enumerate(text), N, Align("pad", length), 3)
    write_column(directory / "audio", enumerate(audio), N, Align("broadcast", length), 5)
    return {m: directory / m for m in ("text", "audio")}


def request(columns: dict[str, Path], run: Path, **more: Any) -> TrainRequest:
    """The tiny model on the fold `one`."""
    given: dict[str, Any] = dict(
        model="tiny",
        config={},
        training={},
        ids=IDS,
        columns=columns,
        labels=LABELS,
        target=CLASSES,
        fold=FOLD,
        speakers={},
        run=run,
        seed=3,
        device="cpu",
        digest="d1",
    )
    return TrainRequest(**{**given, **more})


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def epochs(run: Path, name: str = "epochs.csv") -> list[dict[str, str]]:
    """The epochs of a run but for the seconds they took."""
    rows = csv.DictReader((run / name).read_text().splitlines())
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


class Killed(Exception):
    """Stands for kill -9."""


def die(monkeypatch: pytest.MonkeyPatch, request: TrainRequest, after: int, where: str = "_keep") -> None:
    """Trains a fold in a process that is killed before the `after`th call, from 0, of a method of the loop."""
    real, calls = getattr(loop._Training, where), Counter()

    def dying(self, *given):
        calls[where] += 1
        if calls[where] > after:
            raise Killed
        return real(self, *given)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop._Training, where, dying)
        train_fold(request)
