"""The best test epoch (H3): what many papers report, which is chosen on test and so is too good.

It is for a comparison with their numbers alone. Nothing here selects a model: the names of the scores say so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pipeline.score import metrics
from pipeline.score.predictions import Predictions
from pipeline.stage import Target

PREFIX = "not_for_selection_test_"
"""How the names of an epoch's scores on test begin."""
ABOUT = (
    " Best test epoch: each score's best over all epochs, as many papers report it, means over folds. It is chosen on "
    "test and so too good; it is for a comparison with their numbers alone (H3)."
)


def watched(test: Predictions, target: Target) -> dict[str, float]:
    """Every score of the test rows after an epoch, NaN for one that is undefined."""
    scores = metrics.scalars(metrics.evaluate(test.logits, test.labels, target))
    return {f"{PREFIX}{name}": math.nan if score is None else float(score) for name, score in scores.items()}


def best_test(epochs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """score -> its best value over the epochs, each score by an epoch of its own; {} if test was not watched."""
    found: dict[str, float] = {}
    for name in (column.removeprefix(PREFIX) for column in epochs[0] if column.startswith(PREFIX)):
        best = min if name in metrics.LOWER_IS_BETTER else max
        defined = [score for row in epochs if not math.isnan(score := row[f"{PREFIX}{name}"])]
        found |= {name: best(defined)} if defined else {}
    return found
