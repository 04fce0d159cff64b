"""What the report says of the spread of features."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.corpus.recipe import Align
from pipeline.pages.scatter import levels
from pipeline.report.distributions import Distribution, charts, distributions, sheet
from pipeline.utterance import Utterance
from pipeline.views.view import Column
from tests.pages import Page
from tests.small import Small


def made(values: np.ndarray) -> Distribution:
    """Of values [N, D], one step for each utterance."""
    rows = [Utterance(id=f"u{i}", dialogue="d", turn=i, text=None) for i in range(len(values))]
    names = [f"d{i}" for i in range(values.shape[1])]
    column = Column(values[:, None], np.ones((len(values), 1), bool), np.ones(len(values), np.int32), Align("pad", 1))
    return Distribution("x", "audio", names, rows, values, np.quantile(values, levels(), axis=0), column)


def test_dimensions_that_are_constant_missing_or_far_out_are_named() -> None:
    values = np.random.default_rng(0).normal(size=(200, 4))
    values[:, 1] = 3.0
    values[7, 2] = 1e6
    values[::3, 3] = 0.0
    shown = sheet([made(values)])
    assert shown is not None
    cells = dict(zip(shown.header, shown.rows[0], strict=True))
    assert (cells["constant"].text, cells["missing"].text, cells["far out"].text) == ("d1", "d3", "d2")
    assert cells["without"].text == "0.0%"
    assert cells["constant"].loud and cells["highest"].text == "1000000.0000"


def test_the_range_of_an_utterance_is_told_beside_that_of_the_corpus() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, size=(200, 10))
    values[3], values[4] = 0.0, [5.0, *[0.0] * 9]
    one = made(values)
    assert one.range_of(3).startswith("0 to 0 (corpus −0.99") and one.range_of(3).endswith("to 5), 0 % unusual")
    assert one.range_of(4).endswith("10 % unusual")


def test_groups_that_differ_lie_apart_in_the_first_component() -> None:
    values = np.random.default_rng(0).normal(size=(60, 5))
    values[:30, :3] += 8
    first = made(values).components[:, 0]
    assert first[:30].min() > first[30:].max() or first[:30].max() < first[30:].min()


def test_the_report_shows_every_extracted_modality_by_label_and_speaker(
    known: Small, written: tuple[dict[str, Any], Page]
) -> None:
    session = known.session()
    found = list(distributions(session))
    assert [one.name for one in found] == ["text of words", "audio of sound", "audio of pitch"]
    captions = [chart.caption for chart in charts(found, session.corpus)]
    assert sum("principal components" in caption for caption in captions) == 3
    assert "Ranges of features" in written[1].words and "by label and by speaker" in str(written[1].tags)
