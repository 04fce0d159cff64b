"""Hidden states of speech encoders: those of `transformers`, whatever else is in the batch, on a grid or pooled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    BertConfig,
    HubertConfig,
    PreTrainedConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
)

from pipeline.errors import InputError
from pipeline.reason import Reason
from pipeline.stage import Item, Track, Waveform
from stages.audio_mfcc import AudioMfcc
from stages.audio_wavlm import PUBLISHED, AudioWavlm
from tests.stages.test_audio_kit import read as heard

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
STABLE: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
RANDOM = AudioWavlm(init="random", hidden=16, heads=2, layers=1)
KINDS = [
    pytest.param(WavLMConfig, {}, False, id="wavlm base"),
    pytest.param(WavLMConfig, STABLE, True, id="wavlm large"),
    pytest.param(HubertConfig, {}, True, id="hubert base"),
    pytest.param(HubertConfig, STABLE, True, id="hubert large"),
    pytest.param(Wav2Vec2Config, {}, True, id="wav2vec 2.0 base"),
    pytest.param(Wav2Vec2Config, STABLE | {"add_adapter": True}, False, id="wav2vec 2.0 large with an adapter"),
]


def saved(folder: Path, kind: type[PreTrainedConfig] = WavLMConfig, normalize: bool = True, **more: Any) -> Path:
    """A small encoder of random weights as `transformers` saves one."""
    torch.manual_seed(0)
    AutoModel.from_config(kind(**SIZES, **more)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=normalize).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("wavlm"))


def noise(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0.02, 0.1, count).astype(np.float32)


def item(samples: NDArray[np.float32], rate_hz: int = 16000) -> Item:
    return Item("u", {"audio": Waveform(samples, rate_hz)})


def track(stage: AudioWavlm, samples: NDArray[np.float32], rate_hz: int = 16000) -> Track:
    stage.check()
    return stage.transform(stage.load("cpu"), None, [item(samples, rate_hz)])[0]


def values(stage: AudioWavlm, samples: NDArray[np.float32], rate_hz: int = 16000) -> NDArray[np.float32]:
    found = track(stage, samples, rate_hz).values
    assert found is not None
    return found


def expected(folder: Path, samples: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The hidden states as `transformers` gives them, [T, H] each."""
    given = AutoFeatureExtractor.from_pretrained(folder)(samples, sampling_rate=16000, return_tensors="pt")
    model = AutoModel.from_pretrained(folder).eval()
    model.adapter = None
    with torch.inference_mode():
        return [state[0].numpy() for state in model(given.input_values, output_hidden_states=True).hidden_states]


@pytest.mark.parametrize(("kind", "more", "normalize"), KINDS)
def test_states_are_those_of_transformers_at_every_layer(
    tmp_path: Path, kind: type[PreTrainedConfig], more: dict[str, Any], normalize: bool
) -> None:
    folder, samples = saved(tmp_path, kind, normalize, **more), noise(16123)
    for layer, states in enumerate(expected(folder, samples)):
        for index in (layer, layer - 3):
            found = values(AudioWavlm(model=str(folder), layer=index), samples)
            assert found.shape == states.shape == (50, 16)
            np.testing.assert_allclose(found, states, atol=1e-4)


def test_the_preprocessor_configuration_decides_whether_loudness_counts(tmp_path: Path) -> None:
    plain, scaled = (saved(tmp_path / str(n), Wav2Vec2Config, n, feat_extract_norm="layer") for n in (False, True))
    alike = [
        np.allclose(*(values(AudioWavlm(model=str(folder)), gain * noise(8000)) for gain in (1, 4)), atol=1e-3)
        for folder in (plain, scaled)
    ]
    assert alike == [False, True]


def test_a_clip_is_brought_to_the_rate_of_the_encoder(folder: Path) -> None:
    assert len(values(AudioWavlm(model=str(folder)), noise(44100), 44100)) == 49


def test_steps_stand_at_the_centres_of_what_they_see(folder: Path) -> None:
    found = track(AudioWavlm(model=str(folder)), noise(16000)).time_s
    assert found is not None and np.allclose(found, 0.0125 + 0.02 * np.arange(49))


