"""A fit says where it is: in lines that are not too many, with the time left, on the screen and in the log."""

from __future__ import annotations

import logging

import pytest

from pipeline import fit_progress
from pipeline.fit_progress import FitLines, ReadLines, naming
from pipeline.run import extraction


class Time:
    """A clock that is moved by hand."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch, caplog) -> Time:
    caplog.set_level(logging.INFO, fit_progress.__name__)
    clock = Time()
    monkeypatch.setattr(fit_progress, "time", clock)
    return clock


def test_a_line_has_rows_or_losses_and_the_time_left_as_the_share_that_is_done_has_it(clock, caplog):
    with naming("the fit of a stage on fold 1"):
        lines = FitLines(epochs=4, rows=200)
        clock.now_s += 10
        lines.reached(100)  # an eighth of the whole
        clock.now_s += 10
        lines.ended(0.5, 0.25, last=False)
    assert caplog.messages == [
        "the fit of a stage on fold 1: epoch 1 of 4, 100 of 200 rows, at most 70 s left",
        "the fit of a stage on fold 1: epoch 1 of 4, loss 0.500, of validation 0.250, at most 60 s left",
    ]


def test_there_is_one_line_in_some_seconds_and_one_of_the_last_epoch_in_any_case(clock, caplog):
    lines = FitLines(epochs=100, rows=10, what="run 2, ")
    for epoch in range(20):
        clock.now_s += 0.5
        lines.reached(5)
        lines.ended(0.5, None, last=epoch == 19)
    assert caplog.messages == [
        "a fit: run 2, epoch 10 of 100, 5 of 10 rows, at most 48 s left",
        "a fit: run 2, epoch 20 of 100, 5 of 10 rows, at most 41 s left",
        "a fit: run 2, epoch 20 of 100, loss 0.500",
    ]


def test_a_fit_whose_start_took_long_has_no_time_left_before_its_first_row(clock, caplog):
    lines = FitLines(epochs=2, rows=10)
    clock.now_s += 60
    lines.reached(0)
    assert caplog.messages == ["a fit: epoch 1 of 2, 0 of 10 rows"]


def test_clips_that_are_decoded_before_a_fit_are_counted(clock, caplog):
    lines = ReadLines(1200)
    for row in range(1, 1101):
        clock.now_s += 0.01
        lines.reached(row)
    assert caplog.messages == [f"a fit: {n:,} of 1,200 clips are decoded" for n in (500, 1000)]


def test_an_extraction_prints_what_its_fits_say(small, capsys):
    extraction.extract(small.session(features=("words",)))
    assert "the fit of text_cnn on official: epoch 2 of 2, loss " in " ".join(capsys.readouterr().err.split())
    assert fit_progress.log.handlers == []


@pytest.mark.slow
def test_what_a_fit_says_on_a_worker_is_printed_and_logged(small, capsys):
    session = small.session(features=("words",), workers=1)
    log = session.home.log_to_file("extract", "small")
    extraction.extract(session)
    said = "the fit of text_cnn on official: epoch 2 of 2, loss "
    assert said in " ".join(capsys.readouterr().err.split())
    assert said in log.read_text()
