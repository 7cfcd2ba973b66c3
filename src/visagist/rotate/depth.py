"""Step 3 of shape from shading: the depth whose slopes explain the brightness, by linear least squares.

Input   brightness, albedo and light of a picture; a reference's normals; which pixels count.
Output  the change D of the reference's depth, in pixels towards the viewer.
Differs The paper holds |n| while it solves for the slopes; here the image equation is linearised in them altogether. It penalises
        what differs between D and a blurred D, here it is the slope of D.
Read    Problem.solved, `conjugate`; `lifted` says what normals a changed depth has.

Minimised over D, with D = 0 where `held` and normals n that have the slopes of the reference and of D added up:

    sum over mask (I - rho l Y(n))^2  +  smooth sum over face |grad D|^2  +  pull sum D^2
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from visagist.head.light import harmonics
from visagist.rotate.reference import by_slopes

LIKELY = 0.1  # shade by which a pixel may be wrong before it counts less: shadows' edges, highlights, moles
COARSEST = 6000  # with fewer pixels it is solved at once, with more at half the size first


@dataclass(frozen=True, eq=False)
class Problem:
    """bright, albedo [h, w]; light [4 | 9]; still [h, w, 3]: normals of the reference; face bool: where D is looked for; held bool:
    where it is 0; mask bool: where brightness counts; smooth, pull: weights."""

    bright: np.ndarray
    albedo: np.ndarray
    light: np.ndarray
    still: np.ndarray
    face: np.ndarray
    held: np.ndarray
    mask: np.ndarray
    smooth: float
    pull: float

    def solved(self, change: np.ndarray | None = None, iterations: int = 250) -> np.ndarray:
        """D float64 [h, w], 0 off the face; from `change` on, or from half the size on."""
        if change is None:
            change = self._coarse(iterations) if self.face.sum() > COARSEST else np.zeros(self.face.shape)
        free = self.face & ~self.held
        right, below = pairs(self.face)
        counts = self.mask & right & below
        for _ in range(2):
            at = lifted(self.still, change, forward=True)
            shade = harmonics(at, 1 if len(self.light) == 4 else 2) @ self.light
            by_p, by_q = (self.albedo * by for by in by_slopes(at, self.light))
            off = self.bright - self.albedo * shade
            weight = counts * (shade > 0.02) / np.maximum(np.abs(off) / (LIKELY * self.albedo), 1)
            p, q = slopes_of(change)
            wanted = weight * (off + by_p * p + by_q * q)

            def matrix(d: np.ndarray, w: np.ndarray = weight, a: np.ndarray = by_p, b: np.ndarray = by_q) -> np.ndarray:
                p, q = slopes_of(d)
                seen = w * (a * p + b * q)
                return free * (back(seen * a + self.smooth * right * p, seen * b + self.smooth * below * q) + self.pull * d)

            change = conjugate(matrix, free * back(wanted * by_p, wanted * by_q), change, iterations)
        return change

    def _coarse(self, iterations: int) -> np.ndarray:
        """D from half the size, enlarged."""
        size = self.face.shape
        half = -(-size[1] // 2), -(-size[0] // 2)
        bright, albedo, still = (cv2.resize(a, half, interpolation=cv2.INTER_AREA) for a in (self.bright, self.albedo, self.still))
        shares = (cv2.resize(a.astype(np.float32), half, interpolation=cv2.INTER_AREA) for a in (self.face, self.held, self.mask))
        face, held, mask = next(shares) > 0.5, next(shares) > 0.5, next(shares) > 0.99
        small = Problem(bright, albedo, self.light, still, face, held, mask & face & ~held, self.smooth, 4 * self.pull)
        found = small.solved(None, iterations)
        return 2 * cv2.resize(found, size[::-1], interpolation=cv2.INTER_LINEAR) * (self.face & ~self.held)


def lifted(still: np.ndarray, change: np.ndarray, *, forward: bool = False) -> np.ndarray:
    """Unit normals [h, w, 3] of a surface with normals `still` whose depth is changed by `change` [h, w].

    Slopes add up: (-p, q, 1) with those of the change by central differences, or forward ones. The reference's own normals are
    smooth over its triangles, which differences of its depth would not be.
    """
    p, q = slopes_of(change)
    if not forward:
        p[:, 1:-1], q[1:-1] = (p[:, 1:-1] + p[:, :-2]) / 2, (q[1:-1] + q[:-2]) / 2
    n = still / np.maximum(still[..., 2:], 1e-3) + np.stack([-p, q, np.zeros_like(p)], axis=2)
    normals: np.ndarray = n / np.linalg.norm(n, axis=2, keepdims=True)
    return normals


def slopes_of(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p = dz/dx and q = dz/dy (y down) by forward differences, 0 in the last column and row."""
    p, q = np.zeros_like(z), np.zeros_like(z)
    p[:, :-1], q[:-1] = z[:, 1:] - z[:, :-1], z[1:] - z[:-1]
    return p, q


def back(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The transpose of `slopes_of`."""
    z = np.zeros_like(p)
    z[:, :-1] -= p[:, :-1]
    z[:, 1:] += p[:, :-1]
    z[:-1] -= q[:-1]
    z[1:] += q[:-1]
    return z


def pairs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that are in the mask together with their right neighbour, and with the one below."""
    right, below = np.zeros_like(mask), np.zeros_like(mask)
    right[:, :-1], below[:-1] = mask[:, :-1] & mask[:, 1:], mask[:-1] & mask[1:]
    return right, below


def conjugate(matrix: Callable[[np.ndarray], np.ndarray], right: np.ndarray, x: np.ndarray, iterations: int) -> np.ndarray:
    """The solution of matrix(x) = right by conjugate gradients, to a thousandth (Hestenes, Stiefel 1952)."""
    left = right - matrix(x)
    way, square = left, float((left * left).sum())
    enough = 1e-6 * float((right * right).sum())
    for _ in range(iterations):
        if square <= enough:
            break
        along = matrix(way)
        step = square / max(float((way * along).sum()), 1e-300)
        x, left = x + step * way, left - step * along
        last, square = square, float((left * left).sum())
        way = left + square / last * way
    return x
