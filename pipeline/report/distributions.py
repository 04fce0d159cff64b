"""How the values of features are spread: dimensions that are constant or far out, and the first two components."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.store import CorruptError
from pipeline.corpus.corpus import Corpus
from pipeline.errors import InputError
from pipeline.pages.charts import Chart
from pipeline.pages.scatter import levels, scatter, spread
from pipeline.pages.table import NONE, Cell, Sheet
from pipeline.plan.session import Session
from pipeline.report.corpus_section import label_text
from pipeline.utterance import Utterance
from pipeline.views.build_view import build_column
from pipeline.views.view import Column

FAR = 50.0
"""A dimension is far out if a value is so many interquartile ranges from its median."""
MOST_UTTERANCES = 400
"""The most utterances whose values are looked at, spread evenly over the corpus."""
MANY = 0.25
"""A dimension is missing if it is 0 in more than this share of the utterances."""
NAMED = 5
"""The most dimensions that a cell names."""
KINDS = ("constant", "missing", "far out")
"""What is told of dimensions."""


@dataclass(frozen=True)
class Distribution:
    """The values of one modality of a feature set.

    names: [D]. utterances: [N] of those looked at. means: [N, D], over the steps of each. quantiles: [levels, D].
    column: the values of all utterances of the corpus, in the order of its rows.
    """

    features: str
    modality: str
    names: Sequence[str]
    utterances: Sequence[Utterance]
    means: NDArray[np.float64]
    quantiles: NDArray[np.float64]
    column: Column

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"{self.modality} of {self.features}"

    @property
    def constant(self) -> NDArray[np.bool_]:
        """[D], True for a dimension that has one value alone."""
        return np.asarray(self.quantiles[0] == self.quantiles[-1])

    @property
    def far(self) -> NDArray[np.bool_]:
        """[D], True for a dimension with a value far from all others."""
        low, middle, high = (self.quantiles[levels().index(level)] for level in (0.25, 0.5, 0.75))
        reach = np.maximum(self.quantiles[-1] - middle, middle - self.quantiles[0])
        return np.asarray((high > low) & (reach > FAR * (high - low)))

    @property
    def missing(self) -> NDArray[np.bool_]:
        """[D], True for a dimension that is 0 in all steps of many utterances, and not in all of them."""
        share = (self.means == 0).mean(0)
        return np.asarray((share > MANY) & ~self.constant)

    @property
    def components(self) -> NDArray[np.float64]:
        """[N, 2], the first two principal components of the standardised means."""
        scaled = (self.means - self.means.mean(0)) / np.where(self.constant, 1, self.means.std(0).clip(1e-12))
        left, size, _ = np.linalg.svd(scaled - scaled.mean(0), full_matrices=False)
        return np.asarray(left[:, :2] * size[:2])

    def range_of(self, row: int) -> str:
        """The range of an utterance's values beside that of the corpus; "" if it has none. row: its number.

        A value is unusual if it is outside the middle 90 % of those of its dimension.
        """
        values = np.asarray(self.column.values[row][self.column.mask[row]], np.float64)
        if not len(values):
            return ""
        low, high = (self.quantiles[levels().index(level)] for level in (0.05, 0.95))
        outside = np.mean((values < low) | (values > high))
        ends = (values.min(), values.max(), self.quantiles[0].min(), self.quantiles[-1].max())
        least, most, corpus_least, corpus_most = (f"{end:,.4g}".replace("-", "−") for end in ends)
        return f"{least} to {most} (corpus {corpus_least} to {corpus_most}), {100 * outside:.0f} % unusual"


def distributions(session: Session) -> Iterator[Distribution]:
    """Those of each modality whose features are all extracted, as the first fold gives them."""
    corpus = session.corpus
    fold = next(iter(corpus.folds), None)
    for features, selections in corpus.recipe.features.items():
        for modality, selection in selections.items():
            try:
                path = build_column(corpus, session.catalogue, selection, fold, session.home.root)
                found = _looked_at(features, modality, Column.open(path), corpus.manifest.rows)
            except (InputError, CorruptError):
                continue  # the report says elsewhere what is missing
            if found is not None:
                yield found


def _looked_at(features: str, modality: str, column: Column, rows: Sequence[Utterance]) -> Distribution | None:
    present = np.flatnonzero(column.mask.any(axis=1))
    if len(present) < 3:
        return None
    chosen = present[np.unique(np.linspace(0, len(present) - 1, MOST_UTTERANCES).round().astype(int))]
    steps = [np.asarray(column.values[row][column.mask[row]], np.float64) for row in chosen]
    means = np.stack([of_row.mean(0) for of_row in steps])
    quantiles = np.quantile(np.concatenate(steps), levels(), axis=0)
    names = column.names or tuple(map(str, range(means.shape[1])))
    return Distribution(features, modality, names, [rows[row] for row in chosen], means, quantiles, column)


def sheet(found: Sequence[Distribution]) -> Sheet | None:
    """The range of each modality's values, with its constant and its far dimensions; None if nothing is extracted."""
    table = [
        (d.name, len(d.names), len(d.utterances), _without(d), *_range(d), *_named(d, d.constant, d.missing, d.far))
        for d in found
    ]
    header = ("", "dimensions", "utterances", "without", "lowest", "median", "highest", *KINDS)
    note = (
        f"Of at most {MOST_UTTERANCES} utterances. A dimension is constant if it has one value alone, missing if it is "
        f"0 throughout more than {MANY:.0%} of the utterances, and far out if a value is more than {FAR:g} "
        "interquartile ranges from its median. Without: the share of the corpus that has no such features."
    )
    return Sheet.of("Ranges of features", header, table, note) if table else None


def _without(found: Distribution) -> Cell:
    """The share of utterances without any step."""
    share = 1 - float(found.column.present.mean())
    return Cell(f"{share:.1%}", loud=share > MANY, number=True)


def _range(found: Distribution) -> tuple[float, float, float]:
    return float(found.quantiles[0].min()), float(np.median(found.quantiles)), float(found.quantiles[-1].max())


def _named(found: Distribution, *kinds: NDArray[np.bool_]) -> Iterator[Cell]:
    """The first names of the dimensions of each kind, loud if there are any."""
    for chosen in kinds:
        names = [name for name, on in zip(found.names, chosen, strict=True) if on]
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        yield Cell(", ".join(names[:NAMED]) + more or NONE, loud=bool(names))


def charts(found: Sequence[Distribution], corpus: Corpus) -> Iterator[Chart]:
    """The spread of the dimensions of each modality, and its utterances by label and by speaker."""
    for one in found:
        middle = "the middle half, 90 % and all values of each dimension"
        yield spread(f"Values of {one.name}: {middle}", one.quantiles, "value")
        panels: dict[str, Sequence[str]] = {}
        if any(row.id in corpus.labels for row in one.utterances):
            panels["label"] = [label_text(corpus.labels.get(row.id), corpus.target) for row in one.utterances]
        if len({row.speaker for row in one.utterances}) > 1:
            panels["speaker"] = [row.speaker or "unknown" for row in one.utterances]
        if panels and one.means.shape[1] > 1:
            caption = f"The first two principal components of {one.name}, one point for each utterance"
            yield scatter(caption, one.components, panels)
