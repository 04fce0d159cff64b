"""Writes the media of the built-in sample: `python -m tests.sample_clips pipeline/plan/sample_files`.

The files are checked in, and no test writes them anew: another encoder would give other bytes, and with them references
that nothing can be compared with. So this is the record of what they hold, to make another edition of the sample by.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

SECONDS = 1.5


def voice(rate_hz: int, seconds: float) -> np.ndarray:
    """Stereo float [N, 2]: harmonics of a gliding pitch below two formants, a pause, a hiss, another on each side."""
    t = np.arange(int(rate_hz * seconds)) / rate_hz
    pitch = 2 * np.pi * np.cumsum(140 + 40 * np.sin(2 * np.pi * 1.3 * t)) / rate_hz
    formants = [np.exp(-((140 * h - f) ** 2) / 3e5) / h**0.5 for h in range(1, 25) for f in (700, 1800)]
    tone = sum(a * np.sin((i // 2 + 1) * pitch) for i, a in enumerate(formants))
    hiss = np.random.default_rng(7).normal(0, 0.02, (len(t), 2))
    loud = np.where((t > 0.6 * seconds) & (t < 0.7 * seconds), 0.0, 0.2 + 0.1 * np.sin(2 * np.pi * 4 * t))
    return np.clip(loud[:, None] * (tone[:, None] * [0.5, 0.35]) + hiss, -0.9, 0.9).astype(np.float32)


def image(number: int, height: int, width: int) -> np.ndarray:
    """RGB uint8 [h, w, 3]: a face-like disc that moves before a slanting grid."""
    y, x = np.mgrid[:height, :width] / height
    grid = 0.5 + 0.3 * np.sin(20 * (x + 0.3 * y) + number / 6)
    face = ((x - 0.6 - 0.2 * np.sin(number / 9)) ** 2 + (y - 0.5) ** 2) < 0.09
    eyes = sum(((x - 0.5 - d - 0.2 * np.sin(number / 9)) ** 2 + (y - 0.42) ** 2) < 0.002 for d in (0.0, 0.2))
    colours = zip((0.85, 0.65, 0.5), (grid, grid * x / 1.4, 1 - grid), strict=True)
    rgb = np.stack([np.where(face, skin, behind) for skin, behind in colours], -1)
    rgb[eyes.astype(bool)] = 0.1
    return (255 * np.clip(rgb, 0, 1)).astype(np.uint8)


def film(path: Path, *, frames: int, size: tuple[int, int], rate_hz: int, options: dict[str, Any], sound: bool) -> None:
    """An H.264 video, with AAC in stereo if it has sound."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "30", **options["codec"]})
        video.width, video.height, video.pix_fmt = size[1], size[0], options["pixels"]
        audio = container.add_stream("aac", rate=rate_hz, layout="stereo", bit_rate=64_000) if sound else None
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(image(number, *size), format="rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode())
        if audio is not None:
            samples = np.ascontiguousarray(voice(rate_hz, frames / 25).T)
            for start in range(0, samples.shape[1], 1024):
                block = np.ascontiguousarray(samples[:, start : start + 1024])
                piece = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
                piece.sample_rate, piece.pts = rate_hz, start
                container.mux(audio.encode(piece))
            container.mux(audio.encode())


def main(folder: Path) -> None:
    """Writes the three files."""
    plain = {"codec": {"threads": "1"}, "pixels": "yuv420p"}
    film(folder / "clip.mp4", frames=38, size=(192, 256), rate_hz=44_100, options=plain, sound=True)
    deep = {"codec": {"threads": "1"}, "pixels": "yuv420p10le"}
    film(folder / "deep.mkv", frames=12, size=(72, 96), rate_hz=0, options=deep, sound=False)
    soundfile.write(folder / "voice.flac", voice(22_050, 0.6)[:, 0], 22_050, subtype="PCM_16")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
