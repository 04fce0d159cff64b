"""Which frames a ResNet-50 sees, where its weights come from, and that its features mean something."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from pipeline.errors import InputError
from pipeline.media.video import VideoStage
from pipeline.stage import Frames, Item
from stages._backbone import IMAGENET, Extractor, build, normalised, scale_of
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


@pytest.mark.parametrize(
    ("name", "dim"),
    [
        ("resnet18", 512),
        ("googlenet", 1024),
        ("mobilenet_v3_small", 1024),
        ("squeezenet1_1", 512),
        ("swin_t", 768),
        ("timm/convnext_atto", 320),
        ("timm/swin_tiny_patch4_window7_224", 768),
        ("timm/vit_tiny_patch16_224", 192),
        ("vit_b_32", 768),
    ],
)
def test_any_classifier_gives_what_goes_into_its_last_layer(name: str, dim: int) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm", reason="timm is not installed")
    stage = VisualResnet50(backbone=name, weights="random")
    stage.check()
    loaded = stage.load("cpu")
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    with torch.no_grad():
        plain = build(name, "random", 0)(normalised(torch.from_numpy(images), loaded.scale)).numpy()
    assert stage.spec(loaded).dim == dim and plain.shape == (2, dim)
    limit = stage.spec(loaded).tolerance * np.maximum(1, np.abs(plain))
    assert (np.abs(loaded.features(iter(images)) - plain) <= limit).all()


class Undecided(nn.Module):
    """Its course depends on what it sees, so it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        maps = self.norm(self.conv(pixels)) if pixels.sum() > 0 else self.conv(pixels)
        return maps.mean((2, 3))


def test_a_network_that_cannot_be_traced_runs_as_it_is() -> None:
    model = Undecided().eval()
    extractor = Extractor(model, 4, "cpu", "float32", IMAGENET, torch.channels_last, size=2)
    bright, dark = np.full((32, 32, 3), 255, np.uint8), np.zeros((32, 32, 3), np.uint8)
    for image in (bright, dark):
        with torch.no_grad():
            expected = model(normalised(torch.from_numpy(image)[None], IMAGENET)).numpy()
        assert extractor.features([image]) == pytest.approx(expected, abs=1e-5)


def test_the_default_is_the_resnet50_that_it_always_was() -> None:
    stage = VisualResnet50()
    assert (stage.backbone, stage.libraries) == ("resnet50", VideoStage.libraries)
    assert scale_of("resnet50", stage.weights) == IMAGENET and RANDOM.spec(RANDOM.load("cpu")).dim == 2048


def test_the_version_of_timm_is_in_the_key_where_the_network_is_of_timm() -> None:
    assert VisualResnet50(backbone="timm/resnet18").libraries == (*VideoStage.libraries, "timm")
    assert replace(VisualResnet50(backbone="timm/resnet18"), backbone="resnet18").libraries == VideoStage.libraries


def test_timm_that_is_not_installed_is_said_when_the_recipe_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.visual_resnet50.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="timm/resnet18 needs timm"):
        VisualResnet50(backbone="timm/resnet18").check()
    VisualResnet50(backbone="resnet18").check()


def test_colours_are_scaled_as_timms_weights_were_trained() -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    assert scale_of("timm/resnet18", "mine.pth") == scale_of("timm/vit_small_patch16_224.dino", "mine.pth") == IMAGENET
    assert scale_of("timm/vit_tiny_patch16_224", "random") == ((0.5,) * 3, (0.5,) * 3)


