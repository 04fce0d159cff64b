import shutil

import numpy as np
import pytest
import torch

from pipeline.corpus.recipe import Align
from pipeline.errors import InputError, SpaceError
from pipeline.reason import Reason
from pipeline.stage import Target, Track
from pipeline.views.dataset import Dataset, SpeakerScale, label_tensor, statistics
from pipeline.views.view import Column, open_view, write_column

TWO = Target("multiclass", ("no", "yes"))


def tracks(n, steps, dim, seed=0):
    rng = np.random.default_rng(seed)
    return [Track.of(rng.standard_normal((steps, dim)).astype(np.float32) * 3 + 5) for _ in range(n)]


def column(path, rows, align=Align("pad", 4), dim=2, **more):
    write_column(path, list(enumerate(rows)), len(rows), align, dim, **more)
    return Column.open(path)


@pytest.fixture
def view(tmp_path):
    text, audio = tracks(7, 3, 2), tracks(7, 1, 5, seed=1)
    text[2] = Track.failed(Reason.NO_TEXT)
    audio[2] = audio[4] = None
    column(tmp_path / "text", text)
    column(tmp_path / "audio", audio, Align("broadcast", 4), dim=5, dtype="float16")
    return open_view(tuple("abcdefg"), {m: tmp_path / m for m in ("text", "audio")})


def dataset(view, **more):
    return Dataset(view, {name: i % 2 for i, name in enumerate(view.ids)}, TWO, **more)


def test_a_column_holds_what_was_written_whatever_the_order_of_arrival(tmp_path):
    given = tracks(5, 3, 2)
    write_column(tmp_path / "c", [(i, given[i]) for i in (3, 0, 4, 1)], 5, Align("pad", 4), 2, names=["x", "y"])
    found = Column.open(tmp_path / "c")
    assert (found.values[3, :3] == given[3].values).all() and not found.values[3, 3].any()
    assert found.mask.sum(axis=1).tolist() == [3, 3, 0, 3, 3]
    assert found.names == ("x", "y") and found.length == 4 and found.dim == 2


def test_a_row_without_a_track_is_present_and_invalid(view):
    assert view.columns["text"].present.tolist() == [True, True, False, True, True, True, True]
    assert view.usable.tolist() == [True, True, False, True, True, True, True]
    assert view.complete.tolist() == [True, True, False, True, False, True, True]


def test_a_column_that_fails_half_way_leaves_nothing(tmp_path):
    def rows():
        yield 0, tracks(1, 3, 2)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_column(tmp_path / "c", rows(), 2, Align("pad", 4), 2)
    assert not list(tmp_path.iterdir())


def test_the_first_writer_of_a_column_wins(tmp_path):
    column(tmp_path / "c", tracks(2, 3, 2, seed=0))
    second = column(tmp_path / "c", tracks(2, 3, 2, seed=1))
    assert (second.values[0, :3] == tracks(2, 3, 2, seed=0)[0].values).all()
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_disk_that_is_too_small_is_refused_with_figures_before_a_row_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, 5 * 10**8))
    with pytest.raises(SpaceError, match="500 MB free.* needs 800 MB"):
        write_column(tmp_path / "c", iter(lambda: 1 / 0, None), 1000, Align("pad", 100), 2000)
    assert not list(tmp_path.iterdir())


def test_a_track_of_another_width_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"row 0: a track of \(3, 1\), expected \[T, 2\]"):
        column(tmp_path / "c", tracks(1, 3, 1))


def test_cropping_is_reported_by_rows_and_by_steps(tmp_path):
    found = column(tmp_path / "c", [*tracks(1, 8, 2), *tracks(1, 2, 2)])
    assert found.cropped(np.array([0, 1])) == {"utterances": 0.5, "steps": 0.4}
    assert found.cropped(np.array([1])) == {"utterances": 0.0, "steps": 0.0}


def test_a_column_of_other_rows_and_a_folder_that_is_no_column_are_refused(tmp_path):
    column(tmp_path / "c", tracks(2, 3, 2))
    with pytest.raises(InputError, match="has 2 rows, the view has 3"):
        open_view("abc", {"text": tmp_path / "c"})
    with pytest.raises(InputError, match="not a column"):
        open_view("ab", {"text": tmp_path})


