"""README and docs/ say what is true: links lead somewhere, commands exist, decisions are explained, recipes work."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.cli import get_docs_for_click

from pipeline.cli import main
from pipeline.corpus.recipe_file import check_train, read_recipe
from pipeline.errors import AffectoryError
from pipeline.interruption import INTERRUPTED
from pipeline.reason import Reason

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(main.app).commands  # type: ignore[attr-defined]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code(page: Path) -> Iterator[str]:
    """Lines of code blocks, without their comments, and code within sentences."""
    prose = re.sub(r"^```\w*\n.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)
    yield from (line.partition(" # ")[0] for line in prose.splitlines() if line.startswith("    "))
    yield from re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """The file and the heading that each relative link of a page leads to."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if "://" not in target:
            name, _, heading = target.partition("#")
            yield (page.parent / name if name else page), heading


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def cells(page: Path, first: str) -> str:
    """The row of a table of a page, by the beginning of its first cell."""
    [row] = re.findall(rf"^\| {first}.*$", text(page), re.MULTILINE)
    return str(row)


# --- links -----------------------------------------------------------------------------------------------------


@every_page
def test_every_link_leads_to_a_file_and_a_heading(page):
    for path, heading in links(page):
        assert path.exists(), path
        assert not heading or heading in headings(path), f"{path.name} has no heading {heading}"


def test_readme_links_to_every_page():
    linked = {path.resolve() for path, _ in links(README)}
    assert set(PAGES) - {README} <= linked


# --- commands --------------------------------------------------------------------------------------------------


@every_page
def test_every_make_target_and_variable_exists(page):
    targets = re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)
    for line in code(page):
        for target, rest in re.findall(r"(?<![\w/-])make ([a-z][a-z-]*)(.*)", line):
            assert target in targets, line
            for variable in re.findall(r"\s([A-Z_]+)=", rest):
                assert re.search(rf"\b{variable}\b", MAKEFILE), line


@every_page
def test_every_affectory_command_and_option_exists(page):
    for line in code(page):
        for name, rest in re.findall(r"(?<![\w/.-])affectory ([a-z][a-z-]*)(.*)", line):
            assert name in COMMANDS, line
            known = {option for parameter in COMMANDS[name].params for option in parameter.opts} | {"--help"}
            assert set(re.findall(r"(?<![\w-])--[a-z-]+", rest)) <= known, line


# --- what tables and recipes say -------------------------------------------------------------------------------


def test_every_decision_that_code_cites_has_an_entry():
    cited = set()
    for folder in ("pipeline", "stages", "models", "manifests"):
        for path in [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.toml")]:
            for first, last in re.findall(r"\b([GHX]\d{1,2})(?:-([GHX]\d{1,2}))?\b", text(path)):
                numbers = range(int(first[1:]), int((last or first)[1:]) + 1)
                cited |= {f"{first[0]}{number}" for number in numbers}
    entries = set(re.findall(r"^### (\w+)$", text(ROOT / "docs" / "decisions.md"), re.MULTILINE))
    assert cited <= entries


def test_each_entry_of_a_decision_has_question_papers_and_choice():
    _, *entries = text(ROOT / "docs" / "decisions.md").partition("\n## What published")[0].split("\n### ")
    for entry in entries:
        assert re.findall(r"^- \*\*(\w+)\.\*\*", entry, re.MULTILINE) == ["Question", "Papers", "Choice"], entry


def test_every_exit_code_is_in_the_table_of_readme():
    signals = {INTERRUPTED, 128 + signal.SIGPIPE}
    codes = {0, *signals, AffectoryError.exit_code, *(error.exit_code for error in AffectoryError.__subclasses__())}
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", text(README), re.MULTILINE)} == codes


def test_every_reason_is_listed_as_permanent_or_transient():
    page = ROOT / "docs" / "corpora.md"
    permanent = {reason.value for reason in Reason if reason.failed and not reason.transient}
    transient = {reason.value for reason in Reason if reason.transient}
    assert set(re.findall(r"`(\w+)`", cells(page, "permanent"))) == permanent
    assert set(re.findall(r"`(\w+)`", cells(page, "transient"))) == transient


def test_the_recipe_for_own_clips_is_read_without_weights(tmp_path):
    [recipe] = re.findall(r"^```toml\n(.*?)^```$", text(ROOT / "docs" / "own-clips.md"), re.MULTILINE | re.DOTALL)
    path = tmp_path / "clips.toml"
    path.write_text(recipe, encoding="utf-8")
    read = read_recipe(path, root=str(tmp_path), memory=tmp_path / "digests.sqlite", home=tmp_path)
    check_train(path, read.train)
    nodes = [node for selections in read.features.values() for each in selections.values() for node in each.parts]
    for node in (below for part in nodes for below in part.walk()):
        given = {name: value for name, value in node.params.items() if name in ("model", "vectors", "weights")}
        assert set(given.values()) <= {"", "random"}, node.name


# --- the site --------------------------------------------------------------------------------------------------


def test_the_page_of_commands_is_what_the_commands_say_of_themselves():
    command = typer.main.get_command(main.app)
    said = get_docs_for_click(obj=command, ctx=typer.Context(command), name="affectory", title="Commands")
    assert text(ROOT / "docs" / "commands.md") == f"{said.strip()}\n", "run make docs"


def test_the_site_has_every_page_and_builds_without_a_warning(tmp_path):
    builder = Path(sys.executable).with_name("sphinx-build")
    subprocess.run([builder, "-q", "-W", ROOT / "docs", tmp_path], check=True)
    assert {page.stem for page in PAGES} - {"README"} == {page.stem for page in tmp_path.glob("*.html")} - {
        "genindex",
        "search",
    }


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_commands_of_the_first_ten_minutes_work_one_after_another(tmp_path):
    shutil.copy(next((ROOT / "pipeline" / "plan" / "sample_files").glob("*.mp4")), tmp_path / "clip.mp4")
    environment = {**os.environ, "AFFECTORY_HOME": str(tmp_path / "data")}
    page = text(ROOT / "docs" / "first-ten-minutes.md")
    lines = re.findall(r"^    ((?:make|affectory) .+)$", page, re.MULTILINE)
    assert len(lines) == 11
    for line in lines:
        if line.startswith("make"):  # the command that it prints, from another folder
            printed = subprocess.run(["bash", "-c", line.replace("make", "make -n", 1)], cwd=ROOT, capture_output=True)
            line = printed.stdout.decode().strip().splitlines()[-1].replace(".venv/bin/", "")
        command = line.replace("affectory", f"{sys.executable} -m pipeline.cli.start", 1)
        subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, check=True)
