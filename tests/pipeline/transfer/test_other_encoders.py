"""Rows of a frozen encoder are shared with a team of other libraries, and with one that has not got its weights."""

from __future__ import annotations

from pathlib import Path

from pipeline.run import stage_calls
from tests.small import Small
from tests.talk import Talk
from tests.teams import keys_of, pull, push


def team_elsewhere(team: Small, folder: Path) -> Small:
    """Another team: the same recipe, an empty home, and no corpus."""
    folder.mkdir()
    return Small(folder / "corpus", folder / "home", folder / team.path.name, team.recipe)


def test_after_a_release_of_transformers_and_its_tokenizers_no_row_of_an_encoder_is_missing(
    tmp_path, remote, install, runs
):
    team = Talk.write(tmp_path).small
    team.extract()
    push(team, remote)
    runs.clear()
    away = team_elsewhere(team, tmp_path / "away")
    expected = keys_of(team, "")
    install(transformers="99.0.1", tokenizers="99.1.0")
    answer = pull(away, remote)
    assert (answer["missing"], answer["libraries"]) == ({}, [])
    assert keys_of(away, "") == expected and runs == {"text_roberta": 3}


def test_without_the_weights_what_is_there_is_taken_and_it_is_said(tmp_path, remote, install):
    team = Talk.write(tmp_path).small
    team.extract()
    push(team, remote)
    expected = keys_of(team, "")
    away = team_elsewhere(team, tmp_path / "away")
    (tmp_path / "model").rename(tmp_path / "gone")
    stage_calls._loaded.clear()  # as in another process
    install(transformers="99.0.1")
    answer = pull(away, remote)
    assert answer["missing"] == {} and keys_of(away, "") == expected
    assert [said["same"] for said in answer["libraries"]] == [None] * 3
    assert "not compared, since" in answer["libraries"][0]["line"]
