"""Which decoder serves a file, and that where decord serves, its images are PyAV's to the bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.cli.main import main
from pipeline.errors import MachineError
from pipeline.media.child import Child
from pipeline.media.decode import read
from pipeline.media.doctor_file import examine
from pipeline.media.doctor_rules import VideoFacts
from pipeline.media.h264 import Watch
from pipeline.media.video import prepare
from pipeline.media.video_decoder import decoder
from pipeline.media.video_frames import by_pyav, frames
from pipeline.media.video_timeline import Timeline, read_timeline
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Video
from stages.visual_resnet50 import VisualResnet50
from tests.pipeline.media.video_kinds import FEW, KINDS, Kind, write

BY_NAME = {kind.name: kind for kind in KINDS}


def film(name: str, folder: Path) -> Path:
    kind = BY_NAME[name]
    return write(kind, folder / f"{name}.{kind.container}")


def differ(one: np.ndarray, other: np.ndarray) -> bool:  # type: ignore[type-arg]
    return one.shape != other.shape or not np.array_equal(one, other)


def wrong_frames(path: Path, timeline: Timeline) -> list[int]:
    """The frames that are others in extraction than when PyAV decodes the whole film: read all together, or alone."""
    every = range(len(timeline.ticks))
    truth = dict(by_pyav(path, timeline, every, every))
    together = dict(frames(path, timeline, every, every))
    alone = {index: dict(frames(path, timeline, range(index, every.stop), [index]))[index] for index in every}
    return [index for index in every if differ(together[index], truth[index]) or differ(alone[index], truth[index])]


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[] if kind.name in FEW else pytest.mark.slow, id=kind.name) for kind in KINDS],
)
def test_each_kind_of_video_has_its_decoder_and_every_frame_is_the_same_by_pyav_and_after_a_seek(
    kind: Kind, tmp_path: Path
) -> None:
    path = write(kind, tmp_path / f"film.{kind.container}")
    timeline = read_timeline(path)
    assert len(timeline.ticks) == len(kind.ticks)
    assert (decoder(path, timeline), wrong_frames(path, timeline)) == (kind.decoder, [])


def test_the_list_of_kinds_is_long_and_those_of_the_default_suite_are_on_it() -> None:
    assert len(BY_NAME) == len(KINDS) > 100
    assert sum(kind.decoder == "decord" for kind in KINDS) > 30
    assert set(FEW) <= BY_NAME.keys()


def test_the_decoder_depends_on_the_bytes_and_not_on_the_name_of_the_file(tmp_path: Path) -> None:
    path = film("h264", tmp_path)
    other = tmp_path / "other.avi"
    shutil.copy(path, other)
    assert decoder(other, read_timeline(other)) == "decord"


def test_the_doctor_records_which_decoder_serves(tmp_path: Path) -> None:
    facts = [examine("video", film(name, tmp_path)) for name in ("h264", "h264-10-bit")]
    assert [isinstance(each, VideoFacts) and each.decoder for each in facts] == ["decord", "PyAV"]


def test_a_stream_whose_headers_change_on_the_way_is_not_left_to_decord(tmp_path: Path) -> None:
    """As of two films that were joined: the second is interlaced, and the container knows the first alone."""
    first, second = film("h264", tmp_path), film("h264-top-field-first", tmp_path)
    path = tmp_path / "joined.mp4"
    with av.open(str(path), "w") as joined:
        stream = None
        for number, source in enumerate((first, second)):
            with av.open(str(source)) as container:
                stream = stream or joined.add_stream_from_template(container.streams.video[0])
                units = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", container.streams.video[0])
                for packet in [p for p in container.demux(video=0) if p.size]:
                    for unit in units.filter(packet):
                        _mux(joined, stream, unit, number * 12 * 512)
    timeline = read_timeline(path)
    assert not timeline.headers.progressive and decoder(path, timeline) == "PyAV"


def _mux(joined: av.container.OutputContainer, stream: av.VideoStream, unit: av.Packet, later: int) -> None:
    data = bytes(unit)
    parts = [part for part in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if part]
    packet = av.Packet(b"".join(len(part).to_bytes(4, "big") + part for part in parts))
    packet.stream, packet.time_base, packet.is_keyframe = stream, unit.time_base, unit.is_keyframe
    packet.pts, packet.dts, packet.duration = unit.pts + later, unit.dts + later, unit.duration
    joined.mux(packet)


def test_a_damaged_parameter_set_admits_interlacing(tmp_path: Path) -> None:
    with av.open(str(film("h264", tmp_path))) as container:
        extradata = bytes(container.streams.video[0].codec_context.extradata or b"")
    assert Watch(extradata).progressive
    assert not any(Watch(extradata[:length]).progressive for length in range(16))
    assert not Watch(b"").starts(b"") and not Watch(extradata).starts(b"\0\0\0\1")


def test_colours_that_cannot_be_converted_are_a_decode_error(tmp_path: Path) -> None:
    path = write(Kind("ycgco", "A matrix that FFmpeg does not convert.", colour={"colorspace": 8}), tmp_path / "a.mp4")
    timeline = read_timeline(path)
    assert decoder(path, timeline) == "PyAV"
    with pytest.raises(Unreadable) as caught:
        dict(frames(path, timeline, range(12), [0]))
    assert caught.value.reason is Reason.DECODE_ERROR


@pytest.fixture
def without_decord(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where decord does not load, also in child processes."""
    import sys

    (tmp_path / "broken" / "decord").mkdir(parents=True)
    (tmp_path / "broken" / "decord" / "__init__.py").write_text("raise ImportError('libdecord.so is not here')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "broken"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "decord"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("without_decord")
def test_without_decord_a_film_that_it_serves_is_an_error_of_the_machine_and_others_are_read(tmp_path: Path) -> None:
    ten_bit = film("h264-10-bit", tmp_path)
    assert wrong_frames(ten_bit, read_timeline(ten_bit)) == []
    film("h264", tmp_path)
    with Child(prepare=prepare) as child, pytest.raises(MachineError, match=r"decord.*libdecord\.so is not here"):
        child.call(read, "video", [Video(path="h264.mp4")], tmp_path, [VisualResnet50()], deadline_s=60)


RECIPE = """
[dataset]
reader = "table"
labels = "label"

[features.seen]
visual = { stage = "visual_resnet50", frames = 2, size = 32, weights = "random", align = { mode = "pad", length = 2 } }
"""


@pytest.mark.usefixtures("without_decord")
def test_without_decord_extract_ends_with_one_message_and_no_row_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "corpus"
    root.mkdir()
    film("h264", root)
    (root / "utterances.csv").write_text("utterance,video\na,h264.mp4\n")
    recipe = tmp_path / "seen.toml"
    recipe.write_text(RECIPE)
    monkeypatch.setenv("AFFECTORY_HOME", str(tmp_path / "home"))
    command = ["affectory", "extract", "--dataset", str(recipe), "--root", str(root), "--workers", "0"]
    monkeypatch.setattr("sys.argv", command)
    with Child(prepare=prepare) as child, pytest.raises(SystemExit) as ended:
        monkeypatch.setattr("pipeline.media.decode._child", lambda: child)  # the kept one may have loaded decord
        main()
    assert ended.value.code == MachineError.exit_code
    assert "decord cannot be loaded" in capsys.readouterr().err
    assert not list((tmp_path / "home" / "cache").rglob("*.parquet"))