def test_rows_of_unknown_utterances_are_named(view):
    assert view.rows(["c", "a"]).tolist() == [2, 0]
    with pytest.raises(InputError, match="2 utterances are not in the view: x, y"):
        view.rows(["a", "x", "y"])


def test_an_epoch_holds_every_row_once_with_its_own_values_mask_and_label(view):
    batches = list(dataset(view).batches(np.arange(7), 3, seed=5))
    rows = torch.cat([batch.rows for batch in batches])
    assert [len(batch.rows) for batch in batches] == [3, 3, 1] and sorted(rows) == list(range(7))
    for batch in batches:
        assert (batch.labels == batch.rows % 2).all()
        assert (batch.values["text"].numpy() == view.columns["text"].values[batch.rows.numpy()]).all()
        assert (batch.masks["text"].numpy() == view.columns["text"].mask[batch.rows.numpy()]).all()
        assert batch.values["audio"].shape == (len(batch.rows), 1, 5)


def test_order_is_a_function_of_the_seed_and_without_one_that_of_the_rows(view):
    def order(seed):
        return [row for batch in dataset(view).batches(np.arange(7), 3, seed) for row in batch.rows.tolist()]

    assert order(1) == order(1) != order(2)
    assert order(None) == list(range(7))


def test_statistics_are_those_of_the_valid_steps(tmp_path):
    given = tracks(6, 3, 2)
    found = statistics(column(tmp_path / "c", given), np.arange(6))
    steps = np.concatenate([track.values for track in given]).astype(np.float64)
    assert np.allclose(found.mean, steps.mean(0), rtol=1e-12) and np.allclose(found.std, steps.std(0), rtol=1e-12)


def test_statistics_do_not_depend_on_how_rows_are_cut_into_chunks(tmp_path, monkeypatch):
    found = column(tmp_path / "c", tracks(50, 3, 2))
    whole = statistics(found, np.arange(50))
    monkeypatch.setattr("pipeline.views.view.CHUNK_BYTES", 7 * 4 * 2 * 8)
    assert np.allclose(statistics(found, np.arange(50)), whole, rtol=1e-12)


def test_statistics_do_not_move_when_test_rows_do(tmp_path):
    train, test = tracks(4, 3, 2), tracks(2, 3, 2, seed=1)
    moved = [Track.of(track.values * 1000) for track in test]
    before, after = (column(tmp_path / name, train + rows) for name, rows in (("a", test), ("b", moved)))
    for one, other in zip(statistics(before, np.arange(4)), statistics(after, np.arange(4)), strict=True):
        assert (one == other).all()


def test_a_constant_dimension_has_a_deviation_of_exactly_zero_and_so_has_a_modality_without_rows(tmp_path):
    rows = [Track.of(np.array([[0.1, i]], np.float32)) for i in range(5)] + [None]
    found = column(tmp_path / "c", rows)
    assert statistics(found, np.arange(5)).std[0] == 0 < statistics(found, np.arange(5)).std[1]
    assert statistics(found, np.array([5])).std.tolist() == [0, 0]


def test_large_means_do_not_drown_small_deviations(tmp_path):
    values = 1e4 + np.random.default_rng(0).standard_normal((200, 1, 2)).astype(np.float32)
    found = column(tmp_path / "c", [Track.of(value) for value in values])
    assert np.allclose(statistics(found, np.arange(200)).std, values.astype(float).std(axis=(0, 1)), rtol=1e-9)


def test_features_that_are_not_finite_have_no_statistics(tmp_path):
    found = column(tmp_path / "c", [Track.of(np.array([[np.inf, 1]], np.float32))])
    with pytest.raises(InputError, match="not finite"):
        statistics(found, np.array([0]))


def test_by_speaker_each_speaker_has_mean_zero_and_deviation_one_and_invalid_steps_stay_zero(view):
    speakers = list("ppqppqq")
    scales = {"text": SpeakerScale.of(view.columns["text"], speakers)}
    batch = dataset(view, scales=scales).gather(torch.arange(7))
    for who in "pq":
        rows = torch.tensor([speaker == who for speaker in speakers])
        steps = batch.values["text"][rows][batch.masks["text"][rows]]
        assert torch.allclose(steps.mean(0), torch.zeros(2), atol=1e-5)
        assert torch.allclose(steps.std(0, correction=0), torch.ones(2), atol=1e-5)
    assert not batch.values["text"][~batch.masks["text"]].any()


