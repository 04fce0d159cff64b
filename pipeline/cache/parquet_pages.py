"""What a Parquet file decodes to, counted from the headers of its pages before anything is decoded.

A footer may say anything. What a decoder allocates follows from the header of each page, which is read here as the
decoder reads it: the number of values, and the size of what the page is unpacked to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

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
"""Encodings. Each value of those in which one value is a part of another may be as large as the page."""
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_LEVELS = 4
"""Bytes for the levels of a value: how deep in lists it is."""


@dataclass(frozen=True)
class Bounds:
    """What a file may hold.

    rows: in all. bytes: decoded, whatever the size of the file. ratio: of decoded bytes to bytes of the file, above
    that. most: decoded bytes in any case. texts: bytes of the distinct texts in a column. value: the least bytes that a
    value counts for. shared: texts are read into dictionaries, so that a value is an index.
    """

    rows: int
    bytes: int
    ratio: int
    most: int
    texts: int
    value: int = 0
    shared: bool = False

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
            raise InputError(f"{path} is no Parquet file of ours: its footer would have {footer:,} bytes")
        opened = pq.ParquetFile(
            path, thrift_string_size_limit=LARGEST_FOOTER, thrift_container_size_limit=MOST_COLUMNS, **options
        )
        _check_rows(opened, bounds.rows, path)
        _check_pages(opened, file, bounds, path)
    return opened


def _check_rows(file: pq.ParquetFile, most: int, path: Path) -> None:
    groups = [group.num_rows for group in _groups(file)]
    if min(groups, default=0) < 0 or sum(groups) != file.metadata.num_rows or sum(groups) > most:
        raise InputError(f"{path} says it has {file.metadata.num_rows:,} rows: more than {most:,} or other than it has")


def _groups(file: pq.ParquetFile) -> Iterator[Any]:
    return map(file.metadata.row_group, range(file.metadata.num_row_groups))


def _check_pages(file: pq.ParquetFile, source: BinaryIO, bounds: Bounds, path: Path) -> None:
    allowed, size, pages = bounds.allowed(os.fstat(source.fileno()).st_size), 0, 0
    for group in _groups(file):
        for i in range(group.num_columns):
            texts = 0
            for page in _pages(group.column(i), source):
                size, pages = size + page.decoded(file.schema.column(i), bounds), pages + 1
                texts += page.unpacked if group.column(i).physical_type == "BYTE_ARRAY" else 0
                if size > allowed or texts > bounds.texts or pages > MOST_PAGES:
                    raise InputError(f"{path} unpacks to more than the {allowed:,} bytes that it may hold")


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


def _pages(column: Any, source: BinaryIO) -> Iterator[_Page]:
    """The pages of a column, as far as a decoder reads them."""
    place, seen, dictionary = _start(column), 0, 0
    while seen < column.num_values:
        source.seek(place)
        header, used = _Header(source.read(_HEADER)).read()
        unpacked, packed = header.get(2, -1), header.get(3, -1)
        count, encoding = _values(header)
        if min(unpacked, packed, count) < 0 or encoding not in (_PLAIN, _RLE, *_DICTIONARIES):
            raise InputError(f"{source.name} has a page that none of ours is like")
        place, seen = place + used + packed, seen + count
        dictionary = dictionary if count else unpacked
        yield _Page(unpacked, count, dictionary if encoding in _DICTIONARIES else 0)


def _values(header: Mapping[int, Any]) -> tuple[int, int]:
    """The number of values of a page, 0 for a dictionary and -1 for a page of neither kind, and their encoding."""
    if 7 in header:
        return 0, header[7].get(2, -1)
    data = header.get(5) or header.get(8) or {}
    return data.get(1, 0) or -1, data.get(2 if 5 in header else 4, -1)


def _start(column: Any) -> int:
    """Where a decoder begins to read a column."""
    first, dictionary = column.data_page_offset, column.dictionary_page_offset
    return min(first, dictionary) if column.has_dictionary_page and dictionary and dictionary > 0 else int(first)


class _Header:
    """Reads the header of a page: numbers, flags, bytes and structs in Thrift's compact protocol, and nothing else."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def read(self) -> tuple[dict[int, Any], int]:
        """The fields by number, and the number of bytes that they take. Raises InputError if it is no header."""
        try:
            return self._struct(0), self.at
        except (IndexError, KeyError) as error:
            raise InputError("it has a page without a header") from error

    def _struct(self, depth: int) -> dict[int, Any]:
        fields, number = dict[int, Any](), 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            if number in fields or depth > 2:
                raise KeyError(number)
            fields[number] = self._value(head & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 8:
            size = self._varint()
            self.at += size
            return b""
        if kind == 12:
            return self._struct(depth + 1)
        raise KeyError(kind)

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
