"""Fixtures of the report's tests: the small corpus by a reader that knows the bounds, and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.report.attention_pictures import FOLDER, write_index, write_shares
from tests.pages import KNOWN, Page, run, write
from tests.small import Small


@pytest.fixture(scope="module")
def known(demo_root: Path, extracted_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The extracted small corpus, by the reader that knows the bounds."""
    made = tmp_path_factory.mktemp("known")
    small = Small(demo_root, made / "home", made / "small.toml", KNOWN)
    small.take(extracted_home)
    return small


@pytest.fixture(scope="module")
def written(known: Small) -> tuple[dict[str, Any], Page]:
    run(known, "perfect", right=True)
    run(known, "idle", right=False)
    gates = {"all": {"text": 0.2, "audio": 0.8}}
    maps = known.home / "runs" / known.name / "perfect" / FOLDER
    write_index(maps, "valid", [write_shares(maps / "valid-gates", "Mean share in the gate", gates)])
    (known.home / "runs" / known.name / "broken-official.json").write_text('{"model": ')
    return write(known)
