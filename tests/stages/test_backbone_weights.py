"""The weights of an image network: published, from a local file, or drawn from a seed."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import InputError
from stages._backbone import build
from stages.visual_resnet50 import VisualResnet50


@pytest.mark.parametrize("weights", ["pretrained", "a1_in1k", "IMAGENET1K_V2"])
def test_weights_of_timm_that_are_not_named_by_path_are_refused(monkeypatch: pytest.MonkeyPatch, weights: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    monkeypatch.setattr(timm, "create_model", lambda *args, **kwargs: pytest.fail("it reads the hub"))
    with pytest.raises(InputError, match=rf"timm/resnet18: .*named by path, not '{weights}'.*weights = "):
        VisualResnet50(backbone="timm/resnet18", weights=weights).load("cpu")


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
    first, again, other = (build("resnet18", "random", seed).conv1.weight for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_a_local_file(tmp_path: Path, suffix: str) -> None:
    model = build("resnet18", "random", 5)
    path = tmp_path / f"weights{suffix}"
    state = model.state_dict() | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert torch.equal(build("resnet18", str(path), 0).conv1.weight, model.conv1.weight)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="another model"):
        build("resnet18", str(path), 0)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"conv1.weight": Path("x")}, path)
    with pytest.raises(InputError, match="no weights in"):
        build("resnet18", str(path), 0)


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
        build("resnet18", str(path), 0)


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
