"""Small files that decode to much more than they hold: made without ever holding what they decode to."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE_HZ = 48_000


def film(path: Path, width: int, height: int, pictures: int = 2) -> Path:
    """A film of black pictures, five a second, each a PNG of one bit a pixel."""
    data = _png(width, height)
    with av.open(str(path), "w", format="mov") as container:
        stream = container.add_stream("png", rate=5)
        stream.width, stream.height, stream.pix_fmt = width, height, "gray"
        for number in range(pictures):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 5), True
            packet.pts = packet.dts = number
            container.mux(packet)
    return path


def _png(width: int, height: int) -> bytes:
    packer, row = zlib.compressobj(1), bytes(1 + (width + 7) // 8)
    packed = b"".join([packer.compress(row) for _ in range(height)]) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def sound(path: Path, at_s: float) -> Path:
    """A Matroska file of Opus: one packet at its start, and one at `at_s`."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libopus", rate=RATE_HZ, layout="mono")
        silence = np.zeros((1, 960), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="flt", layout="mono")
        frame.sample_rate = RATE_HZ
        first, *_ = [*stream.encode(frame), *stream.encode()]
        data, unit = bytes(first), first.time_base
        for time_s in (0.0, at_s):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, unit, True
            packet.pts = packet.dts = round(time_s / unit)
            container.mux(packet)
    return path
