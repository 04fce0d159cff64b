"""A corpus in MELD's layout, realigned by MELD-FAIR's files: what is extracted is the joined stretches."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from pipeline.ask.failures import failures
from pipeline.cache.home import Home
from pipeline.media.decode import decoded
from pipeline.media.doctor import doctor
from stages.audio_mfcc import AudioMfcc
from tests.every_frame import EveryFrame
from tests.manifests.meld_files import line, write_fair, write_tables
from tests.small import Small

RATE, STEP = 16000, 12
JOINED = "train_dia0_utt0"
TIMES = [
    ("train", 0, 0, 0, 0, 1.0, 1.5),
    ("train", 0, 0, 0, 1, 0.25, 0.75),
    ("train", 0, 0, 0, 0, 0.0, 0.4),
    ("train", 0, 1, 0, 1, 0.5, 1.5),
    ("train", 0, 2, 0, 2, 0.0, 1.0),
]
FACES = [("train", 0, 0, frame, 640, 0, 1280, 720) for frame in range(12, 24)]
RECIPE = """
[dataset]
reader  = "meld"
labels  = "emotion"
realign = "fair"

[features.hjcag]
audio  = { stage = "audio_mfcc", n_mfcc = 5, deltas = 0, rate_hz = 25, align = { mode = "pad", length = 8 } }
[features.hjcag.visual]
stage = "visual_resnet50"
backbone = "resnet18"
frames = 7
size = 32
weights = "random"
align = { mode = "sample", length = 7 }
"""


class Edges(EveryFrame):
    """All frames, as the brightness of their left and right edge."""

    def shrink(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return image[:, [2, -3]].mean(0, keepdims=True).round().astype(np.uint8)


def hz(clip: int, second: int) -> int:
    """The tone of a clip in a second of it."""
    return 400 + 800 * clip + 200 * second


def clip(path: Path, number: int) -> Path:
    """Two seconds: a tone for each, and ten frames a second whose right half tells their number, the left is white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="matroska") as container:
        pictures = container.add_stream("libx264", rate=10, options={"g": "5", "bf": "0", "crf": "1"})
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("flac", rate=RATE, layout="mono")
        time_s = np.arange(2 * RATE) / RATE
        tone = 8000 * np.sin(2 * np.pi * np.where(time_s < 1, hz(number, 0), hz(number, 1)) * time_s)
        for index in range(20):
            image = np.full((48, 64, 3), STEP * index, np.uint8)
            image[:, :32] = 255
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(pictures.encode(frame))
            part = av.AudioFrame.from_ndarray(tone[None, 1600 * index :][:, :1600].astype(np.int16), "s16", "mono")
            part.sample_rate, part.pts, part.time_base = RATE, 1600 * index, Fraction(1, RATE)
            container.mux(sound.encode(part))
        container.mux([*pictures.encode(), *sound.encode()])
    return path


@pytest.fixture
def meld(tmp_path: Path) -> Small:
    """Three utterances of train, one of dev and one of test; FAIR lacks the last two."""
    root = tmp_path / "corpus"
    write_tables(root, train=[line(0, number) for number in range(3)])
    write_fair(root, TIMES, FACES)
    for number in range(3):
        clip(root / f"train_splits/dia0_utt{number}.mp4", number)
    for folder in ("dev_splits_complete", "output_repeated_splits_test"):
        clip(root / folder / "dia0_utt0.mp4", 0)
    return Small(root, tmp_path / "home", tmp_path / "recipe.toml", RECIPE)


def joined(meld: Small, kind: str, stage: Any) -> Any:
    """What a stage is given of the utterance of three stretches, decoded as an extraction decodes it."""
    [row] = [row for row in meld.session().corpus.manifest.rows if row.id == JOINED]
    [(_, inputs)] = decoded(kind, [row], meld.root, [[("mine", stage)]], Home(meld.home).memory)
    return inputs["mine"]  # type: ignore[index]


def pitch_hz(samples: NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 2 * RATE))
    return float(spectrum.argmax()) / 2


