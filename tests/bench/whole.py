"""Whole extractions against a plain loop: `python -m tests.bench.whole [hjcag] [mulg] [--clips 200]`.

Both papers' sets on made clips of 4 s, 640 x 480 at 25 frames a second, with a voice and twelve words, and networks
with random weights that both ways read from the same files. Each way is a process from its start to its end, with an
empty cache, and each library has as many threads as it takes. Our first run finds out which backend is faster for each
network, and the second one goes by what it found; both are printed, and the largest difference of a value. Last comes
the share of the second run in which all cores would have done the work of the stages alone, each at its own best.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from subprocess import DEVNULL, run

import affectory
import numpy as np
import torch
import torchvision
from gensim.models import KeyedVectors
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

from pipeline.backends.measured import processor
from stages._roberta import learn_tokenizer, make_model
from tests.bench import together
from tests.bench.backends import WORDS
from tests.bench.media import film, voice

RECIPE = """
[dataset]
reader = "table"
labels = "label"
protocol = "official"

[features.hjcag]
text   = {{ stage = "text_roberta", model = "{weights}/roberta", align = {{ mode = "pad", length = 30 }} }}
audio  = {{ stage = "audio_opensmile", feature_set = "IS10", align = {{ mode = "broadcast", length = 30 }} }}
visual = {{ stage = "visual_resnet50", weights = "{weights}/resnet50.safetensors", align = {align} }}

[features.mulg]
text   = {{ stage = "text_word2vec", vectors = "{weights}/words.bin", align = {{ mode = "pad", length = 50 }} }}
audio  = {{ concat = [
    {{ stage = "audio_opensmile", feature_set = "eGeMAPSv02", level = "lld", rate_hz = 12.5 }},
    {{ stage = "audio_mfcc", n_mfcc = 13, deltas = 2, rate_hz = 12.5 }},
], align = {{ mode = "pad", length = 375 }} }}
visual = {{ stage = "visual_cnn3d", weights = "{weights}/r3d_18.safetensors", align = {{ mode = "pad", length = 40 }} }}
"""
COMPARED = {
    "hjcag": {"text": "text", "audio": "smile", "visual": "visual"},
    "mulg": {"text": "text", "visual": "visual"},
}
"""The loop's array for each modality that is compared. MulG's sound is averaged to steps of 80 ms here alone."""
STAGES = {"hjcag": ("resnet50", "roberta_large", "IS10"), "mulg": ("r3d_18", "eGeMAPS", "MFCC")}
"""What takes time in each set, by the names of `tests.bench.together`; vectors of words are looked up."""
SAMPLED = '{ mode = "sample", length = 30 }'
CLIP_S, PER_DIALOGUE = 4, 8


def clips(root: Path, count: int) -> None:
    """So many clips with sound, pictures and words, and their table."""
    root.mkdir()
    random = np.random.default_rng(0)
    with (root / "utterances.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["utterance", "dialogue", "text", "audio", "video", "split", "label"])
        for number in range(count):
            name, words = f"u{number}", " ".join(random.choice(WORDS, 12))
            film(root / f"{name}.mp4", "libx264", {"preset": "veryfast", "bf": "2"}, CLIP_S, seed=number)
            voice(root / f"{name}.wav", random, CLIP_S)
            (root / f"{name}.txt").write_text(words)
            part = ("train", "train", "valid", "test")[number // PER_DIALOGUE % 4]
            dialogue = f"d{number // PER_DIALOGUE}"
            lines.writerow([name, dialogue, words, f"{name}.wav", f"{name}.mp4", part, number % 2])


def networks(folder: Path) -> None:
    """RoBERTa-large, ResNet-50, r3d_18 and vectors of 300 dimensions, from random numbers."""
    torch.manual_seed(0)
    tokenizer = learn_tokenizer([" ".join(WORDS)] * 4, 400, 128)
    make_model(tokenizer, 50_265, 1024, 24, 16, 128, 0).save_pretrained(folder / "roberta")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(folder / "roberta")
    save_file(torchvision.models.resnet50().state_dict(), folder / "resnet50.safetensors")
    save_file(torchvision.models.video.r3d_18().state_dict(), folder / "r3d_18.safetensors")
    vectors = KeyedVectors(300)
    vectors.add_vectors(
        [word.lower() for word in WORDS], np.random.default_rng(0).normal(size=(len(WORDS), 300)).astype(np.float32)
    )
    vectors.save_word2vec_format(str(folder / "words.bin"), binary=True)


def loop(name: str, place: Path) -> float:
    """Seconds of the plain loop."""
    out = place / f"plain-{name}"
    out.mkdir(exist_ok=True)
    line = ["-m", "tests.bench.plain_loop", name, *map(str, (place / "clips", out, place / "weights"))]
    began = time.perf_counter()
    run([sys.executable, *line], env=_environment(), check=True, stdout=DEVNULL, stderr=DEVNULL)
    return time.perf_counter() - began


def extraction(name: str, place: Path) -> float:
    """Seconds of `affectory extract` of one view, into an empty cache, in a home that knows what its backends take."""
    home = place / "home"
    for part in ("actions", "objects"):  # what was measured of backends stays
        shutil.rmtree(home / "cache" / part, ignore_errors=True)
    line = ["-m", "pipeline.cli.start", "extract", "--dataset", str(place / "bench.toml"), "--features", name, "--json"]
    began = time.perf_counter()
    done = run(
        [sys.executable, *line, "--root", str(place / "clips")],
        env=_environment() | {"AFFECTORY_HOME": str(home)},
        check=True,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    sys.stdout.write(f"  {name}, where the time went: {json.dumps(json.loads(done.stdout).get('time'))}\n")
    return seconds


def _environment() -> dict[str, str]:
    """Without limits on threads, as a user's shell has none."""
    return {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}


def worst(name: str, place: Path) -> float:
    """The largest difference of a value from the loop's, relative to the larger of 1 and the loop's."""
    seen = affectory.open(str(place / "bench.toml"), root=str(place / "clips"), home=str(place / "home"))
    features, largest = seen.features(name), 0.0
    for modality, key in COMPARED[name].items():
        for id_, ours in features.to_numpy(modality).items():
            theirs = np.load(place / f"plain-{name}" / f"{id_}.npz")[key]  # [T, D], or [1, D] for each of ours
            largest = max(largest, float((np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))).max()))
    return largest


def measure(name: str, place: Path, count: int) -> None:
    """Prints one set of so many clips."""
    shutil.rmtree(place / "home", ignore_errors=True)
    first, plain, second = extraction(name, place), loop(name, place), extraction(name, place)
    for said, seconds in (("first", first), ("later", second)):
        sys.stdout.write(f"{name}, {said}: {plain / seconds:.2f} x ({seconds:.1f} s against {plain:.1f} s)\n")
    sys.stdout.write(f"{name}: largest relative difference {worst(name, place):.1e}\n")
    best = count * together.best_s(STAGES[name])
    sys.stdout.write(f"{name}: its stages alone, at their best {best:.1f} s, {best / second:.2f} of the later run\n")
    sys.stdout.flush()


def main() -> None:
    """Measures the sets that are named, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=list(COMPARED))
    parser.add_argument("--clips", type=int, default=200)
    given = parser.parse_args()
    sys.stdout.write(f"{processor()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}, {given.clips} clips\n")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "weights").mkdir()
        networks(place / "weights")
        clips(place / "clips", given.clips)
        (place / "bench.toml").write_text(RECIPE.format(weights=place / "weights", align=SAMPLED))
        for name in given.sets:
            measure(name, place, given.clips)


if __name__ == "__main__":
    main()
