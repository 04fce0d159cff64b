"""Stages give equal features on every backend, whatever shares a batch, and records say which one computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.network import SETTING
from pipeline.backends.spent import Spent, counted_in
from pipeline.stage import Frames, Item, Stage, Track, Waveform
from stages.audio_wavlm import AudioWavlm
from stages.visual_cnn3d import VisualCnn3d
from stages.visual_resnet50 import VisualResnet50
from tests.clips import of

pytest.importorskip("openvino")

RNG = np.random.default_rng(0)
ROBERTA = """
[features.words.text]
stage = "text_roberta"
init = "random"
hidden = 8
layers = 1
heads = 2
vocab_size = 300
epochs = 1
align = { mode = "pad", length = 8 }
"""


def frames(count: int, size: int) -> Item:
    images = RNG.integers(0, 256, (count, size, size, 3), np.uint8)
    return Item("id", {"video": Frames(images, np.arange(count) / 15)})


def sound(seconds: float) -> Item:
    return Item("id", {"audio": Waveform(RNG.normal(size=int(seconds * 16000)).astype(np.float32), 16000)})


CASES: dict[str, tuple[Stage, list[Item]]] = {
    "resnet": (
        VisualResnet50(backbone="resnet18", weights="random", size=32, frames=2),
        [frames(n, 32) for n in (1, 2, 17)],
    ),
    "r3d": (
        VisualCnn3d(name="r3d_18", weights="random", size=32, clip=4, clips=1),
        [frames(4, 32) for _ in range(3)],
    ),
    "wavlm": (AudioWavlm(init="random", hidden=32, layers=1, heads=2), [sound(s) for s in (0.4, 0.7, 0.5)]),
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTORY_HOME", str(tmp_path / "home"))


def features(stage: Stage, items: list[Item]) -> tuple[list[Track], Spent]:
    """The features of each item, computed alone after all of them together, so that the network has changed."""
    loaded, spent = stage.load("cpu"), Spent()
    stage.transform(loaded, None, items)
    with counted_in(spent):
        return [stage.transform(loaded, None, [item])[0] for item in items], spent


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_features_are_those_of_torch_within_the_tolerance(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, items = CASES[case]
    monkeypatch.setenv(SETTING, "torch")
    expected, _ = features(stage, items)
    monkeypatch.setenv(SETTING, "openvino")
    found, spent = features(stage, items)
    assert [name.split()[0] for name in spent.inputs] == ["openvino"]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.values is not None and theirs.values is not None
        assert (np.abs(ours.values - theirs.values) <= 1e-4 * np.maximum(1, np.abs(theirs.values))).all()


def test_a_record_says_which_backend_computed_its_rows_at_what_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, "openvino")
    texts = ["so it was", "no", "I never said that you could leave", "oh well", "yes you did", "did I"]
    splits = ("train", "valid", "test")
    lines = [
        {"utterance": f"u{n}", "dialogue": f"d{n // 2}", "turn": n % 2, "split": splits[n // 2], "text": text}
        | {"mood": ("low", "high")[n % 2]}
        for n, text in enumerate(texts)
    ]
    clips = of(tmp_path, lines, ROBERTA)
    clips.extract()
    [rows] = list(clips.session().catalogue)
    networks = [record.about["networks"] for shard in rows.shards if (record := rows.final(shard))]
    names = {name.split()[0] for network in networks for name in network}
    assert names <= {"openvino", "torch"} and "openvino" in names
    counts = sum(entry["inputs"] for network in networks for entry in network.values())
    assert counts == len(texts) and all(e["rate_hz"] > 0 for network in networks for e in network.values())
