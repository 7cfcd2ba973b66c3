"""More pictures of a person out of one: the head turned, of another shape, with another expression, in other light.

Paper   Masi, Tran, Hassner, Leksut, Medioni: Do We Really Need to Collect Millions of Faces for Effective Face Recognition?
        ECCV 2016.
Input   a picture, the 68 points of its face and the head fitted to them (`head.fit`).
Output  pictures of the same size, and where the 68 points lie in them.
Differs Heads are turned by the harmonic map of `rotate` instead of rendered into a fixed frame. Shapes are samples of the
        morphable model half-way to the fitted one instead of ten scans. Light is added. A profile is never made frontal (the
        paper's near-view rule). Skin that comes into view is lent by the other cheek as in the paper (soft symmetry, never the
        eyes), and where neither shows it, it has the colours of the texture basis.
Read    Augment: settings, yaws_for and variations (what is made), rendered (how).

Turning a head is another room's work: `rendered` is handed it as a function.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import cv2
import numpy as np

from visagist.head.fit import Fit, annotated_points
from visagist.head.mesh import normals
from visagist.head.morphable import Morphable
from visagist.head.render import harmonic, rasterise
from visagist.photo.face import Pose

# pixels, fit, pose, coefficients of expression -> pixels, the fit in them
View = Callable[[np.ndarray, Fit, Pose, np.ndarray], tuple[np.ndarray, Fit]]

KEEP, NEUTRAL = "keep", "neutral"
EXPRESSIONS = {
    "smile": {"mouthSmile": 0.5}, "open": {"jawOpen": 0.4}, "brows": {"browInnerUp": 0.5, "browOuterUp": 0.5},
    "frown": {"mouthFrown": 0.5, "browDown": 0.5}, "pucker": {"mouthPucker": 0.5}, "squint": {"eyeSquint": 0.5},
}  # fmt: skip
ALIKE = 4.0  # degrees of yaw that a picture need not differ by to be the same view
HAIR = 1.0  # degrees that a turn may be over the furthest: a fitted pose is not known better
BACK = 10.0  # degrees by which a head beyond `near` may be turned back
CLAMP = 1.5  # largest coefficient of a random shape, in standard deviations
RELIT_AT = 160  # longest side at which light is computed, in pixels


@dataclass(frozen=True, order=True)
class Variation:
    """One picture to be made. Shape 0 is the fitted one, light 0 the picture's own."""

    yaw: float
    shape: int
    expression: str
    light: int

    @property
    def name(self) -> str:
        return f"yaw{self.yaw:+03.0f}_s{self.shape:02}_{self.expression}_l{self.light}"


