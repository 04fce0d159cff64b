"""Linear probes in the report: kept on disk, compared with the known bound, suspected of having learned train rows."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest

from pipeline.report import probes_section
from pipeline.report.probes_section import Probe
from pipeline.score.linear_probe import probe
from tests.pages import Page, write
from tests.small import RECIPE, Small


def test_a_probe_says_by_how_much_it_misses_the_known_bound(written: tuple[dict[str, Any], Page]) -> None:
    made, page = written
    probe = made["probes"]["sound/audio"]
    assert 0 < probe["bound"] <= 1
    assert probe["missed"] == pytest.approx(probe["bound"] - probe["test"]["accuracy"])
    assert "majority_accuracy" in probe["majority"]
    assert f"{probe['bound']:.4f}" in page.words


@pytest.fixture(scope="module")
def first(known: Small) -> dict[str, Any]:
    """The probes of a first report."""
    probes: dict[str, Any] = write(known)[0]["probes"]
    return probes


def test_a_second_report_reads_every_probe(
    known: Small, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes_section, "probe", None)
    assert write(known)[0]["probes"] == first


def test_a_damaged_note_of_a_probe_is_no_note(known: Small, first: dict[str, Any]) -> None:
    damaged = ["", '{"train": {}, "valid": {}, "test": 3, "gap": 0, "majority": {}}']
    notes = list((known.home / "runs").glob("*/probes/*.json"))
    assert len(notes) >= len(damaged)
    for note, text in zip(notes, cycle(damaged), strict=False):
        note.write_text(text)
    assert write(known)[0]["probes"] == first
    assert not {*damaged} & {note.read_text() for note in notes}


def test_other_labels_are_probed_anew(known: Small, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(view: Any, modality: str, *rest: Any) -> dict[str, Any]:
        asked.append(modality)
        return probe(view, modality, *rest)

    monkeypatch.setattr(probes_section, "probe", counted)
    write(Small(known.root, known.home, known.path, RECIPE.replace('"six"', '"four"')))
    assert asked == ["audio", "audio"]  # the text's fit is of the other labels


def test_a_large_gap_is_suspicious_of_learned_features_alone() -> None:
    def gap(value: float | None, *fitted: str) -> Probe:
        return Probe("set", "text", fitted, {"one": {"gap": value}})

    assert probes_section.suspicious(gap(0.4, "text_cnn"))
    assert not probes_section.suspicious(gap(0.4))
    assert not probes_section.suspicious(gap(0.05, "text_cnn"))
    assert not probes_section.suspicious(gap(None, "text_cnn"))
    assert "crossfit avoids" in probes_section.warnings([gap(0.4, "text_cnn")], 0)[0]
    assert "did not see" in probes_section.warnings([gap(0.4, "text_cnn")], 3)[0]
