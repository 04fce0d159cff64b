"""The index of a home: its reports, and its runs with their scores."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.cache.home import Home
from pipeline.report.home_index import write_index
from tests.chromium import chromium, faults
from tests.pages import Page

EVIL = "<script>alert(1)</script>"


def test_reports_are_linked_and_runs_have_their_scores_and_a_damaged_one_is_left_out(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.reports.mkdir()
    (home.reports / "a b#.html").write_text("")
    (home.runs / "demo").mkdir(parents=True)
    run = {"model": "gmu", "name": EVIL, "protocol": "cv", "folds": [{}, {}], "metrics": {"mean": {"accuracy": 0.625}}}
    (home.runs / "demo" / "gmu-cv.json").write_text(json.dumps(run))
    (home.runs / "demo" / "broken.json").write_text('{"model": ')
    index = write_index(home)
    page = Page(write_index(home).read_text())
    assert [a["href"] for tag, a in page.tags if tag == "a"] == ["a%20b%23.html"]
    assert "0.6250" in page.words and EVIL in page.words and "script" not in {tag for tag, _ in page.tags}
    assert len(page.tables) == 1 and page.tables[0].count("td") == 7
    with chromium() as browser:
        assert faults(browser, index) == []
