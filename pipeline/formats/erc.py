"""The tuple of dialogues that DialogueRNN, MMGCN, MM-DFN and GraphSmile read, one vector of each modality an utterance.

Its parts in order, each but the last two a dict by dialogue with a list over its utterances: ids, speakers, labels,
text, audio, visual, sentences; then the dialogues to train on and those to test on. Source: `dataloader.py` of
github.com/hujingwen6666/MMGCN and github.com/lijfrank-open/GraphSmile. Variants that are read: without `visual`; four
texts, of which the first is taken; after the test dialogues those to validate on, or another dict of labels.

Shapes: U utterances of a dialogue, T steps, D features.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.formats.content import Content, Steps, Tracks, given, known, plain, pooled, vector
from pipeline.stage import Modality
from pipeline.utterance import Utterance

ORDER: tuple[Modality, ...] = ("text", "audio", "visual")
_IDS, _SPEAKERS, _LABELS = range(3)
_FEATURES = {2: (0, 1), 3: (0, 1, 2), 6: (0, 4, 5)}
"""Which of the dicts of features are text, audio and visual, by how many there are."""

# --- in --------------------------------------------------------------------------------------------------------


def is_erc(value: Any) -> bool:
    """True for a tuple or a list that begins with at least six dicts."""
    return isinstance(value, list | tuple) and len(value) > 6 and all(isinstance(part, dict) for part in value[:6])


def content(parts: Sequence[Any], path: Path) -> Content:
    """What a file holds, of the tuple that was read from it. Raises InputError for parts that do not fit.

    Ids are the file's if they are strings of which no two are the same, else `<dialogue>_<number>`. The annotation
    `label` is the label's index, and `label2` that of another dict of labels; an index below 0 is none.
    """
    dicts = list(takewhile(lambda part: isinstance(part, dict), parts))
    lists = [part for part in parts[len(dicts) :] if isinstance(part, list | tuple | set | frozenset)]
    also = [part for part in parts[len(dicts) :] if isinstance(part, dict)]
    features, sentences = dicts[3:-1], dicts[-1]
    if len(features) not in _FEATURES or len(lists) < 2:
        raise InputError(f"{path} has {len(features)} dicts of features and {len(lists)} lists of dialogues")
    for number, part in enumerate([*dicts, *also]):
        _check(part, dicts[_IDS], f"{path}: dict {number}")
    split = {name: part for part, names in zip(("train", "test", "valid"), lists, strict=False) for name in names}
    rows = tuple(_rows([*dicts[:3], sentences, *also[:1]], split))
    places = [(dialogue, turn) for dialogue, ids in dicts[_IDS].items() for turn in range(len(ids))]
    chosen = dict(zip(ORDER, (features[number] for number in _FEATURES[len(features)]), strict=False))
    return Content(rows, {m: _tracks(vectors, places, f"{path}: {m}") for m, vectors in chosen.items()})


def _check(part: Mapping[Any, Any], ids: Mapping[Any, Any], place: str) -> None:
    """Raises InputError if a dict does not have a value for each utterance of each dialogue."""
    for dialogue, names in ids.items():
        count = len(part[dialogue]) if dialogue in part and hasattr(part[dialogue], "__len__") else None
        if count != len(names):
            raise InputError(f"{place} has {count} utterances of dialogue {dialogue!r}, which has {len(names)}")


def _rows(parts: Sequence[Mapping[Any, Any]], split: Mapping[Any, str]) -> Iterator[Utterance]:
    ids, speakers, labels, sentences = parts[:4]
    every = [name for names in ids.values() for name in names]
    own = all(isinstance(name, str) for name in every) and len(set(every)) == len(every)
    for dialogue, names in ids.items():
        for turn, name in enumerate(names):
            indices = {"label": labels, **({"label2": parts[4]} if len(parts) > 4 else {})}
            found = {key: plain(part[dialogue][turn]) for key, part in indices.items()}
            yield Utterance(
                id=name if own else f"{dialogue}_{turn}",
                dialogue=str(dialogue),
                turn=turn,
                speaker=_speaker(speakers[dialogue][turn]),
                text=str(plain(sentences[dialogue][turn])),
                split=split.get(dialogue),
                labels=known({key: value for key, value in found.items() if isinstance(value, str) or value >= 0}),
            )


def _speaker(value: Any) -> str:
    """The speaker's name; for a one-hot vector its number."""
    several = isinstance(value, list | tuple | np.ndarray)
    return str(int(np.argmax(vector(value)))) if several else str(plain(value))


