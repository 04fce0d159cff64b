"""The small corpora that the contract tests run each reader on.

A new reader adds a line to `CASES`: its options, and the function that writes a small corpus for it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from manifests._sentiment import published
from pipeline.plugins import find, names
from pipeline.reader import Reader
from tests.foreign import mmsa_unaligned
from tests.manifests.meld_files import write_fair

READERS = names("manifests")


def _as_it_is(root: Path, demo: Path) -> Path:
    """The synthetic corpus stands in for IEMOCAP, whose layout it has."""
    return demo


def _table(root: Path, demo: Path) -> Path:
    root.mkdir()
    splits = ("train", "train", "train", "valid", "test")
    with (root / "utterances.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["utterance", "dialogue", "speaker", "session", "split", "text", "audio", "mood"])
        for i in range(60):
            group = i // 3 % 5
            cells = (f"d{i // 3}", f"ann{group}", f"s{group}", splits[group], f"words {i}", f"{i}.wav")
            rows.writerow([f"u{i * 37 % 60:02}", *cells, ("low", "high", "")[i % 3]])
    return root


def _meld(root: Path, demo: Path) -> Path:
    parts = {
        "train": ("train_splits", 15),
        "dev": ("dev_splits_complete", 4),
        "test": ("output_repeated_splits_test", 6),
    }
    names = ("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
    said = ("oh", "Joey", "joy", "positive")
    for part, (folder, dialogues) in parts.items():
        (root / folder).mkdir(parents=True)
        with (root / f"{part}_sent_emo.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow([*names, "Season", "Episode", "StartTime", "EndTime"])
            for i in range(3 * dialogues):
                d, u = divmod(i, 3)
                (root / folder / f"dia{d}_utt{u}.mp4").touch()
                rows.writerow([i, *said, d, u, 1, d, f"0:00:0{u},000", f"00:00:0{u},5"])
    write_fair(
        root,
        [(part, 0, 1, 0, clip, 0.5, 1.5) for part in parts for clip in (1, 2)],
        [(part, 0, 1, frame, 0, 0, 640, 360) for part in parts for frame in range(24)],
    )
    return root


def _videos(corpus: str) -> list[str]:
    """Five videos of each part of the published split."""
    parts = published(corpus)
    return [name for part in ("train", "valid", "test") for name in [v for v, p in parts.items() if p == part][:5]]


def _touched(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _mosi(root: Path, demo: Path) -> Path:
    (root / "Raw/Transcript/Segmented").mkdir(parents=True)
    (root / "Labels").mkdir()
    labels = []
    for video in _videos("mosi"):
        lines = "".join(f"{n}_DELIM_WORDS {n}\n" for n in range(1, 4))
        (root / f"Raw/Transcript/Segmented/{video}.annotprocessed").write_text(lines)
        labels += [f"{n},{n + 0.9},{video},{n},{n - 2.2:.1f}\n" for n in range(1, 4)]
        for n in range(1, 4):
            sound, film = f"Raw/Audio/WAV_16000/Segmented/{video}_{n}.wav", f"Raw/Video/Segmented/{video}_{n}.mp4"
            _touched(root, sound, film)
    (root / "Labels/OpinionLevelSentiment.csv").write_text("".join(labels))
    return root


def _mosei(root: Path, demo: Path) -> Path:
    emotions = ("happiness", "sadness", "anger", "surprise", "disgust", "fear")
    columns = ("Input.VIDEO_ID", "Input.CLIP", "WorkerId", "Answer.sentiment", *(f"Answer.{name}" for name in emotions))
    answers = [",".join(columns)]
    (root / "Raw/Transcript/Segmented/Combined").mkdir(parents=True)
    for video in _videos("mosei"):
        lines = "".join(f"{video}___{n}___{n}.0___{n}.9___words {n}\n" for n in range(3))
        (root / f"Raw/Transcript/Segmented/Combined/{video}.txt").write_text(lines)
        answers += [f"{video},{n},{worker},{n - 1},{n},0,0,0,0,1" for n in range(3) for worker in "AB"]
        films = (f"Raw/Videos/Full/Combined/{video}.mp4", f"Raw/Videos/Segmented/Combined/{video}_1.mp4")
        _touched(root, f"Raw/Audio/Full/WAV_16000/{video}.wav", *films)
    (root / "Raw/Labels").mkdir()
    (root / "Raw/Labels/batch.csv").write_text("\n".join(answers) + "\n")
    return root


def _ravdess(root: Path, demo: Path) -> Path:
    for channel, emotion, actor in [(c, e, a) for c in (1, 2) for e in range(1, 5) for a in range(1, 11)]:
        name = f"{channel:02}-{emotion:02}-01-01-01-{actor:02}"
        _touched(root, f"audio/Actor_{actor:02}/03-{name}.wav", f"video/Actor_{actor:02}/01-{name}.mp4")
    return root


def _crema_d(root: Path, demo: Path) -> Path:
    names = [f"{actor}_DFA_{emotion}_XX" for actor in range(1001, 1011) for emotion in ("ANG", "HAP", "NEU")]
    for name in names:
        _touched(root, f"AudioWAV/{name}.wav", f"VideoFlash/{name}.flv")
    (root / "SentenceFilenames.csv").write_text("\n".join(["Stimulus_Number,Filename", *(f"1,{n}" for n in names)]))
    (root / "processedResults").mkdir()
    votes = [f"{i},{name},{'AHN'[i % 3]},1,{('A', 'D', 'A:D')[i % 3]},1,H,1" for i, name in enumerate(names)]
    head = ",FileName,VoiceVote,VoiceLevel,FaceVote,FaceLevel,MultiModalVote,MultiModalLevel"
    (root / "processedResults/summaryTable.csv").write_text("\n".join([head, *votes]))
    return root


def _sims(root: Path, demo: Path) -> Path:
    lines = ["video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode"]
    for video, clip in [(video, clip) for video in range(1, 13) for clip in range(1, 6)]:
        part = ("train", "train", "train", "valid", "test")[clip - 1]  # the split cuts through each video
        lines.append(f"video_{video:04},{clip:04},我不想说,{0.4 * (clip - 3):.1f},0.2,-0.4,0.0,Neutral,{part}")
        _touched(root, f"Raw/video_{video:04}/{clip:04}.mp4")
    (root / "label.csv").write_text("\n".join(lines), encoding="utf-8")
    return root


def _sims_v2(root: Path, demo: Path) -> Path:
    """Its table has another name."""
    _sims(root, demo)
    (root / "label.csv").rename(root / "meta.csv")
    return root


def _imported(root: Path, demo: Path) -> Path:
    root.mkdir()
    mmsa_unaligned(root / "features.pkl", {"train": 30, "valid": 10, "test": 20}, widths={"text": 4, "audio": 3})
    return root


CASES: Mapping[str, tuple[Mapping[str, Any], Callable[[Path, Path], Path]]] = {
    "ch_sims": ({}, _sims),
    "ch_sims_v2": ({}, _sims_v2),
    "crema_d": ({}, _crema_d),
    "demo": ({"per_cell": 2}, _as_it_is),
    "iemocap": ({}, _as_it_is),
    "imported": ({"label": "annotation", "classes": ("Negative", "Positive")}, _imported),
    "meld": ({"realign": "fair"}, _meld),
    "mosei": ({}, _mosei),
    "mosi": ({}, _mosi),
    "ravdess": ({}, _ravdess),
    "table": ({"label": "mood", "classes": ("low", "high")}, _table),
}
"""The options of each reader, and a function that writes a small corpus to a root, given a demo corpus of 60 rows."""


def build(name: str, cases: Mapping[str, Any] = CASES) -> Reader:
    if name not in cases:
        pytest.fail(f"manifests/{name}.py has no small corpus in CASES of tests/contracts/reader_cases.py: add it")
    return find("manifests", name, Reader)(**cases[name][0])  # type: ignore[type-abstract]
