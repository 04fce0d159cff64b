"""Records: which object answers a key and how it was made, with their form on disk (actions) and on remotes (indexes).

Records come from other machines, so each is checked before it is used: its digest, its types and its names.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from pipeline.errors import AffectoryError, RemoteError
from pipeline.remark import WRITTEN, Remark

Suffix = Literal[".parquet", ".safetensors"]

FITS = ".fit"
"""Ends the name of the folder with the actions of a stage's fitted states, beside that of its shards."""
REFERENCES = ".reference"
"""Ends the name of the folder with the references of a stage's family, see `pipeline.plan.references`."""
PROVISIONAL = "~"
"""Ends the name of an action whose shard holds a transient reason: it is used, and computed again by the next run."""

LARGEST_OBJECT = 1 << 36
"""In bytes; no record of ours names a larger object."""
MOST_VALUES, MOST_CONTAINERS = 1 << 24, 1 << 20
"""What an index may hold in all, which bounds its memory. One of five million rows with remarks holds less."""

MOST_NUMBER = 99_999_999
"""The highest number of an index. An index that comes after it gets the same number, so that it is seen too."""

_NAME = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{8}")
_STAGE = re.compile(r"[0-9a-f]{64}(\.fit|\.reference)?")
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


_Written = Annotated[str, Field(pattern=WRITTEN)]


@checked(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Record(Ref):
    """An object and how it was made.

    rows: the keys of the rows that other shards may copy, those with a transient reason left out. seconds: spent on it.
    reasons: by utterance, of rows without values. messages: by utterance, more about the reason, in one line. remarks:
    by kind and utterance, in their written form. about: stage, host, backend, counts. signature: always empty; it stays
    because the digests of all actions and indexes written so far include it.
    """

    rows: tuple[str, ...] = ()
    seconds: float = 0.0
    reasons: Mapping[str, str] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)
    remarks: Mapping[str, Mapping[str, _Written]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    signature: str = ""

    @property
    def ref(self) -> Ref:
        """The part that finds the object, small enough to send with every job."""
        return Ref(**{f.name: getattr(self, f.name) for f in fields(Ref)})

    def remarks_on(self, utterance: str) -> tuple[Remark, ...]:
        """The remarks on the row of an utterance."""
        of_row = ((kind, written.get(utterance)) for kind, written in self.remarks.items())
        return tuple(Remark.parse(kind, text) for kind, text in of_row if text is not None)


@dataclass(frozen=True, order=True)
class Segment:
    """An index file. number: ranks its records among others of the same key. digest: of the file's bytes."""

    number: int
    digest: str

    @property
    def name(self) -> str:
        """The name of the file."""
        return f"{self.number:08d}-{self.digest}.json"

    @classmethod
    def parse(cls, name: str) -> Segment | None:
        """The inverse of `name`; None for a file that is no index."""
        number, _, digest = name.removesuffix(".json").partition("-")
        return cls(int(number), digest) if _NUMBER.fullmatch(number) and _NAME.fullmatch(digest) else None

    @classmethod
    def after(cls, segments: Iterable[Segment], digest: str) -> Segment:
        """The index that comes after these, with the digest of its bytes."""
        highest = max((segment.number for segment in segments), default=0)
        return cls(min(highest + 1, MOST_NUMBER), digest)


_Count = Annotated[int, Field(ge=0, lt=1 << 53)]


class _About(BaseModel):
    """The types of the entries of `Record.about` that this version reads."""

    model_config = ConfigDict(strict=True, extra="ignore")
    stage: str = ""
    backend: str = ""
    host: str = ""
    process: int = 0
    networks: dict[str, dict[str, float]] = {}
    at: str = ""
    rows: _Count = 0
    computed: _Count = 0
    tries: dict[str, _Count] = {}
    scope: str = ""
    recipe: dict[str, Any] = {}
    train: list[str] = []
    valid: list[str] = []
    log: dict[str, Any] = {}
    dataset: str = ""
    manifest: str = Field("", pattern=f"^{_NAME.pattern}$")
    weights: dict[str, str] = {}
    libraries: dict[str, str] = {}
    otherwise: dict[str, dict[str, str]] = {}
    states: dict[str, str] = {}


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
    if raw.count(b",") > MOST_VALUES or raw.count(b"{") + raw.count(b"[") > MOST_CONTAINERS:
        raise DamagedError("it holds more values than any index of ours")
    records: list[Record] = [_checked(record) for record in _parsed(_RECORDS, raw)]
    if any(record.stage != stage for record in records):
        raise DamagedError(f"an index of {stage[:12]} holds records of other stages")
    for record in records:
        _check_about(record)
    return records


def answering(records: Iterable[Record]) -> dict[str, Record]:
    """The record that answers each key: of several the one with the fewest reasons, then the first."""
    winners: dict[str, Record] = {}
    for record in records:
        first = winners.get(record.key)
        if first is None or len(record.reasons) < len(first.reasons):
            winners[record.key] = record
    return winners


def _check_about(record: Record) -> None:
    """Raises DamagedError if an entry of `about` has another type than this version reads."""
    try:
        _About.model_validate(dict(record.about))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DamagedError(f"its about.{place} is wrong: {first['msg']}") from error


def _entries(record: Record) -> dict[str, Any]:
    """The record's JSON. Empty messages and remarks are left out: so records that were written before there were any
    keep their bytes, and an index of them keeps the digest that a lock names."""
    entries = asdict(record)
    return {name: value for name, value in entries.items() if value or name not in ("messages", "remarks")}


def _parsed(adapter: TypeAdapter[Any], raw: bytes) -> Any:
    try:
        if b"NaN" in raw or b"Infinity" in raw:  # pydantic takes them for numbers, and JSON has none of them
            json.loads(raw, parse_constant=_refused)
        return adapter.validate_json(raw)
    except ValidationError as error:
        raise DamagedError(str(error.errors()[0]["msg"])) from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"it is no JSON: {error}") from error


def _refused(constant: str) -> None:
    raise DamagedError(f"{constant} is no number of JSON")


def _checked(record: Record) -> Record:
    """The record, if its names are digests, so that no path made of them leads out of the cache."""
    names = (record.key, record.object, *record.rows)
    if not _STAGE.fullmatch(record.stage) or not all(map(_NAME.fullmatch, names)):
        raise DamagedError("it names something that is no digest")
    if not 0 <= record.size <= LARGEST_OBJECT or not math.isfinite(record.seconds):
        raise DamagedError("it gives a size or a time that no object has")
    return record
