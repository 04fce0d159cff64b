"""What the doctor finds: real broken files, and small made ones for everything a decoder hides."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.media.decode import read
from pipeline.media.doctor_file import examine
from pipeline.media.doctor_rules import AudioFacts, Examination, Kind, fails, problems
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Audio, Utterance, Video
from stages.visual_resnet50 import VisualResnet50
from tests.clinic import RATE, Clinic, film, half, moving, tone, wav, with_packets, with_sound


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    root = tmp_path / "corpus"
    root.mkdir()
    return Clinic(root, tmp_path / "home", [])


def test_a_sound_file_of_zeros_is_all_silent(clinic: Clinic) -> None:
    assert clinic.code(wav(clinic.root / "a.wav", tone(1, 0.0)), "audio") == "all_silent"


def test_a_whisper_is_not_silence(clinic: Clinic) -> None:
    assert clinic.code(wav(clinic.root / "a.wav", tone(1, 0.001)), "audio") is None


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_channels_that_cancel_are_found_unless_one_of_them_is_read(clinic: Clinic, name: str) -> None:
    soundfile.write(clinic.root / name, np.stack([tone(1), -0.98 * tone(1)], axis=1), RATE)
    clinic.add("mixed", audio=name)
    clinic.add("left", audio=name, audio_channel=0)
    found = {name: record for (name, _), record in clinic.findings().items()}
    assert (found["mixed"]["code"], found["left"]["code"]) == ("channels_cancel", None)
    assert "audio_channel" in found["mixed"]["detail"]


def test_a_second_channel_that_is_silent_or_late_cancels_nothing(clinic: Clinic) -> None:
    for number, other in enumerate((0 * tone(1), np.roll(tone(1), 4), np.random.default_rng(0).normal(0, 0.2, RATE))):
        soundfile.write(clinic.root / f"{number}.wav", np.stack([tone(1), other], axis=1), RATE)
        clinic.add(str(number), audio=f"{number}.wav")
    assert {record["code"] for record in clinic.findings().values()} == {None}


def test_a_black_film_is_all_black_and_not_merely_frozen(clinic: Clinic) -> None:
    assert clinic.code(film(clinic.root / "a.mp4", [0] * 20), "visual") == "all_black"


def test_a_film_of_one_picture_repeated_is_frozen(clinic: Clinic) -> None:
    assert clinic.code(film(clinic.root / "a.mp4", [200] * 20), "visual") == "frozen"


def test_a_film_that_moves_after_many_equal_frames_is_not_frozen(clinic: Clinic) -> None:
    assert clinic.code(film(clinic.root / "a.mp4", [200] * 15 + moving(1)), "visual") is None


def test_a_film_of_a_single_frame_is_not_frozen(clinic: Clinic) -> None:
    assert clinic.code(film(clinic.root / "a.mp4", [200]), "visual") is None


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi"])
def test_a_film_that_was_cut_ends_early(clinic: Clinic, name: str) -> None:
    path = half(film(clinic.root / name, moving(4), **({"movflags": "faststart"} if name == "a.mp4" else {})))
    assert clinic.code(path, "visual") == "ends_early"


def test_sound_that_was_cut_ends_early_where_extraction_does_not_notice(clinic: Clinic) -> None:
    path = half(with_sound(film(clinic.root / "silent.mp4", moving(4)), clinic.root / "a.mkv", tone(4)))
    assert clinic.code(path, "audio") == "ends_early"


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_sound_that_was_cut_is_a_decode_error_where_extraction_refuses_it(clinic: Clinic, name: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
    soundfile.write(clinic.root / name, noise, RATE)
    assert clinic.code(half(clinic.root / name), "audio") == "decode_error"


def test_an_utterance_that_lies_before_the_cut_is_well(clinic: Clinic) -> None:
    half(wav(clinic.root / "a.wav", tone(4)))
    clinic.add("before", audio="a.wav", audio_start_s=0.5, audio_end_s=1.5)
    clinic.add("across", audio="a.wav", audio_start_s=1.0, audio_end_s=3.0)
    found = clinic.findings()
    assert found["before", "audio"]["code"] is None
    assert found["across", "audio"]["code"] == "decode_error"


def test_sound_that_starts_after_the_pictures_starts_late(clinic: Clinic) -> None:
    path = with_sound(film(clinic.root / "silent.mp4", moving(2)), clinic.root / "a.mkv", tone(1.3), late_s=0.7)
    assert clinic.code(path, "audio") == "starts_late"


def test_an_utterance_after_the_late_start_is_well(clinic: Clinic) -> None:
    path = with_sound(film(clinic.root / "silent.mp4", moving(2)), clinic.root / "a.mkv", tone(1.3), late_s=0.7)
    assert clinic.code(path, "audio", audio_start_s=1.0, audio_end_s=1.9) is None


@pytest.mark.parametrize(("end_s", "code"), [(11.5, "duration_mismatch"), (12.4, None), (14.0, "duration_mismatch")])
def test_a_file_of_another_length_than_its_annotation_is_a_mismatch(
    clinic: Clinic, end_s: float, code: str | None
) -> None:
    assert clinic.code(wav(clinic.root / "a.wav", tone(2.1)), "audio", start_s=10.0, end_s=end_s) == code


def test_utterances_that_share_a_file_are_not_compared_with_its_length(clinic: Clinic) -> None:
    wav(clinic.root / "a.wav", tone(4))
    clinic.add("a", audio="a.wav", start_s=0.0, end_s=1.0)
    clinic.add("b", audio="a.wav", start_s=1.0, end_s=2.0)
    clinic.add("c", audio="c.wav", audio_start_s=0.5, start_s=1.0, end_s=2.0)
    wav(clinic.root / "c.wav", tone(3))
    assert {record["code"] for record in clinic.findings().values()} == {None}


def test_sound_at_full_scale_is_clipped(clinic: Clinic) -> None:
    assert clinic.code(wav(clinic.root / "a.wav", np.clip(tone(1, 2.0), -1, 1)), "audio") == "clipped"


def test_packets_that_do_not_decode_are_damage(clinic: Clinic) -> None:
    silent = film(clinic.root / "silent.mp4", moving(4))
    path = with_sound(silent, clinic.root / "a.mkv", tone(4), damage=slice(3, None, 5))
    assert clinic.code(path, "audio") == "damaged"


def zeroed(packet: bytes) -> bytes:
    return bytes(len(packet))


def repeating(packet: bytes) -> bytes:
    """MPEG-4's packet without a picture: the one before it is shown again."""
    return b"\x00\x00\x01\xb6\x50\x9f"


