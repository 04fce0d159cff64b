"""An epoch of HJCAG and of MulG against one written by hand: `python -m tests.bench.training [hjcag] [mulg]`.

Ours is `pipeline.train.loop.fit` over a view, with its checkpoints; the other is `tests.bench.plain_models`, over
tensors in memory. Both have the sizes of IEMOCAP's recipe, the made features of `tests.bench.views`, and the same
weights at the start, with which their logits of all rows have to be equal. Printed is the median of the ratios of
seconds of the processor, which other work moves less than a clock, taken in turn in one thread.

    python -m tests.bench.training forward [--lengths 50 200 500]

prints the time of MulG's forward pass as a share of that of MulT with its width and depth.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.corpus.recipe_training import TrainConfig, model_class, resolve
from pipeline.model import Input, Model
from pipeline.objective import Objective
from pipeline.train.loop import Job, fit
from pipeline.train.predict import predict
from pipeline.views.dataset import Dataset
from pipeline.views.dataset import statistics as column_statistics
from tests.bench import plain_models
from tests.bench.mulg_mult import contenders, measured
from tests.bench.views import SETS, SIX, opened, tracks, written

SIZES = {"hjcag": (1024, 128), "mulg": (512, 64)}
"""Rows to learn from and to validate on."""
SECTION: dict[str, dict[str, Any]] = {
    "hjcag": {"audio_dim": 1582},
    "mulg": {"embed_dropout": 0.3, "attn_dropout": 0.2, "relu_dropout": 0.2, "res_dropout": 0.2, "out_dropout": 0.1},
}
LOOP = {"hjcag": {"batch_size": 64}, "mulg": {"batch_size": 32}}
"""What `[train.hjcag]` and `[train.mulg]` of IEMOCAP's recipe say."""
ASKED = 1e-5


@dataclass
class Rivals:
    """A model and its rival with the same weights, over the same rows."""

    dataset: Dataset
    settings: TrainConfig
    model: Model
    plain: nn.Module
    valid: int

    @classmethod
    def of(cls, name: str, place: Path, rows: int, valid: int) -> Rivals:
        """Both on so many rows, the last `valid` of which are for validation."""
        kind = model_class(name)
        config, settings = resolve(kind, SECTION[name], {**LOOP[name], "epochs": 1})
        dataset = opened(written(name, tracks(name, rows), place), cut=not kind.fixed_length)
        torch.manual_seed(0)
        model = kind(config, {m: Input(made.dim, made.align.length) for m, made in SETS[name].items()}, SIX.outputs)
        for modality, column in dataset.view.columns.items():
            known = column_statistics(column, np.arange(rows - valid))
            model.standardise.set(modality, *(torch.from_numpy(part).float() for part in known))
        dims = {m: made.dim for m, made in SETS[name].items()}
        plain = (
            plain_models.PlainHJCAG(dims, SETS[name]["text"].align.length, SIX.outputs)
            if name == "hjcag"
            else plain_models.PlainMulG(dims, SIX.outputs)
        )
        plain.load_state_dict(model.state_dict())
        return cls(dataset, settings, model, plain, valid)

    def differ(self) -> float:
        """The largest difference between the logits of both."""
        rows = np.arange(len(self.dataset.labels))
        logits, _ = predict(self.model, self.dataset, rows, self.settings.batch_size, "cpu")
        values, masks = self.padded()
        with torch.no_grad():
            parts = [self.plain.eval()(*(_of(part, chosen) for part in (values, masks))) for chosen in _split(rows)]
        return float((torch.cat(parts) - torch.from_numpy(logits)).abs().max())

    def padded(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Values and masks in memory, with as many steps as the longest row."""
        return tuple({m: x.clone() for m, x in part.items()} for part in (self.dataset.values, self.dataset.masks))  # type: ignore[return-value]

    def ours(self) -> None:
        """One epoch by our loop."""
        rows = np.arange(len(self.dataset.labels))
        with tempfile.TemporaryDirectory() as place:
            job = Job(
                self.dataset,
                rows[: -self.valid],
                rows[-self.valid :],
                Objective(SIX),
                self.settings,
                seed=0,
                device="cpu",
                directory=Path(place),
            )
            fit(self.model, job)

    def by_hand(self, values: dict[str, Tensor], masks: dict[str, Tensor]) -> None:
        """One epoch by the loop that is written by hand."""
        s = self.settings
        optimiser = torch.optim.Adam(
            self.plain.parameters(), s.learning_rate, (s.beta1, s.beta2), weight_decay=s.weight_decay
        )
        plain_models.train(
            self.plain, optimiser, values, masks, self.dataset.labels, self.valid, size=s.batch_size, clip=s.clip_norm
        )


def _of(part: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {m: x[rows] for m, x in part.items()}


def _split(rows: Any) -> tuple[Tensor, ...]:
    return torch.from_numpy(rows).split(64)


def epoch(name: str, turns: int, rows: int, valid: int) -> None:
    """Prints the share that our epoch takes of the other. Raises ValueError if the logits are not equal."""
    with tempfile.TemporaryDirectory() as place:
        rivals = Rivals.of(name, Path(place), rows, valid)
        if (far := rivals.differ()) > ASKED:
            raise ValueError(f"{name}: logits differ by {far:.1e}")
        values, masks = rivals.padded()
        times = [(_seconds(rivals.ours), _seconds(lambda: rivals.by_hand(values, masks))) for _ in range(turns)]
    share = statistics.median(own / other for own, other in times)
    own, other = (statistics.median(pair[side] for pair in times) for side in (0, 1))
    said = f"({own:.2f} s against {other:.2f} s; logits differ by {far:.0e})"
    sys.stdout.write(f"{name}: an epoch of {rows - valid} rows and {valid}: ours / by hand {share:10.2f}   {said}\n")
    sys.stdout.flush()


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def forward(lengths: list[int]) -> None:
    """Prints MulG's time of a processor for a forward pass as a share of MulT's with its width and depth."""
    ours, _, alike, _ = contenders()
    for steps in lengths:
        own, other = measured(ours, steps), measured(alike, steps)
        one, many = own.ms_of_one / other.ms_of_one, own.ms_of_32 / other.ms_of_32
        sys.stdout.write(f"MulG's forward / MulT's, T = {steps:<4} batch of 1 {one:6.2f}   batch of 32 {many:6.2f}\n")
        sys.stdout.flush()


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="*", default=[*SIZES, "forward"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--lengths", type=int, nargs="*", default=[50, 200, 500])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in (name for name in SIZES if name in given.measures):
        epoch(name, given.turns, sum(SIZES[name]), SIZES[name][1])
    if "forward" in given.measures:
        forward(given.lengths)


if __name__ == "__main__":
    main()