def _tracks(vectors: Mapping[Any, Any], places: Sequence[tuple[Any, int]], place: str) -> Tracks:
    widths = {vector(vectors[dialogue][turn]).shape[-1:] for dialogue, turn in places}
    if len(widths) != 1 or () in widths:
        raise InputError(f"{place} has vectors of several widths: {sorted(widths)}")
    [(dim,)] = widths
    return Tracks(dim, partial(_steps, vectors, places))


def _steps(vectors: Mapping[Any, Any], places: Sequence[tuple[Any, int]], number: int) -> Steps | None:
    dialogue, turn = places[number]
    return given(vector(vectors[dialogue][turn]))


# --- out -------------------------------------------------------------------------------------------------------


def write(content: Content, path: Path) -> None:
    """Writes the tuple, as a pickle of protocol 2. A modality's vector is the mean of its valid steps.

    If no dialogue has more than two speakers it has nine parts, as for IEMOCAP, and speakers are M and F; else ten, as
    for MELD, of which the last repeats the labels, and speakers are one-hot. Dialogues to validate on are among those
    to train on, of which these readers draw their own. Raises InputError for a content without one of the modalities.
    """
    if lacking := [modality for modality in ORDER if modality not in content.tracks]:
        raise InputError(f"this format needs text, audio and visual, and there is no {', '.join(lacking)}")
    dialogues: dict[str, list[int]] = {}
    for number in sorted(range(len(content.rows)), key=lambda number: content.rows[number].turn):
        dialogues.setdefault(content.rows[number].dialogue, []).append(number)
    rows = {name: [content.rows[number] for number in numbers] for name, numbers in dialogues.items()}
    labels = {name: [_index(row) for row in turns] for name, turns in rows.items()}
    tested = [name for name, turns in rows.items() if turns[0].split == "test"]
    two = all(len({row.speaker for row in turns}) <= 2 for turns in rows.values())
    parts = (
        {name: [row.id for row in turns] for name, turns in rows.items()},
        {name: (_letters if two else _one_hot)(turns, _most(rows)) for name, turns in rows.items()},
        labels,
        *({d: [_vector(content, m, n) for n in numbers] for d, numbers in dialogues.items()} for m in ORDER),
        {name: [row.text or "" for row in turns] for name, turns in rows.items()},
        [name for name in rows if name not in tested],
        tested,
    )
    with path.open("wb") as file:
        pickle.dump(parts if two else (*parts, labels), file, protocol=2)


def _vector(content: Content, modality: Modality, number: int) -> Any:
    tracks = content.tracks[modality]
    return pooled(tracks.read(number), tracks.dim)


def _index(row: Utterance) -> int:
    if not isinstance(row.labels.get("label"), int):
        raise InputError("this format holds the index of a class, and the label of this corpus is none")
    return int(row.labels["label"] or 0)


def _most(rows: Mapping[str, Sequence[Utterance]]) -> int:
    return max(len({row.speaker for row in turns}) for turns in rows.values())


def _numbers(turns: Sequence[Utterance]) -> list[int]:
    """The number of each turn's speaker, in the order in which they begin to speak."""
    order = list(dict.fromkeys(row.speaker for row in turns))
    return [order.index(row.speaker) for row in turns]


def _letters(turns: Sequence[Utterance], most: int) -> list[str]:
    """M or F for each turn: as the names end, if all end so, else M for the first to speak."""
    ends = [(row.speaker or "")[-1:] for row in turns]
    return ends if set(ends) <= {"M", "F"} else ["MF"[number] for number in _numbers(turns)]


def _one_hot(turns: Sequence[Utterance], most: int) -> list[list[int]]:
    return [[int(place == number) for place in range(most)] for number in _numbers(turns)]
