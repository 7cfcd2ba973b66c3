"""How well points are found, relative to the size of the face.

Normalising by the box rather than by the eyes keeps turned faces comparable: Bulat and Tzimiropoulos, "How far are we from solving
the 2D & 3D face alignment problem?", ICCV 2017. The root mean square error in the pixels of a window 96 wide is the measure of
Kaggle's "Facial Keypoints Detection"; the window about a labelled face is a square of 1.3 times the longer side of its points.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from visagist.training.metrics.interval import Figure, ratio_interval

FAILED = 0.10  # a face whose error exceeds this part of its size is a failure
WINDOW, MARGIN = 96, 1.3  # the window of the root mean square error: pixels, and side over the longer side of the points


def nme_box(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean distance of the points over the square root of the area of the true points' tight bounding box, a fraction.

    found, truth [..., P, 2]; returns [...], NaN where a found point is NaN. ValueError when the true points span no area.
    """
    found, truth = np.asarray(found, float), np.asarray(truth, float)
    if found.shape != truth.shape or truth.shape[-1] != 2:
        raise ValueError(f"points of shapes {found.shape} and {truth.shape} do not compare")
    size = np.sqrt(np.ptp(truth, axis=-2).prod(-1))
    if not (size > 0).all():
        raise ValueError("the true points span no area")
    errors: np.ndarray = np.linalg.norm(found - truth, axis=-1).mean(-1) / size
    return errors


def failure_rate(errors: np.ndarray, limit: float = FAILED) -> float:
    """Share of faces whose error exceeds `limit`; NaN and infinity stand for faces that were not found. NaN without faces."""
    errors = np.asarray(errors, float)
    return float((~(errors <= limit)).mean()) if errors.size else float("nan")


def points(
    found: np.ndarray, truth: np.ndarray, *, people: Sequence[Hashable] | None = None, hulls: np.ndarray | None = None
) -> dict[str, Figure | float]:
    """The figures of a set of points: nme_box and rmse_96 over the faces found, failure_rate, n. All but n know their interval.

    found   [N, P, 2] in photo pixels, NaN for a face that was not found
    truth   [N, P, 2], NaN for a point that is not labelled: it counts neither way
    people  who each face belongs to; None: everybody is somebody else
    hulls   [N, 4] the tight boxes of the true faces, where `truth` holds only some of their points; None: of `truth`
    """
    found, truth = np.asarray(found, float), np.asarray(truth, float)
    if found.shape != truth.shape or truth.ndim != 3 or truth.shape[-1] != 2:
        raise ValueError(f"points of shapes {found.shape} and {truth.shape} do not compare")
    n = len(truth)
    names: Sequence[Hashable] = range(n) if people is None else people
    if len(names) != n:
        raise ValueError(f"{n} faces but {len(names)} names")
    labelled = np.isfinite(truth).all(-1)  # [N, P]
    if hulls is None:
        low, high = (of(np.where(labelled[..., None], truth, fill), axis=1) for of, fill in ((np.min, np.inf), (np.max, -np.inf)))
        hulls = np.concatenate([low, high], 1) if n else np.zeros((0, 4))
    sides = np.asarray(hulls, float)[:, 2:] - np.asarray(hulls, float)[:, :2]
    if not (sides > 0).all() or not np.isfinite(sides).all():
        raise ValueError("the true points span no area")
    seen = labelled & np.isfinite(found).all((1, 2))[:, None]  # of the faces that were found
    squares = np.where(seen, np.square(np.where(seen[..., None], found - truth, 0)).sum(-1), 0)  # [N, P] pixels of the photo
    count = seen.sum(1)
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(squares).sum(1) / count / np.sqrt(sides.prod(1)) if n else np.zeros(0)  # NaN where not found
    hit = count > 0
    failed = ~(errors <= FAILED)
    window = squares.sum(1) * np.square(WINDOW / MARGIN / sides.max(1, initial=0)) if n else np.zeros(0)

    def figure(top: np.ndarray, bottom: np.ndarray, root: bool = False, values: np.ndarray | None = None) -> Figure:
        finish = np.sqrt if root else np.asarray
        value = finish(top.sum() / bottom.sum()) if bottom.sum() else float("nan")
        return Figure(float(value), lambda: ratio_interval(top, bottom, names, finish=finish), values)

    return {
        "nme_box": figure(np.where(hit, errors, 0), hit.astype(float), values=errors),
        "failure_rate": figure(failed.astype(float), np.ones(n)),
        "rmse_96": figure(window, 2.0 * count, root=True),
        "n": float(n),
    }


def cumulative(errors: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Share of all faces [L] whose error is at most each of `limits` [L]; NaN stands for faces that were not found."""
    errors = np.sort(np.asarray(errors, float))  # NaN come last
    shares: np.ndarray = np.searchsorted(errors[~np.isnan(errors)], limits, side="right") / max(1, len(errors))
    return shares
