"""Sound keeps its place where time stamps jitter, drift, jump or are damaged. The files are made here, of noise."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.media.audio import decode
from pipeline.media.audio_timeline import Placer
from pipeline.media.doctor_file import examine
from pipeline.media.doctor_rules import AudioFacts, Notice, problems
from pipeline.reason import Reason, Unreadable
from pipeline.remark import Kind
from pipeline.stage import Waveform
from pipeline.utterance import Audio, Utterance
from stages.audio_mfcc import AudioMfcc

RATE = 48000
PACKET = 960  # of Opus, 20 ms
QUARTER = RATE // 4


@pytest.fixture(scope="module")
def noise() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 0.1, 15 * RATE).astype(np.float32)


@pytest.fixture(scope="module")
def packets(noise: NDArray[np.float32]) -> list[bytes]:
    """The noise in Opus packets, without the silence that an encoder puts first."""
    made: list[bytes] = []
    with av.open("/dev/null", "w", format="webm") as container:
        stream = container.add_stream(
            "libopus", rate=RATE, layout="mono", options={"b": "96000", "application": "lowdelay"}
        )
        for first in range(0, len(noise), PACKET):
            frame = av.AudioFrame.from_ndarray(noise[None, first : first + PACKET], format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, first, Fraction(1, RATE)
            made += [bytes(packet) for packet in stream.encode(frame)]
    return made


def recording(path: Path, packets: Sequence[bytes], stamp_ms: Callable[[int], float], lost: Sequence[int] = ()) -> Path:
    """A WebM file as a browser writes it: each packet at a time of its own, in the order of time."""
    with av.open(str(path), "w", format="webm") as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono")
        for index, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = round(stamp_ms(index))
            if index not in lost:
                container.mux(packet)
    return path


def heard(path: Path, start_s: float | None = None, end_s: float | None = None) -> Waveform:
    (wave,) = decode([Audio(path=path.name, start_s=start_s, end_s=end_s)], path.parent, [AudioMfcc()])
    return wave


def late_ms(samples: NDArray[np.float32], noise: NDArray[np.float32], place: int, around: int = QUARTER // 2) -> float:
    """How much later than `place` the quarter second of noise is that was recorded there."""
    begin = max(0, place - around)
    part = samples[begin : place + QUARTER + around]
    size = 2 ** int(np.ceil(np.log2(len(part) + QUARTER)))
    spectrum = np.fft.rfft(part, size) * np.conj(np.fft.rfft(noise[place : place + QUARTER], size))
    likeness = np.fft.irfft(spectrum)[: len(part)]
    assert likeness.max() > 0.3 * float(noise[place : place + QUARTER] @ noise[place : place + QUARTER])
    return float(likeness.argmax() - (place - begin)) / RATE * 1000


def zeros_s(wave: Waveform) -> float:
    return float(np.count_nonzero(wave.samples == 0)) / wave.rate_hz


@pytest.mark.parametrize("jitter_ms", [3, 8, 15, 40])
def test_stamps_that_jitter_put_no_silence_in_and_move_nothing(
    tmp_path: Path, noise: NDArray[np.float32], packets: list[bytes], jitter_ms: int
) -> None:
    random = np.random.default_rng(jitter_ms)
    stamps = np.sort(20 * np.arange(len(packets)) + random.uniform(-jitter_ms, jitter_ms, len(packets)) + jitter_ms)
    stamps[0] = 0 if jitter_ms < 20 else stamps[0]
    path = recording(tmp_path / "a.webm", packets, lambda index: stamps[index])
    wave = heard(path)
    assert zeros_s(wave) < 0.001 and wave.remarks == ()
    assert len(wave.samples) / RATE == pytest.approx(15, abs=0.025)
    for place in range(QUARTER, len(noise) - 2 * QUARTER, QUARTER):
        assert abs(late_ms(wave.samples, noise, place)) < 25
    part = heard(path, 12.0, 13.0).samples
    assert abs(late_ms(part, noise[12 * RATE :], QUARTER)) < 25


@pytest.mark.parametrize("drift", [0.005, -0.005, 0.001])
def test_a_clock_that_drifts_is_followed_without_silence(
    tmp_path: Path, noise: NDArray[np.float32], packets: list[bytes], drift: float
) -> None:
    random = np.random.default_rng(0)
    path = recording(
        tmp_path / "a.webm", packets, lambda index: 20 * index * (1 + drift) + (random.uniform(0, 6) if index else 0)
    )
    wave = heard(path)
    assert zeros_s(wave) < 0.001 and wave.remarks == ()
    assert len(wave.samples) / RATE == pytest.approx(15 * (1 + drift), abs=0.025)
    late = []
    for place in range(QUARTER, len(noise) - 3 * QUARTER, QUARTER):
        found = round(place * (1 + drift))
        late.append(late_ms(np.roll(wave.samples, place - found), noise, place))
    assert np.abs(late).max() < 25


@pytest.mark.parametrize("lost", [range(100, 101), range(100, 103), range(100, 150)])
@pytest.mark.parametrize("jitter_ms", [0, 5])
def test_lost_packets_leave_silence_of_their_length_and_a_remark(
    tmp_path: Path, noise: NDArray[np.float32], packets: list[bytes], lost: range, jitter_ms: int
) -> None:
    random = np.random.default_rng(1)
    path = recording(
        tmp_path / "a.webm", packets, lambda index: 20 * index + (random.uniform(0, jitter_ms) if index else 0), lost
    )
    wave = heard(path)
    assert zeros_s(wave) == pytest.approx(0.02 * len(lost), abs=0.002 + jitter_ms / 1000)
    (remark,) = wave.remarks
    assert remark.kind is Kind.GAP_FILLED and remark.part == pytest.approx(0.02 * len(lost), abs=0.01)
    for place in (QUARTER, 4 * RATE, 10 * RATE):
        assert abs(late_ms(wave.samples, noise, place)) < 25
    assert heard(path, 5.0, 6.0).remarks == ()


def test_one_damaged_stamp_changes_no_sample(tmp_path: Path, packets: list[bytes]) -> None:
    path = recording(tmp_path / "a.webm", packets, lambda index: 20 * index)
    before, data = heard(path), path.read_bytes()
    place = data.index(packets[200]) - 3  # the stamp of a block is the two bytes before its flags
    stamp = (int.from_bytes(data[place : place + 2], "big") + 700).to_bytes(2, "big")
    path.write_bytes(data[:place] + stamp + data[place + 2 :])
    after = heard(path)
    assert np.array_equal(after.samples, before.samples) and after.remarks == ()


def jumping(path: Path, packets: list[bytes], jump_s: float) -> Path:
    return recording(path, packets, lambda index: 20 * index + (1000 * jump_s if index >= 200 else 0))


@pytest.mark.parametrize("jump_s", [30, 1000, 12_000])
def test_a_stretch_that_is_mostly_a_hole_has_a_reason_and_costs_no_memory(
    tmp_path: Path, packets: list[bytes], jump_s: float
) -> None:
    path = jumping(tmp_path / "a.webm", packets, jump_s)
    heard(path, 1.0, 2.0)
    tracemalloc.start()
    try:
        for stretch in ((None, None), (3.0, 6.0), (10.0, 12.0)):
            with pytest.raises(Unreadable) as caught:
                heard(path, *stretch)
            assert caught.value.reason is Reason.DECODE_ERROR and not caught.value.reason.transient
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()
    assert heard(path, jump_s + 5.0, jump_s + 6.0).remarks == ()


def test_a_stretch_with_a_hole_in_less_than_half_of_it_has_a_remark(tmp_path: Path, packets: list[bytes]) -> None:
    wave = heard(jumping(tmp_path / "a.webm", packets, 3.0), 1.0, 9.0)
    (remark,) = wave.remarks
    assert (remark.kind, remark.part, remark.whole) == (Kind.GAP_FILLED, pytest.approx(3, abs=0.01), 8)


@pytest.mark.parametrize("jump_s", [0.0, 0.5, 3.0, 1000.0])
def test_the_doctor_finds_holes_and_gives_the_reasons_of_extraction(
    tmp_path: Path, packets: list[bytes], jump_s: float
) -> None:
    path = jumping(tmp_path / "a.webm", packets, jump_s)
    facts = examine("audio", path)
    assert isinstance(facts, AudioFacts) and facts.end_s == pytest.approx(15 + jump_s, abs=0.01)
    assert [end_s - begin_s for begin_s, end_s in facts.gaps] == pytest.approx([jump_s] if jump_s else [], abs=0.01)
    for start_s, end_s in ((None, None), (0.0, 3.0), (3.0, 5.0), (3.9, 4.6), (1.0, 9.0), (jump_s + 5, jump_s + 6)):
        stretch = Audio(path=path.name, start_s=start_s, end_s=end_s)
        row = Utterance(id="a", dialogue="d", turn=0, audio=(stretch,))
        found = {problem.code for problem in problems(row, (stretch,), (facts,), False)}
        try:
            remarks = heard(path, start_s, end_s).remarks
            assert found == ({Notice.GAP} if remarks else set())
        except Unreadable as error:
            assert found == {error.reason}


def test_two_packets_hours_apart_cost_no_memory(tmp_path: Path, packets: list[bytes]) -> None:
    path = recording(tmp_path / "a.webm", packets[:2], lambda index: 12_000_000 * index)
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable) as caught:
            heard(path)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()
    assert caught.value.reason is Reason.DECODE_ERROR


@pytest.mark.parametrize("step", [0, 1, 480, -480])
def test_frames_whose_stamps_are_rounded_follow_each_other_to_the_sample(step: int) -> None:
    put: list[tuple[int, int]] = []
    placer = Placer(RATE, lambda place, samples: put.append((place, len(samples))))
    for index in range(50):
        placer.add(index * PACKET + step * (index % 2), np.zeros(PACKET, np.float32))
    placer.finish()
    assert put == [(index * PACKET, PACKET) for index in range(50)]


def bare(path: Path, noise: NDArray[np.float32], codec: str) -> bytes:
    """Eight seconds of noise in a format that has no time stamps, or whose stamps count what was found."""
    with av.open(str(path), "w") as container:
        film = container.add_stream("mpeg4", rate=25) if path.suffix == ".avi" else None
        stream = container.add_stream(codec, rate=RATE, layout="mono")
        if film is not None:
            film.width = film.height = 64
        for first in range(0, 8 * RATE, RATE // 25):
            frame = av.AudioFrame.from_ndarray(noise[None, first : first + RATE // 25], format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, first, Fraction(1, RATE)
            container.mux(stream.encode(frame))
            if film is not None:
                picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), first % 200, np.uint8))
                picture.pts, picture.time_base = first * 25 // RATE, Fraction(1, 25)
                container.mux(film.encode(picture))
        for each in (stream, film) if film is not None else (stream,):
            container.mux(each.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.avi", "libmp3lame"), ("a.avi", "pcm_s16le")])
@pytest.mark.parametrize("damage", ["zeros", "noise"])
def test_what_follows_damaged_bytes_stays_in_its_place(
    tmp_path: Path, noise: NDArray[np.float32], name: str, codec: str, damage: str
) -> None:
    path = tmp_path / name
    data = bytearray(bare(path, noise, codec))
    before, size = heard(path), 4000 if codec == "libmp3lame" else 30_000
    lost = np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes() if damage == "noise" else bytes(size)
    data[len(data) // 2 : len(data) // 2 + size] = lost
    path.write_bytes(data)
    after = heard(path)
    constant_ms = late_ms(before.samples, noise, RATE)
    for place in (RATE, 2 * RATE, 5 * RATE, 7 * RATE):
        assert abs(late_ms(after.samples, noise, place, RATE // 2) - constant_ms) < 25
    assert Kind.GAP_FILLED in {remark.kind for remark in after.remarks}
    assert heard(path, 0.5, 1.5).remarks == ()


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp3", "libmp3lame"), ("a.aac", "aac"), ("a.avi", "pcm_s16le"), ("a.avi", "libmp3lame")],
)
def test_where_nothing_says_how_much_was_cut_out_all_that_follows_has_a_remark(
    tmp_path: Path, noise: NDArray[np.float32], name: str, codec: str
) -> None:
    path = tmp_path / name
    data = bytearray(bare(path, noise, codec))
    assert heard(path).remarks == ()
    del data[len(data) // 2 : len(data) // 2 + 4000]
    path.write_bytes(data)
    for stretch in ((None, None), (6.0, 7.0)):
        (remark,) = (remark for remark in heard(path, *stretch).remarks if remark.kind is Kind.DAMAGED)
        assert remark.part == 1 and "may come early" in remark.message
    row = Utterance(id="a", dialogue="d", turn=0, audio=(Audio(path=name),))
    (problem,) = problems(row, row.audio, (examine("audio", path),), False)
    assert problem.code is Notice.DAMAGED and "may come early" in problem.detail
    before = heard(path, 0.5, 1.5).remarks
    assert bool(before) is (name == "a.avi"), "an AVI file says that bytes are missing, and not where"
