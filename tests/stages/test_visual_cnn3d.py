"""The grid of a 3D-CNN's clips, its pooling, and its fine-tuning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.stage import Frames, Item, Rows, State, Target
from stages._backbone import IMAGENET, normalised, scale_of
from stages._cnn3d import network
from stages.visual_cnn3d import VisualCnn3d

KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
"""Mean and deviation of red, green and blue, of 1, that torchvision's r3d_18 was trained with."""

SMALL = VisualCnn3d(weights="random", size=32, clip=4, hop=4)


@pytest.fixture(scope="module")
def loaded() -> Any:
    return SMALL.load("cpu")


def item(images: NDArray[np.uint8]) -> Item:
    return Item("id", {"video": Frames(images, (np.arange(len(images)) + 0.5) / 15)})


def noise(clips: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (clips * 4, 32, 32, 3), np.uint8)


def picked(duration_s: float, rate_hz: float = 25.0, **fields: Any) -> list[list[int]]:
    stage = VisualCnn3d(**fields)
    times = np.arange(max(1, round(duration_s * rate_hz))) / rate_hz
    return stage.pick(times, duration_s).reshape(-1, stage.clip).tolist()


def test_frames_lie_on_the_grid_of_15_hz() -> None:
    (clip, *_) = picked(3.0)
    assert clip == [int((k + 0.5) / 15 * 25 + 1e-6) for k in range(16)]


def test_at_the_grids_own_rate_each_frame_comes_once() -> None:
    assert picked(32 / 15, rate_hz=15.0) == [list(range(16)), list(range(16, 32))]


@given(frames=st.integers(1, 400), clip=st.integers(1, 20), hop=st.integers(1, 20))
def test_clips_stay_within_the_stretch_and_begin_every_hop(frames: int, clip: int, hop: int) -> None:
    rows = picked(frames / 15, rate_hz=15.0, clip=clip, hop=hop)
    assert [row[0] for row in rows] == list(range(0, max(1, frames - clip + 1), hop))
    assert all(row == [min(row[0] + k, frames - 1) for k in range(clip)] for row in rows)


def test_a_short_clip_repeats_its_last_frame() -> None:
    assert picked(4 / 15, rate_hz=15.0) == [[0, 1, 2] + [3] * 13]
    assert picked(0.0) == [[0] * 16]


def test_a_limit_spreads_the_clips_evenly() -> None:
    starts = [row[0] for row in picked(10 * 16 / 15, rate_hz=15.0, clips=2)]
    assert starts == [2 * 16, 7 * 16]
    assert len(picked(1.1, rate_hz=15.0, clips=5)) == 1


def test_features_have_one_row_a_clip_and_the_time_of_its_centre(loaded: Any) -> None:
    (track,) = SMALL.transform(loaded, None, [item(noise(3))])
    assert track.values is not None and track.time_s is not None
    assert track.values.shape == (3, SMALL.spec(loaded).dim)
    assert track.time_s == pytest.approx([2 / 15, 6 / 15, 10 / 15])


def test_features_do_not_depend_on_the_batch(loaded: Any) -> None:
    items = [item(noise(clips, clips)) for clips in (1, 2, 4)]
    together = SMALL.transform(loaded, None, items)
    for row, track in zip(items, together, strict=True):
        (alone,) = SMALL.transform(loaded, None, [row])
        limit = SMALL.spec(loaded).tolerance * np.maximum(1, np.abs(alone.values))
        assert (np.abs(alone.values - track.values) <= limit).all()


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_the_last_map_is_pooled_over_space_and_time(pool: str) -> None:
    model = network("r3d_18", "random", 0, pool, (4, 32, 32)).model
    pixels = torch.rand(1, 3, 4, 32, 32)
    with torch.no_grad():
        maps = model.layer4(model.layer3(model.layer2(model.layer1(model.stem(pixels)))))
        expected = maps.amax((2, 3, 4)) if pool == "max" else maps.mean((2, 3, 4))
        assert torch.allclose(model(pixels), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "dim"), [("mc3_18", 512), ("r2plus1d_18", 512), ("s3d", 1024), ("swin3d_t", 768)])
@pytest.mark.slow
def test_the_other_networks_have_widths_of_their_own(name: str, dim: int) -> None:
    stage = VisualCnn3d(name=name, weights="random", size=32, clip=8)  # type: ignore[arg-type]
    loaded, images = stage.load("cpu"), noise(2)
    (track,) = stage.transform(loaded, None, [item(images)])
    assert track.values is not None and track.values.shape == (1, dim) == (1, stage.spec(loaded).dim)
    model = network(name, "random", 0, "max", (8, 32, 32)).model
    with torch.no_grad():
        plain = model(normalised(torch.from_numpy(images)[None], loaded.scale)).numpy()
    assert track.values == pytest.approx(plain, rel=1e-4, abs=1e-4)


