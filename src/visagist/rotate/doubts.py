"""What of a photo makes a turned face doubtful: points that no head fits well, a mouth wide open, a cutting border, dark glasses.

    doubts(model, found, pixels)     # ("the mouth stands wide open, ...",)

They are told by the fit's error, by the gap between the fitted lips, by vertices that lie beyond the photo, and by skin about the
eyes that is much darker than the cheeks: not all dark glasses are found, but hardly anything else is taken for them.
"""

from __future__ import annotations

import numpy as np

from visagist.head.fit import Fit
from visagist.head.light import LUMINANCE, linear
from visagist.head.morphable import EYES, Morphable
from visagist.head.texture import sampled
from visagist.rotate.inner import parted

BAD = 0.08  # error of a fit, in distances between the eyes, above which heads come out wrong; a usual one is 0.02
WIDE_OPEN = 0.27  # gap between the lips, in distances between the eyes; a jaw wholly open leaves 0.53 to 0.67
TOO_WIDE = 0.70  # no jaw opens so far
DARK = (
    0.6  # skin about the eyes so much darker than the cheeks, in linear light, is behind dark glass; paint and shadow leave 0.8...
)
BRIGHTER = 85  # ...where the brighter parts of it are compared: percentile
LIDS = (0.08, 0.26, -0.30)  # about an eye's centre from, to, and at most so far below it, in distances between the eyes
CHEEKS = (0.20, 0.75, -0.75, -0.42)  # to the side of the nose from, to; below the eyes from, to
CUT = 0.02  # share of the vertices beyond the photo's border from which on that is told
FEW = 20  # vertices that say nothing


def doubts(model: Morphable, found: Fit, pixels: np.ndarray | None = None, to: Fit | None = None) -> tuple[str, ...]:
    """What to expect of this head when it is turned or relit, one sentence each; without the photo uint8 [H, W, 3] nothing is said
    of glasses and borders. to: what it shall become, if that is doubtful, too."""
    told = []
    if found.error > BAD:
        what = f"the points fit a head badly (error {found.error:.2f}, above {BAD} heads come out wrong)"
        told.append(what)
    if parted(model, model.shape(found.identity, found.expression)) > WIDE_OPEN * model.apart:
        told.append("the mouth stands wide open: in a turned head its inside is stretched, and its far corner may tear")
    if to is not None and parted(model, model.shape(to.identity, to.expression)) > TOO_WIDE * model.apart:
        told.append("the mouth opens wider than a jaw does: expect a caricature, whose points `landmarks` hardly finds")
    if pixels is not None and (share := _beyond(model, found, pixels.shape[:2])) > CUT:
        what = f"the photo's border cuts the face: {share:.0%} of it lies beyond, and is made up where a turned head shows it"
        told.append(what)
    if pixels is not None and _ratio(model, found, pixels) < DARK:
        told.append("the eyes seem to be behind dark glasses, which are worked on as if they were painted on the skin")
    return tuple(told)


def _beyond(model: Morphable, found: Fit, size: tuple[int, int]) -> float:
    """The share of the vertices that lie beyond the border of a photo of this size (height, width), 0..1."""
    at = found.placed(model.shape(found.identity, found.expression))[:, :2]
    return float(((at < 0) | (at > size[::-1])).any(1).mean())


def _ratio(model: Morphable, found: Fit, pixels: np.ndarray) -> float:
    """How bright the skin under the brighter eye is, as a part of the cheeks' brightness; 1 where too little of them is seen."""
    colours, seen = sampled(pixels, model, found)
    bright = linear(colours.astype(np.float32)) @ np.array(LUMINANCE)
    places = model.mean[:, :2] / model.apart
    eyes = [model.mean[model.landmarks[eye], :2].mean(0) / model.apart for eye in EYES]
    side, below = np.abs(places[:, 0]), places[:, 1] - eyes[0][1]
    cheeks = seen & (side > CHEEKS[0]) & (side < CHEEKS[1]) & (below > CHEEKS[2]) & (below < CHEEKS[3])
    lids = []
    for eye in eyes:
        far = np.linalg.norm(places - eye, axis=1)
        lids.append(seen & (far > LIDS[0]) & (far < LIDS[1]) & (below < 0) & (below > LIDS[2]))
    lids = [own for own in lids if own.sum() >= FEW]
    if not lids or cheeks.sum() < FEW:
        return 1.0
    usual = float(np.median(bright[cheeks]))
    return max(float(np.percentile(bright[own], BRIGHTER)) for own in lids) / usual if usual > 0 else 1.0
