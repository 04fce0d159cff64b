"""Opens a corpus: its raw release if it is here, or else the manifest that another team pushed."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cache.atomic import writable
from pipeline.cache.home import Home
from pipeline.cache.store import Store
from pipeline.console import print_line
from pipeline.corpus import manifest, pulled_manifest
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.fit_scope import PROTOCOLS
from pipeline.corpus.lock_file import Lock, lock_path, read_lock
from pipeline.corpus.locked_store import LockedStore
from pipeline.corpus.manifest import Manifest
from pipeline.corpus.pulled_manifest import Pulled
from pipeline.corpus.recipe import Recipe, WrittenRoot
from pipeline.corpus.recipe_file import home_name, read_recipe, recipe_path
from pipeline.corpus.release_file import Release, released
from pipeline.errors import InputError, RemoteError, closest
from pipeline.reader import Reader
from pipeline.written_path import written_path

if TYPE_CHECKING:
    from pipeline.cache.remote import Remote


@dataclass(frozen=True)
class Options:
    """The options of a command beside the recipe. Only `root`, `protocol` and `changes` can change values."""

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
        """The URL of the remote cache: the option, else AFFECTORY_REMOTE, else ""."""
        return self.remote or os.environ.get("AFFECTORY_REMOTE", "")

    @property
    def anywhere(self) -> Options:
        """The same with absolute paths, as the next call may come from another folder."""
        is_path = self.dataset.endswith((".toml", ".json"))
        dataset = str(recipe_path(self.dataset).absolute()) if is_path else self.dataset
        return replace(self, dataset=dataset, root=str(written_path(self.root).absolute()) if self.root else "")


def remember(home: Home, options: Options) -> None:
    """Notes what was extracted last, so that the next call may leave it out."""
    noted = options.anywhere
    home.remember(noted.dataset, noted.root, noted.changes)


def lock_of(home: Home, recipe: Path, *, written: bool = False) -> Path:
    """The lock of a recipe: beside it, or at home if the recipe's folder cannot be written, as in an installed package.

    written: whether it is about to be written; a lock that is only read may be beside such a recipe too.
    """
    beside, at_home = lock_path(recipe), home.root / "locks" / lock_path(Path(home_name(recipe) + ".toml")).name
    if writable(beside.parent):
        return beside
    return at_home if written or at_home.exists() else beside


@dataclass(frozen=True)
class CorpusLocation:
    """The place of a corpus, and its reader, by which a machine finds or makes its own copy."""

    root: WrittenRoot
    reader: Reader

    def ready(self) -> str:
        """The corpus root on this machine, made if the reader can make it. Raises InputError if there is none."""
        root = self.root.find(Home().root)
        self.reader.prepare(root)
        if not root.is_dir():
            raise self.reader.missing(root)
        return str(root)


@dataclass(frozen=True)
class Opened:
    """A corpus, its cache, and the location by which other machines find the corpus."""

    corpus: Corpus
    store: Store
    location: CorpusLocation


def open_corpus(home: Home, options: Options, pulled: Pulled | None = None) -> Opened:
    """Reads a recipe and makes or loads its manifest.

    pulled: a manifest that has just been pulled and is not noted yet; None for the one that is noted at home. A release
    is always locked to the features that it names, and names its manifest itself. Raises InputError for an error in
    either, with `locked` for a lock that is missing, damaged or of another manifest, for a release that is not here,
    and for a limit on what is locked.
    """
    path = recipe_path(options.dataset)
    release = released(path)
    agreed = path if release else lock_of(home, path)
    if agreed.exists():
        home.note_lock(agreed)
    pulled = pulled or (release.pulled if release else pulled_manifest.noted(home.root, home_name(path)))
    recipe = read_recipe(
        path,
        root=options.root,
        changes=options.changes,
        memory=home.memory,
        home=home.root,
        elsewhere=pulled.weights if pulled else None,
    )
    _check_names(options, recipe)
    if release or options.locked:
        refuse_limit(recipe, f"{agreed} names features of the whole corpus")
    remote = reachable(options.url, home.cache)
    store = Store(home.cache, remote)
    if release:
        _check_here(release, store)
    lock = release.lock if release else read_lock(agreed) if options.locked else None
    rows = _manifest(home, recipe, pulled, store, lock)
    if lock is not None:
        _check_lock(lock, rows, agreed)
        store = LockedStore.of(lock, home.cache, remote)
    corpus = Corpus(recipe, rows, options.protocol or recipe.protocol).limited()
    return Opened(corpus, store, CorpusLocation(recipe.written_root, recipe.reader))


def refuse_limit(recipe: Recipe, because: str) -> None:
    """Raises InputError if a recipe has a limit, of which an agreement on features knows nothing.

    A limited corpus has shards, fits and folds of its own.
    """
    if recipe.limit:
        raise InputError(f"{because}, and limit = {recipe.limit} asks for a part of it: give dataset.limit=0 (LIMIT=0)")


def scan(home: Home, options: Options) -> tuple[Recipe, Manifest]:
    """A recipe and the manifest of its raw release. Raises InputError if the release is not here."""
    path = recipe_path(options.dataset)
    recipe = read_recipe(path, root=options.root, changes=options.changes, memory=home.memory, home=home.root)
    return recipe, manifest.build(recipe.reader, recipe.root, home.memory)


def reachable(url: str, cache: Path) -> Remote | None:
    """The remote cache; None without a URL, or, with a warning, if it cannot be reached: work then goes on locally."""
    if not url:
        return None
    from pipeline.cache.remote import Remote

    remote = Remote(url, cache)
    try:
        remote.check()
    except RemoteError as error:
        print_line(f"going on without the remote: {error}", "yellow")
        return None
    return remote


def _check_names(options: Options, recipe: Recipe) -> None:
    """Raises InputError for a protocol that no corpus has, and a modality or feature set that the recipe does not have,
    before a corpus is made or scanned."""
    if (protocol := options.protocol or recipe.protocol) not in PROTOCOLS:
        raise InputError(f"no protocol {protocol!r}: {closest(protocol, PROTOCOLS)}")
    modalities = {m for selections in recipe.features.values() for m in selections}
    if options.modality and options.modality not in modalities:
        raise InputError(f"no modality {options.modality!r} in this recipe: {closest(options.modality, modalities)}")
    for name in set(options.features) - recipe.features.keys():
        raise InputError(f"no feature set {name!r} in this recipe: {closest(name, recipe.features)}")


def _manifest(home: Home, recipe: Recipe, pulled: Pulled | None, store: Store, lock: Lock | None) -> Manifest:
    if recipe.root.exists() or pulled is None:
        return manifest.build(recipe.reader, recipe.root, home.memory)
    print_line(f"{recipe.root} is not here: the pulled manifest {pulled.digest[:12]} is used instead")
    if lock is not None and lock.manifest_object != pulled.record.object:
        raise InputError("the lock names another object than that of the pulled manifest: pull again with --locked")
    return pulled.load(store, recipe.root)


def _check_here(release: Release, store: Store) -> None:
    """Raises InputError for a release of which nothing was pulled, if there is no remote to read it from."""
    if store.remote is None and not store.here(release.pulled.record):
        raise InputError(f"{release.label} is not here: `make pull RELEASE={release.label} REMOTE=...` fetches it")


def _check_lock(lock: Lock, rows: Manifest, agreed: Path) -> None:
    """Raises InputError if the manifest here is not the one that the lock names, which is in the file `agreed`."""
    if rows.digest != lock.manifest:
        raise InputError(
            f"the manifest here is {rows.digest[:12]}, {agreed} names {lock.manifest[:12]}: this copy of "
            "the corpus differs from the one agreed on; leave out --locked, or agree on this one with --relock"
        )
