"""Fixtures of the report's tests: the small corpus by a reader that knows the bounds, and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
    (known.home / "runs" / known.name / "broken-official.json").write_text('{"model": ')
    return write(known)
