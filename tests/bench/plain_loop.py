"""What one would write without Affectory: one process that goes over the clips, in order, and saves arrays of each.

    python -m tests.bench.plain_loop mfcc|is10|hjcag|mulg CLIPS OUT [WEIGHTS]

A clip is NAME.wav, and NAME.mp4 and NAME.txt for the sets of both papers, whose networks are read from the folder
WEIGHTS. Each library has as many threads as it takes. It imports nothing of Affectory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Features = Callable[[Path], Mapping[str, Any]]
"""From the path of a clip's sound to its arrays by name."""


def mfcc() -> Features:
    """13 coefficients with two deltas, every 10 ms, by `librosa.feature`."""
    import librosa
    import soundfile

    def features(clip: Path) -> Mapping[str, Any]:
        samples, rate_hz = soundfile.read(clip, dtype="float32")
        frame = {"n_fft": 512, "win_length": 400, "hop_length": 160}
        frames = librosa.feature.mfcc(y=samples, sr=rate_hz, n_mfcc=13, n_mels=40, **frame)
        deltas = [librosa.feature.delta(frames, order=order, mode="nearest") for order in (1, 2)]
        return {"mfcc": np.concatenate([frames, *deltas])}

    return features


def smile(name: str, level: str) -> Features:
    """A feature set of openSMILE's, its functionals or its low-level descriptors."""
    import opensmile

    of = opensmile.Smile(opensmile.FeatureSet[name], opensmile.FeatureLevel[level])
    return lambda clip: {"smile": of.process_file(str(clip)).to_numpy()}


def is10() -> Features:
    """openSMILE's 1582 functionals."""
    return smile("IS10", "Functionals")


def roberta(weights: Path) -> Features:
    """The last hidden states of a text without its end."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(weights), AutoModel.from_pretrained(weights).eval()

    @torch.inference_mode()
    def features(clip: Path) -> Mapping[str, Any]:
        ids = tokenizer(clip.with_suffix(".txt").read_text(), return_tensors="pt").input_ids
        return {"text": model(input_ids=ids).last_hidden_state[0, :-1].numpy()}

    return features


def word2vec(weights: Path) -> Features:
    """A vector for each word."""
    from gensim.models import KeyedVectors

    vectors = KeyedVectors.load_word2vec_format(weights, binary=True)

    def features(clip: Path) -> Mapping[str, Any]:
        return {"text": np.stack([vectors[word] for word in clip.with_suffix(".txt").read_text().lower().split()])}

    return features


def pictures(clip: Path, at_s: Any, size: int) -> Any:
    """The frames on screen at these times, [N, 3, size, size] of 0 to 1: the short side is shrunk, the centre cut."""
    import cv2
    import decord
    import torch

    film = decord.VideoReader(str(clip.with_suffix(".mp4")))
    frames = film.get_batch((at_s * film.get_avg_fps() + 1e-6).astype(int)).asnumpy()
    height, width = frames.shape[1:3]
    to = (round(width * size / height), size)
    left = (to[0] - size) // 2
    cut = np.stack([cv2.resize(f, to, interpolation=cv2.INTER_AREA)[:, left : left + size] for f in frames])
    return torch.from_numpy(cut).movedim(-1, 1).float().div(255)


def resnet50(weights: Path) -> Features:
    """The pooled features of 30 frames, from the centres of as many equal parts of 4 s."""
    import torch
    import torchvision
    from safetensors.torch import load_file

    model = torchvision.models.resnet50()
    model.load_state_dict(load_file(weights))
    model.fc = torch.nn.Identity()
    model.eval()
    scale = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    @torch.inference_mode()
    def features(clip: Path) -> Mapping[str, Any]:
        return {"visual": model(scale(pictures(clip, (np.arange(30) + 0.5) * 4 / 30, 224))).numpy()}

    return features


def r3d_18(weights: Path) -> Features:
    """The last maps, at their largest over space and time, of clips of 16 frames at 15 Hz."""
    import torch
    import torchvision
    from safetensors.torch import load_file

    model = torchvision.models.video.r3d_18()
    model.load_state_dict(load_file(weights))
    model.avgpool, model.fc = torch.nn.AdaptiveMaxPool3d(1), torch.nn.Identity()
    model.eval()
    scale = torchvision.transforms.Normalize((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))

    @torch.inference_mode()
    def features(clip: Path) -> Mapping[str, Any]:
        frames = scale(pictures(clip, (np.arange(48) + 0.5) / 15, 112))
        return {"visual": model(frames.unflatten(0, (3, 16)).movedim(1, 2)).numpy()}  # [3, 3, 16, 112, 112] -> [3, D]

    return features


def hjcag(weights: Path) -> list[Features]:
    """RoBERTa-large, IS10 and ResNet-50."""
    return [roberta(weights / "roberta"), is10(), resnet50(weights / "resnet50.safetensors")]


def mulg(weights: Path) -> list[Features]:
    """word2vec, eGeMAPS' low-level descriptors, MFCC and a 3D-CNN. The CNN over words is left out: it is training."""
    lld = smile("eGeMAPSv02", "LowLevelDescriptors")
    return [word2vec(weights / "words.bin"), lld, mfcc(), r3d_18(weights / "r3d_18.safetensors")]


SETS: Mapping[str, Callable[[Path], list[Features]]] = {
    "mfcc": lambda weights: [mfcc()],
    "is10": lambda weights: [is10()],
    "hjcag": hjcag,
    "mulg": mulg,
}


def main(name: str, clips: str, out: str, weights: str = "") -> None:
    """Saves the features of every clip as an .npz file of its name."""
    parts = SETS[name](Path(weights))
    for clip in sorted(Path(clips).glob("*.wav")):
        arrays = {key: value for features in parts for key, value in features(clip).items()}
        np.savez(Path(out) / clip.stem, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
