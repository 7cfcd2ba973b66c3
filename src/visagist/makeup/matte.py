"""Where the lips are, pixel by pixel: the outline by the points, corrected by the colours. NumPy and OpenCV only.

Points are wrong by some hundredths of a mouth's width, and lips are not much thicker than that. So a pixel near the outline is
judged by two things: how far inside the outline it lies, and whether its colour is rather that of these lips or that of the skin
around them (a Gaussian each in L*a*b*, fitted to this face and refitted twice to what they find). Where lips and skin do not
differ in colour, the outline alone decides. Between the lips and at their rim single colours are taken out: teeth, hair.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from visagist.makeup.mouth import Mouth
from visagist.photo.blend import Mask
from visagist.photo.window import Window

EDGE = (0.010, 0.018)  # softness of the outline in mouth widths, without and with help from colours
REACH = 0.07  # how far colours may move the outline outwards
GAP = 0.02  # the mask rises from 0 to 1 over so much beside the opening, all of it outside the opening
OPEN = (0.02, 0.03)  # a mouth is closed below the first, open from the second opening on
MOST = 4.0  # largest say of a colour: log of how much likelier lip is than skin


@dataclass(frozen=True, eq=False)
class Matte:
    """values float32 [h, w], 0..1, in pixels of the mouth's view; `sure` 0..1 says how well colours told lips from skin."""

    mouth: Mouth
    values: np.ndarray
    sure: float

    def seen_through(self, window: Window) -> np.ndarray:
        """The matte in another window of the photo: float32 [h, w]."""
        back = self.mouth.view.inverse
        between = window.matrix[:, :2] @ back
        between[:, 2] += window.matrix[:, 2]
        seen: np.ndarray = Window(between, window.size).cut(self.values, border=(0.0,))
        return seen

    def mask(self) -> Mask:
        """The mask in photo pixels. It is 0 on the border of the mouth's box and outside, in the line of pixels inside it too,
        unless colours say surely that lips go on there."""
        mouth = self.mouth
        rows, columns = mouth.region
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return Mask(np.zeros((0, 0), np.float32))
        moved = np.array([[1.0, 0, -columns.start], [0, 1.0, -rows.start]])
        values = self.seen_through(Window(moved, (rows.stop - rows.start, columns.stop - columns.start)))
        inside = mouth.inside((rows, columns), self.sure * REACH * mouth.width)
        values *= np.clip((inside - 1) / max(3.0, 0.02 * mouth.width), 0, 1)
        values[values < 1 / 512] = 0
        found = Mask.of(values)
        return Mask(found.values, found.y0 + rows.start, found.x0 + columns.start)


def find(mouth: Mouth, pixels: np.ndarray) -> Matte:
    """The lips of a mouth in a photo uint8 [H, W, 3]."""
    within, beside = mouth.depths()
    lab = _colours(mouth, pixels)
    known = _known(mouth)
    lips = (within > 0.025) & (beside > 0.02) & known
    skin = (within < -0.03) & (within > -0.2) & known
    sure, says = 0.0, np.zeros_like(within)
    if lips.sum() >= 20 and skin.sum() >= 20:
        sure, says = _judged(lab, within, beside, lips, skin)
    slope = EDGE[0] + sure * (EDGE[1] - EDGE[0])
    values = _sigmoid(within / slope + sure * says)
    values = cv2.GaussianBlur(values, (0, 0), 0.006 * mouth.unit)
    values = np.clip((values - 0.04) / 0.92, 0, 1) * _step(within, -REACH - 0.03, -REACH)
    opened = float(_step(np.array(mouth.opening), *OPEN))
    if mouth.inner is not None and opened > 0:
        values *= 1 - opened * (1 - _step(beside, 0, GAP))
    if lips.sum() >= 20:
        values *= 1 - _foreign(lab, np.median(lab[lips], 0), within, beside)
    return Matte(mouth, values.astype(np.float32), sure)


def _colours(mouth: Mouth, pixels: np.ndarray) -> np.ndarray:
    """The view in L*a*b*, slightly smoothed: float32 [h, w, 3], L 0..100."""
    seen = mouth.view.cut(pixels).astype(np.float32) / 255
    seen = cv2.GaussianBlur(seen, (0, 0), max(0.006 * mouth.unit, 0.8))
    lab: np.ndarray = cv2.cvtColor(seen, cv2.COLOR_RGB2LAB)
    return lab


def _known(mouth: Mouth) -> np.ndarray:
    """Which pixels of the view lie in the photo: bool [h, w]."""
    height, width = mouth.view.size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    places = mouth.view.to_photo(np.stack([x, y], -1))
    return np.asarray(((places > 0) & (places < mouth.size[::-1])).all(-1))


def _judged(
    lab: np.ndarray, within: np.ndarray, beside: np.ndarray, lips: np.ndarray, skin: np.ndarray
) -> tuple[float, np.ndarray]:
    """How well colours tell lips from skin, 0..1, and what they say: log-likelihood ratios clipped to +-MOST."""
    near = (within > -0.2) & (beside > 0.01)
    of_lips, of_skin = lips.astype(np.float32), skin.astype(np.float32)
    sure, says = 0.0, np.zeros_like(within)
    for _ in range(3):
        says = np.clip(_log_density(lab, of_lips) - _log_density(lab, of_skin), -MOST, MOST).astype(np.float32)
        told = float((says[lips] > 0.5).mean() + (says[skin] < -0.5).mean() - 1)
        sure = float(_step(np.array(told), 0.2, 0.7))
        lip = _sigmoid(within / EDGE[1] + sure * says) * near
        of_lips = np.where(within > -REACH, lip, 0)
        of_skin = np.where(within < 0.05, 1 - lip, 0) * (within > -0.2) * (skin | (within > -0.03))
    return sure, says


def _log_density(lab: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """log of the Gaussian fitted to the weighted colours, at every pixel: float32 [h, w], up to a constant."""
    flat, w = lab.reshape(-1, 3), weights.reshape(-1, 1) / max(float(weights.sum()), 1e-6)
    mean = (w * flat).sum(0)
    centred = flat - mean
    cov = (w * centred).T @ centred + np.diag([16.0, 4.0, 4.0])  # nothing in a photo is purer than that
    distance = (centred @ np.linalg.inv(cov) * centred).sum(1)
    return np.asarray(-0.5 * (distance + np.log(np.linalg.det(cov))), np.float32).reshape(weights.shape)


def _foreign(lab: np.ndarray, lip: np.ndarray, within: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """How surely pixels are teeth beside the opening or hair at the rim, 0..1; `lip` is the lips' median colour."""
    lighter, paler = lab[..., 0] - lip[0], lip[1] - lab[..., 1]
    teeth = _step(lighter, 3, 12) * _step(paler, 4, 10) * (1 - _step(beside, 0.03, 0.10))
    hair = _step(-lighter, 10, 24) * _step(paler, 3, 8) * (1 - _step(within, 0.04, 0.10))
    return np.maximum(teeth, hair)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-np.clip(x, -30, 30)))).astype(np.float32)


def _step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below low, 1 above high, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
