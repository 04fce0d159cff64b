"""What a fold gives: scores, predictions, a model on disk; and the input that is refused."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.corpus.recipe_training import resolve, split
from pipeline.errors import InputError, MachineError
from pipeline.objective import prior
from pipeline.score.metrics import evaluate
from pipeline.train import loop
from pipeline.train import train_fold as train
from pipeline.train.fold_result import read_result
from pipeline.train.model_file import load_model
from pipeline.train.predict import predict
from pipeline.train.train_fold import train_fold
from pipeline.views.dataset import Dataset
from pipeline.views.view import open_view
from tests.tiny import CLASSES, FOLD, IDS, LABELS, Tiny, TinyConfig, epochs, weights


def test_a_model_learns_what_its_features_say_and_its_scores_stand_beside_the_majority(request_of):
    result = train_fold(request_of(training={"epochs": 20, "learning_rate": 0.05}))
    assert result.metrics["accuracy"] > 0.7 > 0.4 > result.metrics["majority_accuracy"]
    assert result.valid["accuracy"] > 0.7
    assert result.parameters == (3 + 1) * 4 + (5 + 1) * 4 + (4 + 1) * 3
    assert result.device == "cpu" and result.transductive is False
    assert result.counts == dict(
        train=36, valid=10, test=14, train_left_out=1, valid_left_out=1, test_left_out=1, test_complete=12
    )


def test_the_same_request_gives_the_same_weights_and_another_seed_others(request_of, tmp_path):
    one = train_fold(request_of(run=tmp_path / "1"))
    two = train_fold(request_of(run=tmp_path / "2"))
    train_fold(request_of(run=tmp_path / "3", seed=4))
    assert weights(tmp_path / "1") == weights(tmp_path / "2") != weights(tmp_path / "3")
    assert one.metrics == two.metrics and epochs(tmp_path / "1") == epochs(tmp_path / "2")


def test_every_validation_and_test_row_has_a_prediction_from_which_the_metrics_follow(request_of):
    request = request_of()
    result = train_fold(request)
    table = pq.read_table(result.predictions).to_pydict()
    assert table["utterance"] == [*FOLD.valid, *FOLD.test]
    assert table["split"] == ["valid"] * 10 + ["test"] * 14 and set(table["fold"]) == {"one"}
    assert table["label"] == [LABELS[name] for name in table["utterance"]]
    assert table["prediction"] == [int(np.argmax(logits)) for logits in table["logits"]]
    again = evaluate(np.array(table["logits"][10:]), table["label"][10:], CLASSES)
    assert {name: result.metrics[name] for name in again} == again


def test_an_utterance_without_any_modality_is_scored_as_the_train_majority(request_of):
    labels = {name: 2 if name in FOLD.train[:20] else label for name, label in LABELS.items()}
    result = train_fold(request_of(labels=labels))
    table = pq.read_table(result.predictions).to_pydict()
    at = table["utterance"].index("u50")
    assert table["logits"][at] == prior([labels[name] for name in FOLD.train], CLASSES).tolist()
    assert table["prediction"][at] == 2 and table["gate_text"][at] is None


def test_an_utterance_without_any_modality_is_left_out_of_training(request_of, tmp_path):
    train_fold(request_of(run=tmp_path / "1"))
    train_fold(request_of(run=tmp_path / "2", labels={**LABELS, "u05": 0, "u40": 0}))
    assert LABELS["u05"] != 0 != LABELS["u40"]
    assert weights(tmp_path / "1") == weights(tmp_path / "2")


def test_complete_rows_are_scored_apart(request_of):
    result = train_fold(request_of())
    assert sum(map(sum, result.metrics["confusion"])) == 14
    assert sum(map(sum, result.complete["confusion"])) == 12
    assert "majority_accuracy" in result.complete


def test_gates_are_averaged_by_class_over_the_rows_that_have_any(request_of):
    gates = train_fold(request_of()).gates
    assert set(gates) == {"all", "a", "b", "c"}
    assert gates["all"]["text"] == pytest.approx((12 * 0.5 + 1) / 13)  # one row has text alone, one has nothing
    assert all(sum(shares.values()) == pytest.approx(1) for shares in gates.values())


def test_a_saved_model_predicts_what_the_run_predicted(request_of, columns):
    request = request_of(config={"width": 6})
    result = train_fold(request)
    model = load_model(request.run)
    assert model.config == TinyConfig(width=6) and not model.training
    view = open_view(IDS, columns)
    rows = view.rows(["u46", "u47"])
    logits, _ = predict(model, Dataset(view, LABELS, CLASSES), rows, 8, "cpu")
    stored = dict(
        zip(*(pq.read_table(result.predictions)[n].to_pylist() for n in ("utterance", "logits")), strict=True)
    )
    assert np.allclose(logits, [stored["u46"], stored["u47"]], atol=1e-6)


def test_the_card_beside_the_weights_says_how_features_must_be_aligned(request_of):
    request = request_of()
    train_fold(request)
    card = json.loads((request.run / "model.json").read_text())
    assert card["align"] == {"text": {"mode": "pad", "length": 4}, "audio": {"mode": "broadcast", "length": 4}}
    assert card["features"] == "tiny" and card["normalize"] == "train"
    assert card["inputs"]["audio"] == {"dim": 5, "length": 4}


def test_a_fold_leaves_its_results_and_nothing_else_anywhere(request_of, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train_fold(request_of())
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    kept = {"epochs.csv", "model.json", "model.safetensors", "predictions.parquet", "result.json"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == kept
    assert capsys.readouterr() == ("", "")


def test_a_request_can_be_sent_to_another_process(request_of):
    request = request_of()
    assert pickle.loads(pickle.dumps(request)) == request


def test_a_finished_fold_is_read_from_disk_and_not_trained_again(request_of, monkeypatch):
    request = request_of()
    first = train_fold(request)
    monkeypatch.setattr(train, "fit", lambda *_: pytest.fail("trained again"))
    assert train_fold(request) == first == read_result(request.run)


def test_everything_wrong_with_the_settings_is_said_at_once_with_the_closest_name(request_of):
    with pytest.raises(InputError) as caught:
        train_fold(request_of(config={"widht": 3, "dropout": "much"}, training={"epoch": 3, "batch_size": 0}))
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "widht: no such setting: did you mean width" in lines[0] and "did you mean epochs" in lines[1]
    assert "dropout" in lines[2] and "batch_size" in lines[3]


def test_one_section_of_a_recipe_is_sorted_into_model_and_loop():
    assert split(Tiny, {"width": 3, "epochs": 2}) == ({"width": 3}, {"epochs": 2})
    with pytest.raises(InputError, match="did you mean learning_rate"):
        split(Tiny, {"width": 3, "learning_rates": 2})
    config, settings = resolve(Tiny, {"width": 3}, {"epochs": 2})
    assert config == TinyConfig(width=3) and settings.epochs == 2 and settings.batch_size == 8


def test_a_fold_that_cannot_be_trained_says_all_that_is_missing(request_of):
    labels = {name: label for name, label in LABELS.items() if name != "u01"}
    fold = replace(FOLD, valid=("u40",), test=())
    with pytest.raises(InputError, match="(?s)1 utterances have no label: u01.*no valid utterance.*no test utterance"):
        train_fold(request_of(labels=labels, fold=fold))


def test_a_gpu_that_is_not_there_is_refused(request_of, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no GPU"):
        train_fold(request_of(device="cuda"))
    assert loop.pick_device("auto") == "cpu"


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="no trained model"):
        load_model(tmp_path)


@pytest.mark.parametrize("model", ["mulg", "hjcag"])
def test_the_models_of_the_papers_train_in_this_loop(request_of, model):
    training = {"epochs": 2, "learning_rate": 0.01, "unimodal_pretrain": True, "pretrain_epochs": 1}
    config = {"mulg": {"width": 6, "hidden": 8, "layers": 1}, "hjcag": {"d_model": 8, "audio_dim": 3}}[model]
    request = request_of(model=model, config=config, training=training)
    result = train_fold(request)
    assert result.epochs == 2 and set(result.pretrain) == ({"text", "audio"} if model == "mulg" else {"audio"})
    assert load_model(request.run).config.dropout if model == "hjcag" else load_model(request.run).config.hidden == 8


@pytest.mark.parametrize("pretrain", [True, "frozen"])
def test_a_frozen_reduction_is_what_it_was_after_learning_alone(request_of, tmp_path, pretrain):
    training = {"epochs": 2, "learning_rate": 0.01, "unimodal_pretrain": pretrain, "pretrain_epochs": 1}
    whole, alone = (request_of(model="hjcag", config={"d_model": 8, "audio_dim": 3}, training=t, run=tmp_path / name)
                    for name, t in (("whole", training), ("alone", {**training, "learning_rate": 1e-30})))  # fmt: skip
    train_fold(whole)
    train_fold(alone)
    reduced, pretrained = (load_model(path).reduce["audio"].weight for path in (whole.run, alone.run))
    assert torch.equal(reduced, pretrained) == (pretrain == "frozen")


def test_training_that_is_refused_memory_is_named(request_of, monkeypatch):
    monkeypatch.setattr(Tiny, "forward", lambda *given: torch.empty(10**16))
    with pytest.raises(MachineError, match="training tiny on one needs more memory"):
        train_fold(request_of())
