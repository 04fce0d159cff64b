"""`affectory release`, and `push` and `pull` of a release: features under a name that a team agreed on for good."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.cache.atomic import publish, writable
from pipeline.cache.home import Home
from pipeline.cache.record import Record
from pipeline.cache.remote import Remote
from pipeline.cache.remote_inventory import Inventory
from pipeline.cache.store import Store
from pipeline.cache.weights import LOCK, Weights
from pipeline.console import print_line
from pipeline.corpus import pulled_manifest
from pipeline.corpus.open_corpus import Options
from pipeline.corpus.recipe import Recipe, every_node
from pipeline.corpus.recipe_file import home_name, recipe_path
from pipeline.corpus.recipe_text import RECIPES, read_text
from pipeline.corpus.release_file import (
    FOLDER,
    LARGEST,
    Release,
    ReleasedFolds,
    ReleasedManifest,
    ReleasedStage,
    checked_label,
    dump,
    known,
    parse,
    read_release,
    release_path,
    released,
    write_release,
)
from pipeline.errors import AffectoryError, InputError, RemoteError, closest
from pipeline.plan.session import Session
from pipeline.reason import Reason
from pipeline.run.reference_job import open_session
from pipeline.transfer.final_records import agreed, all_final, kept_indexes, saved_manifest
from pipeline.transfer.push_pull import pull, reached, send

LINES = re.compile(r"\r\n|\r|\n")


def release(home: Home, options: Options, name: str, version: str, *, text: bool = True) -> dict[str, Any]:
    """Answers `affectory release`: writes `releases/<name>-<version>.json` beside the recipe, or at home if that folder
    cannot be written, from this cache.

    text: whether transcripts are in the manifest's object. Raises InputError if the name or the version cannot be used,
    if some of the recipe's features are not final, or if another release of this name and version is there.
    """
    label, recipe = checked_label(f"{name}-{version}"), recipe_path(options.dataset)
    if released(recipe):
        raise InputError(f"{recipe} is a release already")
    path = release_path(_folder(home, recipe), label)
    session = open_session(home, options)
    with session.pinned():
        made = _made(session, name, version, text)
    new = write_release(path, made)
    home.note_lock(path)
    print_line(f"Release: {path}" if new else f"{path} is this release already: nothing has changed since.")
    return {"release": label, "path": str(path), "new": new, "dataset": made.dataset, "rows": made.rows}


def _folder(home: Home, recipe: Path) -> Path:
    """Where a recipe's releases are kept: beside it, or at home if that cannot be written, which is said."""
    if writable(recipe.parent / FOLDER):
        return recipe.parent
    print_line(f"{recipe.parent} cannot be written, so the release will be in {home.root / FOLDER}")
    return home.root


def push_release(home: Home, options: Options, release: str) -> dict[str, Any]:
    """Answers `affectory push --release`: sends what a release names and the remote lacks, then the release itself.

    release: its label, or the path of its file. Raises InputError if there is no such release, if an object that it
    names is nowhere, or if the remote has another release of this label; RemoteError if the remote fails.
    """
    remote = reached(home, options)
    agreed_on, store = read_release(_file(home, release)), Store(home.cache)
    label = agreed_on.label
    _refuse_other(remote, agreed_on)
    keeper = Remote("", home.cache)
    indexes = {stage: keeper.records(stage, digest) for stage, digest in agreed_on.lock.indexes.items()}
    manifest = agreed_on.pulled.record
    records = {r.object: r for r in (manifest, *(r for index in indexes.values() for r in index))}
    if lost := [r for r in records.values() if not store.here(r) and not remote.has(r)]:
        raise InputError(f"{len(lost)} objects of {label} are neither here nor on {remote.url}: extract or pull again")
    sent = send(remote, store, records.values())
    for stage, index in indexes.items():
        remote.publish(stage, index)
    if not remote.segments(manifest.stage):
        remote.publish(manifest.stage, [manifest])
    remote.put_new(_place(label), dump(agreed_on).encode())
    _refuse_other(remote, agreed_on)
    if agreed_on.licence:
        print_line(f"{label}: {agreed_on.licence}")
    return {"release": label, "remote": remote.url, "objects": len(sent), "bytes": sum(sent)}


def pull_release(home: Home, options: Options, label: str, *, split: str = "") -> dict[str, Any]:
    """Answers `affectory pull --release`: fetches a release, its manifest and its features. Nothing else is needed.

    A release that is in manifests/ or was pulled before has to be the same on the remote. Everything is checked against
    the digests in the release; of one that is refused nothing is kept. Raises InputError, and RemoteError if the remote
    cannot be reached or has something else than the release says.
    """
    remote = reached(home, options)
    agreed_on = fetched(remote, checked_label(label))
    here = known(home, label)
    if here and (lines := read_release(here).differences(agreed_on)):
        raise RemoteError(f"{remote.url} has another release {label} than {here}:\n" + "\n".join(lines))
    with _kept(home, agreed_on, here) as path:
        answer = pull(home, replace(options, dataset=str(path)), split=split)
    _note_same_recipe(home, agreed_on)
    if agreed_on.licence:
        print_line(f"{label}: {agreed_on.licence}")
    return answer | {"release": label}


