"""The space that `affectory sweep` searches: some settings of a recipe with the values to try, and trials from it."""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import InputError

SEARCHED = ("train", "features")
"""The tables of a recipe whose settings can be searched: labels and folds are not for choosing."""
_RANGE = re.compile(r"\s*([-+.\deE]+?)\s*\.\.\s*([-+.\deE]+)\s*")
_LOGARITHMIC = 10.0
"""A range of positive numbers whose ends have at least this ratio is drawn from by their logarithm."""

Trial = dict[str, Any]
"""A value for each setting, by its name in the recipe, such as `train.hjcag.dropout`."""


@dataclass(frozen=True)
class Choice:
    """A setting with the values to try."""

    name: str
    values: tuple[Any, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        """One of the values."""
        return self.values[rng.integers(len(self.values))]


@dataclass(frozen=True)
class Range:
    """A setting with the lowest and the highest value to try: whole numbers if both are."""

    name: str
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float | int:
        """A number between both, of three significant digits; by its logarithm if it spans orders of magnitude."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        if self.low > 0 and self.high / self.low >= _LOGARITHMIC:
            drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high + (1 if whole else 0))))
        else:
            drawn = float(rng.uniform(self.low, self.high + (1 if whole else 0)))
        return min(int(drawn), int(self.high)) if whole else float(f"{drawn:.3g}")


Axis = Choice | Range


def parse(text: str) -> Axis:
    """An axis from `table.key=1,2,3`, `table.key=[[1], [2, 3]]` or `table.key=1e-5..1e-2`.

    Raises InputError for another form, and for a setting that is not to be searched.
    """
    name, equals, written = text.partition("=")
    name = name.strip()
    if not equals or not written.strip():
        raise InputError(f"--over {text}: expected table.key=1,2,3 or table.key=1e-5..1e-2")
    if name.split(".")[0] not in SEARCHED:
        raise InputError(f"--over {text}: only settings of [train.*] and [features.*] can be searched")
    if found := _RANGE.fullmatch(written):
        low, high = (_number(text, end) for end in found.groups())
        if not low < high:
            raise InputError(f"--over {text}: the range is empty")
        return Range(name, low, high)
    return Choice(name, tuple(_values(written)))


def trials(axes: Sequence[Axis], count: int, seed: int) -> list[Trial]:
    """All combinations of the axes' values, or `count` different ones drawn at random if that is above 0 and less.

    Raises InputError if a setting is named twice, and for a range without a count.
    """
    names = [axis.name for axis in axes]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(f"--over names {', '.join(twice)} twice")
    choices = [axis for axis in axes if isinstance(axis, Choice)]
    if len(choices) == len(axes):
        size = math.prod(len(axis.values) for axis in choices)
        if not count or size <= count:
            return [dict(zip(names, values, strict=True)) for values in itertools.product(*(c.values for c in choices))]
    elif not count:
        raise InputError("a range has no end of values: say how many --trials to draw")
    return list(itertools.islice(_drawn(axes, seed, 100 * count), count))


def _drawn(axes: Sequence[Axis], seed: int, most: int) -> Iterator[Trial]:
    """Different trials in an order that the seed decides; `most`: how many are drawn for them."""
    rng, seen = np.random.default_rng(seed), set[str]()
    for _ in range(most):
        trial = {axis.name: axis.draw(rng) for axis in axes}
        if repr(trial) not in seen:
            seen.add(repr(trial))
            yield trial


def _values(written: str) -> list[Any]:
    """The values of a list in TOML, with or without brackets; what is no TOML is split at its commas into strings."""
    for text in (written, f"[{written}]"):
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            continue
        if isinstance(value, list) and value:
            return value
    return [part.strip() for part in written.split(",")]


def _number(text: str, written: str) -> float | int:
    try:
        return int(written) if re.fullmatch(r"[-+]?\d+", written) else float(written)
    except ValueError:
        raise InputError(f"--over {text}: {written!r} is no number") from None
