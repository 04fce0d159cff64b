"""`affectory doctor`: opens every media file of a corpus and says what is wrong with it, before any feature is made.

One finding for each utterance and modality: the reason for which extraction would give it no values, or what a decoder
hides. All of them stand in `doctor/<dataset>.parquet` at home, a row for each, `code` empty where all is well.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cache.atomic import replacing
from pipeline.cache.home import STREAMS
from pipeline.errors import InputError, closest
from pipeline.media.doctor_pool import Examination, Kind, examined
from pipeline.media.doctor_rules import GRAVITY, Code, Found, Problem, Sound, fails, problems
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import MISSING, Audio, Utterance, Video

WORST = 10
"""How many files are shown to a person."""

_KINDS: dict[str, Kind] = {"audio": "audio", "visual": "video"}
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("utterance", "modality", "split", "code", "detail", "path", "codec")),
        ("rate_hz", pa.float64()),
        *((name, pa.int32()) for name in ("channels", "width", "height")),
        *((name, pa.float64()) for name in ("duration_s", "declared_s", "start_s")),
    ]
)


@dataclass(frozen=True)
class Finding:
    """What became of one utterance's sound or pictures."""

    row: Utterance
    modality: str
    path: str
    found: Found
    problems: tuple[Problem, ...]

    @property
    def code(self) -> Code | None:
        """The gravest problem; None where all is well."""
        return self.problems[0].code if self.problems else None

    @property
    def detail(self) -> str:
        """Everything that is wrong, in words."""
        return "; ".join(dict.fromkeys(problem.detail for problem in self.problems))


def doctor(
    name: str, rows: Sequence[Utterance], root: Path, folder: Path, *, modality: str = "", workers: int | None = None
) -> dict[str, Any]:
    """Examines the media of a corpus's rows and writes `<folder>/<name>.parquet`; returns a summary as JSON-able data.

    root: where the media lie. workers: processes that decode, None for one a core, at least one. Files that an earlier
    call examined are not opened again. Raises InputError for a modality without media files.
    """
    began = time.perf_counter()
    modalities = _modalities(modality)
    known, probed = examined(_tasks(rows, root, modalities), folder / STREAMS, _processes(workers))
    findings = [finding for modality in modalities for finding in _findings(rows, modality, known)]
    path = folder / f"{name}.parquet"
    _write(findings, path)
    answer = {**_summary(findings), "probed": probed, "parquet": str(path)}
    return answer | {"seconds": round(time.perf_counter() - began, 2)}


def _modalities(asked: str) -> tuple[str, ...]:
    if asked and asked not in _KINDS:
        raise InputError(f"modality {asked!r} has no media files: {closest(asked, _KINDS)}")
    return (asked,) if asked else tuple(_KINDS)


def _processes(workers: int | None) -> int:
    """At least one: decoders never run in this process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores if workers is None else workers)


def _tasks(rows: Sequence[Utterance], root: Path, modalities: Iterable[str]) -> list[Examination]:
    """The sound and the pictures of each distinct content once."""
    found: dict[tuple[Kind, str], Examination] = {}
    for modality in modalities:
        for _, source in _sources(rows, modality):
            if source.digest is not None and source.digest != MISSING:
                kind = _KINDS[modality]
                found.setdefault((kind, source.digest), Examination(kind, source.digest, root / source.path))
    return list(found.values())


def _sources(rows: Sequence[Utterance], modality: str) -> Iterator[tuple[Utterance, Audio | Video]]:
    for row in rows:
        source: Audio | Video | None = getattr(row, _KINDS[modality])
        if source is not None:
            yield row, source


def _findings(rows: Sequence[Utterance], modality: str, known: dict[tuple[Kind, str], Found]) -> Iterator[Finding]:
    """One for each utterance that has the modality, in the order of the manifest."""
    users = Counter(source.path for _, source in _sources(rows, modality))
    for row, source in _sources(rows, modality):
        found = known.get((_KINDS[modality], str(source.digest)), Unreadable(Reason.MISSING_FILE, "no such file"))
        wrong = problems(row, source, found, alone=users[source.path] == 1)
        yield Finding(row, modality, source.path, found, tuple(wrong))


def _write(findings: Sequence[Finding], path: Path) -> None:
    records = [_record(finding) for finding in findings]
    with replacing(path) as beside:
        pq.write_table(pa.Table.from_pylist(records, schema=_SCHEMA), beside)


def _record(finding: Finding) -> dict[str, Any]:
    """A row of the Parquet file; `rate_hz` counts samples or frames in a second."""
    found = finding.found
    names = ("codec", "rate_hz", "channels", "width", "height", "declared_s", "start_s")
    return {
        "utterance": finding.row.id,
        "modality": finding.modality,
        "split": finding.row.split,
        "code": finding.code and finding.code.value,
        "detail": finding.detail,
        "path": finding.path,
        **{name: getattr(found, name, None) for name in names},
        "duration_s": None if isinstance(found, Unreadable) else found.end_s - found.start_s,
    }


def _summary(findings: Sequence[Finding]) -> dict[str, Any]:
    by_file = {(f.modality, f.path): f.found for f in findings}
    readable = {name: found for name, found in by_file.items() if not isinstance(found, Unreadable)}
    hours: dict[str, float] = dict.fromkeys(_KINDS.values(), 0.0)
    codecs: dict[str, Counter[str]] = {kind: Counter() for kind in _KINDS.values()}
    rates: dict[str, Counter[str]] = {kind: Counter() for kind in _KINDS.values()}
    sizes = Counter[str]()
    for (modality, _), found in readable.items():
        kind = _KINDS[modality]
        hours[kind] += (found.end_s - found.start_s) / 3600
        codecs[kind][found.codec] += 1
        rates[kind][f"{found.rate_hz:.6g}" if found.rate_hz else "unknown"] += 1
        if not isinstance(found, Sound):
            sizes[f"{found.width}x{found.height}"] += 1
    return {
        "files": len({path for _, path in by_file}),
        "hours": {kind: round(count, 4) for kind, count in hours.items()},
        "reasons": _reasons(findings),
        "worst": _worst(findings),
        "codecs": {kind: dict(found.most_common()) for kind, found in codecs.items()},
        "rates_hz": {kind: dict(found.most_common()) for kind, found in rates.items()},
        "sizes": dict(sizes.most_common()),
    }


def _reasons(findings: Iterable[Finding]) -> dict[str, dict[str, dict[str, int]]]:
    """Utterances by modality, split (`no split` without one) and code."""
    found: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for finding in findings:
        if finding.code is not None:
            found[finding.modality][finding.row.split or "no split"][finding.code.value] += 1
    return {
        modality: {split: dict(codes.most_common()) for split, codes in sorted(splits.items())}
        for modality, splits in found.items()
    }


def _worst(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Files and codes by what they cost: first those that give no values, then those of most utterances."""
    users: dict[tuple[str, Code], list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.code is not None:
            users[finding.path, finding.code].append(finding)
    count = {place: len({finding.row.id for finding in found}) for place, found in users.items()}
    ranked = sorted(users, key=lambda place: (not fails(place[1]), -count[place], GRAVITY.index(place[1]), place[0]))
    return [
        {"path": path, "code": code.value, "utterances": count[path, code], "detail": users[path, code][0].detail}
        for path, code in ranked[:WORST]
    ]
