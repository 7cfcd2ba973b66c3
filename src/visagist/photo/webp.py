"""What Pillow does not tell of a WEBP file: its size before its reader reserves memory, and the quality it was written with."""

from __future__ import annotations

import os
import struct
from typing import IO


def size(head: bytes) -> tuple[int, int]:
    """Width and height as the first chunk of a WEBP says; (0, 0) when it is of no known kind (its reader will refuse it)."""
    kind, body = head[12:16], head[20:30]
    if kind == b"VP8X" and len(body) == 10:
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(body) == 10:
        width, height = struct.unpack("<HH", body[6:10])
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def quality(stream: IO[bytes]) -> tuple[bool, float]:
    """Whether the first frame is lossless, and libwebp's quality setting estimated from its quantizer (-1 unknown)."""
    stream.seek(12)
    for _ in range(64):
        header = stream.read(8)
        if len(header) < 8:
            break
        kind, length = header[:4], int.from_bytes(header[4:], "little")
        if kind == b"VP8L":
            return True, -1
        if kind == b"VP8 ":
            return False, _vp8_quality(stream.read(min(length, 128)))
        stream.seek(16 if kind == b"ANMF" else length + (length & 1), os.SEEK_CUR)  # a frame's own chunks come after 16 bytes
    return False, -1


def _vp8_quality(frame: bytes) -> float:
    """libwebp's quality behind the quantizer index in a VP8 key frame's header (RFC 6386, sections 9.2-9.6 and 19.2)."""
    data, place, value, span, bit_count = frame[10:], 2, 0, 255, 0
    value = int.from_bytes(data[:2], "big")

    def bit() -> int:  # boolean decoder of section 7 at even odds
        nonlocal place, value, span, bit_count
        split = 1 + ((span - 1) * 128 >> 8)
        hit = value >= split << 8
        value, span = (value - (split << 8), span - split) if hit else (value, split)
        while span < 128:
            value, span, bit_count = value << 1, span << 1, bit_count + 1
            if bit_count == 8:
                value |= data[place] if place < len(data) else 0
                place, bit_count = place + 1, 0
        return int(hit)

    def number(bits: int) -> int:
        return sum(bit() << (bits - 1 - i) for i in range(bits))

    def signed(bits: int) -> int:
        size = number(bits)
        return -size if bit() else size

    number(2)  # colour space, clamping
    steps: list[int] = []
    absolute = 0
    if bit():  # segmentation
        update_map = bit()
        if bit():
            absolute = bit()
            steps = [signed(7) if bit() else 0 for _ in range(4)]
            for _ in range(4):
                if bit():
                    signed(6)
        if update_map:
            for _ in range(3):
                if bit():
                    number(8)
    number(1 + 6 + 3)  # loop filter
    if bit() and bit():  # its adjustments
        for _ in range(8):
            if bit():
                signed(6)
    number(2)  # partitions
    base = number(7)
    index = (sum(steps) / 4 + (0 if absolute else base)) if steps else base
    # libwebp: index = 127 (1 - cbrt(c)) with c = 2q/3 below q = 0.75 and 2q - 1 above.
    c = (1 - min(max(index, 0), 127) / 127) ** 3
    return round(100 * (1.5 * c if c < 0.5 else (c + 1) / 2), 1)
