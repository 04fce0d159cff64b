"""`affectory doctor`: opens every media file of a corpus and names its problems, before any feature is computed.

There is one finding for each utterance and modality: the reason for which extraction would give no values, or a problem
that decoders conceal. All findings are written to `doctor/<dataset>.parquet` at home, a row each; `code` is empty for
an utterance without a problem.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cache.atomic import replacing, writable
from pipeline.cache.home import STREAMS
from pipeline.errors import InputError, closest
from pipeline.media import doctor_pool
from pipeline.media.doctor_memory import Content, recall, remember
from pipeline.media.doctor_rules import (
    GRAVITY,
    AudioFacts,
    Code,
    Examination,
    Kind,
    Problem,
    VideoFacts,
    fails,
    problems,
)
from pipeline.media.files import WITHOUT_BYTES
from pipeline.reason import Unreadable
from pipeline.utterance import Stretch, Utterance

WORST = 10
"""How many files are shown to a person."""
SAVE_EVERY = 50
"""How many examinations a killed run may lose."""

_KINDS: dict[str, Kind] = {"audio": "audio", "visual": "video"}
_SCHEMA = pa.schema(
    [
        *(
            (name, pa.string())
            for name in ("utterance", "modality", "split", "code", "detail", "path", "codec", "decoder")
        ),
        ("rate_hz", pa.float64()),
        *((name, pa.int32()) for name in ("channels", "width", "height")),
        *((name, pa.float64()) for name in ("duration_s", "declared_s", "start_s")),
    ]
)


@dataclass(frozen=True)
class Finding:
    """The problems of one utterance's audio or video, the gravest first.

    examinations: those of the files of its stretches, in order.
    """

    row: Utterance
    modality: str
    stretches: tuple[Stretch, ...]
    examinations: tuple[Examination, ...]
    problems: tuple[Problem, ...]

    @property
    def worst(self) -> int:
        """The index of the stretch with the gravest problem; 0 if there is no problem."""
        return self.problems[0].stretch if self.problems else 0

    @property
    def path(self) -> str:
        """The file of that stretch."""
        return self.stretches[self.worst].path

    @property
    def code(self) -> Code | None:
        """The gravest problem; None if there is no problem."""
        return self.problems[0].code if self.problems else None

    @property
    def detail(self) -> str:
        """All problems in words."""
        return "; ".join(dict.fromkeys(problem.detail for problem in self.problems))


def doctor(
    name: str, rows: Sequence[Utterance], root: Path, folder: Path, *, modality: str = "", workers: int | None = None
) -> dict[str, Any]:
    """Examines the media of a corpus's rows, writes `<folder>/<name>.parquet`, and returns a summary as JSON-able data.

    root: the folder of the media. workers: how many processes decode, at least one; None for one per core. Files that
    an earlier call examined are not opened again. Raises InputError for a modality without media files.
    """
    began = time.perf_counter()
    modalities = _modalities(modality)
    if not writable(folder):  # told before the work, whose findings it is to hold
        raise InputError(f"{folder} cannot be written: set AFFECTORY_HOME to a folder that can")
    folder.mkdir(parents=True, exist_ok=True)
    examinations, probed = _examined(_contents(rows, root, modalities), folder / STREAMS, _processes(workers))
    findings = [finding for modality in modalities for finding in _findings(rows, modality, examinations)]
    path = folder / f"{name}.parquet"
    _write(findings, path)
    summary = {**_summary(findings), "probed": probed, "parquet": str(path)}
    return summary | {"seconds": round(time.perf_counter() - began, 2)}


def _modalities(asked: str) -> tuple[str, ...]:
    if asked and asked not in _KINDS:
        raise InputError(f"modality {asked!r} has no media files: {closest(asked, _KINDS)}")
    return (asked,) if asked else tuple(_KINDS)


def _processes(workers: int | None) -> int:
    """At least one, because decoders never run in this process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores if workers is None else workers)


def _contents(rows: Sequence[Utterance], root: Path, modalities: Iterable[str]) -> dict[Content, Path]:
    """The distinct contents of the media files, each with a file that has it."""
    paths: dict[Content, Path] = {}
    for modality in modalities:
        for stretch in (stretch for row in rows for stretch in _stretches(row, modality)):
            if stretch.digest is not None and stretch.digest not in WITHOUT_BYTES:
                paths.setdefault(Content(_KINDS[modality], stretch.digest), root / stretch.path)
    return paths


def _stretches(row: Utterance, modality: str) -> tuple[Stretch, ...]:
    stretches: tuple[Stretch, ...] = getattr(row, _KINDS[modality])
    return stretches


