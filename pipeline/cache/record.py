"""Actions: which object answers a key, under which circumstances it was made, and their form on disk and on remotes.

Records come from other machines, so every one is checked before it is used: its digest, its types, its names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from blake3 import blake3
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from pipeline.errors import AffectoryError

Suffix = Literal[".parquet", ".safetensors"]

FITS = ".fit"
"""Ends the folder of actions in which a stage's states stand, beside that of its shards."""

_NAME = re.compile(r"[0-9a-f]{64}")
_STAGE = re.compile(r"[0-9a-f]{64}(\.fit)?")
_HEAD, _DIGEST = b'{"digest": "', 64


class DamagedError(AffectoryError):
    """What should be a record or an index is none, or was changed after it was written."""


@dataclass(frozen=True, kw_only=True)
class Ref:
    """Which object answers a key of a stage: all that is needed to find, fetch and check it.

    stage: the digest of the stage, which names the folder of its actions. object: the BLAKE3 of the object's bytes,
    `size` of them.
    """

    stage: str
    key: str
    object: str
    suffix: Suffix
    size: int


@checked(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Record(Ref):
    """An action: an object and how it came about.

    rows: the keys of the rows that others may copy from it, which leaves out rows with a transient reason. reasons: by
    utterance, of rows without values. messages: by utterance, more about the reason, in one line. about: stage, host,
    backend, counts. signature: room for one; nothing reads it yet.
    """

    rows: tuple[str, ...] = ()
    seconds: float = 0.0
    reasons: Mapping[str, str] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    signature: str = ""

    @property
    def ref(self) -> Ref:
        """Without the circumstances, small enough to send with every job."""
        return Ref(**{f.name: getattr(self, f.name) for f in fields(Ref)})


_RECORD = TypeAdapter(Record)
_RECORDS = TypeAdapter(list[Record])


def encode(record: Record) -> bytes:
    """The record as JSON whose first entry is the digest of all that follows it."""
    body = json.dumps(asdict(record), indent=1, sort_keys=True)[1:].encode()
    return _HEAD + blake3(body).hexdigest().encode() + b'",' + body


def decode(raw: bytes) -> Record:
    """The inverse of `encode`; raises DamagedError for anything that `encode` did not write."""
    start = len(_HEAD) + _DIGEST
    digest, body = raw[len(_HEAD) : start], raw[start + 2 :]
    if raw[: len(_HEAD)] != _HEAD or raw[start : start + 2] != b'",' or blake3(body).hexdigest().encode() != digest:
        raise DamagedError("its digest is not that of its content")
    return _sound(_parsed(_RECORD, b"{" + body))


def encode_index(records: Iterable[Record]) -> bytes:
    """Records of one stage as JSON, a line each, in the order of their keys: the same bytes for the same records."""
    lines = (json.dumps(asdict(record), sort_keys=True) for record in sorted(records, key=lambda r: r.key))
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


def decode_index(raw: bytes, stage: str) -> list[Record]:
    """The inverse of `encode_index`; raises DamagedError for anything but sound records of `stage`."""
    found: list[Record] = [_sound(record) for record in _parsed(_RECORDS, raw)]
    if any(record.stage != stage for record in found):
        raise DamagedError(f"an index of {stage[:12]} holds records of other stages")
    return found


def _parsed(adapter: TypeAdapter[Any], raw: bytes) -> Any:
    try:
        return adapter.validate_json(raw)
    except ValidationError as error:
        raise DamagedError(str(error.errors()[0]["msg"])) from error


def _sound(record: Record) -> Record:
    """The record if its names are digests, so that none leads out of the cache."""
    names = (record.key, record.object, *record.rows)
    if not _STAGE.fullmatch(record.stage) or not all(map(_NAME.fullmatch, names)) or record.size < 0:
        raise DamagedError("it names something that is no digest")
    return record