def test_labels_have_the_type_their_task_needs(view):
    several = Dataset(view, {"a": (0, 1), "b": (1, 1)}, Target("multilabel", ("x", "y"))).gather(torch.tensor([1, 0]))
    assert several.labels.tolist() == [[1, 1], [0, 1]] and several.labels.dtype == torch.int64
    number = Dataset(view, {"a": -1.5}, Target("regression", ())).gather(torch.tensor([0]))
    assert number.labels.tolist() == [-1.5] and number.labels.dtype == torch.float32


def test_a_row_without_a_label_is_minus_one_in_each_of_several_numbers():
    target = Target("regression", ("valence", "arousal", "dominance"))
    found = label_tensor([(1.0, 2.5, 4.0), None], target)
    assert found.tolist() == [[1.0, 2.5, 4.0], [-1.0] * 3] and found.dtype == torch.float32


def test_one_modality_can_be_read_alone(view):
    assert list(dataset(view).only("audio").gather(torch.tensor([0])).values) == ["audio"]


def test_a_batch_is_cut_to_its_longest_row_and_a_broadcast_vector_stays_one_step(tmp_path):
    text = [tracks(1, steps, 2, seed=steps)[0] for steps in (1, 2, 3, 1)]
    column(tmp_path / "text", text, Align("pad", 9))
    column(tmp_path / "audio", tracks(4, 1, 5), Align("broadcast", 9), dim=5)
    view = open_view(tuple("abcd"), {m: tmp_path / m for m in ("text", "audio")})
    whole, cut = dataset(view), dataset(view, cut=True)
    for rows, steps in (([1, 2], 3), ([0, 1], 2), ([3, 0], 2)):
        batch, full = cut.gather(torch.tensor(rows)), whole.gather(torch.tensor(rows))
        assert batch.values["text"].shape == (2, steps, 2) and batch.masks["text"].shape == (2, steps)
        assert torch.equal(batch.values["text"], full.values["text"][:, :steps])
        assert not full.masks["text"][:, steps:].any()
        assert torch.equal(batch.values["audio"], full.values["audio"]) and batch.values["audio"].shape[1] == 1


# --- rows of like length ---------------------------------------------------------------------------------------


def of_lengths(tmp_path, lengths: list[int]) -> Dataset:
    """One modality of one dimension, whose rows have so many steps."""
    tracks = [Track.of(np.ones((steps, 1), np.float32)) if steps else None for steps in lengths]
    write_column(tmp_path / "audio", enumerate(tracks), len(lengths), Align("pad", max(lengths)), 1)
    ids = [f"u{i}" for i in range(len(lengths))]
    view = open_view(ids, {"audio": tmp_path / "audio"})
    return Dataset(view, dict.fromkeys(ids, 0), Target("multiclass", ("a", "b")), cut=True)


def test_grouped_batches_hold_every_row_once_in_an_order_of_the_seed(tmp_path):
    dataset = of_lengths(tmp_path, [1 + i * 7 % 50 for i in range(100)])
    orders = [[b.rows.tolist() for b in dataset.batches(np.arange(100), 8, seed, grouped=True)] for seed in (1, 1, 2)]
    assert all(sorted(row for batch in order for row in batch) == list(range(100)) for order in orders)
    assert orders[0] == orders[1] != orders[2]


def test_rows_of_like_length_are_together_so_that_less_of_a_batch_is_padding(tmp_path):
    dataset = of_lengths(tmp_path, [1 + i * 7 % 50 for i in range(100)])
    rows, valid = np.arange(100), int(dataset.masks["audio"].sum())
    padding = {
        grouped: sum(batch.masks["audio"].numel() for batch in dataset.batches(rows, 8, 1, grouped=grouped)) - valid
        for grouped in (True, False)
    }
    assert padding[True] < 0.2 * padding[False]


def test_by_length_the_rows_with_the_fewest_steps_come_first(tmp_path):
    dataset = of_lengths(tmp_path, [3, 1, 0, 2, 1])
    assert dataset.by_length(np.array([4, 0, 2, 3, 1])).tolist() == [2, 4, 1, 3, 0]
