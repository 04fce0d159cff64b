"""Reads a pickle of arrays and plain values without Python's unpickler, and runs nothing that the file names.

A pickle is a program, and Python's unpickler calls whatever function the program asks for. This one knows the opcodes
that build numbers, strings, containers and numpy arrays, and a closed list of names (`pickle_names`), each of which it
carries out by itself. Anything else is refused, with the name that was asked for, before anything is built with it.

Arrays are views of the file, which is mapped, so that a file of 10 GB takes no memory until a row of it is read. So the
file must not be cut short while it is in use. What has to be copied is bounded by the size of the file.
"""

from __future__ import annotations

import codecs
import mmap
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.formats.pickle_machine import Machine, Mark, Refused, Source, key
from pipeline.formats.pickle_names import ask, build, reduce

_VIEWED_BYTES = 4096
"""Bytes of at least this number are not copied."""


class PickleError(InputError):
    """The file is no pickle, is damaged, or asks for something other than arrays and plain values."""


def read(path: Path) -> Any:
    """The value of a pickle: None, numbers, strings, bytes, lists, tuples, dicts, sets and arrays of these.

    Arrays are read-only where they are views of the file. Strings that Python 2 wrote are read as Latin-1, as the
    field's loaders read them. Raises PickleError, which names what was refused and where in the file it is.
    """
    with path.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # no map has a length of 0
            raise PickleError(f"{path} is empty") from error
    machine = Machine(Source(mapped))
    try:
        return _run(machine)
    except Refused as error:
        why = str(error)
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        why = f"it is damaged ({type(error).__name__})"
    raise PickleError(f"{path}, byte {machine.source.at}: {why}. Nothing of it was run.")


def _run(machine: Machine) -> Any:
    while (code := bytes(machine.source.take(1))) != pickle.STOP:
        if code not in _OPCODES:
            raise Refused(_unknown(code, machine.source))
        _OPCODES[code](machine)
    return machine.pop()


def _unknown(code: bytes, source: Source) -> str:
    """What an opcode asks for that is not carried out, by name if it has one."""
    if code == pickle.INST:
        asked = ".".join(source.line().decode("ascii", "replace")[:100] for _ in range(2))
        return f"it asks for {asked!r}, and only arrays and plain values are read"
    if code in _REFUSED:
        return f"it {_REFUSED[code]}, and only arrays and plain values are read"
    return f"there is no opcode {code!r}: this is no pickle, or a damaged one"


_REFUSED: Mapping[bytes, str] = {
    pickle.OBJ: "makes an object of a class",
    pickle.NEWOBJ: "makes an object of a class",
    pickle.NEWOBJ_EX: "makes an object of a class",
    pickle.PERSID: "asks for an object kept elsewhere",
    pickle.BINPERSID: "asks for an object kept elsewhere",
    pickle.EXT1: "asks for a registered extension",
    pickle.EXT2: "asks for a registered extension",
    pickle.EXT4: "asks for a registered extension",
    pickle.NEXT_BUFFER: "asks for a buffer outside the file",
    pickle.READONLY_BUFFER: "asks for a buffer outside the file",
}

# --- opcodes ---------------------------------------------------------------------------------------------------

_Opcode = Callable[[Machine], object]


def _value(value: object) -> _Opcode:
    return lambda m: m.push(value)


def _made(kind: type[Any]) -> _Opcode:
    return lambda m: m.push(kind())


def _number(form: str) -> _Opcode:
    return lambda m: m.push(m.source.number(form))


def _line(read: Callable[[bytes], object]) -> _Opcode:
    return lambda m: m.push(read(m.source.line()))


def _sized(form: str, read: Callable[[memoryview], object]) -> _Opcode:
    """Bytes whose number comes before them, in this form."""
    return lambda m: m.push(read(m.source.take(m.source.number(form))))


def _marked(read: Callable[[list[Any]], object]) -> _Opcode:
    return lambda m: m.push(read(m.popped()))


def _tuple(count: int) -> _Opcode:
    return lambda m: m.push(tuple([m.pop() for _ in range(count)][::-1]))


def _text(raw: memoryview) -> str:
    return str(raw, "utf-8", "surrogatepass")


def _latin(raw: memoryview) -> str:
    return str(raw, "latin1")


def _bytes(raw: memoryview) -> bytes | memoryview:
    return raw if len(raw) >= _VIEWED_BYTES else bytes(raw)


def _long(raw: memoryview) -> int:
    return int.from_bytes(raw, "little", signed=True)


