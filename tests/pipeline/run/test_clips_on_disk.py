"""A fit reads each clip from disk and not from the decoder, up to a bound; beyond it the values are the same."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.cache.home import Home
from pipeline.media.decode import decoded
from pipeline.reason import Unreadable
from pipeline.run import clips_on_disk
from pipeline.run.clips_on_disk import Clips, Room
from stages.visual_cnn3d import VisualCnn3d

STAGE = VisualCnn3d(weights="random", clips=1, clip=4, size=32, fine_tune=True)


@pytest.fixture
def rows(small):
    return small.session(modality="audio").corpus.manifest.rows[:4]


def memory(small):
    return Home(small.home).memory


def gathered(small, rows, room):
    found = Clips("video", STAGE, small.root, room, memory(small))
    for row, value in decoded("video", rows, small.root, [[("fit", STAGE)]] * len(rows), memory(small)):
        found.add(row, value["fit"])
    return found


def test_clips_beyond_the_bound_are_decoded_again_to_the_same_values(small, rows, tmp_path, monkeypatch):
    one = 4 * 32 * 32 * 3
    whole, part = (tmp_path / name for name in ("whole", "part"))
    whole.mkdir(), part.mkdir()
    kept, bounded = (gathered(small, rows, Room(place, left)) for place, left in ((whole, 10**9), (part, 2 * one)))
    assert (len(list(whole.iterdir())), len(list(part.iterdir()))) == (4, 2)
    asked = []

    def counted(kind, rows, *rest):
        asked.extend(row.id for row in rows)
        return decoded(kind, rows, *rest)

    monkeypatch.setattr(clips_on_disk, "decoded", counted)
    for _ in range(2):
        for mine, theirs in zip(bounded, kept, strict=True):
            assert mine.id == theirs.id
            np.testing.assert_array_equal(mine["video"].images, theirs["video"].images)
    assert asked == [row.id for row in rows[2:]] * 2
    assert bounded.ids == [row.id for row in rows] and len(asked) == 4


def test_a_clip_that_is_gone_when_it_is_read_again_says_so(small, rows, tmp_path):
    found = gathered(small, rows, Room(tmp_path, 0))
    (small.root / rows[0].video[0].path).unlink()
    with pytest.raises(Unreadable, match="io_error"):
        found[0]


def test_a_clip_that_is_another_one_when_it_is_read_again_says_so(small, rows, tmp_path):
    found = gathered(small, rows, Room(tmp_path, 0))
    with (small.root / rows[0].video[0].path).open("ab") as film:
        film.write(b"more")
    with pytest.raises(Unreadable, match="io_error"):
        found[0]


def test_no_more_than_half_of_the_free_disk_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(clips_on_disk.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    assert Room.on(tmp_path).left == 500
