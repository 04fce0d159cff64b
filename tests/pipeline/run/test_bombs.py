"""A bomb of sound and a film of huge pictures in the middle of a shard: all other rows are as without them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cache import shards
from pipeline.cache.keys import digest
from pipeline.cache.store import Store
from pipeline.corpus.recipe import Node
from pipeline.media import bounds, decode
from pipeline.plan.catalogue import Catalogue
from pipeline.run.dask_workers import Workers
from pipeline.run.inline_workers import Inline
from pipeline.stage import Track
from tests import bombs, clips
from tests.clinic import film
from tests.every_frame import EveryFrame
from tests.small import driven, stored

ROWS, BOMB, FILM = 8, "u03", "u04"
FRAMES = Node("every_frame", EveryFrame(), {}, ("video",), digest("every_frame"))


def corpus(folder: Path, bombed: bool) -> clips.Clips:
    """Rows with a sound and a film each; of two of them these are bombs, or else they are absent."""
    root = folder / "corpus"
    root.mkdir(parents=True)
    lines = []
    for number in range(ROWS):
        clips.write_sound(root / f"{number}.wav", 0.3, number)
        film(root / f"{number}.mp4", [20 * number + 20] * 3)
        lines.append(clips._heard(number, {"audio": f"{number}.wav", "video": f"{number}.mp4"}))
    lines[3]["audio"], lines[4]["video"] = ("bomb.mka", "film.mov") if bombed else ("", "")
    if bombed:
        bombs.sound(root / "bomb.mka", 12_000.0)
        bombs.film(root / "film.mov", 16_000, 16_000, pictures=5)
    return clips.of(folder, lines, clips.SOUND_SET)


def extracted(made: clips.Clips, workers: Any) -> dict[tuple[str, str], Track]:
    """Every row by stage and utterance."""
    session = made.session()
    nodes = [*(node for node, _ in session.catalogue.wanted), FRAMES]
    described = session.corpus
    wanted = [(node, None) for node in nodes]
    store = Store(made.home / "cache")
    catalogue = Catalogue(described.manifest, store, described.target, described.labels, wanted)
    counts = driven(catalogue, workers)
    assert counts.waiting == {}
    catalogue.refresh()
    found = {}
    for node in nodes:
        [shard] = catalogue.of(node).shards
        assert catalogue.of(node).final(shard), "a bomb would be tried again"
        found |= {(node.name, name): track for name, _, track in shards.read(stored(catalogue, node, shard))}
    return found


@pytest.mark.parametrize("workers", [Inline(), pytest.param(Workers(count=1), marks=pytest.mark.slow)])
def test_a_bomb_and_a_huge_film_cost_their_own_rows_and_the_decoding_process_stays_within_its_bound(
    tmp_path: Path, workers: Inline | Workers
) -> None:
    decode._child().close()
    found = extracted(corpus(tmp_path / "bombed", True), workers)
    if isinstance(workers, Inline):
        process = decode._child()._process
        assert process is not None and process.is_alive()
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak_bytes = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024
        assert peak_bytes < bounds.decoder_bytes() / 4
    failed = {place: track.reason for place, track in found.items() if track.reason is not None}
    assert failed.keys() == {("audio_mfcc", BOMB), ("every_frame", FILM)}
    assert not any(reason.transient for reason in failed.values())
    expected = extracted(corpus(tmp_path / "sound", False), Inline())
    for place, track in found.items():
        if place not in failed:
            assert np.array_equal(track.values, expected[place].values)
