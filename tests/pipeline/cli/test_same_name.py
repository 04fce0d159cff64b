"""Two recipes of one file name, in two folders, that are worked with in turn at one home."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cache.home import Home
from pipeline.cli.extract import planned
from pipeline.cli.train import trained
from pipeline.corpus.open_corpus import Options, open_corpus
from pipeline.plan import last_extraction
from pipeline.report import models_section, page
from pipeline.transfer import push_pull
from tests.small import Small

RECIPE = """
[dataset]
reader = "iemocap"
labels = "six"

[features.hjcag]
audio = {{ stage = "audio_mfcc", n_mfcc = {count}, deltas = 0, rate_hz = 12.5, align = {{ mode = "pad", length = 8 }} }}

[train.hjcag]
epochs = 1
d_model = 8
unimodal_pretrain = false
"""


def recipe(root: Path, home: Path, path: Path, count: int) -> Small:
    path.parent.mkdir()
    return Small(root, home, path, RECIPE.format(count=count))


@pytest.fixture(scope="module")
def both(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Small, Small]]:
    """Both recipes extracted, trained and reported on, one after the other."""
    place = tmp_path_factory.mktemp("both")
    made = [recipe(demo_root, place / "home", place / name / "my.toml", count) for name, count in (("a", 5), ("b", 7))]
    for small in made:
        trained(small.session(), ["hjcag"], 0, extract=True)
        page.write(small.session())
    yield made[0], made[1]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_keeps_its_own_last_extraction(both):
    for small, count in zip(both, (5, 7), strict=True):
        seen = last_extraction.read(small.home, small.name)
        assert seen is not None and [e.about["params"]["n_mfcc"] for e in seen.stages.values()] == [count]


def test_each_is_told_what_changed_since_its_own_last_extraction(both):
    first, _ = both
    answer = planned(first.session(changes=("features.hjcag.audio.n_mfcc=6",)))
    assert answer["because"] == {"audio_mfcc": ["params.n_mfcc: 5 -> 6"]}


def test_each_keeps_its_own_runs_and_the_report_shows_those_alone(both):
    for small, count in zip(both, (5, 7), strict=True):
        [run] = models_section.trained(small.session())
        assert run.folder.parent == small.home / "runs" / small.name and not run.stale
        [view] = {path for fold in run.answer["columns"] for path in fold.values()}
        note = json.loads((small.home / "views" / view / "column.json").read_text())
        assert len(note["names"]) == count


def test_each_keeps_its_own_report(both):
    first, second = both
    assert names(first.home / "reports") == sorted([f"{first.name}.html", f"{second.name}.html", "index.html"])


def test_people_read_the_plain_name(both):
    assert [planned(small.session())["dataset"] for small in both] == ["my", "my"]
    assert "<title>my" in (both[0].home / "reports" / f"{both[0].name}.html").read_text()


def test_each_keeps_the_manifest_that_was_pulled_for_it(both, small, tmp_path):
    first, second = both
    small.edit("Ses01F_impro01_F000", ":", ": well")
    corpora = []
    for name, root in (("c", first.root), ("d", small.root)):
        team = recipe(root, tmp_path / name / "home", tmp_path / name / "my.toml", 5)
        url = f"file://{tmp_path / name}/remote"
        team.extract()
        push_pull.push(Home(team.home), Options(str(team.path), root=str(root), workers=0, remote=url))
        corpora.append((url, team.session().corpus.manifest.digest))
    home, gone = tmp_path / "home", str(tmp_path / "gone")
    for (url, _), to in zip(corpora, both, strict=True):
        push_pull.pull(Home(home), Options(str(to.path), root=gone, remote=url))
    opened = [open_corpus(Home(home), Options(str(to.path), root=gone)).corpus.manifest.digest for to in both]
    assert opened == [digest for _, digest in corpora] and len(set(opened)) == 2
