"""The tuple of dialogues, in and out: its variants, files that do not fit, and a reader like those of the field."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.formats import erc, feature_file
from pipeline.formats.content import Content, Steps, Tracks
from pipeline.utterance import Utterance

TURNS = {"Ses01F_a": 3, "Ses01M_b": 2, "Ses05F_c": 4}
DIMS = {"text": 4, "audio": 3, "visual": 5}


def iemocap() -> list[Any]:
    """Nine parts, as the files for IEMOCAP have them."""
    rng = np.random.default_rng(0)
    features = [
        {d: [rng.normal(size=dim).astype(np.float32) for _ in range(count)] for d, count in TURNS.items()}
        for dim in DIMS.values()
    ]
    return [
        {d: [f"{d}_{'FM'[n % 2]}{n:03}" for n in range(count)] for d, count in TURNS.items()},
        {d: ["FM"[n % 2] for n in range(count)] for d, count in TURNS.items()},
        {d: [n % 6 for n in range(count)] for d, count in TURNS.items()},
        *features,
        {d: [f"turn {n} of {d}" for n in range(count)] for d, count in TURNS.items()},
        ["Ses01F_a", "Ses01M_b"],
        {"Ses05F_c"},
    ]


def read(path: Path, parts: Any, protocol: int = 2) -> Content:
    path.write_bytes(pickle.dumps(tuple(parts), protocol))
    return feature_file.read(path)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_every_utterance_has_its_id_speaker_label_text_part_and_vectors(protocol: int, tmp_path: Path) -> None:
    parts = iemocap()
    content = read(tmp_path / "x.pkl", parts, protocol)
    assert len(content.rows) == 9
    row = content.rows[content.numbers["Ses05F_c_M003"]]
    assert (row.dialogue, row.turn, row.speaker, row.split) == ("Ses05F_c", 3, "M", "test")
    assert (row.text, row.labels) == ("turn 3 of Ses05F_c", {"label": 3})
    for part, modality in enumerate(erc.ORDER, start=3):
        steps = content.of(modality, row.id)
        assert steps is not None and np.array_equal(steps.values, [parts[part]["Ses05F_c"][3]])


def test_a_file_for_meld_has_one_hot_speakers_numbers_for_dialogues_and_more_labels(tmp_path: Path) -> None:
    parts = iemocap()
    numbered = {name: number for number, name in enumerate(TURNS)}
    parts[0] = {d: [str(n) for n in range(count)] for d, count in TURNS.items()}
    parts[1] = {d: [np.eye(9)[n] for n in range(count)] for d, count in TURNS.items()}
    parts.append({d: [n % 3 for n in range(count)] for d, count in TURNS.items()})
    parts = [{numbered[d]: v for d, v in p.items()} if isinstance(p, dict) else [numbered[d] for d in p] for p in parts]
    rows = read(tmp_path / "x.pkl", parts).rows
    assert [row.id for row in rows][:4] == ["0_0", "0_1", "0_2", "1_0"]
    assert (rows[8].speaker, rows[8].labels, rows[8].split) == ("3", {"label": 3, "label2": 0}, "test")


def test_of_four_texts_the_first_is_taken_and_a_third_list_validates(tmp_path: Path) -> None:
    parts = iemocap()
    parts[4:4] = [{d: [v * 0 + 7 for v in vectors] for d, vectors in parts[3].items()} for _ in range(3)]
    parts[-2:] = [["Ses01F_a"], ["Ses05F_c"], ["Ses01M_b"]]
    content = read(tmp_path / "x.pkl", parts)
    steps = content.tracks["text"].read(0)
    assert steps is not None and np.array_equal(steps.values[0], parts[3]["Ses01F_a"][0])
    assert {row.dialogue: row.split for row in content.rows} == {
        "Ses01F_a": "train",
        "Ses01M_b": "valid",
        "Ses05F_c": "test",
    }


def test_a_file_without_pictures_has_text_and_audio(tmp_path: Path) -> None:
    parts = iemocap()
    del parts[5]
    assert list(read(tmp_path / "x.pkl", parts).tracks) == ["text", "audio"]


def _nested() -> list[Any]:
    """A small list whose items, written out, are 10**40."""
    nested: list[Any] = [1.0] * 10
    for _ in range(39):
        nested = [nested] * 10
    return nested


DAMAGED: dict[str, tuple[Callable[[list[Any]], Any], str]] = {
    "a dialogue too few": (lambda parts: parts[2].pop("Ses01F_a"), "dict 2 has None utterances of dialogue 'Ses01F_a'"),
    "a turn too few": (lambda parts: parts[6]["Ses01M_b"].pop(), "dict 6 has 1 utterances of dialogue 'Ses01M_b'"),
    "another width": (lambda parts: parts[4]["Ses01M_b"].__setitem__(0, np.ones(2)), "audio has vectors of several"),
    "a dict for a list": (lambda parts: parts[2].update(Ses01F_a={"x": 1, "y": 2, "z": 3}), "of another kind than"),
    "vectors that are lists without end": (
        lambda parts: parts[3].update(Ses01F_a=[_nested()] * 3),
        "of another kind than",
    ),
    "texts that are lists without end": (
        lambda parts: parts[6].update(Ses01F_a=[_nested()] * 3),
        "of another kind than",
    ),
    "several labels": (lambda parts: parts[2].update(Ses01F_a=[[1, 2]] * 3), "of another kind than"),
    "no list of dialogues": (lambda parts: parts.pop(), "1 lists of dialogues"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_whose_parts_do_not_fit_is_refused_by_part(name: str, tmp_path: Path) -> None:
    parts = iemocap()
    change, message = DAMAGED[name]
    change(parts)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "x.pkl", parts)


# --- out -------------------------------------------------------------------------------------------------------


def made(speakers: str) -> Content:
    """Two dialogues of five turns, whose tracks have two steps, of which the second is not valid in the audio."""
    rows = tuple(
        Utterance(
            id=f"d{number // 5}_{number}",
            dialogue=f"d{number // 5}",
            turn=number % 5,
            speaker=speakers[number % len(speakers)],
            text=f"turn {number}",
            split=("train", "test")[number // 5],
            labels={"label": number % 3},
        )
        for number in range(10)
    )

    def steps(number: int, dim: int) -> Steps:
        return Steps(np.full((2, dim), number, np.float32) + [[0], [1]], np.array([True, dim != 3]))

    return Content(rows, {m: Tracks(d, lambda number, d=d: steps(number, d)) for m, d in DIMS.items()})  # type: ignore[misc, arg-type]


def dialogues(path: Path, train: bool, of_two: bool) -> list[tuple[torch.Tensor, ...]]:
    """A reader as the field has them, written from the description of the tuple."""
    with path.open("rb") as file:
        parts = pickle.load(file, encoding="latin1")
    _, speakers, labels, text, audio, visual, sentences, trained, tested, *rest = parts
    assert len(rest) == (0 if of_two else 1)
    return [
        (
            torch.FloatTensor(np.array(text[name])),
            torch.FloatTensor(np.array(visual[name])),
            torch.FloatTensor(np.array(audio[name])),
            torch.FloatTensor([[1, 0] if x == "M" else [0, 1] for x in speakers[name]] if of_two else speakers[name]),
            torch.LongTensor(labels[name]),
        )
        for name in (trained if train else tested)
        if len(sentences[name]) == len(labels[name])
    ]


def test_a_reader_for_iemocap_finds_dialogues_of_two_speakers(tmp_path: Path) -> None:
    erc.write(made("ab"), tmp_path / "x.pkl")
    [dialogue] = dialogues(tmp_path / "x.pkl", train=False, of_two=True)
    text, visual, audio, speakers, labels = dialogue
    assert [part.shape for part in (text, visual, audio)] == [(5, 4), (5, 5), (5, 3)]
    assert text[0, 0] == 5.5 and audio[0, 0] == 5, "the mean of valid steps"
    assert speakers.tolist() == [[1, 0], [0, 1]] * 2 + [[1, 0]] and labels.tolist() == [2, 0, 1, 2, 0]


def test_a_reader_for_meld_finds_dialogues_of_three_speakers(tmp_path: Path) -> None:
    erc.write(made("abc"), tmp_path / "x.pkl")
    [dialogue] = dialogues(tmp_path / "x.pkl", train=True, of_two=False)
    assert dialogue[3].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]]


def test_speakers_whose_names_end_in_m_and_f_keep_them(tmp_path: Path) -> None:
    erc.write(made("FM"), tmp_path / "x.pkl")
    assert [row.speaker for row in feature_file.read(tmp_path / "x.pkl").rows][:3] == ["F", "M", "F"]


def test_what_is_no_class_or_has_no_pictures_is_not_written(tmp_path: Path) -> None:
    content = made("ab")
    with pytest.raises(InputError, match="there is no visual"):
        erc.write(Content(content.rows, {m: t for m, t in content.tracks.items() if m != "visual"}), tmp_path / "x")
    rows = tuple(Utterance(id=r.id, dialogue=r.dialogue, turn=r.turn, labels={"label": 0.5}) for r in content.rows)
    with pytest.raises(InputError, match="the label of this corpus is none"):
        erc.write(Content(rows, content.tracks), tmp_path / "x")
