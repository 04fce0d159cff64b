import json

import numpy as np
import pytest
from sklearn.metrics import f1_score, mean_absolute_error

from pipeline.objective import prior
from pipeline.score.metrics import answers, constant, decide, evaluate, majority, scalars
from pipeline.stage import Target

THREE = Target("multiclass", ("a", "b", "c"))
HEADS = Target("multilabel", ("neutral", "happy", "sad", "angry"))
NUMBER = Target("regression", ())
VAD = Target("regression", ("valence", "arousal", "dominance"))


def one_hot(guess, classes=3):
    return np.eye(classes)[guess]


def numbers(guess, truth):
    return evaluate(np.array(guess, np.float32)[:, None], truth, NUMBER)


def test_hand_made_multiclass_scores():
    found = evaluate(one_hot([0, 0, 1, 1, 2]), [0, 0, 0, 1, 2], THREE)
    assert found["accuracy"] == pytest.approx(4 / 5)
    assert found["uar"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert found["f1_macro"] == pytest.approx((0.8 + 2 / 3 + 1) / 3)
    assert found["f1_weighted"] == pytest.approx((3 * 0.8 + 2 / 3 + 1) / 5)
    assert found["precision_weighted"] == pytest.approx((3 * 1 + 0.5 + 1) / 5)
    assert found["recall_weighted"] == pytest.approx(4 / 5)
    assert found["confusion"] == [[2, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert found["classes"]["b"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}


def test_a_class_absent_from_test_has_no_recall_and_does_not_lower_the_mean_recall():
    found = evaluate(one_hot([0, 1, 0, 1]), [0, 1, 0, 1], THREE)
    assert found["uar"] == found["f1_macro"] == 1.0
    assert found["classes"]["c"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert [len(row) for row in found["confusion"]] == [3, 3, 3]


def test_a_class_predicted_but_absent_counts_as_a_macro_f1_of_zero_as_everywhere_else():
    found = evaluate(one_hot([0, 1, 0, 2]), [0, 1, 0, 1], THREE)
    assert found["uar"] == pytest.approx(0.75)
    assert found["f1_macro"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert found["classes"]["c"]["f1"] == 0.0 and found["classes"]["c"]["recall"] is None


def test_a_class_never_predicted_has_precision_zero_in_the_weighted_mean():
    assert evaluate(one_hot([0, 0]), [0, 1], THREE)["precision_weighted"] == pytest.approx(0.25)


def test_each_head_of_a_multilabel_target_is_a_binary_task_of_its_own():
    truth = [(0, 1, 0, 0), (1, 0, 0, 0), (0, 1, 0, 1)]
    guess = np.array([(0, 1, 0, 0), (1, 1, 0, 0), (0, 1, 0, 0)])
    found = evaluate(np.eye(2)[guess].reshape(3, 8), truth, HEADS)
    assert [found["heads"][name]["accuracy"] for name in HEADS.classes] == pytest.approx([1, 2 / 3, 1, 2 / 3])
    assert found["accuracy"] == pytest.approx(10 / 12)
    assert found["heads"]["happy"]["f1"] == pytest.approx((2 * 0.8 + 0) / 3)
    assert found["heads"]["angry"]["support"] == 1
    assert found == evaluate(np.eye(2)[guess], truth, HEADS)


def test_acc7_clips_to_three_and_rounds_halves_to_even():
    assert numbers([0.5, -0.5, 2.5, 1.5], [0, 0, 2, 2])["acc7"] == 1.0
    assert numbers([2.5, 0.5], [3, 1])["acc7"] == 0.0
    assert numbers([3.7, -9.0], [3, -2.6])["acc7"] == 1.0


def test_acc5_clips_to_two():
    assert numbers([2.9, -3.0, 1.4], [2, -2, 1])["acc5"] == 1.0
    assert numbers([2.9, 1.4], [2, 1])["acc7"] == 0.5


def test_errors_and_correlation_are_of_unclipped_values():
    found = numbers([5.0, -1.0], [3.0, -1.0])
    assert found["mae"] == 1.0 and found["corr"] == pytest.approx(1.0)


def test_non0_leaves_neutral_rows_out_and_has0_counts_them_as_not_negative():
    found = numbers([0.2, -0.2, 0.0, -0.1], [1.0, -1.0, 0.0, 0.0])
    assert found["acc2_non0"] == 1.0 and found["f1_non0"] == 1.0
    assert found["acc2_has0"] == 0.75


def test_a_prediction_of_exactly_zero_is_negative_for_non0_and_not_negative_for_has0():
    found = numbers([0.0, 0.0], [1.0, -1.0])
    assert found["acc2_non0"] == 0.5 and found["precision_non0"] == pytest.approx(0.25)
    assert found["acc2_has0"] == 0.5 and found["f1_has0"] == pytest.approx(1 / 3)


def test_f1_of_the_sign_is_weighted_by_the_truth_and_agrees_with_the_published_definitions():
    rng = np.random.default_rng(0)
    truth, guess = np.round(rng.normal(0.4, 1.5, 500) * 3) / 3, rng.normal(0.4, 1.5, 500).astype(np.float32)
    found, some = numbers(guess, truth.tolist()), truth != 0
    assert found["f1_non0"] == pytest.approx(f1_score(truth[some] > 0, guess[some] > 0, average="weighted"))
    assert found["f1_has0"] == pytest.approx(f1_score(truth >= 0, guess >= 0, average="weighted"))
    clipped = [np.round(np.clip(x, -3, 3)) for x in (guess, truth)]
    assert found["acc7"] == np.mean(clipped[0] == clipped[1])
    assert found["corr"] == pytest.approx(np.corrcoef(guess, truth)[0, 1])


def test_what_is_undefined_is_null_and_not_zero():
    assert numbers([1.0, 1.0], [1.0, 2.0])["corr"] is None
    neutral = numbers([0.0, 1.0], [0.0, 0.0])
    assert neutral["acc2_non0"] is neutral["f1_non0"] is neutral["corr"] is None
    assert numbers([1.0], [1.0])["ccc"] is None


def test_concordance_punishes_an_offset_that_correlation_does_not_see():
    found = numbers([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    assert found["corr"] == pytest.approx(1.0) and found["ccc"] == pytest.approx(2 * (2 / 3) / (4 / 3 + 1))


def test_each_of_several_numbers_is_scored_alone_and_the_means_stand_above():
    rng = np.random.default_rng(1)
    truth = rng.uniform(1, 5, (80, 3))
    guess = truth * (0.9, 0.5, 0.1) + rng.normal(0, 0.4, (80, 3))
    found = evaluate(guess.astype(np.float32), [tuple(row) for row in truth.tolist()], VAD)
    assert set(found) == {"mae", "corr", "ccc", "heads"} and list(found["heads"]) == list(VAD.classes)
    for i, name in enumerate(VAD.classes):
        x, y = guess[:, i], truth[:, i]
        (xx, xy), (_, yy) = np.cov(x, y, bias=True)
        ccc = 2 * xy / (xx + yy + (x.mean() - y.mean()) ** 2)
        expected = {"mae": mean_absolute_error(y, x), "corr": xy / np.sqrt(xx * yy), "ccc": ccc}
        assert found["heads"][name] == pytest.approx(expected, rel=1e-5)
    for name in ("mae", "corr", "ccc"):
        assert found[name] == pytest.approx(np.mean([head[name] for head in found["heads"].values()]))


def test_conventions_of_sentiment_from_minus_three_to_three_are_not_applied_to_several_numbers():
    assert not {"acc7", "acc5", "acc2_non0", "acc2_has0"} & set(evaluate(np.ones((2, 3)), [(1.0, 2.0, 3.0)] * 2, VAD))


def test_a_mean_over_numbers_is_undefined_where_one_of_them_is():
    truth = [(1.0, 2.0, 3.0), (2.0, 3.0, 4.0), (3.0, 1.0, 5.0)]
    guess = np.array(truth)
    guess[:, 1] = 2.0
    found = evaluate(guess, truth, VAD)
    assert found["heads"]["valence"]["corr"] == pytest.approx(1.0)
    assert found["heads"]["arousal"]["corr"] is None and found["corr"] is None
    assert found["mae"] == pytest.approx(2 / 9) and found["ccc"] == pytest.approx(2 / 3)


def test_a_single_named_number_is_scored_as_an_unnamed_one():
    guess, truth = np.array([[1.0], [-2.0], [0.5]]), [0.5, -1.0, 2.0]
    one = Target("regression", ("valence",))
    assert evaluate(guess, truth, one) == evaluate(guess, truth, NUMBER)
    assert answers(truth, one) == answers(truth, NUMBER)


def test_the_majority_of_several_numbers_is_the_train_median_of_each():
    train = [(1.0, 2.0, 3.0), (1.0, 4.0, 3.0), (4.0, 5.0, 3.0)]
    assert answers(train, VAD) == {"": [1.0, 4.0, 3.0]}
    found = majority(train, [(2.0, 4.0, 5.0), (1.0, 2.0, 4.0)], VAD)
    assert {name: head["mae"] for name, head in found["majority_heads"].items()} == dict(
        valence=0.5, arousal=1.0, dominance=1.5
    )
    assert found["majority_mae"] == pytest.approx(1.0)
    assert found["majority_corr"] is None and found["majority_ccc"] == 0.0


def test_folds_with_other_medians_are_scored_each_with_its_own():
    given = [{"": [1.0, 1.0, 1.0]}, {"": [2.0, 3.0, 4.0]}]
    assert constant(given, [(1.0, 1.0, 1.0), (2.0, 3.0, 4.0)], VAD)["majority_mae"] == 0.0


def test_the_majority_of_train_not_of_test_is_the_baseline():
    found = majority([0, 0, 1], [1, 1, 2, 0], THREE)
    assert found["majority_accuracy"] == 0.25
    assert found["majority_uar"] == pytest.approx(1 / 3)


def test_the_multilabel_majority_is_taken_head_by_head():
    found = majority([(0, 1, 0, 0), (0, 1, 1, 0), (0, 0, 0, 0)], [(0, 1, 0, 1)], HEADS)
    assert found["majority_accuracy"] == 0.75


def test_each_regression_metric_has_the_constant_that_serves_it_best():
    train = [-1.0] * 3 + [0.0] * 3 + [1.0] * 4 + [2.6] * 2  # the median is 0.5, which rounds to 0
    found = majority(train, [1.0, 1.0, -1.0, 0.0], NUMBER)
    assert found["majority_mae"] == pytest.approx((0.5 + 0.5 + 1.5 + 0.5) / 4)
    assert found["majority_acc7"] == 0.5
    assert found["majority_acc2_non0"] == pytest.approx(2 / 3)
    assert found["majority_acc2_has0"] == 0.75
    assert found["majority_corr"] is None


def test_a_majority_of_negatives_answers_negative():
    assert majority([-1.0, -2.0, 1.0], [-1.0, -1.0, 1.0], NUMBER)["majority_acc2_has0"] == pytest.approx(2 / 3)


def test_the_baseline_has_the_names_of_the_metrics_it_stands_beside():
    numbers = (NUMBER, [-1.0, 0.0, 2.0]), (VAD, [(1.0, 2.0, 5.0), (3.0, 2.5, 1.0)])
    for target, labels in ((THREE, [0, 1, 2]), (HEADS, [(0, 1, 0, 1), (1, 0, 1, 0)]), *numbers):
        logits = np.random.default_rng(0).standard_normal((len(labels), target.outputs))
        names = scalars(evaluate(logits, labels, target))
        assert set(scalars(majority(labels, labels, target))) == {f"majority_{name}" for name in names}


def test_the_prior_decides_for_the_majority():
    assert decide(prior([2, 2, 1], THREE)[None], THREE).tolist() == [2]
    assert decide(prior([(0, 1, 0, 0)], HEADS)[None], HEADS).tolist() == [[0, 1, 0, 0]]
    assert prior([0.0, 1.0, 5.0], NUMBER).tolist() == [1.0]
    assert decide(prior([(1.0, 2.0, 5.0)], VAD)[None], VAD).tolist() == [[1.0, 2.0, 5.0]]
    assert np.isfinite(prior([0], THREE)).all()


def test_metrics_are_json_and_no_rows_are_an_error():
    for target, labels in ((THREE, [0, 1, 1]), (HEADS, [(0, 1, 0, 1)]), (NUMBER, [0.0]), (VAD, [(1.0, 1.0, 1.0)])):
        json.dumps(evaluate(np.zeros((len(labels), target.outputs)), labels, target), allow_nan=False)
    with pytest.raises(ValueError, match="no rows"):
        evaluate(np.zeros((0, 3)), [], THREE)
