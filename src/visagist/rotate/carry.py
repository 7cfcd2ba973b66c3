"""Carry a photo along with a head that turns: where does each pixel of the new picture come from?

Two maps, laid over each other. Inside the face the surface says it: a pixel of the turned face is a place on the model, and that
place is seen somewhere in the photo (`rotate.inner`, also for what the photo hides). Outside (hair, ears, neck, background) the
face's outline pulls its surroundings along, less and less, until one face height away nothing moves. The outline itself is sharp: a
cheek may cover what lies behind it.

Differs from pasting a rendered head: nothing is drawn twice, and no hole can open.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from visagist.head.fit import Fit
from visagist.head.mesh import normals
from visagist.head.morphable import Morphable
from visagist.head.render import Raster, harmonic, rasterise
from visagist.rotate.foreign import foreign
from visagist.rotate.inner import Inner, centres, opened, whole

CENTRE_BEHIND = 0.62  # the head turns about a point so far behind its face's centroid, in distances between the eyes
STILL = 0.9  # of the face's height: so far from the face nothing moves any more
MIDDLE = 0.6  # of half the face's size: nearer to its middle than this nothing says in which direction the outline lies
FINE = 800  # longest side at which maps are computed, in pixels


def carry(
    pixels: np.ndarray,
    model: Morphable,
    found: Fit,
    turn: np.ndarray,
    expression: np.ndarray,
    *,
    ground: np.ndarray | None = None,
    skin: np.ndarray | None = None,
) -> np.ndarray:
    """The picture uint8 [H, W, 3] with the fitted head turned (`turn` [3, 3] as `Fit.turn`) and its expression changed to these
    coefficients. Pixels further from the face than its height stay bit for bit.

    ground  uint8 [H, W, 3]: the face alone is laid over this picture, instead of over the one that moves along with it
    skin    float [N, 3], sRGB 0..255: colours of the vertices, for skin that neither cheek shows; without it that is blurred
    """
    if ground is None and np.array_equal(expression, found.expression) and np.abs(turn - found.turn).max() < 1e-9:
        return pixels.copy()
    out = (pixels if ground is None else ground).copy()
    before = model.shape(found.identity, found.expression)
    after = model.shape(found.identity, expression)
    now, then = found.placed(before), found.scale * _about(before, after, model, found, turn)
    box = _region(now, then, pixels.shape[:2])
    if box is None:
        return out
    x0, y0, x1, y1 = box
    left, top, right, bottom = _cut(now, then, pixels.shape[:2])
    part = np.pad(pixels[y0:y1, x0:x1], ((top, bottom), (left, right), (0, 0)), mode="reflect")
    fine = min(1.0, FINE / max(part.shape[:2]))
    size = max(2, round(part.shape[0] * fine)), max(2, round(part.shape[1] * fine))
    factor = np.array([size[1] / part.shape[1], size[0] / part.shape[0], fine])
    now, then = ((placed - (x0 - left, y0 - top, 0)) * factor for placed in (now, then))
    photo = (np.array([(left, top), (left + x1 - x0, top + y1 - y0)]) * factor[:2]) if left or top or right or bottom else None

    source, target = rasterise(now, model.triangles, size), rasterise(then, model.triangles, size)
    if not target.covered.any() or not source.covered.any():
        return out
    facing = _facing(model, before, found.turn), _facing(model, after, turn)
    apart = model.apart * found.scale * fine
    other = foreign(cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA), source, apart)
    inner = Inner(model, now, *facing, source, target, apart, photo, other)

    def moved(where: np.ndarray) -> np.ndarray:
        """The photo's pixels at these places [h, w, 2], for every pixel of the part, float32."""
        there = part.shape[1], part.shape[0]
        grid = np.stack(np.meshgrid(np.arange(there[0]), np.arange(there[1])), axis=2).astype(np.float32)
        way = cv2.resize((where - centres(size)) / factor[:2].astype(np.float32), there, interpolation=cv2.INTER_LINEAR)
        at = grid + way
        taken = cv2.remap(part, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return taken.astype(np.float32)

    layer = inner.softened(moved(inner.places()))
    if skin is not None:
        layer = inner.completed(layer, skin)
    layer = inner.mirrored(layer, moved)
    layer = opened(layer, model, before, after, then, target)
    if ground is None:
        move, face = _outside(model, now, source, target)
        behind = moved(move + centres(size))
    else:
        face = whole(target.covered)
        behind = np.pad(out[y0:y1, x0:x1], ((top, bottom), (left, right), (0, 0)))
    weight = cv2.GaussianBlur(face.astype(np.float32), (0, 0), 0.8)
    weight = cv2.resize(weight, (part.shape[1], part.shape[0]), interpolation=cv2.INTER_LINEAR)[..., None]
    mixed = np.rint(np.clip(layer * weight + behind * (1 - weight), 0, 255)).astype(np.uint8)
    out[y0:y1, x0:x1] = mixed[top : top + y1 - y0, left : left + x1 - x0]
    return out


def visible(model: Morphable, found: Fit, turn: np.ndarray, expression: np.ndarray) -> float:
    """The share of the turned face's skin, as it is seen then, that the photo shows: 0..1."""
    before = model.shape(found.identity, found.expression)
    size = 90.0 / max(float(np.ptp(before[:, 1])), 1e-9)  # pixels in a unit of the model: the share needs no fine picture
    small = replace(found, scale=size, shift=np.array([90.0, 90.0]) - size * (found.turn[:2] @ before.mean(0)))
    after = model.shape(found.identity, expression)
    then, now = size * _about(before, after, model, small, turn), small.placed(before)
    source, target = rasterise(now, model.triangles, (180, 180)), rasterise(then, model.triangles, (180, 180))
    seen = Inner(model, now, _facing(model, before, found.turn), _facing(model, after, turn), source, target, model.apart * size)
    return float(seen.shown.sum() / max(int(target.covered.sum()), 1))


def _facing(model: Morphable, vertices: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Cosines [N] of the vertices' normals to the view."""
    cosines: np.ndarray = -(normals(vertices, model.triangles) @ turn[2])
    return cosines


def taken_out(pixels: np.ndarray, model: Morphable, found: Fit) -> np.ndarray:
    """The picture uint8 [H, W, 3] with the face filled in from its surroundings (harmonically: a smooth blur, no texture)."""
    placed = found.placed(model.shape(found.identity, found.expression))
    box = _region(placed, placed, pixels.shape[:2])
    out = pixels.copy()
    if box is None:
        return out
    x0, y0, x1, y1 = box
    face = whole(rasterise(placed - (x0, y0, 0), model.triangles, (y1 - y0, x1 - x0)).covered)
    grown = round(0.12 * model.apart * found.scale)
    face = cv2.dilate(face.astype(np.uint8), np.ones((2 * grown + 1, 2 * grown + 1), np.uint8)) > 0
    if not face.all():
        out[y0:y1, x0:x1] = np.rint(np.clip(harmonic(out[y0:y1, x0:x1].astype(np.float32), ~face), 0, 255)).astype(np.uint8)
    return out


def _about(before: np.ndarray, after: np.ndarray, model: Morphable, found: Fit, turn: np.ndarray) -> np.ndarray:
    """The changed face in the new turn, in units of the model, so that the head's centre stays where it was in the picture."""
    centre = before.mean(0) - (0, 0, CENTRE_BEHIND * model.apart)
    placed = (after - centre) @ turn.T
    placed[:, :2] += (found.scale * centre @ found.turn[:2].T + found.shift) / found.scale
    placed[:, 2] += centre @ found.turn[2]
    return placed


def carried(model: Morphable, found: Fit, turn: np.ndarray, expression: np.ndarray) -> Fit:
    """The fit of the head as it is in the picture that `carry` makes."""
    centre = model.shape(found.identity, found.expression).mean(0) - (0, 0, CENTRE_BEHIND * model.apart)
    shift = found.shift + found.scale * (found.turn - turn)[:2] @ centre
    return replace(found, turn=turn, shift=shift, expression=np.array(expression))


def _region(now: np.ndarray, then: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The part of the picture where something may move; None where the face lies outside."""
    both = np.concatenate([now, then])[:, :2]
    low, high = both.min(0), both.max(0)
    reach = STILL * max(np.ptp(now[:, 1]), np.ptp(then[:, 1])) + 4
    x0, y0 = np.maximum(np.floor(low - reach), 0).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(high + reach), (size[1], size[0])).astype(int).tolist()
    return (x0, y0, x1, y1) if x1 - x0 > 2 and y1 - y0 > 2 else None


def _cut(now: np.ndarray, then: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """By how many pixels the face, there or turned, lies beyond the picture's left, top, right and bottom edge."""
    both = np.concatenate([now, then])[:, :2]
    beyond = np.concatenate([-both.min(0), both.max(0) - size[::-1]])
    left, top, right, bottom = np.ceil(np.clip(beyond, 0, (*size[::-1], *size[::-1]))).astype(int).tolist()
    return left, top, right, bottom


def _outside(model: Morphable, now: np.ndarray, source: Raster, target: Raster) -> tuple[np.ndarray, np.ndarray]:
    """The way of all other pixels, float32 [H, W, 2], and which pixels are the turned face, bool [H, W].

    Outlines correspond by the direction in which they lie on the mean face as seen from its middle.
    """
    face, was = whole(target.covered), whole(source.covered)
    middle = model.mean[:, :2].mean(0)
    around = (model.mean[:, :2] - middle) / (np.ptp(model.mean[:, :2], axis=0).mean() / 2)
    angle_now, at_now = _outline(was, source, around)
    angle_then, at_then = _outline(face, target, around)
    order = np.argsort(angle_now)
    angle_now, at_now = angle_now[order], at_now[order]
    move = np.stack([np.interp(angle_then, angle_now, at_now[:, axis], period=2 * np.pi) for axis in range(2)], axis=1) - at_then
    ring = np.zeros((*face.shape, 2), np.float32)
    count = np.zeros(face.shape, np.float32)
    y, x = np.floor(at_then[:, 1]).astype(int), np.floor(at_then[:, 0]).astype(int)
    np.add.at(ring, (y, x), move)
    np.add.at(count, (y, x), 1)
    known = count > 0
    ring[known] /= count[known][:, None]
    reach = STILL * np.ptp(np.nonzero(face | was)[0])
    still = cv2.distanceTransform((~(face | was)).astype(np.uint8), cv2.DIST_L2, 5) > reach
    still[[0, -1]] = still[:, [0, -1]] = True  # the picture's edge, too
    still &= ~face
    ring[still & ~known] = 0
    return harmonic(ring, known | still), face


def _outline(mask: np.ndarray, raster: Raster, around: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions [P] on the mean face, in radians, and places [P, 2] of the outline's pixels.

    around [N, 2]: how far the vertices lie from the mean face's middle, in half its size. A nose on the outline of a profile lies
    near the middle, where a direction means nothing: it is interpolated along the outline.
    """
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    xy = max(outlines, key=cv2.contourArea)[:, 0]
    direction = raster.spread(around)[xy[:, 1], xy[:, 0]]
    angle, far = np.arctan2(direction[:, 1], direction[:, 0]), np.linalg.norm(direction, axis=1)
    at = np.flatnonzero(far > MIDDLE)
    if len(at) < 2:
        return angle[far > 0], xy[far > 0] + 0.5
    sure = np.unwrap(angle[at])
    once = sure[-1] + np.angle(np.exp(1j * (sure[0] - sure[-1]))) - sure[0]  # what a whole way round adds: a turn or nothing
    ends = [at[-1] - len(xy), *at, at[0] + len(xy)], [sure[-1] - once, *sure, sure[0] + once]
    filled = np.interp(np.arange(len(xy)), *ends)
    return np.angle(np.exp(1j * filled)), xy + 0.5