def test_the_grid_holds_means_of_the_steps_and_is_that_of_the_other_stages(folder: Path) -> None:
    stage, samples = AudioWavlm(model=str(folder), pool="grid", rate_hz=12.5), noise(16000)
    result, states = track(stage, samples), values(AudioWavlm(model=str(folder)), samples)
    (other,) = AudioMfcc(rate_hz=12.5).transform(None, None, [item(samples)])
    assert result.values is not None and result.time_s is not None and other.time_s is not None
    assert np.array_equal(result.time_s, other.time_s)
    np.testing.assert_allclose(result.values[3], states[12:16].mean(0), atol=1e-6)


def test_the_mean_is_one_step_in_the_middle(folder: Path) -> None:
    result = track(AudioWavlm(model=str(folder), pool="mean"), noise(16000))
    assert result.values is not None and result.time_s is not None
    assert result.values.shape == (1, 16) and result.time_s.tolist() == [0.5]
    np.testing.assert_allclose(result.values[0], values(AudioWavlm(model=str(folder)), noise(16000)).mean(0), atol=1e-6)


def test_neither_neighbours_nor_their_order_move_a_value(folder: Path) -> None:
    stage = AudioWavlm(model=str(folder))
    loaded, items = stage.load("cpu"), [item(noise(count, count)) for count in (400, 3000, 48000, 48000, 9000)]
    together = stage.transform(loaded, None, items)
    alone = [stage.transform(loaded, None, [each])[0] for each in items]
    reverse = stage.transform(loaded, None, items[::-1])[::-1]
    for one, two, three in zip(together, alone, reverse, strict=True):
        assert np.array_equal(one.values, two.values) and np.array_equal(one.values, three.values)  # type: ignore[arg-type]


def test_zeros_behind_a_clip_would_move_its_values_so_clips_are_never_padded(folder: Path) -> None:
    short = values(AudioWavlm(model=str(folder)), noise(16000))
    padded = values(AudioWavlm(model=str(folder)), np.pad(noise(16000), (0, 16000)))[: len(short)]
    assert np.abs(short - padded).max() > 1e-2


@pytest.mark.parametrize("seconds", [1.0, 1.1, 2.5, 3.0, 7.77])
def test_a_long_clip_is_cut_without_leaving_a_step_out(tmp_path: Path, seconds: float) -> None:
    folder = saved(tmp_path, normalize=False)
    samples = noise(round(16000 * seconds))
    whole, cut = (track(AudioWavlm(model=str(folder), chunk_s=chunk_s), samples) for chunk_s in (30.0, 1.0))
    assert np.array_equal(whole.time_s, cut.time_s)  # type: ignore[arg-type]
    assert whole.values is not None and cut.values is not None and whole.values.shape == cut.values.shape
    assert np.array_equal(whole.values, cut.values) == (seconds == 1.0)


def test_each_part_of_a_cut_clip_is_what_the_encoder_gives_for_it_alone(tmp_path: Path) -> None:
    stage, samples = AudioWavlm(model=str(saved(tmp_path, normalize=False)), chunk_s=1.0), noise(32000)
    found = values(stage, samples)
    halves = [values(stage, samples[: 49 * 320 + 400]), values(stage, samples[50 * 320 :])]
    np.testing.assert_allclose(found, np.concatenate(halves), atol=1e-6)


def test_a_clip_shorter_than_one_step_is_too_short() -> None:
    assert track(RANDOM, noise(399)).reason is Reason.TOO_SHORT
    assert track(RANDOM, noise(0)).reason is Reason.TOO_SHORT
    assert len(values(RANDOM, noise(400))) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_samples_that_are_not_finite_or_too_large_are_a_reason(bad: float) -> None:
    samples = noise(16000)
    samples[8000] = bad
    assert track(RANDOM, samples).reason is Reason.NON_FINITE


def test_silence_gives_finite_values() -> None:
    assert np.isfinite(values(RANDOM, np.zeros(16000, np.float32))).all()


