import csv
import json
import pickle
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from pipeline.cache import flock
from pipeline.corpus.recipe import Align
from pipeline.corpus.recipe_training import resolve, split
from pipeline.errors import InputError
from pipeline.model import Prediction, Standardiser, masked_mean
from pipeline.reader import Fold
from pipeline.stage import Target, Track
from pipeline.train import loop, predictions
from pipeline.train import train_fold as train
from pipeline.train.fold_result import read_result, summarise
from pipeline.train.loop import predict
from pipeline.train.metrics import evaluate, prior
from pipeline.train.model_file import load_model
from pipeline.train.train_fold import TrainRequest, train_fold
from pipeline.views.dataset import Dataset
from pipeline.views.view import open_view, write_column

N = 60
IDS = tuple(f"u{i:02}" for i in range(N))
FOLD = Fold("one", IDS[:36], IDS[36:46], IDS[46:])
CLASSES = Target("multiclass", ("a", "b", "c"))
LABELS = {name: i % 3 for i, name in enumerate(IDS)}
NOTHING, NO_AUDIO = (5, 40, 50), (7, 52)


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    width: int = 4
    dropout: float = 0.2


class Tiny(nn.Module):
    """One reduction for each modality, their sum gated equally, one linear layer."""

    Config = TinyConfig
    features = "tiny"
    training = dict(
        epochs=6,
        batch_size=8,
        learning_rate=0.02,
        beta1=0.9,
        beta2=0.99,
        weight_decay=1e-4,
        decay_factor=0.5,
        decay_every=2,
        clip_norm=1.0,
        unimodal_pretrain=False,
    )

    def __init__(self, config, inputs, outputs):
        super().__init__()
        self.config = config
        self.standardise = Standardiser({m: i.dim for m, i in inputs.items()})
        self.reduce = nn.ModuleDict({m: nn.Linear(i.dim, config.width) for m, i in inputs.items()})
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, outputs)

    def reductions(self):
        return dict(self.reduce.items())

    def forward(self, values, masks):
        x = self.standardise(values, masks)
        fused = sum(masked_mean(self.reduce[m](x[m]), masks[m]) for m in x)
        present = {m: mask.any(dim=1).float() for m, mask in masks.items()}
        total = sum(present.values()).clamp(min=1)
        return Prediction(self.head(self.drop(fused)), gates={m: share / total for m, share in present.items()})


@pytest.fixture(autouse=True)
def one_thread_and_the_tiny_model(monkeypatch):
    from pipeline import plugins

    monkeypatch.setattr(
        "pipeline.corpus.recipe_training.find", lambda p, name, k: Tiny if name == "tiny" else plugins.find(p, name, k)
    )
    torch.set_num_threads(1)


def write_view(directory, change=None, length=4):
    rng = np.random.default_rng(0)
    text, audio = [], []
    for i in range(N):
        signal = np.eye(3)[i % 3] * 3
        text.append(Track.of((rng.standard_normal((3, 3)) + signal).astype(np.float32)))
        audio.append(Track.of((rng.standard_normal((1, 5)) * 100).astype(np.float32)))
    for i in NOTHING:
        text[i] = audio[i] = None
    for i in NO_AUDIO:
        audio[i] = None
    for i in change or ():
        text[i] = Track.of(rng.standard_normal((4, 3)).astype(np.float32) * 1000)
    write_column(directory / "text", enumerate(text), N, Align("pad", length), 3)
    write_column(directory / "audio", enumerate(audio), N, Align("broadcast", length), 5)
    return {m: directory / m for m in ("text", "audio")}


@pytest.fixture(scope="module")
def columns(tmp_path_factory):
    return write_view(tmp_path_factory.mktemp("view"))


@pytest.fixture
def request_of(columns, tmp_path):
    def make(**more):
        given = dict(
            model="tiny",
            config={},
            training={},
            ids=IDS,
            columns=columns,
            labels=LABELS,
            target=CLASSES,
            fold=FOLD,
            speakers={},
            run=tmp_path / "run",
            seed=3,
            device="cpu",
            digest="d1",
        )
        return TrainRequest(**{**given, **more})

    return make


