"""The planner on a corpus of ten million utterances that nobody has: `python -m tests.bench.simulate_scale`.

    python -m tests.bench.simulate_scale [--rows 10000000] [--part 100000] [--processes 2]

The rows are made in parts that end where dialogues end, with made-up digests of media, and each part goes through the
planner that `affectory extract` uses, over an empty cache: rows to keys, keys to shards, shards to jobs, two stages.
Memory is bounded by a part. Shards end where dialogues do, so that those of a part are those of the whole, but for the
last of each split in a part. Rows are neither scanned nor is their media hashed: that belongs to reader and disk.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from pipeline.cache.home import Home
from pipeline.cache.store import Store
from pipeline.collection import paused_collection
from pipeline.corpus.manifest import Manifest
from pipeline.corpus.recipe import nodes
from pipeline.corpus.recipe_file import read_recipe
from pipeline.plan.catalogue import Catalogue
from pipeline.plan.jobs import ExtractJob
from pipeline.plan.planner import plan
from pipeline.stage import Target
from pipeline.utterance import Audio, Utterance
from tests.bench.nothing import RECIPE

DIALOGUE, PER_FILE = 20, 50
"""Utterances in a dialogue, and in a media file."""
SPLITS = ("train", "train", "train", "valid", "test")


class Planned(NamedTuple):
    """What one part came to. cpu_s: of a processor. megabytes: the most memory of its process until then."""

    rows: int
    jobs: int
    shards: int
    listings: int
    digest: str
    cpu_s: float
    megabytes: float


class Counted(Store):
    """A store that counts the listings it is asked for: one folder here, one request or more of a remote."""

    listings = 0

    def listing(self, stage: str) -> dict[str, bool]:
        """See `Store.listing`."""
        self.listings += 1
        return super().listing(stage)


def utterances(first: int, last: int) -> Iterator[Utterance]:
    """The rows from one number to before another."""
    for i in range(first, last):
        dialogue, (file, place) = i // DIALOGUE, divmod(i, PER_FILE)
        path = f"{file:09d}.wav"
        audio = Audio(path=path, start_s=place, end_s=place + 1.0, digest=blake3(path.encode()).hexdigest())
        split = SPLITS[dialogue % len(SPLITS)]
        yield Utterance(id=f"u{i:010d}", dialogue=f"d{dialogue:09d}", turn=i % DIALOGUE, audio=(audio,), split=split)


def planned(first: int, rows: int, place: Path) -> Planned:
    """Plans one part, from its first row on."""
    began = time.process_time()
    recipe = read_recipe(place / "large.toml", root=str(place), memory=Home(place).memory, home=place)
    with paused_collection():
        manifest = Manifest(place, tuple(utterances(first, first + rows)))
        wanted = [(node, None) for node in nodes(recipe, "audio", ())]
        store = Counted(place / "cache")
        jobs = plan(Catalogue(manifest, store, Target("regression", ()), {}, wanted)).jobs
    extracts = [job for job in jobs if isinstance(job, ExtractJob)]
    content = blake3("".join(run.shard for job in extracts for run in job.runs).encode()).hexdigest()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    shards = sum(len(job.runs) for job in extracts)
    cpu_s = time.process_time() - began
    return Planned(sum(len(job.rows) for job in extracts), len(extracts), shards, store.listings, content, cpu_s, peak)


def simulate(rows: int, part: int, processes: int) -> tuple[Sequence[Planned], float]:
    """All parts, and the seconds they took."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(processes) as pool:
        place = Path(folder)
        (place / "large.toml").write_text(RECIPE)
        began = time.perf_counter()
        one = partial(planned, rows=part, place=place)
        return list(pool.map(one, range(0, rows, part))), time.perf_counter() - began


def main() -> None:
    """Prints what a plan of so many rows takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--part", type=int, default=100_000, help="rows, a multiple of 100")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    parts, seconds = simulate(given.rows, given.part, given.processes)
    names = ("rows", "jobs", "shards", "listings", "cpu_s")
    sums = {name: sum(getattr(part, name) for part in parts) for name in names}
    peak = max(part.megabytes for part in parts)
    digest = blake3("".join(part.digest for part in parts).encode()).hexdigest()
    sys.stdout.write(
        f"{sums['rows']:,} utterances in {len(parts)} parts, {given.processes} processes: {seconds:.0f} s "
        f"({sums['cpu_s']:.0f} s of processors), at most {peak:,.0f} MB a process\n"
        f"{sums['jobs']:,} jobs, {sums['shards']:,} shards (each an object and an action), "
        f"{sums['listings']} listings\nshards {digest[:16]}\n"
    )


if __name__ == "__main__":
    main()
