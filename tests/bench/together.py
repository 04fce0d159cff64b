"""What two processes compute at once, against one alone: `python -m tests.bench.together [--seconds 10]`.

Each process has one thread, as our workers have on this machine. The matrix product says what the machine's cores are
worth together; the others are a stage's own work on clips of 4 s in memory, without decoding or storing. Printed are
clips per second, and the share of two that both reach.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from pipeline.backends.measured import processor
from pipeline.backends.network import SETTING
from pipeline.stage import Item, Stage, Waveform
from stages.audio_mfcc import AudioMfcc
from stages.audio_opensmile import AudioOpensmile
from tests.bench.backends import WAYS, WORK

Unit = tuple[Callable[[], object], float]
"""Work, and how many clips of it one call does."""
ROWS = {"resnet50": 1.0, "r3d_18": 2 / 3, "roberta_large": 24.0}
"""Clips of 4 s in one call: an utterance of 30 frames, two of a clip's three stretches of 16 frames, 24 texts."""
PRODUCT = "matrix product"
SOUNDS: Mapping[str, Stage] = {
    "IS10": AudioOpensmile(feature_set="IS10"),
    "eGeMAPS": AudioOpensmile(feature_set="eGeMAPSv02", level="lld", rate_hz=12.5),
    "MFCC": AudioMfcc(n_mfcc=13, deltas=2, rate_hz=12.5),
}


def units() -> Mapping[str, Callable[[], Unit]]:
    """What can be measured, by name; a network's name is followed by its backend."""
    networks = {f"{name}, {way}": lambda name=name, way=way: _network(name, way) for name in WORK for way in WAYS}
    sounds = {name: lambda stage=stage: _sound(stage) for name, stage in SOUNDS.items()}
    return {PRODUCT: _product, **networks, **sounds}


def _product() -> Unit:
    """10^9 operations of a float32 matrix product stand for a clip."""
    left, right = torch.rand(1024, 1024), torch.rand(1024, 1024)
    out = torch.empty(1024, 1024)
    return lambda: torch.mm(left, right, out=out), 2 * 1024**3 / 1e9


def _network(name: str, way: str) -> Unit:
    os.environ[SETTING] = way
    return WORK[name]().ours(), ROWS[name]


def _sound(stage: Stage) -> Unit:
    random = np.random.default_rng(0)
    loaded = stage.load("cpu")
    clip = Item("one", {"audio": Waveform((random.normal(size=64_000) * 0.1).astype(np.float32), 16_000)})
    return lambda: stage.transform(loaded, None, [clip]), 1.0


def child(name: str, seconds: float) -> None:
    """Says when it is ready, waits to be told, works for so long, and says its clips per second."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        work, rows = units()[name]()
        work(), work()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            work()
            done += 1
        sys.stdout.write(f"{done * rows / (time.perf_counter() - began)}\n")


def rate(name: str, processes: int, seconds: float) -> float:
    """Clips per second of so many processes at once."""
    line = [sys.executable, "-m", "tests.bench.together", "--child", name, "--seconds", str(seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen(line, env=environment, text=True, **pipes) for _ in range(processes)]  # type: ignore[call-overload]
    for each in started:
        if each.stdout.readline() != "ready\n":
            raise RuntimeError(f"{name} did not start")
    for each in started:
        each.stdin.write("go\n")
        each.stdin.flush()
    return sum(float(each.communicate()[0]) for each in started)


def best_s(names: Sequence[str], seconds: float = 10.0) -> float:
    """Seconds of all cores for one clip, each stage with the faster of its backends, all cores at the same stage."""
    cores, least_s = os.cpu_count() or 1, 0.0
    for name in names:
        ways = [each for each in units() if each == name or each.startswith(f"{name}, ")]
        least_s += 1 / max(rate(way, cores, seconds) for way in ways)
    return least_s


def main() -> None:
    """Measures all of it, or what is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="all if none is named")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.seconds)
        return
    sys.stdout.write(f"{processor()}, {time.strftime('%Y-%m-%d')}, clips per second (10^9 operations of products)\n")
    for name in given.names or units():
        one, two = (rate(name, processes, given.seconds) for processes in (1, 2))
        sys.stdout.write(f"{name:<26} one {one:8.3f}   two {two:8.3f}   {two / one / 2:.2f} of twice\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
