"""How HJCAG weighs a text that is valid at few steps, by how it pools: `python -m tests.bench.dilution`.

    python -m tests.bench.dilution [--seeds 2] [--rates 1e-3 1e-4] [--keep FOLDER]

The set is `dilution` of `tests.structure`, at two lengths of text, of 30 steps. Shown are the test accuracy and text's
share at the gate, means over seeds; trained as in `tests.bench.structure`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from tests.bench.structure import CONFIGS, Variant, machine, row, trained
from tests.structure import dilution

TOKENS = ((4, 14), (6, 28))
POOLS = {
    "each modality over its own steps": {"pool": "own"},
    "the same, some modalities hidden": {"pool": "own", "embed_dropout": 0.3},
    "all modalities, after the gate": {"pool": "union"},
    "after the gate, without masks": {"pool": "union", "mask": "none"},
}
HIDING = {"the same, some modalities hidden": {"modality_dropout": 0.3}}
"""Settings of training that go with a way to pool: those of the demo's recipe."""


class Cell(NamedTuple):
    """A model on the sets of one length of text: test accuracies, and text's shares if it has a gate."""

    accuracies: Sequence[float]
    shares: Sequence[float]

    def __str__(self) -> str:
        shares = f" ({statistics.mean(self.shares):.2f})" if self.shares else ""
        return f"{statistics.mean(self.accuracies):.3f}{shares}"


def lines(rates: Sequence[float]) -> list[Variant]:
    """The linear baselines, and HJCAG with each pooling at each learning rate."""
    solved = [Variant(name, name, {}) for name in ("linear", "late_fusion")]
    return solved + [
        Variant(
            f"HJCAG, {name}, {rate:g}",
            "hjcag",
            {**CONFIGS["hjcag"], **changes},
            {"learning_rate": rate, **HIDING.get(name, {})},
        )
        for rate in rates
        for name, changes in POOLS.items()
    ]


def cells(variants: Sequence[Variant], tokens: tuple[int, int], seeds: int, keep: Path) -> Iterator[Cell]:
    """What can be reached at best, and then what each variant reaches, on the sets with texts of this length."""
    sets = [dilution(seed, tokens=tokens) for seed in range(seeds)]
    yield Cell([made.best(made.together) for made in sets], [])
    with tempfile.TemporaryDirectory() as place:
        columns = [made.write(Path(place) / str(seed)) for seed, made in enumerate(sets)]
        for variant in variants:
            results = [trained(made, columns[seed], variant, seed, keep) for seed, made in enumerate(sets)]
            shares = [result.gates["all"]["text"] for result in results if result.gates]
            yield Cell([result.metrics["accuracy"] for result in results], shares)


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 1e-4])
    parser.add_argument("--keep", type=Path, help="a folder for the finished runs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    variants = lines(given.rates)
    with tempfile.TemporaryDirectory() as place:
        columns = [list(cells(variants, tokens, given.seeds, given.keep or Path(place))) for tokens in TOKENS]
    sys.stdout.write(f"{machine()}, {given.seeds} seeds\n\n")
    head = [f"{low} to {high} tokens of 30 steps" for low, high in TOKENS]
    sys.stdout.write(f"{row('accuracy (share of text)', head)}\n|---|---|---|\n")
    for i, name in enumerate(["all that is shown, exactly", *(variant.name for variant in variants)]):
        sys.stdout.write(row(name, [str(column[i]) for column in columns]) + "\n")


if __name__ == "__main__":
    main()
