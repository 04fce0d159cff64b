"""Sound against a plain loop, and stretches against decoding whole films: `python -m tests.bench.media`.

    python -m tests.bench.media [films] [mfcc] [is10] [scaling] [--turns 3] [--clips 384] [--film-s 300]

Each way is run in turn, as a process of its own from start to end where it is a command. Printed are the ratio of the
least times of both, and of the seconds of processors that they took, which other work on the machine moves less.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, Popen, run
from typing import NamedTuple

import av
import numpy as np
import psutil
import soundfile

from pipeline.cache import shards
from pipeline.media.video import decode, prepare
from pipeline.media.video_decoder import decoder
from pipeline.media.video_frames import decoded
from pipeline.media.video_timeline import read_timeline
from pipeline.stage import Frames
from pipeline.utterance import Video
from stages.visual_resnet50 import VisualResnet50

RECIPE = """
[dataset]
reader = "table"
labels = "label"
protocol = "official"

[features.sound]
audio = {{ stage = "{stage}", align = {{ mode = "{mode}", length = {length} }} }}
"""
STAGES = {"mfcc": ("audio_mfcc", "pad", 50), "is10": ("audio_opensmile", "broadcast", 1)}
SET_CHILD_SUBREAPER = 36  # of Linux' prctl
RATE_HZ, CLIP_S, UTTERANCE_S = 16000, 3.6, 4.0
FILMS = {"h264.mp4": ("libx264", {"preset": "veryfast", "bf": "2"}), "mpeg4.avi": ("mpeg4", {"b": "1500000"})}


class Spent(NamedTuple):
    """Seconds of a clock, and of processors in this process and in all that it and its descendants started."""

    wall_s: float
    cpu_s: float


def spent(work: Callable[[], object]) -> Spent:
    """What a piece of work takes."""
    there = {child.pid for child in psutil.Process().children()}
    began, before = time.perf_counter(), _cpu_s()
    work()
    wall_s = time.perf_counter() - began
    while left := [child.pid for child in psutil.Process().children() if child.pid not in there]:
        os.waitpid(left[0], 0)
    return Spent(wall_s, _cpu_s() - before)


def _cpu_s() -> float:
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def adopt_orphans() -> None:
    """Has processes whose parent ends become children of this one, as those of Dask's server of forks do: a process
    knows the time of its children alone. Raises OSError where there is no such thing as on Linux."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "orphans cannot be adopted")


def least(name: str, turns: int, ours: Callable[[], object], plain: Callable[[], object]) -> None:
    """Runs both in turn and prints the ratio of the least of each, plain / ours."""
    pairs = [(spent(ours), spent(plain)) for _ in range(turns)]
    fast, slow = (Spent(*map(min, zip(*(pair[side] for pair in pairs), strict=True))) for side in (0, 1))
    sys.stdout.write(
        f"{name:<60} {slow.wall_s / fast.wall_s:6.2f} x ({fast.wall_s:.2f} s against {slow.wall_s:.2f} s)"
        f"   processors {slow.cpu_s / fast.cpu_s:6.2f} x ({fast.cpu_s:.2f} s against {slow.cpu_s:.2f} s)\n"
    )
    sys.stdout.flush()


