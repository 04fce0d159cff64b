"""Two teams with one recipe and a remote: what each pushes, pulls and extracts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cache.home import Home
from pipeline.cache.remote import Remote
from pipeline.cli.extract import extracted
from pipeline.corpus.open_corpus import Options
from pipeline.run.reference_job import open_session
from pipeline.transfer import push_pull
from tests.small import Small


def options(team: Small, url: str, **more) -> Options:
    team.path.write_text(team.recipe)
    return Options(dataset=str(team.path), root=str(team.root), workers=0, remote=url, **more)


def push(team: Small, url: str, *, text: bool = True, relock: bool = False, **more):
    return push_pull.push(Home(team.home), options(team, url, **more), text=text, relock=relock)


def pull(team: Small, url: str, *, split: str = "", **more):
    return push_pull.pull(Home(team.home), options(team, url, **more), split=split)


def extract(team: Small, url: str, *, relock: bool = False, **more):
    answer, _ = extracted(open_session(Home(team.home), options(team, url, **more)), relock=relock)
    return {name: count for name, count in answer["computed"].items() if count}


@pytest.fixture
def other(small: Small, tmp_path: Path) -> Small:
    """Another team: the same recipe, an empty home, and no corpus."""
    place = tmp_path / "other"
    place.mkdir()
    return Small(place / "corpus", place / "home", place / small.path.name)


def objects(team: Small) -> set[str]:
    """The objects of a team's cache."""
    return {path.name for path in (team.home / "cache" / "objects").rglob("*") if path.is_file()}


def keys_of(team: Small, url: str) -> dict[tuple[str, str], str]:
    team.path.write_text(team.recipe)
    catalogue = open_session(Home(team.home), options(team, url)).catalogue
    found = {}
    for node, scope in catalogue.wanted:
        for shard in catalogue.of(node, scope).shards:
            assert catalogue.of(node, scope).final(shard), (node.name, shard.key)
            found |= {(node.name, row.id): key for row, key in zip(shard.rows, shard.keys, strict=True)}
    return found


def there(url: str, root: Path) -> list[str]:
    """Every file of a remote."""
    remote = Remote(url, root)
    return sorted(remote._files.find(remote._where[1]))
