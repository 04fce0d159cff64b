"""Networks of torchvision and timm as feature extractors: what they give, and how they are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import InputError
from pipeline.media.video import VideoStage
from stages._backbone import IMAGENET, Extractor, build, normalised, scale_of
from stages.visual_resnet50 import VisualResnet50


@pytest.mark.parametrize(
    ("name", "dim"),
    [
        ("resnet18", 512),
        ("googlenet", 1024),
        ("mobilenet_v3_small", 1024),
        ("squeezenet1_1", 512),
        pytest.param("swin_t", 768, marks=pytest.mark.slow),
        ("timm/convnext_atto", 320),
        pytest.param("timm/swin_tiny_patch4_window7_224", 768, marks=pytest.mark.slow),
        ("timm/vit_tiny_patch16_224", 192),
        pytest.param("vit_b_32", 768, marks=pytest.mark.slow),
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


def test_an_unknown_tag_of_timm_names_the_closest() -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    with pytest.raises(InputError, match=r"timm/resnet18 has no weights 'a1_in2k': did you mean a1_in1k"):
        VisualResnet50(backbone="timm/resnet18.a1_in2k", weights="random").load("cpu")