def weights(run):
    return (run / "model.safetensors").read_bytes()


def epochs(run, name="epochs.csv"):
    return [
        {k: v for k, v in row.items() if k != "seconds"}
        for row in csv.DictReader((run / name).read_text().splitlines())
    ]


class Killed(Exception):
    """Stands for kill -9."""


def kill(monkeypatch, after, where="_keep"):
    """Ends the process before the `after`th call, from 0, of a method of the loop."""
    owner = loop._Keeper if where == "_keep" else loop._Training
    real, calls = getattr(owner, where), Counter()

    def dying(self, *given):
        calls[where] += 1
        if calls[where] > after:
            raise Killed
        return real(self, *given)

    monkeypatch.setattr(owner, where, dying)


def die(monkeypatch, request, after, where="_keep"):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill(patch, after, where)
        train_fold(request)


# --- what a fold gives -----------------------------------------------------------------------------------------


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


def test_a_multilabel_and_a_regression_target_train_too(request_of, tmp_path):
    heads = {name: (i % 3 == 0, i % 3 == 1) for i, name in enumerate(IDS)}
    heads = {name: tuple(map(int, pair)) for name, pair in heads.items()}
    several = train_fold(
        request_of(run=tmp_path / "h", labels=heads, target=Target("multilabel", ("x", "y")), training={"epochs": 20})
    )
    assert several.metrics["accuracy"] > several.metrics["majority_accuracy"] and set(several.gates) == {
        "all",
        "x",
        "y",
    }
    values = {name: float(i % 3 - 1) for i, name in enumerate(IDS)}
    number = train_fold(
        request_of(run=tmp_path / "r", labels=values, target=Target("regression", ()), training={"epochs": 20})
    )
    assert number.metrics["corr"] > 0.5 and number.metrics["majority_corr"] is None


VAD = Target("regression", ("valence", "arousal", "dominance"))
NUMBERS = {name: (1.0 + i % 3, 5.0 - i % 3, 2.0 + i % 3 % 2) for i, name in enumerate(IDS)}


def test_several_numbers_are_learned_at_once_by_one_head_of_as_many_outputs(request_of):
    result = train_fold(
        request_of(labels=NUMBERS, target=VAD, training={"epochs": 60, "learning_rate": 0.1, "patience": 0})
    )
    assert result.target == {"task": "regression", "classes": ["valence", "arousal", "dominance"]}
    heads = result.metrics["heads"]
    assert min(head["corr"] for head in heads.values()) > 0.5
    assert all(heads[name]["mae"] < result.metrics["majority_heads"][name]["mae"] for name in VAD.classes)
    assert result.parameters == (3 + 1) * 4 + (5 + 1) * 4 + (4 + 1) * 3
    assert result.answers == {"": [2.0, 4.0, 2.0]} and set(result.gates) == {"all"}


def test_the_validation_loss_of_several_numbers_is_their_mean_absolute_error(request_of):
    request = request_of(labels=NUMBERS, target=VAD)
    result = train_fold(request)
    part = predictions.read(request.run / predictions.FILE, "valid")
    usable = [i for i, name in enumerate(part.ids) if name not in {f"u{n:02}" for n in NOTHING}]
    error = np.abs(part.logits - np.array(part.labels))[usable].mean()
    assert float(epochs(request.run)[result.best_epoch]["valid_loss"]) == pytest.approx(error, rel=1e-5)


def test_folds_of_several_numbers_are_pooled_with_the_medians_of_each(request_of, tmp_path):
    turned = Fold("two", IDS[24:], IDS[14:24], IDS[:14])
    results = [
        train_fold(request_of(run=tmp_path / fold.name, fold=fold, labels=NUMBERS, target=VAD))
        for fold in (FOLD, turned)
    ]
    pooled = summarise(results)["pooled"]
    errors = [
        [np.abs(np.subtract(NUMBERS[name], result.answers[""])) for name in fold.test]
        for fold, result in zip((FOLD, turned), results, strict=True)
    ]
    assert pooled["majority_mae"] == pytest.approx(np.concatenate(errors).mean())
    assert set(pooled["heads"]) == set(pooled["majority_heads"]) == set(VAD.classes)
    assert read_result(tmp_path / "one").metrics == results[0].metrics