def test_the_sound_of_an_utterance_is_that_of_its_three_stretches(meld: Small) -> None:
    wave = joined(meld, "audio", AudioMfcc())
    assert len(wave.samples) == 8000 + 8000 + 6400 and wave.rate_hz == RATE
    parts = np.split(wave.samples, [8000, 16000])
    assert [pitch_hz(part) for part in parts] == pytest.approx([hz(0, 1), hz(1, 0), hz(0, 0)], abs=2)


def test_its_pictures_are_those_of_its_stretches_cropped_where_a_face_was_found(meld: Small) -> None:
    frames = joined(meld, "video", Edges())
    numbers = np.round(frames.images[:, 0, 1, 0] / STEP).astype(int).tolist()
    assert numbers == [*range(10, 15), *range(3, 8), *range(4)]
    assert frames.time_s == pytest.approx([*np.arange(5) / 10, *(0.55 + np.arange(5) / 10), *(1.0 + np.arange(4) / 10)])
    whole = (frames.images[:, 0, 0, 0] > 240).tolist()
    assert whole == [True] * 5 + [False] * 5 + [True] * 4


def test_the_times_of_features_run_over_the_joined_stretches(meld: Small) -> None:
    meld.extract()
    tracks = {stage: track for (stage, name), (_, track) in meld.rows().items() if name == JOINED}
    sound, pictures = tracks["audio_mfcc"].time_s, tracks["visual_resnet50"].time_s
    assert np.all(np.diff(sound) > 0) and 1.3 < sound[-1] <= 1.4
    assert pictures == pytest.approx([0.0, 0.2, 0.4, 0.55, 0.75, 1.0, 1.2], abs=0.11) and np.all(np.diff(pictures) > 0)


def test_a_stretch_that_moves_costs_its_row_and_a_clip_that_moves_nothing(meld: Small) -> None:
    every = {"audio_mfcc": 5, "visual_resnet50": 5}
    assert meld.extract() == every and meld.extract() == {}
    moved = [(*TIMES[0][:5], 1.1, 1.5), *TIMES[1:]]
    write_fair(meld.root, moved, FACES)
    assert meld.extract() == dict.fromkeys(every, 1)
    write_fair(meld.root, [moved[1], moved[0], *moved[2:]], FACES)
    assert meld.extract() == dict.fromkeys(every, 1)
    (meld.root / "elsewhere").mkdir()
    (meld.root / "train_splits").rename(meld.root / "elsewhere/train_splits")
    assert meld.extract() == {}


def test_a_clip_that_changes_costs_every_utterance_with_a_stretch_of_it(meld: Small) -> None:
    meld.extract()
    clip(meld.root / "train_splits/dia0_utt1.mp4", 3)
    assert meld.extract() == {"audio_mfcc": 2, "visual_resnet50": 2}


@pytest.mark.parametrize("harm", [b"", b"no media at all", None])
def test_the_doctor_and_extraction_agree_on_a_stretch_that_fails(meld: Small, harm: bytes | None) -> None:
    path = meld.root / "train_splits/dia0_utt1.mp4"
    if harm is None:
        path.unlink()
    else:
        path.write_bytes(harm)
    corpus = meld.session().corpus
    summary = doctor("meld", corpus.manifest.rows, meld.root, meld.home.parent / "doctor", workers=1)
    found = {(r["modality"], r["utterance"]): r for r in pq.read_table(summary["parquet"]).to_pylist() if r["code"]}
    meld.extract()
    failed = {(modality, name): why for modality, reasons in meld.failed().items() for name, why in reasons.items()}
    assert {place: record["code"] for place, record in found.items()} == failed
    assert {name for _, name in failed} == {JOINED, "train_dia0_utt1"}
    assert {r["path"] for r in found.values()} == {"train_splits/dia0_utt1.mp4"}
    told = [entry["message"] for entry in failures(meld.session()) if entry["utterance"] == JOINED]
    assert len(told) == 2 and all(text.startswith("stretch 2 of 3, train_splits/dia0_utt1.mp4: ") for text in told)
