"""The layouts of CMU-MOSI, the raw release and MMSA's copy, for the tests of its reader."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from manifests.mosi import Mosi
from pipeline.errors import InputError
from pipeline.utterance import Utterance

RECIPE = Path(__file__).parents[2] / "manifests" / "mosi.toml"
TRAIN, VALID, TEST = "03bSnISJMiM", "_dI--eQ6qVU", "f_pcplsH_V0"
COLUMNS = ("video_id", "clip_id", "text", "label", "label_T", "label_A", "label_V", "annotation", "mode")
OTHER_ORDER = ("video_id", "clip_id", "text", "label", "annotation", "mode", "label_T", "label_A", "label_V")
Segments = Sequence[tuple[str, float, float, float]]
ONE: Mapping[str, Segments] = {TRAIN: [("ANYHOW IT WAS REALLY GOOD", 0.3, 4.34, 2.4)]}


def write_raw(root: Path, videos: Mapping[str, Segments] = ONE, raw: str = "Raw", labels: str = "Labels") -> Path:
    """Segments of each video as (text, start, end, label), numbered from 1; media are not written."""
    folder = root / raw / "Transcript/Segmented"
    folder.mkdir(parents=True)
    rows = []
    for video, segments in videos.items():
        said = [f"{n}_DELIM_{text}\n" for n, (text, *_) in enumerate(segments, start=1)]
        (folder / f"{video}.annotprocessed").write_text("".join(said))
        rows += [f"{start},{end},{video},{n},{label}\n" for n, (_, start, end, label) in enumerate(segments, start=1)]
    (root / labels).mkdir(parents=True)
    (root / labels / "OpinionLevelSentiment.csv").write_text("".join(rows))
    return root


def clip(video: str = TRAIN, number: str = "0001", mode: str = "train", **cells: str) -> dict[str, str]:
    row = {
        "video_id": video,
        "clip_id": number,
        "text": "A LOT OF SAD PARTS",
        "label": "-0.5",
        "annotation": "Negative",
    }
    return dict.fromkeys(COLUMNS, "") | row | {"mode": mode} | cells


def write_mmsa(root: Path, rows: Sequence[Mapping[str, str]] = (), columns: Sequence[str] = COLUMNS) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with (root / "label.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows or [clip()])
    return root


def scan(root: Path) -> dict[str, Utterance]:
    return {row.id: row for row in Mosi().scan(root)}


def problems(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        Mosi().scan(root)
    return str(caught.value)
