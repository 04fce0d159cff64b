"""npz, Parquet, CMU's sequences and WebDataset: what is written is read again, by us and by the tools they are for."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.formats import feature_file, npz
from pipeline.formats.content import Content, Steps, Tracks
from pipeline.formats.writers import FORMATS, write
from pipeline.stage import Modality
from pipeline.utterance import Utterance

ABOUT = {"dataset": "made", "protocol": "official", "fold": "official", "licence": "For tests.", "labels": {}}
DIMS: dict[Modality, int] = {"text": 4, "audio": 3, "visual": 5}
SUFFIXES = {"npz": ".npz", "mmsa": ".pkl"}


@pytest.fixture(scope="module")
def made() -> Content:
    """Eight utterances of 1 to 8 steps, of which the second is to be ignored, and of which one has no audio."""
    rng = np.random.default_rng(0)
    rows = tuple(
        Utterance(
            id=f"u.{number}",
            dialogue=f"d{number // 2}",
            turn=number % 2,
            speaker="ann" if number % 2 else None,
            text=f"said {number}, é",
            split=("train", "train", "valid", "test")[number // 2],
            labels={"label": number % 3, "class": "abc"[number % 3]},
        )
        for number in range(8)
    )

    def of(dim: int) -> Tracks:
        found = [Steps(rng.normal(size=(1 + n, dim)).astype(np.float32), np.arange(1 + n) != 1) for n in range(8)]
        kept = [Steps(s.values * s.valid[:, None], s.valid) for s in found]
        return Tracks(dim, [s if n != 6 or dim != 3 else None for n, s in enumerate(kept)].__getitem__)

    return Content(rows, {modality: of(dim) for modality, dim in DIMS.items()})


def written(content: Content, form: str, folder: Path) -> Path:
    path = folder / f"made{SUFFIXES.get(form, '')}"
    write(content, ABOUT, FORMATS[form], path)
    return path


@pytest.mark.parametrize("form", ["npz", "parquet", "csd"])
def test_what_is_written_is_read_again(form: str, made: Content, tmp_path: Path) -> None:
    again = feature_file.read(feature_file.find(written(made, form, tmp_path)))
    assert set(again.tracks) == set(made.tracks) and len(again.rows) == len(made.rows)
    if form == "csd":  # which holds ids, labels and features alone
        assert {row.id: row.labels for row in again.rows} == {r.id: {"label": r.labels["label"]} for r in made.rows}
    else:
        assert again.rows == made.rows
    for modality, tracks in made.tracks.items():
        for number, row in enumerate(made.rows):
            one, other = tracks.read(number), again.of(modality, row.id)
            if one is None or other is None or number == 1:  # whose last step is not valid
                assert (one is None) == (other is None)
                continue
            assert np.array_equal(one.values, other.values) and np.array_equal(one.valid, other.valid)


def test_hugging_face_loads_the_folder_by_its_card(made: Content, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(written(made, "parquet", tmp_path)), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in loaded.items()} == {"train": 4, "validation": 2, "test": 2}
    row = loaded["train"][3]
    steps = made.tracks["text"].read(3)
    assert (row["id"], row["class"], row["text"]) == ("u.3", "a", "said 3, é") and steps is not None
    assert np.array_equal(np.array(row["text_features"], np.float32), steps.values)


def test_h5py_finds_a_sequence_as_cmus_sdk_reads_it(made: Content, tmp_path: Path) -> None:
    folder = written(made, "csd", tmp_path)
    with h5py.File(folder / "audio.csd") as file:
        [root] = file.values()
        data = root["data"]
        assert set(data) == {row.id for row in made.rows} - {"u.6"}
        for segment in data.values():
            assert segment["features"].shape == (len(segment["intervals"]), 3) and segment["intervals"].shape[1] == 2
        described = {key: json.loads(value[0]) for key, value in root["metadata"].items()}
        assert described["root name"] == root.name.strip("/") and described["dataset name"] == "made"
    with h5py.File(folder / "labels.csd") as file:
        assert file["made labels/data/u.4/features"][()].tolist() == [[1.0]]


def test_a_stream_reader_finds_the_files_of_an_utterance_side_by_side(made: Content, tmp_path: Path) -> None:
    folder = written(made, "webdataset", tmp_path)
    assert [path.name for path in sorted(folder.glob("*.tar"))] == [
        f"{p}-000000.tar" for p in ("test", "train", "valid")
    ]
    with tarfile.open(folder / "test-000000.tar") as tar:
        names = tar.getnames()
        keys = [name.partition(".")[0] for name in names]
        assert keys == sorted(keys) and len(set(keys)) == 2 and "00000006.audio.npy" not in names
        described = json.load(tar.extractfile("00000007.json"))  # type: ignore[arg-type]
        values = np.load(io.BytesIO(tar.extractfile("00000007.text.npy").read()))  # type: ignore[union-attr]
    steps = made.tracks["text"].read(7)
    assert steps is not None and np.array_equal(values, steps.values)
    assert (described["id"], described["label"], described["speaker"]) == ("u.7", 1, "ann")


# --- files of others -------------------------------------------------------------------------------------------


def test_an_npz_may_hold_vectors_and_ids_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", id=["a", "b"], vision=np.eye(2))
    content = feature_file.read(tmp_path / "x.npz")
    steps = content.of("visual", "b")
    assert steps is not None and steps.values.tolist() == [[0, 1]] and content.rows[0].dialogue == "a"


def test_a_small_npz_that_unpacks_to_very_much_is_refused_unread(tmp_path: Path, monkeypatch) -> None:
    np.savez_compressed(tmp_path / "x.npz", id=["a"], audio=np.zeros((1, 1 << 19), np.float32))
    monkeypatch.setattr(npz, "SMALL", 1 << 20)
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(InputError, match="would unpack to 2,097,[0-9]+ bytes, more than the 1,048,576"):
        feature_file.read(tmp_path / "x.npz")


def test_an_npz_may_say_lengths(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", id=["a", "b"], audio=np.ones((2, 5, 1)), audio_lengths=[2, 5])
    content = feature_file.read(tmp_path / "x.npz")
    assert [len(content.tracks["audio"].read(row).values) for row in range(2)] == [2, 5]  # type: ignore[union-attr]


def test_a_parquet_file_may_hold_vectors_and_a_column_split(tmp_path: Path) -> None:
    table = pa.table({"utterance": ["a", "b"], "split": ["train", "test"], "audio_features": [[1.0, 2.0], None]})
    pq.write_table(table, tmp_path / "x.parquet")
    content = feature_file.read(tmp_path / "x.parquet")
    assert [row.split for row in content.rows] == ["train", "test"] and content.tracks["audio"].dim == 2
    assert content.of("audio", "b") is None


def _npz(**arrays: Any) -> Callable[[Path], Any]:
    return lambda folder: np.savez(folder / "x.npz", **arrays)


def _parquet(**columns: Any) -> Callable[[Path], Any]:
    return lambda folder: pq.write_table(pa.table(columns), folder / "x.parquet")


def _csd(fill: Callable[[Any], Any]) -> Callable[[Path], Any]:
    def make(folder: Path) -> None:
        with h5py.File(folder / "x.csd", "w") as file:
            fill(file.create_group("made/data"))

    return make


def _outside(data: Any) -> None:
    data.create_group("a").create_dataset("features", (1, 4), "u1", external=[("/etc/hostname", 0, 4)])


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "an npz of objects": (_npz(id=np.array(["a", 1], object)), r"x\.npz is no \.npz of numbers and strings"),
    "an npz without ids": (_npz(audio=np.ones((2, 3))), "no array `id`"),
    "an npz of other lengths": (_npz(id=["a"], audio=np.ones((2, 3))), r"audio is \(2, 3\), and there are 1 ids"),
    "an npz of strings": (_npz(id=["a"], audio=np.array([["x"]])), "expected numbers"),
    "an npz with another mask": (_npz(id=["a"], audio=np.ones((1, 3, 2)), audio_valid=np.ones((1, 2))), "the mask"),
    "no npz": (lambda folder: (folder / "x.npz").write_bytes(b"PK\3\4 broken"), "no .npz of numbers"),
    "no Parquet": (lambda folder: (folder / "x.parquet").write_bytes(b"PAR1 broken"), "is no Parquet file"),
    "a Parquet file without ids": (_parquet(audio_features=[[1.0]]), "no column `id`"),
    "a Parquet file of strings": (_parquet(id=["a"], audio_features=["x"]), "expected lists of numbers"),
    "a Parquet file with ragged steps": (_parquet(id=["a"], text_features=[[[1.0], [1.0, 2.0]]]), "several widths"),
    "no sequence": (lambda folder: (folder / "x.csd").write_bytes(b"HDF broken"), "is no computational sequence"),
    "a sequence of vectors": (
        _csd(lambda data: data.create_group("a").create_dataset("features", (3,), "f4")),
        "expected",
    ),
    "a sequence with a link": (
        _csd(lambda data: data.__setitem__("a", h5py.ExternalLink("/etc/other.h5", "/"))),
        "a leads to another file",
    ),
    "a sequence with bytes of another file": (_csd(_outside), "lie in another file"),
    "a sequence that is far too large": (
        _csd(lambda data: data.create_group("a").create_dataset("features", (10**7, 10**4), "f4", chunks=True)),
        "expected numbers",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_damaged_or_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    make, message = BAD[name]
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        content = feature_file.read(feature_file.find(tmp_path))
        for tracks in content.tracks.values():
            tracks.read(0)


def test_an_id_with_a_slash_is_no_segment(made: Content, tmp_path: Path) -> None:
    rows = (replace(made.rows[0], id="a/b"), *made.rows[1:])
    with pytest.raises(InputError, match="an id with a slash"):
        written(Content(rows, made.tracks), "csd", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_npz_whose_members_say_less_than_they_unpack_to_is_damaged(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", id=["a"], audio=np.zeros((1, 1000, 2)))
    size, content = (16_128).to_bytes(4, "little"), (tmp_path / "x.npz").read_bytes()
    assert content.count(size) >= 1
    (tmp_path / "x.npz").write_bytes(content.replace(size, (200).to_bytes(4, "little")))
    with pytest.raises(InputError, match="no .npz of numbers and strings"):
        feature_file.read(tmp_path / "x.npz")


def test_an_npz_of_more_utterances_than_any_corpus_has_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", id=np.zeros(npz.MOST_ROWS + 1, "S1"), audio=np.ones((1, 1, 1)))
    with pytest.raises(InputError, match="2,000,001 utterances"):
        feature_file.read(tmp_path / "x.npz")
