"""The digested manifest as an object of the cache, so that it travels with the shards: a team without the raw media
plans, trains and explains by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cache import keys
from pipeline.cache.atomic import replacing
from pipeline.cache.record import DamagedError, Record, decode, encode
from pipeline.cache.store import Store
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Manifest
from pipeline.errors import InputError
from pipeline.utterance import SCHEMA, from_table, to_table

if TYPE_CHECKING:
    from pipeline.cache.remote import Remote

MOST_ROWS, LARGEST = 20_000_000, 1 << 34
"""What a manifest may hold, in rows and in bytes unpacked."""
LABELS = (pa.string(), pa.float64(), pa.int64())


@dataclass(frozen=True)
class Pulled:
    """A manifest that another machine pushed, noted at home by `pull`. The object's record says what it stands for."""

    record: Record

    @property
    def digest(self) -> str:
        """The manifest's own, see `Manifest.digest`."""
        return str(self.record.about["manifest"])

    @property
    def weights(self) -> Mapping[str, str]:
        """The digest of each local weights file or folder, by the name the recipe gives it."""
        return {str(name): str(digest) for name, digest in self.record.about["weights"].items()}

    def load(self, store: Store, root: Path) -> Manifest:
        """The manifest; `root` is where its media would lie. Raises InputError where it is none."""
        table = _table(store.bring(self.record))
        rows = from_table(table)
        manifest.check(rows, root)
        found = Manifest(root, tuple(rows), media=False)
        if found.digest != self.digest:
            raise InputError(f"the pulled manifest {self.record.object[:12]} is not what its record says")
        return found


def stage_of(dataset: str) -> str:
    """The folder of a dataset's manifests among the actions, named as a stage's is."""
    return keys.digest("manifest", dataset)


def save(store: Store, dataset: str, found: Manifest, weights: Mapping[str, str]) -> Record:
    """Puts a manifest into the cache; `weights` are the digests of local weights by the names in the recipe."""
    text = any(row.text is not None for row in found.rows)
    key = keys.digest("manifest", found.digest, text, dict(weights))
    about = {"dataset": dataset, "manifest": found.digest, "weights": dict(weights), "rows": len(found.rows)}
    write = partial(pq.write_table, to_table(found.rows), compression="zstd")
    return store.save(stage_of(dataset), key, write, suffix=".parquet", about=about)


def latest(remote: Remote, dataset: str, digest: str | None = None) -> Pulled:
    """The manifest of a dataset that was pushed last, or that of a digest. Raises InputError where there is none."""
    stage = stage_of(dataset)
    for segment in reversed(remote.segments(stage)):
        for record in remote.records(stage, segment.digest):
            if digest in (None, record.about.get("manifest")) and _is_told(record.about):
                return Pulled(record)
    which = "manifest" if digest is None else f"manifest {digest[:12]}"
    raise InputError(f"{remote.url} has no {which} of {dataset}: a team that has the corpus pushes it with `make push`")


def _is_told(about: Mapping[str, Any]) -> bool:
    weights = about.get("weights")
    return (
        isinstance(about.get("manifest"), str)
        and isinstance(weights, Mapping)
        and all(isinstance(digest, str) for digest in weights.values())
    )


def note(home: Path, recipe: str, pulled: Pulled) -> None:
    """Notes which manifest was pulled for a recipe, named as its files at home are (`Recipe.home_name`)."""
    path = _note(home, recipe)
    with replacing(path) as beside:
        beside.write_bytes(encode(pulled.record))


def noted(home: Path, recipe: str) -> Pulled | None:
    """What `note` remembered; None where nothing was pulled. Raises InputError for a damaged note."""
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
        file = pq.ParquetFile(path)
        groups = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
        if file.metadata.num_rows > MOST_ROWS or sum(groups) > LARGEST or not _is_manifest(file.schema_arrow):
            raise InputError(f"{path} is no manifest: {file.schema_arrow.names}")
        return file.read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is no manifest: {error}") from error


def _is_manifest(schema: Any) -> bool:
    if any(name not in schema.names or schema.field(name).type != SCHEMA.field(name).type for name in SCHEMA.names):
        return False
    labels = [field for field in schema if field.name not in SCHEMA.names]
    return all(field.name.startswith("label.") and field.type in LABELS for field in labels)
