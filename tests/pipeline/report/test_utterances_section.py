"""The utterances that a report shows, with their pictures, clips and predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.report.chosen import MOST_WRONG
from pipeline.report.guesses import Guesses
from pipeline.stage import Target
from tests.pages import Page, guess, run, write
from tests.small import Small

ROOM = 60_000
"""The bytes of clips that these reports may have: a few."""


@pytest.fixture(scope="module")
def shown(known: Small) -> tuple[Path, Page]:
    """A report with a model that says the first class of every test row."""
    run(known, "idle", right=False)
    guess(known, "idle")
    made, page = write(known, media_bytes=ROOM)
    return Path(made["report"]), page


def addresses(page: Page, *tags: str) -> list[str]:
    return [a["src"] or "" for tag, a in page.tags if tag in tags]


def test_the_most_surely_wrong_predictions_come_first_and_right_ones_never() -> None:
    values = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
    guesses = Guesses("m", "", Target("multiclass", ("a", "b")), "wxyz", values, values.argmax(1) * 1.0, [1, 1, 1, 0])
    assert guesses.most_wrong() == ["w", "x"]


def test_several_labels_are_as_wrong_as_their_worst_and_numbers_as_far_as_they_are_off() -> None:
    values = np.array([[0.9, 0.2], [0.1, 0.6]])
    target = Target("multilabel", ("a", "b"))
    guesses = Guesses("m", "", target, "yz", values, np.round(values), [(1, 0), (0, 0)])
    assert guesses.most_wrong() == ["z"] and guesses.error.tolist() == [0, 0.6]
    numbers = np.array([[1.0], [-2.0]])
    guesses = Guesses("m", "", Target("regression", ()), "yz", numbers, numbers[:, 0], [1.5, 1.0])
    assert guesses.error.tolist() == [0.5, 3.0]


def test_wrong_test_rows_are_shown_with_their_text_label_and_probabilities(
    known: Small, shown: tuple[Path, Page]
) -> None:
    corpus, words = known.session().corpus, shown[1].words
    [fold] = corpus.folds
    wrong = [i for i in fold.test[::-1] if corpus.labels[i] != 0][:MOST_WRONG]
    cards = [a["aria-label"] for tag, a in shown[1].tags if tag == "article"]
    assert cards[:MOST_WRONG] == [f"Utterance {name}" for name in wrong] and len(cards) == len(set(cards))
    texts = {row.id: row.text for row in corpus.manifest.rows}
    assert all(texts[name] in words for name in wrong)
    logit = np.exp(np.linspace(1, 3, len(fold.test))[fold.test.index(wrong[0])])
    sure = logit / (logit + len(corpus.target.classes) - 1)
    assert f"{sure:.2f}" in words and "most surely wrong by idle" in words and "% unusual" in words


def test_pictures_and_clips_are_files_beside_the_page_within_their_bound(shown: tuple[Path, Page]) -> None:
    report, page = shown
    pictures, clips = addresses(page, "img"), addresses(page, "video", "audio")
    assert pictures and clips and all(src.startswith(f"{report.stem}-media/") for src in pictures + clips)
    sizes = [(report.parent / src).stat().st_size for src in clips]
    assert sum(sizes) <= ROOM and f"more than --media-mb {ROOM / 1e6:g} allows" in page.words
    assert all((report.parent / src).read_bytes().startswith(b"\xff\xd8") for src in pictures)
    with av.open(str(report.parent / clips[0])) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
        assert next(container.decode(video=0)).height <= 180


def test_a_report_without_media_takes_their_folder_away_and_one_without_files_says_so(
    known: Small, shown: tuple[Path, Page], tmp_path: Path
) -> None:
    report, _ = shown
    made, page = write(known)
    assert not report.with_name(f"{report.stem}-media").exists() and not addresses(page, "img", "video", "audio")
    answer: dict[str, Any] = made
    assert answer["report"] == str(report) and "--media puts them in" in page.words
