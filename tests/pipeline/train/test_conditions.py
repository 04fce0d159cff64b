"""Conditions of an evaluation: which rows lose a modality, and what noise does to a waveform."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cache import keys
from pipeline.media import audio
from pipeline.train.conditions import Condition, with_noise
from pipeline.utterance import Audio, Noise, NoisyAudio, Utterance
from pipeline.views.dataset import Dataset
from pipeline.views.view import open_view
from tests.tiny import CLASSES, IDS, LABELS, NO_AUDIO, NOTHING, N

RATE_HZ = 8_000


@pytest.fixture(scope="module")
def dataset(columns: dict[str, Path]) -> Dataset:
    return Dataset(open_view(IDS, columns), LABELS, CLASSES)


@given(st.floats(0.01, 1), st.floats(0.01, 1))
def test_the_larger_of_two_shares_hides_the_same_rows_and_more(dataset: Dataset, one: float, two: float) -> None:
    rows = np.arange(10, N)
    small, large = (Condition({"audio": share}).hides(dataset, rows)["audio"] for share in sorted((one, two)))
    assert not (small & ~large).any()


def test_a_share_is_of_the_scored_rows_that_have_the_modality(dataset: Dataset) -> None:
    rows = np.arange(10, N)
    hidden = Condition({"audio": 0.5}).hides(dataset, rows)["audio"]
    without = [i for i in (*NOTHING, *NO_AUDIO) if i >= 10]
    assert hidden.sum() == round(0.5 * (N - 10 - len(without)))
    assert not hidden[:10].any() and not hidden[without].any()


def test_a_hidden_modality_has_no_valid_step_and_the_others_are_as_they_were(dataset: Dataset) -> None:
    changed = dataset.hiding(Condition({"audio": 1.0}).hides(dataset, np.arange(N)))
    assert not changed.masks["audio"].any() and changed.masks["text"].equal(dataset.masks["text"])
    assert dataset.masks["audio"].any()
    assert changed.usable.tolist() == dataset.masks["text"].any(dim=1).tolist()


# --- noise -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    wave = 0.1 * np.sin(np.arange(2 * RATE_HZ) / 5)
    soundfile.write(path, wave.astype(np.float32), RATE_HZ, "FLOAT")
    return path


def decoded(clip: Path, noise: Noise | None = None) -> np.ndarray:
    stretch = Audio(path=clip.name) if noise is None else NoisyAudio(path=clip.name, noise=noise)
    [wave] = audio.decode([stretch], clip.parent, [None])  # type: ignore[list-item]
    return wave.samples


def ratio_db(clean: np.ndarray, noisy: np.ndarray) -> float:
    return float(10 * np.log10(np.square(clean).mean() / np.square(noisy - clean).mean()))


@pytest.mark.parametrize("snr_db", [20.0, 0.0, -5.0])
def test_the_noise_has_the_stated_ratio_to_the_sound(clip: Path, tmp_path: Path, snr_db: float) -> None:
    soundfile.write(tmp_path / "hum.wav", np.sin(np.arange(4_000) / 30).astype(np.float32), 16_000, "FLOAT")
    clean = decoded(clip)
    for sound in ("", str(tmp_path / "hum.wav")):
        noisy = decoded(clip, Noise(snr_db=snr_db, seed=3, sound=sound))
        assert ratio_db(clean, noisy) == pytest.approx(snr_db, abs=0.01)


def test_the_noise_of_a_row_is_the_same_at_every_ratio(clip: Path) -> None:
    clean = decoded(clip)
    one, two = (decoded(clip, Noise(snr_db=snr_db, seed=3)) - clean for snr_db in (0.0, 20.0))
    assert np.corrcoef(one, two)[0, 1] > 0.999
    other = decoded(clip, Noise(snr_db=0.0, seed=4)) - clean
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05


def test_silence_stays_silent(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE_HZ, np.float32), RATE_HZ)
    assert not decoded(tmp_path / "silent.wav", Noise(snr_db=0.0, seed=1)).any()


def test_noise_is_in_the_key_of_a_row_and_the_place_of_its_sound_is_not() -> None:
    clean, noise = Audio(path="a.wav", digest="d"), Noise(snr_db=10.0, seed=1, sound="/x/hum.wav", digest="e")
    noisy = NoisyAudio(path="a.wav", digest="d", noise=noise)

    def key(part: Audio) -> str | None:
        return keys.audio_digest([part], 1)

    assert key(noisy) != key(clean)
    assert key(replace(noisy, noise=replace(noise, sound="/y/hum.wav"))) == key(noisy)
    for change in ({"snr_db": 5.0}, {"seed": 2}, {"digest": "f"}):
        assert key(replace(noisy, noise=replace(noise, **change))) != key(noisy)  # type: ignore[arg-type]


def test_only_the_named_rows_get_noise_and_each_its_own() -> None:
    rows = [Utterance(id=name, dialogue="d", turn=i, audio=(Audio(path="a.wav"),)) for i, name in enumerate("abc")]
    changed = with_noise(rows, ["a", "b"], Condition({}, 10.0))
    noises = [part.noise for row in changed for part in row.audio if isinstance(part, NoisyAudio)]
    assert changed[2] == rows[2] and len(noises) == 2 and noises[0].seed != noises[1].seed
