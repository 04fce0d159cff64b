"""Models on sets of features whose structure is known, and what HJCAG's parts add: `python -m tests.bench.structure`.

    python -m tests.bench.structure [--seeds 3] [--sets XOR ...] [--models hjcag ...] [--keep FOLDER]

Every model is trained by the product's own loop, with one setting for all (`TRAINING`), on the sets of
`tests.structure`. A seed draws the set and starts the model. Validation loss chooses the epoch. With --keep a second
call trains only what is missing; it does not notice that a model's code has changed.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from models.hjcag import HJCAG
from pipeline.cache import keys
from pipeline.corpus.recipe_training import model_class
from pipeline.model import Solved
from pipeline.score.intervals import Interval, over_seeds
from pipeline.train.fold_result import FoldResult
from pipeline.train.train_fold import train_fold
from tests.structure import SETS, Make, StructureSet

TRAINING = {"epochs": 30, "batch_size": 64, "learning_rate": 1e-3, "patience": 0, "unimodal_pretrain": False}
"""The settings of the loop for every model that is trained by epochs."""

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "majority": {},
    "linear": {},
    "late_fusion": {},
    "gmu": {},
    "lmf": {},
    "lf_lstm": {},
    "mult": {"layers": 2, "memory_layers": 2},
    "mulg": {},
    "hjcag": {"d_model": 32, "visual_dim": None},
}
"""By model, the settings that differ from its defaults: sizes for a dozen features at most."""


class Variant(NamedTuple):
    """A line of the table: a model, or an ablation of it, named `name`. training: what differs from `TRAINING`."""

    name: str
    model: str
    config: Mapping[str, Any]
    training: Mapping[str, Any] = MappingProxyType({})


def variants(models: Sequence[str]) -> list[Variant]:
    """The models, then HJCAG's ablations but for those without a modality or masks, since all steps are valid here, and
    MulG with positions as large as its content."""
    lines = [Variant(name, name, CONFIGS[name]) for name in models]
    parts = {name: changes for name, changes in HJCAG.ablations.items() if not {"modalities", "mask"} & set(changes)}
    ablated = [Variant(f"hjcag {name}", "hjcag", {**CONFIGS["hjcag"], **changes}) for name, changes in parts.items()]
    placed = [Variant("mulg with equal positions", "mulg", {"positions": "equal"})]
    return lines + (ablated if "hjcag" in models else []) + (placed if "mulg" in models else [])


def trained(made: StructureSet, columns: Mapping[str, Path], variant: Variant, seed: int, keep: Path) -> FoldResult:
    """The result of a variant on a set, trained if it is not in the folder `keep`."""
    training = {} if issubclass(model_class(variant.model), Solved) else {**TRAINING, **variant.training}
    shown = [keys.file_digest(path / "values.npy") for path in columns.values()]
    digest = keys.digest("structure", shown, made.labels.tolist(), variant.model, dict(variant.config), training, seed)
    request = made.request(
        columns,
        model=variant.model,
        config=variant.config,
        training=training,
        run=keep / digest,
        seed=seed,
        digest=digest,
    )
    return train_fold(request)


class Scores(NamedTuple):
    """Test accuracies on one set by seed: what is possible, what adding reaches at best, and by name each variant."""

    possible: list[float]
    additive: list[float]
    reached: dict[str, list[float]]


def scores(name: str, make: Make, lines: Sequence[Variant], seeds: int, keep: Path) -> Scores:
    """Trains every variant with every seed on the sets that `make` draws."""
    found = Scores([], [], {variant.name: [] for variant in lines})
    for seed in range(seeds):
        made = make(seed)
        found.possible.append(made.best(made.together))
        found.additive.append(made.additive())
        with tempfile.TemporaryDirectory() as place:
            columns = made.write(Path(place))
            for variant in lines:
                accuracy = trained(made, columns, variant, seed, keep).metrics["accuracy"]
                found.reached[variant.name].append(accuracy)
                sys.stderr.write(f"{name}, seed {seed}, {variant.name}: {accuracy:.3f}\n")
    return found


# --- the tables ------------------------------------------------------------------------------------------------


def tables(found: Mapping[str, Scores], lines: Sequence[Variant]) -> Iterator[str]:
    """The accuracies of all models, and the differences of HJCAG's ablations to HJCAG, as Markdown."""
    ablated = [variant.name for variant in lines if variant.name.startswith("hjcag ")]
    models = [variant.name for variant in lines if variant.name not in ablated]
    yield from _head("accuracy", found)
    yield row("all that is shown, exactly", [_told(over_seeds(s.possible)) for s in found.values()])
    yield row("adding exact log posteriors", [_told(over_seeds(s.additive)) for s in found.values()])
    for name in models:
        yield row(name, [_told(over_seeds(s.reached[name])) for s in found.values()])
    if ablated:
        yield ""
        yield from _head("less HJCAG", found)
    for name in ablated:
        differences = [_differences(s.reached[name], s.reached["hjcag"]) for s in found.values()]
        yield row(name, [_told(over_seeds(values), "+") for values in differences])


def _head(first: str, found: Mapping[str, Scores]) -> list[str]:
    return [row(first, list(found)), "|---" * (len(found) + 1) + "|"]


def row(name: str, cells: Sequence[str]) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join([name, *cells])} |"


def _differences(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    """Of each seed, how far one is above the other."""
    return [one - other for one, other in zip(ones, others, strict=True)]


def _told(score: Interval, sign: str = "") -> str:
    """A mean, and half of its 95 % interval if there are several seeds."""
    half = score.high - score.mean
    mean = f"{score.mean:{sign}.3f}".replace("0.", ".", 1)
    return mean if half != half else f"{mean} ± {half:.3f}".replace("± 0.", "± .", 1)


def machine() -> str:
    """What the figures were measured on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread"


def main() -> None:
    """Prints the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--models", nargs="+", choices=list(CONFIGS), default=list(CONFIGS))
    parser.add_argument("--keep", type=Path, help="a folder for the finished runs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = variants(given.models)
    with tempfile.TemporaryDirectory() as place:
        keep = given.keep or Path(place)
        found = {name: scores(name, SETS[name], lines, given.seeds, keep) for name in given.sets}
    sys.stdout.write(f"{machine()}, {given.seeds} seeds, mean ± half of the 95 % t-interval\n\n")
    sys.stdout.writelines(f"{line}\n" for line in tables(found, lines))


if __name__ == "__main__":
    main()
