"""Writes the script of the synthetic corpus, its dialogues and lines, and its evaluation in the formats of IEMOCAP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from manifests._quota import EMOTIONS, SESSIONS, Cue, cues, generator
from manifests._vocabulary import words

GAP_S = (0.4, 0.8)
LENGTH_S = (1.0, 2.5)
_PER_DIALOGUE = 10

# With a cue word for each {}, a sentence has 6 to 12 words.
_SENTENCES = (
    "Well, the {noun} was {}, really {}.",
    "You know, {} is the word, or {}.",
    "I told them that the {noun} sounds {} and {}.",
    "So this whole {noun} is {}, just {}, you see?",
    "It was {} at the {noun}, and now it is {}.",
    "My {noun} this morning felt {}, and then {} again.",
    "Look, I think that your {noun} seems rather {}, almost {}.",
    "They called the {noun} {}, but I would say {}.",
)
_NOUNS = ("office", "weekend", "letter", "meeting", "station", "kitchen", "airport", "journey", "lesson", "garden")

_NAMES = {
    "hap": "Happiness",
    "sad": "Sadness",
    "neu": "Neutral",
    "ang": "Anger",
    "exc": "Excited",
    "fru": "Frustration",
}
# Valence, arousal, dominance, from 1 to 5.
_ATTRIBUTES = {
    "hap": (4, 3, 3),
    "sad": (2, 2, 2),
    "neu": (3, 2, 3),
    "ang": (2, 4, 4),
    "exc": (4, 4, 3),
    "fru": (2, 3, 3),
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One utterance of the script; times are seconds in its dialogue."""

    id: str
    actor: str
    start_s: float
    end_s: float
    text: str
    cue: Cue


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """One dialogue: its lines in order of time, and its actors, left and right, such as `Ses01_F`."""

    id: str
    session: int
    actors: tuple[str, str]
    lines: tuple[Line, ...]

    @property
    def length_s(self) -> float:
        return self.lines[-1].end_s + GAP_S[0]


def script(per_cell: int, seed: int) -> list[Dialogue]:
    """Every dialogue of the corpus; depends on the arguments alone."""
    planned = cues(per_cell, seed)
    return [dialogue for session in SESSIONS for dialogue in _session(session, planned[session], seed)]


def _session(session: int, planned: list[Cue], seed: int) -> Iterator[Dialogue]:
    """The dialogues of a session. Each of its two actors has half of the utterances of each emotion."""
    cast = _cast(planned, first=session)
    count = max(1, round(len(planned) / _PER_DIALOGUE))
    for number, part in enumerate(np.array_split(np.arange(len(planned)), count)):
        marked, other = "FM" if number % 2 == 0 else "MF"
        name = f"Ses{session:02d}{marked}_impro{number // 2 + 1:02d}"
        actors = (f"Ses{session:02d}_{marked}", f"Ses{session:02d}_{other}")
        lines = _lines(name, [(cast[i], planned[i]) for i in part], seed)
        yield Dialogue(id=name, session=session, actors=actors, lines=tuple(lines))


def _cast(planned: list[Cue], first: int) -> list[str]:
    """The actor of each utterance, F or M, who alternate within an emotion."""
    seen = {emotion: first + place for place, emotion in enumerate(EMOTIONS)}
    cast = []
    for cue in planned:
        cast.append("FM"[seen[cue.emotion] % 2])
        seen[cue.emotion] += 1
    return cast


def _lines(dialogue: str, turns: list[tuple[str, Cue]], seed: int) -> Iterator[Line]:
    rng = generator(seed, dialogue)
    spoken = {"F": 0, "M": 0}
    clock = 0.0
    for actor, cue in turns:
        start = round(clock + rng.uniform(*GAP_S), 4)
        clock = round(start + rng.uniform(*LENGTH_S), 4)
        name = f"{dialogue}_{actor}{spoken[actor]:03d}"
        spoken[actor] += 1
        text = _sentence(cue.shown["text"], generator(seed, f"text {name}"))
        yield Line(id=name, actor=f"{dialogue[:5]}_{actor}", start_s=start, end_s=clock, text=text, cue=cue)


def _sentence(emotion: str, rng: np.random.Generator) -> str:
    return str(rng.choice(_SENTENCES)).format(*words(emotion, 2, rng), noun=rng.choice(_NOUNS))


def transcription(dialogue: Dialogue) -> str:
    """The text of `dialog/transcriptions/<dialogue>.txt`, in order of time."""
    return "".join(f"{u.id} [{u.start_s:08.4f}-{u.end_s:08.4f}]: {u.text}\n" for u in dialogue.lines)


def evaluation(dialogue: Dialogue, seed: int) -> str:
    """The text of `dialog/EmoEvaluation/<dialogue>.txt`: all turns of the actress, then all of the actor."""
    lines = sorted(dialogue.lines, key=lambda line: (line.actor, line.start_s))
    blocks = [_evaluation(line, generator(seed, f"raters {line.id}")) for line in lines]
    return "\n".join(["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n", *blocks])


def _evaluation(line: Line, rng: np.random.Generator) -> str:
    emotion = line.cue.emotion
    doubt = _NAMES[str(rng.choice(EMOTIONS))]
    votes = {"E2": f"{_NAMES[emotion]};", "E3": f"{_NAMES[emotion]};", "E4": f"{doubt};"}
    votes[f"{line.actor[-1]}1"] = f"{_NAMES[emotion]};"
    scores = np.clip(_ATTRIBUTES[emotion] + rng.integers(-1, 2, (2, 3)), 1, 5)
    means = ", ".join(f"{mean:.4f}" for mean in scores.mean(axis=0))
    return "".join(
        [
            f"[{line.start_s:.4f} - {line.end_s:.4f}]\t{line.id}\t{emotion}\t[{means}]\n",
            *(f"C-{rater}:\t{names}\t()\n" for rater, names in votes.items()),
            *(f"A-E{n}:\tval {v}; act {a}; dom  {d};\t()\n" for n, (v, a, d) in enumerate(scores.tolist(), start=3)),
        ]
    )