def test_class_weights_of_several_numbers_are_refused(request_of):
    with pytest.raises(InputError, match="class_weights needs classes"):
        train_fold(request_of(labels=NUMBERS, target=VAD, training={"class_weights": True}))


def test_a_request_can_be_sent_to_another_process(request_of):
    request = request_of()
    assert pickle.loads(pickle.dumps(request)) == request


# --- selection -------------------------------------------------------------------------------------------------


def test_selection_never_reads_test(request_of, tmp_path):
    train_fold(request_of(run=tmp_path / "1"))
    shuffled = {**LABELS, **{name: (LABELS[name] + 1) % 3 for name in FOLD.test}}
    train_fold(request_of(run=tmp_path / "2", labels=shuffled))
    moved = write_view(tmp_path / "moved", change=range(46, N))
    train_fold(request_of(run=tmp_path / "3", columns=moved))
    assert weights(tmp_path / "1") == weights(tmp_path / "2") == weights(tmp_path / "3")


def test_the_model_kept_is_that_of_the_epoch_with_the_lowest_validation_loss(request_of, tmp_path):
    long = {"learning_rate": 0.3, "epochs": 12, "patience": 0, "decay_every": 0}
    result = train_fold(request_of(run=tmp_path / "long", training=long))
    losses = [float(row["valid_loss"]) for row in epochs(tmp_path / "long")]
    assert result.best_epoch == int(np.argmin(losses)) < 11 and result.epochs == 12
    train_fold(request_of(run=tmp_path / "short", training={**long, "epochs": result.best_epoch + 1}))
    assert weights(tmp_path / "long") == weights(tmp_path / "short")


def test_training_stops_when_patience_ends_but_not_before_the_least_number_of_epochs(request_of, tmp_path):
    wild = {"learning_rate": 0.3, "epochs": 40, "patience": 3, "decay_every": 0}
    result = train_fold(request_of(run=tmp_path / "a", training=wild))
    assert result.epochs == result.best_epoch + 1 + 3 < 40
    longer = train_fold(request_of(run=tmp_path / "b", training={**wild, "min_epochs": 30}))
    assert longer.epochs >= 30


def test_the_learning_rate_decays_by_steps_of_epochs(request_of):
    request = request_of()
    train_fold(request)
    rates = [float(row["learning_rate"]) for row in epochs(request.run)]
    assert rates == pytest.approx([0.02, 0.02, 0.01, 0.01, 0.005, 0.005])


def test_a_run_that_diverges_says_so(request_of):
    with pytest.raises(InputError, match="no epoch had a finite validation loss"):
        train_fold(request_of(training={"learning_rate": 1e30, "clip_norm": 0, "epochs": 2}))


# --- resuming --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "where"), [(3, "_keep"), (2, "_keep"), (0, "_keep"), (9, "training_step"), (3, "validation_step")]
)
@pytest.mark.parametrize("pretrained", [False, True])
def test_a_killed_fold_resumes_to_the_same_weights_as_one_that_was_not(
    request_of, tmp_path, monkeypatch, after, where, pretrained
):
    training = {"unimodal_pretrain": pretrained, "pretrain_epochs": 2}
    train_fold(request_of(run=tmp_path / "whole", training=training))
    request = request_of(run=tmp_path / "killed", training=training)
    die(monkeypatch, request, after, where)
    if where == "_keep" and after:
        die(monkeypatch, request, 1)
    train_fold(request)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert epochs(tmp_path / "killed") == epochs(tmp_path / "whole")


def test_a_resumed_fold_repeats_no_finished_epoch(request_of, monkeypatch):
    request = request_of()
    die(monkeypatch, request, 4)
    steps = Counter()
    real = loop._Training.training_step
    monkeypatch.setattr(loop._Training, "training_step", lambda *a: (steps.update(n=1), real(*a))[1])
    train_fold(request)
    assert steps["n"] == 2 * 5  # of 6 epochs of 5 batches, 4 were kept


