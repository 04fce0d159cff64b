"""A stretch of a long film: the frames from the last key frame on are decoded, and they are those of the whole film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.media import video_frames
from pipeline.media.video_timeline import read_timeline
from tests.pipeline.media.video_kinds import B, Kind, write

FRAMES, GROUP, LENGTH = 400, 12, 10
DELAY = 4
"""How many frames a decoder may hold back until it shows one."""
SEEKING = [
    Kind("h264-mp4", "As MELD's films.", options=B),
    Kind("mpeg4-avi", "As IEMOCAP's dialogues.", "mpeg4", container="avi"),
    Kind("mpeg4-avi-b-frames", "With frames that look forward.", "mpeg4", container="avi", options={"bf": "2"}),
    Kind("h264-avi-b-frames", "A film whose packets hide the order of its frames.", container="avi", options=B),
    Kind("h264-open-groups", "Key frames that later frames look back beyond.", options={
        **B, "x264-params": "open-gop=1:scenecut=0"}),
    Kind("h264-variable-rate", "Frames at uneven times.", options=B, ticks=range(0, 3 * FRAMES, 3)),
]  # fmt: skip
FROM_THE_START = [
    Kind("h264-ts", "A container without an index.", container="ts", options=B),
    Kind("h264-avi-open-groups", "Neither the packets nor the key frames tell the order.", container="avi", options={
        **B, "x264-params": "open-gop=1:scenecut=0"}),
]  # fmt: skip


def film(kind: Kind, folder: Path) -> Path:
    ticks = kind.ticks if len(kind.ticks) == FRAMES else range(FRAMES)
    long = {"size": (48, 32), "ticks": ticks, "options": {**kind.options, "g": str(GROUP)}}
    return write(Kind(**{**vars(kind), **long}), folder / f"film.{kind.container}")


@pytest.fixture
def packets_decoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The packets that PyAV has been given."""
    given: list[Any] = []
    decode = video_frames._decode

    def counted(packet: Any) -> Any:
        given.append(packet)
        return decode(packet)

    monkeypatch.setattr(video_frames, "_decode", counted)
    return given


def late_in(path: Path, given: list[Any]) -> int:
    """How many packets a stretch late in the film costs, whose frames have to be those of the whole film."""
    timeline = read_timeline(path)
    late = range(len(timeline.ticks) - 3 * GROUP, len(timeline.ticks) - 3 * GROUP + LENGTH)
    truth = dict(video_frames.by_pyav(path, timeline, range(len(timeline.ticks)), late))
    given.clear()
    frames = dict(video_frames.by_pyav(path, timeline, late, late))
    assert list(frames) == list(late) and all(np.array_equal(frames[index], truth[index]) for index in late)
    return len(given)


@pytest.mark.parametrize("kind", SEEKING, ids=lambda kind: kind.name)
def test_what_is_before_the_last_key_frame_is_not_decoded(
    kind: Kind, tmp_path: Path, packets_decoded: list[Any]
) -> None:
    assert late_in(film(kind, tmp_path), packets_decoded) <= 2 * GROUP + LENGTH + DELAY


@pytest.mark.parametrize("kind", FROM_THE_START, ids=lambda kind: kind.name)
def test_a_film_in_which_no_seek_is_exact_is_decoded_from_its_start(
    kind: Kind, tmp_path: Path, packets_decoded: list[Any]
) -> None:
    assert late_in(film(kind, tmp_path), packets_decoded) > FRAMES - 3 * GROUP
