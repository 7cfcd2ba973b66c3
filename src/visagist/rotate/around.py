"""The rest of a head: where scalp, ears and neck lie about a fitted face, how they are tilted, and which pixels show them.

Paper   Gastal, Oliveira: Domain Transform for Edge-Aware Image and Video Processing. ACM TOG 30(4), 2011 (see `spread`).
Input   a face fitted to the 68 points, the model of a whole bust whose first vertices are that face's, the picture.
Output  Head: the bust in the picture; its normals; a matte of the head.
Read    Head, then `matte`.

The points tell nothing of a skull: the bust that fits the face best is off by up to 2 cm at its outline. So it serves for
directions, which change slowly, and for telling what is surely head or surely not; between the two the picture's edges decide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from visagist.head.fit import Fit
from visagist.head.mesh import normals
from visagist.head.morphable import Morphable
from visagist.head.render import rasterise
from visagist.photo.window import Window
from visagist.rotate.skin import grown
from visagist.rotate.spread import spread

UNSURE = 0.14  # how far the face may lie from the bust's, in model units: it weighs the bust's own coefficients
EVERY = 4  # one of so many vertices is enough to find these
THROAT = 10.0  # what lies further below the model's origin is body, in model units; less so towards the viewer, by...
LEANING = 0.35
LOBES, EARS, WIDE = -1.0, 5.5, 7.15  # heights between which what is further out than that is an ear; below the first is no skull
RIM = 0.8  # so far within its outline a face is surely the face, in model units
DEEP, NEAR = 1.3, 3.0  # as is the skull so deep within the outline of both and so near the face
OUTSIDE = 1.5  # so far beyond the bust's outline nothing is taken for head
REACH, EDGE = 3.0, 0.12  # from either in model units, and the step of the three colours together that counts as far as that
SURE = 0.1  # a share of either class below this counts as none


@dataclass(frozen=True, eq=False)
class Head:
    """placed [N, 3]: the bust as `Fit.placed`; triangles int [F, 3]; which vertices are the skull, and the head: bool [N]."""

    placed: np.ndarray
    triangles: np.ndarray
    skull: np.ndarray
    head: np.ndarray

    @classmethod
    def of(cls, bust: Morphable, model: Morphable, found: Fit) -> Head:
        """The bust whose face comes closest to a fitted one, in pixels of the photo. The bust's first vertices are the model's."""
        face, count = model.shape(found.identity, found.expression), len(model.mean)
        basis = np.concatenate([bust.identity, bust.expression]).astype(np.float64)
        few = np.arange(0, count, EVERY)
        moves = basis[:, few].reshape(len(basis), -1)
        normal = moves @ moves.T + UNSURE**2 * len(few) * np.eye(len(basis))
        weights = np.linalg.solve(normal, moves @ (face - bust.mean[:count])[few].ravel())
        x, y, z = bust.mean.T
        skull = (np.arange(len(bust.mean)) >= count) & (y > LOBES) & ((np.abs(x) < WIDE) | (y > EARS))
        return cls(found.placed(bust.mean + np.tensordot(weights, basis, 1)), bust.triangles, skull, -y - LEANING * z < THROAT)

    def within(self, window: Window) -> Head:
        """The same in a window (without a turn) of the picture."""
        placed = self.placed * window.scale
        placed[:, :2] = window.to_window(self.placed[:, :2])
        return replace(self, placed=placed)

    def drawn(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is seen of it in a picture of this size: unit normals [H, W, 3], x right, y up, z to the viewer, (0, 0, 1) where
        nothing is; where the head is and where the skull is, bool [H, W]."""
        seen = rasterise(self.placed, self.triangles, size)
        turned = normals(self.placed, self.triangles) * (1.0, -1.0, -1.0)
        shown = seen.spread(np.column_stack([turned, self.head, self.skull])).astype(np.float64)
        at = np.where(seen.covered[..., None], shown[..., :3], (0, 0, 1))
        at /= np.maximum(np.linalg.norm(at, axis=2, keepdims=True), 1e-9)
        return at, shown[..., 3] > 0.5, shown[..., 4] > 0.5


def matte(picture: np.ndarray, face: np.ndarray, head: np.ndarray, skull: np.ndarray, unit: float) -> np.ndarray:
    """How far each pixel belongs to the head, [h, w] in 0..1: what is surely head and what is surely not both spread over what
    looks the same, and stop at edges.

    picture  float [h, w, 3] in 0..1, a little blurred
    face, head, skull  bool [h, w]: where model and bust show them; unit: pixels in a unit of the model
    """
    deep = skull & grown(skull | face, -DEEP * unit)
    deep &= cv2.distanceTransform((~face).astype(np.uint8), cv2.DIST_L2, 5) < NEAR * unit
    sure = grown(face, -RIM * unit) | deep
    none = ~grown(head | face, OUTSIDE * unit)
    share, _ = spread(sure.astype(np.float64), sure | none, picture, REACH * unit, EDGE)
    share = np.clip((share - SURE) / (1 - 2 * SURE), 0, 1)
    smooth: np.ndarray = share * share * (3 - 2 * share)
    return smooth
