"""Fixtures of the tests that train the tiny model of `tests/tiny.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.train.train_fold import TrainRequest


@pytest.fixture(scope="session")
def columns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The columns of the tiny view."""
    from tests.tiny import write_view

    return write_view(tmp_path_factory.mktemp("view"))


@pytest.fixture
def request_of(
    columns: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., TrainRequest]:
    """Makes a request to train the tiny model, or with `model` another one, on one thread."""
    import torch

    from pipeline import plugins
    from tests import tiny

    def find(package, name, kind):
        return tiny.Tiny if name == "tiny" else plugins.find(package, name, kind)

    monkeypatch.setattr("pipeline.corpus.recipe_training.find", find)
    torch.set_num_threads(1)
    return lambda **more: tiny.request(**{"columns": columns, "run": tmp_path / "run", **more})
