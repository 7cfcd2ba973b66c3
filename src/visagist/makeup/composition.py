"""From a painted crop of 30 x 90 pixels to lips in a photo of any size. NumPy and OpenCV only.

Scaling the network's picture up would blur the lips, and even its difference to the crop fades towards the edge of the lips,
where one pixel of the crop is half skin. What the network did is therefore read as a map of colours: around every place of the
mouth, the affine map lip colour -> change of colour that fits what it did to the lip pixels nearby, and only to those. The map
varies slowly and is evaluated at the photo's own pixels, so that every crease and highlight is painted as its colour asks,
up to the outline, and nothing of the skin's or the teeth's change gets in. (The idea of guided filtering: He, Sun and Tang, 2013;
Chen, Adams, Wadhwa and Hasinoff, "Bilateral guided upsampling", 2016.)
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from visagist.makeup import matte as mattes
from visagist.makeup import tint as tints
from visagist.makeup.mouth import Mouth
from visagist.photo.blend import Mask
from visagist.photo.window import Window

NEARBY = 8.0  # standard deviation, in pixels of the crop, of what counts as nearby
GENERAL = 0.05  # weight of the whole mouth in every local fit
USUAL = np.array([-10.0, 13.0, 0.0])  # lips minus skin in L*a*b*, median of the training mouths
STIFF = 10.0**2  # grey levels squared: colour differences below 10 hardly steer the map, so that noise is not amplified


def paint(pixels: np.ndarray, mouth: Mouth, network: Callable[[np.ndarray], np.ndarray], strength: float) -> None:
    """Paint a mouth as a network does; changes pixels uint8 [H, W, 3].

    network  takes the crop and gives it painted, float32 [30, 90, 3] in 0..255
    """
    matte = mattes.find(mouth, pixels)
    mask = matte.mask()
    crop = mouth.crop.cut(pixels).astype(np.float32)
    weights = matte.seen_through(mouth.crop)
    if mask.empty or weights.max() <= 0:
        return
    shown = as_lips(crop, weights, matte.differs)
    change = network(shown) - shown
    slope, shift, low, high = colour_map(crop, change, np.clip(2 * weights - 1, 0, 1) + 1e-3 * weights)
    region = pixels[mask.region].astype(np.float32)
    within = Window(_shifted(mouth.crop.inverse, mask), region.shape[:2])
    colours = np.clip(region, low, high)  # beyond the colours that were seen the change is held
    laid = within.cut(shift)
    for channel in range(3):
        laid += within.cut(np.ascontiguousarray(slope[..., channel, :])) * colours[..., channel, None]
    _lay(pixels, mask, laid, strength)


def as_lips(crop: np.ndarray, weights: np.ndarray, differs: np.ndarray) -> np.ndarray:
    """The crop with its lips as distinct from skin as those the networks learnt from: float32 [h, w, 3] in 0..255.

    A network that sees 7 x 7 pixels cannot know that pale lips are lips: of colours between lips and skin it makes half-painted
    ones. We know, so it is asked about the same lips a little redder and darker; what it changes there, is changed here.

    weights  float [h, w], how much of a pixel is lip; differs [3]: by how much the lips differ from the skin in L*a*b*
    """
    missing = np.clip(USUAL - differs, (-10.0, 0.0, 0.0), (0.0, 12.0, 0.0)).astype(np.float32)
    if not missing.any():
        return crop
    lab = cv2.cvtColor(crop / np.float32(255), cv2.COLOR_RGB2LAB) + weights[..., None] * missing
    shown: np.ndarray = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.clip(shown, 0, 1) * np.float32(255)


def tint(pixels: np.ndarray, mouth: Mouth, shade: np.ndarray, strength: float) -> None:
    """Paint a mouth in a shade uint8 [3]; changes pixels uint8 [H, W, 3]."""
    mask = mattes.find(mouth, pixels).mask()
    if mask.empty:
        return
    region = pixels[mask.region]
    _lay(pixels, mask, tints.painted(region, mask.values, shade) - region, strength)


def colour_map(crop: np.ndarray, change: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For every place of the crop the affine map colour -> change, fitted by weighted least squares to the pixels nearby.

    crop, change float32 [h, w, 3]; weights float32 [h, w], 0 where a pixel does not count.
    Returns slope [h, w, 3 (colour), 3 (change)], shift [h, w, 3], and the lowest and highest colour [3] that counted:
    change = shift + colour @ slope.
    """
    w = (weights / max(float(weights.sum()), 1e-6) * weights.size).astype(np.float32)  # mean 1
    height, width = weights.shape

    def near(values: np.ndarray) -> np.ndarray:
        """Weighted mean around every place, [h, w, C]."""
        weighted = values * w[..., None]
        parts = [cv2.GaussianBlur(np.ascontiguousarray(p), (0, 0), NEARBY).reshape(height, width, -1) for p in _by_four(weighted)]
        out: np.ndarray = np.concatenate(parts, -1) + GENERAL * weighted.mean((0, 1))
        return out

    amount = near(np.ones((height, width, 1), np.float32))
    mean_colour, mean_change = near(crop) / amount, near(change) / amount
    products = crop[..., :, None] * np.concatenate([crop, change], -1)[..., None, :]  # [h, w, 3, 6]
    moments = (near(products.reshape(height, width, 18)) / amount).reshape(height, width, 3, 6)
    spread = moments - mean_colour[..., :, None] * np.concatenate([mean_colour, mean_change], -1)[..., None, :]
    slope = np.linalg.solve(spread[..., :3].astype(np.float64) + STIFF * np.eye(3), spread[..., 3:].astype(np.float64))
    slope = slope.astype(np.float32)
    shift = mean_change - (mean_colour[..., None, :] @ slope)[..., 0, :]
    seen = crop[weights > 0.5 * float(weights.max())]
    low, high = np.percentile(seen, 2, axis=0), np.percentile(seen, 98, axis=0)
    return slope, shift.astype(np.float32), low.astype(np.float32), high.astype(np.float32)


def _by_four(values: np.ndarray) -> list[np.ndarray]:
    """OpenCV filters up to four channels at once quickly."""
    return [values[..., i : i + 4] for i in range(0, values.shape[-1], 4)]


def _shifted(inverse: np.ndarray, mask: Mask) -> np.ndarray:
    """The map crop -> photo as a map crop -> region of the mask."""
    moved: np.ndarray = inverse.copy()
    moved[:, 2] -= (mask.x0, mask.y0)
    return moved


def _lay(pixels: np.ndarray, mask: Mask, change: np.ndarray, strength: float) -> None:
    """Add strength x mask x change; pixels where the mask is 0 are not touched."""
    region = pixels[mask.region]
    changed = np.clip(np.rint(region + (strength * mask.values)[..., None] * change), 0, 255).astype(np.uint8)
    pixels[mask.region] = np.where(mask.values[..., None] > 0, changed, region)
