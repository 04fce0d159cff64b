"""Reads from the packets of an H.264 stream what FFmpeg tells only of frames that it has decoded (ITU-T H.264, 7.3).

A sequence parameter set says whether a stream may hold interlaced pictures, and the first slice of a key frame whether
decoding can start there.
"""

from __future__ import annotations

from collections.abc import Iterator

_SLICE, _IDR_SLICE, _PARAMETER_SET = 1, 5, 7
_INTRA_SLICES = (2, 4)  # I and SI, of five types
_YUV444 = 3
_WITH_CHROMA_FORMAT = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
_START_CODE = b"\0\0\1"


class Watch:
    """Reads the headers of a stream as its key frames come.

    extradata: the decoder's configuration: an MP4's avcC box, or units behind start codes. all_restart: True while
    every key frame has been an IDR picture, after which no frame refers to one before it.
    """

    def __init__(self, extradata: bytes) -> None:
        configured = extradata[:1] == b"\x01"
        units = _configured(extradata) if configured else _behind_start_codes(extradata)
        self._sets = {unit for unit in units if _kind(unit) == _PARAMETER_SET}
        self._length_bytes = (extradata[4] & 3) + 1 if configured and len(extradata) > 4 else 0
        self.all_restart = True

    @property
    def progressive(self) -> bool:
        """True if the stream has one parameter set, which admits whole frames alone."""
        return len(self._sets) == 1 and _progressive(*self._sets)

    def starts(self, packet: bytes) -> bool:
        """Takes in the packet of a key frame; True if decoding can start there."""
        units = _behind_lengths(packet, self._length_bytes) if self._length_bytes else _behind_start_codes(packet)
        for unit in units:
            kind = _kind(unit)
            if kind == _PARAMETER_SET:
                self._sets.add(unit)
            elif kind == _IDR_SLICE:
                return True
            elif kind == _SLICE:
                self.all_restart = False
                return _is_intra(unit)
        self.all_restart = False
        return False


def _kind(unit: bytes) -> int:
    return unit[0] & 31 if unit else 0


def _is_intra(unit: bytes) -> bool:
    """True if a slice refers to no other picture."""
    bits = _Bits(_payload(unit[:32]))
    try:
        bits.unsigned()  # first_mb_in_slice
        return bits.unsigned() % 5 in _INTRA_SLICES
    except IndexError:
        return False


def _progressive(parameter_set: bytes) -> bool:
    """True if every picture under this parameter set is a whole frame (`frame_mbs_only_flag`)."""
    try:
        return _frame_mbs_only(_Bits(_payload(parameter_set)))
    except IndexError:
        return False


def _payload(unit: bytes) -> bytes:
    """The bytes behind a unit's header, without those that keep start codes from occurring within."""
    return unit[1:].replace(b"\0\0\3", b"\0\0")


def _configured(extradata: bytes) -> Iterator[bytes]:
    count, rest = extradata[5:6], extradata[6:]
    for _ in range(count[0] & 31 if count else 0):
        size = int.from_bytes(rest[:2], "big")
        yield rest[2 : 2 + size]
        rest = rest[2 + size :]


def _behind_start_codes(data: bytes) -> Iterator[bytes]:
    yield from (unit.rstrip(b"\0") for unit in data.split(_START_CODE)[1:])


def _behind_lengths(data: bytes, width: int) -> Iterator[bytes]:
    place = 0
    while place < len(data):
        start = place + width
        place = start + int.from_bytes(data[place:start], "big")
        yield data[start:place]


class _Bits:
    """Bits of a unit, read one after another. Raises IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._next = data, 0

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = 2 * value + (self._data[self._next >> 3] >> (7 - (self._next & 7)) & 1)
            self._next += 1
        return value

    def unsigned(self) -> int:
        """A number in Exp-Golomb code, ue(v)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """A number in Exp-Golomb code, se(v)."""
        value = self.unsigned()
        return (value + 1) // 2 if value % 2 else -(value // 2)


def _frame_mbs_only(bits: _Bits) -> bool:
    profile, _ = bits.take(8), bits.take(16)
    bits.unsigned()  # seq_parameter_set_id
    if profile in _WITH_CHROMA_FORMAT:
        _skip_formats(bits)
    bits.unsigned()  # log2_max_frame_num_minus4
    _skip_order_counts(bits)
    bits.unsigned()  # max_num_ref_frames
    bits.take(1)  # gaps_in_frame_num_value_allowed_flag
    bits.unsigned()  # pic_width_in_mbs_minus1
    bits.unsigned()  # pic_height_in_map_units_minus1
    return bits.take(1) == 1


def _skip_formats(bits: _Bits) -> None:
    chroma = bits.unsigned()
    if chroma == _YUV444:
        bits.take(1)  # separate_colour_plane_flag
    bits.unsigned()  # bit_depth_luma_minus8
    bits.unsigned()  # bit_depth_chroma_minus8
    bits.take(1)  # qpprime_y_zero_transform_bypass_flag
    if bits.take(1):
        for number in range(12 if chroma == _YUV444 else 8):
            if bits.take(1):
                _skip_scaling_list(bits, 16 if number < 6 else 64)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _skip_order_counts(bits: _Bits) -> None:
    kind = bits.unsigned()
    if kind == 0:
        bits.unsigned()  # log2_max_pic_order_cnt_lsb_minus4
    elif kind == 1:
        bits.take(1)  # delta_pic_order_always_zero_flag
        for _ in range(2):
            bits.signed()  # offset_for_non_ref_pic, offset_for_top_to_bottom_field
        for _ in range(bits.unsigned()):
            bits.signed()  # offset_for_ref_frame
