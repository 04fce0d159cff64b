"""The scores of trained models in the report: what stands beside them, and what is warned of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.report import model_details, models_section, probes_section
from pipeline.report import page as report
from pipeline.report.models_section import Trained
from pipeline.report.probes_section import Probe
from pipeline.stage import Target
from tests.pages import answer, column, fold, trained, write
from tests.small import RECIPE, Small

MANY = Target("multilabel", ("a", "b"))
LINE = Target("regression", ())
VAD = Target("regression", ("valence", "arousal", "dominance"))


def test_scores_of_several_folds_are_said_to_be_pooled(known: Small) -> None:
    target = Target("multiclass", ("a", "b"))
    folds = [fold(name, target, np.eye(2)[[0, 1, 1]], [0, 1, 0], [0, 0, 1]) for name in ("one", "two")]
    sheet = models_section.scores(trained(folds), [])
    assert column(sheet, "mean ± deviation over folds")["Accuracy"] == "0.6667 ± 0.1250"
    assert "all 2 folds scored as one set of 6 rows" in sheet.note
    assert "fold" not in models_section.scores(trained(folds[:1]), []).note


def test_a_model_and_a_probe_are_compared_by_their_means_over_folds() -> None:
    target = Target("multiclass", ("a", "b"))
    parts = {"accuracy": 0.7, "f1_weighted": 0.7}
    best = Probe("set", "text", (), {name: {"valid": parts, "test": parts, "majority": {}} for name in ("one", "two")})
    wrong, right = (fold(name, target, np.eye(2)[[0, 1, 1]], [0, 1, 0], [0, 0, 1]) for name in ("one", "two"))
    for mean, said in ((0.6, True), (0.8, False)):  # pooled it is 0.6667
        each = answer("any", [wrong, right])
        each["metrics"]["mean"] = {**each["metrics"]["mean"], "accuracy": mean}
        run = Trained(each, Path("nowhere"), 0.0, "", None, ())
        assert run.line.scores["accuracy"] == mean
        assert (
            any("the best probe of a single modality" in told for told in models_section.notices(run, [best])) == said
        )
    assert "on the test rows that have its modality, means over folds" in models_section.scores(run, [best]).note


def test_the_probe_beside_a_model_is_the_best_on_validation_and_not_on_test() -> None:
    target = Target("multiclass", ("a", "b"))
    run = trained([fold("one", target, np.eye(2)[[0, 1, 1]], [0, 1, 0], [0, 0, 1])])

    def probe(name: str, valid: float, test: float) -> Probe:
        return Probe(
            "set", name, (), {"one": {"valid": {"accuracy": valid}, "test": {"accuracy": test}, "majority": {}}}
        )

    chosen = models_section.best_probe(run, [probe("text", 0.6, 0.5), probe("audio", 0.5, 0.9)])
    assert chosen is not None and chosen.modality == "text"


def test_each_head_has_its_own_majority_beside_it() -> None:
    truth = [(0, 1), (0, 0), (0, 1), (1, 1)]
    run = trained([fold("one", MANY, np.zeros((4, 4)), truth, [(0, 1), (0, 1), (0, 0)])])
    [heads] = [sheet for sheet in model_details.details(run) if sheet.caption == "Classes"]
    assert column(heads, "majority accuracy") == {"a": "0.7500", "b": "0.7500"}


def test_a_regression_has_its_own_scores_and_an_undefined_one_is_a_dash() -> None:
    sheet = models_section.scores(trained([fold("one", LINE, np.zeros((3, 1)), [1.0, -1.0, 2.0], [0.5, 1.0])]), [])
    assert column(sheet, "test")["Corr"] == "–"
    assert column(sheet, "test")["MAE"] == "1.3333"
    assert column(sheet, "majority")["Acc2 non0"] == "0.6667"


def test_a_number_on_one_side_of_0_is_judged_by_its_error_and_not_by_its_sign() -> None:
    rated, felt = ([4.0, 1.0, 2.5], [3.0, 2.0]), ([1.0, -1.0, 2.0], [0.5, 1.0])
    for (truth, train), heads in ((rated, ("ccc", "mae")), (felt, ("acc2_non0", "f1_non0"))):
        run = trained([fold("one", LINE, np.array(truth)[:, None] * -1, truth, train)])
        assert probes_section.headline(LINE, [run.line]) == heads
        assert probes_section.score_name(heads[0]) in report._columns([run.line], LINE)
        assert any("does not beat the majority" in told for told in models_section.notices(run, []))


def test_each_of_several_numbers_has_its_own_scores_and_its_own_majority() -> None:
    truth, train = [(1.0, 2.0, 5.0), (3.0, 4.0, 1.0)], [(2.0, 3.0, 3.0)]
    run = trained([fold("one", VAD, np.array(truth) + (0.0, 0.5, -1.0), truth, train)])
    [numbers] = [sheet for sheet in model_details.details(run) if sheet.caption == "Targets"]
    assert column(numbers, "MAE") == {"valence": "0.0000", "arousal": "0.5000", "dominance": "1.0000"}
    assert column(numbers, "majority MAE") == {"valence": "1.0000", "arousal": "1.0000", "dominance": "2.0000"}
    assert column(numbers, "Corr")["dominance"] == "1.0000"
    assert float(column(numbers, "CCC")["arousal"]) == pytest.approx(2 * 1 / (1 + 1 + 0.25), abs=1e-4)


def test_the_means_over_several_numbers_stand_among_the_scores_and_what_they_say_is_held_against_the_majority() -> None:
    truth = [(1.0, 2.0, 5.0), (3.0, 4.0, 1.0)]
    good, bad = (trained([fold("one", VAD, sign * np.array(truth), truth, truth)]) for sign in (1, -1))
    sheet = models_section.scores(good, [])
    assert column(sheet, "test") == {"MAE": "0.0000", "Corr": "1.0000", "CCC": "1.0000"}
    assert column(sheet, "majority") == {"MAE": "1.3333", "Corr": "–", "CCC": "0.0000"}
    assert models_section.notices(good, []) == []
    assert any("does not beat the majority" in told for told in models_section.notices(bad, []))


def test_a_report_of_several_numbers_has_a_row_for_each_and_no_score_of_signs(known: Small) -> None:
    small = Small(known.root, known.home, known.path.with_name("vad.toml"), RECIPE.replace('"six"', '"vad"'))
    corpus = small.session().corpus
    [each] = corpus.folds
    truth, train = ([corpus.labels[i] for i in part] for part in (each.test, each.train))
    made = fold(each.name, corpus.target, np.array(truth) + 0.5, truth, train)
    made["digests"] = each.digests
    runs = small.home / "runs" / small.name
    runs.mkdir(parents=True)
    (runs / "close-official.json").write_text(json.dumps(answer("close", [made])))
    told, page = write(small)
    assert told["models"]["close-official"]["metrics"]["mae"] == pytest.approx(0.5)
    assert set(told["probes"]) == {"sound/audio", "pitch/audio"}  # the text's fit is of the other labels
    assert all(set(probe["test"]) == {"mae", "corr", "ccc"} for probe in told["probes"].values())
    assert "vad (regression: valence, arousal, dominance)" in page.words
    assert all(f"{name}, {part}" in page.words for name in VAD.classes for part in ("train", "valid", "test"))
    assert "majority MAE" in page.words and "Acc2" not in page.words and "other folds or labels" not in page.words


def test_the_confusion_matrix_has_shares_of_the_row_and_counts() -> None:
    target = Target("multiclass", ("a", "b"))
    run = trained([fold("one", target, np.eye(2)[[0, 1, 1, 1]], [0, 0, 0, 1], [0, 1])])
    [matrix] = [sheet for sheet in model_details.details(run) if sheet.caption == "Confusion"]
    assert [[each.text for each in row] for row in matrix.rows] == [
        ["a", "33% (1)", "67% (2)"],
        ["b", "0% (0)", "100% (1)"],
    ]
    assert [each.share for each in matrix.rows[0][1:]] == [pytest.approx(1 / 3), pytest.approx(2 / 3)]


def test_the_best_test_epoch_is_in_the_scores_of_a_run_that_has_it_and_said_to_be_chosen_on_test() -> None:
    made = fold("one", Target("multiclass", ("a", "b")), np.eye(2), [0, 1], [0, 1])
    sheet = models_section.scores(trained([made | {"best_test": {"accuracy": 0.75}}]), [])
    assert column(sheet, "best test epoch (chosen on test)")["Accuracy"] == "0.7500" and "chosen on test" in sheet.note
    assert "best test" not in " ".join([*models_section.scores(trained([made]), []).header, sheet.caption])


def test_a_run_on_test_statistics_is_called_transductive() -> None:
    made = fold("one", Target("multiclass", ("a", "b")), np.eye(2), [0, 1], [0, 1])
    assert any("transductive" in told for told in models_section.notices(trained([made | {"transductive": True}]), []))
    assert not any("transductive" in told for told in models_section.notices(trained([made]), []))


def test_the_kept_epoch_of_a_pretraining_is_marked_too(tmp_path: Path) -> None:
    made = fold("one", Target("multiclass", ("a", "b")), np.eye(2), [0, 1], [0, 1])
    made["pretrain"] = {"text": {"best_epoch": 0, "epochs": 2}}
    (tmp_path / "one").mkdir()
    for name in ("epochs.csv", "epochs-text.csv"):
        (tmp_path / "one" / name).write_text("epoch,train_loss,valid_loss\n0,3,2\n1,2,4\n")
    curves = model_details.loss_curves(Trained(answer("any", [made]), tmp_path, 0.0, "", None, ()))
    assert curves is not None
    assert "one, pretraining of text: train from 3 to 2, valid from 2 to 4, kept epoch 1." in curves.alt
    assert "one: train from 3 to 2, valid from 2 to 4, kept epoch 2." in curves.alt
