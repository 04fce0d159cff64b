"""A run of the small corpus, and the bundle of it: `gmu`, which reads fitted text and MFCCs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bundle.make import chosen_fold, make_bundle
from pipeline.cache.home import Home
from pipeline.cli.evaluate import opened
from pipeline.cli.train import trained
from pipeline.train.trained_run import TrainedRun, find
from tests.small import RECIPE, Small

READ = RECIPE.replace("words.text", "mulg.text").replace("features.sound", "features.mulg").replace("pitch", "hjcag")
TEXT = READ.partition("[features.mulg.text]")[2].partition("[features")[0]
"""The parameters of the text of `mulg`, so that `hjcag` reads the same rows."""
SETTINGS = f"""
[features.hjcag.text]{TEXT}
[train.gmu]
epochs = 2
hidden = 4
[train.bc_lstm]
epochs = 1
hidden = 4
modality_dropout = 0.3
"""


@pytest.fixture(scope="module")
def run(demo_root: Path, extracted_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The extracted small corpus with `gmu` and `bc_lstm`, which was trained with modality dropout."""
    made = tmp_path_factory.mktemp("run")
    small = Small(demo_root, made / "home", made / "small.toml", READ + SETTINGS)
    small.take(extracted_home)
    trained(small.session(features=("mulg", "hjcag")), ["gmu", "bc_lstm"], 0, "cpu", extract=True)
    return small


@pytest.fixture(scope="module")
def bundles(run: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the bundles `gmu` and `bc_lstm`."""
    folder = tmp_path_factory.mktemp("bundles")
    for model in ("gmu", "bc_lstm"):
        bundled(run, model, folder / model)
    return folder


def bundled(run: Small, model: str, out: Path) -> None:
    home, found = Home(run.home), found_run(run, model)
    make_bundle(opened(home, found, "test", ("", "", ""), {"workers": 0}, extract=False), chosen_fold(found, ""), out)


def found_run(run: Small, model: str) -> TrainedRun:
    return find(Home(run.home).runs, model)
