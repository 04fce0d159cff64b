"""The MELD reader's options, labels and folds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manifests.meld import EMOTIONS, SENTIMENTS, Meld
from pipeline.corpus.recipe_file import read_recipe
from pipeline.errors import InputError
from pipeline.utterance import Utterance
from tests.manifests.meld_files import RECIPE

# --- options, labels, folds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"final_videos_test": "prefered"}, "did you mean prefer"),
        ({"group": "episodes"}, "did you mean episode"),
        ({"max_duration_s": 0.0}, "not a length"),
        ({"max_duration_s": float("inf")}, "not a length"),
        ({"max_duration_s": float("nan")}, "not a length"),
    ],
)
def test_an_option_of_another_value_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Meld(**options)


@pytest.mark.parametrize(
    ("protocol", "annotation", "label"),
    [
        ("emotion", "neutral", 0),
        ("emotion", "surprise", 1),
        ("emotion", "anger", 6),
        ("sentiment", "neutral", 0),
        ("sentiment", "positive", 1),
        ("sentiment", "negative", 2),
        ("sentiment", None, None),
    ],
)
def test_labels_are_indices_in_the_order_that_others_publish(
    protocol: str, annotation: str | None, label: int | None
) -> None:
    labels = {} if annotation is None else {protocol: annotation}
    assert Meld().protocol(protocol).of(Utterance(id="u", dialogue="d", turn=0, labels=labels)) == label


def test_expected_counts_add_up_to_the_published_totals() -> None:
    for name, classes in (("emotion", EMOTIONS), ("sentiment", SENTIMENTS)):
        counts = Meld.expected[name]
        assert [counts[part] for part in ("train", "valid", "test")] == [9989, 1109, 2610]
        assert sum(counts[each] for each in classes) == 13708
        assert all(counts[each] == sum(counts[f"{p}/{each}"] for p in ("train", "valid", "test")) for each in classes)


def corpus() -> list[Utterance]:
    """Sixty dialogues, two of each episode in different parts, three utterances each."""
    return [
        Utterance(id=f"{s}_dia{d}_utt{n}", dialogue=f"{s}_dia{d}", turn=n, split=s, session=f"s01e{d % 30:02}")
        for d in range(60)
        for s in [("train", "train", "valid", "test")[d // 15]]
        for n in range(3)
    ]


def test_the_official_fold_is_the_published_split() -> None:
    rows = corpus()
    (fold,) = Meld().folds(rows, "official")
    parts = {"train": fold.train, "valid": fold.valid, "test": fold.test}
    assert all(set(ids) == {row.id for row in rows if row.split == name} for name, ids in parts.items())


def test_the_official_fold_needs_rows_of_each_part() -> None:
    with pytest.raises(InputError, match="none of valid"):
        Meld().folds([row for row in corpus() if row.split != "valid"], "official")


@pytest.mark.parametrize("group", ["dialogue", "episode"])
def test_cross_validation_has_five_folds_that_share_no_group_with_their_test_part(group: Any) -> None:
    rows = corpus()
    of = {row.id: row.dialogue if group == "dialogue" else row.session for row in rows}
    folds = Meld(group=group).folds(rows, "cv")
    assert len(folds) == 5
    assert sorted(name for fold in folds for name in fold.test) == sorted(of)
    for fold in folds:
        assert not {of[name] for name in fold.test} & {of[name] for name in (*fold.train, *fold.valid)}


def test_folds_by_dialogue_part_episodes_and_folds_by_episode_do_not() -> None:
    episode = {row.id: row.session for row in corpus()}

    def shared(group: Any) -> bool:
        folds = Meld(group=group).folds(corpus(), "cv")
        return any({episode[i] for i in f.test} & {episode[i] for i in f.train} for f in folds)

    assert shared("dialogue") and not shared("episode")


@pytest.mark.parametrize("ask", [lambda: Meld().protocol("emotions"), lambda: Meld().folds(corpus(), "offical")])
def test_an_unknown_protocol_names_the_closest(ask: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=r"did you mean (emotion|official)"):
        ask()


def test_the_recipe_has_the_papers_sizes_for_meld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORD2VEC", str(tmp_path / "vectors.bin"))
    recipe = read_recipe(RECIPE, root=str(tmp_path), memory=tmp_path / "memory", home=tmp_path / "home")
    hjcag = recipe.features["hjcag"]
    assert {name: view.align.length for name, view in hjcag.items()} == {"text": 30, "audio": 30, "visual": 30}
    assert (recipe.train["hjcag"]["audio_dim"], recipe.train["hjcag"]["batch_size"]) == (300, 100)
