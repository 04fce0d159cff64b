"""The final records of a recipe in the cache and its remote, which can be shared, and the lock that names them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.cache.record import FITS, REFERENCES, Record, encode_index
from pipeline.cache.remote import Remote
from pipeline.cache.store import Store
from pipeline.console import print_line
from pipeline.corpus import pulled_manifest
from pipeline.corpus.lock_file import Lock, read_lock, write_lock
from pipeline.corpus.open_corpus import lock_of, refuse_limit
from pipeline.corpus.recipe import Node, Recipe, every_node
from pipeline.corpus.recipe_file import recipe_path
from pipeline.errors import InputError, closest
from pipeline.plan.catalogue import StageRows
from pipeline.plan.references import reference_of
from pipeline.plan.session import Session
from pipeline.plan.shortfall import provisional

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class FinalRecords:
    """The final records of a recipe by stage. incomplete: by stage, the number of rows that are not final."""

    indexes: Mapping[str, Sequence[Record]]
    incomplete: Mapping[str, int]

    def missing(self) -> str:
        """The stages that are not final, with their rows, as text."""
        return ", ".join(f"{name} {count:,} rows" for name, count in sorted(self.incomplete.items()))


def final_records(session: Session, split: str = "") -> FinalRecords:
    """The final records of everything that a session asks for, and the references of its stages.

    split: train, valid or test, for only those shards that have a row in this part of a fold. Raises InputError for
    another part.
    """
    indexes: dict[str, list[Record]] = {}
    incomplete: Counter[str] = Counter()
    ids = _part(session, split) if split else None
    for rows in session.catalogue:
        name, stage = rows.node.name, rows.node.digest
        if rows.waiting or provisional(rows):
            incomplete[name] += len(rows.ids)
            continue
        if rows.state:
            indexes.setdefault(rows.state.stage, []).append(rows.state)
        for count, record in _shards(rows, ids):
            if record is None:
                incomplete[name] += count
            else:
                indexes.setdefault(stage, []).append(record)
        if stage in indexes:
            for record in _references(rows.node, session.catalogue.store):
                indexes.setdefault(record.stage, []).append(record)
    return FinalRecords({stage: _once(records) for stage, records in indexes.items()}, incomplete)


def _references(node: Node, store: Store) -> Iterator[Record]:
    """The reference of a stage, if it has one, and the states that its sample went through."""
    if reference := reference_of(node, store):
        yield reference.record
        yield from (reference.states(store) or {}).values()


def missing_because(session: Session, remote: Remote) -> list[str]:
    """For each stage that is not final, a line that says why the remote does not give it."""
    lacking = (rows for rows in session.catalogue if rows.waiting or not all(map(rows.final, rows.shards)))
    reasons = {rows.node: _why_missing(rows, remote) for rows in lacking}
    return [f"{node.name}: {why}" for node, why in reasons.items()]


def _why_missing(rows: StageRows, remote: Remote) -> str:
    node = rows.node
    if rows.waiting:
        return f"the fit of {rows.waiting.node.name} on {rows.waiting.scope.name} is not there"
    if remote.index(node.digest):
        return "there are rows of it, but not all of these utterances as they are here"
    others = [record.about.get("libraries", {}) for record in remote.index(node.family + REFERENCES).values()]
    if not others:
        return "nobody has pushed it with these parameters, weights and inputs"
    made = " or ".join(_other_versions(versions, node) for versions in others)
    return f"its rows there were made with {made}, and those here are others"


def _other_versions(versions: Mapping[str, str], node: Node) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version != node.founding.get(name))


def _shards(rows: StageRows, ids: set[str] | None) -> Iterator[tuple[int, Record | None]]:
    """The number of rows and the final record of each shard, or of each that has a row of `ids`."""
    for shard in rows.shards:
        if ids is None or any(row.id in ids for row in shard.rows):
            yield len(shard.rows), rows.final(shard)


def _part(session: Session, name: str) -> set[str]:
    if name not in PARTS:
        raise InputError(f"no split {name!r}: {closest(name, PARTS)}")
    return {i for fold in session.corpus.folds for i in getattr(fold, name)}


def _once(records: Sequence[Record]) -> list[Record]:
    return list({record.key: record for record in records}.values())


def local_weights(recipe: Recipe) -> dict[str, str]:
    """The digest of each local file or folder of weights, by its name in the recipe."""
    return {name: digest for node in every_node(recipe) for name, digest in node.written_weights.items()}


def relock(session: Session) -> dict[str, Any]:
    """Writes the lock from this cache. Raises InputError as `all_final`."""
    final = all_final(session)
    return lock(session, saved_manifest(session), kept_indexes(session, final), relock=True)


def check_whole(session: Session) -> None:
    """Raises InputError under a limit: what is shared, locked or released is of a whole corpus."""
    refuse_limit(session.corpus.recipe, "features are shared, locked and released of a whole corpus")


def all_final(session: Session) -> FinalRecords:
    """The final records of a recipe. Raises InputError if some of its features are not final, and under a limit."""
    check_whole(session)
    final = final_records(session)
    if final.incomplete:
        raise InputError(f"all of a recipe's features have to be final for that; not final: {final.missing()}")
    return final


def kept_indexes(session: Session, final: FinalRecords) -> dict[str, str]:
    """The digest of each stage's index, of which this cache then has a copy."""
    keeper = Remote("", session.home.cache)
    return {stage: keeper.keep(encode_index(records)) for stage, records in final.indexes.items() if records}


def saved_manifest(session: Session, text: bool = True) -> Record:
    """The record of the manifest's object: the one that was pulled, or one saved now if the release is here.

    text: whether transcripts are in what is saved.
    """
    manifest, recipe = session.corpus.manifest, session.corpus.recipe
    pulled = pulled_manifest.noted(session.home.root, recipe.home_name)
    if pulled is not None and not manifest.media:
        return pulled.record
    rows = manifest if text else manifest.without_text()
    return pulled_manifest.save(session.catalogue.store, recipe.name, rows, local_weights(recipe))


def agreed(session: Session, shared: Record, indexes: Mapping[str, str]) -> Lock:
    """The lock of a session's manifest, saved as the object of `shared`, and of the indexes of its stages."""
    recipe = session.corpus.recipe
    names = {name: node.name for node in every_node(recipe) for name in (node.digest, node.family)}
    stages = {
        f"{names[stage.removesuffix(FITS).removesuffix(REFERENCES)]} {stage}": digest
        for stage, digest in indexes.items()
    }
    manifest = session.corpus.manifest.digest
    return Lock(manifest=manifest, manifest_object=shared.object, weights=local_weights(recipe), stages=stages)


def lock(session: Session, shared: Record, indexes: Mapping[str, str], relock: bool) -> dict[str, Any]:
    """Writes the lock if there is none, or if `relock` allows to replace it; else prints in what the two differ."""
    recipe = recipe_path(session.options.dataset)
    path, new = lock_of(session.home, recipe), agreed(session, shared, indexes)
    differing = read_lock(path).differences(new) if path.exists() else []
    if not path.exists() or (differing and relock):
        path = lock_of(session.home, recipe, written=True)
        write_lock(path, new)
        session.home.note_lock(path)
        print_line(f"Lock: {path}")
    elif differing:
        print_line(f"{path} names other features; --relock replaces it:\n" + "\n".join(differing))
    return {"path": str(path), "differing": differing}