def test_a_fold_killed_after_patience_ended_does_not_train_another_epoch(request_of, tmp_path, monkeypatch):
    wild = {"learning_rate": 0.3, "epochs": 40, "patience": 3, "decay_every": 0}
    train_fold(request_of(run=tmp_path / "whole", training=wild))
    request = request_of(run=tmp_path / "killed", training=wild)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train, "_finish", lambda *_: (_ for _ in ()).throw(Killed()))
        train_fold(request)
    train_fold(request)
    assert epochs(tmp_path / "killed") == epochs(tmp_path / "whole")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_a_checkpoint_cut_short_by_a_power_failure_is_not_taken_up(request_of, tmp_path, monkeypatch):
    train_fold(request_of(run=tmp_path / "whole"))
    request = request_of(run=tmp_path / "killed")
    die(monkeypatch, request, 3)
    last = next((tmp_path / "killed").rglob("last.ckpt"))
    last.write_bytes(last.read_bytes()[:1000])
    train_fold(request)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_a_finished_fold_is_read_from_disk_and_not_trained_again(request_of, monkeypatch):
    request = request_of()
    first = train_fold(request)
    monkeypatch.setattr(train, "fit", lambda *_: pytest.fail("trained again"))
    assert train_fold(request) == first == read_result(request.run)


def test_a_fold_that_another_process_trains_is_waited_for_and_not_trained_twice(request_of, monkeypatch, caplog):
    request, real, fits = request_of(), train.fit, Counter()

    def slow(model, job):
        fits["n"] += 1
        fits["held"] += flock.held(request.run / train.LOCK)
        time.sleep(0.5)
        return real(model, job)

    monkeypatch.setattr(train, "fit", slow)
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(train_fold, [request, request])
    assert one == two == read_result(request.run) and fits == {"n": 1, "held": 1}
    assert caplog.text.count("waiting for another process that trains the same") == 1
    assert not (request.run / train.LOCK).exists()


def test_a_fold_whose_training_failed_elsewhere_is_trained_by_the_one_that_waited(request_of, tmp_path, monkeypatch):
    train_fold(request_of(run=tmp_path / "whole"))
    request, real, fits = request_of(), train.fit, Counter()

    def dies_first(model, job):
        fits["n"] += 1
        time.sleep(0.5)
        if fits["n"] == 1:
            raise Killed
        return real(model, job)

    monkeypatch.setattr(train, "fit", dies_first)
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(train_fold, request) for _ in range(2)]
    assert sorted(type(end.exception()).__name__ for end in ends) == ["Killed", "NoneType"]
    assert weights(request.run) == weights(tmp_path / "whole")


def test_another_digest_trains_anew_and_takes_up_no_foreign_checkpoint(request_of, tmp_path, monkeypatch):
    die(monkeypatch, request_of(digest="other", training={"learning_rate": 0.5}), 3)
    train_fold(request_of())
    train_fold(request_of(run=tmp_path / "clean"))
    assert weights(tmp_path / "run") == weights(tmp_path / "clean")
    assert train_fold(request_of(digest="d2", training={"epochs": 1})).epochs == 1


