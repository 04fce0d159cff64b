"""IEMOCAP on disk: the turns of a dialogue's evaluation, with every rater's votes, and the lines of its transcript."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.utterance import Value

_NUMBER = r"(\d+\.\d+)"
_TURN = re.compile(
    rf"\[{_NUMBER} - {_NUMBER}\]\t(Ses\d\d[FM]_\w+_([FM])[X\d]+)\t(\w+)\t\[{_NUMBER}, {_NUMBER}, {_NUMBER}\]\s*$",
    re.MULTILINE,
)
_VOTE = re.compile(r"(C-\w+):\t([^\t\n]*)")
_RATING = re.compile(r"(A-\w+):\tval *(\d*); *act *(\d*); *(?:dom *(\d*);)?")
_LINE = re.compile(r"(\w+) \[\d+\.\d+-\d+\.\d+\]:(.*)")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What an evaluation says of one utterance; actor is F or M, who speaks."""

    name: str
    actor: str
    start_s: float
    end_s: float
    labels: Mapping[str, Value]


def malformed(file: Path) -> list[str]:
    """What is wrong in an evaluation, by line.

    A turn begins with a bracket at the start of a line, as nothing else does, and names its file's dialogue.
    """
    lines = ((n, line) for n, line in enumerate(_read(file).splitlines(), start=1) if line.startswith("["))
    return [f"{file}:{n}: not a turn of this dialogue: {line!r}" for n, line in lines if not _belongs(line, file.stem)]


def _belongs(line: str, dialogue: str) -> bool:
    found = _TURN.match(line)
    return found is not None and found[3].rpartition("_")[0] == dialogue


def turns(file: Path) -> list[Turn]:
    """The turns of an evaluation, in its order; anything else in it is passed over."""
    blocks = re.split(r"^(?=\[)", _read(file), flags=re.MULTILINE)
    return [_turn(found, block) for block in blocks if (found := _TURN.match(block))]


def _turn(found: re.Match[str], block: str) -> Turn:
    start, end, name, actor, emotion, valence, arousal, dominance = found.groups()
    means = {"valence": float(valence), "arousal": float(arousal), "dominance": float(dominance)}
    labels = {"emotion": emotion, "votes": _votes(block), "ratings": _ratings(block), **means}
    return Turn(name=name, actor=actor, start_s=float(start), end_s=float(end), labels=labels)


def _votes(block: str) -> str:
    """`C-E2:<TAB>Neutral; Anger;<TAB>()` becomes `C-E2=Neutral,Anger`."""
    return ";".join(f"{rater}={re.sub(r' *; *', ',', names.strip(' ;'))}" for rater, names in _VOTE.findall(block))


def _ratings(block: str) -> str:
    """`A-E3:<TAB>val 3; act 2; dom  2;<TAB>()` becomes `A-E3=3,2,2`."""
    return ";".join(f"{rater}={','.join(values)}" for rater, *values in _RATING.findall(block))


def said_in(file: Path) -> Path:
    """Where the transcript of an evaluation's dialogue belongs."""
    return file.parents[1] / "transcriptions" / file.name


def transcript(file: Path) -> dict[str, str]:
    """What is said in each utterance, by id; empty where there is no such file."""
    lines = _read(file).splitlines() if file.is_file() else []
    return {found[1]: found[2].strip() for line in lines if (found := _LINE.match(line))}


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