def fetched(remote: Inventory, label: str) -> Release:
    """A release of a remote, checked. Raises InputError if there is none of this label or if it is damaged."""
    raw = remote.read_small(_place(label), LARGEST)
    if not raw:
        labels = [Path(file.place).stem for file in remote.files(FOLDER)]
        raise InputError(f"{remote.url} has no release {label}: {closest(label, labels)}")
    return parse(raw, label, f"{remote.url}/{_place(label)}")


def _file(home: Home, release: str) -> Path:
    if release.endswith(".json"):
        return Path(release)
    return known(home, checked_label(release)) or release_path(RECIPES, release)


def _place(label: str) -> str:
    return f"{FOLDER}/{label}.json"


def _refuse_other(remote: Inventory, agreed_on: Release) -> None:
    """Raises InputError if the remote has another release of this label."""
    raw = remote.read_small(_place(agreed_on.label), LARGEST)
    there = parse(raw, agreed_on.label, f"{remote.url}/{_place(agreed_on.label)}") if raw else agreed_on
    if lines := there.differences(agreed_on):
        raise InputError(
            f"{remote.url} has another {agreed_on.label}, and a release never changes: choose another version\n"
            + "\n".join(lines)
        )


@contextmanager
def _kept(home: Home, agreed_on: Release, here: Path | None) -> Iterator[Path]:
    """The file of a release that is being pulled. If it is refused, it is not kept."""
    path = here or release_path(home.root, agreed_on.label)
    if not here:
        publish(path, dump(agreed_on))
    try:
        yield path
    except AffectoryError:
        if not here:
            path.unlink(missing_ok=True)
        raise


def _note_same_recipe(home: Home, agreed_on: Release) -> None:
    """Lets `DATASET=` find the manifest too, if manifests/ has the very recipe and no other manifest was pulled."""
    path = RECIPES / f"{agreed_on.dataset}.toml"
    same = path.is_file() and not agreed_on.changes and read_text(path) == agreed_on.text
    if same and pulled_manifest.noted(home.root, home_name(path)) is None:
        pulled_manifest.note(home.root, home_name(path), agreed_on.pulled)


# --- what a release says ---------------------------------------------------------------------------------------


def _made(session: Session, name: str, version: str, text: bool) -> Release:
    final, shared, recipe = all_final(session), saved_manifest(session, text), session.corpus.recipe
    indexes = kept_indexes(session, final)
    lock, path = agreed(session, shared, indexes), recipe_path(session.options.dataset)
    protocol = session.options.protocol
    stages = {stage: _counted(index, final.indexes[stage.rpartition(" ")[2]]) for stage, index in lock.stages.items()}
    manifest = ReleasedManifest(digest=lock.manifest, object=shared.object, key=shared.key, bytes=shared.size)
    try:
        return Release(
            name=name,
            version=version,
            dataset=recipe.name,
            date=datetime.now(UTC).date().isoformat(),
            licence=recipe.reader.licence,
            rows=len(session.corpus.manifest.rows),
            recipe=_lines(read_text(path)),
            changes=(*session.options.changes, *([f'dataset.protocol="{protocol}"'] if protocol else ())),
            folds=_folds(recipe),
            pins=_pins(path, recipe),
            manifest=manifest,
            weights=lock.weights,
            stages=stages,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path} cannot be released: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _lines(text: str) -> tuple[str, ...]:
    return tuple(LINES.split(text))


def _folds(recipe: Recipe) -> ReleasedFolds | None:
    if recipe.own_folds is None:
        return None
    text = recipe.own_folds.read_bytes().decode("utf-8-sig")
    return ReleasedFolds(name=recipe.own_folds.stem, lines=_lines(text))


def _pins(path: Path, recipe: Recipe) -> Mapping[str, Any]:
    """The pins of the published weights that the recipe's stages read."""
    sources = {source for node in every_node(recipe) for source in node.stage.sources().values()}
    pins = Weights.read(path.with_name(LOCK)).pins
    return {source: pin for source, pin in pins.items() if f"pinned:{pin.digest}:{source}" in sources}


def _counted(index: str, records: Sequence[Record]) -> ReleasedStage:
    failed = (i for record in records for i, reason in record.reasons.items() if Reason(reason).failed)
    objects = {record.object: record.size for record in records}
    return ReleasedStage(
        index=index,
        rows=len({row for record in records for row in record.rows}),
        failed=sum(1 for _ in failed),
        objects=len(objects),
        bytes=sum(objects.values()),
    )