@pytest.mark.parametrize(
    ("codec", "change", "code"),
    [("libx264", zeroed, "damaged"), ("mpeg4", zeroed, "damaged"), ("mpeg4", repeating, None)],
)
def test_frames_that_do_not_decode_are_damage_and_those_that_repeat_are_not(
    clinic: Clinic, codec: str, change: Callable[[bytes], bytes], code: str | None
) -> None:
    sound = film(clinic.root / "sound.mp4", moving(10), codec)
    path = with_packets(sound, clinic.root / "a.mkv", lambda n, packet: change(packet) if n % 5 in (2, 3) else packet)
    assert clinic.code(path, "visual") == code


def test_a_finding_says_everything_and_is_named_after_the_gravest(clinic: Clinic) -> None:
    path = wav(clinic.root / "a.wav", tone(1, 0.0))
    clinic.add("a", audio=path.name, start_s=0.0, end_s=9.0)
    record = clinic.findings()["a", "audio"]
    assert record["code"] == "all_silent" and "annotated 9.00 s" in record["detail"]


def test_a_file_that_is_not_there_is_missing_and_is_found_once_it_comes(clinic: Clinic) -> None:
    clinic.add("a", audio="a.wav")
    assert clinic.findings()["a", "audio"]["code"] == "missing_file"
    wav(clinic.root / "a.wav", tone(1))
    assert clinic.findings()["a", "audio"]["code"] is None


def test_a_channel_that_the_file_does_not_have_is_no_audio_stream(clinic: Clinic) -> None:
    assert clinic.code(wav(clinic.root / "a.wav", tone(1)), "audio", audio_channel=1) == "no_audio_stream"


def test_samples_that_are_not_finite_cost_the_utterances_that_hold_them(clinic: Clinic) -> None:
    samples = tone(4)
    samples[RATE] = np.inf
    wav(clinic.root / "a.wav", samples, "FLOAT")
    clinic.add("with", audio="a.wav", audio_start_s=0.5, audio_end_s=1.5)
    clinic.add("without", audio="a.wav", audio_start_s=2.0, audio_end_s=3.0)
    found = clinic.findings()
    assert found["with", "audio"]["code"] == "non_finite" and found["without", "audio"]["code"] is None


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_a_stretch_outside_the_file_is_too_short(clinic: Clinic, modality: str) -> None:
    path = with_sound(film(clinic.root / "silent.mp4", moving(1)), clinic.root / "a.mkv", tone(1))
    column = "audio" if modality == "audio" else "video"
    cells = {f"{column}_start_s": 5.0, f"{column}_end_s": 6.0}
    assert clinic.code(path, modality, **cells) == "too_short"