def test_each_networks_colours_are_scaled_as_its_weights_were_trained() -> None:
    assert scale_of("r3d_18", "KINETICS400_V1") == scale_of("s3d", "random") == KINETICS
    assert scale_of("swin3d_t", "KINETICS400_V1") == IMAGENET


def test_clips_that_the_network_does_not_take_are_an_input_error() -> None:
    with pytest.raises(InputError, match="s3d takes no input of 2 x 32 x 32"):
        VisualCnn3d(name="s3d", weights="random", size=32, clip=2, pool="avg").load("cpu")


@pytest.mark.parametrize(
    "wrong",
    [{"frame_rate_hz": 0}, {"clip": 0}, {"hop": 0}, {"clips": 0}, {"size": 8}, {"fine_tune": True, "epochs": 0}],
)
def test_numbers_that_make_no_clip_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        VisualCnn3d(**wrong).check()


@pytest.mark.parametrize(
    ("unread", "read"),
    [
        ({"epochs": 99, "patience": 1}, {"fine_tune": True}),
        ({"batch_size": 4, "learning_rate": 1e-3, "weights": "random"}, {"fine_tune": True}),
        ({"seed": 1}, {"fine_tune": True}),
        ({"seed": 1}, {"weights": "random"}),
    ],
)
def test_parameters_that_nothing_reads_are_refused(unread: dict[str, Any], read: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{' and '.join(name for name in unread if name != 'weights')}: "):
        VisualCnn3d(**unread).check()
    VisualCnn3d(**unread | read).check()


def rows(count: int, seed: int) -> Rows:
    """Bright or dark clips."""
    labels = [index % 2 for index in range(count)]
    items = [item((noise(1, seed + index) // 4 + 150 * label).astype(np.uint8)) for index, label in enumerate(labels)]
    return Rows(items, labels)


@pytest.fixture(scope="module")
def tuned() -> tuple[VisualCnn3d, State]:
    small: dict[str, Any] = {"name": "mc3_18", "weights": "random", "size": 32, "clip": 4, "pool": "avg"}
    stage = VisualCnn3d(**small, fine_tune=True, epochs=3, batch_size=8, learning_rate=1e-4)
    return stage, stage.fit(rows(8, 0), rows(4, 50), Target("multiclass", ("dark", "bright")), "cpu")


def test_fine_tuning_lowers_both_losses(tuned: tuple[VisualCnn3d, State]) -> None:
    stage, state = tuned
    assert stage.fitted and not SMALL.fitted
    assert state.log["train_loss"][-1] < 0.5 * state.log["train_loss"][0]
    assert state.log["valid_loss"][-1] < state.log["valid_loss"][0]


def test_features_come_from_the_fitted_weights(tuned: tuple[VisualCnn3d, State]) -> None:
    stage, state = tuned
    loaded = stage.load("cpu")
    frozen = VisualCnn3d(name="mc3_18", weights="random", size=32, clip=4, pool="avg")
    (before,) = frozen.transform(frozen.load("cpu"), None, [item(noise(1))])
    (after,) = stage.transform(loaded, state, [item(noise(1))])
    (again,) = stage.transform(loaded, State(dict(state.tensors)), [item(noise(1))])
    assert not np.allclose(before.values, after.values)
    assert np.array_equal(after.values, again.values)


def test_fine_tuned_features_need_the_state(tuned: tuple[VisualCnn3d, State]) -> None:
    stage, _ = tuned
    with pytest.raises(ValueError, match="needs the state"):
        stage.transform(stage.load("cpu"), None, [item(noise(1))])


@pytest.mark.slow
def test_the_same_rows_give_the_same_state(tuned: tuple[VisualCnn3d, State]) -> None:
    stage, state = tuned
    again = stage.fit(rows(8, 0), rows(4, 50), Target("multiclass", ("dark", "bright")), "cpu")
    assert all(np.array_equal(value, again.tensors[name]) for name, value in state.tensors.items())


@pytest.mark.parametrize(
    ("target", "labels"),
    [
        (Target("regression", ()), [0.5, -1.0]),
        (Target("regression", ("x", "y", "z")), [(1.0, 2.0, 3.0), (5.0, 4.0, 3.5)]),
        (Target("multilabel", ("a", "b")), [(0, 1), (1, 0)]),
    ],
)
def test_every_task_can_be_fitted(target: Target, labels: list[Any]) -> None:
    stage = VisualCnn3d(name="mc3_18", weights="random", size=32, clip=4, fine_tune=True, epochs=1, batch_size=2)
    pair = Rows(rows(2, 0).items, labels)
    assert "stem.0.weight" in stage.fit(pair, pair, target, "cpu").tensors
