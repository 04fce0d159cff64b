"""Reads files that were changed by chance, as if they came from a remote: python -m tests.fuzz CASES SEED

Each is refused with an error that a user understands, or it is right: equal to the good one, or of its form. The
answer is JSON: what came of how many cases of each kind, the most seconds of the processor that one took, and the peak
memory of this process while it read one.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cache import record as records
from pipeline.cache import shards
from pipeline.cache.keys import digest
from pipeline.cache.record import Record
from pipeline.cache.states import load_state, save_state
from pipeline.cache.store import Store
from pipeline.corpus import lock_file, pulled_manifest, release_file
from pipeline.corpus.manifest import Manifest
from pipeline.errors import AffectoryError
from pipeline.stage import Spec, State, Track
from pipeline.utterance import Audio, Utterance, Video, to_table
from tests import mutants

STAGE, KEY = digest("stage"), digest("key")
IDS = [f"u{i}" for i in range(8)]
KEYS = [digest(name) for name in IDS]


@dataclass(frozen=True)
class Kind:
    """A kind of file. good: its bytes. read: reads bytes, and returns False for what is accepted and is not right.
    mutate: the changes that keep its form."""

    good: bytes
    read: Callable[[bytes], bool]
    mutate: Callable[[bytes, np.random.Generator], bytes]


def kinds(folder: Path) -> dict[str, Kind]:
    """One good file of each kind that a remote serves, and what reads it. folder: for files."""
    return {
        "record": Kind(records.encode(_record()), _reads_record, _sealed),
        "index": Kind(records.encode_index([_record()]), _reads_index, mutants.json_text),
        "manifest": _manifest(folder),
        "shard": _shard(folder),
        "state": _state(folder),
        "lock": _lock(folder),
        "release": _release(),
    }


def _record() -> Record:
    about = {"stage": "audio_mfcc", "rows": 8, "libraries": {"librosa": "0.1"}, "train": IDS, "recipe": {"a": [1]}}
    reasons = {"u1": "not_media"}
    return Record(
        stage=STAGE, key=KEY, object=digest("o"), suffix=".parquet", size=9, rows=(*KEYS,), reasons=reasons, about=about
    )


def _reads_record(raw: bytes) -> bool:
    read = records.decode(raw)
    return records.decode(records.encode(read)) == read


def _reads_index(raw: bytes) -> bool:
    read = records.decode_index(raw, STAGE)
    return all(record.stage == STAGE and records.decode(records.encode(record)).key == record.key for record in read)


def _sealed(raw: bytes, random: np.random.Generator) -> bytes:
    """A record that was changed and has the digest of what it says now."""
    body = mutants.json_text(b"{" + raw[len(records._HEAD) + 66 :], random)[1:]
    return records._HEAD + records.blake3(body).hexdigest().encode() + b'",' + body


def _manifest(folder: Path) -> Kind:
    audio, video = (
        Audio(path="a.wav", end_s=1.0, digest=KEY),
        Video(path="a.mp4", crop=(0.0, 0.0, 1.0, 1.0), digest=KEY),
    )
    common = {"audio": (audio,), "video": (video,), "text": "hello", "labels": {"emotion": "joy", "valence": 0.5}}
    rows = tuple(Utterance(id=name, dialogue="d", turn=turn, **common) for turn, name in enumerate(IDS))
    good, store = Manifest(folder, rows, media=False), Store(folder / "manifests")

    def read(raw: bytes) -> bool:
        about = {"manifest": good.digest, "weights": {}}
        saved = store.save(STAGE, digest("m", raw.hex()), partial(_write, raw), suffix=".parquet", about=about)
        return pulled_manifest.Pulled(saved).load(store, folder).rows == rows

    pq.write_table(to_table(rows), folder / "manifest", compression="zstd")
    return Kind((folder / "manifest").read_bytes(), read, mutants.parquet)


def _write(raw: bytes, path: Path) -> None:
    path.write_bytes(raw)


def _shard(folder: Path) -> Kind:
    path, random = folder / "shard", np.random.default_rng(0)
    tracks = [Track.of(random.normal(size=(5, 3)).astype(np.float32), np.arange(5.0)) for _ in IDS]
    shards.write(shards.to_table(IDS, KEYS, tracks, Spec(3), {"digest": STAGE, "name": "x"}), path)

    def read(raw: bytes) -> bool:
        path.write_bytes(raw)
        table = shards.open_table(path)
        shards.check(table, STAGE, [*zip(IDS, KEYS, strict=True)])
        found = list(shards.read(table))
        dim = shards.about(table)["dim"]
        return [name for name, _, _ in found] == IDS and all(_is_track(track, dim) for _, _, track in found)

    return Kind(path.read_bytes(), read, mutants.parquet)


def _is_track(track: Track, dim: int) -> bool:
    if track.values is None:
        return track.reason is not None
    valid = np.ones(len(track.values), bool) if track.valid is None else track.valid
    return track.values.shape == (len(valid), dim) and bool(np.isfinite(track.values[valid]).all())


def _state(folder: Path) -> Kind:
    path = folder / "state"
    save_state(State({"weight": np.ones((3, 2), np.float32), "ids": np.arange(4)}, {"words": "a\nb"}), path)

    def read(raw: bytes) -> bool:
        path.write_bytes(raw)
        state = load_state(path)
        return sum(array.nbytes for array in state.tensors.values()) <= len(raw)

    return Kind(path.read_bytes(), read, mutants.safetensors)


def _lock(folder: Path) -> Kind:
    path = folder / "x.lock.json"
    lock_file.write_lock(path, _locked())

    def read(raw: bytes) -> bool:
        path.write_bytes(raw)
        lock = lock_file.read_lock(path)
        return (
            lock_file.Lock.model_validate_json(lock.model_dump_json()) == lock and bool(lock.differences(lock)) is False
        )

    return Kind(path.read_bytes(), read, mutants.json_text)


def _locked() -> lock_file.Lock:
    return lock_file.Lock(manifest=KEY, manifest_object=STAGE, weights={"w": KEY}, stages={f"text_x {STAGE}": KEY})


def _release() -> Kind:
    stage = {"index": KEY, "rows": 8, "failed": 0, "objects": 1, "bytes": 9}
    text = {"name": "x", "version": "1.0", "dataset": "x", "date": "2026-01-01", "rows": 8, "recipe": ["a = 1", ""]}
    text |= {"manifest": {"digest": KEY, "object": KEY, "key": KEY, "bytes": 9}, "stages": {f"text_x {STAGE}": stage}}
    text |= {"folds": {"name": "own", "lines": ["a,1"]}, "weights": {"w": KEY}, "changes": ["a.b=1"]}

    def read(raw: bytes) -> bool:
        release = release_file.parse(raw, "x-1.0", "a remote")
        return release.label == "x-1.0" and replace(release.pulled.record).object == release.manifest.object

    return Kind(json.dumps(text).encode(), read, mutants.json_text)


def outcome(kind: Kind, raw: bytes) -> str:
    """What comes of a file: refused, right, or what should never be."""
    try:
        return "right" if kind.read(raw) else "WRONG"
    except AffectoryError as error:
        return "refused" if str(error).strip() else "NO MESSAGE"
    except Exception as error:
        return f"TRACEBACK {type(error).__name__}: {str(error)[:200]}"


def run(cases: int, seed: int) -> dict[str, object]:
    """Tries so many files, the same number of each kind."""
    random, counts, slowest, peak_mb = np.random.default_rng(seed), Counter[str](), 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        every = kinds(Path(folder))
        for name, kind in every.items():
            if (found := outcome(kind, kind.good)) != "right":
                counts[f"{name}: the good one {found}"] += 1
        for case in range(cases):
            name, kind = list(every.items())[case % len(every)]
            changes = [kind.mutate] if random.random() < 0.6 else mutants.BYTES
            raw = changes[random.integers(len(changes))](kind.good, random)
            _forget_peak()
            began = time.process_time()
            counts[f"{name}: {outcome(kind, raw)}"] += 1
            slowest, peak_mb = max(slowest, time.process_time() - began), max(peak_mb, _peak_mb())
    return {"outcomes": dict(sorted(counts.items())), "slowest_s": round(slowest, 3), "peak_mb": round(peak_mb)}


def _forget_peak() -> None:
    """Gives back what the change of a file took, and makes the peak memory of this process what it holds now."""
    pa.default_memory_pool().release_unused()
    Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()  # of this program alone, not of the one that began it
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(int(sys.argv[1]), int(sys.argv[2])), indent=1) + "\n")
