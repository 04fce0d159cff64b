"""Records: which object answers a key and how it was made, with their form on disk (actions) and on remotes (indexes).

Records come from other machines, so each is checked before it is used: its digest, its types and its names.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from blake3 import blake3
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from pipeline.errors import AffectoryError, RemoteError

Suffix = Literal[".parquet", ".safetensors"]

FITS = ".fit"
"""Ends the name of the folder with the actions of a stage's fitted states, beside that of its shards."""
PROVISIONAL = "~"
"""Ends the name of an action whose shard holds a transient reason: it is used, and computed again by the next run."""

_NAME = re.compile(r"[0-9a-f]{64}")
_STAGE = re.compile(r"[0-9a-f]{64}(\.fit)?")
_HEAD, _DIGEST = b'{"digest": "', 64


class DamagedError(AffectoryError):
    """An action or an index holds no record, or one that was changed after it was written."""


class ForeignError(RemoteError):
    """An object or an index on a remote is gone or has other bytes than its name says; nothing of it was kept."""


@dataclass(frozen=True, kw_only=True)
class Ref:
    """The object that answers a key of a stage: all that is needed to find, fetch and check it.

    stage: the digest of the stage, which names the folder of its actions. object: the BLAKE3 of the object's bytes.
    size: their number.
    """

    stage: str
    key: str
    object: str
    suffix: Suffix
    size: int


@checked(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Record(Ref):
    """An object and how it was made.

    rows: the keys of the rows that other shards may copy, those with a transient reason left out. seconds: spent on it.
    reasons: by utterance, of rows without values. messages: by utterance, more about the reason, in one line. about:
    stage, host, backend, counts. signature: always empty; it stays because the digests of all actions and indexes
    written so far include it.
    """

    rows: tuple[str, ...] = ()
    seconds: float = 0.0
    reasons: Mapping[str, str] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    signature: str = ""

    @property
    def ref(self) -> Ref:
        """The part that finds the object, small enough to send with every job."""
        return Ref(**{f.name: getattr(self, f.name) for f in fields(Ref)})


_RECORD = TypeAdapter(Record)
_RECORDS = TypeAdapter(list[Record])


def read_action(path: Path) -> Record:
    """The record in `<stage>/<key>.json` or `<stage>/<key>~.json`; reading it here counts as no use.

    Raises DamagedError for anything but a record of that stage and key, FileNotFoundError if there is no such file, and
    other OSErrors if it cannot be read, which says nothing about its content.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise DamagedError("it is no regular file")
    record = decode(path.read_bytes())
    if (record.stage, record.key) != (path.parent.name, path.stem.removesuffix(PROVISIONAL)):
        raise DamagedError("it is the record of another key")
    return record


def encode(record: Record) -> bytes:
    """The record as JSON whose first entry is the digest of everything after it."""
    body = json.dumps(_entries(record), indent=1, sort_keys=True)[1:].encode()
    return _HEAD + blake3(body).hexdigest().encode() + b'",' + body


def decode(raw: bytes) -> Record:
    """The inverse of `encode`. Raises DamagedError for bytes that `encode` did not write."""
    start = len(_HEAD) + _DIGEST
    digest, body = raw[len(_HEAD) : start], raw[start + 2 :]
    if raw[: len(_HEAD)] != _HEAD or raw[start : start + 2] != b'",' or blake3(body).hexdigest().encode() != digest:
        raise DamagedError("its digest is not that of its content")
    return _checked(_parsed(_RECORD, b"{" + body))


def encode_index(records: Iterable[Record]) -> bytes:
    """Records of one stage as JSON, one a line, sorted by key: the same bytes for the same records."""
    lines = (json.dumps(_entries(record), sort_keys=True) for record in sorted(records, key=lambda r: r.key))
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


def decode_index(raw: bytes, stage: str) -> list[Record]:
    """The inverse of `encode_index`. Raises DamagedError for anything but sound records of `stage`."""
    records: list[Record] = [_checked(record) for record in _parsed(_RECORDS, raw)]
    if any(record.stage != stage for record in records):
        raise DamagedError(f"an index of {stage[:12]} holds records of other stages")
    return records


def _entries(record: Record) -> dict[str, Any]:
    """The record's JSON. Empty messages are left out: so records that were written before there were messages keep
    their bytes, and an index of them keeps the digest that a lock names."""
    entries = asdict(record)
    if not record.messages:
        del entries["messages"]
    return entries


def _parsed(adapter: TypeAdapter[Any], raw: bytes) -> Any:
    try:
        return adapter.validate_json(raw)
    except ValidationError as error:
        raise DamagedError(str(error.errors()[0]["msg"])) from error


def _checked(record: Record) -> Record:
    """The record, if its names are digests, so that no path made of them leads out of the cache."""
    names = (record.key, record.object, *record.rows)
    if not _STAGE.fullmatch(record.stage) or not all(map(_NAME.fullmatch, names)) or record.size < 0:
        raise DamagedError("it names something that is no digest")
    return record
