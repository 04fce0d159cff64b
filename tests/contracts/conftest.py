"""The small corpus of each reader, written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contracts.reader_cases import CASES, build


@pytest.fixture(scope="session")
def corpus(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The root of a reader's small corpus."""
    folder = tmp_path_factory.mktemp("readers")
    made: dict[str, Path] = {}

    def root(name: str) -> Path:
        build(name)
        if name not in made:
            made[name] = CASES[name][1](folder / name, demo_root)
        return made[name]

    return root
