"""What shading told of a face, and what can be done with it: pictures of depth and normals, a mesh, another light, a turn.

Input   what `shading` found: a reference surface and the change of its depth, in a window of the photo.
Output  maps of the photo's size, the photo in another light, a mesh, the morphable model with the relief on it.
Read    Relief; its `relit`, `mesh`, `carried`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from visagist.head.fit import Fit
from visagist.head.light import LUMINANCE, encoded, harmonics, lamp, linear
from visagist.head.mesh import Mesh
from visagist.head.morphable import Morphable
from visagist.head.render import harmonic
from visagist.photo.window import Window
from visagist.rotate.around import OUTSIDE, Head, matte
from visagist.rotate.depth import lifted
from visagist.rotate.reference import Reference, drawn
from visagist.rotate.skin import BRIGHT, DARK, alike, blurred, grown
from visagist.rotate.spread import spread

TORN, STEEP = 0.35, 6.0  # a step in depth larger than both, in model units and pixels, is an edge between two surfaces
REACH = 0.22  # in a new light hair and neck change along with the face next to them, less and less, so far (parts of its height)
EDGE = 0.35  # and less across an edge: a step of the three colours together by this much counts as far as that
INNER = 0.15  # so far from its outline, in model units, the face is not sure to be the face: what is there is told from within
GAIN = (0.08, 3.0)  # how much darker and brighter linear light becomes at most
DARKEST = 0.1  # least shade, in parts of the face's median
DIM = 0.3  # least old shade for a new lamp, in parts of the face's median
SLOW, UNEXPLAINED = 1.5, 2.5  # model units over which brightness is averaged; by how much it may differ from what light explains
SOFT = 0.25  # model units: a lamp is no point, so its light changes over some distance
BELONGS = 0.9  # of the head's matte: what tells the light there
HAIR = 0.7  # what is darker than so much of the skin in its light is hair of skin's hue, and tells no light
LESS = 0.4  # so much of what a lamp adds reaches what is not seen to be skin: nobody knows what light it was in
MEETING = 2.5  # model units over which the face's change of light passes into that of the rest of the head
SHOULDER = 0.75  # linear light that becomes brighter than this is bent, so that bright skin does not burn out


@dataclass(frozen=True, eq=False)
class Relief:
    """One face. Pictures are float64 [h, w] in pixels of the window unless said; normals x right, y up, z to the viewer.

    window     photo -> window
    aligned    the reference as the points alone place it; reference: after its correction by shading; both in the window
    triangles  int [F, 3] of the reference
    change     what shading adds to the reference's depth, in pixels of the window towards the viewer
    mask       bool: pixels whose brightness was used; held: those that keep the reference's shape (eyes, brows, nostrils, mouth)
    light      [4] or [9] coefficients of `head.light.harmonics`; albedo: 0.1 .. 1.5
    residual   mean difference in the mask between the photo and albedo times light, in sRGB levels of 0..255
    frontal    the light comes from the camera: little or nothing was changed
    rounds     how many were needed
    known      the albedo that was known before, None where it was not
    head       the rest of the head, in the window; without it a new light ends beside the face
    """

    window: Window
    aligned: Reference
    reference: Reference
    triangles: np.ndarray
    change: np.ndarray
    mask: np.ndarray
    held: np.ndarray
    light: np.ndarray
    albedo: np.ndarray
    residual: float
    frontal: bool
    rounds: int
    known: np.ndarray | None = None
    head: Head | None = None

    @cached_property
    def _drawn(self) -> tuple[Any, np.ndarray, np.ndarray]:
        return drawn(self.reference, self.triangles, self.change.shape)

    @property
    def covered(self) -> np.ndarray:
        """bool: where there is a face."""
        covered: np.ndarray = self._drawn[0].covered
        return covered

    @cached_property
    def whole(self) -> np.ndarray:
        """bool: the same with the openings of eyes and mouth."""
        outlines, _ = cv2.findContours(self.covered.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled = np.zeros(self.covered.shape, np.uint8)
        cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
        return filled > 0

    @property
    def depth(self) -> np.ndarray:
        """Depth towards the viewer in pixels of the window; 0 where there is no face."""
        return np.where(self.covered, self._drawn[1] + self.change, 0)

    @property
    def unit(self) -> float:
        """Window pixels per unit of the model (about a centimetre)."""
        return self.reference.found.scale

    @cached_property
    def normals(self) -> np.ndarray:
        """Unit normals [h, w, 3]; (0, 0, 1) off the face."""
        return lifted(self._drawn[2], self.change)

    def picture(self) -> np.ndarray:
        """What albedo and light make of the face, uint8 [h, w]: close to the photo where the method works."""
        order = 1 if len(self.light) == 4 else 2
        shade = encoded(self.albedo * (harmonics(self.normals, order) @ self.light))
        return np.where(self.covered, np.rint(shade), 0).astype(np.uint8)

    # pictures of the photo's size

    def area(self, size: tuple[int, int], pad: int = 0) -> tuple[slice, slice]:
        """Rows and columns of a photo of this size (height, width) that the window shows, with `pad` window pixels about it."""
        height, width = self.change.shape
        ends = self.window.to_photo(np.array([[-pad, -pad], [width + pad, height + pad]]))
        (x0, y0), (x1, y1) = (np.clip(end, 0, size[::-1]).astype(int).tolist() for end in (np.floor(ends[0]), np.ceil(ends[1])))
        return slice(y0, max(y0, y1)), slice(x0, max(x0, x1))

    def laid(
        self, values: np.ndarray, size: tuple[int, int], area: tuple[slice, slice] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A picture [h, w] or [h, w, C] of the window in the pixels of a photo of this size, float32, and where the face is there,
        bool [H, W]; with `area` only that part of the photo.

        What lies off the face is first continued from it, so that nothing fades out at the outline.
        """
        flat = values.astype(np.float32).reshape(*values.shape[:2], -1)
        parts = [np.ascontiguousarray(flat[..., i : i + 4]) for i in range(0, flat.shape[2], 4)]
        whole = np.concatenate([harmonic(part, self.covered, sweeps=6) for part in parts], axis=2)
        back = self._back(size if area is None else area)
        shown = back.cut(np.ascontiguousarray(whole)).reshape(*back.size, *values.shape[2:])
        return shown, back.cut(self.whole.astype(np.float32), border=(0.0,)) > 0.5

    def _back(self, area: tuple[int, int] | tuple[slice, slice], pad: int = 0) -> Window:
        """The window, with `pad` pixels about it, -> the photo of this size or this part of it."""
        rows, columns = (part if isinstance(part, slice) else slice(0, part) for part in area)
        matrix = self.window.inverse.copy()
        matrix[:, 2] -= matrix[:, :2] @ (pad, pad) + (columns.start, rows.start)
        return Window(matrix, (rows.stop - rows.start, columns.stop - columns.start))

    def albedo_of(self, pixels: np.ndarray) -> np.ndarray:
        """The face as it would look evenly lit, uint8 [H, W, 3]; black off the face."""
        out = np.zeros_like(pixels)
        area = self.area(pixels.shape[:2])
        if out[area].size:
            shade, there = self.laid(self._shade(), pixels.shape[:2], area)
            even = np.median(self._shade()[self.mask])
            laid = encoded(linear(pixels[area]) * (even / np.maximum(shade, 0.15 * even))[..., None])
            out[area] = np.where(there[..., None], np.rint(laid), 0)
        return out

    def relit(self, pixels: np.ndarray, azimuth: float, elevation: float, strength: float = 1.0) -> np.ndarray:
        """The photo uint8 [H, W, 3] with the face in the light of one lamp (`head.light.lamp`), as bright on the whole as before.

        strength  0..1, 0 gives the photo back

        Every pixel's linear light is multiplied by new shade over old shade, so that all texture stays. Scalp, ears, neck and the
        hair next to the face get a new light of their own normals, as far as the head's edges in the picture; a relief without a
        head lets the face's go smoothly back to none, over what looks the same.
        """
        if self.head is not None:
            return self._relit(pixels, self.head, azimuth, elevation, strength)
        old, new = np.maximum(self._shade() * self._unexplained(pixels), 1e-3), lamp(self.normals, azimuth, elevation)
        new *= old[self.mask].mean() / new[self.mask].mean()
        gain = _ratio(new, old, float(np.median(old[self.mask])))
        return self._brightened(pixels, strength * cv2.GaussianBlur(_bounded(gain), (0, 0), SOFT * self.unit))

    def _relit(self, pixels: np.ndarray, head: Head, azimuth: float, elevation: float, strength: float) -> np.ndarray:
        """The same for face and head, in a window that shows both."""
        window, at = self._wide(head, pixels.shape[:2])

        def wide(values: np.ndarray, fill: float = 0) -> np.ndarray:
            out = np.full((*window.size, *values.shape[2:]), fill, values.dtype)
            out[at] = values
            return out

        moved = Window(np.array([[1.0, 0, at[1].start], [0, 1.0, at[0].start]]), window.size)
        normals, there, skull = head.within(moved).drawn(window.size)
        shown = window.cut(pixels)
        face, mask, sure = (wide(one) for one in (self.whole, self.mask, grown(self.whole, -INNER * self.unit) & self.covered))
        share = matte(cv2.GaussianBlur(shown / np.float32(255), (0, 0), 1.0), face, there, skull, self.unit)
        # old light: what slowly differs from the face's harmonics is measured on the scalp, too
        colour = linear(shown).astype(np.float64)
        bright, own = colour @ LUMINANCE, wide(self._shade())
        rest = np.maximum(harmonics(normals, self._order) @ self.light, DIM * float(np.median(own[mask])))
        counted = mask
        if self.known is None:
            lit = (bright > DARK) & (colour.max(2) < BRIGHT) & skull & ~face & (share > BELONGS)
            lit &= bright / rest > HAIR * float(np.median((bright / np.maximum(own, 0.05))[mask]))
            counted = mask | (lit & alike(np.log(np.maximum(colour, DARK / 3)), mask))
        else:
            bright /= wide(self.known, 1.0)
        slow = self._slow(bright / np.maximum(np.where(sure, own, rest), 0.05), counted, mask)
        # new over old, on the face and beyond; the two meet smoothly
        own, rest = np.maximum(own * slow, 1e-3), rest * slow
        usual, new = float(np.median(own[mask])), lamp(wide(self.normals), azimuth, elevation)
        scale = own[mask].mean() / new[mask].mean()
        on_face, beyond = _ratio(scale * new, own, usual), _ratio(scale * lamp(normals, azimuth, elevation), rest, usual)
        beyond = np.clip(beyond, *np.percentile(on_face[mask], (1, 99)))  # nothing becomes darker or brighter than a face does
        told = blurred(counted.astype(np.float64), SLOW / 3 * self.unit)
        beyond = np.where(beyond > 0, beyond * (LESS + (1 - LESS) * np.clip(2 * told, 0, 1)), beyond)
        beyond = harmonic(beyond[..., None].astype(np.float32), there)[..., 0]
        far = cv2.distanceTransform((~sure).astype(np.uint8), cv2.DIST_L2, 5) > MEETING * self.unit
        off = harmonic(np.where(sure, on_face - beyond, 0)[..., None].astype(np.float32), sure | far)[..., 0]
        gain = cv2.GaussianBlur(_bounded(beyond + off), (0, 0), SOFT * self.unit)
        laid = cv2.GaussianBlur((strength * gain * share).astype(np.float32), (0, 0), 0.8)
        return _multiplied(pixels, laid, window)

    def _wide(self, head: Head, size: tuple[int, int]) -> tuple[Window, tuple[slice, slice]]:
        """A window of the same scale that also shows what a photo of this size does of the head; where this one lies in it."""
        (height, width), around = self.change.shape, (OUTSIDE + 0.5) * self.unit
        places = head.placed[head.head, :2]
        ends = self.window.to_window(np.array([[0.0, 0.0], size[::-1]]))
        low = np.minimum(np.floor(np.maximum(places.min(0) - around, ends[0])), 0).astype(int)
        high = np.maximum(np.ceil(np.minimum(places.max(0) + around, ends[1])), (width, height)).astype(int)
        matrix = self.window.matrix.copy()
        matrix[:, 2] -= low
        across, down = (high - low).tolist()
        return Window(matrix, (down, across)), (slice(-low[1], height - low[1]), slice(-low[0], width - low[0]))

    def _unexplained(self, pixels: np.ndarray) -> np.ndarray:
        """Slow changes of brightness that normals and light do not explain, [h, w] about 1. On one face's skin they are light as
        well: a second lamp, a cast shadow, an outline that is brighter than Lambert's law has it."""
        bright = linear(self.window.cut(pixels)).astype(np.float64) @ LUMINANCE
        bright /= 1 if self.known is None else self.known  # of any scale
        return self._slow(bright / np.maximum(self._shade(), 0.05), self.mask, self.mask)

    def _slow(self, left: np.ndarray, counted: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Averages of what is left [h, w] over those pixels that count, bool [h, w], continued; in the median 1 on the mask."""
        sums, counts = (blurred(a.astype(np.float64), SLOW * self.unit) for a in (np.where(counted, left, 0), counted))
        slow = sums / np.maximum(counts, 1e-9)
        slow = np.clip(slow / np.median(slow[mask]), 1 / UNEXPLAINED, UNEXPLAINED)
        return harmonic(slow[..., None].astype(np.float32), counts > 0.02)[..., 0].astype(np.float64)

    def under(self, pixels: np.ndarray, light: np.ndarray) -> np.ndarray:
        """The same under a light given as harmonics [4 | 9], as strong as it is; `self.light` gives the photo back."""
        old, new = self._shade(), harmonics(self.normals, 1 if len(light) == 4 else 2) @ light
        least = DARKEST * float(np.median(old[self.mask]))
        return self._brightened(pixels, _bounded(np.log(np.maximum(new, least) / np.maximum(old, least))))

    def _brightened(self, pixels: np.ndarray, gain: np.ndarray) -> np.ndarray:
        """The photo with the face's linear light times exp(gain), and that of what belongs with it."""
        pad = round(REACH * np.ptp(np.nonzero(self.covered)[0])) + 2
        sure = grown(self.whole, -INNER * self.unit)
        inside = harmonic(np.where(sure & self.covered, gain, 0)[..., None], sure & self.covered)[..., 0]
        beside = np.array([[1.0, 0.0, pad], [0.0, 1.0, pad]]) @ np.vstack([self.window.matrix, (0, 0, 1)])
        shown = Window(beside, (gain.shape[0] + 2 * pad, gain.shape[1] + 2 * pad)).cut(pixels) / np.float32(255)
        laid, share = spread(np.pad(inside, pad), np.pad(sure, pad), cv2.GaussianBlur(shown, (0, 0), 1.0), pad, EDGE)
        laid = cv2.GaussianBlur((laid * share).astype(np.float32), (0, 0), 0.8)
        return _multiplied(pixels, laid, Window(beside, laid.shape))

    @property
    def _order(self) -> int:
        return 1 if len(self.light) == 4 else 2

    def _shade(self) -> np.ndarray:
        return harmonics(self.normals, self._order) @ self.light

    # surfaces

    def mesh(self, size: tuple[int, int]) -> Mesh:
        """The relief as a surface in model units, one vertex for each pixel of the face: x right, y up, z to the viewer, about
        the middle of the face; torn where one part hides another. uv: where it is in the photo of this size (height, width)."""
        covered, depth = self.covered, self.depth / self.unit
        y, x = np.nonzero(covered)
        number = np.full(covered.shape, -1)
        number[y, x] = np.arange(len(x))
        places = np.stack([(x + 0.5) / self.unit, -(y + 0.5) / self.unit, depth[y, x]], axis=1)
        a, b, c, d = (part.ravel() for part in (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]))
        triangles = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
        triangles = triangles[(triangles >= 0).all(1)]
        triangles = triangles[np.ptp(places[triangles][:, :, 2], axis=1) < max(TORN, STEEP / self.unit)]
        used, triangles = np.unique(triangles, return_inverse=True)
        at = self.window.to_photo(np.stack([x + 0.5, y + 0.5], axis=1)) / size[::-1]
        uv = np.clip(np.stack([at[:, 0], 1 - at[:, 1]], axis=1), 0, 1)
        return Mesh(places[used] - places[used].mean(0), triangles.reshape(-1, 3), uv[used])

    @property
    def found(self) -> Fit:
        """The reference's fit in pixels of the photo."""
        own = self.reference.found
        return replace(own, scale=own.scale / self.window.scale, shift=self.window.to_photo(own.shift))

    def carried(self, model: Morphable) -> tuple[Morphable, Fit]:
        """The model with the relief on it, and its fit in pixels of the photo: what `carry` turns."""
        found, placed = self.reference.found, self.reference.placed
        at = placed[:, :2].astype(np.float32) - 0.5
        lift = cv2.remap(self.change.astype(np.float32), at[:, :1], at[:, 1:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        towards = -found.turn[2] / found.scale  # the viewer, in model axes
        flat = model.shape(found.identity, found.expression)
        mean = model.mean + (self.reference.vertices - flat) + lift * towards
        none = np.zeros(len(model.expression))  # a reference bent onto the points has no coefficients
        fit = self.found if len(found.expression) else replace(self.found, expression=none)
        return replace(model, mean=mean), fit

    def as_dict(self) -> Mapping[str, object]:
        """Ready for JSON."""
        return {
            "light": np.round(self.light, 4).tolist(),
            "frontal_light": self.frontal,
            "residual": round(self.residual, 3),
            "rounds": self.rounds,
            "changed_mm": {
                "mean": round(float(np.abs(self.change[self.mask]).mean() / self.unit * 10), 3),
                "largest": round(float(np.abs(self.change).max() / self.unit * 10), 3),
            },
            "used_pixels": int(self.mask.sum()),
            "window": np.round(self.window.matrix, 5).tolist(),
        }


def _ratio(new: np.ndarray, old: np.ndarray, usual: float) -> np.ndarray:
    """Logarithm of new shade over old shade, neither too dark for a face whose usual shade is this."""
    gain: np.ndarray = np.log(np.maximum(new, DARKEST * usual) / np.maximum(old, DIM * usual))
    return gain


def _multiplied(pixels: np.ndarray, gain: np.ndarray, window: Window) -> np.ndarray:
    """The photo uint8 [H, W, 3] with its linear light times exp(gain), a picture [h, w] of the window; nothing changes beyond."""
    out, size = pixels.copy(), window.size
    ends = window.to_photo(np.array([[0.0, 0.0], size[::-1]]))
    (x0, y0), (x1, y1) = (
        np.clip(end, 0, pixels.shape[1::-1]).astype(int).tolist() for end in (np.floor(ends[0]), np.ceil(ends[1]))
    )
    part = pixels[y0:y1, x0:x1]
    if not part.size:
        return out
    matrix = window.inverse.copy()
    matrix[:, 2] -= (x0, y0)
    laid = Window(matrix, part.shape[:2]).cut(np.ascontiguousarray(gain, np.float32), border=(0.0,))
    lit = _rolled_off(linear(part) * np.exp(laid)[..., None], linear(part))
    out[y0:y1, x0:x1] = np.where(np.abs(laid)[..., None] > 1e-3, np.rint(encoded(lit)), part)
    return out


def _rolled_off(lit: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Linear light [h, w, 3] with what became brighter than SHOULDER bent towards 1, all colours of a pixel alike."""
    top, old = lit.max(2, keepdims=True), np.maximum(before.max(2, keepdims=True), SHOULDER)
    room = np.maximum(1 - old, 1e-3)
    bent = old + room * np.tanh((top - old) / room)
    return np.where(top > old, lit * bent / np.maximum(top, 1e-6), lit)


def _bounded(gain: np.ndarray) -> np.ndarray:
    """Logarithms of gains, bent so that none is beyond GAIN; float32."""
    bound = np.where(gain < 0, -np.log(GAIN[0]), np.log(GAIN[1]))
    return (bound * np.tanh(gain / bound)).astype(np.float32)
