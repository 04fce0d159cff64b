"""Batches that span clips, a no-op, rates of networks, and a scan: `python -m tests.bench.stages`.

Each measure is a ratio of two ways of doing the same work, the median of several turns taken in turn.
"""

from __future__ import annotations

import csv
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, RobertaConfig

from pipeline.stage import Frames, Item, Stage, Waveform
from stages.audio_opensmile import AudioOpensmile
from stages.visual_cnn3d import VisualCnn3d
from stages.visual_resnet50 import VisualResnet50
from tests.small import Small

TURNS = 5


def pair(name: str, ours: Callable[[], object], plain: Callable[[], object]) -> None:
    """Runs the two in turn after one warm-up of each and prints the median of the ratios plain / ours."""
    ours(), plain()
    times = [(_seconds(ours), _seconds(plain)) for _ in range(TURNS)]
    ratio = statistics.median(b / a for a, b in times)
    fast, slow = (statistics.median(t[i] for t in times) for i in (0, 1))
    sys.stdout.write(f"{name:<58} {ratio:7.2f} x   ({fast:.3f} s against {slow:.3f} s)\n")


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def batches(stage: Stage, steps: int, size: int) -> None:
    """A stage over eight clips at once against one by one."""
    loaded = stage.load("cpu")
    rng = np.random.default_rng(0)
    clips = [
        Item(str(i), {"video": Frames(rng.integers(0, 255, (steps, size, size, 3), np.uint8), np.arange(steps) / 15)})
        for i in range(8)
    ]
    name = f"{type(stage).__name__}: batches that span clips / clip by clip"
    pair(
        name, lambda: stage.transform(loaded, None, clips), lambda: [stage.transform(loaded, None, [c]) for c in clips]
    )


def nothing_to_do(place: Path) -> None:
    """`affectory extract` with nothing to do against a Python that only imports what it needs."""
    from manifests.demo import Demo

    Demo(per_cell=2).prepare(place / "corpus")
    small = Small(place / "corpus", place / "home", place / "small.toml")
    small.extract()
    line = [
        sys.executable,
        "-m",
        "pipeline.cli.start",
        "extract",
        "--dataset",
        str(small.path),
        "--root",
        str(small.root),
    ]
    environment = {**os.environ, "AFFECTORY_HOME": str(small.home)}
    floor = [sys.executable, "-c", "import pyarrow, pydantic"]
    pair(
        "No-op: import pyarrow, pydantic / affectory extract, 60 rows",
        lambda: subprocess.run(line, env=environment, check=True, capture_output=True),
        lambda: subprocess.run(floor, check=True, capture_output=True),
    )


def rates() -> None:
    """Seconds of one core for an utterance of 4 s in the papers' settings, random weights, without decoding."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (64, 224, 224, 3), np.uint8)
    sound = Waveform((rng.normal(size=64000) * 0.1).astype(np.float32), 16000)
    tokens = torch.randint(5, 1000, (16, 20))
    large = RobertaConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
    encoder = AutoModel.from_config(large).eval()
    work: dict[str, Callable[[], object]] = {
        "30 frames through ResNet-50": _one(
            VisualResnet50(weights="random"), "video", Frames(frames[:30], np.arange(30) / 15)
        ),
        "3D-CNN": _one(VisualCnn3d(weights="random"), "video", Frames(frames[:, ::2, ::2].copy(), np.arange(64) / 15)),
        "openSMILE IS10": _one(AudioOpensmile(feature_set="IS10", level="functionals"), "audio", sound),
        "RoBERTa-large, 20 tokens, of 16": torch.no_grad()(lambda: encoder(tokens)),
    }
    for name, run in work.items():
        run()
        per = statistics.median(_seconds(run) for _ in range(TURNS)) / (16 if "of 16" in name else 1)
        sys.stdout.write(f"{name:<58} {per:7.3f} s an utterance\n")


def _one(stage: Stage, kind: str, value: object) -> Callable[[], object]:
    loaded = stage.load("cpu")
    return lambda: stage.transform(loaded, None, [Item("one", {kind: value})])


def scan(kit: Path) -> None:
    """A scan of MELD's three tables, 13,708 rows, against only parsing their CSV."""
    from manifests.meld import Meld

    def parse() -> None:
        for path in (kit / "meld").glob("*.csv"):
            with path.open(encoding="utf-8", newline="") as file:
                list(csv.DictReader(file))

    pair("Scan of MELD: csv.DictReader / the reader, 13,708 rows", lambda: Meld().scan(kit / "meld"), parse)


def main() -> None:
    """Runs all of it."""
    torch.set_num_threads(1)
    sys.stdout.write(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    batches(VisualResnet50(frames=8, size=96, weights="random"), 8, 96)
    batches(VisualCnn3d(clips=1, size=64, weights="random"), 16, 64)
    rates()
    with tempfile.TemporaryDirectory() as place:
        nothing_to_do(Path(place))
    kit = Path(os.environ.get("AFFECTORY_KIT") or "../shared/kit")
    if (kit / "meld").is_dir():
        scan(kit)


if __name__ == "__main__":
    main()
