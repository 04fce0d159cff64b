"""The names that a pickle may ask for, and what is done for each: arrays, their types and numbers, plain containers.

No function of the file's choice is called. numpy's own are carried out here, on bytes whose number has been checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.pickle_machine import Blank, Machine, Refused, key

MOST_AXES = 32
"""The most axes that an array may have."""
_TYPE = re.compile(r"[biufc]\d{1,2}|[bhilqBHILQefdgFDG?]|[SU]\d{1,9}|O8?")


class Admitted(Enum):
    """What a pickle may ask for by name."""

    RECONSTRUCT = "numpy.core.multiarray._reconstruct"
    FROM_BUFFER = "numpy.core.numeric._frombuffer"
    SCALAR = "numpy.core.multiarray.scalar"
    ARRAY = "numpy.ndarray"
    DTYPE = "numpy.dtype"
    ENCODE = "_codecs.encode"
    ORDERED_DICT = "collections.OrderedDict"
    DEFAULT_DICT = "collections.defaultdict"
    DICT = "builtins.dict"
    LIST = "builtins.list"
    SET = "builtins.set"
    FROZEN_SET = "builtins.frozenset"
    BYTES = "builtins.bytes"
    BYTE_ARRAY = "builtins.bytearray"
    INT = "builtins.int"
    FLOAT = "builtins.float"


_RENAMED = (("", ""), ("numpy.core", "numpy._core"), ("builtins", "__builtin__"))
ADMITTED: Mapping[str, Admitted] = {name.value.replace(*renamed): name for name in Admitted for renamed in _RENAMED}
"""The same in the spellings of numpy 1 and 2 and of Python 2 and 3."""


def ask(machine: Machine, module: Any, name: Any) -> None:
    """Puts what is asked for on the stack. Raises Refused, which says the name, if it is not admitted."""
    asked = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else ""
    if asked not in ADMITTED:
        raise Refused(f"it asks for {asked[:200]!r}, and only arrays and plain values are read")
    machine.push(ADMITTED[asked])


def reduce(machine: Machine) -> None:
    """Does what the admitted name on the stack stands for, with the tuple above it."""
    given, what = machine.pop(), machine.pop()
    if not isinstance(what, Admitted) or not isinstance(given, tuple):
        raise Refused("it calls something that it did not ask for by name")
    if what not in _CALLS:
        raise Refused(f"it calls {what.value}")
    machine.push(_CALLS[what](machine, *given))


def build(machine: Machine) -> None:
    """Fills the array or the dtype that lies below its state, there and wherever the memo holds it."""
    state, blank = machine.pop(), machine.pop()
    if not isinstance(blank, Blank) or not isinstance(state, tuple):
        raise Refused("it sets the state of something that is no array")
    value = _array(machine, *state[-4:]) if blank.dtype is None else _ordered(blank.dtype, state)
    for place in blank.places:
        machine.memo[place] = value
    machine.push(value)


# --- arrays ----------------------------------------------------------------------------------------------------


def _array(machine: Machine, shape: Any, dtype: Any, fortran: Any, raw: Any) -> NDArray[Any]:
    """The array of these elements. raw: their bytes, or the list of its objects."""
    form, count, order = _form(dtype), _count(shape), "F" if fortran else "C"
    if form.hasobject:
        values = _objects(machine, count, raw)
    else:
        raw = _bytes(machine, raw)
        if len(raw) != count * form.itemsize:
            raise Refused(f"an array of {shape} {form} has {len(raw):,} bytes")
        if not len(raw):  # strings of no characters take some all the same
            machine.spend(count * max(1, form.itemsize))
        values = np.frombuffer(raw, form) if len(raw) else np.zeros(count, form)
    return values.reshape(shape, order=order)  # type: ignore[call-overload,no-any-return]


def _objects(machine: Machine, count: int, given: Any) -> NDArray[Any]:
    if not isinstance(given, list) or len(given) != count:
        raise Refused(f"an array of {count:,} objects has another number of them")
    machine.spend(8 * count)
    values = np.empty(count, object)
    values[:] = given
    return values


def _bytes(machine: Machine, raw: Any) -> Any:
    if isinstance(raw, str):  # as Python 2 wrote them
        machine.spend(len(raw))
        return raw.encode("latin1")
    if not isinstance(raw, bytes | memoryview):
        raise Refused("an array has no bytes")
    return raw


def _form(dtype: Any) -> np.dtype[Any]:
    found = dtype.dtype if isinstance(dtype, Blank) else dtype
    if not isinstance(found, np.dtype):
        raise Refused("an array has no type")
    return found


def _count(shape: Any) -> int:
    if not isinstance(shape, tuple) or len(shape) > MOST_AXES:
        raise Refused("the shape of an array is no tuple of numbers")
    if not all(type(size) is int and 0 <= size < 2**48 for size in shape):
        raise Refused("the shape of an array is no tuple of numbers")
    return math.prod(shape)


def _ordered(dtype: np.dtype[Any], state: tuple[Any, ...]) -> np.dtype[Any]:
    """The dtype in the byte order that its state says."""
    if len(state) < 5 or any(part is not None for part in state[2:5]):
        raise Refused("it has an array with fields or subarrays")
    if state[1] not in ("<", ">", "|", "="):
        raise Refused("a type has no byte order")
    return dtype.newbyteorder(state[1])


def _dtype(machine: Machine, name: Any, *_: Any) -> Blank:
    if not isinstance(name, str) or not _TYPE.fullmatch(name):
        raise Refused(f"it has an array of type {str(name)[:50]!r}")
    return Blank(np.dtype(name))


def _blank(machine: Machine, kind: Any, *_: Any) -> Blank:
    if kind is not Admitted.ARRAY:
        raise Refused("it makes an array of another class than numpy's")
    return Blank()


def _of_buffer(machine: Machine, raw: Any, dtype: Any, shape: Any, order: Any = "C") -> NDArray[Any]:
    return _array(machine, shape, dtype, order == "F", raw)


def _scalar(machine: Machine, dtype: Any, raw: Any = "") -> Any:
    """A number of numpy's as a plain one."""
    return _array(machine, (), dtype, False, raw).item()


