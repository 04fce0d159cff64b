"""What a page shows and plays of an utterance."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from pipeline.media.child import Child
from pipeline.pages.clip_look import looking_child
from pipeline.pages.excerpt import COLUMNS, FRAMES, FRAMES_PER_S, RATE_HZ, SECONDS, _beginning, excerpt
from pipeline.plan.sample import FOLDER as SAMPLE_FILES
from pipeline.utterance import Audio, Utterance, Video


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    with looking_child() as child:
        yield child


def row(path: str, start_s: float | None = None, end_s: float | None = None) -> Utterance:
    sound, film = Audio(path=path, start_s=start_s, end_s=end_s), Video(path=path, start_s=start_s, end_s=end_s)
    return Utterance(id="u", dialogue="d", turn=0, audio=(sound,), video=(film,))


def test_a_clip_is_cut_to_the_utterance_and_its_frames_are_spread_over_it(child: Child) -> None:
    made = excerpt(child, row("clip.mp4", 0.5, 1.0), SAMPLE_FILES, playable=True)
    assert len(made.stills) == FRAMES and made.peaks is not None and len(made.peaks) == COLUMNS and not made.problems
    with av.open(io.BytesIO(made.clip)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 0.5 * FRAMES_PER_S
    with av.open(io.BytesIO(made.clip)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
        assert samples == pytest.approx(0.5 * RATE_HZ, abs=2048)


def test_without_a_clip_the_frames_alone_are_read(child: Child) -> None:
    made = excerpt(child, row("clip.mp4"), SAMPLE_FILES, playable=False)
    assert len(made.stills) == FRAMES and made.clip == b"" and made.pictures


def test_what_can_not_be_read_is_said_and_the_rest_is_shown(child: Child, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    made = excerpt(child, row("broken.mp4"), tmp_path, playable=True)
    assert made.clip == b"" and [line.split(":")[0] for line in made.problems] == ["no pictures", "no sound"]


def test_a_long_utterance_is_shown_from_its_beginning() -> None:
    parts = [Audio(path="a", start_s=2, end_s=12), Audio(path="b", start_s=0, end_s=100), Audio(path="c")]
    ends = [(part.path, part.end_s) for part in _beginning(parts)]
    assert ends == [("a", 12), ("b", SECONDS - 10)]
    assert list(_beginning(parts[2:])) == parts[2:]