@dataclass(frozen=True)
class Augment:
    """What is made of a picture.

    yaws         degrees that heads are turned to
    shapes       how many shapes besides the fitted one
    expressions  "keep" (the picture's own), "neutral", and names of `EXPRESSIONS`
    lights       how many lights besides the picture's own
    most         pictures made of one; of more possible ones these are drawn, every yaw as often
    near         yaw beyond which a head is only turned on, not back to the front
    furthest     degrees that a head is turned at most, but for `HAIR`
    seed         the same seed makes the same pictures
    """

    yaws: tuple[float, ...] = (-45.0, -25.0, 0.0, 25.0, 45.0)
    shapes: int = 5
    expressions: tuple[str, ...] = (KEEP, NEUTRAL, "smile")
    lights: int = 2
    most: int = 10
    near: float = 30.0
    furthest: float = 45.0
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = set(self.expressions) - {KEEP, NEUTRAL, *EXPRESSIONS}
        if unknown:
            raise ValueError(f"there is no expression {min(unknown)!r}, but {', '.join((KEEP, NEUTRAL, *EXPRESSIONS))}")
        if not self.expressions or self.shapes < 0 or self.lights < 0 or self.most < 1:
            raise ValueError("there is nothing to be made")
        if not all(abs(yaw) <= 75 for yaw in self.yaws):  # also refuses NaN
            raise ValueError("heads turn to yaws from -75 to 75")

    def yaws_for(self, yaw: float) -> tuple[float, ...]:
        """The yaws that a head seen at this yaw is turned to.

        Never by more than `furthest` and a hair. Near-view rule: what is seen beyond `near` has a hidden side that nobody knows,
        so it is turned on to the same side, not to the front and never across it. Where nothing is left, it keeps its own yaw.
        """
        found = [to for to in self.yaws if abs(to - yaw) <= self.furthest + HAIR]
        if abs(yaw) > self.near:
            found = [to for to in found if to * yaw > 0 and abs(to) >= abs(yaw) - BACK]
        return tuple(dict.fromkeys(found)) or (float(np.clip(yaw, -75, 75)),)

    def variations(self, name: str, yaw: float) -> tuple[Variation, ...]:
        """What is made of the picture of this name with a head at this yaw: the same at every call, in the order of the names."""
        by_yaw = []
        for to in self.yaws_for(yaw):
            kinds = product(range(self.shapes + 1), self.expressions, range(self.lights + 1))
            own = (0, KEEP, 0) if abs(to - yaw) < ALIKE else None  # that is the picture itself
            by_yaw.append([Variation(to, *kind) for kind in kinds if kind != own])
        rng = np.random.default_rng((self.seed, zlib.crc32(name.encode(errors="surrogateescape"))))
        shuffled = [[row[i] for i in rng.permutation(len(row))] for row in by_yaw]
        longest = max(len(row) for row in shuffled)
        turns = [row[i] for i in range(longest) for row in (shuffled[j] for j in rng.permutation(len(shuffled))) if i < len(row)]
        return tuple(sorted(turns[: self.most]))

    def rendered(
        self,
        variation: Variation,
        pixels: np.ndarray,
        points: np.ndarray,
        model: Morphable,
        found: Fit,
        view: View,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The picture uint8 [H, W, 3] varied, and its points float [68, 2].

        pixels, points, found  the picture, its points [68, 2] and the head fitted to them; view: turns it
        """
        start = shaped(self.seed, variation.shape, model, found)
        expression = expressed(variation.expression, model, found)
        seen, there = view(pixels, start, Pose(variation.yaw, found.pose.pitch, found.pose.roll), expression)
        # A point keeps its distance to the model's: what the model does not know of a face goes along.
        off = points - _points(model, start)
        moved = _points(model, there) + off
        return (relit(self.seed, variation.light, seen, model, there) if variation.light else seen), moved


def shaped(seed: int, number: int, model: Morphable, found: Fit) -> Fit:
    """The fit with its shape half-way to random shape `number`, in the place and size in which its points lie closest to the
    fitted ones; 0 is the fitted shape."""
    if number == 0:
        return found
    rng = np.random.default_rng((seed, 1, number))
    other = np.clip(rng.normal(size=len(found.identity)), -CLAMP, CLAMP)
    changed = replace(found, identity=(found.identity + other) / 2)
    was, now = _points(model, found)[17:], _points(model, changed)[17:]
    a, b = now - now.mean(0), was - was.mean(0)
    larger = float((a * b).sum() / np.square(a).sum())
    at = (changed.shift - now.mean(0)) * larger + was.mean(0)
    return replace(changed, scale=changed.scale * larger, shift=at)


def expressed(name: str, model: Morphable, found: Fit) -> np.ndarray:
    """Coefficients of the expression of this name: the picture's own, none, or half of the picture's and a half more of another."""
    if name == KEEP:
        return found.expression
    if name == NEUTRAL:
        return np.zeros_like(found.expression)
    more: np.ndarray = np.clip(found.expression / 2 + model.expressed(EXPRESSIONS[name]), -3, 3)
    return more


def relit(seed: int, number: int, pixels: np.ndarray, model: Morphable, there: Fit) -> np.ndarray:
    """The picture with lamp `number` shining on the head; light falls off to the picture's own beside it. uint8 [H, W, 3].

    A matt surface: each pixel is multiplied by its shade in the lamp's light over that in light from the front.
    """
    rng = np.random.default_rng((seed, 2, number))
    azimuth, elevation = np.deg2rad(rng.uniform(30, 75) * (1 if number % 2 else -1)), np.deg2rad(rng.uniform(-10, 45))
    lamp = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    around = rng.uniform(0.3, 0.5)  # light from everywhere
    vertices = model.shape(there.identity, there.expression)
    facing = normals(vertices, model.triangles) @ there.turn.T * (1, -1, -1)  # x right, y up, z to the viewer
    shade, front = (around + (1 - around) * np.clip(facing @ way, 0, None) for way in (lamp, np.array([0.0, 0, 1])))
    ratio = np.clip(shade / front, 0.4, 1.8)

    height, width = pixels.shape[:2]
    fine = min(1.0, RELIT_AT / max(height, width))
    size = max(4, round(height * fine)), max(4, round(width * fine))
    placed = there.placed(vertices) * (size[1] / width, size[0] / height, 1)
    raster = rasterise(placed, model.triangles, size)
    values = raster.spread(ratio[:, None])
    known = raster.covered.copy()
    values[~known] = 1
    known[[0, -1]] = known[:, [0, -1]] = True  # the picture's edge keeps its light
    gain = cv2.GaussianBlur(harmonic(values, known).reshape(size), (0, 0), max(1.0, 0.015 * max(size)))
    gain = cv2.resize(gain, (width, height), interpolation=cv2.INTER_LINEAR)
    # Light is multiplied, and a pixel's value grows about like the root of its light (sRGB's exponent is 2.2).
    out: np.ndarray = np.clip(np.rint(pixels * np.power(gain, 1 / 2.2)[..., None]), 0, 255).astype(np.uint8)
    return out


def _points(model: Morphable, fit: Fit) -> np.ndarray:
    """Where the 68 points of a fitted head lie in the picture, float [68, 2]."""
    vertices = model.shape(fit.identity, fit.expression)
    points: np.ndarray = fit.placed(annotated_points(model, vertices, fit.turn))[:, :2]
    return points
