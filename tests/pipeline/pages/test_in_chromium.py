"""Pages in a browser: at the width of a telephone and of a screen everything can be read, and media can be played."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundle.clips import Clip
from tests.chromium import chromium, faults
from tests.pipeline.pages.test_prediction_pages import clip, pages, rows

__all__ = ["clip"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def test_a_page_that_overflows_overlaps_or_cuts_off_would_be_found(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<body><p style='width:2000px'>wide</p><p style='position:absolute;top:16px;margin:0'>over</p>"
        "<p style='width:9px;overflow:hidden;white-space:nowrap'>some words</p>"
    )
    found = " ".join(faults(browser, page))
    assert "390 px: the page is wider" in found and "overlap: " in found and "hidden: some words" in found


def test_the_pages_of_predictions_can_be_read(browser: Any, clip: Clip, tmp_path: Path) -> None:
    index = pages(tmp_path).write([clip, clip], {0: rows(30), 1: rows(1)})
    paths = [index, *sorted((tmp_path / "clips").iterdir())]
    assert [fault for path in paths for fault in faults(browser, path)] == []


def test_the_player_of_a_page_finds_the_clip(browser: Any, clip: Clip, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(pages(tmp_path).write([clip], {0: rows(2)}).as_uri())
    page.wait_for_function("document.querySelector('video').readyState > 0 || document.querySelector('video').error")
    assert page.evaluate("document.querySelector('video').duration") == pytest.approx(1.5, abs=0.1)
    page.close()
