"""Stamps of finished extractions: by one, `extract` knows that nothing has changed, without a scan and without a plan.

    finished/<recipe>-<options>.json    fingerprint, the objects, and what that extraction said

The fingerprint is of everything that a scan and a plan read: the code and the installed libraries, the recipe with the
digests of its stages, every file below the root of the corpus by its stamp (see `pipeline.media.files`), and the
actions of the stages. An object counts by its stamp too. A corpus that is locked, pulled, on a remote or in parts is
always planned. A stamp that is missing, damaged, outdated or too old changes nothing but the time that is needed.
"""

from __future__ import annotations

import math
import os
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from blake3 import blake3
from pydantic import BaseModel, ValidationError

from pipeline import plugins
from pipeline.cache import keys
from pipeline.cache.atomic import publish
from pipeline.cache.home import Home
from pipeline.cache.in_use import TOUCH_S
from pipeline.cache.record import FITS
from pipeline.cache.store import Store
from pipeline.corpus import pulled_manifest
from pipeline.corpus.open_corpus import Options, lock_of
from pipeline.corpus.recipe import Node, Recipe, every_node
from pipeline.corpus.recipe_file import home_name, read_recipe, recipe_path
from pipeline.corpus.release_file import released
from pipeline.media.files import stamp
from pipeline.plan import last_extraction
from pipeline.plan.generations import Compare, resolved
from pipeline.plan.session import Session

FOLDER = "finished"
"""The folder of stamps at home."""
MOST_FILES = 1_000_000
"""Of a corpus folder with more files than this no stamp is made: to look at them all might take longer than a scan."""
SETTLED_S = 2.0
"""A file that was changed less than this before it was looked at may change again without another stamp."""


class UnsureError(Exception):
    """It cannot be told whether something has changed."""


class Stamp(BaseModel):
    """What is kept of a finished extraction.

    objects: their paths in the cache. stamps: the digest of their stamps. said: what the extraction answered.
    """

    fingerprint: str
    objects: list[str]
    stamps: str
    said: str


@dataclass(frozen=True)
class Seen:
    """What was seen before a scan.

    corpus: the digest of all that a scan reads. actions: that of the cache's actions. oldest_s: when the use of an
    action was last noted, in seconds since 1970; of several, the longest ago. noted: the digest of the note about the
    last extraction, by which another one in between is noticed.
    """

    home: Home
    options: Options
    recipe: Recipe
    corpus: str
    actions: str
    oldest_s: float
    noted: str

    @property
    def fingerprint(self) -> str:
        """The digest of everything that was seen."""
        return keys.digest("finished", _of_recipe(self.recipe, self.options), self.corpus, self.actions, self.noted)

    def known(self) -> str | None:
        """What the extraction said that left everything as it is now; None if there was none."""
        stamped = _read(_path(self.home, self.options))
        if stamped is None or not self.noted or stamped.fingerprint != self.fingerprint:
            return None
        if time.time() - self.oldest_s > TOUCH_S:  # a plan notes that the actions are in use, so that `gc` keeps them
            return None
        if _of_objects(self.home.cache, stamped.objects) != stamped.stamps:
            return None
        return stamped.said

    def keep(self, session: Session, said: str) -> None:
        """Keeps a stamp of an extraction that had nothing to do, if nothing has changed while it ran."""
        refs, store, recipe = session.catalogue.final_refs(), session.catalogue.store, session.corpus.recipe
        if (
            refs is None
            or session.verdicts
            or _of_recipe(recipe, session.options) != _of_recipe(self.recipe, self.options)
        ):
            return
        names = [store.path(ref).relative_to(store.root).as_posix() for ref in refs]
        stamps = _of_objects(store.root, names)
        with suppress(OSError, UnsureError):
            if all(map(store.here, refs)) and _actions(self.home, every_node(recipe)) == (self.actions, self.oldest_s):
                now = replace(self, noted=last_extraction.digest(self.home.root, recipe.home_name))
                made = Stamp(fingerprint=now.fingerprint, objects=names, stamps=stamps, said=said)
                publish(_path(self.home, self.options), made.model_dump_json())


