"""Extraction takes over from the doctor what holds of a file's bytes whatever is read of them, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.cache.home import Home
from pipeline.corpus.open_corpus import Options
from pipeline.media import decode
from pipeline.plan import shortfall
from pipeline.plan.session import Session
from pipeline.run.extraction import extract
from tests.clinic import RECIPE, Clinic, half, tone, wav

SOUND = '[features.sound]\naudio = { stage = "audio_mfcc", align = { mode = "pad", length = 4 } }\n'


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    root = tmp_path / "corpus"
    root.mkdir()
    made = Clinic(root, tmp_path / "home", [])
    wav(root / "good.wav", tone(1))
    (root / "words.wav").write_text("These are words and no sound.\n" * 20)
    half(wav(root / "cut.wav", tone(2)))
    for name in ("good", "words", "cut"):
        made.add(name, audio=f"{name}.wav")
    made.examined()
    return made


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The utterances whose media extraction opens, in order, without those of the built-in sample."""
    seen: list[str] = []
    plain = decode._decode

    def looked(child: Any, kind: Any, row: Any, *rest: Any) -> Any:
        if not row.id.startswith("sample_"):
            seen.append(row.id)
        return plain(child, kind, row, *rest)

    monkeypatch.setattr(decode, "_decode", looked)
    return seen


def reasons(clinic: Clinic) -> dict[str, str]:
    recipe = clinic.root.parent / "sound.toml"
    recipe.write_text(RECIPE + SOUND)
    session = Session.open(Home(clinic.home), Options(str(recipe), root=str(clinic.root), workers=0))
    extract(session)
    return shortfall.reasons(session.catalogue)["audio"]


def test_a_file_that_gives_nothing_is_not_opened_again_and_has_the_doctors_reason(
    clinic: Clinic, opened: list[str]
) -> None:
    assert reasons(clinic)["words"] == "not_media"
    assert sorted(opened) == ["cut", "good"]


def test_without_the_doctors_memory_extraction_finds_the_same(clinic: Clinic, opened: list[str]) -> None:
    for path in (clinic.home / "doctor").iterdir():
        path.unlink()
    assert reasons(clinic)["words"] == "not_media"
    assert sorted(opened) == ["cut", "good", "words"]


def test_other_bytes_under_the_same_name_are_opened(clinic: Clinic, opened: list[str]) -> None:
    wav(clinic.root / "words.wav", tone(1))
    assert "words" not in reasons(clinic)
    assert "words" in opened
