"""A pickle is read without being run: plain values are read, and what a hostile one asks for is refused by name."""

from __future__ import annotations

import codecs
import collections
import datetime
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.formats.pickle_machine import COPIES
from pipeline.formats.safe_pickle import PickleError, read

VALUE = {
    "text": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i2"),
    "names": np.array(["a", "yé"]),
    "objects": np.array(["x", 3, None], object),
    "empty": np.zeros((0, 3)),
    "long": np.arange(9000),
    "flags": np.array([True, False]),
    "scalars": [np.float32(3.5), np.int64(7), np.bool_(True)],
    "plain": (1, -2.5, None, True, 2**70, b"bytes", "text\n'\"", [], {}, ()),
    "sets": [{1, 2}, frozenset("ab"), set()],
    "dicts": [collections.OrderedDict(a=1), collections.defaultdict(list, {"q": [1]})],
    "bytes": [bytearray(b"x"), b""],
}


def same(one: Any, other: Any) -> bool:
    if isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in other)
    if isinstance(other, np.ndarray):
        return bool(one.dtype == other.dtype and one.shape == other.shape and (one == other).all())
    if isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_any_protocol_writes_is_read(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(VALUE, protocol))
    assert same(read(path), VALUE)


def test_an_array_that_is_named_twice_is_one_array(tmp_path: Path) -> None:
    shared = np.arange(3.0)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([shared, {"again": shared}], 2))
    one, other = read(tmp_path / "x.pkl")
    assert one is other["again"]


def test_what_python_2_wrote_is_read_as_latin_1(tmp_path: Path) -> None:
    values = np.arange(300, dtype="<f4")
    raw = values.tobytes()
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01M,\x01\x85"
    dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = head + dtype + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    (tmp_path / "x.pkl").write_bytes(b"\x80\x02]" + b"(" + array[2:] + b"U\x02\xe9te.")
    found, text = read(tmp_path / "x.pkl")
    assert np.array_equal(found, values) and text == "ét"


def test_a_long_array_is_a_view_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"x": np.zeros(10**6)}, 4))
    found = read(tmp_path / "x.pkl")["x"]
    assert not found.flags.owndata and not found.flags.writeable


# --- hostile ---------------------------------------------------------------------------------------------------


class _Reduced:
    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


def reduced(*what: Any, protocol: int = 4) -> bytes:
    return pickle.dumps(_Reduced(*what), protocol)


TRAP = "touch trapped"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
HUGE = b"K\x01(K\x05J\xff\xff\xff\x7ftcnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R\x89C\x00tb."

NAMED = {
    "a function of os": (reduced(os.system, (TRAP,)), "posix.system"),
    "the same in protocol 0": (reduced(os.system, (TRAP,), protocol=0), "posix.system"),
    "eval": (reduced(eval, (f"__import__('os').system('{TRAP}')",)), "builtins.eval"),
    "exec of Python 2": (b"c__builtin__\nexec\n(S'raise SystemExit'\ntR.", "__builtin__.exec"),
    "getattr": (reduced(getattr, ("", "join")), "builtins.getattr"),
    "a class by INST": (b"(S'" + TRAP.encode() + b"'\nios\nsystem\n.", "os.system"),
    "a class by OBJ": (b"(cos\nsystem\nS'x'\no.", "os.system"),
    "a class by NEWOBJ": (pickle.dumps(datetime.date(2020, 1, 1), 4), "datetime.date"),
    "a dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__reduce__\x93.", "numpy.ndarray.__reduce__"),
    "a loader of numpy": (reduced(np.load, ("x.npy",)), "numpy.load"),
    "numpy's f2py": (b"cnumpy.f2py\ncompile\n(S'x'\ntR.", "numpy.f2py.compile"),
    "another codec": (reduced(codecs.encode, ("x", "zlib")), "encodes by 'zlib'"),
    "a frame of pandas": (b"cpandas.core.frame\nDataFrame\n)R.", "pandas.core.frame.DataFrame"),
    "a tensor of torch": (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "torch._utils._rebuild_tensor_v2"),
    "a nested pickle": (reduced(pickle.loads, (reduced(os.system, (TRAP,)),)), "pickle.loads"),
    "an extension": (b"\x80\x02\x82\x01.", "registered extension"),
    "a persistent id": (b"\x80\x04S'x'\nQ.", "kept elsewhere"),
    "a buffer outside": (b"\x80\x05\x97.", "buffer outside"),
    "a name from the memo": (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93S'x'\n\x85R.", "os.system"),
    "the state of a function": (b"cnumpy\nndarray\n}(S'x'\nK\x01ub.", "state of something that is no array"),
    "a call of a value": (b"S'x'\n)R.", "did not ask for by name"),
    "a call of a type": (b"cnumpy\nndarray\n(K\x05tR.", "calls numpy.ndarray"),
    "an array with fields": (reduced(np.dtype, ("i4,f8",)), "type 'i4,f8'"),
    "another class of array": (b"cnumpy.core.multiarray\n_reconstruct\nN(K\x00tS'b'\n\x87R.", "another class"),
    "an array larger than its bytes": (ARRAY + b"(" + HUGE, "has 0 bytes"),
    "strings of no characters without end": (
        ARRAY + b"(" + HUGE.replace(b"X\x02\x00\x00\x00f8", b"X\x02\x00\x00\x00S0"),
        f"more than {COPIES} times",
    ),
    "bytes without end": (
        b"B\x00\x00\x20\x00" + b"a" * 2**21 + b"q\x000" + b"c__builtin__\nbytes\nh\x00\x85R" * 20 + b".",
        f"more than {COPIES} times",
    ),
    "a deep key": (b")" + b"\x85" * 5000 + b"}" + b")" + b"\x85" * 5000 + b"K\x01s.", "tuple is the key"),
    "a string longer than the file": (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.", "bytes follow"),
    "a negative length": (b"\x80\x04T" + struct.pack("<i", -5) + b"x.", "bytes follow"),
    "copies without end": (
        b"X\x00\x00\x20\x00"
        + b"a" * 2**21
        + b"q\x00"
        + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 20
        + b".",
        f"more than {COPIES} times",
    ),
    "no mark": (b"\x80\x04K\x01t.", "mark is missing"),
    "an empty stack": (b"\x80\x040.", "where there is none"),
    "a place of the memo that is empty": (b"\x80\x04h\x05.", "has not kept"),
    "no pickle": (b"#!/bin/sh", "no opcode b'#'"),
    "a protocol of the future": (b"\x80\x63.", "protocol 99"),
    "a file that breaks off": (pickle.dumps(VALUE, 4)[:-40], "bytes follow"),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_hostile_pickle_is_refused_by_name_and_nothing_of_it_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written, asked = NAMED[name]
    path = tmp_path / "hostile.pkl"
    path.write_bytes(written)
    with pytest.raises(PickleError) as caught:
        read(path)
    assert asked in str(caught.value) and str(path) in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["hostile.pkl"]


def test_the_traps_would_have_worked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(NAMED["a function of os"][0])
    assert (tmp_path / "trapped").exists()


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").touch()
    with pytest.raises(PickleError, match=r"x\.pkl is empty"):
        read(tmp_path / "x.pkl")


def test_a_pickle_with_any_byte_changed_is_read_or_refused(tmp_path: Path) -> None:
    whole, path, rng = pickle.dumps(VALUE, 2), tmp_path / "x.pkl", np.random.default_rng(0)
    for at in rng.integers(0, 3000, 300):
        path.write_bytes(whole[:at] + bytes([rng.integers(256)]) + whole[at + 1 :])
        try:
            read(path)
        except PickleError:
            pass