def _integer(line: bytes) -> int | bool:
    return line == b"01" if line in (b"00", b"01") else int(line.removesuffix(b"L"))


def _quoted(line: bytes) -> str:
    """A string as protocol 0 writes it, by `repr` of Python 2."""
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise Refused("a string has no quotes")
    return codecs.escape_decode(line[1:-1])[0].decode("latin1")  # type: ignore[attr-defined,no-any-return]


def _paired(items: list[Any]) -> dict[Any, Any]:
    return {key(name): value for name, value in zip(items[::2], items[1::2], strict=True)}


def _stack_global(m: Machine) -> None:
    name, module = m.pop(), m.pop()
    ask(m, module, name)


def _item(m: Machine) -> None:
    value, name = m.pop(), m.pop()
    m.set_items([name, value])


def _again(m: Machine) -> None:
    m.stack += [m.pop()] * 2


def _protocol(m: Machine) -> None:
    if (number := m.source.number("B")) > pickle.HIGHEST_PROTOCOL:
        raise Refused(f"protocol {number} is not known")


_OPCODES: Mapping[bytes, _Opcode] = {
    pickle.PROTO: _protocol,
    pickle.FRAME: lambda m: m.source.number("<Q"),  # which only says how much to read at once
    pickle.NONE: _value(None),
    pickle.NEWTRUE: _value(True),
    pickle.NEWFALSE: _value(False),
    pickle.INT: _line(_integer),
    pickle.LONG: _line(_integer),
    pickle.BININT: _number("<i"),
    pickle.BININT1: _number("B"),
    pickle.BININT2: _number("<H"),
    pickle.LONG1: _sized("B", _long),
    pickle.LONG4: _sized("<i", _long),
    pickle.FLOAT: _line(float),
    pickle.BINFLOAT: _number(">d"),
    pickle.STRING: _line(_quoted),
    pickle.SHORT_BINSTRING: _sized("B", _latin),
    pickle.BINSTRING: _sized("<i", _latin),
    pickle.UNICODE: _line(lambda line: line.decode("raw-unicode-escape")),
    pickle.SHORT_BINUNICODE: _sized("B", _text),
    pickle.BINUNICODE: _sized("<I", _text),
    pickle.BINUNICODE8: _sized("<Q", _text),
    pickle.SHORT_BINBYTES: _sized("B", _bytes),
    pickle.BINBYTES: _sized("<I", _bytes),
    pickle.BINBYTES8: _sized("<Q", _bytes),
    pickle.BYTEARRAY8: _sized("<Q", _bytes),
    pickle.EMPTY_LIST: _made(list),
    pickle.EMPTY_DICT: _made(dict),
    pickle.EMPTY_SET: _made(set),
    pickle.EMPTY_TUPLE: _made(tuple),
    pickle.LIST: _marked(list),
    pickle.TUPLE: _marked(tuple),
    pickle.DICT: _marked(_paired),
    pickle.FROZENSET: _marked(lambda items: frozenset(map(key, items))),
    pickle.TUPLE1: _tuple(1),
    pickle.TUPLE2: _tuple(2),
    pickle.TUPLE3: _tuple(3),
    pickle.APPEND: lambda m: m.extend([m.pop()]),
    pickle.APPENDS: lambda m: m.extend(m.popped()),
    pickle.SETITEM: _item,
    pickle.SETITEMS: lambda m: m.set_items(m.popped()),
    pickle.ADDITEMS: lambda m: m.add_items(m.popped()),
    pickle.MARK: _value(Mark.MARK),
    pickle.POP: Machine.drop,
    pickle.POP_MARK: Machine.popped,
    pickle.DUP: _again,
    pickle.PUT: lambda m: m.put(int(m.source.line())),
    pickle.BINPUT: lambda m: m.put(m.source.number("B")),
    pickle.LONG_BINPUT: lambda m: m.put(m.source.number("<I")),
    pickle.MEMOIZE: lambda m: m.put(len(m.memo)),
    pickle.GET: lambda m: m.get(int(m.source.line())),
    pickle.BINGET: lambda m: m.get(m.source.number("B")),
    pickle.LONG_BINGET: lambda m: m.get(m.source.number("<I")),
    pickle.GLOBAL: lambda m: ask(m, *(m.source.line().decode("utf-8") for _ in range(2))),
    pickle.STACK_GLOBAL: _stack_global,
    pickle.REDUCE: reduce,
    pickle.BUILD: build,
}
