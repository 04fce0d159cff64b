"""Parses IEMOCAP's files: the turns of a dialogue's evaluation, with the votes of each rater, and its transcript."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.text_file import read_text
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
    """The evaluation of one utterance; `actor` is F or M, for who speaks."""

    name: str
    actor: str
    start_s: float
    end_s: float
    labels: Mapping[str, Value]


def malformed(file: Path) -> list[str]:
    """A message for each line of an evaluation that begins as a turn does, with a bracket, but is not a turn of the
    file's dialogue."""
    lines = ((n, line) for n, line in enumerate(_read(file).splitlines(), start=1) if line.startswith("["))
    return [f"{file}:{n}: not a turn of this dialogue: {line!r}" for n, line in lines if not _belongs(line, file.stem)]


def _belongs(line: str, dialogue: str) -> bool:
    turn = _TURN.match(line)
    return turn is not None and turn[3].rpartition("_")[0] == dialogue


def turns(file: Path) -> list[Turn]:
    """The turns of an evaluation, in the order of the file; anything else in it is skipped."""
    blocks = re.split(r"^(?=\[)", _read(file), flags=re.MULTILINE)
    return [_turn(head, block) for block in blocks if (head := _TURN.match(block))]


def _turn(head: re.Match[str], block: str) -> Turn:
    start, end, name, actor, emotion, valence, arousal, dominance = head.groups()
    means = {"valence": float(valence), "arousal": float(arousal), "dominance": float(dominance)}
    labels = {"emotion": emotion, "votes": _votes(block), "ratings": _ratings(block), **means}
    return Turn(name=name, actor=actor, start_s=float(start), end_s=float(end), labels=labels)


def _votes(block: str) -> str:
    """`C-E2:<TAB>Neutral; Anger;<TAB>()` becomes `C-E2=Neutral,Anger`."""
    return ";".join(f"{rater}={re.sub(r' *; *', ',', names.strip(' ;'))}" for rater, names in _VOTE.findall(block))


def _ratings(block: str) -> str:
    """`A-E3:<TAB>val 3; act 2; dom  2;<TAB>()` becomes `A-E3=3,2,2`."""
    return ";".join(f"{rater}={','.join(values)}" for rater, *values in _RATING.findall(block))


def transcript_path(evaluation: Path) -> Path:
    """The path of the transcript that belongs to an evaluation."""
    return evaluation.parents[1] / "transcriptions" / evaluation.name


def transcript(file: Path, encoding: str = "utf-8") -> dict[str, str]:
    """The text of each utterance by id; none if there is no such file. Raises InputError for another encoding."""
    lines = read_text(file, encoding).splitlines() if file.is_file() else []
    return {match[1]: match[2].strip() for line in lines if (match := _LINE.match(line))}


def _read(file: Path) -> str:
    """An evaluation. Raters' remarks in other encodings are not used, so they do no harm."""
    return file.read_text(encoding="utf-8", errors="replace")
