"""Which pictures of a video file a stage gets: made clips whose brightness tells the frame."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.media import video_frames
from pipeline.media.child import Child
from pipeline.media.video import decode, prepare, shown_at, square
from pipeline.reason import Reason, Unreadable
from pipeline.remark import Kind, Remark
from pipeline.stage import Frames
from pipeline.utterance import Video
from stages.visual_cnn3d import VisualCnn3d
from stages.visual_resnet50 import VisualResnet50
from tests.every_frame import EveryFrame

STEP = 8
"""Brightness between one frame and the next: more than coding loses."""


class Twice(EveryFrame):
    """The first frame, twice."""

    def pick(self, time_s: NDArray[np.float64], duration_s: float) -> NDArray[np.int64]:
        return np.array([0, 0])


def clip(path: Path, ticks: Sequence[int], codec: str = "libx264", rate: int = 100, **options: str) -> Path:
    """Frame i has brightness STEP * i and is shown at ticks[i] / rate seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, rate)
        for index, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), STEP * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second at 25 frames a second, key frames every ten, two of three not referred to."""
    path = tmp_path_factory.mktemp("clips") / "even.mp4"
    return clip(path, range(0, 100, 4), g="10", bf="2", sc_threshold="0")


def read(path: Path, **stretch: float) -> Frames:
    return decode([Video(path=path.name, **stretch)], path.parent, [EveryFrame()])[0]  # type: ignore[arg-type]


def numbers(frames: Frames) -> list[int]:
    return [round(float(image.mean()) / STEP) for image in frames.images]


def reason_of(path: Path, **stretch: float) -> Reason:
    with pytest.raises(Unreadable) as caught:
        read(path, **stretch)
    return caught.value.reason


def test_a_whole_file_gives_every_frame_at_its_time(even: Path) -> None:
    frames = read(even)
    assert numbers(frames) == list(range(25))
    assert frames.time_s == pytest.approx(np.arange(25) * 0.04)


@pytest.mark.parametrize("first", [0, 3, 9, 10, 11, 19, 20, 24])
def test_a_stretch_holds_the_frames_that_begin_in_it(even: Path, first: int) -> None:
    frames = read(even, start_s=first * 0.04, end_s=(first + 3) * 0.04)
    assert numbers(frames) == list(range(first, min(25, first + 3)))
    assert frames.time_s[0] == pytest.approx(0.0)


def test_a_stretch_between_two_frames_gets_the_nearest(even: Path) -> None:
    assert numbers(read(even, start_s=0.401, end_s=0.41)) == [10]
    frames = read(even, start_s=0.43, end_s=0.438)
    assert numbers(frames) == [11]
    assert 0 <= frames.time_s[0] <= 0.0081


@pytest.mark.parametrize(("start_s", "end_s"), [(1.0, 2.0), (0.5, 0.5), (0.6, 0.5), (7.0, None), (None, 0.0)])
def test_a_stretch_without_pictures_is_too_short(even: Path, start_s: float, end_s: float) -> None:
    assert reason_of(even, start_s=start_s, end_s=end_s) is Reason.TOO_SHORT


def test_frames_of_variable_rate_keep_their_times(tmp_path: Path) -> None:
    ticks = [0, 4, 8, 40, 41, 90]
    frames = read(clip(tmp_path / "variable.mp4", ticks))
    assert numbers(frames) == list(range(6))
    assert frames.time_s == pytest.approx(np.array(ticks) / 100)


@pytest.mark.parametrize("name", ["late.ts", "late.mkv"])
def test_times_count_from_the_start_of_the_container(tmp_path: Path, name: str) -> None:
    path = clip(tmp_path / name, range(500, 600, 4), g="10", bf="2", sc_threshold="0")
    assert numbers(read(path, start_s=0.6, end_s=0.72)) == [15, 16, 17]
    assert read(path).time_s == pytest.approx(np.arange(25) * 0.04, abs=2e-3)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_that_look_forward_are_shown_in_order_and_at_once_in_avi(tmp_path: Path, codec: str) -> None:
    path = clip(tmp_path / "forward.avi", range(25), codec, rate=25, g="10", bf="2", qmin="1", qmax="2")
    frames = read(path)
    assert numbers(frames) == list(range(25))
    assert frames.time_s == pytest.approx(np.arange(25) * 0.04)
    assert [numbers(read(path, start_s=n * 0.04, end_s=n * 0.04 + 0.1)) for n in (1, 12, 19)] == [
        [1, 2, 3],
        [12, 13, 14],
        [19, 20, 21],
    ]


@pytest.mark.parametrize("name", ["joined.ts", "joined.mpg"])
def test_frames_after_a_clock_that_starts_again_follow_those_before(tmp_path: Path, name: str) -> None:
    codec = "libx264" if name.endswith("ts") else "mpeg2video"
    part = clip(tmp_path / f"part{Path(name).suffix}", range(25), codec, rate=25, g="10", bf="2", qmin="2", qmax="4")
    path = tmp_path / name
    path.write_bytes(part.read_bytes() * 3)
    frames = read(path)
    assert numbers(frames) == numbers(read(part)) * 3
    assert len(frames.images) > 60 and (np.diff(frames.time_s) > 0.03).all()
    cut = read(path, start_s=1.2, end_s=1.5)
    assert numbers(cut) == [n for n, at in zip(numbers(frames), frames.time_s, strict=True) if 1.199 < at < 1.499]


def test_several_stages_share_one_decoding(even: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.media.video.frames", counted := Counted())
    first, second = decode([Video(path="")], even, [EveryFrame(), Twice()])
    assert counted.calls == 1
    assert (numbers(first)[:2], numbers(second)) == ([0, 1], [0, 0])


class Counted:
    """`frames`, and how often it was called."""

    calls = 0

    def __call__(self, *args: object) -> object:
        self.calls += 1
        return video_frames.frames(*args)  # type: ignore[arg-type]


def test_the_crop_is_a_part_of_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "halves.mp4"
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, 32:] = 200
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    brightness = [
        decode([Video(path="", crop=crop)], path, [EveryFrame()])[0].images.mean()
        for crop in [(0.0, 0.0, 0.4, 1.0), (0.6, 0.2, 0.4, 0.5), (1.0, 1.0, 0.0, 0.0)]
    ]
    assert brightness == pytest.approx([0, 200, 200], abs=4)


def test_a_damaged_part_is_bridged_and_the_rest_is_used(even: Path, tmp_path: Path) -> None:
    data = bytearray(even.read_bytes())
    with av.open(str(even)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        spans = [(packet.pos, packet.pos + packet.size) for packet in packets[10:20]]
    for first, last in spans:
        data[first:last] = bytes(last - first)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    found = numbers(read(path))
    assert len(found) == 25
    assert found[:8] == list(range(8)) and found[-4:] == list(range(21, 25))
    assert reason_of(path, start_s=0.5, end_s=0.7) is Reason.DECODE_ERROR
    assert read(path).remarks == (Remark(Kind.DAMAGED, 10, 25),) and read(even).remarks == ()
    assert read(path, end_s=0.3).remarks == read(path, start_s=0.9).remarks == ()


def test_files_that_are_no_video_have_their_reasons(tmp_path: Path, even: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "words.txt").write_text("These are words and no pictures.\n" * 40)
    (tmp_path / "cut.mp4").write_bytes(even.read_bytes()[:100])
    assert reason_of(tmp_path / "nowhere.mp4") is Reason.MISSING_FILE
    assert reason_of(tmp_path / "empty.mp4") is Reason.NOT_MEDIA
    assert reason_of(tmp_path / "words.txt") is Reason.NOT_MEDIA
    assert reason_of(tmp_path) is Reason.NOT_MEDIA
    assert reason_of(tmp_path / "cut.mp4") is Reason.DECODE_ERROR


def test_a_codec_that_no_decoder_knows_is_a_decode_error(tmp_path: Path, even: Path) -> None:
    (tmp_path / "odd.mp4").write_bytes(even.read_bytes().replace(b"avc1", b"zz\xe91"))
    assert reason_of(tmp_path / "odd.mp4") is Reason.DECODE_ERROR


def test_an_attached_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    jpeg = av.CodecContext.create("mjpeg", "w")
    jpeg.width, jpeg.height, jpeg.pix_fmt, jpeg.time_base = 16, 16, "yuvj420p", Fraction(1, 25)
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=44100)
        cover = container.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24").reformat(format="yuvj420p")
        container.mux(cover.encode(frame))
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 4608), np.float32), format="fltp", layout="stereo")
        silence.rate = 44100
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    assert reason_of(path) is Reason.NO_VIDEO_STREAM


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4", range(0, 20, 4))
    assert len(read(path).images) == 5
    clip(path, range(0, 40, 4))
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 1))
    assert len(read(path).images) == 10


def test_what_is_on_screen_is_the_last_frame_that_began() -> None:
    times = np.array([0.1, 0.2, 0.3])
    assert shown_at(times, np.array([0.0, 0.1, 0.19, 0.1 + 0.1, 0.30000000001, 9.0])).tolist() == [0, 0, 0, 1, 2, 2]


@pytest.mark.parametrize("shape", [(480, 720), (720, 480), (17, 33), (1, 1), (224, 224)])
def test_a_square_holds_the_centre(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    image[shape[0] // 2, shape[1] // 2] = 255
    small = square(image, 64)
    assert small.shape == (64, 64, 3)
    peak = np.unravel_index(small[..., 0].argmax(), (64, 64))
    assert all(abs(int(place) - 32) <= 4 + 64 // min(shape) for place in peak)


def test_decoding_in_a_child_gives_the_same(even: Path) -> None:
    stages = [VisualResnet50(size=32), VisualCnn3d(size=32)]
    here = decode([Video(path="")], even, stages)
    with Child(prepare=prepare) as child:
        there = child.call(decode, [Video(path="")], even, stages, deadline_s=60)
        with pytest.raises(Unreadable) as caught:
            child.call(decode, [Video(path="")], even.parent / "nowhere.mp4", stages, deadline_s=60)
    assert caught.value.reason is Reason.MISSING_FILE
    for one, other in zip(here, there, strict=True):
        assert np.array_equal(one.images, other.images) and np.array_equal(one.time_s, other.time_s)
