"""Which frames a ResNet-50 sees, and that its features mean something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.media.video import VideoStage
from pipeline.stage import Frames, Item
from stages._backbone import IMAGENET, build, scale_of
from stages.visual_resnet50 import VisualResnet50

RANDOM = VisualResnet50(weights="random", size=64, frames=2)


@pytest.fixture(scope="module")
def loaded() -> Any:
    return RANDOM.load("cpu")


def item(images: NDArray[np.uint8]) -> Item:
    return Item("id", {"video": Frames(images, np.arange(len(images)) / 2)})


def noise(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3), np.uint8)


@given(count=st.integers(1, 400), frames=st.integers(1, 60), rate_hz=st.sampled_from([5.0, 12.5, 23.976, 25.0, 30.0]))
def test_each_frame_is_the_centre_of_one_of_equal_bins(count: int, frames: int, rate_hz: float) -> None:
    picked = VisualResnet50(frames=frames).pick(np.arange(count) / rate_hz, count / rate_hz)
    centres = [(2 * k + 1) * count // (2 * frames) for k in range(frames)]  # exact, in integers
    assert picked.tolist() == centres


@given(st.integers(1, 30))
def test_a_clip_with_fewer_frames_uses_all_and_repeats(count: int) -> None:
    picked = VisualResnet50(frames=30).pick(np.arange(count) / 25, count / 25)
    assert len(picked) == 30 and set(picked.tolist()) == set(range(count))


def test_bins_are_equal_in_time_where_the_rate_varies() -> None:
    times = np.array([0.0, 0.1, 0.2, 0.3, 5.0])
    assert VisualResnet50(frames=4).pick(times, 10.0).tolist() == [3, 3, 4, 4]


def test_features_have_one_row_a_frame_and_its_time(loaded: Any) -> None:
    (track,) = RANDOM.transform(loaded, None, [item(noise(3))])
    assert track.values is not None and track.time_s is not None and track.valid is not None
    assert track.values.shape == (3, RANDOM.spec(loaded).dim) and track.values.dtype == np.float32
    assert track.time_s.tolist() == [0, 0.5, 1] and track.valid.all()


def test_features_do_not_depend_on_the_batch(loaded: Any) -> None:
    items = [item(noise(count, count)) for count in (1, 2, 7, 17)]
    together = RANDOM.transform(loaded, None, items)
    for row, track in zip(items, together, strict=True):
        (alone,) = RANDOM.transform(loaded, None, [row])
        limit = RANDOM.spec(loaded).tolerance * np.maximum(1, np.abs(alone.values))
        assert (np.abs(alone.values - track.values) <= limit).all()


def test_folding_batch_norms_and_memory_layout_change_nothing(loaded: Any) -> None:
    model = build("resnet50", "random", 0)
    images = noise(2)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in loaded.scale)
    with torch.no_grad():
        plain = model((pixels - mean) / deviation).numpy()
    assert loaded.features(iter(images)) == pytest.approx(plain, rel=1e-4, abs=1e-4)


def test_the_default_is_the_resnet50_that_it_always_was() -> None:
    stage = VisualResnet50()
    assert (stage.backbone, stage.libraries) == ("resnet50", VideoStage.libraries)
    assert scale_of("resnet50", stage.weights) == IMAGENET and RANDOM.spec(RANDOM.load("cpu")).dim == 2048


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"size": 8}])
def test_numbers_that_make_no_frame_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        VisualResnet50(**wrong).check()


def test_a_seed_that_draws_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="seed: only for weights"):
        VisualResnet50(seed=1).check()
    VisualResnet50(seed=1, weights="random").check()


def test_bfloat16_stays_close() -> None:
    images = noise(2)
    exact, rough = (
        VisualResnet50(weights="random", precision=p).load("cpu").features(iter(images)) for p in ("float32", "bf16")
    )
    assert not np.array_equal(exact, rough)
    assert np.abs(exact - rough).max() < 0.05 * np.abs(exact).max()


def test_the_module_imports_without_torch() -> None:
    code = (
        "import sys, stages.visual_resnet50, stages.visual_cnn3d\n"
        "raise SystemExit(any(name in sys.modules for name in ('torch', 'cv2', 'av', 'decord')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def drawn(label: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A face of random place, size and colours, whose mouth is a smile, a frown or open."""
    import cv2

    image = np.full((96, 96, 3), rng.integers(0, 90, 3), np.uint8)
    centre, radius = rng.integers(42, 54, 2), int(rng.integers(28, 36))
    cv2.circle(image, centre.tolist(), radius, rng.integers(150, 255, 3).tolist(), -1)
    mouth = (int(centre[0]), int(centre[1]) + radius // 3)
    if label == 2:
        cv2.circle(image, mouth, radius // 4, (0, 0, 0), -1)
    else:
        cv2.ellipse(image, mouth, (radius // 2, radius // 4), 0, 180 * label, 180 + 180 * label, (0, 0, 0), 4)
    return image


@pytest.mark.slow
def test_a_linear_probe_reads_an_expression_from_random_weights() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    features = VisualResnet50(weights="random").load("cpu").features(drawn(label, rng) for label in labels)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features[:90], labels[:90])
    assert probe.score(features[90:], labels[90:]) > 0.7
