"""Reads text files that nobody checked. What is not in the encoding it should be in is told, never replaced."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import InputError

_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_ASCII = re.compile(rb"[\x80-\xff]+")


def read_text(file: Path, encoding: str = "utf-8", name: str = "") -> str:
    """The text of a file, without a byte order mark. name: how messages call the file, by default its path.

    Raises InputError, as `decode` does.
    """
    return decode(regular(file).read_bytes(), name or str(file), encoding)


def regular(file: Path) -> Path:
    """The path of a file, which need not exist. Raises InputError for a folder, a device, and a pipe, whose reader may
    wait for ever."""
    if file.exists() and not file.is_file():
        raise InputError(f"{file} is no file")
    return file


def decode(data: bytes, name: str, encoding: str = "utf-8") -> str:
    """The text that bytes are in an encoding, without a byte order mark and with the line ends as they are.

    Raises InputError that names the first line with other bytes and the encoding that they are likely in.
    """
    check_encoding(encoding)
    try:
        text = data.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except UnicodeDecodeError as error:
        return _refuse(data, name, encoding, error.start)
    if "\0" in text:  # ASCII in UTF-16 is valid UTF-8 with a zero beside each letter
        return _refuse(data, name, encoding, data.index(0))
    if half := _SURROGATE.search(text):  # some encodings can write them, and no Arrow file can hold them
        line = text.count("\n", 0, half.start()) + 1
        raise InputError(f"{name}:{line}: {half.group()!r} is half of a character, so the encoding is not {encoding}")
    return text


def check_encoding(encoding: str) -> None:
    """Raises InputError if Python knows no such encoding of text."""
    try:
        " ".encode(encoding)
    except LookupError as error:
        raise InputError(f"no encoding {encoding!r}: try utf-8, utf-16, gb18030 or cp1252") from error


def _refuse(data: bytes, name: str, encoding: str, start: int) -> str:
    line = data.count(b"\n", 0, start) + 1
    likely = _likely(data)
    if likely == encoding:
        raise InputError(f"{name}:{line}: not {encoding}, as it should be: the file is damaged")
    raise InputError(f"{name}:{line}: not {encoding}; it is likely {likely}: convert it, or set encoding = {likely!r}")


def _likely(data: bytes) -> str:
    """The encoding that bytes which are not UTF-8 are probably in.

    Zeros tell UTF-16. The Chinese encodings use two bytes above ASCII for a character, cp1252 one among letters.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if b"\0" in data:
        return "utf-16-be" if data[0::2].count(0) > data[1::2].count(0) else "utf-16-le"
    runs = _NOT_ASCII.findall(data)
    paired = sum(len(run) for run in runs if len(run) % 2 == 0)
    try:
        data.decode("gb18030")
    except UnicodeDecodeError:
        return "cp1252"
    return "gb18030" if 2 * paired > sum(map(len, runs)) else "cp1252"