@pytest.mark.parametrize("encoding", ["PCM_U8", "PCM_24", "FLOAT", "DOUBLE"])
def test_the_level_does_not_depend_on_the_encoding(clinic: Clinic, encoding: str) -> None:
    facts = examine("audio", wav(clinic.root / "a.wav", tone(1), encoding))
    assert isinstance(facts, AudioFacts) and facts.rms == pytest.approx(0.3 / 2**0.5, rel=0.02)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mkv", "a.mp4", "a.avi"])
@pytest.mark.parametrize("kind", ["audio", "video"])
def test_a_file_cut_anywhere_has_the_reason_that_extraction_gives(tmp_path: Path, name: str, kind: Kind) -> None:
    path = tmp_path / name
    if path.suffix in (".wav", ".flac"):
        soundfile.write(path, tone(4), RATE)
    else:
        film(path, moving(4), **({"movflags": "faststart"} if path.suffix == ".mp4" else {}))
    content = path.read_bytes()
    for share in (0.0, 0.01, 0.05, 0.3, 0.8, 1.0):
        path.write_bytes(content[: round(share * len(content))])
        assert reason_of_doctor(path, kind) == reason_of_extraction(path, kind), share


def reason_of_doctor(path: Path, kind: Kind) -> Reason | None:
    source = Audio(path=path.name) if kind == "audio" else Video(path=path.name)
    try:
        examination: Examination = examine(kind, path)
    except Unreadable as error:
        examination = error
    row = Utterance(id="a", dialogue="a", turn=0)
    reasons = [problem.code for problem in problems(row, [source], [examination], True) if fails(problem.code)]
    return Reason(reasons[0]) if reasons else None


def reason_of_extraction(path: Path, kind: Kind) -> Reason | None:
    source = Audio(path=path.name) if kind == "audio" else Video(path=path.name)
    stage = VisualResnet50(frames=4, size=64, weights="random")
    try:
        read(kind, [source], path.parent, [stage])
    except Unreadable as why:
        return why.reason
    return None


KIT = {
    ("01_truncated_no_moov.mp4", "audio"): "decode_error",
    ("01_truncated_no_moov.mp4", "visual"): "decode_error",
    ("03_zero_byte.mp4", "audio"): "not_media",
    ("03_zero_byte.mp4", "visual"): "not_media",
    ("04_text_renamed.mp4", "audio"): "not_media",
    ("04_text_renamed.mp4", "visual"): "not_media",
    ("05_video_no_audio_stream.mp4", "audio"): "no_audio_stream",
    ("06_audio_only.mp4", "visual"): "no_video_stream",
    ("13b_single_frame_video_3s_audio.mp4", "visual"): "ends_early",
    ("14_silent_audio.mp4", "audio"): "all_silent",
    ("15_float32_nan_samples.wav", "audio"): "non_finite",
    ("16_10ms_clip.wav", "audio"): "too_short",
    ("24_audio_starts_0.7s_late.mp4", "audio"): "starts_late",
    ("24_audio_starts_0.7s_late.mp4", "visual"): "ends_early",
    ("._22_dia0_utt0.mp4", "audio"): "not_media",
    ("._22_dia0_utt0.mp4", "visual"): "not_media",
    ("pyfeat_WolfgangLanger_Pexels.mp4", "audio"): "all_silent",
    ("pyfeat_face_noface.mov", "audio"): "starts_late",
}


def test_every_file_of_the_kit_has_its_code_and_no_good_one_has_any(clinic: Clinic, kit: Path) -> None:
    for folder in ("bad", "media"):
        for path in sorted((kit / folder).iterdir()):
            shutil.copy(path, clinic.root)
            clinic.add(path.name, audio=path.name, video="" if path.suffix == ".wav" else path.name)
    found = {place: record["code"] for place, record in clinic.findings(workers=2).items()}
    assert {place: code for place, code in found.items() if code} == KIT
    assert len(found) == 30 + 27
