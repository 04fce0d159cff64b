"""Missing transcripts are filled by a model of speech recognition, here a tiny one with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from pipeline.bundle.transcribe import transcribe
from pipeline.errors import InputError
from pipeline.utterance import Audio, Utterance


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Processor,
    )

    folder = tmp_path_factory.mktemp("recogniser")
    letters = {"<pad>": 0, "<unk>": 1, "|": 2, "a": 3, "b": 4}
    (folder / "vocab.json").write_text(json.dumps(letters))
    words = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), pad_token="<pad>", unk_token="<unk>")
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), words).save_pretrained(folder)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    convolutions = {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (20, 16), "num_conv_pos_embeddings": 4}
    config = Wav2Vec2Config(vocab_size=5, num_conv_pos_embedding_groups=2, pad_token_id=0, **small, **convolutions)
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(config)
    model.lm_head.bias.data[3] = 100.0  # it hears nothing but a
    model.save_pretrained(folder)
    return folder


def test_rows_without_a_transcript_get_what_is_heard_and_others_stay(recogniser: Path, tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 8000)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    sounds = {"heard": "a.wav", "known": "a.wav", "broken": "broken.wav"}
    rows = [
        Utterance(id=name, dialogue=name, turn=0, text="hi" if name == "known" else None, audio=(Audio(path=path),))
        for name, path in sounds.items()
    ]
    texts = [row.text for row in transcribe(rows, tmp_path, str(recogniser))]
    assert texts == ["a", "hi", None]


def test_a_folder_without_a_recogniser_is_refused(tmp_path: Path) -> None:
    row = Utterance(id="a", dialogue="a", turn=0, audio=(Audio(path="a.wav"),))
    with pytest.raises(InputError, match="no model of speech recognition"):
        transcribe([row], tmp_path, str(tmp_path))
