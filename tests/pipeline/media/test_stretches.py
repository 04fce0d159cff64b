"""An utterance of several stretches: its sound and its pictures are joined in their order, on one timeline."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from pipeline.media import audio, video
from pipeline.media.doctor_file import examine
from pipeline.media.doctor_rules import Examination, Kind, fails, problems
from pipeline.media.video import VideoStage
from pipeline.reason import Reason, Unreadable
from pipeline.stage import Frames, Waveform
from pipeline.utterance import Audio, Stretch, Utterance, Video
from stages.audio_mfcc import AudioMfcc
from tests.every_frame import EveryFrame

RATE = 16000
LEVELS = (8, 48, 88, 128, 168, 208)
"""The brightness of a frame tells its number modulo six, whatever coding loses."""


class Every(EveryFrame):
    """All frames; `asked` keeps what `pick` was told."""

    asked: list[tuple[list[float], float]] = []

    def pick(self, time_s: NDArray[np.float64], duration_s: float) -> NDArray[np.int64]:
        self.asked.append((time_s.tolist(), duration_s))
        return super().pick(time_s, duration_s)


class Last(Every):
    """The last frame alone."""

    def pick(self, time_s: NDArray[np.float64], duration_s: float) -> NDArray[np.int64]:
        return np.array([len(time_s) - 1])


def noise(root: Path, name: str, seconds: float, rate_hz: int = RATE) -> NDArray[np.float32]:
    """Writes a sound of which no two samples are alike, and returns it as it is read."""
    samples = np.random.default_rng(len(name)).uniform(-0.9, 0.9, round(seconds * rate_hz))
    soundfile.write(root / name, samples, rate_hz, subtype="FLOAT")
    return samples.astype(np.float32)


def film(root: Path, name: str, frames: int, size: tuple[int, int] = (64, 48), half: bool = False) -> None:
    """Ten frames a second whose brightness is their number's; `half` leaves the left half black."""
    with av.open(str(root / name), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "4", "bf": "0", "crf": "1"})
        stream.width, stream.height, stream.pix_fmt = (*size, "yuv420p")
        stream.time_base = stream.codec_context.time_base = Fraction(1, 10)
        for number in range(frames):
            image = np.full((size[1], size[0], 3), LEVELS[number % 6], np.uint8)
            image[:, : size[0] // 2 if half else 0] = 0
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def heard(root: Path, *stretches: Audio) -> Waveform:
    return audio.decode(stretches, root, [AudioMfcc()])[0]


def seen(root: Path, *stretches: Video, stage: VideoStage = Every()) -> Frames:
    return video.decode(stretches, root, [stage])[0]


def numbers(frames: Frames) -> list[int]:
    return [int(np.abs(np.array(LEVELS) - level).argmin()) for level in frames.images.mean((1, 2, 3))]


# --- sound -----------------------------------------------------------------------------------------------------


def test_the_sound_of_three_stretches_of_two_files_is_joined_to_the_sample(tmp_path: Path) -> None:
    one, two = noise(tmp_path, "1.wav", 2.0), noise(tmp_path, "22.wav", 1.5)
    first, second = Audio(path="1.wav", start_s=1.0, end_s=1.5), Audio(path="22.wav", end_s=0.25)
    wave = heard(tmp_path, first, second, Audio(path="1.wav", end_s=0.1))
    assert np.array_equal(wave.samples, np.concatenate([one[16000:24000], two[:4000], one[:1600]]))
    assert wave.rate_hz == RATE


def test_stretches_of_other_rates_are_joined_at_the_highest_with_the_samples_of_their_lengths(tmp_path: Path) -> None:
    noise(tmp_path, "1.wav", 1.0, 22050)
    fine = noise(tmp_path, "22.wav", 1.0, 48000)
    wave = heard(tmp_path, Audio(path="1.wav", start_s=0.1, end_s=0.43), Audio(path="22.wav", start_s=0.5))
    assert wave.rate_hz == 48000 and np.array_equal(wave.samples[15840:], fine[24000:])


def test_sound_that_ends_before_its_stretch_does_not_shift_the_next_and_the_last_is_not_filled(tmp_path: Path) -> None:
    one = noise(tmp_path, "1.wav", 1.0)
    wave = heard(tmp_path, *(Audio(path="1.wav", start_s=0.5, end_s=1.25) for _ in range(2)))
    silence = np.zeros(4000, np.float32)
    assert np.array_equal(wave.samples, np.concatenate([one[8000:], silence, one[8000:]]))


def test_each_stretch_has_its_own_channel(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (1000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "1.wav", samples, RATE, subtype="FLOAT")
    wave = heard(tmp_path, Audio(path="1.wav", channel=1), Audio(path="1.wav", channel=0))
    assert np.array_equal(wave.samples, np.concatenate([samples[:, 1], samples[:, 0]]))


# --- pictures --------------------------------------------------------------------------------------------------


def test_the_pictures_of_three_stretches_of_two_files_are_joined_with_the_times_of_the_whole(tmp_path: Path) -> None:
    film(tmp_path, "1.mp4", 20)
    film(tmp_path, "2.mp4", 10)
    cut = (Video(path="1.mp4", start_s=1.0, end_s=1.35), Video(path="2.mp4", end_s=0.2), Video(path="1.mp4", end_s=0.3))
    frames = seen(tmp_path, *cut)
    assert numbers(frames) == [n % 6 for n in (10, 11, 12, 13, 0, 1, 0, 1, 2)]
    assert frames.time_s == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.35, 0.45, 0.55, 0.65, 0.75])


