"""What the headers of sound files state, and whether a file holds more than its headers say."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass, field
from functools import lru_cache
from io import FileIO

_UNKNOWN_SIZE = 0x7FFF0000  # programs that write to a pipe state 2 or 4 GiB, or a little less
_MOST_CHUNKS = 1000
_PADDING_BYTES = 1024  # so little after the sound is padding, or a tag without a header
_TAGS = (b"LIST", b"id3 ", b"ID3 ")  # whose last byte may be missing
_FIRST_PAGE, _LATER_PAGE = b"OggS\0\2", b"OggS\0\0"
_LARGEST_FRAME = 1 << 16  # bytes in which the last frame of a FLAC file begins, if its header does not say
_FRAME_STARTS = (b"\xff\xf8", b"\xff\xf9")  # whose frames are numbered, or say their first sample
_SIZE_BYTES, _RATE_BYTES = {6: 1, 7: 2}, {12: 1, 13: 2, 14: 2}  # that a code of a block's size, or of a rate, adds


def riff_size(head: bytes) -> int | None:
    """The size in bytes that a RIFF file states; None for other files, and for one written to a pipe."""
    size = int.from_bytes(head[4:8], "little") + 8
    return size if head.startswith(b"RIFF") and size < _UNKNOWN_SIZE else None


def wav_goes_on(file: FileIO) -> bool:
    """True if the sound of a WAV file goes on where its header says that it ends, since no recorder closed it.

    Other chunks may follow the sound, and padding.
    """
    size = os.fstat(file.fileno()).st_size
    place = 12
    for _ in range(_MOST_CHUNKS):
        name, end = _chunk(file, place)
        if name == b"data":
            return end > place + 8 and end + _PADDING_BYTES < size and not _ends_at(file, end, size)
        if len(name) < 4:
            break
        place = end + end % 2
    return False


def _chunk(file: FileIO, place: int) -> tuple[bytes, int]:
    """The name of a RIFF chunk, and where its header says that it ends."""
    file.seek(place)
    head = file.read(8)
    return head[:4], place + 8 + int.from_bytes(head[4:], "little")


def _ends_at(file: FileIO, end: int, size: int) -> bool:
    """True if what follows `end` is padding or another chunk, with or without the byte that makes the place even."""
    file.seek(end)
    if not any(file.read(4 * _PADDING_BYTES)):
        return True
    chunks = (_chunk(file, place) for place in {end, end + end % 2})
    return any(name in _TAGS or (last <= size and all(32 <= byte < 127 for byte in name)) for name, last in chunks)


def flac_goes_on(file: FileIO, samples: int) -> bool:
    """True if the last frame of a FLAC file begins at or behind the number of samples that its header states.

    An encoder that was ended early leaves such a header.
    """
    file.seek(8)
    info = file.read(10)
    block, largest = int.from_bytes(info[:2], "big"), int.from_bytes(info[7:], "big") or _LARGEST_FRAME
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - largest - _PADDING_BYTES))
    tail = file.read()
    place = len(tail)
    while (place := max(tail.rfind(mark, 0, place + 1) for mark in _FRAME_STARTS)) >= 0:
        number = _frame_number(tail[place : place + 16])
        if number is not None:
            return number * (block if tail.startswith(_FRAME_STARTS[0], place) else 1) >= samples
    return False


def _frame_number(head: bytes) -> int | None:
    """The number of a FLAC frame, or of its first sample, by its header; None for bytes that are no such header."""
    if len(head) < 16:
        return None
    length = max(1, 8 - (head[4] ^ 0xFF).bit_length())  # of a number coded as UTF-8 codes a character
    end = 4 + length + _SIZE_BYTES.get(head[2] >> 4, 0) + _RATE_BYTES.get(head[2] & 15, 0)
    if length > 7 or _crc8(head[:end]) != head[end]:
        return None
    number = head[4] & (0x7F >> length if length > 1 else 0x7F)
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    return number


def _crc8(data: bytes) -> int:
    check = 0
    for byte in data:
        check ^= byte
        for _ in range(8):
            check = (check << 1 ^ 0x07 if check & 0x80 else check << 1) & 0xFF
    return check


def holds_several(file: FileIO) -> bool:
    """True for an Ogg file to which another was appended, as players play it. The answer for the last files is kept."""
    status = os.fstat(file.fileno())
    return _holds_several(_Content(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, file))


@dataclass(frozen=True)
class _Content:
    device: int
    inode: int
    size: int
    mtime_ns: int
    file: FileIO = field(compare=False)


@lru_cache(maxsize=256)
def _holds_several(content: _Content) -> bool:
    if not content.size:
        return False
    with mmap.mmap(content.file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return 0 <= data.find(_LATER_PAGE) < data.rfind(_FIRST_PAGE)
