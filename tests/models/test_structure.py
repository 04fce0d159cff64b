"""The sets of `tests.structure` are what they say, and models that read modalities together win where they must."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.model import MODALITIES
from tests.bench.structure import Scores, tables, trained, variants
from tests.structure import SETS, StructureSet, lagged, pointer, told_reliability, xor

MADE = {name: make(0) for name, make in SETS.items()}
every_set = pytest.mark.parametrize("name", SETS)


def first(made: StructureSet, modality: str, width: int) -> np.ndarray:
    """What a modality shows in its first features, read off each step: [N, T, width]."""
    return np.stack([track.values for track in made.tracks[modality]])[..., :width]


# --- the makers ------------------------------------------------------------------------------------------------


@every_set
def test_a_seed_makes_the_same_set_again_and_another_seed_another(name: str) -> None:
    again, other = SETS[name](0), SETS[name](1)
    for m, tracks in MADE[name].tracks.items():
        assert all(np.array_equal(a.values, b.values) for a, b in zip(tracks, again.tracks[m], strict=True))
        assert not np.array_equal(tracks[0].values, other.tracks[m][0].values)
    assert np.array_equal(MADE[name].labels, again.labels)


@every_set
def test_the_classes_are_equally_frequent(name: str) -> None:
    counts = np.bincount(MADE[name].labels)
    assert len(counts) == MADE[name].classes and counts.max() - counts.min() <= 1


@every_set
def test_the_posteriors_are_calibrated(name: str) -> None:
    made = MADE[name]
    for scores in (*made.alone.values(), made.together):
        given = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
        expected, right = given.max(axis=1).mean(), made.best(scores)
        assert abs(expected - right) < 4 * np.sqrt(0.25 / (len(made.labels) / 3))


@every_set
def test_adding_reaches_less_than_all_that_is_shown_where_modalities_need_each_other(name: str) -> None:
    made = MADE[name]
    gap = made.best(made.together) - made.additive()
    assert (gap == 0) == (name in ("reliability that shows in itself", "dilution by length")), gap


def test_no_modality_alone_says_anything_of_an_xor() -> None:
    made = xor(0)
    for m in MODALITIES:
        sign = first(made, m, 1).mean(axis=(1, 2)) > 0
        assert abs((sign == made.labels).mean() - 0.5) < 0.05
    equal = np.equal(*(first(made, m, 1).mean(axis=(1, 2)) > 0 for m in ("text", "audio")))
    assert (equal == made.labels).all()


def test_three_votes_of_told_reliability_reach_what_an_enumeration_of_all_votes_says() -> None:
    likely = {
        (vote, sure): 0.5 * (1 / 4 if not sure else 0.95 if vote == 0 else 0.05 / 3)
        for vote, sure in product(range(4), (False, True))
    }  # given that the label is 0
    told = untold = 0.0
    for votes in product(likely, repeat=3):
        share = np.prod([likely[vote] for vote in votes])
        told += share * _first_wins([vote for vote, sure in votes if sure])
        untold += share * _first_wins([vote for vote, _ in votes])
    made = told_reliability(0, rows=12_000, steps=1)
    assert made.best(made.together) == pytest.approx(told, abs=0.02)
    assert made.additive() == pytest.approx(untold, abs=0.02)


def _first_wins(votes: list[int]) -> float:
    """The probability that the first class has the most votes, if chance decides between equals."""
    counts = np.bincount(votes, minlength=4)
    return float(counts[0] == counts.max()) / float((counts == counts.max()).sum())


def test_the_pointed_step_has_the_label() -> None:
    made, steps = pointer(0), 4
    text, audio = first(made, "text", steps + 4), first(made, "audio", steps)
    step = (text[..., :steps].argmax(axis=2) == audio.mean(axis=1).argmax(axis=1)[:, None]).argmax(axis=1)
    shown = text[np.arange(len(step)), step, steps:].argmax(axis=1)
    assert (shown == made.labels).mean() > 0.999  # noise hides one in thousands


@pytest.mark.parametrize("lag", [0, 2])
def test_signs_agree_with_the_label_at_their_own_lag_alone(lag: int) -> None:
    made = lagged(0, lag)
    text, audio = (first(made, m, 1)[..., 0] > 0 for m in ("text", "audio"))
    for other in range(4):
        equal = text[:, : 8 - other] == audio[:, other:]
        agreement = (equal == made.labels[:, None].astype(bool)).mean()
        assert agreement == pytest.approx(0.9 if other == lag else 0.5, abs=0.03)


# --- the bench -------------------------------------------------------------------------------------------------


def test_the_tables_give_bounds_models_and_differences_of_ablations_paired_by_seed() -> None:
    lines = [line for line in variants(["hjcag"]) if line.name in ("hjcag", "hjcag w/o gate")]
    found = {"XOR": Scores([1.0, 1.0], [0.5, 0.5], {"hjcag": [0.9, 0.8], "hjcag w/o gate": [0.8, 0.7]})}
    assert list(tables(found, lines)) == [
        "| accuracy | XOR |",
        "|---|---|",
        "| all that is shown, exactly | 1.000 ± .000 |",
        "| adding exact log posteriors | .500 ± .000 |",
        "| hjcag | .850 ± .635 |",
        "",
        "| less HJCAG | XOR |",
        "|---|---|",
        "| hjcag w/o gate | -.100 ± .000 |",
    ]


def test_late_fusion_is_at_chance_on_an_xor(tmp_path: Path) -> None:
    made = xor(0)
    result = trained(made, made.write(tmp_path / "view"), variants(["late_fusion"])[0], 0, tmp_path)
    assert abs(result.metrics["accuracy"] - 0.5) < 0.06


def test_a_kept_result_is_of_one_set_alone_also_if_another_has_the_same_labels(tmp_path: Path) -> None:
    sets, [line] = (pointer(0, rows=600), told_reliability(0, rows=600)), variants(["late_fusion"])
    assert np.array_equal(sets[0].labels, sets[1].labels)
    results = [trained(made, made.write(tmp_path / str(i)), line, 0, tmp_path) for i, made in enumerate(sets)]
    assert len({result.digest for result in results}) == 2


@pytest.mark.slow
@pytest.mark.parametrize("model", ["hjcag", "mulg"])
def test_models_that_read_modalities_together_solve_an_xor(model: str, tmp_path: Path) -> None:
    made, columns = xor(0), xor(0).write(tmp_path / "view")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = trained(made, columns, variants([model])[0], 0, tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert result.metrics["accuracy"] > made.additive() + 0.4