# --- containers ------------------------------------------------------------------------------------------------


def _encoded(machine: Machine, text: Any, encoding: Any = "") -> bytes:
    """Bytes, as protocol 2 writes them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused(f"it encodes by {str(encoding)[:50]!r}")
    machine.spend(len(text))
    return text.encode("latin1")


def _items(machine: Machine, given: tuple[Any, ...]) -> list[Any]:
    """The items of the one list or tuple that a container is made of; none if there is none."""
    if len(given) > 1 or not all(isinstance(items, list | tuple) for items in given):
        raise Refused("it makes a container of something that is no list")
    machine.spend(sum(64 * len(items) for items in given))
    return [item for items in given for item in items]


def _mapped(machine: Machine, *given: Any) -> dict[Any, Any]:
    """A dict of pairs; for a `defaultdict` its kind of value comes first, and is dropped."""
    pairs = _items(machine, tuple(part for part in given if not isinstance(part, Admitted)))
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise Refused("it makes a dict of something that is no list of pairs")
    return {key(name): value for name, value in pairs}


def _raw(machine: Machine, *given: Any) -> bytes:
    raw = _bytes(machine, given[0]) if given else b""
    machine.spend(len(raw))
    return bytes(raw)


_CALLS: Mapping[Admitted, Callable[..., Any]] = {
    Admitted.RECONSTRUCT: _blank,
    Admitted.FROM_BUFFER: _of_buffer,
    Admitted.SCALAR: _scalar,
    Admitted.DTYPE: _dtype,
    Admitted.ENCODE: _encoded,
    Admitted.ORDERED_DICT: _mapped,
    Admitted.DEFAULT_DICT: _mapped,
    Admitted.DICT: _mapped,
    Admitted.LIST: lambda machine, *given: _items(machine, given),
    Admitted.SET: lambda machine, *given: set(map(key, _items(machine, given))),
    Admitted.FROZEN_SET: lambda machine, *given: frozenset(map(key, _items(machine, given))),
    Admitted.BYTES: _raw,
    Admitted.BYTE_ARRAY: _raw,
}
