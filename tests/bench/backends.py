"""Networks with random weights: a plain torch loop, our stage on torch, and our stage on OpenVINO, in turn.

`python -m tests.bench.backends` prints lines for RESULTS.md: how many times as fast as the loop each way is, and which
share of the peak of float32 matrix products, measured between the turns, its operations reach. `--only NAME` measures
one network, `--turns N` how often.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.backends.measured import processor
from pipeline.backends.network import SETTING
from pipeline.stage import Frames, Item, Stage
from stages._backbone import build
from stages._context import Passage
from stages._roberta import Encoder, learn_tokenizer, make_model, padded
from stages.visual_cnn3d import VisualCnn3d
from stages.visual_resnet50 import VisualResnet50

RNG = np.random.default_rng(0)
WAYS = ("torch", "openvino")
WORDS = [
    "so",
    "what",
    "do",
    "you",
    "never",
    "said",
    "that",
    "I",
    "could",
    "leave",
    "home",
    "again",
    "why",
    "oh",
    "well",
]


@dataclass(frozen=True)
class Work:
    """A plain loop over utterances, and what makes our way of it under the present setting."""

    plain: Callable[[], object]
    ours: Callable[[], Callable[[], object]]


def resnet50() -> Work:
    """One utterance of 30 frames."""
    images = RNG.integers(0, 256, (30, 224, 224, 3), np.uint8)
    return _pictures("resnet50", "images", VisualResnet50(weights="random"), images, images[None])


def r3d_18() -> Work:
    """Two clips of 16 frames, of one utterance each."""
    images = RNG.integers(0, 256, (2, 16, 112, 112, 3), np.uint8)
    stage = VisualCnn3d(name="r3d_18", weights="random", clips=2, hop=16)
    return _pictures("r3d_18", "clips", stage, images.reshape(32, 112, 112, 3), images[:, None])


def roberta_large() -> Work:
    """24 texts of 2 to 25 words, one by one in the plain loop."""
    texts = [" ".join(RNG.choice(WORDS, n)) for n in range(2, 26)]
    tokenizer = learn_tokenizer(texts, 400, 128)
    torch.manual_seed(0)
    model = make_model(tokenizer, 50_265, 1024, 24, 16, 128, 0)
    encoded = [tokenizer.encode(text).ids for text in texts]

    def plain() -> None:
        for row in encoded:
            ids, mask = padded([row], 1)
            model(input_ids=ids, attention_mask=mask)

    def ours() -> Callable[[], object]:
        encoder = Encoder(tokenizer, model)
        return lambda: list(encoder.states([Passage(text) for text in texts]))

    return Work(plain, ours)


WORK = {work.__name__: work for work in (resnet50, r3d_18, roberta_large)}


def _pictures(name: str, kind: str, stage: Stage, images: Any, utterances: Any) -> Work:
    """utterances: uint8 [U, B, ..., 3], a batch of pictures or clips for each turn of the plain loop."""
    item = Item("one", {"video": Frames(images, np.arange(len(images)) / 15)})
    model = build(name, "random", 0, kind)

    def plain() -> None:
        for pictures in utterances:
            model(torch.from_numpy(pictures).float().div(255).movedim(-1, 1).contiguous())

    def ours() -> Callable[[], object]:
        loaded = stage.load("cpu")
        return lambda: stage.transform(loaded, None, [item])

    return Work(plain, ours)


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _peak() -> float:
    """Operations per second of a float32 matrix product."""
    left, right = torch.rand(1024, 1024), torch.rand(1024, 1024)
    return 2 * 1024**3 / min(_seconds(lambda: left @ right) for _ in range(5))


def _operations(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _ready(work: Work, setting: str) -> Callable[[], object]:
    """Our way on one backend, which the first call settles."""
    os.environ[SETTING] = setting
    run = work.ours()
    run()
    return run


def measure(name: str, turns: int) -> str:
    """One line of the table. The least time of each way over the turns counts, and the highest peak."""
    work = WORK[name]()
    runs = {"loop": work.plain} | {way: _ready(work, way) for way in WAYS}
    operations = _operations(runs["torch"])
    work.plain()
    peaks, times = [], []
    for _ in range(turns):
        peaks.append(_peak())
        times.append([_seconds(run) for run in runs.values()])
    least = dict(zip(runs, map(min, zip(*times, strict=True)), strict=True))
    ways = [f"{least['loop'] / least[way]:.2f}x" for way in WAYS]
    shares = [f"{operations / least[way] / max(peaks):.2f}" for way in WAYS]
    return f"| {name} | {least['loop']:.2f} s | {' | '.join(ways)} | {' | '.join(shares)} |\n"


def main() -> None:
    """Measures all networks on one thread."""
    options = argparse.ArgumentParser()
    options.add_argument("--only", choices=WORK)
    options.add_argument("--turns", type=int, default=5)
    given = options.parse_args()
    torch.set_num_threads(1)
    sys.stdout.write(f"{processor()}, one thread, {time.strftime('%Y-%m-%d')}\n\n")
    sys.stdout.write("| network | plain loop | ours, torch | ours, OpenVINO | share of peak, torch | OpenVINO |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")
    with tempfile.TemporaryDirectory() as home, torch.inference_mode():
        os.environ["AFFECTORY_HOME"] = home
        for name in [given.only] if given.only else WORK:
            sys.stdout.write(measure(name, given.turns))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
