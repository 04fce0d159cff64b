"""The MOSI reader's labels and folds, and its recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from manifests._sentiment import published, rounded
from manifests.mosi import Mosi
from pipeline.corpus import manifest
from pipeline.corpus.recipe_file import read_recipe
from pipeline.errors import InputError
from pipeline.utterance import Utterance
from tests.manifests.mosi_files import (
    RECIPE,
    TEST,
    TRAIN,
    VALID,
    Segments,
    clip,
    write_mmsa,
    write_raw,
)

# --- labels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentiment", "sign", "below", "seven"),
    [
        (-3.0, 0, 0, 0),
        (-2.5, 0, 0, 1),
        (-0.5, 0, 0, 3),
        (-0.2, 0, 0, 3),
        (0.0, None, 1, 3),
        (0.5, 1, 1, 3),
        (0.6, 1, 1, 4),
        (1.5, 1, 1, 5),
        (2.5, 1, 1, 5),
        (2.6, 1, 1, 6),
    ],
)
def test_protocols_are_made_from_the_sentiment(sentiment: float, sign: int | None, below: int, seven: int) -> None:
    row = Utterance(id="u", dialogue="d", turn=0, labels={"sentiment": sentiment})
    expected = {"sentiment": sentiment, "sentiment2": sign, "sentiment2_nonneg": below, "sentiment7": seven}
    assert {name: Mosi().protocol(name).of(row) for name in Mosi.labels} == expected


def test_seven_classes_are_rounded_as_numpy_rounds() -> None:
    values = np.linspace(-3, 3, 121)
    assert [rounded(float(value)) for value in values] == np.round(values).astype(int).tolist()


def test_no_protocol_keeps_a_row_without_sentiment() -> None:
    row = Utterance(id="u", dialogue="d", turn=0)
    assert {labels.of(row) for labels in Mosi.labels.values()} == {None}


# --- folds -----------------------------------------------------------------------------------------------------


def test_the_published_folds_are_52_10_and_31_videos_and_disjoint() -> None:
    lines = (RECIPE.parent / "mosi_folds.csv").read_text().splitlines()
    assert Counter(published("mosi").values()) == {"train": 52, "valid": 10, "test": 31}
    assert len(lines) == 1 + len(published("mosi")) == 94
    assert (published("mosi")[TRAIN], published("mosi")[VALID], published("mosi")[TEST]) == ("train", "valid", "test")


def spread(videos: Sequence[str]) -> dict[str, Segments]:
    return {video: [("A", 0.0, 1.0, 1.0), ("B", 1.0, 2.0, -1.0)] for video in videos}


def test_official_folds_are_those_of_the_videos_and_others_are_in_none(tmp_path: Path) -> None:
    rows = Mosi().scan(write_raw(tmp_path, spread([TRAIN, VALID, TEST, "stranger"])))
    (fold,) = Mosi().folds(rows, "official")
    assert fold.train == (f"{TRAIN}_1", f"{TRAIN}_2")
    assert fold.valid == (f"{VALID}_1", f"{VALID}_2")
    assert fold.test == (f"{TEST}_1", f"{TEST}_2")
    assert "stranger_1" in {row.id for row in rows}


def test_official_folds_of_the_copy_follow_its_modes(tmp_path: Path) -> None:
    modes = ["train", "validation", "test", "train"]
    rows = Mosi().scan(write_mmsa(tmp_path, [clip(f"v{n}", mode=mode) for n, mode in enumerate(modes)]))
    (fold,) = Mosi().folds(rows, "official")
    assert (fold.train, fold.valid, fold.test) == (("v0_0001", "v3_0001"), ("v1_0001",), ("v2_0001",))


def test_an_official_split_without_a_part_names_it(tmp_path: Path) -> None:
    rows = Mosi().scan(write_raw(tmp_path, spread([TRAIN])))
    with pytest.raises(InputError, match="none of valid, test"):
        Mosi().folds(rows, "official")


def test_cross_validation_has_five_folds_of_whole_videos(tmp_path: Path) -> None:
    rows = Mosi().scan(write_raw(tmp_path, spread(sorted(published("mosi"))[:20])))
    folds = Mosi().folds(rows, "cv")
    tested = [{name.rsplit("_", 1)[0] for name in fold.test} for fold in folds]
    assert [len(videos) for videos in tested] == [4] * 5 and len(set.union(*tested)) == 20


# --- the whole -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_raw, write_mmsa])
def test_either_layout_makes_a_manifest(tmp_path: Path, write: object) -> None:
    assert callable(write)
    found = manifest.build(Mosi(), write(tmp_path / "root"), tmp_path / "memory")
    assert [row.audio[0].digest for row in found.rows if row.audio] == ["missing"]


def test_the_recipe_is_read_and_has_the_papers_values(tmp_path: Path) -> None:
    recipe = read_recipe(RECIPE, root=str(tmp_path), memory=tmp_path / "memory", home=tmp_path / "home")
    mulg = recipe.train["mulg"]
    assert (mulg["epochs"], mulg["batch_size"], mulg["embed_dropout"], mulg["out_dropout"]) == (100, 128, 0.2, 0.1)
    assert {name: view.align.length for name, view in recipe.features["hjcag"].items()} == dict.fromkeys(
        ("text", "audio", "visual"), 30
    )
