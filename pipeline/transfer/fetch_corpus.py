"""Fetches the corpora that anybody may download: downloads are resumed, checked and unpacked."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import plugins
from pipeline.cache import flock
from pipeline.cache.atomic import check_space, publish
from pipeline.cache.home import Home
from pipeline.console import BYTES, Bars, print_line
from pipeline.corpus.recipe import WrittenRoot
from pipeline.corpus.recipe_file import recipe_path, written_root
from pipeline.corpus.recipe_text import RECIPES
from pipeline.errors import InputError, closest
from pipeline.reader import Download, Reader
from pipeline.text_file import regular
from pipeline.transfer.download import Show, download, is_fetched
from pipeline.transfer.unpack import unpack

_DONE = ".fetched.json"
_LOCK = ".fetch.lock"


def fetch(home: Home, dataset: str, root: str) -> dict[str, Any]:
    """Answers `affectory fetch`: downloads and unpacks the files that a recipe's reader lists, into the corpus root.

    `WrittenRoot.find` says where that is. Returns it as `root`, and as `fetched` the names of the files that were not
    there yet. For a corpus on request, prints whom to ask, and returns that as `obtain`. Raises InputError for an
    unknown dataset, an unsafe archive, a file in the way, or a root that another process is fetching into; RemoteError
    if the server fails or has another file; SpaceError if the disk is too small, before anything is fetched.
    """
    reader, corpus = _reader(dataset)
    if not reader.downloads:
        print_line(f"{dataset} can't be fetched: you have to get it yourself.")
        print_line(f"{reader.obtain}\nLayout:\n{reader.layout}")
        return {"fetched": [], "obtain": reader.obtain}
    folder = corpus.find(home.root, root)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder), Bars() as bars:
        fetched = fetch_all(reader.downloads, folder, bars)
    print_line(f"{folder}: {_summary(reader.downloads, fetched)}")
    return {"fetched": fetched, "root": str(folder)}


def _summary(items: Sequence[Download], fetched: Sequence[str]) -> str:
    news = f"fetched {', '.join(fetched)}." if fetched else "everything is there already."
    archives = [item.name for item in items if item.unpacked and item.name in fetched]
    return f"{news} {', '.join(archives)} can be deleted now." if archives else news


def fetch_all(items: Sequence[Download], root: Path, bars: Bars) -> list[str]:
    """Fetches and unpacks the files that are not in `root` yet; their names. Raises the errors of `fetch`."""
    missing = [item for item in items if not _is_done(item, root)]
    _check_space(missing, root)
    for item in missing:
        if not (root / item.name).exists():
            download(item, root / item.name, _progress(bars, f"fetch {item.name}", item.bytes))
        if item.unpacked:
            _unpack(item, root, _progress(bars, f"unpack {item.name}", item.unpacked))
    return [item.name for item in missing]


def _progress(bars: Bars, name: str, total: int) -> Show:
    bars.grow(name, BYTES, total)
    return partial(bars.reach, name)


def _reader(dataset: str) -> tuple[type[Reader], WrittenRoot]:
    """The reader of a recipe and the root of its corpus. The rest of the recipe is not read."""
    path = recipe_path(dataset)
    if not path.exists():
        raise InputError(f"no recipe {path}: {closest(path.stem, [p.stem for p in RECIPES.glob('*.toml')])}")
    try:
        table = tomllib.loads(regular(path).read_text(encoding="utf-8")).get("dataset")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(table, dict):
        raise InputError(f"{path}: no table [dataset]")
    reader = plugins.find("manifests", str(table.get("reader", "")), Reader)  # type: ignore[type-abstract]
    return reader, written_root(path, str(table.get("root", "")))


def _is_done(item: Download, root: Path) -> bool:
    """True if the file is in `root`, or was unpacked there. Raises InputError for another file at its place."""
    if item.unpacked:
        done = _done(root).get(item.name)
        if isinstance(done, dict) and item.digest in (done.get("digest"), done.get("sha256")):  # the older name
            return all((root / str(name)).exists() for name in done.get("holds") or ())
    path = root / item.name
    if not path.exists():
        return False
    if not is_fetched(item, path):
        raise InputError(f"{path} is not {item.url}: move it elsewhere, then fetch again")
    return not item.unpacked


def _check_space(items: Sequence[Download], root: Path) -> None:
    """Raises SpaceError if the disk is too small for the rest of each file and what it unpacks to."""
    places = [root / f"{item.name}{ending}" for item in items for ending in ("", ".part")]
    there = sum(path.stat().st_size for path in places if path.exists())
    needed = sum(item.bytes + item.unpacked for item in items) - there
    check_space(root, needed, "the rest of the corpus")


def _unpack(item: Download, root: Path, show: Show) -> None:
    written = 0

    def advance(size: int) -> None:
        nonlocal written
        written += size
        show(written)

    holds = unpack(root / item.name, root, item.unpacked, item.nested, advance)
    done = {**_done(root), item.name: {"digest": item.digest, "holds": holds}}
    publish(root / _DONE, json.dumps(done))


def _done(root: Path) -> Mapping[str, Any]:
    """The archives that were unpacked in `root`: by name, the SHA-256 and the names at the top."""
    try:
        done = json.loads((root / _DONE).read_text())
    except (OSError, ValueError):
        return {}
    return done if isinstance(done, dict) else {}


def alone(root: Path) -> AbstractContextManager[None]:
    """A context that raises InputError if another process is fetching into `root`."""

    def refuse() -> None:
        raise InputError(f"another process is fetching into {root}")

    return flock.alone(root / _LOCK, refuse)