def test_a_stage_picks_over_the_whole_timeline(tmp_path: Path) -> None:
    film(tmp_path, "1.mp4", 10)
    stage = Every()
    stage.asked.clear()
    seen(tmp_path, Video(path="1.mp4", end_s=0.2), Video(path="1.mp4", start_s=0.7), stage=stage)
    [(time_s, duration_s)] = stage.asked
    assert time_s == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4]) and duration_s == pytest.approx(0.5)


def test_pictures_that_end_before_their_stretch_do_not_shift_the_next(tmp_path: Path) -> None:
    film(tmp_path, "1.mp4", 10)
    frames = seen(tmp_path, *(Video(path="1.mp4", start_s=0.8, end_s=1.5) for _ in range(2)))
    assert frames.time_s == pytest.approx([0.0, 0.1, 0.7, 0.8])


def test_each_stretch_has_its_own_crop_and_may_have_pictures_of_another_size(tmp_path: Path) -> None:
    film(tmp_path, "1.mp4", 2, half=True)
    film(tmp_path, "2.mp4", 2, size=(32, 96))
    left, right = (0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 0.4, 1.0)
    cut = (Video(path="1.mp4", start_s=0.1, crop=right), Video(path="1.mp4", start_s=0.1, crop=left))
    frames = seen(tmp_path, *cut, Video(path="2.mp4", start_s=0.1))
    assert frames.images.mean((1, 2, 3)) == pytest.approx([LEVELS[1], 0, LEVELS[1]], abs=6)


def test_a_stretch_of_which_no_frame_is_picked_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film(tmp_path, "1.mp4", 3)
    film(tmp_path, "2.mp4", 3)
    opened: list[str] = []
    frames = video.frames

    def counted(path: Path, *rest: Any) -> Any:
        opened.append(path.name)
        return frames(path, *rest)

    monkeypatch.setattr(video, "frames", lambda path, *rest: counted(path, *rest) if len(rest[2]) else iter(()))
    assert numbers(seen(tmp_path, Video(path="1.mp4"), Video(path="2.mp4"), stage=Last())) == [2]
    assert opened == ["2.mp4"]


# --- one stretch of several fails ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "second", "reason"),
    [
        ("audio", Audio(path="nowhere.wav"), "missing_file"),
        ("audio", Audio(path="1.mp4"), "no_audio_stream"),
        ("audio", Audio(path="1.wav", start_s=7.0), "too_short"),
        ("audio", Audio(path="1.wav", channel=3), "no_audio_stream"),
        ("audio", Audio(path="text.wav"), "not_media"),
        ("video", Video(path="nowhere.mp4"), "missing_file"),
        ("video", Video(path="1.wav"), "no_video_stream"),
        ("video", Video(path="1.mp4", start_s=7.0), "too_short"),
        ("video", Video(path="text.wav"), "not_media"),
    ],
)
def test_the_row_has_the_reason_of_a_stretch_that_fails_and_says_which_it_is(
    tmp_path: Path, kind: Kind, second: Stretch, reason: str
) -> None:
    stretches = ready(tmp_path, kind, second)
    with pytest.raises(Unreadable) as caught:
        decoded(tmp_path, kind, stretches)
    assert caught.value.reason == reason
    assert caught.value.detail.startswith(f"stretch 2 of 3, {second.path}: ")
    first = judged(tmp_path, kind, stretches)[0]
    assert (first.code, first.stretch) == (reason, 1) and first.detail.startswith(f"stretch 2 of 3, {second.path}: ")


def test_a_short_stretch_harms_only_where_all_together_are_too_short(tmp_path: Path) -> None:
    noise(tmp_path, "1.wav", 1.0)
    short = Audio(path="1.wav", start_s=0.5, end_s=0.51)
    assert [problem.code for problem in judged(tmp_path, "audio", [short] * 2)] == [Reason.TOO_SHORT]
    assert judged(tmp_path, "audio", [short] * 3) == []


def ready(root: Path, kind: Kind, second: Stretch) -> list[Stretch]:
    """Three stretches, all but the second of which are good."""
    noise(root, "1.wav", 1.0)
    film(root, "1.mp4", 12)
    (root / "text.wav").write_text("no media at all")
    good: Stretch = Audio(path="1.wav", end_s=0.5) if kind == "audio" else Video(path="1.mp4", end_s=0.5)
    return [good, second, good]


def decoded(root: Path, kind: Kind, stretches: Sequence[Any]) -> None:
    if kind == "audio":
        heard(root, *stretches)
    else:
        seen(root, *stretches)


def judged(root: Path, kind: Kind, stretches: Sequence[Stretch]) -> list[Any]:
    """The doctor's problems for which extraction gives no values."""
    row = Utterance(id="u", dialogue="d", turn=0)
    found = problems(row, stretches, [examined(kind, root / stretch.path) for stretch in stretches], alone=False)
    return [problem for problem in found if fails(problem.code)]


def examined(kind: Kind, path: Path) -> Examination:
    try:
        return examine(kind, path)
    except Unreadable as error:
        return error
