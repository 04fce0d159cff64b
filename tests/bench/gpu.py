"""Networks with random weights on a GPU, against the card's own matrix products: `make bench GPU=1`.

    python -m tests.bench.gpu [--device cpu] [--only NAME] [--turns N]

Prints inputs a second and the share of the peak of float32 products, which is measured between the turns; copies with
and without pinned memory; and whether features stay equal when the memory is too small for a batch. Untested on a real
GPU: `--device cpu` runs the same on a CPU, with fewer inputs and without what only a card has.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.backends.measured import processor
from pipeline.backends.network import SETTING
from stages import visual_resnet50
from stages._backbone import IMAGENET, Extractor, build
from stages._cnn3d import extractor, network
from stages._context import Passage
from stages._roberta import Encoder, learn_tokenizer, make_model
from tests.bench.backends import RNG, WORDS, _operations, _seconds

INPUTS = {"cpu": 2, "cuda": 512}
"""How many images, clips or texts a turn computes."""
SIDE = {"cpu": 512, "cuda": 8192}
"""Rows of the square matrices whose product is the peak."""
ROOM_BYTES = 500_000_000
"""What the halving check leaves to the network: less than the 256 images that it is given at once take."""
AGREE = 1e-4


@dataclass(frozen=True)
class Work:
    """What is timed, and how many images, clips or texts it computes."""

    run: Callable[[], object]
    inputs: int


def resnet50(device: str, count: int) -> Work:
    """Images of 224 x 224."""
    images, ours = _images(count), _resnet50(device)
    return Work(lambda: ours.features(images), count)


def r3d_18(device: str, count: int) -> Work:
    """Clips of 16 frames of 112 x 112."""
    clips = RNG.integers(0, 256, (count, 16, 112, 112, 3), np.uint8)
    ours = extractor(network("r3d_18", "random", 0, "avg", (16, 112, 112)), device)
    return Work(lambda: ours.features(clips), count)


def roberta_large(device: str, count: int) -> Work:
    """Texts of 25 words."""
    texts = [" ".join(RNG.choice(WORDS, 25)) for _ in range(count)]
    tokenizer = learn_tokenizer(texts, 400, 128)
    torch.manual_seed(0)
    ours = Encoder(tokenizer, make_model(tokenizer, 50_265, 1024, 24, 16, 128, 0).to(device))
    return Work(lambda: list(ours.states([Passage(text) for text in texts])), count)


WORK = {work.__name__: work for work in (resnet50, r3d_18, roberta_large)}


def _images(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return RNG.integers(0, 256, (count, 224, 224, 3), np.uint8)


def _resnet50(device: str) -> Extractor:
    at_once, layout = visual_resnet50.AT_ONCE[device], torch.channels_last
    return Extractor(build("resnet50", "random", 0), 2048, device, "float32", IMAGENET, layout, at_once)


def _waited(run: Callable[[], object], device: str) -> Callable[[], None]:
    def whole() -> None:
        run()
        if device == "cuda":
            torch.cuda.synchronize()

    return whole


def peak(device: str) -> float:
    """Operations per second of a float32 matrix product, the best of five."""
    side = SIDE[device]
    left, right = (torch.rand(side, side, device=device) for _ in range(2))
    product = _waited(lambda: left @ right, device)
    product()
    return 2 * side**3 / min(_seconds(product) for _ in range(5))


def measure(name: str, device: str, turns: int) -> str:
    """One line of the table. The least time and the highest peak of the turns count."""
    work = WORK[name](device, INPUTS[device])
    run = _waited(work.run, device)
    operations = _operations(run)  # the first pass, which also sets the device up
    peaks, times = zip(*((peak(device), _seconds(run)) for _ in range(turns)), strict=True)
    rate = operations / min(times)
    return f"| {name} | {work.inputs / min(times):,.1f} | {rate / 1e12:.3f} | {rate / max(peaks):.2f} |\n"


def copies() -> str:
    """Copies of a batch of images to the card, in GB a second: from pinned memory, and from other memory."""
    images = torch.from_numpy(_images(256))
    rates = []
    for source in (images.pin_memory(), images):
        copy = _waited(lambda source=source: source.to("cuda", non_blocking=True), "cuda")  # type: ignore[misc]
        copy()
        rates.append(images.numel() / min(_seconds(copy) for _ in range(5)) / 1e9)
    return f"copies: {rates[0]:.1f} GB/s from pinned memory, {rates[1]:.1f} GB/s from other memory\n"


def halving() -> str:
    """Whether the features of images are equal when the memory is too small for all of them at once."""
    images, ours = _images(256), _resnet50("cuda")
    whole = ours.features(images)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + ROOM_BYTES) / total))
    try:
        divided = ours.features(images)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    size, difference = ours._at_once.size, float(np.abs(whole - divided).max())
    right = size < len(images) and difference <= AGREE * max(1.0, float(np.abs(whole).max()))
    return f"halving: {size} of 256 at once, largest difference {difference:.2g}: {'right' if right else 'WRONG'}\n"


def main() -> None:
    """Measures all networks, or says that there is no GPU."""
    options = argparse.ArgumentParser()
    options.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options.add_argument("--only", choices=WORK)
    options.add_argument("--turns", type=int, default=5)
    given = options.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        options.error("torch finds no GPU here, so nothing is measured: --device cpu runs the same on the CPU")
    os.environ[SETTING] = "torch"
    card = torch.cuda.get_device_name() if given.device == "cuda" else processor()
    sys.stdout.write(f"{card}, float32, {time.strftime('%Y-%m-%d')}\n\n")
    sys.stdout.write("| network | inputs/s | 10^12 operations/s | share of peak |\n|---|---|---|---|\n")
    with tempfile.TemporaryDirectory() as home, torch.inference_mode():
        os.environ["AFFECTORY_HOME"] = home
        for name in [given.only] if given.only else WORK:
            sys.stdout.write(measure(name, given.device, given.turns))
            sys.stdout.flush()
        sys.stdout.write("\n" + (copies() + halving() if given.device == "cuda" else "copies, halving: need a GPU\n"))


if __name__ == "__main__":
    main()
