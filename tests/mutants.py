"""Changes good files into bad ones: bytes, JSON, Parquet and safetensors, as a generator of random numbers says."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Random = np.random.Generator

DEEP = json.loads("[" * 400 + "]" * 400)
NASTY = [None, True, -1, 0, 2**31, 2**53, 2**64, -(2**70), 10**400, 0.5, 1e308, float("nan"), float("inf"), "", "x"]
NASTY += ["\x1b[2J\x00", "../../etc", "\ud800", "é" * 3000, "9" * 5000, "0" * 64, [], {}, [[]], {"a": 1}, DEEP]
NUMBERS = [b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00", b"\xfe\xff\xff\xff\x0f"]


def flip(raw: bytes, random: Random) -> bytes:
    """Some bits are another."""
    data = bytearray(raw)
    for place in random.integers(len(data), size=random.integers(1, 9)):
        data[place] ^= 1 << int(random.integers(8))
    return bytes(data)


def cut(raw: bytes, random: Random) -> bytes:
    """The end, the beginning or a part within is gone."""
    start, end = sorted(int(place) for place in random.integers(len(raw) + 1, size=2))
    return [raw[:start], raw[start:], raw[:start] + raw[end:]][random.integers(3)]


def splice(raw: bytes, random: Random) -> bytes:
    """One part stands in the place of another, once or many times."""
    start, end, place = (int(number) for number in random.integers(len(raw), size=3))
    part = raw[min(start, end) : max(start, end)] * int(random.choice([1, 1, 2, 20]))
    return raw[:place] + part + raw[place + int(random.integers(2)) * len(part) :]


def number(raw: bytes, random: Random) -> bytes:
    """Four bytes are a number at the end of its range."""
    place, data = int(random.integers(len(raw))), NUMBERS[random.integers(len(NUMBERS))]
    return raw[:place] + data + raw[place + len(data) :]


def end(raw: bytes, random: Random) -> bytes:
    """As `flip`, among the last bytes: there is a footer."""
    start = max(0, len(raw) - 1500)
    return raw[:start] + flip(raw[start:], random)


BYTES = [flip, cut, splice, number, end]


def json_text(raw: bytes, random: Random) -> bytes:
    """One entry of a JSON text is nasty, doubled, gone or under another name."""
    data = json.loads(raw)
    for _ in range(random.integers(1, 3)):
        _change(data, random)
    text = json.dumps(data)
    if random.random() < 0.1:
        text = text.replace(",", ', "key": 1,', 1)  # a name that stands twice
    return text.encode()


def _change(data: Any, random: Random) -> None:
    place, name = _place(data, random)
    if place is None:
        return
    what = int(random.integers(6))
    if what == 0:
        del place[name]
    elif what == 1 and isinstance(place, dict):
        place[str(NASTY[random.integers(len(NASTY))])] = place.pop(name)
    elif what == 2 and isinstance(place, list):
        place += [place[name]] * int(random.choice([1, 3000]))
    else:
        place[name] = NASTY[random.integers(len(NASTY))]


def _place(data: Any, random: Random) -> tuple[Any, Any]:
    """A random container in the data, and one of its entries."""
    place, name = None, None
    while isinstance(data, list | dict) and data and (place is None or random.random() < 0.8):
        place = data
        name = list(place)[random.integers(len(place))] if isinstance(place, dict) else int(random.integers(len(place)))
        data = place[name]
    return place, name


def safetensors(raw: bytes, random: Random) -> bytes:
    """The header tells of other tensors than there are."""
    size = int.from_bytes(raw[:8], "little")
    header = json_text(raw[8 : 8 + size], random)
    length = len(header) if random.random() < 0.8 else int(random.choice([0, 2**20, 2**26, 2**40, 2**63 - 1]))
    return length.to_bytes(8, "little") + header + raw[8 + size :]


def parquet(raw: bytes, random: Random) -> bytes:
    """Well-formed Parquet of something else: other columns, rows, values, metadata, encodings, or far too many."""
    sink = BytesIO()
    try:
        table = pq.read_table(BytesIO(raw))
        for _ in range(random.integers(1, 3)):
            table = TABLES[random.integers(len(TABLES))](table, random)
        pq.write_table(table, sink, **WRITERS[random.integers(len(WRITERS))])
    except (pa.ArrowException, OSError, ValueError, TypeError, IndexError):  # not all changes go together
        return flip(raw, random)
    return sink.getvalue()


def _column(table: pa.Table, random: Random) -> int:
    return int(random.integers(table.num_columns))


def _gone(table: pa.Table, random: Random) -> pa.Table:
    return table.remove_column(_column(table, random)) if table.num_columns > 1 else table


def _null(table: pa.Table, random: Random) -> pa.Table:
    i = _column(table, random)
    return table.set_column(i, table.schema.field(i), pa.nulls(len(table), table.schema.field(i).type))


def _rows(table: pa.Table, random: Random) -> pa.Table:
    return table.take(pa.array(random.integers(max(1, len(table)), size=random.choice([0, 1, 9, 2000]))))


def _filled(table: pa.Table, random: Random) -> pa.Table:
    """One value in all rows of a column; in lists, very often."""
    i = _column(table, random)
    kind = table.schema.field(i).type
    one = _one(kind, random)
    cells = [one] * len(table) if not pa.types.is_list(kind) else [[one[0]] * 20_000] + [one] * (len(table) - 1)
    return table.set_column(i, table.schema.field(i), pa.array(cells[: len(table)], kind))


def _one(kind: pa.DataType, random: Random) -> Any:
    if pa.types.is_list(kind):
        return [_one(kind.value_type, random)]
    if pa.types.is_struct(kind):
        return {field.name: _one(field.type, random) for field in kind}
    if pa.types.is_string(kind):
        return ["", "../x", "\x1b[2J", "long" * 1000][random.integers(4)]
    if pa.types.is_fixed_size_binary(kind):
        return bytes(kind.byte_width)
    if pa.types.is_boolean(kind):
        return bool(random.integers(2))
    if pa.types.is_integer(kind):
        return int(random.choice([-1, 0, 2**31 - 1]))
    return [np.float16(np.nan), np.float16(np.inf), np.float16(-1)][random.integers(3)]


def _told(table: pa.Table, random: Random) -> pa.Table:
    """Other metadata of the schema."""
    about = dict(table.schema.metadata or {b"affectory": b"{}"})
    name = sorted(about)[random.integers(len(about))]
    about[name] = json_text(about[name], random) if about[name][:1] == b"{" else flip(about[name] or b"x", random)
    return table.replace_schema_metadata(about)


def _cast(table: pa.Table, random: Random) -> pa.Table:
    i = _column(table, random)
    field = table.schema.field(i)
    other = [pa.null(), pa.large_string(), pa.binary(), pa.list_(pa.list_(pa.float64()))][random.integers(4)]
    return table.set_column(i, field.name, pa.nulls(len(table), other))


def _invalid(table: pa.Table, random: Random) -> pa.Table:
    """Texts that are no UTF-8."""
    names = [field.name for field in table.schema if pa.types.is_string(field.type)]
    if not names:
        return table
    i = table.column_names.index(names[random.integers(len(names))])
    cells = pa.array([b"\xff\xfe"] * len(table), pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(table), cells.buffers())
    return table.set_column(i, table.schema.field(i), text)


TABLES = [_gone, _null, _rows, _filled, _filled, _told, _told, _cast, _invalid]
WRITERS: list[dict[str, Any]] = [
    {"compression": "zstd"},
    {"compression": "brotli", "use_dictionary": True, "data_page_size": 1 << 30},
    {"compression": "gzip", "row_group_size": 1},
    {"compression": "snappy", "data_page_version": "2.0"},
    {"compression": "lz4", "use_dictionary": False, "data_page_size": 1},
    {"use_dictionary": False, "use_byte_stream_split": True},
    {"use_dictionary": False, "column_encoding": "PLAIN", "store_schema": False},
    {"use_dictionary": True, "write_page_index": True, "write_page_checksum": True},
]
