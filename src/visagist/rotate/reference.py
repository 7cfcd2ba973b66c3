"""The face that shading is measured against: where it lies in the picture, and a first correction of its shape by the light.

Input   the morphable model, the 68 points of a face; for `refined` also brightness, light and the pixels that count.
Output  Reference: the fit (pose), the surface, and that surface placed in the picture.
Read    Reference; `surface` with `check`, `fitted` and `warped` (ways to get one); `refined`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from visagist.head.fit import Fit, annotated_points, fit, outline_points
from visagist.head.light import harmonics, slopes
from visagist.head.mesh import Mesh, normals
from visagist.head.morphable import EYES, Morphable
from visagist.head.render import Raster, rasterise
from visagist.photo.window import Window

APART = 6.5  # centimetres between the eyes that a reference of unknown unit is given
BENDING = 0.1  # smoothing of the thin-plate spline that warps a reference onto the points
STEEPEST = 4.0  # slope of the surface against the picture that still counts; what is steeper is an outline
UNLIKE, ASKEW = 0.3, 60.0  # eyes' distances (rms) and degrees by which a reference's 68 points may differ from the mean face's
GROSS = 0.05  # a brightness further off than this is a shadow or a highlight and counts less


@dataclass(frozen=True, eq=False)
class Reference:
    """found: pose and coefficients; vertices [N, 3] in model units; placed [N, 3]: x, y in pixels, z away from the viewer."""

    found: Fit
    vertices: np.ndarray
    placed: np.ndarray

    def within(self, window: Window) -> Reference:
        """The same in a window (without a turn) of the picture."""
        placed = self.placed * window.scale
        placed[:, :2] = window.to_window(self.placed[:, :2])
        found = replace(self.found, scale=self.found.scale * window.scale, shift=window.to_window(self.found.shift))
        return Reference(found, self.vertices, placed)


def surface(mesh: Mesh, landmarks: np.ndarray) -> Morphable:
    """Somebody's face as a reference: a mesh with x to the picture's right, y up, z to the viewer, in any unit, and the numbers
    [68] of its vertices at the 68 points. ValueError where they make no face."""
    vertices = mesh.vertices
    if landmarks.shape != (68,) or landmarks.min() < 0 or landmarks.max() >= len(vertices):
        raise ValueError(f"68 numbers of vertices from 0 to {len(vertices) - 1} are needed")
    apart = float(np.linalg.norm(np.subtract(*(vertices[landmarks[eye]].mean(0) for eye in EYES))))
    if not apart > 0:
        raise ValueError("its eyes lie at one place")
    none = np.zeros((0, *vertices.shape))
    whole = (vertices - vertices.mean(0)) * (APART / apart)
    return Morphable(whole, none, none, mesh.triangles, landmarks, np.arange(len(vertices)), {})


def check(one: Morphable, model: Morphable) -> None:
    """ValueError where the 68 points of a surface do not lie as those of a face do: against the model's mean face after a shift, a
    scale and a turn. Faces leave up to 0.17 of the eyes' distance, the strangest expression 0.26; wrong vertices 0.36 and more."""
    points, wanted = (a.mean[a.landmarks] - a.mean[a.landmarks].mean(0) for a in (one, model))
    left, sizes, right = np.linalg.svd(points.T @ wanted)
    sizes = sizes * (1, 1, np.sign(np.linalg.det(left @ right)))  # a turn, no mirror
    turn = left * np.sign(sizes) @ right
    grown = sizes.sum() / max(float(np.square(points).sum()), 1e-9)
    off = float(np.sqrt(np.square(grown * points @ turn - wanted).sum(1).mean())) / model.apart
    if off > UNLIKE:
        raise ValueError(f"these vertices do not lie as the 68 points of a face do (off by {off:.2f} of the eyes' distance)")
    angle = float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
    if angle > ASKEW:
        raise ValueError(f"the face looks elsewhere, by {angle:.0f} degrees; x to the right, y up, z to the viewer")


def fitted(model: Morphable, found: Fit) -> Reference:
    """The fitted model itself."""
    vertices = model.shape(found.identity, found.expression)
    return Reference(found, vertices, found.placed(vertices))


def warped(model: Morphable, points: np.ndarray) -> Reference:
    """The model's mean face in the pose of the points [68, 2], then moved within the picture so that its own points come to lie on
    them (thin-plate spline; jaw points are left out, they slide). Depths stay. ValueError as `head.fit.fit`."""
    from scipy.interpolate import RBFInterpolator

    found = fit(model, points, identities=0, expressions=0)
    none = np.zeros(0)
    found = replace(found, identity=none, expression=none)
    vertices = model.shape()
    placed = found.placed(vertices)
    own = found.placed(annotated_points(model, vertices, found.turn))[:, :2]
    unit = max(float(np.ptp(own, axis=0).max()), 1e-9)  # the smoothing means the same for any size
    spline = RBFInterpolator(own[17:] / unit, (points[17:] - own[17:]) / unit, kernel="thin_plate_spline", smoothing=BENDING / 68)
    placed[:, :2] += unit * spline(placed[:, :2] / unit)
    turned = (placed - (*found.shift, 0.0)) / found.scale
    return Reference(found, turned @ found.turn, placed)


def drawn(reference: Reference, triangles: np.ndarray, size: tuple[int, int]) -> tuple[Raster, np.ndarray, np.ndarray]:
    """What is seen of it in a picture of this size: the raster; depth float64 [H, W] towards the viewer, 0 where nothing is seen;
    unit normals [H, W, 3], (0, 0, 1) there."""
    seen = rasterise(reference.placed, triangles, size)
    depth = np.where(seen.covered, -np.where(seen.covered, seen.depth, 0), 0).astype(np.float64)
    at = seen.spread(normals(reference.placed, triangles) * (1.0, -1.0, -1.0)).astype(np.float64)
    at[~seen.covered] = (0, 0, 1)
    return seen, depth, at / np.maximum(np.linalg.norm(at, axis=2, keepdims=True), 1e-9)


