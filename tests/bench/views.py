"""A shuffled epoch of a view against other ways to read the same features.

    python -m tests.bench.views [--turns 5] [--rows 2000]

The features are made: as many dimensions, aligned and real steps as those of the recipes' sets of IEMOCAP. Each way
gives the same rows, which is checked once. Printed are the medians of the ratios of seconds of the processor, which
other work on the machine moves less than a clock, taken in turn in one thread; and the ratios of bytes.
"""

from __future__ import annotations

import argparse
import pickle
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import data

from pipeline.cache import keys, shards
from pipeline.corpus.recipe import Align
from pipeline.stage import Spec, Target, Track
from pipeline.views.dataset import Dataset
from pipeline.views.view import open_view, write_column

SIZE = 64
MEAN_S, SPREAD = 4.35, 0.65
"""The length of an utterance is lognormal: 14.5 % of 375 steps of 80 ms are real."""
WORDS_HZ = 3.0
SIX = Target("multiclass", ("hap", "sad", "neu", "ang", "exc", "fru"))
KEYS = {"text": "text", "audio": "audio", "visual": "vision"}
"""MMSA's names of the modalities."""


@dataclass(frozen=True)
class Made:
    """One modality of a set: D features, how it is aligned, its steps in a second, or always one (0) or all (inf).

    positive: values are not below 0, as those behind a rectifier.
    """

    dim: int
    align: Align
    rate_hz: float
    positive: bool = False

    def track(self, seconds: float, random: np.random.Generator) -> Track:
        """An utterance of this length."""
        fixed = {0.0: 1, np.inf: self.align.length}
        steps = fixed.get(self.rate_hz) or max(1, round(seconds * self.rate_hz))
        values = random.normal(size=(steps, self.dim)).astype(np.float32)
        times = None if self.rate_hz == WORDS_HZ else np.arange(steps, dtype=np.float32)
        return Track.of(np.maximum(values, 0) if self.positive else values, times)


SETS: Mapping[str, Mapping[str, Made]] = {
    "hjcag": {
        "text": Made(1024, Align("pad", 30), WORDS_HZ),
        "audio": Made(1582, Align("broadcast", 30), 0.0),
        "visual": Made(2048, Align("sample", 30), np.inf, positive=True),
    },
    "mulg": {
        "text": Made(300, Align("pad", 50), WORDS_HZ, positive=True),
        "audio": Made(64, Align("pad", 375), 12.5),
        "visual": Made(512, Align("pad", 16), 15 / 16, positive=True),
    },
}