def _examined(paths: Mapping[Content, Path], memory: Path, workers: int) -> tuple[dict[Content, Examination], int]:
    """The examination of each content, and how many of them were not remembered."""
    known = recall(paths.keys(), memory)
    new = {content: path for content, path in paths.items() if content not in known}
    unsaved: dict[Content, Examination] = {}
    try:
        with closing(doctor_pool.examined(new, workers)) as examinations:
            for content, examination in examinations:
                known[content] = unsaved[content] = examination
                if len(unsaved) >= SAVE_EVERY:
                    remember(unsaved, memory)
                    unsaved.clear()
    finally:
        remember(unsaved, memory)
    return known, len(new)


def _findings(
    rows: Sequence[Utterance], modality: str, examinations: Mapping[Content, Examination]
) -> Iterator[Finding]:
    """One finding for each utterance that has the modality, in the order of the manifest."""
    kind = _KINDS[modality]
    users = Counter(path for row in rows for path in row.files(kind))
    known = {**examinations, **{Content(kind, none): why for none, why in WITHOUT_BYTES.items()}}
    for row in rows:
        if stretches := _stretches(row, modality):
            own = tuple(known[Content(kind, str(stretch.digest))] for stretch in stretches)
            judged = problems(row, stretches, own, alone=all(users[path] == 1 for path in row.files(kind)))
            yield Finding(row, modality, stretches, own, tuple(judged))


def _write(findings: Sequence[Finding], path: Path) -> None:
    records = [_record(finding) for finding in findings]
    with replacing(path) as beside:
        pq.write_table(pa.Table.from_pylist(records, schema=_SCHEMA), beside)


def _record(finding: Finding) -> dict[str, Any]:
    """A row of the Parquet file, with the facts of the file at `path`; `rate_hz` counts samples or frames."""
    facts = finding.examinations[finding.worst]
    names = ("codec", "decoder", "rate_hz", "channels", "width", "height", "declared_s", "start_s")
    return {
        "utterance": finding.row.id,
        "modality": finding.modality,
        "split": finding.row.split,
        "code": finding.code and finding.code.value,
        "detail": finding.detail,
        "path": finding.path,
        **{name: getattr(facts, name, None) for name in names},
        "duration_s": None if isinstance(facts, Unreadable) else facts.end_s - facts.start_s,
    }


def _summary(findings: Sequence[Finding]) -> dict[str, Any]:
    by_file = {
        (finding.modality, stretch.path): examination
        for finding in findings
        for stretch, examination in zip(finding.stretches, finding.examinations, strict=True)
    }
    readable = [facts for facts in by_file.values() if not isinstance(facts, Unreadable)]
    audios = [facts for facts in readable if isinstance(facts, AudioFacts)]
    videos = [facts for facts in readable if isinstance(facts, VideoFacts)]
    kinds: dict[str, Sequence[AudioFacts | VideoFacts]] = {"audio": audios, "video": videos}
    return {
        "files": len({path for _, path in by_file}),
        "hours": {kind: round(sum(f.end_s - f.start_s for f in facts) / 3600, 4) for kind, facts in kinds.items()},
        "reasons": _reasons(findings),
        "worst": _worst(findings),
        "codecs": {kind: _counted(f.codec for f in facts) for kind, facts in kinds.items()},
        "rates_hz": {kind: _counted(_rate(f) for f in facts) for kind, facts in kinds.items()},
        "sizes": _counted(f"{f.width}x{f.height}" for f in videos),
        "decoders": _counted(f.decoder for f in videos),
    }


def _counted(names: Iterable[str]) -> dict[str, int]:
    """How often each name occurs, the most frequent first."""
    return dict(Counter(names).most_common())


def _rate(facts: AudioFacts | VideoFacts) -> str:
    return f"{facts.rate_hz:.6g}" if facts.rate_hz else "unknown"


def _reasons(findings: Iterable[Finding]) -> dict[str, dict[str, dict[str, int]]]:
    """The number of utterances by modality, split (`no split` without one) and code."""
    codes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for finding in findings:
        if finding.code is not None:
            codes[finding.modality][finding.row.split or "no split"].append(finding.code.value)
    return {
        modality: {split: _counted(names) for split, names in sorted(splits.items())}
        for modality, splits in codes.items()
    }


def _worst(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """The files that cost most, by code: first those that give no values, then by the number of utterances."""
    users: dict[tuple[str, Code], list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.code is not None:
            users[finding.path, finding.code].append(finding)
    count = {place: len({finding.row.id for finding in users[place]}) for place in users}
    ranked = sorted(users, key=lambda place: (not fails(place[1]), -count[place], GRAVITY.index(place[1]), place[0]))
    return [
        {"path": path, "code": code.value, "utterances": count[path, code], "detail": users[path, code][0].detail}
        for path, code in ranked[:WORST]
    ]
