"""The digested manifest as an object of the cache, which travels with the shards.

With it, a team without the raw media plans, trains and explains.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.cache import keys
from pipeline.cache.atomic import replacing
from pipeline.cache.parquet_pages import Bounds, open_parquet
from pipeline.cache.record import DamagedError, Record, decode, encode
from pipeline.cache.store import Store
from pipeline.corpus import manifest
from pipeline.corpus.lock_file import DIGEST, Lock
from pipeline.corpus.manifest import Manifest
from pipeline.errors import InputError
from pipeline.utterance import MISSING, SCHEMA, UNREADABLE, Utterance, from_table, to_table

if TYPE_CHECKING:
    from pipeline.cache.remote import Remote

BOUNDS = Bounds(20_000_000, bytes=1 << 24, ratio=150, most=1 << 34, texts=1 << 31, value=64, shared=True)
"""What a manifest may hold. Each of its values becomes an object of Python."""
LABELS = (pa.string(), pa.float64(), pa.int64())
"""The types that a column of annotations may have."""
_DIGEST = re.compile(DIGEST)


@dataclass(frozen=True)
class Pulled:
    """A manifest that another machine pushed and `pull` noted at home; the record of its object describes it."""

    record: Record

    @property
    def digest(self) -> str:
        """The digest of the manifest itself; see `Manifest.digest`."""
        return str(self.record.about["manifest"])

    @property
    def weights(self) -> Mapping[str, str]:
        """The digest of each local file or folder of weights, by the name that the recipe gives it."""
        return {str(name): str(digest) for name, digest in self.record.about["weights"].items()}

    def load(self, store: Store, root: Path) -> Manifest:
        """The manifest; `root` is where its media would be. Raises InputError if the object is not this manifest."""
        table = _table(store.bring(self.record))
        if any(pc.list_flatten(table[kind]).null_count for kind in ("audio", "video")):
            raise InputError(f"the pulled manifest {self.record.object[:12]} has a stretch of no file")
        rows = from_table(table)
        _check(rows)
        manifest.check(rows, root)
        loaded = Manifest(root, tuple(rows), media=False)
        if loaded.digest != self.digest:
            raise InputError(f"the pulled manifest {self.record.object[:12]} is not what its record says")
        return loaded


def stage_of(dataset: str) -> str:
    """The name, like a stage's digest, of the folder of actions that holds the manifests of a dataset.

    dataset: the plain name of the recipe (`Recipe.name`), so that teams find each other's manifests on a remote.
    """
    return keys.digest("manifest", keys.KEY_VERSION, dataset)


def save(store: Store, dataset: str, saved: Manifest, weights: Mapping[str, str]) -> Record:
    """Saves a manifest in the cache; `weights` are the digests of local weights by the names that the recipe gives."""
    text = any(row.text is not None for row in saved.rows)
    key = keys.digest("manifest", saved.digest, text, dict(weights))
    about = {"dataset": dataset, "manifest": saved.digest, "weights": dict(weights), "rows": len(saved.rows)}
    write = partial(pq.write_table, to_table(saved.rows), compression="zstd")
    return store.save(stage_of(dataset), key, write, suffix=".parquet", about=about)


def latest(remote: Remote, dataset: str, lock: Lock | None = None) -> Pulled:
    """The manifest of a dataset that was pushed last, or the one that a lock names. Raises InputError if none is there.

    A lock names the bytes of the object, so that what it does not name is never fetched or read.
    """
    stage = stage_of(dataset)
    for segment in reversed(remote.segments(stage)):
        for record in remote.readable_records(stage, segment):
            if not {"manifest", "weights"} <= record.about.keys():
                continue
            if lock is None or (lock.manifest, lock.manifest_object) == (record.about["manifest"], record.object):
                return Pulled(record)
    if remote.segments(keys.digest("manifest", dataset)):
        raise InputError(
            f"{remote.url} holds {dataset} of edition 1 of the keys, of which this version reads nothing: a team that "
            "has the corpus extracts and pushes it with this version"
        )
    which = "manifest" if lock is None else f"manifest {lock.manifest[:12]} in the object {lock.manifest_object[:12]}"
    raise InputError(f"{remote.url} has no {which} of {dataset}: a team that has the corpus pushes it with `make push`")


def note(home: Path, recipe: str, pulled: Pulled) -> None:
    """Notes which manifest was pulled for a recipe, named as its files at home are (`Recipe.home_name`)."""
    path = _note(home, recipe)
    with replacing(path) as beside:
        beside.write_bytes(encode(pulled.record))


def noted(home: Path, recipe: str) -> Pulled | None:
    """The manifest that `note` noted; None if none was pulled. Raises InputError if the note is damaged."""
    path = _note(home, recipe)
    try:
        return Pulled(decode(path.read_bytes()))
    except FileNotFoundError:
        return None
    except DamagedError as error:
        raise InputError(f"{path}: {error}; pull again") from error


def _note(home: Path, recipe: str) -> Path:
    return home / "pulled" / f"{recipe}.json"


def _table(path: Path) -> pa.Table:
    try:
        file = open_parquet(path, BOUNDS)
        if not _is_manifest(file.schema_arrow):
            raise InputError(f"{path} is not a manifest: {file.schema_arrow.names}")
        leaves = map(file.schema.column, range(len(file.schema)))
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        table = open_parquet(path, BOUNDS, read_dictionary=texts).read()
        table.validate(full=True)  # texts are UTF-8, and lists are where they say
        if sum(_text_bytes(column) for column in table.columns) > BOUNDS.allowed(path.stat().st_size):
            raise InputError(f"{path} is not a manifest: its texts are too long")
        return table
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: in the name of a column
        raise InputError(f"{path} is not a manifest: {error}") from error


def _text_bytes(column: pa.ChunkedArray) -> int:
    """The bytes of the texts in a column, each counted as often as it stands there."""
    if pa.types.is_list(column.type):
        return _text_bytes(pa.chunked_array(pc.list_flatten(column)))
    if pa.types.is_struct(column.type):
        return sum(_text_bytes(part) for part in column.flatten())
    if not pa.types.is_dictionary(column.type):
        return 0
    lengths = (pc.take(pc.binary_length(chunk.dictionary), chunk.indices) for chunk in column.chunks)
    return sum(pc.sum(length).as_py() or 0 for length in lengths)


def _check(rows: Sequence[Utterance]) -> None:
    """Raises InputError for a row that lacks what every scan gives, or whose digests are none."""
    for number, row in enumerate(rows):
        known = (stretch.digest for stretch in row.stretches if stretch.digest not in (MISSING, UNREADABLE))
        digests = [row.text_digest, *known]
        absent = [row.id, row.dialogue, row.turn, *(stretch.path for stretch in row.stretches)].count(None)
        if absent:
            raise InputError(f"row {number} of the pulled manifest lacks its id, dialogue, turn or path")
        if not all(digest is None or _DIGEST.fullmatch(digest) for digest in digests):
            raise InputError(f"row {number} of the pulled manifest names a digest that is none")
        for crop in (stretch.crop for stretch in row.video if stretch.crop is not None):
            if len(crop) != 4:
                raise InputError(f"row {number} of the pulled manifest has a crop of {len(crop)} numbers")


def _is_manifest(schema: Any) -> bool:
    if any(name not in schema.names or schema.field(name).type != SCHEMA.field(name).type for name in SCHEMA.names):
        return False
    labels = [field for field in schema if field.name not in SCHEMA.names]
    return all(field.name.startswith("label.") and field.type in LABELS for field in labels)
