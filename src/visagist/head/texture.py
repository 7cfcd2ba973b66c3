"""The colours of faces as a linear space, on the vertices of the morphable model; and how they are read off a fitted photo.

    colours, seen = sampled(pixels, model, found)         what a photo shows of each vertex, and which it shows
    colours = unlit(colours, normals, mean, seen)         without the light that the photo was taken in
    texture.completed(colours, seen)                      skin that the photo hides, as faces with such skin have it

Paper   Blanz, Vetter: A Morphable Model for the Synthesis of 3D Faces. SIGGRAPH 1999: texture vectors T_i, whose sums are the
        colours of faces.
Colours are sRGB, float 0..255; coefficients are in standard deviations.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from visagist.head.fit import Fit
from visagist.head.light import encoded, harmonics, linear
from visagist.head.mesh import normals
from visagist.head.morphable import Morphable, principal
from visagist.head.render import rasterise

APART = 56.0  # pixels between the eyes at which photos are read: a vertex is then about a pixel
GRAZING = 0.35  # cosine to the view below which skin is too foreshortened to be read
DEEP = 0.05  # in distances between the eyes: so far behind what is seen there a vertex still counts as seen
ODD = 60.0  # further than this from the mean skin in the person's tone, at the face's edge, is hair, a hat or what stands behind
SIGMA = 14.0  # what the basis cannot show of a vertex' colour, standard deviation


@dataclass(frozen=True, eq=False)
class Texture:
    """mean float [N, 3]; basis float [K, N, 3], each as long as its standard deviation."""

    mean: np.ndarray
    basis: np.ndarray

    def __post_init__(self) -> None:
        if self.mean.ndim != 2 or self.basis.shape[1:] != self.mean.shape or self.mean.shape[1] != 3:
            raise ValueError("a texture is a mean of shape [N, 3] and a basis [K, N, 3]")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.basis).all()):
            raise ValueError("a texture is finite numbers")

    def colours(self, coefficients: np.ndarray) -> np.ndarray:
        """The skin [N, 3] with these coefficients; missing ones at the end are 0."""
        made: np.ndarray = self.mean + np.tensordot(coefficients, self.basis[: len(coefficients)], 1)
        return np.clip(made, 0, 255)

    def coefficients(self, colours: np.ndarray, seen: np.ndarray, *, sigma: float = SIGMA, every: int = 3) -> np.ndarray:
        """The likeliest coefficients [K] behind colours [N, 3] of the vertices that are seen [N]; each third of them is looked at.

        A vertex is off by `sigma`, neighbours are off alike: sixteen of them count as one.
        """
        chosen = np.flatnonzero(seen)[::every]
        if not len(chosen):
            return np.zeros(len(self.basis))
        basis = self.basis[:, chosen].reshape(len(self.basis), -1).astype(np.float64)
        left = (colours[chosen] - self.mean[chosen]).ravel()
        weight = every / 16 / sigma**2
        found: np.ndarray = np.linalg.solve(weight * basis @ basis.T + np.eye(len(basis)), weight * basis @ left)
        return np.clip(found, -3, 3)

    def completed(self, colours: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Colours [N, 3] where they are seen, elsewhere what goes best with them."""
        return np.where(seen[:, None], colours, self.colours(self.coefficients(colours, seen)))


def learnt(colours: np.ndarray, known: np.ndarray, count: int) -> Texture:
    """The texture of people's colours [P, N, 3], of which the vertices `known` [P, N] were seen; at most `count` components.

    What was not seen is filled in with what those seen tell of it: first the mean in the person's own tone, then twice what the
    components say.
    """
    shown = known[..., None]
    mean = (colours * shown).sum(0) / np.maximum(shown.sum(0), 1)
    tone = ((colours - mean) * shown).sum(1) / np.maximum(shown.sum(1), 1)  # [P, 3]
    filled = np.where(shown, colours, mean + tone[:, None])
    count = min(count, len(colours) - 1)
    for _ in range(3):
        mean = filled.mean(0)
        flat = (filled - mean).reshape(len(filled), -1)
        basis = principal(flat, np.eye(len(flat)) / max(len(flat) - 1, 1), count).reshape(-1, *mean.shape)
        texture = Texture(mean, basis)
        for person, own in enumerate(known):
            if not own.all():
                filled[person] = texture.completed(colours[person], own)
    return texture


