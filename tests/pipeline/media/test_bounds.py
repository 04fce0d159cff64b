"""A small file that decodes to a huge thing costs its own row: not the process, its memory or its neighbours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from pipeline.cache import keys
from pipeline.errors import InputError
from pipeline.media import bounds, decode, doctor_file, doctor_rules, video
from pipeline.media.child import Child
from pipeline.reason import Reason, Unreadable
from pipeline.stage import Stage
from pipeline.utterance import Audio, Utterance, Video
from tests import bombs, clips
from tests.clinic import RATE, Clinic, film, tone, with_sound
from tests.every_frame import EveryFrame

MIB = 2**20


class Corner(EveryFrame):
    """The first pixels of every frame."""

    def shrink(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The corner, uint8 [4, 4, 3]."""
        return image[:4, :4]


class Enlarged(EveryFrame):
    """Every frame, much enlarged."""

    def shrink(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Nothing, uint8 [20000, 20000, 3], of which no page is ever touched."""
        return np.empty((20_000, 20_000, 3), np.uint8)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of sound with a bomb among them, and films with one that is too large to decode."""
    root = tmp_path_factory.mktemp("bombs")
    for number in (0, 1, 3, 4):
        clips.write_sound(root / f"{number}.wav", 0.3, number)
        film(root / f"{number}.mp4", [40 * number + 20] * 3)
    bombs.sound(root / "2.wav", 12_000.0)
    bombs.film(root / "2.mp4", 16_000, 16_000)
    return root


@pytest.fixture
def fresh_child(request: pytest.FixtureRequest) -> Iterator[None]:
    """A decoding process of the test's own."""
    decode._child.cache_clear()
    yield
    decode._child().close()
    decode._child.cache_clear()


def peak_bytes() -> int:
    """The most memory that the decoding process has held so far."""
    process = decode._child()._process
    assert process is not None
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def decoded(kind: str, root: Path, paths: Sequence[str], tmp_path: Path) -> dict[str, decode.Decoded]:
    rows = [_row(kind, root, path) for path in paths]
    wanted: list[list[tuple[str, Stage]]] = [[("stage", Corner())]] * len(rows)
    return {row.id: got for row, got in decode.decoded(kind, rows, root, wanted, tmp_path / "digests.sqlite")}


def _row(kind: str, root: Path, path: str) -> Utterance:
    digest = keys.file_digest(root / path)
    media: dict[str, Any] = {kind: ({"audio": Audio, "video": Video}[kind](path=path, digest=digest),)}
    return Utterance(id=path, dialogue="d", turn=0, **media)


def reasons(found: dict[str, decode.Decoded]) -> dict[str, Reason]:
    return {name: got.reason for name, got in found.items() if isinstance(got, Unreadable)}


@pytest.mark.parametrize("kind, ending", [("audio", "wav"), ("video", "mp4")])
def test_a_bomb_in_the_middle_costs_its_own_row_and_the_decoding_process_lives_and_stays_small(
    corpus: Path, tmp_path: Path, fresh_child: None, kind: str, ending: str
) -> None:
    names = [f"{number}.{ending}" for number in range(5)]
    decoded(kind, corpus, names[:1], tmp_path)
    child = decode._child()._process
    found = decoded(kind, corpus, names, tmp_path)
    assert reasons(found).keys() == {f"2.{ending}"} and not reasons(found)[f"2.{ending}"].transient
    assert decode._child()._process is child and peak_bytes() < 600 * MIB
    alone = decoded(kind, corpus, ["4" + names[4][1:]], tmp_path)
    for name in alone:
        assert _values(found[name]).tobytes() == _values(alone[name]).tobytes()


def _values(got: decode.Decoded) -> NDArray[Any]:
    assert not isinstance(got, Unreadable)
    value = got["stage"]
    array: NDArray[Any] = value.samples if hasattr(value, "samples") else value.images
    return array


def test_pictures_of_8k_are_decoded_and_those_of_more_than_64_megapixels_have_a_reason_with_their_size(
    tmp_path: Path,
) -> None:
    bombs.film(tmp_path / "8k.mov", 7680, 4320)
    bombs.film(tmp_path / "large.mov", 8192, 8193)
    [frames] = video.decode([Video(path="8k.mov")], tmp_path, [Corner()])
    assert frames.images.shape == (2, 4, 4, 3)
    with pytest.raises(Unreadable, match="pictures of 8192 x 8193") as caught:
        video.decode([Video(path="large.mov")], tmp_path, [Corner()])
    assert caught.value.reason is Reason.TOO_LARGE and not caught.value.reason.transient


def test_the_doctor_gives_the_reason_of_extraction_for_pictures_that_are_too_large(tmp_path: Path) -> None:
    bombs.film(tmp_path / "large.mov", 16_000, 16_000)
    with pytest.raises(Unreadable) as caught:
        doctor_file.examine("video", tmp_path / "large.mov")
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_row_of_more_pictures_than_stages_may_get_is_refused_before_they_are_held(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", [20, 60])
    with pytest.raises(Unreadable, match=r"2\.24 GiB for one utterance") as caught:
        video.decode([Video(path="a.mp4")], tmp_path, [Enlarged()])
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_clip_that_needs_more_than_the_bound_costs_itself_and_the_next_clip_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_child: None
) -> None:
    monkeypatch.setenv(bounds.SETTING, "0.5")
    film(tmp_path / "0.mp4", [20, 60])
    bombs.film(tmp_path / "1.mp4", 8192, 8192)
    film(tmp_path / "2.mp4", [20, 60])
    found = decoded("video", tmp_path, ["0.mp4", "1.mp4", "2.mp4"], tmp_path)
    outgrown = found["1.mp4"]
    assert isinstance(outgrown, Unreadable) and reasons(found).keys() == {"1.mp4"}
    assert outgrown.reason in (Reason.TOO_LARGE, Reason.OUT_OF_MEMORY)
    assert peak_bytes() < 512 * MIB


def fill(size: int) -> int:
    """Holds so many bytes, in small pieces, as long as it takes to see it."""
    held = [np.ones(MIB, np.uint8) for _ in range(size // MIB)]
    return len(held)


def test_a_process_that_grows_is_ended_below_its_bound_so_that_no_library_is_refused_memory() -> None:
    bound = bounds.decoder_bound()
    assert bound.most_bytes < bounds.decoder_bytes() and bound.reason is Reason.TOO_LARGE
    assert bounds.SETTING in bound.advice


def test_the_kernel_refuses_a_decoding_process_more_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(bounds.SETTING, "0.25")
    with Child(prepare=bounds.bound_this_process) as child:
        assert child.call(fill, 64 * MIB, deadline_s=30) == 64
        with pytest.raises(Unreadable, match="MemoryError") as caught:
            child.call(fill, 512 * MIB, deadline_s=30)
        assert caught.value.reason is Reason.OUT_OF_MEMORY
        assert child.call(fill, 64 * MIB, deadline_s=30) == 64


@pytest.mark.parametrize("text", ["much", "0.1", "nan", "-4"])
def test_a_setting_that_is_no_number_of_gibibytes_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(bounds.SETTING, text)
    with pytest.raises(InputError, match=bounds.SETTING):
        bounds.decoder_bytes()


def test_the_doctor_examines_a_file_anew_that_was_too_large_because_a_setting_may_allow_it_by_now(
    tmp_path: Path,
) -> None:
    (tmp_path / "corpus").mkdir()
    clinic = Clinic(tmp_path / "corpus", tmp_path / "home", [])
    clinic.add("large", video=bombs.film(clinic.root / "large.mov", 16_000, 16_000).name)
    assert [clinic.examined()["probed"], clinic.examined()["probed"]] == [1, 1]
    assert {found["code"] for found in clinic.findings().values()} == {"too_large"}


@pytest.mark.parametrize("name", ["a.wav", "a.ogg", "a.mkv"])
def test_a_row_of_more_sound_than_stages_may_get_is_refused_alike_by_extraction_and_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(bounds, "ROW_BYTES", 4 * RATE)
    if name == "a.mkv":
        with_sound(film(tmp_path / "film.mp4", [20] * 20), tmp_path / name, tone(2))
    else:
        soundfile.write(tmp_path / name, tone(2), RATE)
    facts = doctor_file.examine("audio", tmp_path / name)
    for audio, reason in ((Audio(path=name), Reason.TOO_LARGE), (Audio(path=name, start_s=0.5, end_s=1.25), None)):
        found = [problem.code for problem in doctor_rules.problems(_sounding(audio), [audio], [facts], alone=False)]
        assert found == ([] if reason is None else [reason])
        assert _reason(audio, tmp_path) is reason


def _sounding(audio: Audio) -> Utterance:
    return Utterance(id="a", dialogue="d", turn=0, audio=(audio,))


def _reason(audio: Audio, root: Path) -> Reason | None:
    try:
        decode.read("audio", [audio], root, [Corner()])
    except Unreadable as error:
        return error.reason
    return None
