"""EXIF: which way is up, and what a photo's metadata say that is still true of an edited copy.

Kept are the common tags of the main directory and the directories EXIF (the shot) and GPS. GPS stays because the picture is the
user's own, and losing where it was taken would be a silent loss. Thumbnails and the maker's notes go: the first show the face
as it was before, the second may, and point to places in the old file.
"""

from __future__ import annotations

from typing import Any, Literal

from PIL import Image

SHOT, GPS = 0x8769, 0x8825  # the sub-directories

_ORIENTATION, _UNIT, _INTEROPERABILITY, _MAKER_NOTE, _WIDTH, _HEIGHT = 0x0112, 0x0128, 0xA005, 0x927C, 0xA002, 0xA003
# Description, maker, model, resolution, software, date, artist, host, rating, copyright, Windows' title, comment, author,
# keywords and subject. The other tags of the main directory describe the layout of the old file.
_KEPT = {270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)}
_LONGEST_READ, _LONGEST_WRITTEN = 1 << 20, 60_000  # bytes; JPEG holds 65,533 in one segment
_DAMAGED = "EXIF metadata are damaged and were dropped in part"
_TOO_LONG = "EXIF metadata are too long and were dropped"


def read(image: Any) -> tuple[int, bytes, list[str]]:
    """The orientation of a Pillow image, 1 to 8; the EXIF block to be written back, b"" for none; notes on what was lost."""
    raw = image.info.get("exif", b"")
    # Not from Pillow alone, which gives up on a directory at its first damaged entry.
    orientation = number(raw.removeprefix(b"Exif\0\0"), _ORIENTATION)
    orientation = orientation if 1 <= orientation <= 8 else 1
    if len(raw) > _LONGEST_READ:  # each entry may claim all the bytes: not worth the memory
        return orientation, b"", [_TOO_LONG]
    kept, damaged = Image.Exif(), False
    try:
        found = image.getexif()
        value = found.get(_ORIENTATION, orientation)  # Pillow also knows of one in XMP
        orientation = value if isinstance(value, int) and 1 <= value <= 8 else 1
        tags = [tag for tag in found if tag in _KEPT]
    except Exception:  # whatever Pillow meets in a damaged directory; the picture itself is fine
        return orientation, b"", [_DAMAGED]
    for tag in tags:
        try:
            kept[tag] = _writable(found[tag], tag)
        except Exception:
            damaged = True
    for directory in (SHOT, GPS):
        try:
            found_there = found.get_ifd(directory)
        except Exception:
            damaged = True
            continue
        entries = {}
        for tag, value in found_there.items():
            if tag in (_MAKER_NOTE, _INTEROPERABILITY):
                continue
            try:
                entries[tag] = _writable(value, tag, directory)
            except Exception:
                damaged = True
        if directory == SHOT and (_WIDTH in entries or _HEIGHT in entries):
            turned = orientation >= 5 and image.format != "TIFF"  # Pillow has turned a TIFF by now
            entries[_WIDTH], entries[_HEIGHT] = (image.height, image.width) if turned else image.size
        if entries:
            kept.get_ifd(directory).update(entries)
            kept[directory] = 0  # becomes its place in the block
    if kept.get(_UNIT, 2) not in (1, 2, 3):
        del kept[_UNIT]
    notes = [_DAMAGED] if damaged else []
    if not len(kept):
        return orientation, b"", notes
    written = kept.tobytes()
    return (orientation, written, notes) if len(written) <= _LONGEST_WRITTEN else (orientation, b"", [_TOO_LONG])


def raw_text(value: Any) -> Any:
    """An EXIF value; text beyond ASCII as its bytes, which Pillow reads as Latin-1 (few files are) and would write as "?"."""
    return value.encode("latin-1", "replace") if isinstance(value, str) and not value.isascii() else value


def _writable(value: Any, tag: int, directory: int | None = None) -> Any:
    """The value as it can be written, proven by writing and reading it. Raises whatever Pillow does where it cannot."""
    value = raw_text(value)
    trial, back = Image.Exif(), Image.Exif()
    place = trial if directory is None else trial.get_ifd(directory)
    place[tag] = value
    back.load(trial.tobytes())
    if tag not in (back if directory is None else back.get_ifd(directory)):
        raise ValueError(f"tag {tag} does not survive")
    return value


def number(block: bytes, tag: int) -> int:
    """The whole number under a tag in the first directory of a TIFF structure, 0 for none; stops at nothing before it."""
    order: Literal["little", "big"] = "little" if block[:2] == b"II" else "big"
    start = int.from_bytes(block[4:8], order)
    for i in range(int.from_bytes(block[start : start + 2], order)):
        entry = block[start + 2 + 12 * i : start + 14 + 12 * i]
        if len(entry) < 12:
            break
        length = {3: 2, 4: 4}.get(int.from_bytes(entry[2:4], order), 0)  # a SHORT or a LONG
        if length and int.from_bytes(entry[:2], order) == tag:
            return int.from_bytes(entry[8 : 8 + length], order)
    return 0