def test_random_weights_are_a_function_of_the_seed_and_leave_the_callers_state() -> None:
    before = torch.get_rng_state()
    first, again, other = (
        values(AudioWavlm(init="random", hidden=16, heads=2, layers=1, seed=seed), noise(4000)) for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(first, again) and not np.allclose(first, other, atol=1e-3)


def test_bfloat16_is_near_float32_and_comes_out_as_float32() -> None:
    right, found = (values(AudioWavlm(init="random", precision=p), noise(16000)) for p in ("float32", "bf16"))
    assert found.dtype == np.float32 and not np.array_equal(found, right)
    assert np.corrcoef(found.ravel(), right.ravel())[0, 1] > 0.95


def test_a_layer_that_is_not_there_is_an_input_error(folder: Path) -> None:
    for layer in (3, -4):
        with pytest.raises(InputError, match="has 3 hidden states: layer is -3 to 2"):
            AudioWavlm(model=str(folder), layer=layer).load("cpu")


def test_a_grid_finer_than_the_steps_is_an_input_error(folder: Path) -> None:
    with pytest.raises(InputError, match="50 steps a second"):
        AudioWavlm(model=str(folder), pool="grid", rate_hz=60.0).load("cpu")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_directory_that_lacks_a_file_is_an_input_error_that_names_all_three(tmp_path: Path, name: str) -> None:
    (saved(tmp_path) / name).unlink()
    with pytest.raises(InputError, match=r"config\.json, model\.safetensors and preprocessor_config\.json"):
        AudioWavlm(model=str(tmp_path)).load("cpu")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_damaged_file_is_an_input_error(tmp_path: Path, name: str) -> None:
    (saved(tmp_path) / name).write_bytes(b'{"a": [')
    with pytest.raises(InputError, match="no weights of"):
        AudioWavlm(model=str(tmp_path)).load("cpu")


def test_weights_that_only_torch_can_read_are_not_read(tmp_path: Path) -> None:
    weights = load_file(saved(tmp_path) / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        AudioWavlm(model=str(tmp_path)).load("cpu")


def test_weights_that_are_incomplete_are_an_input_error_and_not_drawn_at_random(tmp_path: Path) -> None:
    path = saved(tmp_path) / "model.safetensors"
    weights = {name: value for name, value in load_file(path).items() if "layers.1.feed_forward" not in name}
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks \d+ weights of a wavlm"):
        AudioWavlm(model=str(tmp_path)).load("cpu")


def test_a_size_in_the_configuration_that_the_weights_do_not_have_is_an_input_error(tmp_path: Path) -> None:
    config = json.loads((saved(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    with pytest.raises(InputError, match="no weights of"):
        AudioWavlm(model=str(tmp_path)).load("cpu")


def test_an_encoder_of_text_is_refused(tmp_path: Path) -> None:
    AutoModel.from_config(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(
        tmp_path
    )
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no encoder of raw sound"):
        AudioWavlm(model=str(tmp_path)).load("cpu")


def test_the_published_model_is_spelled_out_and_pinned_and_random_weights_name_none() -> None:
    for stage in (AudioWavlm(), AudioWavlm(model=PUBLISHED[0]), TypeAdapter(AudioWavlm).validate_python({})):
        assert (stage.model, stage.revision) == PUBLISHED
    assert (RANDOM.model, RANDOM.revision) == ("", "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "microsoft/wavlm-large"}, "revision"),
        ({"model": "microsoft/wavlm-large", "revision": "main"}, "40 digits, not 'main'"),
        ({"init": "random", "model": "some/encoder"}, "reads no weights"),
        ({"hidden": 64, "seed": 3}, "hidden and seed: only for init"),
        ({"init": "random", "hidden": 40}, "multiple of heads and of 16"),
        ({"init": "random", "layers": 0}, "at least 1"),
        ({"pool": "grid"}, "needs it"),
        ({"rate_hz": 12.5}, "belongs to pool"),
        ({"pool": "mean", "rate_hz": 12.5}, "belongs to pool"),
        ({"pool": "grid", "rate_hz": 0.0}, "above 0"),
        ({"chunk_s": 0.5}, "chunk_s"),
        ({"chunk_s": float("nan")}, "chunk_s"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AudioWavlm(**changes).check()


def test_real_speech_gives_finite_states(kit: Path) -> None:
    paths = sorted((kit / "ravdess" / "wav16k_orig").iterdir())[:3]
    for path in paths:
        assert np.isfinite(values(RANDOM, heard(path).samples)).all()
