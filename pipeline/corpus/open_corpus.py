"""Opens a corpus: its raw release, or where that is not here the manifest that another team pushed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cache.home import Home
from pipeline.cache.record import Record
from pipeline.cache.store import Store
from pipeline.console import console
from pipeline.corpus import manifest, pulled_manifest
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.lock_file import Lock, lock_path, read_lock
from pipeline.corpus.manifest import Manifest
from pipeline.corpus.recipe import CorpusRoot, Recipe
from pipeline.corpus.recipe_file import home_name, read_recipe, recipe_path
from pipeline.errors import InputError, RemoteError, closest
from pipeline.reader import Reader

if TYPE_CHECKING:
    from pipeline.cache.remote import Remote

    pass


@dataclass(frozen=True)
class Options:
    """What a call may say beside the recipe: none of it changes values but `root`, `protocol` and `changes`."""

    dataset: str
    root: str = ""
    modality: str = ""
    features: tuple[str, ...] = ()
    protocol: str = ""
    workers: int | None = None
    scheduler: str = ""
    gpus: int = 0
    changes: tuple[str, ...] = ()
    remote: str = ""
    locked: bool = False
    part: str = ""

    @property
    def url(self) -> str:
        """The remote cache: the option, else AFFECTORY_REMOTE, else none."""
        return self.remote or os.environ.get("AFFECTORY_REMOTE", "")


def remember(home: Home, options: Options) -> None:
    """Notes what was extracted last. Paths become absolute, as the next call may come from another folder."""
    dataset = str(recipe_path(options.dataset).absolute()) if options.dataset.endswith(".toml") else options.dataset
    root = str(Path(options.root).expanduser().absolute()) if options.root else ""
    home.remember(dataset, root, options.changes)


@dataclass(frozen=True)
class CorpusLocation:
    """Where a machine finds its own copy of a corpus."""

    root: CorpusRoot
    reader: Reader

    def ready(self) -> str:
        """The corpus's root on this machine, made where the reader can make it. Raises InputError where it is not."""
        root = self.root.find(Home().root)
        self.reader.prepare(root)
        if not root.is_dir():
            raise self.reader.missing(root)
        return str(root)


@dataclass(frozen=True)
class Opened:
    """A corpus and the cache it is worked with; location: where other machines find it."""

    corpus: Corpus
    store: Store
    location: CorpusLocation


def open_corpus(home: Home, options: Options) -> Opened:
    """Reads recipe and manifest. Raises InputError for what is wrong with either, or with the lock where it counts."""
    path = recipe_path(options.dataset)
    if lock_path(path).exists():
        home.note_lock(lock_path(path))
    pulled = pulled_manifest.noted(home.root, home_name(path))
    read = read_recipe(
        path,
        root=options.root,
        changes=options.changes,
        memory=home.memory,
        home=home.root,
        elsewhere=pulled.weights if pulled else None,
    )
    _known(options, read)
    remote = reachable(options.url, home.cache)
    lock = read_lock(lock_path(path)) if options.locked else None
    store = Store(home.cache, remote)
    found = _manifest(home, read, pulled, store)
    if lock is not None:
        _same_manifest(lock, found, path)
        store = Store(home.cache, remote, fixed(lock, remote, home.cache))
    place = CorpusLocation(read.corpus_root, read.reader)
    return Opened(Corpus(read, found, options.protocol or read.protocol), store, place)


def scan(home: Home, options: Options) -> tuple[Recipe, Manifest]:
    """A recipe and the manifest of its raw release, which has to be here. Raises InputError."""
    path = recipe_path(options.dataset)
    recipe = read_recipe(path, root=options.root, changes=options.changes, memory=home.memory, home=home.root)
    return recipe, manifest.build(recipe.reader, recipe.root, home.memory)


def reachable(url: str, cache: Path) -> Remote | None:
    """The remote, or None with a warning where it cannot be reached: the work then goes on locally."""
    if not url:
        return None
    from pipeline.cache.remote import Remote

    remote = Remote(url, cache)
    try:
        remote.check()
    except RemoteError as error:
        console.print(f"[yellow]going on without the remote: {error}[/yellow]")
        return None
    return remote


def fixed(lock: Lock, remote: Remote | None, cache: Path) -> dict[str, dict[str, Record]]:
    """The records a lock names, by stage and key. Raises RemoteError where an index is neither here nor there."""
    from pipeline.cache.remote import Remote

    source = remote or Remote("", cache)
    indexes = {stage: source.records(stage, digest) for stage, digest in lock.indexes.items()}
    return {stage: {record.key: record for record in records} for stage, records in indexes.items()}


def _known(options: Options, read: Recipe) -> None:
    modalities = {m for selections in read.features.values() for m in selections}
    if options.modality and options.modality not in modalities:
        raise InputError(f"no modality {options.modality!r} in this recipe: {closest(options.modality, modalities)}")
    for name in set(options.features) - read.features.keys():
        raise InputError(f"no feature set {name!r} in this recipe: {closest(name, read.features)}")


def _manifest(home: Home, read: Recipe, pulled: pulled_manifest.Pulled | None, store: Store) -> Manifest:
    if read.root.exists() or pulled is None:
        return manifest.build(read.reader, read.root, home.memory)
    console.print(f"{read.root} is not here: going by the pulled manifest {pulled.digest[:12]}")
    return pulled.load(store, read.root)


def _same_manifest(lock: Lock, found: Manifest, recipe: Path) -> None:
    if found.digest != lock.manifest:
        raise InputError(
            f"the manifest here is {found.digest[:12]}, {lock_path(recipe)} names {lock.manifest[:12]}: this copy of "
            "the corpus is another one; leave out --locked, or agree on it with --relock"
        )