def refined(
    model: Morphable,
    reference: Reference,
    points: np.ndarray,
    shade: np.ndarray,
    light: np.ndarray,
    mask: np.ndarray,
    *,
    sure: float,
    noise: float,
    outline: float,
    before: np.ndarray | None = None,
) -> tuple[Reference, np.ndarray]:
    """The fitted model with the coefficients and the pose that explain both its points and its shading best.

    shade    [H, W] brightness over albedo; light [4 | 9]; mask bool [H, W]: pixels that count
    sure     sigma of a pixel's shade against the model's. It stands for pixels that err together and is therefore large
    noise, outline  as in `head.fit.fit`, for the points
    before   what an earlier round has changed since the points' fit; with what this one changes it is returned

    A change of a coefficient moves the surface; at a pixel that stays where it is, the depth then changes by dz - p dx - q dy.
    So brightness is linear in the coefficients, like the depth in the paper, and one step of least squares with the prior of the
    landmark fit is enough.
    """
    half = Window(np.array([[0.5, 0, 0], [0, 0.5, 0]]), (-(-shade.shape[0] // 2), -(-shade.shape[1] // 2)))
    double = Window(np.array([[2.0, 0, 0], [0, 2.0, 0]]), shade.shape)
    reference, points = reference.within(half), points / 2  # shapes are smooth: a quarter of the pixels, each four times as sure
    shade = half.cut(shade.astype(np.float32)).astype(np.float64)
    mask = half.cut(mask.astype(np.float32)) > 0.99
    found = reference.found
    seen, _, at = drawn(reference, model.triangles, shade.shape)
    turned = found.scale * reference.vertices @ found.turn.T
    centre = turned.mean(0)
    basis = np.concatenate([model.identity, model.expression]).astype(np.float64)
    about = turned - centre
    axes = [np.cross(np.broadcast_to(axis, about.shape), about) for axis in np.eye(3)]
    shifts = [np.broadcast_to(axis, about.shape) for axis in np.eye(3)[:2]]
    moves = np.concatenate([found.scale * basis @ found.turn.T, np.stack([*axes, about, *shifts])])  # [K, N, 3] in camera axes
    count = len(basis)

    p, q = -at[..., 0] / np.maximum(at[..., 2], 1e-3), at[..., 1] / np.maximum(at[..., 2], 1e-3)  # slopes, q down the picture
    use = mask & seen.covered & (np.maximum(np.abs(p), np.abs(q)) < STEEPEST)
    use[-1] = use[:, -1] = False
    use &= np.roll(use, -1, 0) & np.roll(use, -1, 1)
    spread = seen.spread(moves.transpose(1, 0, 2).reshape(len(about), -1)).reshape(*shade.shape, -1, 3)
    lifts = -spread[..., 2] - p[..., None] * spread[..., 0] - q[..., None] * spread[..., 1]  # [H, W, K] towards the viewer
    across, down = (np.zeros_like(lifts) for _ in range(2))
    across[:, :-1], down[:-1] = np.diff(lifts, axis=1), np.diff(lifts, axis=0)
    by_p, by_q = by_slopes(at[use], light)
    a = by_p[:, None] * across[use] + by_q[:, None] * down[use]  # [P, K]
    y = harmonics(at[use], 1 if len(light) == 4 else 2)
    off = shade[use] - y @ light
    ortho = np.linalg.qr(y)[0]  # the light is free to change with the shape
    a, off = a - ortho @ (ortho.T @ a), off - ortho @ (ortho.T @ off)
    weight = 1 / np.maximum(np.abs(off) / GROSS, 1) / (sure / 2) ** 2
    normal, right = (a * weight[:, None]).T @ a, (a * weight[:, None]).T @ off

    apart = float(np.linalg.norm(points[EYES[0]].mean(0) - points[EYES[1]].mean(0)))
    own = outline_points(model, reference.vertices, found.turn)
    j = moves[:, own, :2].reshape(len(moves), -1).T / (noise * apart)
    j[:34] *= np.sqrt(outline)
    prior = j.T @ j
    prior[np.arange(count), np.arange(count)] += 1
    prior += 1e-6 * np.diag(np.diag(prior))
    before = np.zeros(len(prior)) if before is None else before
    change = np.linalg.solve(normal + prior, right - prior @ before)  # the points' fit stays the prior, round for round

    known = len(model.identity)
    identity = np.clip(found.identity + change[:known], -3, 3)
    expression = np.clip(found.expression + change[known:count], -3, 3)
    by = cv2.Rodrigues(change[count : count + 3])[0]
    grown = 1 + float(change[count + 3])
    shift = found.shift + change[count + 4 : count + 6] + (centre - grown * by @ centre)[:2]
    moved = {"scale": found.scale * grown, "turn": by @ found.turn, "shift": shift}
    return fitted(model, replace(found, identity=identity, expression=expression, **moved)).within(double), before + change


def by_slopes(normals_at: np.ndarray, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How the shade changes with the slopes p = dz/dx and q = dz/dy (y down): two arrays like normals_at [..., 3] without its last
    axis. With m = (-p, q, 1) and n = m / |m|, dn/dp = (dm/dp - n (n dm/dp)) / |m|."""
    g = slopes(normals_at, light)
    toward = (g * normals_at).sum(-1)
    length = normals_at[..., 2]  # 1 / |m|
    by_p = length * (-g[..., 0] + normals_at[..., 0] * toward)
    by_q = length * (g[..., 1] - normals_at[..., 1] * toward)
    return by_p, by_q
