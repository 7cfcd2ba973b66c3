"""Where do annotators set the 68 points of a head? `python benchmarks/annotated_points.py --data FRAMES` prints the tables of
`head/pose.py` (step 1) and `head/annotated.py` (step 2).

1  The rigid head that explains the labelled points of all frames best, under scaled orthography: cameras and head in turn (metric
   structure from motion; Tomasi, Kanade, IJCV 1992, by alternation).
2  Of its difference to the model's vertices, what the model's own shapes can explain (people of this set are not those of the
   scans, and they talk) is taken away; the rest, made symmetric, is the table. Jaw points lie on the outline, wherever that is: of
   them only x and y count.

Centimetres of a head whose eyes are 6.51 apart.
"""

from __future__ import annotations

import argparse

import numpy as np

from visagist import catalog
from visagist.head.morphable import Morphable
from visagist.photo.face import MIRROR68
from visagist.training.data.readers import read

RIGID = np.r_[17:48, 48, 54]  # points that cameras are found by: no jaw, of the mouth the corners only
FLIP = np.array([1.0, -1.0, -1.0])  # model axes <-> camera axes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--every", type=int, default=2, help="take every so-manieth frame")
    given = parser.parse_args()
    items = read(given.data, fold="train", needs=("points",))[:: given.every]
    points = np.stack([face.points for item in items for face in item.faces if face.scheme == "ibug68"])
    loaded = catalog.load("morphable")
    model = loaded.recipe._model(loaded.nets)
    head = structure(points.astype(np.float64), model.mean[model.landmarks] * FLIP) * FLIP
    for name, table in (("rigid head", mirrored_mean(head)), ("offsets", unexplained(model, head))):
        print(name)
        for i, (x, y, z) in enumerate(table):
            if i <= MIRROR68[i]:
                print(f"{i}: ({x:.2f}, {y:.2f}, {z:.2f}),")


def structure(points: np.ndarray, start: np.ndarray, *, rounds: int = 25) -> np.ndarray:
    """The rigid head [68, 3] behind points [F, 68, 2], as close to `start` as a similarity brings it."""
    head = start.astype(np.float64)
    for _ in range(rounds):
        scale, turn, shift = cameras(points, head)
        seen = (points - shift[:, None]) / scale[:, None, None]  # [F, 68, 2]
        normal = np.einsum("fij,fik->jk", turn[:, :2], turn[:, :2])
        found = np.einsum("fpi,fij->pj", seen, turn[:, :2]) @ np.linalg.inv(normal)
        head = laid_on(found, start)
    return head


def cameras(points: np.ndarray, head: np.ndarray, *, rounds: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale [F], turn [F, 3, 3] and shift [F, 2] of a scaled orthographic camera for every frame, by Gauss-Newton."""
    seen, rigid = points[:, RIGID], head[RIGID]
    centre, middle = seen.mean(1), rigid.mean(0)
    seen, rigid = seen - centre[:, None], rigid - middle
    affine = np.einsum("pk,fpi->fik", np.linalg.pinv(rigid).T, seen)
    u, s, vt = np.linalg.svd(affine, full_matrices=False)
    rows = u @ vt
    turn, scale = np.concatenate([rows, np.cross(rows[:, 0], rows[:, 1])[:, None]], axis=1), s.mean(1)
    for _ in range(rounds):
        at = np.einsum("pk,fik->fpi", rigid, turn)
        slope = np.zeros((*at.shape[:2], 2, 4))
        slope[:, :, 0, 1], slope[:, :, 0, 2] = at[..., 2], -at[..., 1]
        slope[:, :, 1, 0], slope[:, :, 1, 2] = -at[..., 2], at[..., 0]
        slope *= scale[:, None, None, None]
        slope[..., 3] = at[..., :2]
        slope = slope.reshape(len(at), -1, 4)
        off = (seen - scale[:, None, None] * at[..., :2]).reshape(len(at), -1, 1)
        change = np.linalg.solve(slope.swapaxes(1, 2) @ slope, slope.swapaxes(1, 2) @ off)[..., 0]
        turn, scale = small(change[:, :3]) @ turn, scale + change[:, 3]
    return scale, turn, centre - scale[:, None] * (turn[:, :2] @ middle)


def small(omega: np.ndarray) -> np.ndarray:
    """Rotations [F, 3, 3] about vectors [F, 3] by their lengths."""
    angle = np.linalg.norm(omega, axis=1)[:, None, None] + 1e-12
    x, y, z = (omega / angle[:, 0]).T
    zero = np.zeros_like(x)
    k = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    turned: np.ndarray = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
    return turned


def laid_on(head: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The head [68, 3] in size, turn and place such that its rigid points lie closest to the target's."""
    a, b = head[RIGID] - head[RIGID].mean(0), target[RIGID] - target[RIGID].mean(0)
    u, s, vt = np.linalg.svd(a.T @ b)
    placed: np.ndarray = s.sum() / np.square(a).sum() * (head - head[RIGID].mean(0)) @ (u @ vt) + target[RIGID].mean(0)
    return placed


def unexplained(model: Morphable, head: np.ndarray, *, inner: float = 0.3, jaw: float = 0.6) -> np.ndarray:
    """What is left [68, 3] of the difference between the head's points and the mean face's vertices after the model's shapes (each
    with a prior of one standard deviation), turn, place and size; inner, jaw: expected size of what is left, cm."""
    mean = model.mean[model.landmarks].astype(np.float64)
    off = mirrored_mean(head - mean)
    weight = np.full((68, 3), 1 / inner)
    weight[:17] = 1 / jaw, 1 / jaw, 1 / 3
    shapes = np.concatenate([model.identity[:, model.landmarks], model.expression[:, model.landmarks]]).astype(np.float64)
    centred = mean - mean.mean(0)
    places = [np.tile(axis, (68, 1)) for axis in np.eye(3)] + [centred, np.cross(np.eye(3)[0], centred)]
    free = np.concatenate([shapes, places])
    a = (free * weight).reshape(len(free), -1).T
    prior = np.diag(np.repeat([1.0, 1e-9], [len(shapes), len(places)]))
    of = np.linalg.solve(a.T @ a + prior, a.T @ (off * weight).ravel())
    left = mirrored_mean(off - np.tensordot(of, free, 1))
    left[:17, 2] = 0
    return left


def mirrored_mean(points: np.ndarray) -> np.ndarray:
    mean: np.ndarray = (points + points[MIRROR68] * (-1, 1, 1)) / 2
    return mean


if __name__ == "__main__":
    main()
