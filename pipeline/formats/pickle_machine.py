"""The machine that a pickle is a program for: its bytes, its stack, its memo, and what it may copy.

It can hold numbers, strings and containers. Which opcodes there are is said in `safe_pickle`, which names a pickle may
ask for in `pickle_names`.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

COPIES = 8
"""How many times the size of its file a pickle may copy, one mebibyte more; a hostile one copies without end."""
_KEYS = (str, bytes, int, float, bool, type(None))
"""Keys of dicts and members of sets. A tuple is none: Python hashes a deep one until its stack overflows."""


class Refused(Exception):  # noqa: N818 - it becomes a PickleError
    """What is wrong with a pickle, or what it asks for that is not read."""


class Mark(Enum):
    """The one value that marks where the items of a container begin, on the stack."""

    MARK = "mark"


@dataclass
class Blank:
    """An array or a dtype between the opcode that makes it and the one that fills it.

    dtype: None for an array. places: those in the memo that are to hold it then.
    """

    dtype: np.dtype[Any] | None = None
    places: list[int] = field(default_factory=list)


class Source:
    """The bytes of a mapped file, of which none beyond its end is ever asked for."""

    def __init__(self, file: mmap.mmap) -> None:
        self._file, self._view, self.at = file, memoryview(file), 0

    @property
    def size(self) -> int:
        """The number of bytes of the file."""
        return len(self._view)

    def take(self, count: int) -> memoryview:
        """The next bytes, not copied."""
        if not 0 <= count <= self.size - self.at:
            raise Refused(f"it says that {count:,} bytes follow, and {self.size - self.at:,} do")
        self.at += count
        return self._view[self.at - count : self.at]

    def number(self, form: str) -> Any:
        """The next number, in a form of `struct`."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        """The bytes up to the next line feed, which is taken too."""
        end = self._file.find(b"\n", self.at)
        if end < 0:
            raise Refused("a line does not end")
        return bytes(self.take(end + 1 - self.at))[:-1]


class Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._left = COPIES * source.size + 2**20

    def push(self, value: Any) -> None:
        """Puts a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Takes a value, which is no mark, from the stack."""
        if not self.stack or self.stack[-1] is Mark.MARK:
            raise Refused("it takes a value where there is none")
        return self.stack.pop()

    def drop(self) -> None:
        """Takes a value or a mark from the stack."""
        if not self.stack:
            raise Refused("it takes a value where there is none")
        self.stack.pop()

    def popped(self) -> list[Any]:
        """Takes everything above the last mark, and the mark."""
        start = len(self.stack) - 1
        while start >= 0 and self.stack[start] is not Mark.MARK:
            start -= 1
        if start < 0:
            raise Refused("a mark is missing")
        items = self.stack[start + 1 :]
        del self.stack[start:]
        return items

    def put(self, place: int) -> None:
        """Keeps the value on top of the stack in the memo."""
        value = self.pop()
        if isinstance(value, Blank):
            value.places.append(place)
        self.memo[place] = value
        self.push(value)

    def get(self, place: int) -> None:
        """Puts a value of the memo on the stack."""
        if place not in self.memo:
            raise Refused("it recalls a value that it has not kept")
        self.push(self.memo[place])

    def spend(self, count: int) -> None:
        """Notes that so many bytes are about to be copied. Reading them from the file needs no note."""
        self._left -= count
        if self._left < 0:
            raise Refused(f"it unpacks to more than {COPIES} times its size")

    def extend(self, items: list[Any]) -> None:
        """Adds items to the list on top of the stack."""
        self._top(list).extend(items)

    def set_items(self, pairs: list[Any]) -> None:
        """Sets keys and values, in turn, of the dict on top of the stack."""
        target = self._top(dict)
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            target[key(name)] = value

    def add_items(self, items: list[Any]) -> None:
        """Adds items to the set on top of the stack."""
        self._top(set).update(map(key, items))

    def _top(self, kind: type[Any]) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise Refused(f"it fills a {kind.__name__} where there is none")
        return self.stack[-1]


def key(value: Any) -> Any:
    """The value, if it may be the key of a dict or the member of a set."""
    if not isinstance(value, _KEYS):
        raise Refused(f"a {type(value).__name__} is the key of a dict or the member of a set")
    return value