def test_a_file_whose_scale_of_colours_only_its_tag_would_tell_is_refused_without_it(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    path = tmp_path / "weights.safetensors"
    save_file(build("timm/vit_small_patch16_224", "random", 0).state_dict(), path)
    with pytest.raises(InputError, match=r"timm/vit_small_patch16_224\.<tag>.*augreg_in21k.*dino"):
        VisualResnet50(backbone="timm/vit_small_patch16_224", weights=str(path)).load("cpu")
    loaded = VisualResnet50(backbone="timm/vit_small_patch16_224.dino", weights=str(path)).load("cpu")
    assert loaded.scale == IMAGENET


@pytest.mark.parametrize("name", ["vit_b_32", "timm/vit_tiny_patch16_224"])
def test_a_size_that_the_network_does_not_take_is_an_input_error(name: str) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm", reason="timm is not installed")
    with pytest.raises(InputError, match=f"{name} takes no input of 64 x 64: .*224"):
        VisualResnet50(backbone=name, weights="random", size=64).load("cpu")


@pytest.mark.parametrize(
    ("name", "near"), [("resnet51", "resnet50"), ("r3d_18", "known"), ("timm/resnet81", "resnet18")]
)
def test_an_unknown_network_names_the_closest(name: str, near: str) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm", reason="timm is not installed")
    with pytest.raises(InputError, match=rf"has no network .*{near}") as caught:
        VisualResnet50(backbone=name, weights="random").load("cpu")
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("weights", ["pretrained", "a1_in1k", "IMAGENET1K_V2"])
def test_weights_of_timm_that_are_not_named_by_path_are_refused(monkeypatch: pytest.MonkeyPatch, weights: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    monkeypatch.setattr(timm, "create_model", lambda *args, **kwargs: pytest.fail("it reads the hub"))
    with pytest.raises(InputError, match=rf"timm/resnet18: .*named by path, not '{weights}'.*weights = "):
        VisualResnet50(backbone="timm/resnet18", weights=weights).load("cpu")


def test_an_unknown_tag_of_timm_names_the_closest() -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    with pytest.raises(InputError, match=r"timm/resnet18 has no weights 'a1_in2k': did you mean a1_in1k"):
        VisualResnet50(backbone="timm/resnet18.a1_in2k", weights="random").load("cpu")


@pytest.mark.parametrize(
    ("name", "last", "width"), [("mobilenet_v3_small", "classifier.3", 1024), ("timm/resnet18", "fc", 512)]
)
def test_the_last_layer_of_a_local_file_is_left_unread(tmp_path: Path, name: str, last: str, width: int) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm", reason="timm is not installed")
    model = build(name, "random", 5)
    path = tmp_path / "weights.safetensors"
    save_file(model.state_dict() | {f"{last}.weight": torch.zeros(7, width), f"{last}.bias": torch.zeros(7)}, path)
    read = build(name, str(path), 0).state_dict()
    assert all(torch.equal(value, read[key]) for key, value in model.state_dict().items())
    with pytest.raises(InputError, match="another model"):
        build("resnet50", str(path), 0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", ["densenet121", "mnasnet0_5"])
def test_networks_that_know_older_files_read_them(tmp_path: Path, name: str, suffix: str) -> None:
    model = build(name, "random", 5)
    state = model.state_dict()
    for key in list(state):
        state[re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key)] = state.pop(key)
    path = tmp_path / f"weights{suffix}"
    save_file(dict(state), path) if suffix == ".safetensors" else torch.save(state, path)
    read = build(name, str(path), 0).state_dict()
    assert all(torch.equal(value, read[key]) for key, value in model.state_dict().items())


def test_random_weights_are_a_function_of_the_seed_and_leave_the_callers_state() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first, again, other = (build("resnet50", "random", seed).conv1.weight for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_a_local_file(tmp_path: Path, suffix: str) -> None:
    model = build("resnet50", "random", 5)
    path = tmp_path / f"weights{suffix}"
    state = model.state_dict() | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert torch.equal(build("resnet50", str(path), 0).conv1.weight, model.conv1.weight)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="another model"):
        build("resnet50", str(path), 0)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"conv1.weight": Path("x")}, path)
    with pytest.raises(InputError, match="no weights in"):
        build("resnet50", str(path), 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "no state dict"),
        ([torch.zeros(3)], "no state dict"),
        ({"epoch": 3, "state_dict": {"conv1.weight": torch.zeros(3)}}, r'no state dict.*\["state_dict"\]'),
    ],
)
def test_a_file_that_is_no_state_dict_is_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path)
    with pytest.raises(InputError, match=message):
        build("resnet50", str(path), 0)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere\.pth"):
        build("resnet50", "nowhere.pth", 0)


def test_an_unknown_set_of_weights_names_the_closest() -> None:
    with pytest.raises(InputError, match="IMAGENET1K_V2"):
        build("resnet50", "IMAGENET_V2", 0)


def test_weights_that_cannot_be_reached_name_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"(?s)IMAGENET1K_V2 of resnet50.*make weights.*weights = "):
        VisualResnet50().load("cpu")


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


def test_a_linear_probe_reads_an_expression_from_random_weights() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    features = VisualResnet50(weights="random").load("cpu").features(drawn(label, rng) for label in labels)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features[:90], labels[:90])
    assert probe.score(features[90:], labels[90:]) > 0.7
