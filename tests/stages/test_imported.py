"""The stages `*_imported` and the reader `imported`: a file of features is trained on without its raw corpus."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manifests.imported import Imported
from pipeline.corpus.recipe_file import recipe_path
from pipeline.errors import InputError
from pipeline.reason import Reason
from pipeline.stage import Item
from pipeline.train import train_models
from pipeline.train.train_fold import train_fold
from stages.audio_imported import AudioImported
from stages.text_imported import TextImported
from tests.foreign import mmsa_unaligned, steps_of
from tests.small import Small

WIDTHS = {"text": 8, "audio": 5, "vision": 6}
COUNTS = {"train": 120, "valid": 40, "test": 60}
SMALL = {"mulg": ("hidden=8", "gru_layers=1"), "mult": ("memory_layers=1", "width=10")}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "unaligned_50.pkl"
    mmsa_unaligned(path, COUNTS, {"text": 5, "audio": 8, "vision": 6}, WIDTHS)
    return path


@pytest.fixture(scope="module")
def imported(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    """The recipe imported.toml over the file, extracted."""
    folder = tmp_path_factory.mktemp("imported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMPORTED_ROOT", str(file))
        recipe = recipe_path("imported").read_text().replace('"sentiment"', '"sentiment2"')
        small = Small(file, folder / "home", folder / "imported.toml", recipe)
        small.extract()
        yield small


def test_every_row_of_the_file_has_its_steps_in_the_cache(imported: Small, file: Path) -> None:
    data = mmsa_unaligned(file.with_name("again.pkl"), COUNTS, {"text": 5, "audio": 8, "vision": 6}, WIDTHS)
    rows = imported.rows()
    assert len(rows) == 3 * sum(COUNTS.values())
    for stage, name in (("text_imported", "text"), ("audio_imported", "audio"), ("visual_imported", "vision")):
        track = rows[stage, "video2500_3"][1]
        assert track.values is not None
        assert np.array_equal(track.values, steps_of(data["valid"], name, 3))


def test_another_file_is_another_key_and_the_same_file_under_another_name_is_none(
    imported: Small, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "renamed.pkl").write_bytes(file.read_bytes())
    monkeypatch.setenv("IMPORTED_ROOT", str(tmp_path / "renamed.pkl"))
    moved = replace(imported, root=tmp_path / "renamed.pkl")
    assert moved.extract() == {}
    mmsa_unaligned(tmp_path / "renamed.pkl", {**COUNTS, "test": 56}, {"text": 5, "audio": 8, "vision": 6}, WIDTHS)
    assert set(moved.extract().values()) == {216}


@pytest.mark.parametrize("name", ["imported", "ours"])
def test_the_root_leads_the_stages_to_the_file_too(
    name: str, imported: Small, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IMPORTED_ROOT", str(tmp_path / "gone.pkl"))
    assert replace(imported, path=tmp_path / f"{name}.toml").extract() == {}
    monkeypatch.delenv("IMPORTED_ROOT")
    assert replace(imported, path=tmp_path / f"{name}.toml").extract() == {}
    monkeypatch.setenv(f"{name.upper()}_ROOT", str(file))
    assert replace(imported, path=tmp_path / f"{name}.toml", root=Path()).extract(root="") == {}


@pytest.mark.parametrize("model", [pytest.param("mulg", marks=pytest.mark.slow), "mult"])
def test_a_model_finds_the_planted_sentiment(model: str, imported: Small) -> None:
    settings = ("epochs=6", "learning_rate=0.01", "layers=1", *SMALL[model])
    session = imported.session(changes=tuple(f"train.{model}.{setting}" for setting in settings))
    result = train_fold(train_models.prepare(session, model, seed=0).jobs[0].request)
    assert result.metrics["accuracy"] > result.metrics["majority_accuracy"] + 0.15


def test_an_utterance_that_is_not_in_the_file_is_absent(file: Path) -> None:
    stage = AudioImported(file=str(file))
    [track] = stage.transform(stage.load("cpu"), None, [Item("nobody", {"id": "nobody"})])
    assert track.reason is Reason.ABSENT


def test_a_file_that_is_not_named_or_not_there_is_an_error_that_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="audio_imported needs `file`"):
        AudioImported().load("cpu")
    with pytest.raises(InputError, match=r"\$NOT_SET is not set"):
        AudioImported(file="$NOT_SET").load("cpu")
    with pytest.raises(InputError, match=r"no file of features at .*gone\.pkl"):
        TextImported(file=str(tmp_path / "gone.pkl")).load("cpu")


def test_a_video_that_the_split_cuts_through_is_a_dialogue_in_each_part(tmp_path: Path) -> None:
    data = mmsa_unaligned(tmp_path / "x.pkl", {"train": 6, "test": 4}, widths=WIDTHS)
    assert data["train"]["id"][-1] == "video001$_$1"
    data["test"]["id"] = ["video001$_$2", "video001$_$3", "video009$_$0", "video009$_$1"]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(data))
    rows = Imported().scan(tmp_path / "x.pkl")
    assert [row.dialogue for row in rows[4:]] == ["video001_train"] * 2 + ["video001_test"] * 2 + ["video009"] * 2
    [fold] = Imported().folds(rows, "official")
    assert len(fold.test) == 4 and len(fold.valid) > 0


def test_a_label_that_is_none_of_the_classes_is_refused_by_row(file: Path) -> None:
    with pytest.raises(InputError, match=r"video000_0: annotation = '(Nega|Posi)tive' is none of the 2 classes"):
        Imported(label="annotation", classes=("low", "high")).scan(file)


def test_duckdb_and_hugging_face_read_the_shards(imported: Small, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    duckdb, datasets = pytest.importorskip("duckdb"), pytest.importorskip("datasets")
    rows = imported.session().catalogue.of(next(n for n, _ in imported.session().catalogue.wanted if n.name[0] == "a"))
    store = imported.session().catalogue.store
    shard = str(store.open(rows.record(rows.shards[0])))
    [(count, whole)] = duckdb.sql(f"select count(*), bool_and(len(values) = 5 * frames) from '{shard}'").fetchall()
    assert (count, whole) == (len(rows.shards[0].rows), True)
    loaded = datasets.load_dataset("parquet", data_files=shard, split="train", cache_dir=str(tmp_path))
    assert len(loaded) == count and len(loaded[0]["values"]) == 5 * loaded[0]["frames"]
