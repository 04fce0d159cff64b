"""Published weights of image networks: checked by the digest in their name, kept as safetensors, read from home."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.cache import keys
from pipeline.cache.weights import Pin, Weights, published_sources
from pipeline.errors import InputError
from pipeline.transfer.fetch_weights import obtain
from stages.text_word2vec import TextWord2vec
from stages.visual_cnn3d import VisualCnn3d
from stages.visual_resnet50 import VisualResnet50
from tests.hub import Hub
from tests.weights import Place


def state_dict() -> tuple[dict[str, torch.Tensor], bytes]:
    state = {"conv.weight": torch.arange(6.0).reshape(2, 3).T, "steps": torch.tensor(3)}
    stream = io.BytesIO()
    torch.save(state, stream)
    return state, stream.getvalue()


def torchvision_pin(hub: Hub, body: bytes, digest: str) -> Pin:
    name = f"resnet18-{digest[:8]}.pth"
    hub.plain[name] = body
    return Pin(revision=f"{hub.url}/{name}", digest="0" * 64, files=(), bytes=0)


def test_torchvisions_file_is_checked_by_the_digest_in_its_name_and_kept_as_safetensors(
    hub: Hub, tmp_path: Path
) -> None:
    state, body = state_dict()
    source, pin = "torchvision/resnet18/IMAGENET1K_V1", torchvision_pin(hub, body, hashlib.sha256(body).hexdigest())
    with pytest.raises(InputError, match="its digest is ([0-9a-f]{64})") as caught:
        obtain(tmp_path, source, pin)
    digest = str(caught.value).partition("its digest is ")[2][:64]
    found, new = obtain(tmp_path, source, pin.model_copy(update={"digest": digest}))
    assert new and found.revision == pin.revision and found.files == ("resnet18.safetensors",)
    kept = load_file(tmp_path / digest / "resnet18.safetensors")
    assert kept.keys() == state.keys() and all(torch.equal(kept[name], state[name]) for name in state)
    assert [path.name for path in (tmp_path / digest).iterdir()] == ["resnet18.safetensors"]


def test_a_torchvision_file_of_another_digest_than_its_name_says_is_refused(hub: Hub, tmp_path: Path) -> None:
    _, body = state_dict()
    with pytest.raises(InputError, match="is not the expected file"):
        obtain(tmp_path, "torchvision/resnet18/IMAGENET1K_V1", torchvision_pin(hub, body, "0" * 64))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("torchvision/resnet81/IMAGENET1K_V1", "did you mean resnet18"),
        ("torchvision/resnet18/IMAGENET1K_V9", "did you mean IMAGENET1K_V1"),
    ],
)
def test_a_network_or_set_that_torchvision_lacks_names_the_closest(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        obtain(tmp_path, source, None)


def test_a_pickle_that_holds_more_than_tensors_is_not_run(hub: Hub, tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"a": Path("x")}, stream)
    body = stream.getvalue()
    pin = torchvision_pin(hub, body, hashlib.sha256(body).hexdigest())
    with pytest.raises(InputError, match="holds no weights"):
        obtain(tmp_path, "torchvision/resnet18/IMAGENET1K_V1", pin)


def test_a_network_reads_its_pinned_weights_from_home(place: Place) -> None:
    from safetensors.torch import save_file
    from torchvision.models import get_model

    drawn = get_model("r3d_18", weights=None).state_dict()
    save_file(drawn, place.folder / "r3d_18.safetensors")
    digest = keys.file_digest(place.folder / "r3d_18.safetensors")
    home = place.home.root / "weights" / digest
    home.mkdir(parents=True)
    (place.folder / "r3d_18.safetensors").rename(home / "r3d_18.safetensors")
    pin = Pin(revision="", digest=digest, files=("r3d_18.safetensors",), bytes=1)
    stage = Weights({"torchvision/r3d_18/KINETICS400_V1": pin}).applied(VisualCnn3d())
    read = stage.load("cpu").model.state_dict()
    assert all(torch.equal(read[name], value) for name, value in drawn.items() if not name.startswith("fc."))


def test_random_weights_and_a_stage_without_weights_want_nothing() -> None:
    assert published_sources(VisualCnn3d(weights="random")) == {} and published_sources(TextWord2vec()) == {}
    assert published_sources(VisualCnn3d()) == {"weights": "torchvision/r3d_18/KINETICS400_V1"}


def test_weights_of_timm_are_not_passed_over_in_silence(place: Place) -> None:
    source = published_sources(VisualResnet50(backbone="timm/resnet18", weights="a1_in1k"))["weights"]
    with pytest.raises(InputError, match="timm/resnet18/a1_in1k: .*not fetched here.*name its path in the recipe"):
        obtain(place.folder, source, None)