def sampled(pixels: np.ndarray, model: Morphable, found: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Colours float [N, 3] of the vertices in a photo uint8 [H, W, 3], and which of them it shows, bool [N]."""
    vertices = model.shape(found.identity, found.expression)
    placed = found.placed(vertices)
    factor = min(1.0, APART / (model.apart * found.scale))
    if factor < 1:
        size = max(2, round(pixels.shape[1] * factor)), max(2, round(pixels.shape[0] * factor))
        placed *= (size[0] / pixels.shape[1], size[1] / pixels.shape[0], factor)
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    height, width = pixels.shape[:2]
    u, v = (placed[:, axis].astype(np.float32)[:, None] - np.float32(0.5) for axis in range(2))
    colours = cv2.remap(pixels.astype(np.float32), u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).reshape(-1, 3)
    depth = rasterise(placed, model.triangles, (height, width)).depth
    column, row = np.floor(placed[:, 0]).astype(int), np.floor(placed[:, 1]).astype(int)
    inside = (column >= 1) & (column < width - 1) & (row >= 1) & (row < height - 1)
    nearest = depth[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
    facing = -(normals(vertices, model.triangles) @ found.turn[2])
    slack = DEEP * model.apart * found.scale * factor
    return colours, inside & (facing > GRAZING) & (placed[:, 2] <= np.where(np.isfinite(nearest), nearest, np.inf) + slack)


def skinlike(colours: np.ndarray, seen: np.ndarray, mean: np.ndarray, model: Morphable) -> np.ndarray:
    """Which of the vertices that are seen [N] are skin: at the edge and on the forehead not those in quite another colour."""
    x, y = model.mean[:, 0] / model.apart, (model.mean[:, 1] - model.mean[model.landmarks[27], 1]) / model.apart
    inner = (np.abs(x) < 0.62) & (y < 0.45)
    tone = np.median((colours - mean)[seen & inner], axis=0) if (seen & inner).any() else np.zeros(3)
    off: np.ndarray = np.linalg.norm(colours - mean - tone, axis=1)
    return seen & (inner | (off < ODD))


def unlit(colours: np.ndarray, facing: np.ndarray, mean: np.ndarray | None, seen: np.ndarray) -> np.ndarray:
    """Colours [N, 3] as they would be in even light: divided by the light that explains them best over the mean skin.

    facing  normals [N, 3] before the camera; mean: colours [N, 3] in even light, None for one colour everywhere
    The light's own colour stays (nobody can tell it from the skin's); only how it falls is taken away.
    """
    basis = harmonics(facing * (1.0, -1.0, -1.0), 2)  # their axes: y up, z towards the viewer
    light = linear(colours.astype(np.float32)).astype(np.float64)
    base = np.ones_like(light) if mean is None else linear(mean.astype(np.float32)).astype(np.float64)
    rows = basis[seen]
    ridge = 0.02 * len(rows) * np.diag([0.0, *np.ones(8)])
    brightness, under = light[seen].mean(1), base[seen].mean(1)
    own = rows * under[:, None]
    tone = brightness.mean() / max(float(under.mean()), 1e-6)
    lamp = np.linalg.solve(own.T @ own + ridge * float(np.square(under).mean()), own.T @ (brightness - tone * under))
    shade = np.clip(1 + basis @ lamp / max(tone, 1e-6), 0.35, 2.5)
    return encoded(light / (shade / shade[seen].mean())[:, None]).astype(np.float64)
