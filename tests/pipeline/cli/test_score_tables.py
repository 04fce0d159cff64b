"""The tables of scores that `train` shows."""

from __future__ import annotations

import pytest

from pipeline.cli.tables import score_tables


def answer(model: str) -> dict[str, object]:
    scores = {"accuracy": 0.5, "majority_accuracy": 0.25}
    fold = {"valid": scores, "metrics": scores, "counts": {"valid": 4, "test": 8}}
    return {"name": model, "model": model, "folds": [fold]}


@pytest.mark.parametrize("models", [["hjcag"], ["majority"], ["majority", "hjcag"]])
def test_the_majority_has_one_row_whether_or_not_it_was_trained(models):
    for shown in score_tables([answer(model) for model in models]):
        assert sorted(shown.columns[0]._cells) == sorted({*models, "majority"})
