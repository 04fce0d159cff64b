"""`affectory extract` with nothing to do, on large manifests: time and memory.

The corpus is a table over small WAV files, the cache is filled with as many shards as an extraction would have left,
each saved by the store itself, with one made-up step a row.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from pipeline.cache import shards
from pipeline.cache.home import Home
from pipeline.corpus.open_corpus import Options
from pipeline.plan import finished
from pipeline.plan.jobs import ExtractJob
from pipeline.plan.planner import plan
from pipeline.plan.session import Session
from pipeline.stage import Spec, Track

RECIPE = """
[dataset]
reader = "table"
labels = "label"
protocol = "official"

[features.sound]
audio = { stage = "audio_mfcc", align = { mode = "pad", length = 1 } }
[features.pitch]
audio = { stage = "audio_opensmile", align = { mode = "broadcast", length = 1 } }
"""
PER_FILE = 50
MEASURED = """
import pathlib, runpy, sys
sys.argv = {line}
try:
    runpy.run_module("pipeline.cli.start", run_name="__main__")
finally:
    sys.stderr.write(pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""
"""Says the most memory that it held, in kB. `getrusage` says that of the process that started it, if that is more."""


def corpus(root: Path, rows: int, per_file: int) -> None:
    """A table of `rows` utterances, so many in each WAV file, twenty to a dialogue."""
    root.mkdir(parents=True)
    sound = np.zeros(160, np.int16)
    for number in range(-(-rows // per_file)):
        soundfile.write(root / f"{number}.wav", sound + number % 1000, 16000)
    with (root / "utterances.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["utterance", "dialogue", "audio", "audio_start_s", "audio_end_s", "split", "label"])
        for i in range(rows):
            part, start = ("train", "train", "train", "valid", "test")[i // 20 % 5], i % per_file
            lines.writerow([f"u{i}", f"d{i // 20}", f"{i // per_file}.wav", start, start + 1, part, i % 2])


def fill(home: Path, recipe: Path, root: Path) -> None:
    """Saves a shard for each that the plan asks for."""
    catalogue = Session.open(Home(home), Options(dataset=str(recipe), root=str(root))).catalogue
    track = Track.of(np.zeros((1, 1), np.float32))
    for job in (job for job in plan(catalogue).jobs if isinstance(job, ExtractJob)):
        for run in job.runs:
            ids = [row.id for row in job.rows]
            table = shards.to_table(ids, run.keys, [track] * len(ids), Spec(1), {"digest": run.node.digest})
            about = {"stage": run.node.name, "rows": len(ids), "computed": len(ids)}
            catalogue.store.save(
                run.node.digest,
                run.shard,
                lambda path, table=table: shards.write(table, path),
                suffix=".parquet",
                rows=run.keys,
                about=about,
            )


def timed(home: Path, line: list[str]) -> tuple[float, float]:
    """Seconds and megabytes of a call."""
    program = MEASURED.format(line=json.dumps(["affectory", *line]))
    environment = {**os.environ, "AFFECTORY_HOME": str(home)}
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["jobs"] == 0
    return time.perf_counter() - began, int(done.stderr.split()[-1]) / 1e3


def measure(rows: int, per_file: int) -> None:
    """Prints calls without work: one that plans in full, and one that goes by the stamp of the one before."""
    with tempfile.TemporaryDirectory() as place:
        home, root, recipe = (Path(place) / name for name in ("home", "corpus", "large.toml"))
        recipe.write_text(RECIPE)
        corpus(root, rows, per_file)
        fill(home, recipe, root)
        line = ["extract", "--dataset", str(recipe), "--root", str(root), "--modality", "audio", "--json"]
        timed(home, line)  # digests the media
        shutil.rmtree(home / finished.FOLDER, ignore_errors=True)
        time.sleep(2 * finished.SETTLED_S)
        ways = {"in full": timed(home, line), "by the stamp": timed(home, line)}
        floor = _floor()
    for way, (seconds, size) in ways.items():
        sys.stdout.write(
            f"No-op of {rows:,} utterances, two stages, {way}: {seconds:.2f} s, {size:,.0f} MB "
            f"(python -c 'import pyarrow, pydantic': {floor:.2f} s)\n"
        )


def _floor() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import pyarrow, pydantic"], check=True)
    return time.perf_counter() - began


def main() -> None:
    """The two sizes; filling the cache of the larger takes a quarter of an hour."""
    measure(10_000, 1)
    measure(1_000_000, PER_FILE)


if __name__ == "__main__":
    main()
