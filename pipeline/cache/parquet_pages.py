"""What a Parquet file decodes to, counted from the headers of its pages before anything is decoded.

A footer may say anything. What a decoder allocates follows from the header of each page, which is read here as the
decoder reads it: the number of values, and the size of what the page is unpacked to. Where the pages are is read from
the footer here too, because pyarrow ends the whole process if asked about a column whose statistics are wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow.parquet as pq

from pipeline.errors import InputError

LARGEST_FOOTER = 1 << 20
"""In bytes; ours have some thousand."""
MOST_COLUMNS = 10_000
"""The most columns, and the most groups of rows, of a file."""
MOST_PAGES = 1 << 16
"""The most pages of a file. One page of ours holds about a megabyte."""
_HEADER = 1 << 14
"""The most bytes of the header of a page, with its statistics."""
_PLAIN, _RLE, _DICTIONARIES = 0, 3, (2, 8)
"""Encodings that we write. Each value of those in which one value is a part of another may be as large as the page."""
_FOREIGN = (5, 6, 9)
"""Encodings that others write too: differences of numbers and of lengths, and bytes by their places in a number."""
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_LEVELS = 4
"""Bytes for the levels of a value: how deep in lists it is."""


@dataclass(frozen=True)
class Bounds:
    """What a file may hold.

    rows: in all. bytes: decoded, whatever the size of the file. ratio: of decoded bytes to bytes of the file, above
    that. most: decoded bytes in any case. texts: bytes of the distinct texts in a column. value: the least bytes that a
    value counts for. shared: texts are read into dictionaries, so that a value is an index. foreign: another writer
    may have made it.
    """

    rows: int
    bytes: int
    ratio: int
    most: int
    texts: int
    value: int = 0
    shared: bool = False
    foreign: bool = False

    def allowed(self, size: int) -> int:
        """The most decoded bytes of a file of this size."""
        return min(self.most, max(self.bytes, self.ratio * size))


def open_parquet(path: Path, bounds: Bounds, **options: Any) -> pq.ParquetFile:
    """A Parquet file of at most so many rows and decoded bytes, opened by pyarrow with these options.

    Raises InputError for any other, ArrowException or OSError for a file that is no Parquet.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        footer = int.from_bytes(file.read(4), "little")
        if not footer <= min(size, LARGEST_FOOTER):
            raise InputError(f"{path} is no Parquet file that can be read: its footer would have {footer:,} bytes")
        opened = pq.ParquetFile(
            path, thrift_string_size_limit=LARGEST_FOOTER, thrift_container_size_limit=MOST_COLUMNS, **options
        )
        _check_rows(opened, bounds.rows, path)
        file.seek(size - 8 - footer)
        _check_pages(opened.schema, _chunks(file.read(footer), opened.metadata.num_columns), file, bounds)
    return opened


def _check_rows(file: pq.ParquetFile, most: int, path: Path) -> None:
    groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    if min(groups, default=0) < 0 or sum(groups) != file.metadata.num_rows or sum(groups) > most:
        raise InputError(f"{path} says it has {file.metadata.num_rows:,} rows: more than {most:,} or other than it has")


@dataclass(frozen=True)
class _Chunk:
    """A column of one group of rows. index: of the column. start: where a decoder begins to read it."""

    index: int
    values: int
    start: int


def _chunks(footer: bytes, columns: int) -> list[_Chunk]:
    """The chunks of all groups of rows, by a footer. Raises InputError if a group has another number of columns."""
    fields, _ = _Thrift(footer).read()
    chunks = []
    for group in _field(fields, 4, Structs()):
        found = [_field(chunk, 3, Struct()) for chunk in _field(group, 1, Structs())]
        if len(found) != columns:
            raise InputError("it is no Parquet file that can be read: a group of rows lacks a column")
        chunks += [_Chunk(i, _field(each, 5, -1), _start(each)) for i, each in enumerate(found)]
    return chunks


def _start(chunk: Struct) -> int:
    first, dictionary = _field(chunk, 9, -1), _field(chunk, 11, 0)
    return min(first, dictionary) if dictionary > 0 else first


