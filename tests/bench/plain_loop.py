"""What one would write without Affectory: one process that goes over the clips, in order, and saves an array of each.

    python -m tests.bench.plain_loop mfcc CLIPS OUT

It imports nothing of Affectory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def mfcc() -> Callable[[Path], Any]:
    """13 coefficients with two deltas, every 10 ms, by `librosa.feature`."""
    import librosa
    import soundfile

    def features(clip: Path) -> Any:
        samples, rate_hz = soundfile.read(clip, dtype="float32")
        frame = {"n_fft": 512, "win_length": 400, "hop_length": 160}
        frames = librosa.feature.mfcc(y=samples, sr=rate_hz, n_mfcc=13, n_mels=40, **frame)
        deltas = [librosa.feature.delta(frames, order=order, mode="nearest") for order in (1, 2)]
        return np.concatenate([frames, *deltas])

    return features


def is10() -> Callable[[Path], Any]:
    """openSMILE's 1582 functionals."""
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.IS10, opensmile.FeatureLevel.Functionals)
    return lambda clip: smile.process_file(str(clip)).to_numpy()


LOOPS = {"mfcc": mfcc, "is10": is10}


def main(name: str, clips: Path, out: Path) -> None:
    """Saves the features of every clip as an .npy file of its name."""
    features = LOOPS[name]()
    for clip in sorted(clips.glob("*.wav")):
        np.save(out / clip.stem, features(clip))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
