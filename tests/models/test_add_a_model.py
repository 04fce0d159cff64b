"""What `docs/add-a-model.md` tells a newcomer to write is found, configured, trained and tested as it says.

Each test runs in a copy of the project, to which the page's files were added.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-a-model.md").read_text(encoding="utf-8")
NAME = "mean_pool"
PARTS = ("pipeline", "stages", "manifests", "models", "tests")
MAIN = "from pipeline.cli.main import main; main()"
FEATURES = """
[dataset]
reader   = "iemocap"
labels   = "six"
protocol = "official"

[features.mulg]
audio  = { stage = "audio_mfcc", n_mfcc = 5, deltas = 0, rate_hz = 5.0, align = { mode = "pad", length = 16 } }
text   = { stage = "text_word2vec", size = 8, epochs = 1, min_count = 1, align = { mode = "pad", length = 12 } }

"""


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


MODEL, TEST = blocks("python")
[SETTINGS] = blocks("toml")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the page's model and its test."""
    copy = tmp_path_factory.mktemp("project")
    for part in PARTS:
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "models" / f"{NAME}.py").write_text(MODEL, encoding="utf-8")
    (copy / "tests" / "models" / f"test_{NAME}.py").write_text(TEST, encoding="utf-8")
    return copy


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(project), "AFFECTORY_HOME": str(project / "data")}
    whole = [sys.executable, *command]
    return subprocess.run(whole, cwd=project, env=environment, capture_output=True, text=True, check=False)


def train(project: Path, root: Path, settings: str) -> subprocess.CompletedProcess[str]:
    recipe = project / "tiny.toml"
    recipe.write_text(FEATURES + settings, encoding="utf-8")
    options = ("--model", NAME, "--root", str(root), "--workers", "0", "--json")
    return run(project, "-c", MAIN, "train", "--dataset", str(recipe), *options)


@pytest.mark.slow
def test_it_keeps_the_contract_of_every_model_and_its_own_test(project: Path) -> None:
    tests = ("contracts/test_models.py", "contracts/test_model_outputs.py", f"models/test_{NAME}.py")
    paths = [f"tests/{name}" for name in tests]
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", NAME, *paths)
    assert done.returncode == 0, done.stdout
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted and int(counted[1]) > 40


@pytest.mark.slow
def test_it_trains_with_the_settings_of_a_recipe(project: Path, demo_root: Path) -> None:
    done = train(project, demo_root, SETTINGS)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    [fold] = answer["folds"]
    assert answer["model"] == NAME and fold["epochs"] == 2 and 0 <= fold["metrics"]["accuracy"] <= 1
    card = json.loads((Path(answer["run"]) / "official" / "model.json").read_text())
    assert card["config"] == {"dropout": 0.3} and card["training"]["learning_rate"] == 0.01


def test_a_setting_that_it_does_not_have_is_refused_by_file_and_line(project: Path, demo_root: Path) -> None:
    done = train(project, demo_root, SETTINGS.replace("dropout ", "dropuot "))
    assert done.returncode == 2 and re.search(r"tiny\.toml:\d+.*dropuot.*did you mean dropout", done.stderr, re.DOTALL)
