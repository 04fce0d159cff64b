"""Who may import whom: a room of `pipeline/` may use the rooms before it and the doorstep, and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    *("doorstep", "cache", "backends", "media", "formats", "corpus", "plan", "run", "views", "score", "train"),
    *("transfer", "bundle", "pages", "ask", "report", "python", "cli"),
)
PLUGINS = ("stages", "models", "manifests")
OPEN = ("doorstep", "backends", "media", "formats")
"""The rooms whose modules plug-ins may import, beside those in `ALSO`."""
ALSO = ("pipeline.cache.weights", "pipeline.cache.keys")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for top in ("pipeline", *PLUGINS)
    for path in sorted((ROOT / top).rglob("*.py"))
}


def room(module: str) -> str:
    """`pipeline.cache.keys` -> cache, `pipeline.stage` -> doorstep, `stages.audio_mfcc` -> stages."""
    top, *rest = module.split(".")
    if top != "pipeline":
        return top
    return rest[0] if rest and rest[0] in ROOMS else "doorstep"


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Every module of ours that a file imports, also within functions and for type checkers, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from ((node.lineno, name) for name in names if name.split(".")[0] in ("pipeline", *PLUGINS))


def allowed(importing: str, module: str) -> bool:
    mine, theirs = room(importing), room(module)
    if mine in PLUGINS:
        return theirs in (mine, *OPEN) or module.startswith(ALSO)
    return theirs in ROOMS and ROOMS.index(theirs) <= ROOMS.index(mine)


def circle(files: Mapping[str, Path]) -> list[str]:
    """Modules that import each other in a ring; none if there is no ring."""
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        names = [name if name in files else name.rpartition(".")[0] for _, name in imported(path)]
        graph[module] = {name for name in names if name in files and name != module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("module", FILES)
def test_nobody_imports_upward(module: str) -> None:
    wrong = [f"line {line}: {name}" for line, name in imported(FILES[module]) if not allowed(module, name)]
    assert not wrong, f"{module}, in {room(module)}, may not import: {wrong}"


def test_no_module_imports_itself_by_a_detour() -> None:
    assert circle(FILES) == []


def test_a_ring_and_an_import_upward_would_be_found(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("def f():\n    from pipeline.cache import two\n")
    two.write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pipeline.cache.one import f\n")
    assert set(circle({"pipeline.cache.one": one, "pipeline.cache.two": two})) == {
        "pipeline.cache.one",
        "pipeline.cache.two",
    }
    assert not allowed("pipeline.cache.one", "pipeline.plan.jobs") and allowed(
        "pipeline.plan.one", "pipeline.cache.two"
    )
    assert not allowed("stages.audio_mfcc", "pipeline.run.driver") and not allowed(
        "pipeline.train.loop", "models.hjcag"
    )


def test_every_module_says_its_one_job_in_its_first_line() -> None:
    bare = [
        module for module, path in FILES.items() if not (ast.get_docstring(ast.parse(path.read_text())) or "").strip()
    ]
    assert bare == []


def test_no_module_is_longer_than_300_lines_and_no_room_has_more_than_20() -> None:
    long = {module: count for module, path in FILES.items() if (count := len(path.read_text().splitlines())) > 300}
    rooms = [room(module) for module in FILES if module.count(".") > 1]
    crowded = {name for name in rooms if rooms.count(name) > 20}
    assert (long, crowded) == ({}, set())
