"""The report as a file: nothing in it can run or load anything, and its tables and charts are accessible."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.report import page as report
from tests.pages import Page, run, write
from tests.small import Small

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of a corpus whose files, transcripts, classes and model are named to run as code."""
    root = tmp_path_factory.mktemp("hostile")
    lines = ["utterance,text,audio,speaker,split,label"]
    for number in range(12):
        part = ("train", "train", "valid", "test")[number % 4]
        label = (f'"{EVIL}"', "b$x_{")[number // 4 % 2]
        lines.append(f"u{number}{EVIL},{EVIL} word,<img src=x onerror=alert({number})>.wav,{EVIL},{part},{label}")
    (root / "utterances.csv").write_text("\n".join(lines))
    recipe = f"""
[dataset]
reader = "table"
labels = "label"
classes = ["{EVIL}", "b$x_{{"]
[features."{EVIL}"]
text = {{ stage = "text_word2vec", size = 4, epochs = 1, min_count = 1, align = {{ mode = "pad", length = 4 }} }}
audio = {{ stage = "audio_mfcc", align = {{ mode = "pad", length = 4 }} }}
"""
    small = Small(root, root / "home", root / "small.toml", recipe)
    small.extract()
    run(small, f"{EVIL.replace('/', '')}", right=True)
    return write(small)[1]


def test_no_name_of_a_file_a_class_or_a_model_runs_as_code(hostile: Page) -> None:
    names = {tag for tag, _ in hostile.tags}
    assert not names & {"script", "img", "iframe", "object", "embed", "link", "base"}
    assert not [name for _, attributes in hostile.tags for name in attributes if name.startswith("on")]
    assert f"u0{EVIL}" in hostile.words
    assert "<img src=x onerror=alert(0)>.wav" in hostile.words
    assert "<script>alert(1)<script>, official" in hostile.words


def test_the_page_asks_nobody_for_anything(written: tuple[dict[str, Any], Page]) -> None:
    html = Path(written[0]["report"]).read_text()
    tags = written[1].tags
    sources = [a.get(name) or "" for tag, a in tags for name in ("src", "href", "xlink:href", "srcset") if tag != "a"]
    assert all(not source or source.startswith("#") for source in sources)
    assert all(re.match(r"#|\.\./runs/", a["href"] or "") for tag, a in tags if tag == "a")  # a picture beside the page
    assert not re.search(r"@import|url\((?!#)", html)
    assert "default-src 'none'" in html


def test_every_table_has_a_caption_and_headings_and_every_chart_is_told(written: tuple[dict[str, Any], Page]) -> None:
    _, page = written
    assert len(page.tables) > 10
    assert all(table[0] == "caption" and "th" in table for table in page.tables)
    assert all(a.get("scope") in ("col", "row") for tag, a in page.tags if tag == "th")
    svgs = sum(tag == "svg" for tag, _ in page.tags)
    told = [a["aria-label"] for _, a in page.tags if a.get("role") == "img"]
    assert svgs == len(told) > 4 and all(told)


def test_no_two_parts_of_the_page_have_one_id(written: tuple[dict[str, Any], Page]) -> None:
    ids = [a["id"] for _, a in written[1].tags if a.get("id")]
    assert len(ids) == len(set(ids))


def test_names_that_are_no_text_are_written_with_backslashes(tmp_path: Path) -> None:
    report._publish(tmp_path / "deep" / "a.html", "caf\udce9")
    assert (tmp_path / "deep" / "a.html").read_text() == "caf\\udce9"
