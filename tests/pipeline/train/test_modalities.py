"""A model reads the modalities that its settings name, and may have some of them hidden while it learns."""

from __future__ import annotations

import pytest
import torch

from pipeline.cli.train import trained
from pipeline.errors import InputError
from pipeline.train.loop import hide_some
from pipeline.train.train_fold import train_fold
from tests.small import RECIPE, Small

MASKS = {
    "text": torch.ones(4000, 3, dtype=torch.bool),
    "audio": (torch.arange(4000) % 2 == 0).unsqueeze(1).expand(-1, 2),
}


@pytest.fixture
def seen(extracted: Small) -> Small:
    """The small corpus with two modalities for `gmu`: sound, and text."""
    renamed = RECIPE.replace("[features.sound]", "[features.mulg]").replace("words.text", "mulg.text")
    extracted.recipe = f"{renamed}[train.gmu]\nepochs = 1\nhidden = 4\n"
    return extracted


def columns(small: Small, *changes: str) -> set[str]:
    [answer], _ = trained(small.session(changes=changes), ["gmu"], 0, extract=True)
    return set(answer["columns"][0])


def test_a_model_reads_the_modalities_that_are_named_and_else_all(seen: Small) -> None:
    assert columns(seen) == {"text", "audio"}
    assert columns(seen, 'train.gmu.modalities=["audio"]') == {"audio"}


def test_a_modality_that_the_feature_set_lacks_is_refused(seen: Small) -> None:
    with pytest.raises(InputError, match=r"gmu\.modalities: \[features\.mulg\] has no visual"):
        columns(seen, 'train.gmu.modalities=["audio", "visual"]')
    with pytest.raises(InputError, match="modalities"):
        columns(seen, 'train.gmu.modalities=["smell"]')


def test_the_asked_share_of_modalities_is_hidden_and_no_row_loses_all() -> None:
    torch.manual_seed(0)
    hidden = hide_some(MASKS, 0.3)
    assert all(torch.equal(mask & MASKS[m], mask) for m, mask in hidden.items())
    left = {m: mask.any(dim=1) for m, mask in hidden.items()}
    assert (left["text"] | left["audio"]).all()
    both = MASKS["audio"].any(dim=1)
    assert left["text"][~both].all(), "a row with one modality keeps it"
    shares = [1 - left[m][both].float().mean().item() for m in MASKS]
    assert shares == pytest.approx([0.3 * 0.7] * 2, abs=0.02)  # if both are drawn, both stay


def test_a_whole_modality_is_hidden_or_none_of_its_steps() -> None:
    torch.manual_seed(0)
    steps = hide_some(MASKS, 0.5)["text"]
    assert set(steps.sum(dim=1).tolist()) == {0, 3}


def test_hiding_changes_what_is_learned_and_neither_validation_nor_repeatability(request_of, tmp_path) -> None:  # type: ignore[no-untyped-def]
    runs = [
        train_fold(request_of(run=tmp_path / str(i), training={"modality_dropout": share}, digest=f"{i}"))
        for i, share in enumerate((0.0, 0.5, 0.5))
    ]
    plain, one, two = (result.files["model.safetensors"] for result in runs)
    assert one == two != plain
