"""While models train, people see how many epochs are done and what the last losses are."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import console
from pipeline.train import progress
from pipeline.train.progress import EpochBars, Training

HEADER = "epoch,train_loss,valid_loss,learning_rate,seconds\n"


def epochs(folder: Path, *valid: float) -> None:
    folder.mkdir(exist_ok=True)
    lines = [f"{epoch},{loss / 2},{loss},0.1,1.0\n" for epoch, loss in enumerate(valid)]
    (folder / "epochs.csv").write_text(HEADER + "".join(lines))


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, str]]:
    """What the bars were told, in place of drawing them; nobody looks but the test."""
    told: list[tuple[str, int, str]] = []
    monkeypatch.setattr(console.Bars, "reach", lambda self, name, done, said="": told.append((name, done, said)))
    monkeypatch.setattr(progress, "EVERY_S", 60.0)
    return told


def test_a_bar_counts_the_epochs_of_all_folds_and_tells_the_newest_losses(tmp_path: Path, reached) -> None:  # type: ignore[no-untyped-def]
    one, two = (Training("gmu", tmp_path / name, tmp_path / f"run-{name}", 10) for name in ("one", "two"))
    with EpochBars([one, two]) as bars:
        bars.look()
        epochs(one.folder, 0.8, 0.6)
        bars.look()
        bars.look()
        epochs(two.folder, 0.9)
        bars.look()
    assert reached == [("gmu", 0, ""), ("gmu", 2, "train 0.300 valid 0.600"), ("gmu", 3, "train 0.450 valid 0.900")]


def test_a_fold_that_stopped_early_fills_its_part(tmp_path: Path, reached) -> None:  # type: ignore[no-untyped-def]
    one, two = (Training("gmu", tmp_path / name, tmp_path / f"run-{name}", 10) for name in ("one", "two"))
    epochs(one.folder, 0.8, 0.6)
    epochs(two.folder, 0.8)
    with EpochBars([one, two]) as bars:
        bars.end(one)
    assert reached[-1][:2] == ("gmu", 11)


def test_a_file_that_is_half_written_or_gone_shows_nothing(tmp_path: Path) -> None:
    training = Training("gmu", tmp_path, tmp_path / "run", 10)
    for text in ("", "epoch,train_", f"{HEADER}0,not,a number"):
        (tmp_path / "epochs.csv").write_text(text)
        assert training.newest() == (0, "")


def test_bars_are_told_while_a_fold_trains(tmp_path: Path, request_of, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    from pipeline.train import loop
    from pipeline.train.train_fold import FUSION, train_fold

    request, seen = request_of(), list[tuple[int, str]]()
    training, keep = Training("tiny", request.work / FUSION, request.run, 6), loop._Training._keep
    monkeypatch.setattr(loop._Training, "_keep", lambda self: (keep(self), seen.append(training.newest()))[1])
    train_fold(request)
    assert [count for count, _ in seen] == [1, 2, 3, 4, 5, 6] and all(said.startswith("train ") for _, said in seen)


# --- TensorBoard -----------------------------------------------------------------------------------------------


def test_tensorboard_has_each_epoch_once_and_the_scores_on_validation(tmp_path: Path, request_of) -> None:  # type: ignore[no-untyped-def]
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from pipeline.train.tensorboard import TensorBoard
    from pipeline.train.train_fold import FUSION, train_fold

    request = request_of(run=tmp_path / "hjcag-1" / "fold")
    training, board = Training("tiny", request.work / FUSION, request.run, 6), TensorBoard(tmp_path / "board")
    board.note(training)  # nothing is there yet
    result = train_fold(request)
    board.note(training)
    board.note(training)
    board.end(training, result)
    events = accumulator.EventAccumulator(str(tmp_path / "board/hjcag-1/fold"))
    events.Reload()
    assert [event.step for event in events.Scalars("valid_loss")] == list(range(6))
    losses = [row["valid_loss"] for row in training.rows()]
    assert [event.value for event in events.Scalars("valid_loss")] == pytest.approx(losses)
    [accuracy] = events.Scalars("valid/accuracy")
    assert (accuracy.step, accuracy.value) == (result.best_epoch, pytest.approx(result.valid["accuracy"]))