def _check_pages(schema: pq.ParquetSchema, chunks: Iterable[_Chunk], source: BinaryIO, bounds: Bounds) -> None:
    allowed, size, pages = bounds.allowed(os.fstat(source.fileno()).st_size), 0, 0
    for chunk in chunks:
        texts, column = 0, schema.column(chunk.index)
        for page in _pages(chunk, source, bounds.foreign):
            size, pages = size + page.decoded(column, bounds), pages + 1
            texts += page.unpacked if column.physical_type == "BYTE_ARRAY" else 0
            if size > allowed or texts > bounds.texts or pages > MOST_PAGES:
                raise InputError(f"{source.name} unpacks to more than the {allowed:,} bytes that it may hold")


@dataclass(frozen=True)
class _Page:
    """A page. unpacked: its bytes before values are decoded. count: of its values, 0 for a dictionary. longest: the
    bytes of the dictionary that its values are from, 0 if it holds them itself."""

    unpacked: int
    count: int = 0
    longest: int = 0

    def decoded(self, column: Any, bounds: Bounds) -> int:
        """The most bytes that its values and their levels take."""
        if column.physical_type == "BYTE_ARRAY":
            width = 4 if bounds.shared else 4 + self.longest
        else:
            width = _WIDTHS.get(column.physical_type, column.length)
        return self.unpacked + self.count * max(bounds.value, _LEVELS + width)


def _pages(chunk: _Chunk, source: BinaryIO, foreign: bool) -> Iterator[_Page]:
    """The pages of a column, as far as a decoder reads them."""
    place, seen, dictionary = chunk.start, 0, 0
    known = (_PLAIN, _RLE, *_DICTIONARIES, *(_FOREIGN if foreign else ()))
    if min(place, chunk.values) < 0:
        raise InputError(f"{source.name} has a column without pages")
    while seen < chunk.values:
        source.seek(place)
        header, used = _Thrift(source.read(_HEADER)).read()
        unpacked, packed = _field(header, 2, -1), _field(header, 3, -1)
        count, encoding = _values(header)
        if min(unpacked, packed, count) < 0 or encoding not in known:
            raise InputError(f"{source.name} has a page that none of ours is like, of encoding {encoding}")
        place, seen = place + used + packed, seen + count
        dictionary = dictionary if count else unpacked
        yield _Page(unpacked, count, dictionary if encoding in _DICTIONARIES else 0)


def _values(header: Struct) -> tuple[int, int]:
    """The number of values of a page, 0 for a dictionary and -1 for a page of neither kind, and their encoding."""
    if 7 in header:
        return 0, _field(_field(header, 7, Struct()), 2, -1)
    data = _field(header, 5, Struct()) or _field(header, 8, Struct())
    return _field(data, 1, 0) or -1, _field(data, 2 if 5 in header else 4, -1)


class Struct(dict[int, Any]):
    """The fields of a struct of Thrift, by number."""


class Structs(list[Struct]):
    """A list of structs of Thrift; that of a list of anything else is empty."""


F = TypeVar("F", int, Struct, Structs)


def _field(fields: Struct, number: int, absent: F) -> F:
    """A field, or `absent` if there is none. Raises InputError if it is of another type than `absent`."""
    value = fields.get(number, absent)
    if type(value) is not type(absent):
        raise InputError("it is no Parquet file that can be read: a field has another type")
    return value


class _Thrift:
    """Reads the header of a page or a footer, in Thrift's compact protocol. Texts are skipped."""

    DEEPEST = 8

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def read(self) -> tuple[Struct, int]:
        """The fields by number, and the number of bytes that they take. Raises InputError for any other bytes."""
        try:
            return self._struct(0), self.at
        except (IndexError, KeyError) as error:
            raise InputError(
                "it is no Parquet file that can be read: a page has no header, or the footer is damaged"
            ) from error

    def _struct(self, depth: int) -> Struct:
        fields, number = Struct(), 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            if number in fields or depth > self.DEEPEST:
                raise KeyError(number)
            fields[number] = self._value(head & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 9:
            return self._list(depth)
        if kind == 8:
            size = self._varint()
            self.at += size
            return b""
        if kind == 12:
            return self._struct(depth + 1)
        raise KeyError(kind)

    def _list(self, depth: int) -> Structs:
        head = self._byte()
        size, kind = head >> 4, head & 15
        if kind not in (5, 6, 8, 12):
            raise KeyError(kind)
        values = [self._value(kind, depth) for _ in range(self._varint() if size == 15 else size)]
        return Structs(values if kind == 12 else ())

    def _byte(self) -> int:
        self.at += 1
        return self.raw[self.at - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise KeyError(value)

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
