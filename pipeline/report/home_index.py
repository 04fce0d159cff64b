"""The index page of a home: its reports and tables, and the runs of every dataset with their scores."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.cache.atomic import publish
from pipeline.cache.home import Home
from pipeline.pages.table import Sheet, render

INDEX = "index.html"
SCORES = ("accuracy", "f1_weighted", "mae", "corr")
"""The scores that the index shows, as far as a run has them."""


def write_index(home: Home) -> Path:
    """Writes `reports/index.html` from the pages and the runs that are there; damaged runs are left out."""
    names = sorted(path.name for path in home.reports.glob("*.html") if path.name != INDEX)
    folders = sorted(path for path in home.runs.glob("*") if path.is_dir())
    sheets = [sheet for folder in folders if (sheet := _runs(folder)) is not None]
    values = {"home": str(home.root), "when": time.strftime("%Y-%m-%d %H:%M"), "sheets": sheets}
    pages = {name.removesuffix(".html"): quote(name) for name in names}
    publish(home.reports / INDEX, render(__package__, "index.html", pages=pages, **values), errors="backslashreplace")
    return home.reports / INDEX


def _runs(folder: Path) -> Sheet | None:
    """The runs of a dataset, the newest first; None if there are none."""
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    rows = [row for path in paths for row in _row(path)]
    header = ("run", "protocol", "folds", "ended", *(name.replace("_", " ") for name in SCORES))
    return Sheet.of(folder.name, header, rows) if rows else None


def _row(path: Path) -> Iterator[tuple[Any, ...]]:
    """The cells of a run; none if its file is damaged."""
    try:
        answer = json.loads(path.read_text())
        mean: Mapping[str, Any] = answer["metrics"]["mean"]
        scores = [None if mean.get(name) is None else float(mean[name]) for name in SCORES]
        ended = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
        yield str(answer.get("name", answer["model"])), str(answer["protocol"]), len(answer["folds"]), ended, *scores
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
