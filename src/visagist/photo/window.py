"""A window: the affine way from a photo to the small upright picture a network wants, and back.

Edits of a face are cut, network, put. Where the mask is 0 the photo comes back bit for bit.
All maps here act on continuous coordinates (the centre of pixel i is i + 0.5); OpenCV counts from pixel centres, so every call
shifts by half a pixel on both sides (`_opencv`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from visagist.photo.blend import Mask
from visagist.photo.boxes import Box


@dataclass(frozen=True, eq=False)
class Window:
    """matrix float [2, 3]: photo (x, y, 1) -> window (x, y); size (height, width) of the window in its own pixels."""

    matrix: np.ndarray
    size: tuple[int, int]

    @classmethod
    def of_box(cls, box: Box, size: tuple[int, int]) -> Window:
        """The window that shows exactly this box, stretched to `size` (height, width)."""
        x0, y0, x1, y1 = box
        if not (x1 > x0 and y1 > y0):
            raise ValueError(f"an empty box has no window: {box}")
        sx, sy = size[1] / (x1 - x0), size[0] / (y1 - y0)
        return cls(np.array([[sx, 0, -sx * x0], [0, sy, -sy * y0]]), size)

    @classmethod
    def turned(cls, centre: tuple[float, float], side: float, size: int, *, roll: float = 0.0, mirror: bool = False) -> Window:
        """A square window of `size` pixels over a photo square of `side` pixels about `centre`.

        roll: degrees by which the square is tipped clockwise as seen; a head with that roll comes out upright.
        mirror: show it mirrored left to right.
        """
        angle, scale = np.deg2rad(roll), size / side
        c, s = np.cos(angle) * scale, np.sin(angle) * scale
        linear = np.array([[c, s], [-s, c]])
        if mirror:
            linear[0] *= -1
        return cls(np.hstack([linear, (size / 2 - linear @ np.array(centre))[:, None]]), (size, size))

    @classmethod
    def aligned(cls, points: np.ndarray, template: np.ndarray, size: tuple[int, int]) -> Window:
        """The window in which `points` [P, 2] of the photo fall closest to `template` [P, 2]: a similarity by least squares."""
        return cls(similarity(points, template), size)

    @property
    def scale(self) -> float:
        """Window pixels per photo pixel (geometric mean)."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))

    @property
    def inverse(self) -> np.ndarray:
        """float [2, 3]: window -> photo."""
        back: np.ndarray = cv2.invertAffineTransform(self.matrix)
        return back

    def to_window(self, points: np.ndarray) -> np.ndarray:
        """Photo points [..., 2] in window coordinates."""
        moved: np.ndarray = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return moved

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Window points [..., 2] in photo coordinates."""
        inverse = self.inverse
        moved: np.ndarray = points @ inverse[:, :2].T + inverse[:, 2]
        return moved

    def cut(self, pixels: np.ndarray, *, border: tuple[float, ...] | None = None) -> np.ndarray:
        """What the window shows of pixels uint8 or float32 [H, W] or [H, W, C]; same type, window size.

        Past the edge of the photo it shows the nearest pixel, or the colour `border`.

        When the window shrinks the photo by 2 or more, the part of the photo it needs is first averaged down by a whole factor
        (area), so that fine structure does not alias.
        """
        matrix = self.matrix
        factor = int(1 / self.scale + 1e-9)
        if factor >= 2:
            pixels, matrix = _reduced(pixels, matrix, self.size, factor)
        mode = cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT
        flags = cv2.INTER_CUBIC if self.scale > 1.5 else cv2.INTER_LINEAR
        return cv2.warpAffine(pixels, _opencv(matrix), self.size[::-1], flags=flags, borderMode=mode, borderValue=border or 0)

    def put(
        self, pixels: np.ndarray, patch: np.ndarray, mask: Mask | np.ndarray, *, mode: Literal["replace", "difference"] = "replace"
    ) -> np.ndarray:
        """The photo with the patch laid back where the mask says.

        pixels uint8 [H, W, 3]; patch float32 [h, w, 3] in window pixels, 0..255 ("replace") or a signed difference to be added;
        mask in photo pixels, 0..1: a `Mask`, which is cheap, or float32 [H, W].
        Returns new uint8 [H, W, 3]; where mask is 0 it equals `pixels` exactly.
        """
        if not isinstance(mask, Mask):
            mask = Mask.of(mask)
        out = pixels.copy()
        if mask.empty:
            return out
        back = self.inverse.copy()
        back[:, 2] -= (mask.x0, mask.y0)
        height, width = mask.values.shape
        laid = Window(back, (height, width)).cut(np.ascontiguousarray(patch, np.float32))
        region = pixels[mask.region]
        weight = mask.values[..., None]
        if mode == "replace":
            laid -= region
        laid *= weight
        laid += region
        np.rint(laid, out=laid)
        np.clip(laid, 0, 255, out=laid)
        out[mask.region] = np.where(weight > 0, laid.astype(np.uint8), region)
        return out


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift [2, 3] that takes source [P, 2] closest to target [P, 2] (least squares, no mirroring).

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991; in the plane the
    optimum has a closed form in complex numbers: a = sum conj(s) t / sum |s|^2 with both centred.
    """
    cs, ct = source.mean(0), target.mean(0)
    s, t = source - cs, target - ct
    norm = float((s**2).sum())
    if norm == 0:
        raise ValueError("all points coincide")
    re = float((s * t).sum()) / norm
    im = float((s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum()) / norm
    linear = np.array([[re, -im], [im, re]])
    return np.hstack([linear, (ct - linear @ cs)[:, None]])


def _opencv(matrix: np.ndarray) -> np.ndarray:
    """The same forward map between pixel-centre coordinates, as cv2.warpAffine takes it."""
    shifted = np.array(matrix, dtype=np.float64)
    shifted[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return shifted


def _reduced(pixels: np.ndarray, matrix: np.ndarray, size: tuple[int, int], factor: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of the picture that the window needs, averaged down by `factor`, and the map from it to the window."""
    height, width = pixels.shape[:2]
    corners = np.array([[0, 0], [size[1], 0], [size[1], size[0]], [0, size[0]]], dtype=np.float64)
    inverse = cv2.invertAffineTransform(matrix)
    corners = corners @ inverse[:, :2].T + inverse[:, 2]
    low = np.floor(corners.min(0) / factor).astype(int) - 2
    high = np.ceil(corners.max(0) / factor).astype(int) + 2
    x0, y0 = (max(int(v) * factor, 0) for v in low)
    x1, y1 = (min(int(v) * factor, n) for v, n in zip(high, (width, height), strict=True))
    if x1 <= x0 or y1 <= y0:  # the window looks past the picture: keep the nearest line of pixels
        x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
        x1, y1 = x0 + 1, y0 + 1
    part = pixels[y0:y1, x0:x1]
    nx, ny = max(1, round((x1 - x0) / factor)), max(1, round((y1 - y0) / factor))
    small = cv2.resize(part, (nx, ny), interpolation=cv2.INTER_AREA)
    to_part = np.array([[(x1 - x0) / nx, 0, x0], [0, (y1 - y0) / ny, y0], [0, 0, 1]])
    return small, matrix @ to_part
