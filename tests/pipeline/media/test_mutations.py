"""Damaged copies of real media: each ends in finite features or in a reason, and none ends or stalls the run."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.cache import shards
from pipeline.cache.home import Home
from pipeline.corpus.open_corpus import Options
from pipeline.plan.session import Session
from pipeline.reason import Reason
from pipeline.run.extraction import extract
from tests.small import stored

RECIPE = """
[dataset]
reader     = "table"
labels     = "label"
max_failed = 1.0

[features.damaged]
audio = { stage = "audio_mfcc", n_mfcc = 5, deltas = 0, rate_hz = 10.0, align = { mode = "pad", length = 4 } }
[features.damaged.visual]
stage    = "visual_resnet50"
backbone = "resnet18"
frames   = 2
size     = 32
weights  = "random"
align    = { mode = "sample", length = 2 }
"""

SOURCES = (
    *("bad/00_good_reference.mp4", "bad/08_rotated_displaymatrix90.mp4", "bad/09_xvid_pcm_iemocap_like_720x480.avi"),
    *("bad/10_mjpeg_pcm.avi", "bad/12_48khz_5.1_speech_in_center_only.mp4", "bad/13b_single_frame_video_3s_audio.mp4"),
    *("bad/15d_pcm24.wav", "bad/16b_84ms_clip_meld_like.mp4", "bad/17_odd_dimension_321x241_yuv444p.mp4"),
    *("bad/24_audio_starts_0.7s_late.mp4", "media/pyfeat_single_face.mp4", "bad/11_8khz_mono.wav"),
)
FAULTS = {Reason.STAGE_ERROR, Reason.WORKER_DIED, Reason.OUT_OF_MEMORY, Reason.IO_ERROR, Reason.DECODER_HUNG}


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 200)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def damage_header(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(64)
    data[start : start + chance.randint(1, 512)] = chance.randbytes(chance.randint(1, 512))


def leave(data: bytearray, chance: random.Random) -> None:
    """Only the name is wrong."""


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (cut, flip, damage_header, leave)


def write_corpus(kit: Path, root: Path, count: int) -> None:
    root.mkdir()
    with (root / "utterances.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["utterance", "audio", "video"])
        for number in range(count):
            chance = random.Random(number)
            source = kit / SOURCES[number % len(SOURCES)]
            mutate = MUTATIONS[number // len(SOURCES) % len(MUTATIONS)]
            data = bytearray(source.read_bytes())
            mutate(data, chance)
            suffix = chance.choice([".mp4", ".avi", ".wav", ".mkv", ".txt"]) if mutate is leave else source.suffix
            (root / f"{number}{suffix}").write_bytes(data)
            table.writerow([f"{mutate.__name__}-{number}-{source.stem}", f"{number}{suffix}", f"{number}{suffix}"])


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_damaged_media_end_in_finite_features_or_a_reason_and_never_in_a_crash_or_a_hang(kit, tmp_path, count):
    write_corpus(kit, tmp_path / "corpus", count)
    recipe = tmp_path / "damaged.toml"
    recipe.write_text(RECIPE)
    session = Session.open(Home(tmp_path / "home"), Options(str(recipe), str(tmp_path / "corpus"), workers=0))
    extract(session)
    seen: dict[str, set[str]] = {}
    for node, scope in session.catalogue.wanted:
        for shard in session.catalogue.of(node, scope).shards:
            for name, _, track in shards.read(stored(session.catalogue, node, shard)):
                assert track.reason not in FAULTS, f"{node.name} of {name}: {track.reason}"
                assert (track.values is None) == (track.reason is not None), name
                if track.values is not None and track.valid is not None:
                    assert np.isfinite(track.values[track.valid]).all(), f"{node.name} of {name}"
                seen.setdefault(node.name, set()).add(name if track.reason is None else track.reason.value)
    for name, found in seen.items():
        assert len(found) > count / 5, f"{name}: hardly anything was left to decode"
        assert found & {reason.value for reason in Reason}, f"{name}: nothing was damaged enough"