def look(home: Home, options: Options, compare: Compare) -> Seen | None:
    """Looks at everything that a scan and a plan would read; None if a plan has to be made in any case.

    compare: see `pipeline.plan.generations`. Raises InputError for a wrong recipe.
    """
    path = recipe_path(options.dataset)
    if options.url or options.part or options.locked or released(path):
        return None
    if lock_of(home, path).exists() or pulled_manifest.noted(home.root, home_name(path)):
        return None
    recipe = read_recipe(path, root=options.root, changes=options.changes, memory=home.memory, home=home.root)
    recipe, verdicts = resolved(recipe, Store(home.cache), compare)
    if verdicts or not recipe.root.is_dir():
        return None
    try:
        noted = last_extraction.digest(home.root, recipe.home_name)
        return Seen(home, options, recipe, _of_corpus(recipe.root), *_actions(home, every_node(recipe)), noted)
    except (OSError, UnsureError):
        return None


def _path(home: Home, options: Options) -> Path:
    asked = asdict(options.anywhere) | {"workers": None, "scheduler": "", "gpus": 0}
    return home.root / FOLDER / f"{home_name(recipe_path(options.dataset))}-{keys.digest(asked)[:8]}.json"


def _read(path: Path) -> Stamp | None:
    try:
        return Stamp.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _of_recipe(recipe: Recipe, options: Options) -> str:
    """The digest of the recipe and the options, as far as they decide what is asked for and what is said of it."""
    features = {
        name: {m: ([n.digest for n in s.parts], s.align.model_dump()) for m, s in selections.items()}
        for name, selections in recipe.features.items()
    }
    folds = keys.file_digest(recipe.own_folds) if recipe.own_folds else None
    return keys.digest(
        [recipe.name, recipe.home_name, str(recipe.root), recipe.label_protocol, recipe.max_failed, recipe.crossfit],
        [recipe.limit, plugins.name_of(type(recipe.reader)), repr(recipe.reader), folds, features],
        [options.protocol or recipe.protocol, options.modality, list(options.features)],
    )


def _of_corpus(root: Path) -> str:
    """The digest of the code, of what is installed, and of every file below the root of the corpus.

    Raises UnsureError if there are too many, or one that was changed just now.
    """
    code = [keys.file_digest(plugins.folder(name)) for name in ("pipeline", "stages", "manifests")]
    places = sorted({sysconfig.get_path(name) for name in ("purelib", "platlib")})
    content = blake3(repr((sys.version, os.geteuid(), code, [(place, stamp(place)) for place in places])).encode())
    settled_s = time.time() - SETTLED_S
    for count, (path, status) in enumerate(_below(str(root), set())):
        if count > MOST_FILES:
            raise UnsureError
        content.update(_line(path, status, settled_s))
    return content.hexdigest()


def _below(folder: str, above: set[tuple[int, int]]) -> Iterator[tuple[str, os.stat_result]]:
    """A folder and all that is below it, links followed. above: the folders on the way.

    Raises UnsureError for a ring of links.
    """
    status = os.stat(folder)  # noqa: PTH116 - of many thousand files
    way = {*above, (status.st_dev, status.st_ino)}
    if len(way) == len(above):
        raise UnsureError
    yield folder, status
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _below(entry.path, way)
        else:
            yield entry.path, _status(entry)


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    """Of the file that a link leads to, or of a link that leads nowhere."""
    try:
        return entry.stat()
    except FileNotFoundError:
        return entry.stat(follow_symlinks=False)


def _line(path: str, status: os.stat_result, settled_s: float) -> bytes:
    """A file with all that changes with its bytes. Raises UnsureError if it was changed after `settled_s`."""
    if max(status.st_ctime, status.st_mtime) > settled_s:
        raise UnsureError
    times = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino, status.st_mode)
    return f"{path}\0{times}\n".encode(errors="surrogateescape")


def _actions(home: Home, nodes: Iterable[Node]) -> tuple[str, float]:
    """The digest of all actions of these stages, and the time of writing of the oldest, in seconds since 1970.

    Raises UnsureError if one was written just now.
    """
    content, now_s, oldest_s = blake3(), time.time(), math.inf
    for stage in sorted({stage for node in nodes for stage in (node.digest, node.digest + FITS)}):
        folder = home.cache / "actions" / stage
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name) if folder.is_dir() else ():
            status = entry.stat(follow_symlinks=False)
            content.update(_line(entry.path, status, now_s - SETTLED_S))
            oldest_s = min(oldest_s, status.st_mtime)
    return content.hexdigest(), oldest_s


def _of_objects(cache: Path, names: Iterable[str]) -> str:
    """The digest of the stamps of objects, of which some may be gone."""
    return blake3("\n".join(f"{name} {stamp(cache / name)}" for name in names).encode()).hexdigest()