def test_ctrl_c_reaches_the_caller(request_of, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop._Training, "training_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_fold(request_of())
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_fold_can_be_trained_in_a_thread(request_of):
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(train_fold, request_of(training={"epochs": 1})).result().epochs == 1


def test_no_checkpoint_needs_pickle_to_be_read(request_of, monkeypatch, tmp_path):
    die(monkeypatch, request_of(), 2)
    last = next(tmp_path.rglob("last.ckpt"))
    assert torch.load(last, weights_only=True)["epoch"] == 1


# --- losses, pretraining, standardisation ----------------------------------------------------------------------


def test_class_weights_change_the_model(request_of, tmp_path):
    labels = {name: 0 if i % 2 else label for i, (name, label) in enumerate(LABELS.items())}
    train_fold(request_of(run=tmp_path / "1", labels=labels))
    train_fold(request_of(run=tmp_path / "2", labels=labels, training={"class_weights": True}))
    assert weights(tmp_path / "1") != weights(tmp_path / "2")


def test_fusion_starts_from_the_reductions_that_pretraining_left(request_of, monkeypatch):
    started = {}

    def look(model, job):
        if job.directory.name == "fusion":
            started.update({name: part.weight.clone() for name, part in model.reductions().items()})
        history = loop.fit(model, job)
        if job.directory.name != "fusion":
            started[f"pretrained {job.directory.name}"] = model.reduce.weight.clone()
        return history

    monkeypatch.setattr("pipeline.train.pretrain.fit", look)
    monkeypatch.setattr(train, "fit", look)
    request = request_of(training={"unimodal_pretrain": True, "pretrain_epochs": 3})
    result = train_fold(request)
    assert result.pretrain["text"]["epochs"] == 3 and set(result.pretrain) == {"text", "audio"}
    assert len(epochs(request.run, "epochs-audio.csv")) == 3
    for modality in ("text", "audio"):
        assert torch.equal(started[modality], started[f"pretrained {modality}"])


def test_statistics_of_the_train_rows_stand_in_the_model(request_of, columns):
    request = request_of()
    train_fold(request)
    text = open_view(IDS, columns).columns["text"]
    steps = text.values[:36][text.mask[:36]]
    assert np.allclose(load_model(request.run).standardise.mean_text, steps.mean(0), atol=1e-6)


def test_standardisation_by_speaker_is_labelled_transductive_and_needs_speakers(request_of):
    training = {"normalize": "speaker"}
    result = train_fold(request_of(training=training, speakers={name: name[-1] for name in IDS}))
    assert result.transductive and result.normalize == "speaker"
    with pytest.raises(InputError, match="needs the speaker of every utterance"):
        train_fold(request_of(training=training, speakers={"u00": "x"}, digest="d2"))


def test_without_standardisation_features_reach_the_model_as_they_are(request_of):
    request = request_of(training={"normalize": "none"})
    train_fold(request)
    assert not load_model(request.run).standardise.mean_text.any()


# --- bad input -------------------------------------------------------------------------------------------------


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
    assert loop.pick("auto") == "cpu"


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="no trained model"):
        load_model(tmp_path)


# --- several folds ---------------------------------------------------------------------------------------------


def test_folds_are_pooled_by_their_predictions_and_averaged_by_their_scores(request_of, tmp_path):
    other = Fold("two", IDS[24:], IDS[14:24], IDS[:14])
    folds = [train_fold(request_of(run=tmp_path / f.name, fold=f)) for f in (FOLD, other)]
    found = summarise(folds)
    right = [fold.metrics["accuracy"] * 14 for fold in folds]
    assert found["pooled"]["accuracy"] == pytest.approx(sum(right) / 28) and found["folds"] == 2
    assert sum(map(sum, found["pooled"]["confusion"])) == 28
    accuracies = [fold.metrics["accuracy"] for fold in folds]
    assert found["mean"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert found["std"]["accuracy"] == pytest.approx(np.std(accuracies, ddof=1))
    majorities = [fold.metrics["majority_accuracy"] for fold in folds]
    assert found["pooled"]["majority_accuracy"] == pytest.approx(np.mean(majorities))


def test_one_fold_has_no_deviation(request_of):
    found = summarise([train_fold(request_of(training={"epochs": 1}))])
    assert found["std"]["accuracy"] is None and found["mean"]["accuracy"] is not None


# --- the models of the project ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["mulg", "hjcag"])
def test_the_models_of_the_papers_train_in_this_loop(request_of, model):
    training = {"epochs": 2, "learning_rate": 0.01, "unimodal_pretrain": True, "pretrain_epochs": 1}
    config = {"mulg": {"width": 6, "hidden": 8, "layers": 1}, "hjcag": {"d_model": 8, "audio_dim": 3}}[model]
    request = request_of(model=model, config=config, training=training)
    result = train_fold(request)
    assert result.epochs == 2 and set(result.pretrain) == ({"text", "audio"} if model == "mulg" else {"audio"})
    assert load_model(request.run).config.dropout if model == "hjcag" else load_model(request.run).config.hidden == 8