Columns = dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""modality -> values [N, T, D] and mask [N, T]."""


def tracks(name: str, rows: int) -> dict[str, list[Track]]:
    """The features of a set by modality, before they are aligned."""
    random = np.random.default_rng(0)
    seconds = random.lognormal(np.log(MEAN_S) - SPREAD**2 / 2, SPREAD, rows).clip(0.5, 30)
    return {m: [made.track(length, random) for length in seconds] for m, made in SETS[name].items()}


def written(name: str, made: Mapping[str, list[Track]], place: Path) -> dict[str, Path]:
    """The columns of a view with these features, modality -> directory."""
    for modality, given in SETS[name].items():
        write_column(place / modality, enumerate(made[modality]), len(made[modality]), given.align, given.dim)
    return {modality: place / modality for modality in SETS[name]}


def opened(columns: Mapping[str, Path], **options: Any) -> Dataset:
    """The view with labels that go round."""
    count = len(np.load(next(iter(columns.values())) / "steps.npy"))
    ids = [str(row) for row in range(count)]
    return Dataset(open_view(ids, columns), {i: int(i) % len(SIX.classes) for i in ids}, SIX, **options)


# --- ways to read ----------------------------------------------------------------------------------------------

Read = tuple[Tensor, dict[str, Tensor]]
"""The labels of a batch [B], and its values by modality [B, T, D]."""


def ours(dataset: Dataset, seed: int) -> Iterator[Read]:
    """By the batches that models are trained on."""
    for batch in dataset.batches(np.arange(len(dataset.labels)), SIZE, seed):
        yield batch.labels, batch.values


def from_memory(values: Mapping[str, Tensor], masks: Mapping[str, Tensor], labels: Tensor, seed: int) -> Iterator[Read]:
    """By `index_select` from tensors in memory, the least that such an epoch takes."""
    for rows in torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).split(SIZE):
        for mask in masks.values():
            mask.index_select(0, rows)
        yield labels.index_select(0, rows), {m: part.index_select(0, rows) for m, part in values.items()}


def hugging_face(place: Path, columns: Columns, labels: Tensor) -> datasets.Dataset:
    """The same as a saved dataset of Hugging Face, opened."""
    shaped = {m: datasets.Array2D(values.shape[1:], "float32") for m, (values, _) in columns.items()}
    masks = {f"{m}_mask": datasets.Sequence(datasets.Value("bool")) for m in columns}
    features = datasets.Features({**shaped, **masks, "labels": datasets.Value("int64")})
    content = {m: values for m, (values, _) in columns.items()}
    content |= {f"{m}_mask": mask for m, (_, mask) in columns.items()} | {"labels": labels.numpy()}
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(content, features).save_to_disk(str(place))
    opened: datasets.Dataset = datasets.load_from_disk(str(place))
    return opened.with_format("torch")


def by_datasets(dataset: datasets.Dataset, seed: int) -> Iterator[Read]:
    """By its own shuffling and its own batches."""
    for batch in dataset.shuffle(seed=seed).iter(SIZE):
        yield batch["labels"], {m: batch[m] for m in KEYS}


def pickled(path: Path, columns: Columns, labels: Tensor) -> None:
    """The pickle that MMSA writes of one part: padded arrays, and a length of each row."""
    count = len(labels)
    part: dict[str, Any] = {KEYS[m]: values for m, (values, _) in columns.items()}
    part |= {f"{KEYS[m]}_lengths": mask.sum(axis=1).tolist() for m, (_, mask) in columns.items()}
    part |= {"id": [f"{row}$_$0" for row in range(count)], "raw_text": [""] * count, "annotations": [""] * count}
    part |= {"regression_labels": labels.numpy().astype(np.float32), "classification_labels": labels.numpy()}
    with path.open("wb") as file:
        pickle.dump({"train": part}, file, protocol=4)


class OfMmsa(data.Dataset[dict[str, Any]]):
    """What MMSA 2.2 reads a pickle with (`src/MMSA/data_loader.py`), in as far as it makes batches."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            part = pickle.load(file)["train"]  # noqa: S301 - written by this program
        self.values = {name: part[name].astype(np.float32) for name in KEYS.values()}
        self.labels = part["classification_labels"].astype(np.int64)
        self.ids, self.texts = part["id"], part["raw_text"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        values = {name: torch.Tensor(array[row]) for name, array in self.values.items()}
        return {**values, "index": row, "id": self.ids[row], "raw_text": self.texts[row], "labels": self.labels[row]}


def by_mmsa(path: Path, seed: int) -> Iterator[Read]:
    """By torch's loader in this process; workers of its own make it slower."""
    generator = torch.Generator().manual_seed(seed)
    for batch in data.DataLoader(OfMmsa(path), SIZE, shuffle=True, generator=generator):
        yield batch["labels"], {m: batch[name] for m, name in KEYS.items()}


def by_view(columns: Mapping[str, Path], seed: int) -> Iterator[Read]:
    """By a view that is opened, and whose digests are checked, first."""
    return ours(opened(columns), seed)


# --- measures --------------------------------------------------------------------------------------------------


def seconds(epoch: Callable[..., Iterator[Read]], *arguments: Any) -> float:
    """What an epoch takes of the processor; batches are let go as a training does."""
    began = time.process_time()
    for _ in epoch(*arguments):
        pass
    return time.process_time() - began


def total(epoch: Iterator[Read]) -> list[float]:
    """The sum of the values and of their products with the labels, by modality: equal for equal rows in any order."""
    sums = np.zeros(2 * len(KEYS))
    for labels, values in epoch:
        rows = [values[m].double().sum(dim=(1, 2)) for m in KEYS]
        sums += [float(part) for row in rows for part in (row.sum(), row @ labels.double())]
    return [float(part) for part in sums]


def ratio(name: str, turns: int, fast: Callable[[int], float], slow: Callable[[int], float]) -> None:
    """Prints the median of slow / fast over the turns, after one turn to warm up."""
    pairs = [(fast(turn), slow(turn)) for turn in range(turns + 1)][1:]
    median = statistics.median(b / a for a, b in pairs)
    first, second = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    sys.stdout.write(f"{name:<70} {median:7.2f} x   ({first:.3f} s against {second:.3f} s)\n")
    sys.stdout.flush()


def epochs(place: Path, rows: int, turns: int) -> None:
    """An epoch of HJCAG's set by each way."""
    columns = written("hjcag", tracks("hjcag", rows), place / "view")
    dataset = opened(columns)
    arrays: Columns = {
        m: (np.array(column.values), np.array(column.mask)) for m, column in dataset.view.columns.items()
    }
    memory = [{m: torch.from_numpy(part[side]) for m, part in arrays.items()} for side in (0, 1)]
    foreign, path = hugging_face(place / "datasets", arrays, dataset.labels), place / "mmsa.pkl"
    pickled(path, arrays, dataset.labels)
    del arrays
    expected = total(ours(dataset, 0))
    ways = (from_memory(*memory, dataset.labels, 1), by_datasets(foreign, 2), by_mmsa(path, 3))
    if not all(np.allclose(total(way), expected, rtol=1e-9) for way in ways):
        raise ValueError("some way gives other batches")

    def own(seed: int) -> float:
        return seconds(ours, dataset, seed)

    what = f"{len(dataset.labels):,} x HJCAG, shuffled epoch: a view /"
    ratio(
        f"{what} index_select from memory", turns, own, lambda seed: seconds(from_memory, *memory, dataset.labels, seed)
    )
    ratio(f"{what} Hugging Face datasets", turns, own, lambda seed: seconds(by_datasets, foreign, seed))
    ratio(f"{what} MMSA's pickle, loaded first", turns, own, lambda seed: seconds(by_mmsa, path, seed))

    def opened_first(seed: int) -> float:
        copy = shutil.copytree(place / "view", place / f"copy-{seed}")  # this process has not checked its digests
        return seconds(by_view, {modality: copy / modality for modality in columns}, seed)

    ratio(f"{what} the same, a view opened and checked", turns, opened_first, lambda seed: seconds(by_mmsa, path, seed))


def size(name: str, rows: int, place: Path) -> None:
    """Prints the bytes of the shards of a set against those of MMSA's pickle of the same."""
    made = tracks(name, rows)
    for modality, given in SETS[name].items():
        for number, part in enumerate(_shards(made[modality])):
            ids = [str(row) for row in range(len(part))]
            row_keys = [keys.digest(modality, number, i) for i in ids]
            table = shards.to_table(ids, row_keys, part, Spec(given.dim), {})
            shards.write(table, place / f"{name}-{modality}-{number}.parquet")
    columns = written(name, made, place / name)
    dataset = opened(columns)
    arrays: Columns = {
        m: (np.array(column.values), np.array(column.mask)) for m, column in dataset.view.columns.items()
    }
    pickled(place / f"{name}.pkl", arrays, dataset.labels)
    own = sum(path.stat().st_size for path in place.glob(f"{name}-*.parquet"))
    other = (place / f"{name}.pkl").stat().st_size
    sys.stdout.write(
        f"{name}: bytes of shards / of MMSA's pickle, {len(dataset.labels):,} rows".ljust(70)
        + f" {own / other:7.2f} x   ({own / 1e6:,.0f} MB against {other / 1e6:,.0f} MB)\n"
    )


def _shards(given: list[Track]) -> Iterator[list[Track]]:
    return (given[start : start + shards.TYPICAL] for start in range(0, len(given), shards.TYPICAL))


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        epochs(Path(place), given.rows, given.turns)
    for name in SETS:
        with tempfile.TemporaryDirectory() as place:
            size(name, given.rows, Path(place))


if __name__ == "__main__":
    main()
