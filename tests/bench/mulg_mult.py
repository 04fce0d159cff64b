"""MulG against MulT: what each costs by the length of its sequences, and what it reaches on a lagged set.

    python -m tests.bench.mulg_mult [--lengths 50 200 500] [--seeds 3] [--keep FOLDER]

Costs are of a forward pass on a CPU with one thread, without gradients, over full sequences of CMU-MOSEI's usual
features (300 of text, 74 of audio, 35 of visual), each measured in a process of its own, as time of the processor, so
that other work beside weighs little. Accuracies are of the lagged sets of `tests.structure`, trained as in
`tests.bench.structure`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from models.mulg import MulGConfig
from pipeline.corpus.recipe_training import model_class
from pipeline.model import Input, Model
from tests.bench.structure import Variant, machine, row, scores, tables
from tests.structure import SETS

DIMS = {"text": 300, "audio": 74, "visual": 35}
OUTPUTS, TURNS = 6, 3

Sides = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]
"""Values, modality -> [B, T, D], and masks, modality -> [B, T]."""


class Cost(NamedTuple):
    """Of one model at one length: parameters, millions of operations of one utterance, milliseconds of a processor for
    a batch of one and of 32, and the megabytes that a batch of 32 takes at its peak beside the model."""

    parameters: int
    mflops: float
    ms_of_one: float
    ms_of_32: float
    peak_mb: float

    def cells(self) -> list[str]:
        """The cells of a row of the table."""
        return [
            f"{self.parameters:,}",
            f"{self.mflops:,.0f}",
            f"{self.ms_of_one:.1f}",
            f"{self.ms_of_32:,.0f}",
            f"{self.peak_mb:,.0f}",
        ]


def contenders() -> list[Variant]:
    """Both models at their defaults, and MulT with MulG's depth at MulG's width and at MulG's number of parameters."""
    ours = MulGConfig()
    depth = {"layers": ours.layers, "memory_layers": ours.layers, "heads": ours.heads}
    wanted = count(build("mulg", {}, 50))
    options = [{**depth, "width": width, "heads": 2} for width in range(2, ours.hidden, 2)]
    alike = min(options, key=lambda config: abs(count(build("mult", config, 50)) - wanted))
    return [
        Variant("MulG", "mulg", {}),
        Variant("MulT", "mult", {}),
        Variant(f"MulT, {ours.layers} layers of {ours.hidden}", "mult", {**depth, "width": ours.hidden}),
        Variant(f"MulT, {ours.layers} layers of {alike['width']}", "mult", alike),
    ]


def build(model: str, config: Mapping[str, Any], steps: int) -> Model:
    """A model in evaluation, with random weights, for sequences of this length."""
    kind = model_class(model)
    inputs = {m: Input(dim, steps) for m, dim in DIMS.items()}
    torch.manual_seed(0)
    return kind(kind.Config(**config), inputs, OUTPUTS).eval()


def count(model: Model) -> int:
    """The number of parameters."""
    return sum(p.numel() for p in model.parameters())


# --- costs -----------------------------------------------------------------------------------------------------


def measured(contender: Variant, steps: int) -> Cost:
    """The cost of a model, measured in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, torch.set_num_threads, (1,)) as pool:
        return pool.submit(cost, contender.model, dict(contender.config), steps).result()


@torch.inference_mode()
def cost(name: str, config: Mapping[str, Any], steps: int) -> Cost:
    """The cost of a model in this process; peak_mb counts what this process never held before."""
    model = build(name, config, steps)
    one, many = batch(1, steps), batch(32, steps)
    before = _kilobytes("VmRSS")
    ms_of_32 = _ms(model, many)
    peak_mb = (_kilobytes("VmHWM") - before) / 1024
    return Cost(count(model), mflops(model, steps), _ms(model, one), ms_of_32, peak_mb)


def mflops(model: Model, steps: int) -> float:
    """Millions of operations for one utterance, as torch counts those of matrix products and convolutions."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(*batch(1, steps))
    return counter.get_total_flops() / 1e6


def batch(rows: int, steps: int) -> Sides:
    """Random values and masks without a gap."""
    values = {m: torch.randn(rows, steps, dim) for m, dim in DIMS.items()}  # [B, T, D]
    return values, {m: torch.ones(rows, steps, dtype=torch.bool) for m in DIMS}


def _ms(model: Model, sides: Sides) -> float:
    """The median milliseconds of a processor for a forward pass, after one to warm up."""

    def once() -> float:
        began = time.process_time()
        model(*sides)
        return (time.process_time() - began) * 1e3

    once()
    return statistics.median(once() for _ in range(TURNS))


def _kilobytes(name: str) -> int:
    """This process' resident memory (`VmRSS`), or its highest so far (`VmHWM`)."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1])


# --- the tables ------------------------------------------------------------------------------------------------


def cost_table(lengths: Sequence[int], lines: Sequence[Variant]) -> None:
    """Prints each model's cost at each length, as Markdown."""
    names = ["T", "model", "parameters", "MFLOPs", "ms, batch 1", "ms, batch 32", "peak MB, batch 32"]
    sys.stdout.write(f"{row(names[0], names[1:])}\n{'|---' * len(names)}|\n")
    for steps in lengths:
        for contender in lines:
            sys.stdout.write(row(str(steps), [contender.name, *measured(contender, steps).cells()]) + "\n")
            sys.stdout.flush()


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="*", default=[50, 200, 500])
    parser.add_argument("--seeds", type=int, default=3, help="of the accuracies; 0 for none")
    parser.add_argument("--keep", type=Path, help="a folder for the finished runs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = contenders()
    sys.stdout.write(f"{machine()}\n\n")
    if given.lengths:
        cost_table(given.lengths, lines)
    if given.seeds:
        with tempfile.TemporaryDirectory() as place:
            keep = given.keep or Path(place)
            found = {n: scores(n, make, lines, given.seeds, keep) for n, make in SETS.items() if n.startswith("lag")}
        sys.stdout.writelines(f"{line}\n" for line in ("", *tables(found, lines)))


if __name__ == "__main__":
    main()
