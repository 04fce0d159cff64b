"""What keeps plans of millions of rows small and quick, on a few rows."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.cache.store import Store
from pipeline.cli.extract import extract_shown
from pipeline.collection import paused_collection
from pipeline.corpus import manifest
from pipeline.plan.by_utterance import Digests
from pipeline.utterance import SCHEMA, Audio, Noise, NoisyAudio, Utterance, Video, from_table, to_table
from tests.bench.nothing import RECIPE
from tests.bench.simulate_scale import planned
from tests.small import Small


def test_a_run_with_nothing_to_do_reads_the_record_of_each_shard_once(
    extracted: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Counter[str]()
    real = Store._read

    def counted(store: Store, stage: str, name: str, *rest: Any, **more: Any) -> Any:
        read[name] += 1
        return real(store, stage, name, *rest, **more)

    session = extracted.session(modality="audio")
    shards = {shard.key for rows in session.catalogue for shard in rows.shards}
    monkeypatch.setattr(Store, "_read", counted)
    counts, coverage = extract_shown(session)
    assert counts.jobs == 0 and not coverage.too_many
    assert {read[key] for key in shards} == {1} and len(shards) > 2


def test_reasons_and_remarks_of_cached_rows_are_the_same_whether_a_plan_was_made_before(extracted: Small) -> None:
    silent = extracted.session().corpus.manifest.rows[0]
    (extracted.root / silent.audio[0].path).write_bytes(b"no sound")
    extracted.extract(modality="audio")
    fresh, planned_before = extracted.session(modality="audio"), extracted.session(modality="audio")
    planned_before.plan()
    before, after = (
        [rows.said(shard) for rows in session.catalogue for shard in rows.shards] for session in (fresh, planned_before)
    )
    assert [record and dict(record.reasons) for record in before] == [
        record and dict(record.reasons) for record in after
    ]
    assert any(record is not None and silent.id in record.reasons for record in after)


def test_rows_get_the_digests_of_their_media_and_keep_all_else() -> None:
    noise = Noise(snr_db=5.0, seed=1)
    row = Utterance(
        id="u",
        dialogue="d",
        turn=3,
        text="words",
        audio=(NoisyAudio(path="a", start_s=1.0, channel=1, noise=noise), Audio(path="b")),
        video=(Video(path="v", end_s=2.0, crop=(0.0, 0.0, 1.0, 0.5)),),
        labels={"label": 1.0},
    )
    found = manifest._digested(row, {"a": "1", "b": "2", "v": "3"})
    assert [stretch.digest for stretch in found.stretches] == ["1", "2", "3"]
    assert [stretch.digest for stretch in row.stretches] == [None] * 3
    bare = manifest._digested(found, {"a": None, "b": None, "v": None})  # type: ignore[dict-item]
    assert bare == row


def test_the_collector_is_paused_and_goes_on_afterwards_also_after_an_error() -> None:
    with pytest.raises(ValueError), paused_collection(), paused_collection():
        assert not gc.isenabled()
        raise ValueError
    assert gc.isenabled()


def test_a_part_of_a_made_corpus_is_planned_whole_and_always_to_the_same_shards(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_text(RECIPE)
    one, again, next_part = (planned(first, 400, tmp_path) for first in (0, 0, 400))
    assert (one.rows, one.shards) == (400, 2 * one.jobs) and one.jobs >= 3
    assert one.digest == again.digest != next_part.digest


def test_a_digest_is_found_by_its_utterance_also_if_it_is_all_zeros_and_absent_ones_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.plan.by_utterance.PART", 2)
    digests = {"a": "0" * 64, "b": None, "c": "ab" * 32}
    packed = Digests({name: number for number, name in enumerate(digests)}, digests.values())
    assert dict(packed) == digests and "d" not in packed


def test_a_table_of_rows_does_not_depend_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        Utterance(id=f"u{i}", dialogue="d", turn=i, audio=(Audio(path="a", end_s=float(i)),), labels={"label": i})
        for i in range(5)
    ]
    whole = to_table(rows)
    monkeypatch.setattr("pipeline.utterance.PART", 2)
    assert to_table(rows).equals(whole) and from_table(whole) == rows
    assert to_table(rows)["audio"].num_chunks == 1, "the bytes of a manifest in Parquet depend on it"
    assert to_table(rows, annotated=False).column_names == SCHEMA.names
