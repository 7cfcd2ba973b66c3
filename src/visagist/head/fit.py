"""Fit the morphable model to the 68 points of one face: where the head is, how it is turned, whose it is, what it expresses.

Paper   Blanz, Vetter 1999 (the model and its prior); Huber et al.: A Multiresolution 3D Morphable Face Model and Fitting Framework.
        VISAPP 2016 (landmarks only, the outline of the far cheek instead of fixed jaw points).
Input   points float [68, 2] of a picture, y down.
Output  Fit: scale, turn, shift of a scaled orthographic camera, coefficients, error.
Differs Pose and shape are solved for together, by Gauss-Newton with the prior as further equations, where the papers alternate.
Read    Fit, then `fit`.

The camera's frame is that of `head.pose`: x right, y down, z away from the viewer; x_picture = scale * (turn X)[:2] + shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visagist.head.morphable import EYES, Morphable
from visagist.head.pose import angles, rotation
from visagist.photo.face import Pose

# By how much labelled near-frontal training frames look down on the mean face, in degrees: their median gets pitch 0. Less than in
# `head.pose`, whose rigid head takes a part of every long chin and low brow for a nod.
PITCH_ZERO = -3.8
_LEVEL = rotation(Pose(0.0, PITCH_ZERO, 0.0)) @ np.diag((1.0, -1.0, -1.0))  # model axes -> camera axes of a level, frontal head


@dataclass(frozen=True, eq=False)
class Fit:
    """A face in a picture.

    scale       picture pixels per model unit
    turn        rotation [3, 3]: model axes -> camera axes
    shift       [2]: where the model's origin falls, x and y of the picture
    identity    coefficients [I] in standard deviations
    expression  coefficients [E]
    error       rms distance of the fitted points over the distance between the eyes' centres
    """

    scale: float
    turn: np.ndarray
    shift: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    error: float

    @property
    def pose(self) -> Pose:
        """Yaw, pitch and roll in degrees; pitch 0 is level."""
        return angles(self.turn @ _LEVEL.T)

    def placed(self, vertices: np.ndarray) -> np.ndarray:
        """Vertices [N, 3] of the model in the picture: x, y in pixels and z in pixels away from the viewer."""
        seen = self.scale * vertices @ self.turn.T
        seen[:, :2] += self.shift
        return seen

    def as_dict(self) -> dict[str, object]:
        """Ready for JSON."""
        return {
            "scale": round(self.scale, 5),
            "turn": np.round(self.turn, 6).tolist(),
            "shift": np.round(self.shift, 3).tolist(),
            "pose": {axis: round(value, 2) for axis, value in self.pose._asdict().items()},
            "identity": np.round(self.identity, 4).tolist(),
            "expression": np.round(self.expression, 4).tolist(),
            "error": round(self.error, 5),
        }


def turn_of(pose: Pose) -> np.ndarray:
    """The rotation [3, 3], model axes -> camera axes, of a head in this pose."""
    turned: np.ndarray = rotation(pose) @ _LEVEL
    return turned


def fit(
    model: Morphable,
    points: np.ndarray,
    *,
    noise: float = 0.03,
    outline: float = 0.5,
    rounds: int = 10,
    identities: int | None = None,
    expressions: int | None = None,
) -> Fit:
    """The most likely head behind points [68, 2].

    noise    standard deviation of a point, over the distance between the eyes' centres
    outline  weight of the 17 jaw points' squared errors against the others'
    rounds   of Gauss-Newton; the first three turn the mean face only, by all points but the jaw
    identities, expressions  how many coefficients to use, None for all

    ValueError when the points are not finite or too close together to be a face's.
    """
    points = np.asarray(points, np.float64)
    if points.shape != (68, 2) or not np.isfinite(points).all() or not np.ptp(points) > 0:
        raise ValueError("68 finite points that do not coincide are needed")
    apart = float(np.linalg.norm(points[EYES[0]].mean(0) - points[EYES[1]].mean(0)))
    size = float(np.sqrt(np.square(points - points.mean(0)).sum(1).mean()))
    scale_of_noise = max(apart, 0.5 * size)  # in a profile the eyes seem close together
    count_i = len(model.identity) if identities is None else identities
    count_e = len(model.expression) if expressions is None else expressions
    mean, basis, rows, inner = model.fitted
    moved = np.zeros((68, 3)) if model.offsets is None else model.offsets
    if (count_i, count_e) != (len(model.identity), len(model.expression)):
        first = len(model.identity)
        basis = np.concatenate([basis[..., :count_i], basis[..., first : first + count_e]], axis=2)
    weight = np.full(68, 1 / max(noise * scale_of_noise, 0.3))
    weight[:17] *= np.sqrt(outline)

    turn, scale, shift = _start(mean[inner] + moved[17:], points[17:])
    z = np.zeros(basis.shape[2])
    for number in range(rounds):
        alone = number < 3  # the mean face's pose first
        own = inner if alone else np.concatenate([_outline(mean, basis, z, rows, turn), inner])
        seen, w, off = (points[17:], weight[17:], moved[17:]) if alone else (points, weight, moved)
        moves = basis[own]  # [P, 3, K]
        turned = (mean[own] + off + moves @ z) @ turn.T  # [P, 3]
        left = (seen - scale * turned[:, :2] - shift) * w[:, None]
        by_turn = np.zeros((len(own), 2, 3))  # d(omega x Y) / d omega
        by_turn[:, 0, 1], by_turn[:, 0, 2] = turned[:, 2], -turned[:, 1]
        by_turn[:, 1, 0], by_turn[:, 1, 2] = -turned[:, 2], turned[:, 0]
        slope = [scale * by_turn, turned[:, :2, None], np.broadcast_to(np.eye(2), (len(own), 2, 2))]
        if not alone:
            slope.append(scale * (turn[:2] @ moves))  # [P, 2, K]
        a = (np.concatenate(slope, axis=2) * w[:, None, None]).reshape(2 * len(own), -1)
        normal, right = a.T @ a, a.T @ left.ravel()
        if not alone:  # the prior: z ~ N(0, 1)
            at = np.arange(6, 6 + len(z))
            normal[at, at] += 1
            right[6:] -= z
        change = np.linalg.solve(normal + 1e-9 * np.diag(np.diag(normal)), right)
        turn = _small(change[:3]) @ turn
        scale = max(scale + float(change[3]), 0.2 * scale)
        shift = shift + change[4:6]
        if not alone:
            z = np.clip(z + change[6:], -3, 3)

    own = np.concatenate([_outline(mean, basis, z, rows, turn), inner])
    placed = scale * (mean[own] + moved + basis[own] @ z) @ turn[:2].T + shift
    error = float(np.sqrt(np.square(placed - points).sum(1).mean()) / scale_of_noise)
    return Fit(scale, turn, shift, z[:count_i], z[count_i:], error)


def outline_points(model: Morphable, vertices: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Vertices of the 68 points as they are seen of this face [N, 3] in this turn: jaw points slide to the visible outline."""
    jaw = [row[(vertices[row] @ turn[:2].T @ _outwards(number, turn)).argmax()] for number, row in enumerate(model.jaw_rows)]
    return np.concatenate([jaw, model.landmarks[17:]])


