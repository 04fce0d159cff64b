"""A sound whose channels cancel when they are mixed has a remark, where its own stretch cancels and not elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from pipeline.media.audio import decode
from pipeline.plan.remarked import remarked
from pipeline.remark import Kind, Remark
from pipeline.stage import Stage
from pipeline.utterance import Audio
from stages.audio_mfcc import AudioMfcc
from tests.clinic import tone
from tests.small import Small

RATE = 16000
STAGES: list[Stage] = [AudioMfcc()]


def cancelling(path: Path, from_s: int = 0, to_s: int = 4) -> Path:
    """Four seconds in two channels of which the second is the first turned over between two times."""
    left = tone(4)
    sign = np.where((np.arange(len(left)) >= from_s * RATE) & (np.arange(len(left)) < to_s * RATE), -0.98, 0.98)
    stereo = np.stack([left, sign * left]).astype(np.float32)  # [2, N]
    if path.suffix in (".wav", ".flac"):
        soundfile.write(path, stereo.T, RATE)
        return path
    with av.open(str(path), "w") as container:
        sound = container.add_stream("flac", rate=RATE, layout="stereo")
        for first in range(0, stereo.shape[1], RATE // 10):
            container.mux(sound.encode(_frame(stereo[:, first : first + RATE // 10], first)))
        container.mux(sound.encode())
    return path


def _frame(samples: NDArray[np.float32], first: int) -> av.AudioFrame:
    packed = (samples.T.reshape(1, -1) * 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(packed, format="s16", layout="stereo")
    frame.sample_rate, frame.pts = RATE, first
    return frame


def remarks(path: Path, **stretch: float) -> tuple[Remark, ...]:
    [wave] = decode([Audio(path=path.name, **stretch)], path.parent, STAGES)  # type: ignore[arg-type]
    return wave.remarks


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mkv"])
def test_channels_that_cancel_are_remarked_unless_one_of_them_is_read(tmp_path: Path, name: str) -> None:
    path = cancelling(tmp_path / name)
    [remark] = remarks(path)
    assert (remark.kind, remark.part, remark.whole) == (Kind.CHANNELS_CANCEL, pytest.approx(4), pytest.approx(4))
    assert "audio_channel" in remark.message
    assert remarks(path, channel=1) == ()


@pytest.mark.parametrize("name", ["a.wav", "a.mkv"])
def test_only_what_is_mixed_counts(tmp_path: Path, name: str) -> None:
    path = cancelling(tmp_path / name, from_s=0, to_s=2)
    assert remarks(path, start_s=0.5, end_s=1.5) and not remarks(path, start_s=2.5, end_s=3.5)


@pytest.mark.parametrize("other", [np.zeros(RATE), np.roll(tone(1), 4), np.random.default_rng(0).normal(0, 0.2, RATE)])
def test_a_channel_that_is_silent_late_or_another_sound_cancels_nothing(
    tmp_path: Path, other: NDArray[np.float64]
) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([tone(1), other], axis=1), RATE)
    assert remarks(tmp_path / "a.wav") == ()


def test_silence_in_all_channels_is_not_cancelled(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((RATE, 2)), RATE)
    assert remarks(tmp_path / "a.wav") == ()


def test_the_remark_on_a_sound_comes_to_the_row_of_every_stage_that_reads_it(small: Small) -> None:
    row = small.session().corpus.manifest.rows[5]
    shutil.copy(cancelling(small.root / "made.wav"), small.root / row.audio[0].path)
    (small.root / "made.wav").unlink()
    small.extract(modality="audio")
    found = remarked(small.session(modality="audio").catalogue)
    assert {(one.rows.node.name, one.utterance, one.remark.kind) for one in found} == {
        (stage, row.id, Kind.CHANNELS_CANCEL) for stage in ("audio_mfcc", "audio_opensmile")
    }
