"""What the contract tests run each stage on: small parameters, and ordinary and odd inputs of each kind.

A new stage adds a line to `CASES`. Its inputs are made by what it takes: text, audio, video or another stage's tracks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dialogue import Dialogues, Turn
from pipeline.media.video import VideoStage
from pipeline.plugins import find
from pipeline.reason import Reason
from pipeline.stage import ID, RAW, Frames, Item, Rows, Stage, State, Target, Track, Waveform
from pipeline.utterance import Utterance

IMPORTED = str(Path(__file__).with_name("features.npz"))
"""Features of the ordinary items, and of the built-in sample."""

CASES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "audio_imported": ({"file": IMPORTED},),
    "audio_mfcc": ({}, {"n_mfcc": 5, "deltas": 0, "sample_rate_hz": 8000, "rate_hz": 25.0}),
    "audio_opensmile": (
        {},
        {"feature_set": "eGeMAPSv02", "level": "lld", "rate_hz": 12.5},
        {"feature_set": "IS09", "level": "lld_de", "rate_hz": 10.0},
    ),
    "audio_wavlm": (
        {"init": "random", "hidden": 16, "heads": 2, "layers": 1},
        {"init": "random", "hidden": 16, "heads": 2, "layers": 1, "layer": 0, "pool": "grid", "rate_hz": 12.5},
        {"init": "random", "hidden": 16, "heads": 2, "layers": 1, "pool": "mean", "chunk_s": 5.0, "precision": "bf16"},
    ),
    "text_cnn": ({"widths": (2, 3), "channels": 4, "epochs": 2},),
    "text_imported": ({"file": IMPORTED},),
    "text_roberta": (
        {"init": "random", "hidden": 16, "heads": 2, "layers": 1, "vocab_size": 300, "epochs": 1},
        {"init": "random", "hidden": 16, "heads": 2, "layers": 1, "vocab_size": 300, "epochs": 1, "context": 2},
    ),
    "text_word2vec": ({"size": 8, "min_count": 1, "epochs": 2},),
    "visual_cnn3d": (
        {"name": "mc3_18", "weights": "random", "clip": 2, "hop": 20, "size": 32},
        {
            "name": "mc3_18",
            "weights": "random",
            "clip": 2,
            "hop": 2,
            "size": 32,
            "clips": 1,
            "fine_tune": True,
            "epochs": 1,
        },
    ),
    "visual_imported": ({"file": IMPORTED},),
    "visual_resnet50": ({"backbone": "resnet18", "weights": "random", "frames": 3, "size": 32},),
}
"""Parameters of each stage, small enough for a test; several where a parameter changes what kind of thing comes out."""

_WORDS = "I never said that you were wrong , did I ? oh no , this is so good to hear from you again !"
FRAME_S = 1 / 15
TARGET = Target("multiclass", ("low", "high"))
LABELS = (0, 1) * 6


@dataclass(frozen=True)
class Ready:
    """A stage that can transform: loaded, and fitted where it has to be."""

    stage: Stage
    loaded: Any
    state: State | None

    def __call__(self, items: list[Item]) -> list[Track]:
        return self.stage.transform(self.loaded, self.state, items)


def build(name: str, index: int = 0) -> Stage:
    """The stage with the parameters of one of its cases."""
    return find("stages", name, Stage)(**CASES[name][index])  # type: ignore[type-abstract]


@cache
def ready(name: str, index: int = 0) -> Ready:
    """The stage of a case, fitted on its ordinary items."""
    stage = build(name, index)
    state = fit(stage) if stage.fitted else None
    return Ready(stage, stage.load("cpu"), state)


def fit(stage: Stage) -> State:
    """A fit on twelve ordinary items of two classes, four others for validation."""
    items = ordinary(stage)
    return stage.fit(Rows(items[:12], LABELS), Rows(items[12:16], LABELS[:4]), TARGET, "cpu")


@cache
def expected(name: str, index: int = 0) -> list[Track]:
    """What the stage of a case gives of its ordinary items, all in one batch."""
    return ready(name, index)(ordinary(ready(name, index).stage))


@cache
def ordinary(stage: Stage) -> list[Item]:
    """Sixteen items of different lengths, as a corpus has them."""
    return _items({name: _ordinary(name, stage) for name in stage.reads})


def odd(stage: Stage) -> list[Item]:
    """Items that are empty, silent, black, short, long, or not finite."""
    return _items({name: _odd(name, stage) for name in stage.reads})


def _items(columns: Mapping[str, list[Any]]) -> list[Item]:
    rows = zip(*columns.values(), strict=True)
    return [Item(f"u{index}", dict(zip(columns, row, strict=True))) for index, row in enumerate(rows)]


def _ordinary(name: str, stage: Stage) -> list[Any]:
    makers: dict[str, Callable[[int], Any]] = {"text": _text, "audio": _voice, "video": _motion}
    if name == "dialogue":
        return _dialogue([_text(index) for index in range(16)], stage)
    if name == ID:
        return [f"u{index}" for index in range(16)]
    if name in RAW:
        return _seen([makers[name](index) for index in range(16)], stage)
    return expected(name)


def _odd(name: str, stage: Stage) -> list[Any]:
    makers: dict[str, Callable[[], list[Any]]] = {"text": _odd_text, "audio": _odd_audio, "video": _odd_video}
    if name == "dialogue":
        return [*_dialogue(_odd_text(), stage), *_dialogue(["", *_odd_text()[::-1]], stage)]
    if name == ID:
        return ["", "not in the file", "u3", "u3 ", "\0", "u" * 10_000]
    if name in RAW:
        return _seen(makers[name](), stage)
    dim = ready(name).stage.spec(ready(name).loaded).dim
    nothing, long = np.zeros((3, dim), np.float32), np.ones((2000, dim), np.float32)
    invalid = Track.of(nothing, valid=np.zeros(3, bool))
    return [Track.failed(Reason.TOO_SHORT), invalid, Track.of(nothing[:1]), Track.of(long)]


def _dialogue(texts: list[str], stage: Stage) -> list[Any]:
    """What decoding gives of a dialogue with these turns, whose third speaker is unknown."""
    rows = [
        Utterance(id=str(turn), dialogue="d", turn=turn, text=text, speaker=("Ann", "Bob", None)[turn % 3])
        for turn, text in enumerate(texts)
    ]
    before, context = Dialogues(rows), stage.dialogue
    assert context is not None
    turns = [(*before.before(row.id, context.turns), row) for row in rows]
    return [tuple(Turn(t.text or "", t.speaker if context.speakers else None) for t in seen) for seen in turns]


def _seen(raw: list[Any], stage: Stage) -> list[Any]:
    """What decoding leaves of pictures for a stage: those it picks, shrunk. Text and sound come whole."""
    return [_picked(frames, stage) for frames in raw] if isinstance(stage, VideoStage) else raw


def _picked(frames: Frames, stage: VideoStage) -> Frames:
    indices = stage.pick(frames.time_s, float(frames.time_s[-1]) + FRAME_S)
    return Frames(np.stack([stage.shrink(frames.images[index]) for index in indices]), frames.time_s[indices])


def _text(index: int) -> str:
    words = _WORDS.split()
    return " ".join(words[index % 7 : 3 + index % 7 + index])


def _odd_text() -> list[str]:
    return ["", " \t\n", "...", "[LAUGHTER]", "qzx", "\N{FACE WITH TEARS OF JOY}", "a", "word " * 3000, "<s></s><pad>"]


def _voice(index: int) -> Waveform:
    """Harmonics of a pitch of its own, with noise and a pause, at one of three rates."""
    rate_hz = (16000, 44100, 8000)[index % 3]
    time = np.arange(round((0.2 + 0.06 * index) * rate_hz)) / rate_hz
    harmonics = sum(np.sin(2 * np.pi * (100 + 10 * index) * k * time) / k for k in range(1, 12))
    noise = np.random.default_rng(index).normal(0, 0.01, len(time))
    return Waveform(np.asarray(0.2 * harmonics * (time % 0.4 > 0.1) + noise, np.float32), rate_hz)


def _odd_audio() -> list[Waveform]:
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    broken = noise.copy()
    broken[5000] = np.nan
    quiet = np.zeros(16000, np.float32)
    signals = [noise[:0], noise[:1], noise[:160], noise[:1000], quiet, quiet + 1, 5 * noise, broken, np.tile(noise, 6)]
    return [Waveform(signal, 16000) for signal in signals]


def _motion(index: int) -> Frames:
    """A bright square that moves over noise, 1 to 46 pictures."""
    return _film(1 + 3 * index, index)


def _film(count: int, seed: int) -> Frames:
    images: NDArray[np.uint8] = np.random.default_rng(seed).integers(0, 60, (count, 48, 64, 3), np.uint8)
    for k in range(count):
        images[k, 10:30, (3 * k + seed) % 45 :][:, :15] = 220
    return Frames(images, _times(count))


def _times(count: int) -> NDArray[np.float64]:
    return np.asarray(np.arange(count) * FRAME_S, np.float64)


def _odd_video() -> list[Frames]:
    """A decoder never gives a clip without a picture."""
    black = Frames(np.zeros((20, 48, 64, 3), np.uint8), _times(20))
    tiny = Frames(np.full((1, 2, 3, 3), 255, np.uint8), _times(1))
    return [_film(1, 0), _film(2, 0), black, tiny, _film(100, 0)]
