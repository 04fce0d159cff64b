"""MMSA's `.pkl`, in and out: the rows, labels and steps that its description says, and files that do not fit it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.formats import feature_file, mmsa
from pipeline.formats.content import Content
from pipeline.stage import Modality
from tests.foreign import mmsa_unaligned, steps_of

COUNTS = {"train": 9, "valid": 3, "test": 4}
WIDTHS = {"text": 6, "audio": 3, "vision": 4}
NAMES: dict[Modality, str] = {"text": "text", "audio": "audio", "visual": "vision"}


def written(path: Path, data: Any) -> Path:
    path.write_bytes(pickle.dumps(data, 4))
    return path


def test_a_row_has_the_id_text_split_and_labels_of_its_part(tmp_path: Path) -> None:
    data = mmsa_unaligned(tmp_path / "x.pkl", COUNTS, widths=WIDTHS)
    rows = feature_file.read(tmp_path / "x.pkl").rows
    assert [row.split for row in rows] == [part for part, count in COUNTS.items() for _ in range(count)]
    assert (rows[5].id, rows[5].dialogue, rows[5].turn, rows[5].text) == ("video001_1", "video001", 1, "said number 5")
    assert rows[5].labels == {
        "sentiment": pytest.approx(float(data["train"]["regression_labels"][5])),
        "annotation": data["train"]["annotations"][5],
    }


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_the_steps_of_every_row_are_those_without_padding(protocol: int, tmp_path: Path) -> None:
    data = mmsa_unaligned(tmp_path / "x.pkl", COUNTS, widths=WIDTHS, protocol=protocol)
    content = feature_file.read(tmp_path / "x.pkl")
    places = [(part, row) for part, count in COUNTS.items() for row in range(count)]
    for number, (part, row) in enumerate(places):
        for modality, name in NAMES.items():
            steps = content.tracks[modality].read(number)
            assert steps is not None and steps.valid.all()
            assert np.array_equal(steps.values, steps_of(data[part], name, row))


def test_in_an_aligned_file_the_tokens_say_which_steps_are_padding_in_all_modalities(tmp_path: Path) -> None:
    data = mmsa_unaligned(tmp_path / "x.pkl", COUNTS, {"text": 6, "audio": 6, "vision": 6}, WIDTHS)
    for part in data.values():
        part["audio"][:, 0] = 0  # a silent beginning is no padding
        del part["audio_lengths"], part["vision_lengths"]
    content = feature_file.read(written(tmp_path / "aligned.pkl", data))
    for row, tokens in enumerate(data["train"]["text_bert"][:, 1]):
        lengths = {m: len(tracks.read(row).values) for m, tracks in content.tracks.items()}  # type: ignore[union-attr]
        assert set(lengths.values()) == {int(tokens.sum())}


def test_in_an_aligned_file_without_tokens_a_step_is_padding_that_is_zero_in_all_modalities(tmp_path: Path) -> None:
    values = np.zeros((1, 5, 2), np.float32)
    text, audio, vision = values.copy(), values.copy(), values.copy()
    text[0, 2], audio[0, 3], vision[0, 1] = 1, 1, 1  # MulT pads at the beginning
    part = {"id": ["a"], "text": text, "audio": audio, "vision": vision, "labels": np.array([[[0.5]]])}
    content = feature_file.read(written(tmp_path / "x.pkl", {"train": part}))
    steps = content.tracks["audio"].read(0)
    assert steps is not None
    assert steps.values[:, 0].tolist() == [0, 0, 1] and content.rows[0].labels == {"sentiment": 0.5}


def test_a_modality_of_zeros_alone_is_none(tmp_path: Path) -> None:
    data = mmsa_unaligned(tmp_path / "x.pkl", COUNTS, widths=WIDTHS)
    del data["train"]["vision_lengths"], data["train"]["audio_lengths"]
    data["train"]["vision"][2] = 0
    assert feature_file.read(written(tmp_path / "y.pkl", data)).tracks["visual"].read(2) is None


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    mmsa_unaligned(tmp_path / "x.pkl", COUNTS, widths=WIDTHS)
    read = feature_file.read(tmp_path / "x.pkl")
    rows = tuple(replace(row, id=f"my {row.id}", labels={"label": row.labels["sentiment"]}) for row in read.rows)
    content = Content(rows, read.tracks)
    mmsa.write(content, tmp_path / "again.pkl", aligned=False)
    again = feature_file.read(tmp_path / "again.pkl")
    assert again.rows == tuple(replace(row, labels=_read_again(row.labels["label"])) for row in rows)
    for modality, tracks in content.tracks.items():
        for number in range(len(content.rows)):
            one, other = tracks.read(number), again.tracks[modality].read(number)
            assert one is not None and other is not None and np.array_equal(one.values, other.values)


def _read_again(label: Any) -> dict[str, Any]:
    return {"sentiment": label}


def _nested() -> list[Any]:
    """A small list whose items, written out, are 10**40."""
    nested: list[Any] = [1.0] * 10
    for _ in range(39):
        nested = [nested] * 10
    return nested


DAMAGED = {
    "another number of rows": (lambda part: part.update(audio=part["audio"][:2]), r"train: audio is \(2, 12, 3\)"),
    "features of one step": (lambda part: part.update(text=part["text"][:, 0]), r"train: text is \(9, 6\)"),
    "strings for features": (lambda part: part.update(text=part["text"].astype(str)), "expected .9, T, D. numbers"),
    "too few labels": (lambda part: part.update(regression_labels=[1.0]), "regression_labels has 1 values"),
    "a label that is no number": (lambda part: part.update(regression_labels=["x"] * 9), "is no float"),
    "a text that is a list of lists without end": (
        lambda part: part.update(raw_text=[_nested()] * 9),
        "raw_text holds something|of another kind",
    ),
    "features that are lists without end": (lambda part: part.update(audio=_nested()), "audio is no array"),
    "a length without end": (lambda part: part.update(audio_lengths=[np.inf] * 9), "of another kind than its layout"),
    "one number for all ids": (lambda part: part.update(id=3), "of another kind than its layout"),
    "no ids": (lambda part: part.pop("id"), "train has no ids"),
    "a part that is wider": (
        lambda part: part.update(vision=np.ones((9, 9, 7))),
        r"valid: vision is .*expected .N, T, 7.",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_whose_arrays_do_not_fit_is_refused_by_part_and_array(name: str, tmp_path: Path) -> None:
    data = mmsa_unaligned(tmp_path / "x.pkl", COUNTS, widths=WIDTHS)
    change, message = DAMAGED[name]
    change(data["train"])
    with pytest.raises(InputError, match=message):
        feature_file.read(written(tmp_path / "y.pkl", data))


def test_a_pickle_of_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another layout"):
        feature_file.read(written(tmp_path / "x.pkl", [1, 2]))


def test_a_folder_with_two_files_has_to_say_which(tmp_path: Path) -> None:
    for name in ("aligned_50.pkl", "unaligned_50.pkl"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"aligned_50\.pkl, unaligned_50\.pkl: name one"):
        feature_file.find(tmp_path)
    assert feature_file.find(tmp_path / "aligned_50.pkl").name == "aligned_50.pkl"