def annotated_points(model: Morphable, vertices: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Where annotators set the 68 points of this face [N, 3] seen in this turn: float [68, 3], model axes. What `fit` looks for."""
    on: np.ndarray = vertices[outline_points(model, vertices, turn)]
    return on if model.offsets is None else on + model.offsets


def _outline(mean: np.ndarray, basis: np.ndarray, z: np.ndarray, rows: tuple[np.ndarray, ...], turn: np.ndarray) -> np.ndarray:
    """The vertices [17] on which the jaw points lie now: of each row the one furthest out."""
    places = (mean + basis @ z) @ turn[:2].T
    return np.array([row[(places[row] @ _outwards(number, turn)).argmax()] for number, row in enumerate(rows)])


def _outwards(number: int, turn: np.ndarray) -> np.ndarray:
    """The direction in the picture in which a jaw point's side of the face looks: across the head's upright axis."""
    across = np.array([-turn[1, 1], turn[0, 1]])  # at right angles to where the model's y axis points
    return across / max(float(np.linalg.norm(across)), 1e-9) * (-1 if number < 8 else 1)


def _start(model: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Turn, scale and shift of the scaled rotation nearest to the affine camera that fits best."""
    centre, middle = model.mean(0), points.mean(0)
    camera = np.linalg.lstsq(model - centre, points - middle, rcond=None)[0].T  # [2, 3]
    u, s, vt = np.linalg.svd(camera, full_matrices=False)
    rows = u @ vt
    turn = np.vstack([rows, np.cross(rows[0], rows[1])])
    scale = float(s.mean())
    return turn, scale, middle - scale * turn[:2] @ centre


def _small(omega: np.ndarray) -> np.ndarray:
    """The rotation about this vector, by its length in radians (Rodrigues), at most half a radian."""
    angle = float(np.linalg.norm(omega))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = omega / angle
    angle = min(angle, 0.5)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turned: np.ndarray = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
    return turned
