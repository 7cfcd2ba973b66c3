"""Pictures of numbers: depth in 16 bits, normals and angles as colours. All have the photo's size; black is where nothing is known.

save_map("depth.png", depth_map(millimetres, there), photo.history)
save_map("normals.png", normal_map(normals, there), photo.history)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from visagist.errors import OutputError
from visagist.photo import encoding, mark
from visagist.photo.mark import Step
from visagist.photo.photo import StrPath, _replacing

PER_MM = 100  # levels of a depth map in a millimetre


def depth_map(millimetres: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Depth float [H, W], growing towards the viewer, as uint16 [H, W]: 1 at the furthest place, 100 levels more for every
    millimetre, 0 where not `there` (bool [H, W]). More than 65 cm are clipped."""
    out: np.ndarray = np.zeros(there.shape, np.uint16)
    if there.any():
        near = millimetres[there] - millimetres[there].min()
        out[there] = np.clip(np.rint(1 + PER_MM * near), 1, 65_535)
    return out


def normal_map(normals: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Unit normals float [H, W, 3] as uint8: red is x to the right, green y up, blue z to the viewer; 128 is 0, 255 is 1."""
    return np.where(there[..., None], np.rint(127.5 + 127.5 * np.clip(normals, -1, 1)), 0).astype(np.uint8)


def slant_map(normals: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The angle between normal and view as uint8 [H, W, 3]: 1 faces the viewer, 255 is 90 degrees or more."""
    slant = np.rad2deg(np.arccos(np.clip(normals[..., 2], 0, 1)))
    return _grey(1 + 254 * slant / 90, there)


def tilt_map(normals: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The direction within the picture in which the surface turns away, as uint8 [H, W, 3]: 1 to the right, then counter-clockwise,
    255 just before the right again."""
    tilt = np.rad2deg(np.arctan2(normals[..., 1], normals[..., 0])) % 360
    return _grey(1 + 254 * tilt / 360, there)


def _grey(levels: np.ndarray, there: np.ndarray) -> np.ndarray:
    grey = np.where(there, np.clip(np.rint(levels), 1, 255), 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def save_map(path: StrPath, values: np.ndarray, history: Sequence[Step], *, overwrite: bool = False) -> None:
    """Write uint16 [H, W] or uint8 [H, W, 3] as PNG with the mark, complete or not at all.

    OutputError: exists, unwritable, unsupported where the name does not end in .png (others lose levels).
    """
    if Path(path).suffix.lower() != ".png":
        raise OutputError("maps are written as .png", code="unsupported", path=path)
    xmp, _ = mark.write(tuple(history), b"", limit=encoding.LARGEST_XMP["PNG"])
    info = PngInfo()
    if xmp:
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    with _replacing(Path(path), overwrite=overwrite) as file:
        Image.fromarray(np.ascontiguousarray(values)).save(file, "PNG", pnginfo=info, compress_level=4)
