"""The inside of a turned face: where each of its pixels lies in the photo, and what to show where the photo does not say.

Paper   Hassner, Harel, Paz, Enbar: Effective Face Frontalization in Unconstrained Images. CVPR 2015 (soft symmetry).
Input   a head as it stands in the photo and as it shall stand, both drawn (`head.render`).
Output  places in the photo; a layer of colours in which hidden skin comes from the other cheek, and an opened mouth is dark inside.
Differs What the other cheek lends is shifted in colour so that it meets the skin at the seam (Perez et al.: Poisson Image Editing,
        2003), because two cheeks are seldom lit alike. Eyes are never mirrored: a squint would become two.
Read    Inner (places, softened or completed, mirrored), then `opened`.

Eye openings, the mouth's slit and skin that neither cheek shows are filled in harmonically between what is known; for such skin the
colours of a texture basis (`head.texture`) are better than that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from visagist.head.morphable import EYES, Morphable
from visagist.head.render import Raster, harmonic

DEEP = 0.09  # by so much, in distances between the eyes, a place may lie behind what is seen there and still count as seen
GRAZING = 0.33  # cosine to the photo's view below which skin is too foreshortened to be copied...
ALIKE = 0.9  # ...unless the new view sees it nearly as foreshortened: so much of that cosine, less...
SLACK = 0.02  # ...this, is enough
FADING = 0.07  # over so much of the cosine skin passes from copied to replaced, so that nothing jumps as a head turns
NEARER = 0.1  # what is none of the face is replaced where the new view sees its place by so much of the cosine more squarely...
LOW = 0.3  # ...and so far below the eyes, in distances between them; less of it before
LACKING = 0.01  # share of the face that must be hidden before the other cheek is asked; fully from twice that on
SOFT = 0.06  # stretched skin is blurred by so much, beginning so far from where it is seen, in distances between the eyes
SEAM = 0.12  # width of the band along which both cheeks are compared, in distances between the eyes
DOUBT = 45.0  # difference of colours (of 255 each, root of squares) that two pictures of the same skin hardly have
AROUND_EYES = 0.4  # so far about an eye's centre nothing is mirrored, in distances between the eyes
OPENED = 0.04  # by so much, in distances between the eyes, lips must part before the mouth's inside shows
WIDE = 0.06  # lips that stand so far apart in the photo show an inside of their own


@dataclass(frozen=True, eq=False)
class Inner:
    """now [N, 3]: the vertices as placed in the photo; facing, then_facing [N]: cosines of their normals to its view and to the new
    one; source, target: the face drawn there and in the new pose; apart: the distance between the eyes of the mean face in pixels;
    photo [2, 2]: where the photo begins and ends, x and y, if its border cuts the face; foreign [H, W]: how far the photo's pixels
    are none of the face, 0..1 (`rotate.foreign`).
    """

    model: Morphable
    now: np.ndarray
    facing: np.ndarray
    then_facing: np.ndarray
    source: Raster
    target: Raster
    apart: float
    photo: np.ndarray | None = None
    foreign: np.ndarray | None = None

    def _looked_up(self, order: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """For each pixel of the turned face its place in the photo, float32 [H, W, 2], and how far the photo shows it, float32
        [H, W], 0..1; `order`: of other vertices instead of its own."""
        values = np.concatenate([self.now, self.facing[:, None]], axis=1)
        seen = self.target.spread(values if order is None else values[order])
        where, depth, cosine = seen[..., :2], seen[..., 2], seen[..., 3]
        needed: np.ndarray | float = GRAZING + FADING  # what is lent has to be better than what it replaces
        nearer: np.ndarray | float = 1.0
        if order is None:  # what both views see at the same slant is never replaced
            then = self.target.spread(self.then_facing[:, None])[..., 0]
            needed = np.minimum(GRAZING, then - (1 - ALIKE) * np.abs(then) - SLACK)  # normals within lips look away from both
            nearer = np.clip((then - cosine) / NEARER, 0, 1)
        shown = np.clip(1 - (needed - cosine) / FADING, 0, 1)
        if self.foreign is not None:
            shown *= 1 - nearer * self._below * _sample(self.foreign, where)
        nearest = _sample(np.where(self.source.covered, self.source.depth, np.inf).astype(np.float32), where)
        shown[(depth > nearest + DEEP * self.apart) | self._beyond(where)] = 0
        shown[~self.target.covered] = 1  # speckles are taken away, not what is narrow between an opening and the rim
        return where, self.target.covered * cv2.morphologyEx(shown.astype(np.float32), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))

    @cached_property
    def _below(self) -> np.ndarray:
        """0 above the eyes of the turned face, 1 well below them, float32 [H, W]: hair over the temples stays."""
        height, marks = self.model.mean[:, 1] / self.model.apart, self.model.landmarks
        eyes = np.mean([height[marks[eye]].mean() for eye in EYES])
        below: np.ndarray = self.target.spread(np.clip((eyes - height) / LOW, 0, 1)[:, None])[..., 0]
        return below

    def _beyond(self, where: np.ndarray) -> np.ndarray:
        """Which places [H, W, 2] the photo's border cuts off, bool [H, W]."""
        if self.photo is None:
            return np.zeros(where.shape[:2], bool)
        outside: np.ndarray = ((where < self.photo[0] + 0.5) | (where > self.photo[1] - 0.5)).any(2)
        return outside

    @cached_property
    def _cut(self) -> np.ndarray:
        """Pixels of the whole turned face, openings too, that lie beyond the photo's border, bool [H, W]."""
        if self.photo is None:
            return np.zeros(self.target.covered.shape, bool)
        own = centres(self.target.covered.shape)
        return self._beyond(own + harmonic(self._own[0] - own, self.target.covered)) & whole(self.target.covered)

    @cached_property
    def _own(self) -> tuple[np.ndarray, np.ndarray]:
        return self._looked_up()

    @property
    def shown(self) -> np.ndarray:
        """How far the photo shows each pixel of the turned face, float32 [H, W], 0..1."""
        return self._own[1]

    @property
    def known(self) -> np.ndarray:
        """Which pixels of the turned face the photo shows well, bool [H, W]."""
        return self.shown == 1

    @cached_property
    def hidden(self) -> np.ndarray:
        """How far the pixels of the turned face are to be replaced, float32 [H, W], 0..1; less of it where only little of the whole
        face is: then it is hardly seen, and nothing shall jump when a turning head begins to hide something."""
        lacking = self.target.covered * (1 - self.shown)
        share = float(lacking.sum()) / max(int(self.target.covered.sum()), 1)
        return lacking * np.float32(np.clip(share / LACKING - 1, 0, 1))

    def places(self) -> np.ndarray:
        """Where in the photo each pixel is taken from, float32 [H, W, 2]: what is hidden is continued.

        Places and not ways are continued: hidden skin is stretched from where skin ends, not taken from behind the face. Openings
        and what lies beside the face are continued by ways, so that a face that hardly turns hardly changes.
        """
        where, shown = self._own
        covered = self.target.covered
        if not self.known.any():
            return where
        stretched = where + (1 - shown)[..., None] * (harmonic(where, self.known) - where)
        own = centres(covered.shape)
        placed: np.ndarray = own + harmonic(stretched - own, covered)
        return placed

    def softened(self, layer: np.ndarray) -> np.ndarray:
        """The layer float32 [h, w, 3], blurred where hidden skin is stretched so far that it would show streaks."""
        if not self.hidden.any():
            return layer
        full = layer.shape[1], layer.shape[0]
        deep = cv2.distanceTransform((self.hidden > 0).astype(np.uint8), cv2.DIST_L2, 3)
        weight = np.clip(deep / max(SOFT * self.apart, 1.0), 0, 1) * self.hidden
        weight = cv2.resize(weight, full, interpolation=cv2.INTER_LINEAR)
        smooth = cv2.GaussianBlur(layer, (0, 0), max(0.5, SOFT * self.apart * full[0] / deep.shape[1]))
        mixed: np.ndarray = layer + weight[..., None] * (smooth - layer)
        return mixed

    def mirrored(self, layer: np.ndarray, moved: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The layer float32 [h, w, 3] with skin that the photo hides lent by the other cheek, where the photo shows that.

        moved  gives the photo's colours [h, w, 3] for places [H, W, 2]
        """
        if not self.hidden.any():
            return layer
        where, there = self._looked_up(self.model.mirror)
        lent = self.hidden * there * ~self._eyes()
        lent = cv2.morphologyEx(lent, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        if not lent.any():
            return layer
        where = harmonic(where, there > 0)
        lent[self._cut & ~self.target.covered & ~self._beyond(where)] = 1  # of an eye that is not in the photo, too
        return self._laid(layer, moved(where), lent, self.known & (there == 1))

    def completed(self, layer: np.ndarray, colours: np.ndarray) -> np.ndarray:
        """The layer float32 [h, w, 3] with hidden skin in these colours of the vertices, float [N, 3]; less of them where what is
        seen beside it has quite another colour, as hair has."""
        hidden = self.hidden * ~self._eyes()
        if not hidden.any():
            return layer
        filled = self.target.spread(colours)
        filled = cv2.resize(harmonic(filled, self.target.covered), (layer.shape[1], layer.shape[0]), interpolation=cv2.INTER_LINEAR)
        return self._laid(layer, filled, hidden, self.known, doubt=DOUBT)

    def _laid(
        self, layer: np.ndarray, other: np.ndarray, where: np.ndarray, both: np.ndarray, *, doubt: float = np.inf
    ) -> np.ndarray:
        """The layer with the other [h, w, 3] laid over it as far as `where` says, float32 [H, W]; shifted in colour so that the two
        meet at the seam, for which pixels serve where both are known, bool [H, W]. Shifts beyond `doubt`: they show different
        things."""
        reach = max(2, round(SEAM * self.apart))
        near = cv2.dilate((where > 0).astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
        band = (near > 0) & both
        if not band.any():
            return layer
        small, full = where.shape[::-1], (layer.shape[1], layer.shape[0])
        unlike = cv2.resize(layer - other, small, interpolation=cv2.INTER_AREA)
        shift = harmonic(cv2.GaussianBlur(unlike, (0, 0), max(1.0, reach / 4)), band)
        weight = cv2.GaussianBlur(where, (0, 0), max(1.0, reach / 4))
        shift, weight = (cv2.resize(one, full, interpolation=cv2.INTER_LINEAR) for one in (shift, weight))
        weight = weight * np.exp(-np.square(shift).sum(2) / doubt**2)
        mixed: np.ndarray = layer + weight[..., None] * (other + shift - layer)
        return mixed

    def _eyes(self) -> np.ndarray:
        """Pixels about the eyes of the turned face, bool [H, W]; not of an eye that the photo's border cuts off."""
        mean, marks = self.model.mean[:, :2], self.model.landmarks
        far = np.min([np.linalg.norm(mean - mean[marks[eye]].mean(0), axis=1) for eye in EYES], axis=0)
        near: np.ndarray = self.target.spread((far < AROUND_EYES * self.model.apart).astype(np.float32)[:, None])[..., 0] > 0
        return near & ~self._cut


def opened(
    layer: np.ndarray, model: Morphable, before: np.ndarray, after: np.ndarray, then: np.ndarray, target: Raster
) -> np.ndarray:
    """The layer float32 [h, w, 3] with a dark inside where lips part that were closed in the photo.

    before, after  the face [N, 3] in the photo's expression and in the new one; then: its vertices as placed in the target's
    pixels, of which the layer may have more
    """
    was, gap = (parted(model, face) / model.apart for face in (before, after))
    strength = float(np.clip((gap - was - OPENED) / OPENED, 0, 1) * np.clip((WIDE - was) / (0.5 * WIDE), 0, 1))
    if strength == 0:
        return layer
    hole = np.zeros(target.triangle.shape, np.uint8)
    rim = then[model.landmarks[60:68], :2]
    cv2.fillPoly(hole, [np.rint((rim - 0.5) * 16).astype(np.int32)], 1, cv2.LINE_8, shift=4)
    hole &= ~target.covered
    if not hole.any():
        return layer
    full = layer.shape[1], layer.shape[0]
    deep = cv2.distanceTransform(hole, cv2.DIST_L2, 3)
    weight = cv2.resize(np.clip(deep / max(float(deep.max()) * 0.35, 1.0), 0, 1), full, interpolation=cv2.INTER_LINEAR)
    lips = np.rint(then[model.landmarks[48:60], :2] * np.array(full) / target.triangle.shape[::-1]).astype(int)
    lips = lips[(lips >= 0).all(1) & (lips < full).all(1)]
    colour = np.median(layer[lips[:, 1], lips[:, 0]], axis=0) if len(lips) else np.full(3, 120.0)
    dark = colour * np.array([0.26, 0.16, 0.17], np.float32)
    mixed: np.ndarray = layer + (strength * weight)[..., None] * (dark.astype(np.float32) - layer)
    return mixed


def parted(model: Morphable, face: np.ndarray) -> float:
    """How far the lips' inner rims stand apart, in units of the model."""
    rim = face[model.landmarks[60:68]]
    return float(np.linalg.norm(rim[[1, 2, 3]] - rim[[7, 6, 5]], axis=1).mean())


def whole(covered: np.ndarray) -> np.ndarray:
    """The face without its openings: everything within its outermost outline, bool [H, W]."""
    outlines, _ = cv2.findContours(covered.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(covered.shape, np.uint8)
    if outlines:
        cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return filled > 0


def centres(size: tuple[int, ...]) -> np.ndarray:
    """Places of the pixels' centres, float32 [H, W, 2]."""
    return np.stack(np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5), axis=2).astype(np.float32)


def _sample(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The pixels [H, W] nearest to these places [H, W, 2]."""
    x = np.clip(np.floor(where[..., 0]), 0, picture.shape[1] - 1).astype(int)
    y = np.clip(np.floor(where[..., 1]), 0, picture.shape[0] - 1).astype(int)
    sampled: np.ndarray = picture[y, x]
    return sampled
