"""What `docs/add-a-stage.md` tells a newcomer to write is found, keyed, extracted and tested as it says.

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
PAGE = (ROOT / "docs" / "add-a-stage.md").read_text(encoding="utf-8")
NAME = "audio_loudness"
HEAD = '[dataset]\nreader = "iemocap"\nlabels = "six"\nprotocol = "official"\n\n'
PARTS = ("pipeline", "stages", "manifests", "models", "tests")


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the page's stage, its line of cases and its test."""
    copy = tmp_path_factory.mktemp("project")
    for part in PARTS:
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    stage, case, test = blocks("python")
    (copy / "stages" / f"{NAME}.py").write_text(stage, encoding="utf-8")
    (copy / "tests" / "stages" / f"test_{NAME}.py").write_text(test, encoding="utf-8")
    cases = copy / "tests" / "contracts" / "cases.py"
    head, start, rest = cases.read_text(encoding="utf-8").partition(", ...]] = {\n")
    assert start, "CASES begins otherwise than here"
    cases.write_text(head + start + case.removeprefix("{\n").removesuffix("}\n") + rest, encoding="utf-8")
    return copy


def run(project: Path, *command: str, home: str = "data") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(project), "AFFECTORY_HOME": str(project / home)}
    whole = [sys.executable, *command]
    return subprocess.run(whole, cwd=project, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_it_keeps_the_contract_of_every_stage_and_its_own_test(project: Path) -> None:
    tests = ("tests/contracts/test_stages.py", f"tests/stages/test_{NAME}.py")
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", NAME, *tests)
    assert done.returncode == 0, done.stdout
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted and int(counted[1]) > 20


@pytest.mark.slow
def test_without_its_line_of_cases_the_contract_says_what_is_missing(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "copy")
    shutil.copy(ROOT / "tests" / "contracts" / "cases.py", tmp_path / "copy" / "tests" / "contracts")
    done = run(tmp_path / "copy", "-m", "pytest", "-q", "-k", f"{NAME} and case", "tests/contracts/test_stages.py")
    assert done.returncode == 1 and f"stages/{NAME}.py has no parameters in CASES" in done.stdout


@pytest.mark.slow
def test_its_recipe_extracts_it_once(project: Path, demo_root: Path) -> None:
    recipe = project / "loud.toml"
    recipe.write_text(HEAD + blocks("toml")[0], encoding="utf-8")
    call = ("extract", "--dataset", str(recipe), "--root", str(demo_root), "--workers", "0", "--json")
    first, second = (run(project, "-c", "from pipeline.cli.main import main; main()", *call) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert json.loads(first.stdout)["computed"] == {NAME: 60}
    assert json.loads(second.stdout)["cached"] == {NAME: 60} and not json.loads(second.stdout)["computed"]
