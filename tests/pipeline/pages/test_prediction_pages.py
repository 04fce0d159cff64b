"""The pages of predictions: what they show of a clip and of many, and that nothing in them runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.bundle.clips import Clip
from pipeline.pages.clip_chart import MOST_SPANS, Spans
from pipeline.pages.clip_look import COLUMNS, FRAMES, PIECE_S, ClipLook, _pieces, look, looking_child
from pipeline.pages.prediction_pages import MOST_ROWS, Pages
from pipeline.plan.sample import FOLDER as SAMPLE_FILES
from tests.pages import Page

EVIL = "<script>alert(1)</script>"
CLASSES = ("anger", "joy", "neutral", "sadness", "surprise", EVIL)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A film of a second and a half with sound, whose name would run if it were no text."""
    path = tmp_path_factory.mktemp("clip") / "a#b <img src=x>.mp4"
    shutil.copyfile(SAMPLE_FILES / "clip.mp4", path)
    return Clip(path.name, path, None)


def pages(folder: Path, *, regression: bool = False) -> Pages:
    names = {"score": "score"} if regression else {name: f"p_{name}" for name in CLASSES}
    return Pages(folder, "gmu", {"Bundle": EVIL, "Predicts": ", ".join(names)}, names, regression, "today")


def rows(count: int, length_s: float = 2.0) -> list[dict[str, Any]]:
    """Predictions of equal stretches, the second of which could not be read."""
    made = []
    for number, shares in enumerate(np.random.default_rng(0).dirichlet(np.ones(len(CLASSES)), count).tolist()):
        known = number != 1
        made.append(
            {
                "start_s": number * length_s / count,
                "end_s": (number + 1) * length_s / count,
                "text": f"{EVIL} what was said number {number}",
                "label": CLASSES[int(np.argmax(shares))] if known else None,
                **{f"p_{name}": share if known else None for name, share in zip(CLASSES, shares, strict=True)},
                "reason": "" if known else "audio: decode_error",
            }
        )
    return made


def test_the_page_of_a_clip_shows_frames_sound_transcripts_and_probabilities(clip: Clip, tmp_path: Path) -> None:
    predicted = rows(4)
    page = Page(pages(tmp_path).write([clip], {0: predicted}).read_text())
    pictures = [a["src"] or "" for tag, a in page.tags if tag == "img"]
    assert len(pictures) == FRAMES and all(src.startswith("data:image/jpeg;base64,") for src in pictures)
    [player] = [a for tag, a in page.tags if tag == "video"]
    assert (player["src"] or "").endswith("a%23b%20%3Cimg%20src%3Dx%3E.mp4")
    links = [a["href"] for tag, a in page.tags if tag == "a"]
    assert links[1] == f"{player['src']}#t=0.50,1.00"
    assert all(row["text"] in page.words for row in predicted)
    assert f"{predicted[0]['p_anger']:.2f}" in page.words
    assert "audio: decode_error (1 of 4 utterances)" in page.words
    [told] = [a["aria-label"] or "" for _, a in page.tags if a.get("role") == "img"]
    assert "predictions of 3 utterances over time" in told and not {"script"} & {tag for tag, _ in page.tags}


def test_several_clips_have_an_index_that_leads_to_their_pages_and_one_that_is_damaged_says_so(
    clip: Clip, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    index = pages(tmp_path).write([clip, Clip("broken", broken, None)], {0: rows(3), 1: rows(2)[1:]})
    page = Page(index.read_text())
    links = [a["href"] or "" for tag, a in page.tags if tag == "a"]
    assert links == ["clips/00000.html", "clips/00001.html"] and "Predictions of 2 clips" in page.words
    shown = (tmp_path / links[1]).read_text()
    assert "no pictures: not_media" in shown and "<img" not in shown and "../index.html" in shown


def test_a_page_of_many_utterances_is_bounded(tmp_path: Path) -> None:
    silent = ClipLook(3600.0, (), None, ())
    page = pages(tmp_path).clip_page(tmp_path / "x.html", Clip("x", tmp_path / "x.mp4", None), silent, rows(5000))
    assert page.count("<tr>") == MOST_ROWS + 1 and "4,000 more utterances" in page and len(page) < 1_200_000
    spans = Spans(np.arange(5000.0), np.arange(5000.0) + 1, np.ones((5000, 2))).thinned()
    assert len(spans.start_s) == MOST_SPANS and (spans.start_s[0], spans.end_s[-1]) == (0, 5000)
    assert (spans.start_s[1:] == spans.end_s[:-1]).all() and (spans.values == 1).all()


def test_a_score_is_shown_as_a_number_and_no_share(clip: Clip, tmp_path: Path) -> None:
    row = {"start_s": None, "end_s": None, "text": None, "label": None, "score": -1.23456, "reason": ""}
    page = pages(tmp_path, regression=True).write([clip], {0: [row]}).read_text()
    assert "−1.23" in page and "The predicted numbers" in page and "color-mix(in srgb, var(--series-1) -" not in page


def test_the_waveform_is_loud_where_the_sound_is(tmp_path: Path) -> None:
    import soundfile

    wave = np.zeros(16_000 * 4, np.float32)
    wave[16_000:32_000] = 0.5
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    with looking_child() as child:
        found = look(child, None, tmp_path / "a.wav")
    assert found.length_s == 4 and found.stills == () and found.problems == () and found.peaks is not None
    quarters = found.peaks.reshape(4, -1).mean(1)
    np.testing.assert_allclose(quarters, [0, 0.5, 0, 0], atol=0.01)


def test_long_sound_is_read_in_pieces_that_cover_it() -> None:
    pieces = list(_pieces(1000.0))
    assert (
        all(end_s - start_s <= PIECE_S + 1e-9 for start_s, end_s, _ in pieces) and sum(p[2] for p in pieces) == COLUMNS
    )
    assert [p[0] for p in pieces[1:]] == pytest.approx([p[1] for p in pieces[:-1]])
