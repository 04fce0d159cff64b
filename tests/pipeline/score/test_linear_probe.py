import json
import time

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.corpus.recipe import Align
from pipeline.errors import InputError
from pipeline.linear import STRENGTHS
from pipeline.reader import Fold
from pipeline.score.linear_probe import pooled, probe
from pipeline.stage import Target
from pipeline.views.view import Column, View

N = 120
IDS = tuple(f"u{i}" for i in range(N))
FOLD = Fold("one", IDS[:70], IDS[70:90], IDS[90:])
TWO = Target("multiclass", ("no", "yes"))
SIX = Target("multiclass", tuple("abcdef"))
LABELS = {name: i % 2 for i, name in enumerate(IDS)}


def view(values, mask=None):
    values = np.asarray(values, np.float32)
    mask = np.ones(values.shape[:2], bool) if mask is None else mask
    steps = np.full(len(values), values.shape[1], np.int32)
    return View(IDS[: len(values)], {"audio": Column(values, mask, steps, Align("pad", values.shape[1]))})


def noise(dim=4, steps=3, seed=0):
    return np.random.default_rng(seed).standard_normal((N, steps, dim))


def signal(strength=2.0, **more):
    values = noise(**more)
    values[:, :, 0] += strength * np.arange(N)[:, None] % (2 * strength)
    return values


def test_a_probe_finds_what_the_features_say_and_chance_where_they_say_nothing():
    assert probe(view(signal()), "audio", LABELS, TWO, FOLD)["test"]["accuracy"] > 0.85
    assert 0.2 < probe(view(noise()), "audio", LABELS, TWO, FOLD)["test"]["accuracy"] < 0.8


def test_features_that_know_their_train_rows_show_as_a_gap():
    values = noise()
    values[:70, :, 0] += 5 * (np.arange(70) % 2)[:, None]
    found = probe(view(values), "audio", LABELS, TWO, FOLD)
    assert found["gap"] == found["train"]["accuracy"] - found["test"]["accuracy"] > 0.25
    assert abs(probe(view(signal()), "audio", LABELS, TWO, FOLD)["gap"]) < 0.15


def test_test_rows_decide_neither_the_fit_nor_its_strength():
    moved, labels = signal(), {**LABELS, **dict.fromkeys(FOLD.test, 0)}
    moved[90:] *= 100
    one, two = (probe(view(v), "audio", y, TWO, FOLD) for v, y in ((signal(), LABELS), (moved, labels)))
    assert one["train"] == two["train"] and one["valid"] == two["valid"] and one["c"] == two["c"]


def test_invalid_steps_are_not_part_of_the_mean_or_the_deviation():
    values, mask = noise(steps=4), np.ones((N, 4), bool)
    values[:, 3], mask[:, 3] = 1e6, False
    column = view(values, mask).columns["audio"]
    expected = np.concatenate([values[:, :3].mean(1), values[:, :3].std(1)], axis=1)
    assert np.allclose(pooled(column, np.arange(N)), expected, atol=1e-5)


def test_one_step_has_no_deviation():
    column = view(noise(steps=1)).columns["audio"]
    assert pooled(column, np.array([3, 1])).shape == (2, 4)


def test_rows_without_the_modality_take_no_part():
    mask = np.ones((N, 3), bool)
    mask[[0, 1, 75, 95]] = False
    found = probe(view(signal(), mask), "audio", LABELS, TWO, FOLD)
    assert found["rows"] == {"train": 68, "valid": 19, "test": 29}


def test_a_modality_nobody_has_in_train_or_in_validation_is_refused_and_in_test_scores_nothing():
    mask = np.ones((N, 3), bool)
    mask[90:] = False
    found = probe(view(signal(), mask), "audio", LABELS, TWO, FOLD)
    assert found["test"] is None and found["gap"] is None
    mask[70:] = False
    with pytest.raises(InputError, match="no valid utterance has audio"):
        probe(view(signal(), mask), "audio", LABELS, TWO, FOLD)


def test_a_class_that_train_lacks_is_never_predicted_and_breaks_nothing():
    labels = {**LABELS, IDS[95]: 2, IDS[75]: 2}
    found = probe(view(signal()), "audio", labels, Target("multiclass", ("no", "yes", "rare")), FOLD)
    assert [row[2] for row in found["test"]["confusion"]] == [0, 0, 0]


def test_a_head_that_is_always_off_in_train_and_a_regression_are_probed_too():
    pairs = {name: (label, 0) for name, label in LABELS.items()}
    found = probe(view(signal()), "audio", pairs, Target("multilabel", ("x", "y")), FOLD)
    assert found["test"]["heads"]["y"]["accuracy"] == 1.0 and found["test"]["heads"]["x"]["accuracy"] > 0.85
    values = {name: float(label * 2 - 1) for name, label in LABELS.items()}
    number = probe(view(signal()), "audio", values, Target("regression", ()), FOLD)
    assert number["test"]["corr"] > 0.6
    json.dumps(number, allow_nan=False)


def test_each_of_several_numbers_is_probed_by_what_the_features_say_of_it():
    values = {name: (1.0 + 3 * label, 3.0, 5.0 - 2 * label) for name, label in LABELS.items()}
    found = probe(view(signal(strength=4.0)), "audio", values, Target("regression", ("x", "y", "z")), FOLD)
    heads = found["test"]["heads"]
    assert heads["x"]["corr"] > 0.6 < heads["z"]["corr"] and heads["y"]["mae"] < 1e-6
    assert found["test"]["mae"] == pytest.approx(np.mean([head["mae"] for head in heads.values()]))
    json.dumps(found, allow_nan=False)


def test_the_strength_of_a_probe_of_several_numbers_is_chosen_by_all_of_them():
    rng = np.random.default_rng(0)
    target, numbers = Target("regression", ("x", "y")), rng.uniform(1, 5, (N, 2))
    labels = dict(zip(IDS, map(tuple, numbers.tolist()), strict=True))
    given = view(noise(dim=40, steps=1))
    column = given.columns["audio"]
    x = {part: pooled(column, given.rows(getattr(FOLD, part))) for part in ("train", "valid")}
    errors = []
    for c in STRENGTHS:
        ridge = make_pipeline(StandardScaler(), Ridge(alpha=1 / c)).fit(x["train"], numbers[:70])
        errors.append(np.abs(ridge.predict(x["valid"]) - numbers[70:90]).mean())
    found = probe(given, "audio", labels, target, FOLD)
    assert found["c"] == STRENGTHS[int(np.argmin(errors))]
    assert found["valid"]["mae"] == pytest.approx(min(errors))


def test_six_hundred_rows_of_two_thousand_dimensions_take_seconds():
    values = np.random.default_rng(0).standard_normal((600, 1, 2048)).astype(np.float32)
    ids = tuple(map(str, range(600)))
    column = Column(values, np.ones((600, 1), bool), np.ones(600, np.int32), Align("broadcast", 30))
    fold = Fold("one", ids[:420], ids[420:480], ids[480:])
    began = time.process_time()
    probe(View(ids, {"visual": column}), "visual", {name: int(name) % 6 for name in ids}, SIX, fold)
    assert time.process_time() - began < 20
