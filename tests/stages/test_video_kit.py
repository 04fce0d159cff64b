"""Decoding real recordings, good, odd and broken."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.media.video import decode
from pipeline.media.video_decoder import decoder, decord_reader
from pipeline.media.video_frames import by_pyav
from pipeline.media.video_timeline import read_timeline
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Video
from stages.visual_cnn3d import VisualCnn3d
from stages.visual_resnet50 import VisualResnet50

KIT = Path(os.environ.get("AFFECTORY_KIT", Path(__file__).parents[3] / "shared" / "kit"))
pytestmark = pytest.mark.skipif(not KIT.is_dir(), reason="no real-data kit")

REASONS = {
    "._22_dia0_utt0.mp4": Reason.NOT_MEDIA,
    "01_truncated_no_moov.mp4": Reason.DECODE_ERROR,
    "03_zero_byte.mp4": Reason.NOT_MEDIA,
    "04_text_renamed.mp4": Reason.NOT_MEDIA,
    "06_audio_only.mp4": Reason.NO_VIDEO_STREAM,
}


def media() -> list[Path]:
    return sorted(path for name in ("bad", "media") if (KIT / name).is_dir() for path in (KIT / name).iterdir())


def short(path: Path) -> str:
    return path.name[:30].encode("ascii", "replace").decode()


@pytest.mark.parametrize("path", media(), ids=short)
def test_every_file_ends_in_frames_or_the_right_reason(path: Path) -> None:
    expected = Reason.NO_VIDEO_STREAM if path.suffix == ".wav" else REASONS.get(path.name)
    if expected:
        with pytest.raises(Unreadable) as caught:
            decode([Video(path=path.name)], path.parent, [VisualResnet50()])
        assert caught.value.reason is expected
        return
    (frames,) = decode([Video(path=path.name)], path.parent, [VisualResnet50()])
    assert frames.images.shape == (30, 224, 224, 3)
    assert frames.images.std() > 1, "an empty picture"
    assert (np.diff(frames.time_s) >= 0).all() and (frames.time_s >= 0).all()


@pytest.mark.parametrize("path", media(), ids=short)
def test_both_decoders_give_the_same_pictures(path: Path) -> None:
    try:
        timeline = read_timeline(path)
    except Unreadable as error:
        pytest.skip(error.reason.value)
    reader = decord_reader(path, timeline)
    if reader is None:
        pytest.skip("decord is not used")
    count = len(timeline.ticks)
    wanted = list(range(0, count, max(1, count // 12)))
    for index, image in by_pyav(path, timeline, range(count), wanted):
        assert np.array_equal(image, reader[index].asnumpy()), f"frame {index}"


def test_frames_that_are_not_to_be_shown_are_not_taken() -> None:
    path = KIT / "media" / "pyfeat_no_face.mp4"
    timeline = read_timeline(path)
    assert timeline.hidden and len(timeline.ticks) == 95 and timeline.time_s[0] == 0
    assert decoder(path, timeline) == "PyAV"


def test_variable_frame_rate_keeps_its_own_times() -> None:
    timeline = read_timeline(KIT / "bad" / "07_variable_frame_rate.mp4")
    assert len(timeline.time_s) == 43
    assert len(np.unique(np.diff(timeline.time_s).round(3))) > 1
    assert timeline.end_s == pytest.approx(3.0, abs=0.01)


def test_a_single_frame_is_repeated() -> None:
    path = KIT / "bad" / "13b_single_frame_video_3s_audio.mp4"
    resnet, cnn = decode([Video(path="")], path, [VisualResnet50(), VisualCnn3d()])
    assert (resnet.images == resnet.images[0]).all() and len(resnet.images) == 30
    assert (cnn.images == cnn.images[0]).all() and len(cnn.images) == 16


def test_a_rotated_picture_is_turned_as_a_player_does() -> None:
    upright, turned = (KIT / "bad" / name for name in ("00_good_reference.mp4", "08_rotated_displaymatrix90.mp4"))
    (before,), (after,) = (decode([Video(path="")], path, [VisualResnet50(frames=3)]) for path in (upright, turned))
    clockwise = np.rot90(before.images, -1, axes=(1, 2))
    assert np.abs(clockwise.astype(int) - after.images).mean() < 1


def test_an_odd_size_keeps_its_edges() -> None:
    path = KIT / "bad" / "17_odd_dimension_321x241_yuv444p.mp4"
    ((_, image),) = by_pyav(path, read_timeline(path), range(1), [0])
    assert image.shape == (241, 321, 3)


@pytest.mark.slow
def test_five_minutes_are_read_in_seconds() -> None:
    path = KIT / "bad" / "20_305s_meld_dia38_utt4_like.mp4"
    started = time.process_time()
    (frames,) = decode([Video(path="")], path, [VisualCnn3d()])
    assert frames.images.shape == (285 * 16, 112, 112, 3)
    assert time.process_time() - started < 60
