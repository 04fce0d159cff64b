"""What `docs/add-a-corpus.md` tells a newcomer to write is found, scanned, extracted and tested as it says.

Each test runs in a copy of the project, to which the page's files were added.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from tests.stranger import Ended

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-a-corpus.md").read_text(encoding="utf-8")
NAME = "voicemail"
PARTS = ("pipeline", "stages", "manifests", "models", "tests")


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


READER, SMALL_CORPUS, CASE, TEST = blocks("python")
[RECIPE] = blocks("toml")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the page's reader, recipe, small corpus and test."""
    copy = tmp_path_factory.mktemp("project")
    for part in PARTS:
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "manifests" / f"{NAME}.py").write_text(READER, encoding="utf-8")
    (copy / "manifests" / f"{NAME}.toml").write_text(RECIPE, encoding="utf-8")
    (copy / "tests" / "manifests" / f"test_{NAME}.py").write_text(TEST, encoding="utf-8")
    cases = copy / "tests" / "contracts" / "reader_cases.py"
    before, start, after = cases.read_text(encoding="utf-8").partition("CASES: Mapping")
    head, brace, rest = after.partition(" = {\n")
    assert start and brace, "CASES begins otherwise than here"
    case = CASE.removeprefix("{\n").removesuffix("}\n")
    cases.write_text(f"{before}{SMALL_CORPUS}\n\n{start}{head}{brace}{case}{rest}", encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def release(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's small corpus, with half a second of sound in each file."""
    root = tmp_path_factory.mktemp("release") / NAME
    spec = importlib.util.spec_from_file_location("page_cases", project / "tests" / "contracts" / "reader_cases.py")
    assert spec is not None and spec.loader is not None
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    cases.CASES[NAME][1](root, root)
    for path in (root / "wav").iterdir():
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(bytes(range(256)) * 63)
    return root


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(project), "AFFECTORY_HOME": str(project / "data")}
    whole = [sys.executable, *command]
    return subprocess.run(whole, cwd=project, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_it_keeps_the_contract_of_every_reader_and_its_own_test(project: Path) -> None:
    contracts = [f"tests/contracts/{name}.py" for name in ("test_readers", "test_reader_folds")]
    tests = (*contracts, "tests/pipeline/plan/test_key_rows.py", f"tests/manifests/test_{NAME}.py")
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", NAME, *tests)
    assert done.returncode == 0, done.stdout
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted and int(counted[1]) > 20


@pytest.mark.slow
def test_its_recipe_is_one_of_the_project_and_sound(project: Path) -> None:
    recipes = "tests/pipeline/corpus/test_recipes.py"
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", NAME, recipes)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_without_its_small_corpus_the_contract_says_what_is_missing(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "copy")
    shutil.copy(ROOT / "tests" / "contracts" / "reader_cases.py", tmp_path / "copy" / "tests" / "contracts")
    done = run(tmp_path / "copy", "-m", "pytest", "-q", "-k", f"{NAME} and small", "tests/contracts/test_readers.py")
    assert done.returncode == 1 and f"manifests/{NAME}.py has no small corpus in CASES" in done.stdout


@pytest.fixture(scope="module")
def ended(project: Path, release: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Ended]:
    """Two extractions, and a plan of a root that holds something else, one after another."""
    call = ["extract", "--dataset", NAME, "--root", str(release), "--modality", "audio", "--workers", "0", "--json"]
    other = ["plan", "--dataset", NAME, "--root", str(tmp_path_factory.mktemp("other"))]
    done = run(project, "-m", "tests.stranger", json.dumps([call, call, other]))
    assert done.returncode == 0, done.stderr
    return [Ended(**found) for found in json.loads(done.stdout)]


def test_its_features_are_extracted_once_and_other_counts_are_reported(ended: list[Ended]) -> None:
    first, second, _ = ended
    assert (first.code, second.code) == (0, 0), first.err + second.err
    answer = json.loads(first.out)
    assert answer["computed"] == {"audio_mfcc": 60} and not answer["failed"]
    assert answer["differing"]["calm"] == 15 - 520
    assert json.loads(second.out)["cached"] == {"audio_mfcc": 60} and not json.loads(second.out)["computed"]


def test_a_root_that_holds_something_else_is_refused_with_the_layout(ended: list[Ended]) -> None:
    assert ended[2].code == 2 and "labels.tsv (columns file" in ended[2].err and "voicemail-1.0.zip" in ended[2].err
