"""Every block of README and docs/ runs as it stands, page by page and in order, or is listed with a reason."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

from pipeline.corpus.recipe_file import check_train, read_recipe
from tests.doc_blocks import NOT_RUN, PAGES, ROOT, Block, blocks
from tests.doc_place import Place
from tests.small import RECIPE

EVERY = {name: blocks(name) for name in PAGES}
RUN = {name: [block for block in found if block.run] for name, found in EVERY.items()}
TABLE = "utterance,dialogue,"
"""The beginning of the one block that is a table."""
ASKS = re.compile(r"affectory (why|explain|status|rows|errors|plan|verify|gc)\b")
"""Commands that answer within a second or two."""
BEFORE = {
    "python.md": ["bundle hjcag"],
    "exchange.md": ["export erc --dataset iemocap --features hjcag -o /data/IEMOCAP_features.pkl"],
}
"""Commands whose results a page takes for granted."""


def of(kind: str) -> list[Block]:
    return [block for found in RUN.values() for block in found if block.kind == kind]


# --- the list --------------------------------------------------------------------------------------------------


def test_every_block_is_code_that_is_run_or_is_listed_with_a_reason():
    code = [*of("python"), *of("toml"), *of("shell")]
    others = [block for found in RUN.values() for block in found if block not in code]
    assert [block.place for block in others if not block.text.startswith(TABLE)] == []


def test_every_entry_of_the_list_is_of_a_block_and_names_tests_that_are_there():
    used = Counter(entry for found in EVERY.values() for b in found for part in b.parts for entry in b.why_not(part))
    assert set(used) == set(NOT_RUN)
    for reason in NOT_RUN.values():
        assert all((ROOT / path).is_file() for path in re.findall(r"tests/\S+\.py", reason)), reason


# --- blocks that are done at once ------------------------------------------------------------------------------


@pytest.mark.parametrize("block", of("toml"), ids=lambda block: block.place)
def test_every_recipe_of_a_page_is_read(block, tmp_path, demo_root):
    place, path = Place.make(tmp_path, demo_root, ()), tmp_path / "recipe.toml"
    head = "" if "[dataset]" in block.text else '[dataset]\nreader = "iemocap"\nlabels = "six"\n'
    path.write_text(head + place.here(block.text))
    read = read_recipe(path, root=str(demo_root), memory=tmp_path / "digests.sqlite", home=tmp_path)
    check_train(path, read.train)
    assert read.features or read.rank


@pytest.mark.parametrize("page", ["README.md", "faq.md"])
def test_blocks_that_only_ask_are_answered(page, extracted_home, demo_root, tmp_path):
    place = Place.make(tmp_path, demo_root, ())
    place.recipe("iemocap").write_text(RECIPE)
    place.take(extracted_home, "iemocap")
    asking = [block for block in RUN[page] if block.kind == "shell" and all(map(ASKS.match, block.run))]
    assert asking
    for block in asking:
        place.run(block)


# --- all blocks ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, demo_root: Path) -> Place:
    """Everything is extracted, and each model that pages go on with is trained."""
    place = Place.make(tmp_path_factory.mktemp("place"), demo_root)
    for dataset in ("demo", "iemocap"):
        place.affectory("train", "--dataset", dataset, "--model", "mulg", "--model", "hjcag")
    place.affectory("train", "--dataset", "iemocap", "--model", "mulg", "--protocol", "cv")
    return place


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", [name for name, found in RUN.items() if found])
def test_the_blocks_of_a_page_run_one_after_another(page, prepared, tmp_path):
    place = prepared.copy(tmp_path)
    for line in BEFORE.get(page, ()):
        place.affectory(*shlex.split(place.here(line)))
    if all(block.kind == "python" for block in RUN[page]):  # one script in parts
        place.python(page, "".join(block.text for block in RUN[page]))
    else:
        for block in RUN[page]:
            place.run(block)
