"""A fold that was killed ends with the very weights of one that was not."""

from __future__ import annotations

import io
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from blake3 import blake3
from safetensors.torch import load_file

from pipeline.cache import flock
from pipeline.model import Trainable
from pipeline.train import loop
from pipeline.train import train_fold as train
from pipeline.train.fold_result import read_result
from pipeline.train.train_fold import train_fold
from tests.tiny import WILD, Killed, Tiny, die, epochs, weights


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """Folder of the runs that nothing killed, by their settings."""
    return tmp_path_factory.mktemp("wholes")


@pytest.fixture
def whole(request_of, wholes):
    """The run of a fold that was trained with these settings, once, and never killed."""

    def trained(**training):
        run = wholes / "-".join(map(str, ["run", *training.values()]))
        train_fold(request_of(run=run, training=training))
        return run

    return trained


@pytest.mark.parametrize(("after", "where"), [(3, "_keep"), (2, "_keep"), (0, "_keep"), (9, "_step"), (3, "_validate")])
@pytest.mark.parametrize("pretrained", [False, "frozen"])
def test_a_killed_fold_resumes_to_the_same_weights_as_one_that_was_not(
    request_of, tmp_path, monkeypatch, whole, after, where, pretrained
):
    training = {"unimodal_pretrain": pretrained, "pretrain_epochs": 2}
    expected = whole(**training)
    request = request_of(run=tmp_path / "killed", training=training)
    die(monkeypatch, request, after, where)
    if where == "_keep" and after:
        die(monkeypatch, request, 1)
    train_fold(request)
    assert weights(tmp_path / "killed") == weights(expected)
    assert epochs(tmp_path / "killed") == epochs(expected)


def test_a_resumed_fold_repeats_no_finished_epoch(request_of, monkeypatch):
    request = request_of()
    die(monkeypatch, request, 4)
    steps = Counter()
    real = loop._Training._step
    monkeypatch.setattr(loop._Training, "_step", lambda *a: (steps.update(n=1), real(*a))[1])
    train_fold(request)
    assert steps["n"] == 2 * 5  # of 6 epochs of 5 batches, 4 were kept


def test_a_fold_killed_after_patience_ended_does_not_train_another_epoch(request_of, tmp_path, monkeypatch):
    train_fold(request_of(run=tmp_path / "whole", training=WILD))
    request = request_of(run=tmp_path / "killed", training=WILD)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train, "_finish", lambda *_: (_ for _ in ()).throw(Killed()))
        train_fold(request)
    train_fold(request)
    assert epochs(tmp_path / "killed") == epochs(tmp_path / "whole")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


@pytest.mark.parametrize("name", ["last.ckpt", "best.safetensors"])
@pytest.mark.parametrize("damaged", [lambda c: b"", lambda c: c[:1000], lambda c: c[:-200] + b"\x7f" + c[-199:]])
def test_a_damaged_checkpoint_is_reported_and_training_begins_anew(
    request_of, tmp_path, monkeypatch, caplog, whole, name, damaged
):
    expected = whole()
    request = request_of(run=tmp_path / "killed")
    die(monkeypatch, request, 3)
    path = next((tmp_path / "killed").rglob(name))
    path.write_bytes(damaged(path.read_bytes()))
    train_fold(request)
    assert "damaged, so training begins anew" in caplog.text
    assert weights(tmp_path / "killed") == weights(expected)
    assert epochs(tmp_path / "killed") == epochs(expected)


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


def test_a_fold_whose_training_failed_elsewhere_is_trained_by_the_one_that_waited(request_of, monkeypatch, whole):
    expected = whole()
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
    assert weights(request.run) == weights(expected)


def test_another_digest_trains_anew_and_takes_up_no_foreign_checkpoint(request_of, tmp_path, monkeypatch):
    die(monkeypatch, request_of(digest="other", training={"learning_rate": 0.5}), 3)
    train_fold(request_of())
    train_fold(request_of(run=tmp_path / "clean"))
    assert weights(tmp_path / "run") == weights(tmp_path / "clean")
    assert train_fold(request_of(digest="d2", training={"epochs": 1})).epochs == 1


def test_ctrl_c_reaches_the_caller(request_of, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop._Training, "_step", interrupted)
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
    content = io.BytesIO(last.read_bytes()[blake3.digest_size :])
    assert torch.load(content, weights_only=True)["history"][-1]["epoch"] == 1


def test_what_a_model_keeps_for_each_row_survives_a_kill_and_is_not_saved(request_of, tmp_path, monkeypatch):
    def begin(self, count, rows, labels, target):
        self.register_buffer("seen", torch.zeros(count), persistent=False)

    def loss(self, prediction, labels, rows, objective):
        self.seen[rows] += prediction.logits.detach().abs().sum(dim=1)
        return objective(prediction.logits, labels) * (1 + self.seen[rows].mean())

    monkeypatch.setattr(Tiny, "begin", begin)
    monkeypatch.setattr(Tiny, "loss", loss)
    train_fold(request_of(run=tmp_path / "whole"))
    request = request_of(run=tmp_path / "killed")
    die(monkeypatch, request, 3)
    train_fold(request)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert epochs(tmp_path / "killed") == epochs(tmp_path / "whole")
    assert "seen" not in load_file(tmp_path / "whole" / "model.safetensors")
    monkeypatch.setattr(Tiny, "loss", Trainable.loss)
    train_fold(request_of(run=tmp_path / "plain"))
    assert weights(tmp_path / "plain") != weights(tmp_path / "whole")
