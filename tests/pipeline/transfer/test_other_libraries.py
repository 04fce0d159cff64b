"""Two teams with other versions of libraries: values decide which rows are the same rows, and a lock always wins.

The versions are faked, and the sample really runs. A library whose output moves is a stage that adds something to its
values under one version.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pytest

from pipeline.ask import status
from pipeline.cache import keys, shards
from pipeline.cache.home import Home
from pipeline.cache.record import REFERENCES
from pipeline.cache.store import Store
from pipeline.cli.extract import planned
from pipeline.corpus.lock_file import lock_path
from pipeline.errors import InputError
from pipeline.plan.session import Session
from pipeline.reason import Reason
from pipeline.report.features_section import Extracted, library_versions
from pipeline.run import reference_job
from pipeline.run.extraction import extract as run_extraction
from pipeline.run.reference_job import open_session
from pipeline.stage import Spec, Track
from stages.audio_opensmile import AudioOpensmile
from tests.small import Small
from tests.teams import keys_of, options, other, pull, push  # noqa: F401 - a fixture among them

LIBRARIES = ("soxr", "av", "opensmile", "librosa", "torch", "gensim")
SOUNDS = "audio_mfcc", "audio_opensmile"


@pytest.fixture
def moving(monkeypatch: pytest.MonkeyPatch) -> None:
    """openSMILE 99 gives other values."""
    real = AudioOpensmile.transform

    def transform(stage, loaded, state, batch):
        moved = 0.12 if keys.library_version("opensmile").startswith("99") else 0.0
        tracks = real(stage, loaded, state, batch)
        return [t if t.values is None else replace(t, values=t.values + np.float32(moved)) for t in tracks]

    monkeypatch.setattr(AudioOpensmile, "transform", transform)


@pytest.fixture
def shared(extracted: Small, remote: str) -> Small:
    """The first team, which has pushed what it extracted."""
    push(extracted, remote)
    return extracted


def opened(team: Small, url: str = "", **more) -> Session:
    return open_session(Home(team.home), options(team, url, **more))


def digests(team: Small) -> dict[str, str]:
    return {node.name: node.digest for node, _ in opened(team).catalogue.wanted}


def test_what_is_computed_first_has_one_reference_a_stage_and_each_record_has_the_exact_versions(extracted):
    cache = Store(extracted.home / "cache")
    names = Counter(record.about["stage"] for _, record in cache.records() if record.stage.endswith(REFERENCES))
    assert names == dict.fromkeys((*SOUNDS, "text_cnn", "text_word2vec"), 1)
    made = [r.about["libraries"] for _, r in cache.records() if r.about.get("stage") == "audio_opensmile"]
    assert made and all(about["opensmile"] == keys.library_version("opensmile") for about in made)


@pytest.mark.parametrize("library", LIBRARIES)
def test_after_a_patch_release_of_a_library_nothing_is_missing(library, shared, other, remote, install, runs):  # noqa: F811
    expected = keys_of(shared, "")
    install(**{library: "99.0.1"})
    answer = pull(other, remote)
    assert (answer["missing"], answer["libraries"]) == ({}, [])
    assert keys_of(other, "") == expected
    wanted = {node.name for node, _ in opened(other).catalogue.wanted if library in node.stage.libraries}
    assert wanted and runs == dict.fromkeys(wanted, 1)
    assert other.extract() == {} and runs.total() == len(wanted)


def test_all_of_them_at_once_are_compared_once_and_remembered(shared, other, remote, install, runs):  # noqa: F811
    install(**dict.fromkeys(LIBRARIES, "99.0.2"))
    assert pull(other, remote)["missing"] == {}
    once = dict(runs)
    assert once == dict.fromkeys((*SOUNDS, "text_cnn", "text_word2vec"), 1)
    pull(other, remote)
    opened(other, "")
    assert dict(runs) == once
    install(**dict.fromkeys(LIBRARIES, "99.0.3"))
    opened(other, "")
    assert dict(runs) == dict.fromkeys(once, 2)


def test_the_team_that_computed_goes_on_after_an_upgrade_of_its_own(extracted, install):
    before = digests(extracted)
    install(librosa="99.1.0")
    assert opened(extracted).plan().jobs == [] and digests(extracted) == before


def test_rows_of_two_versions_that_agree_are_mixed_and_the_report_counts_them(extracted, install):
    assert library_versions(Extracted(opened(extracted))) is None
    old = {name: keys.library_version(name) for name in ("gensim", "torch")}
    install(gensim="99.1.0", torch="99.2.0")
    row = next(row for row in extracted.session().corpus.manifest.rows if row.session == "Session5")
    extracted.edit(row.id, "]: ", "]: well ")
    counts = run_extraction(opened(extracted))
    assert counts.total().computed == {"text_word2vec": 1, "text_cnn": 1}
    sheet = library_versions(Extracted(opened(extracted)))
    assert sheet is not None
    shown = {(row[1].text, row[2].text) for row in sheet.rows}
    assert shown == {
        (f"gensim {old['gensim']}", "59"),
        ("gensim 99.1.0", "1"),
        (f"torch {old['torch']}", "59"),
        ("torch 99.2.0", "1"),
    }


# --- a library that moves its output ---------------------------------------------------------------------------


def test_a_library_that_moves_values_is_named_and_never_mixed(shared, other, remote, install, moving, capsys):  # noqa: F811
    before = digests(shared)
    old = keys.library_version("opensmile")
    install(opensmile="99.0.0")
    line = f"opensmile {old} -> 99.0.0 moves audio_opensmile by"
    answer = pull(other, remote)
    assert answer["missing"] == {"audio_opensmile": 60}
    [verdict] = answer["libraries"]
    assert verdict["libraries"] == {"opensmile": [old, "99.0.0"]} and verdict["same"] is False
    assert verdict["comparison"]["difference"] == pytest.approx(0.12, rel=0.01) and verdict["line"].startswith(line)
    err = " ".join(capsys.readouterr().err.split())
    assert line in err and f"its rows there were made with opensmile {old}" in err
    assert planned(opened(shared))["compute"] == {"audio_opensmile": 60}
    for team in (shared, other):
        assert [v["line"].startswith(line) for v in planned(opened(team))["libraries"]] == [True]
        assert [v["line"].startswith(line) for v in status.status(opened(team))["libraries"]] == [True]
    assert run_extraction(opened(shared)).total().computed == {"audio_opensmile": 60}
    after = digests(shared)
    assert {name for name in after if after[name] != before[name]} == {"audio_opensmile"}
    assert [v.line.startswith(line) for v in opened(shared).verdicts] == [True]
    install()
    assert digests(shared) == before and opened(shared).plan().jobs == []


@pytest.mark.slow
def test_two_teams_that_founded_independently_share_no_row_and_each_keeps_its_own(
    shared,
    other,  # noqa: F811
    remote,
    install,
    moving,
    tmp_path,
):
    third = Small(shared.root, tmp_path / "third", tmp_path / "third.toml")
    third.recipe = shared.recipe
    install(opensmile="99.0.0", librosa="99.0.0")
    run_extraction(opened(third))
    assert digests(third) != digests(shared)
    push(third, remote, relock=True)
    own = keys_of(third, "")
    assert pull(third, remote)["missing"] == {} and keys_of(third, "") == own
    install()
    assert pull(other, remote)["missing"] == {} and keys_of(other, "") == keys_of(shared, "")
    assert not {key for (name, _), key in own.items() if name in SOUNDS} & set(keys_of(shared, "").values())


# --- what cannot be compared -----------------------------------------------------------------------------------


def test_without_a_library_what_is_there_is_taken_and_said_and_nothing_computed_beside_it(
    shared,
    other,  # noqa: F811
    remote,
    install,
    capsys,
):
    install(opensmile=keys.NOT_INSTALLED)
    answer = pull(other, remote)
    assert answer["missing"] == {} and keys_of(other, "")
    [verdict] = answer["libraries"]
    assert verdict["same"] is None and "not compared, since opensmile is not installed" in verdict["line"]
    assert "not compared, since opensmile is not installed" in " ".join(capsys.readouterr().err.split())
    other.root = shared.root
    for path in (other.home / "cache" / "actions" / digests(other)["audio_opensmile"]).iterdir():
        path.unlink()
    with pytest.raises(InputError, match="none computed beside them"):
        run_extraction(opened(other))


def test_a_lock_takes_its_generations_whatever_is_installed(shared, other, remote, install, moving, runs):  # noqa: F811
    expected = keys_of(shared, "")
    other.path.write_text(other.recipe)
    lock_path(other.path).write_bytes(lock_path(shared.path).read_bytes())
    install(opensmile="99.0.0", torch="99.0.0")
    answer = pull(other, remote, locked=True)
    catalogue = opened(other, remote, locked=True).catalogue
    found = {
        (r.node.name, row.id): key
        for r in catalogue
        for shard in r.shards
        for row, key in zip(shard.rows, shard.keys, strict=True)
    }
    assert found == expected
    assert (answer["missing"], answer["libraries"], dict(runs)) == ({}, [], {})
    assert run_extraction(opened(other, remote, locked=True)).jobs == 0


# --- the comparison itself -------------------------------------------------------------------------------------


def table(*tracks: Track, names: tuple[str, ...] = ("a", "b")) -> pa.Table:
    ids = [f"s{i}" for i in range(len(tracks))]
    return shards.to_table(ids, ["0" * 64] * len(tracks), tracks, Spec(2, names), {})


WAS = Track.of(np.array([[1.0, 1000.0], [0.5, 0.0]], np.float32), np.array([0.1, 0.2]))


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (WAS, True),
        (replace(WAS, values=WAS.values + np.float32([[0, 0.09], [0.00009, 0]])), True),
        (replace(WAS, values=WAS.values + np.float32([[0, 0.11], [0, 0]])), False),
        (replace(WAS, values=WAS.values + np.float32([[0, 0], [0.0002, 0]])), False),
        (replace(WAS, values=WAS.values + np.float32([[np.nan, 0], [0, 0]])), False),
        (replace(WAS, time_s=np.float32([0.1, 0.21])), False),
        (replace(WAS, valid=np.array([True, False])), False),
        (Track.of(WAS.values[:1], WAS.time_s[:1]), False),
        (Track.failed(Reason.TOO_SHORT), False),
    ],
)
def test_values_agree_relative_to_the_larger_of_1_and_the_value_and_all_else_exactly(now, same):
    found = reference_job.compared(table(WAS), table(now))
    assert found.same == same and json.dumps(asdict(found), allow_nan=False)


def test_steps_without_information_and_rows_that_may_pass_are_not_compared():
    hidden = replace(WAS, valid=np.array([True, False]))
    other_values = replace(hidden, values=hidden.values + np.float32([[0, 0], [5, 5]]))
    assert reference_job.compared(table(hidden), table(other_values)).same
    passing = Track.failed(Reason.OUT_OF_MEMORY)
    assert reference_job.compared(table(WAS, WAS), table(WAS, passing)).same
    with pytest.raises(InputError, match="no values"):
        reference_job.compared(table(WAS), table(passing))


def test_other_dimensions_are_another_output():
    assert reference_job.compared(table(WAS), table(WAS, names=("a", "c"))).place == "other dimensions"
