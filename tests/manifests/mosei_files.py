"""The layouts of CMU-MOSEI, the raw release and MMSA's copy, for the tests of its reader."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from manifests.mosei import Mosei
from pipeline.errors import InputError
from pipeline.utterance import Utterance

RECIPE = Path(__file__).parents[2] / "manifests" / "mosei.toml"
TRAIN, VALID, TEST = "hh04W3xXa5s", "188343", "7l3BNtSE0xc"
ANSWERS = ("sentiment", "anger", "disgust", "fear", "happiness", "sadness", "surprise")
HEADER = ("HITId", "Input.VIDEO_ID", "Input.CLIP", "WorkerId", *(f"Answer.{name}" for name in ANSWERS))
CLIPS = "Raw/Videos/Segmented/Combined"


def answer(video: str = TRAIN, clip: int = 0, worker: str = "A1", **answers: object) -> dict[str, object]:
    given = dict.fromkeys(ANSWERS, 0) | answers
    row = {"HITId": "H", "Input.VIDEO_ID": video, "Input.CLIP": clip, "WorkerId": worker}
    return row | {f"Answer.{name}": value for name, value in given.items()}


def write_answers(root: Path, rows: Iterable[Mapping[str, object]], name: str = "batch.csv") -> Path:
    folder = root / "Raw/Labels"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, HEADER)
        table.writeheader()
        table.writerows(rows)
    return root


def write_raw(root: Path, transcripts: Mapping[str, str] | None = None, raw: str = "Raw") -> Path:
    """Transcripts by video, and one worker's answer to the first clip of each; media are not written."""
    said = {TRAIN: f"{TRAIN}___0___0.5___4.25___We begin.\n"} if transcripts is None else transcripts
    folder = root / raw / "Transcript/Segmented/Combined"
    folder.mkdir(parents=True)
    for video, text in said.items():
        (folder / f"{video}.txt").write_text(text, encoding="utf-8")
    write_answers(root if raw == "Raw" else root / raw / "..", [answer(video, 0, sentiment=1) for video in said])
    return root


def write_mmsa(root: Path, *rows: str) -> Path:
    """In the order of columns that MMSA's MOSEI has."""
    root.mkdir(parents=True, exist_ok=True)
    columns = "video_id,clip_id,text,label,annotation,mode,label_T,label_A,label_V"
    (root / "label.csv").write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return root


def scan(root: Path) -> dict[str, Utterance]:
    return {row.id: row for row in Mosei().scan(root)}


def one(root: Path, line: str, video: str = TRAIN) -> Utterance:
    (row,) = Mosei().scan(write_raw(root, {video: line + "\n"}))
    return row


def problems(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        Mosei().scan(root)
    return str(caught.value)
