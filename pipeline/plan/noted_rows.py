"""The rows of a corpus as an extraction saw them, without transcripts and labels, in a file named by its digest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cache import atomic, keys
from pipeline.utterance import SCHEMA, Utterance, from_table, to_table

log = logging.getLogger(__name__)


def write_rows(home: Path, folder: Path, rows: Sequence[Utterance]) -> str:
    """Puts the rows into a file named by its digest, unless it is there; returns the digest."""
    table = to_table(rows, annotated=False)
    for column, cells in (("text", [None] * len(rows)), ("text_digest", list(map(keys.text_digest, rows)))):
        field = SCHEMA.field(column)
        table = table.set_column(SCHEMA.get_field_index(column), field, pa.array(cells, field.type))
    with atomic.beside(home) as temporary:
        pq.write_table(table, temporary, compression="zstd")
        name = keys.file_digest(temporary)
        atomic.link(temporary, folder / f"rows-{name}.parquet")
    return name


def read_rows(path: Path, name: str | None) -> list[Utterance]:
    """The rows of a file; none if it is gone or its bytes are not those that its name says."""
    try:
        if name is None or keys.file_digest(path) != name:
            raise OSError("its bytes are not those its name says")
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        log.warning("%s is not used: %s", path, error)
        return []
    return from_table(table) if table.schema.remove_metadata().equals(SCHEMA) else []
