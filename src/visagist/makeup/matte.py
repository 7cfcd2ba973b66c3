"""Where the lips are, pixel by pixel: the outlines by the points, corrected by the colours. NumPy and OpenCV only.

Points are wrong by some hundredths of a mouth's width, and lips are not much thicker than that. So the colours of these lips and
of the skin around them are learnt from this face (a Gaussian each in L*a*b*, fitted again to what they find), and the outer
outline moves to where one becomes the other (`outline.py`); so does the inner one between lips and what shows between them.
Where colours do not differ, the points decide alone. Single pixels are taken out that are teeth beside the opening or hair.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from visagist.makeup.mouth import Mouth
from visagist.makeup.outline import shifts
from visagist.photo.blend import Mask
from visagist.photo.window import Window

EDGE = 0.010  # softness of the outline in mouth widths
REACH = 0.07  # how far colours may move the outer outline
REACH_IN = 0.035  # and the inner one, of which little inwards:
SPARED = 0.08  # the part of the opening, by the points, that colours may turn into lips
GAP = 0.013  # the mask rises from 0 to 1 over so much beside the opening, all of it outside the opening
OPEN = (0.02, 0.03)  # a mouth is closed below the first, open from the second opening on
MOST = 4.0  # largest say of a colour: log of how much likelier lip is than skin


@dataclass(frozen=True, eq=False)
class Matte:
    """values float32 [h, w], 0..1, in pixels of the mouth's view.

    sure     0..1, how well colours told lips from skin
    differs  [3], colour of the lips minus that of the skin in L*a*b* (medians)
    """

    mouth: Mouth
    values: np.ndarray
    sure: float
    differs: np.ndarray

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
    outer, inner = mouth.outlines()
    within = mouth.depth(outer)
    opened = 0.0 if inner is None else float(_step(np.array(mouth.opening), *OPEN))
    if inner is None:
        between = np.full_like(within, -9)
    else:  # by the straight lines between the points too, so that nothing between them is painted
        between = mouth.depth(inner, mouth.view.to_window(mouth.inner))  # type: ignore[arg-type]
    lab = _colours(mouth, pixels)
    known = _known(mouth)
    skin = (within < -0.03) & (within > -0.2) & known
    lab = _evenly_lit(lab, skin)
    doubted = None
    if opened > 0 and _mostly_lips(lab, (between > 0) & known, (within > 0.01) & (between < -0.01) & known, skin):
        doubted, inner, opened, between = between, None, 0.0, np.full_like(within, -9)
    lips = (within > 0.025) & (between < -0.02) & known
    sure, says = 0.0, np.zeros_like(within)
    if min(lips.sum(), skin.sum()) >= 20:
        sure, says = _judged(lab, within, between, lips, skin)
    if sure > 0:
        by, outwards = shifts(outer, says * sure, REACH * mouth.unit)
        within = mouth.depth(outer + by[:, None] * outwards)
    values = _sigmoid(within / EDGE + 0.3 * sure * says) * _step(within, -0.05, -0.02)
    values = cv2.GaussianBlur(values, (0, 0), 0.005 * mouth.unit)
    values = np.clip((values - 0.03) / 0.94, 0, 1)
    if inner is not None and opened > 0:
        values = _spared(mouth, values, lab, inner, between, lips & known, opened)
    if lips.sum() >= 20:
        lip = np.median(lab[lips], 0)
        values *= 1 - _foreign(lab, lip, within, -(between if doubted is None else doubted))
        if doubted is not None:  # then single pixels in it must look like lips
            values *= 1 - _step(doubted, -0.03, 0.01) * np.maximum(
                _step(lip[1] - lab[..., 1], 4, 10), _step(lip[0] - lab[..., 0], 14, 26)
            )
    painted = values > 0.8
    differs = np.median(lab[painted], 0) - np.median(lab[skin], 0) if min(painted.sum(), skin.sum()) >= 20 else np.zeros(3)
    return Matte(mouth, values.astype(np.float32), sure, differs)


def _spared(
    mouth: Mouth, values: np.ndarray, lab: np.ndarray, inner: np.ndarray, between: np.ndarray, lips: np.ndarray, opened: float
) -> np.ndarray:
    """The mask without the opening between the lips, whose outline the colours may correct."""
    inside = between > 0
    shown = inside & (between > 0.015)
    best = values * (1 - opened * (1 - _step(-between, 0, GAP)))
    if min(shown.sum(), lips.sum()) < 20:
        return best
    # what shows is dark or bright, and never the mean of both; lips in the shade of the upper one are lips still
    light = lab[..., 0] > (lab[shown][:, 0].max() + lab[shown][:, 0].min()) / 2
    kinds = [kind for kind in (shown & light, shown & ~light) if kind.sum() >= 20] or [shown]
    parts = [_log_density(lab, k.astype(np.float32)) + np.log(k.sum() / shown.sum()) for k in kinds]
    says = np.max(parts, 0) - _log_density(lab, lips.astype(np.float32), least=(64.0, 9.0, 9.0))
    says = np.clip(says, -MOST, MOST).astype(np.float32)
    told = float((says[shown] > 0.5).mean() + (says[lips] < -0.5).mean() - 1)
    sure = float(_step(np.array(told), 0.2, 0.7))
    if sure == 0:
        return best
    by, outwards = shifts(inner, says * sure, REACH_IN * mouth.unit)
    allowed = SPARED * float(values[lips].mean())
    for part in (1.0, 0.5, 0.25, 0.0):  # of the way inwards
        moved = mouth.depth(inner + np.where(by < 0, part * by, by)[:, None] * outwards)
        found: np.ndarray = values * (1 - opened * (1 - _step(-moved, 0, GAP)))
        if float(found[inside].mean()) <= allowed:
            return found
    return np.minimum(found, best)


def _colours(mouth: Mouth, pixels: np.ndarray) -> np.ndarray:
    """The view in L*a*b*, slightly smoothed: float32 [h, w, 3], L 0..100."""
    seen = mouth.view.cut(pixels).astype(np.float32) / 255
    smooth = cv2.GaussianBlur(seen, (0, 0), max(0.006 * mouth.unit, 0.8))
    lab: np.ndarray = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB)
    return lab


def _evenly_lit(lab: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """The colours without what varies smoothly over the skin: light from one side must not make one half of the lips skin."""
    if skin.sum() < 60:
        return lab
    height, width = skin.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x], -1)
    some = np.flatnonzero(skin)[:: max(1, int(skin.sum()) // 4000)]
    a, b = terms.reshape(-1, 4)[some], lab.reshape(-1, 3)[some]
    fits = np.ones(len(some), bool)
    for _ in range(3):  # nostrils, hair and background are no skin: drop what fits worst
        weak = 1e-2 * fits.sum() * np.diag([0, 1, 1, 1])
        found = np.linalg.solve(a[fits].T @ a[fits] + weak, a[fits].T @ b[fits]).astype(np.float32)
        left = np.abs(b - a @ found).sum(-1)
        fits = left <= np.percentile(left, 80)
    trend = terms @ found
    level: np.ndarray = (lab - trend + (a @ found).mean(0)).astype(np.float32)
    return level


def _known(mouth: Mouth) -> np.ndarray:
    """Which pixels of the view lie in the photo: bool [h, w]."""
    height, width = mouth.view.size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    places = mouth.view.to_photo(np.stack([x, y], -1))
    return np.asarray(((places > 0) & (places < mouth.size[::-1])).all(-1))


def _mostly_lips(lab: np.ndarray, shown: np.ndarray, lips: np.ndarray, skin: np.ndarray) -> bool:
    """Whether what the points call the opening is lip for the most part: as red as the lips, redder than the skin, not dark.

    Points see an opening between closed lips now and then, under beards above all. Of openings that were there, with teeth or
    a dark mouth in them, at most 3 pixels in 10 looked so, of mistaken ones more than 5.
    """
    if min(shown.sum(), lips.sum(), skin.sum()) < 20:
        return False
    inside, lip, around = lab[shown], np.median(lab[lips], 0), np.median(lab[skin], 0)
    like = (inside[:, 0] > lip[0] - 15) & (inside[:, 1] > lip[1] - 2)
    return bool(np.median(inside[:, 1]) > around[1] + 3 and like.mean() > 0.5)


def _judged(
    lab: np.ndarray, within: np.ndarray, between: np.ndarray, lips: np.ndarray, skin: np.ndarray
) -> tuple[float, np.ndarray]:
    """How well colours tell lips from skin, 0..1, and what they say: log-likelihood ratios clipped to +-MOST."""
    near = (within > -0.2) & (between < -0.01)
    of_lips, of_skin = lips.astype(np.float32), skin.astype(np.float32)
    sure, says = 0.0, np.zeros_like(within)
    for _ in range(3):
        says = np.clip(_log_density(lab, of_lips) - _log_density(lab, of_skin), -MOST, MOST).astype(np.float32)
        told = float((says[lips] > 0.5).mean() + (says[skin] < -0.5).mean() - 1)
        sure = float(_step(np.array(told), 0.2, 0.7))
        lip = _sigmoid(within / 0.018 + sure * says) * near
        of_lips = np.where(within > -REACH, lip, 0)
        of_skin = np.where(within < 0.05, 1 - lip, 0) * (within > -0.2) * (skin | (within > -0.03))
    return sure, says


def _log_density(lab: np.ndarray, weights: np.ndarray, least: tuple[float, float, float] = (16.0, 4.0, 4.0)) -> np.ndarray:
    """log of the Gaussian fitted to the weighted colours, at every pixel: float32 [h, w], up to a constant.

    least  is added to the variances: nothing in a photo is of one colour
    """
    flat, w = lab.reshape(-1, 3), weights.reshape(-1) / max(float(weights.sum()), 1e-6)
    centred = flat - w @ flat
    cov = (centred * w[:, None]).T @ centred + np.diag(least)
    whitened = centred @ np.linalg.cholesky(np.linalg.inv(cov)).astype(np.float32)
    distance = np.einsum("ij,ij->i", whitened, whitened)
    return np.asarray(-0.5 * (distance + np.log(np.linalg.det(cov))), np.float32).reshape(weights.shape)


def _foreign(lab: np.ndarray, lip: np.ndarray, within: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """How surely pixels are teeth beside the opening or hair at the rim, 0..1; `lip` is the lips' median colour."""
    lighter, paler = lab[..., 0] - lip[0], lip[1] - lab[..., 1]
    teeth = _step(lighter, 3, 12) * _step(paler, 4, 10) * (1 - _step(beside, 0.015, 0.045))
    hair = _step(-lighter, 10, 24) * _step(paler, 3, 8) * (1 - _step(within, 0.04, 0.10))
    return np.maximum(teeth, hair)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-np.clip(x, -30, 30)))).astype(np.float32)


def _step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below low, 1 above high, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