def clips(root: Path, count: int) -> None:
    """So many WAV files of a voice, in a table."""
    root.mkdir()
    random = np.random.default_rng(0)
    with (root / "utterances.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["utterance", "dialogue", "audio", "split", "label"])
        for number in range(count):
            voice(root / f"u{number}.wav", random, CLIP_S)
            part = ("train", "train", "valid", "test")[number // 8 % 4]
            lines.writerow([f"u{number}", f"d{number // 8}", f"u{number}.wav", part, number % 2])


def voice(path: Path, random: np.random.Generator, seconds: float) -> None:
    """A WAV file of a voice that rises and falls."""
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    pitch_hz = random.uniform(90, 250) * (1 + 0.2 * np.sin(2 * np.pi * time_s * random.uniform(0.5, 3)))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    wave = sum(np.sin(k * phase) / k for k in range(1, 12)) * (np.sin(5 * time_s) > -0.5)
    soundfile.write(path, 0.1 * wave + 0.002 * random.normal(size=len(time_s)), RATE_HZ)


def sound(name: str, place: Path, turns: int, workers: int) -> None:
    """`affectory extract` with an empty cache, against the loop; from start to end of the process."""
    plain(name, place / "clips", place)
    extract(name, place, workers, partial(_check, name, place / "plain"))
    ours, loop = partial(extract, name, place, workers), partial(plain, name, place / "clips", place)
    least(f"{name}, all clips: affectory extract, {workers} workers / a plain loop", turns, ours, loop)


def scaling(name: str, place: Path, turns: int) -> None:
    """What a second worker gains, beside what a second plain process gains, each with half of the clips."""
    halves = [_half(place, number) for number in range(2)]
    ours = _gain(turns, partial(extract, name, place, 1), partial(extract, name, place, 2))
    loops = _gain(turns, partial(plain, name, place / "clips", place), partial(plain, name, halves, place))
    gains = f"2 workers / 1 worker {ours:.2f} x, two plain processes / one {loops:.2f} x"
    sys.stdout.write(f"{name}: {gains}: {ours / loops:.2f} of it\n")
    sys.stdout.flush()


def _gain(turns: int, one: Callable[[], object], two: Callable[[], object]) -> float:
    pairs = [(spent(one).wall_s, spent(two).wall_s) for _ in range(turns)]
    return min(first for first, _ in pairs) / min(second for _, second in pairs)


def _half(place: Path, number: int) -> Path:
    """A folder with every second clip."""
    half = place / f"half{number}"
    half.mkdir()
    for path in sorted((place / "clips").glob("*.wav"))[number::2]:
        (half / path.name).hardlink_to(path)
    return half


def extract(name: str, place: Path, workers: int, then: Callable[[Path], None] = lambda home: None) -> None:
    """Extracts the sound of all clips into an empty home, which `then` may look at."""
    stage, mode, length = STAGES[name]
    recipe = place / f"{name}.toml"
    recipe.write_text(RECIPE.format(stage=stage, mode=mode, length=length))
    given = ["--dataset", str(recipe), "--root", str(place / "clips"), "--modality", "audio"]
    with tempfile.TemporaryDirectory(dir=place) as home:
        line = [sys.executable, "-m", "pipeline.cli.start", "extract", *given, "--workers", str(workers)]
        run(line, env={**os.environ, "AFFECTORY_HOME": home}, check=True, stdout=DEVNULL, stderr=DEVNULL)
        then(Path(home))


def plain(name: str, folders: Path | list[Path], place: Path) -> None:
    """The plain loop over a folder, or over several of them at once, a process each."""
    (place / "plain").mkdir(exist_ok=True)
    line = [sys.executable, "-m", "tests.bench.plain_loop", name]
    every = folders if isinstance(folders, list) else [folders]
    started = [Popen([*line, str(folder), str(place / "plain")]) for folder in every]
    if any(each.wait() for each in started):
        raise RuntimeError(f"the plain loop over {folders} failed")


def _check(name: str, plain: Path, home: Path) -> None:
    """Raises ValueError if functionals are others than the loop's. Frames of MFCC are pooled, so those are counted."""
    tables = [shards.open_table(path) for path in (home / "cache").rglob("*.parquet")]
    ours = {id_: track.values for table in tables for id_, _, track in shards.read(table)}
    for path in plain.glob("*.npz"):
        values = ours[path.stem]
        if values is None or name == "is10" and not np.array_equal(values, np.load(path)["smile"]):
            raise ValueError(f"{name} is another for {path.stem}")


def film(path: Path, codec: str, options: dict[str, str], seconds: int, seed: int = 0) -> None:
    """A film of moving blocks, 640 x 480 at 25 frames a second, a key frame every ten seconds."""
    blocks = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": "250", **options})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for index in range(seconds * 25):
            image = np.roll(blocks, 3 * index, axis=1)
            image[:32, :32] = index % 256
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def stretches(path: Path, seconds: int, turns: int) -> None:
    """Five utterances of a film, evenly over it, by our decoding and by decoding the whole film for each."""
    stage, timeline = VisualResnet50(weights="random"), read_timeline(path)
    starts_s = np.linspace(0, seconds - UTTERANCE_S, 5).tolist()
    every = range(len(timeline.ticks))

    def ours() -> list[Frames]:
        cut = (Video(path=path.name, start_s=at, end_s=at + UTTERANCE_S) for at in starts_s)
        return [decode([stretch], path.parent, [stage])[0] for stretch in cut]

    def whole(at: float) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        first, last = np.searchsorted(timeline.time_s, [at - 1e-6, at + UTTERANCE_S - 1e-6])
        time_s = timeline.time_s[first:last] - at
        wanted = first + stage.pick(time_s, UTTERANCE_S)
        images, few = {}, set(wanted.tolist())
        for index, frame in decoded(path, timeline, every):
            if frame is not None and index in few:
                images[index] = stage.shrink(frame.to_ndarray(format="rgb24"))
        return [images[index] for index in wanted]

    for frames, at in zip(ours(), starts_s, strict=True):
        if not np.array_equal(frames.images, whole(at)):
            raise ValueError(f"the frames of {path.name} from {at} s are others than those of the whole film")
    name = f"{path.name}, {seconds} s by {decoder(path, timeline)}: utterances of 4 s / the whole film for each"
    least(name, turns, ours, lambda: [whole(at) for at in starts_s])


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="*", default=["films", *STAGES, "scaling"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--clips", type=int, default=384)
    parser.add_argument("--film-s", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    prepare()
    adopt_orphans()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, (codec, options) in FILMS.items() if "films" in given.measures else ():
            film(place / name, codec, options, given.film_s)
            stretches(place / name, given.film_s, given.turns)
        clips(place / "clips", given.clips)
        for name in (name for name in STAGES if name in given.measures):
            sound(name, place, given.turns, given.workers)
        if "scaling" in given.measures:
            scaling("is10", place, given.turns)


if __name__ == "__main__":
    main()
