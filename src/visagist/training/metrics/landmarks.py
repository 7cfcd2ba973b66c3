"""How well points are found, relative to the size of the face.

Normalising by the box rather than by the eyes keeps turned faces comparable: Bulat and Tzimiropoulos, "How far are we from solving
the 2D & 3D face alignment problem?", ICCV 2017.
"""

from __future__ import annotations

import numpy as np


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


def failure_rate(errors: np.ndarray, limit: float = 0.10) -> float:
    """Share of faces whose error exceeds `limit`; NaN and infinity stand for faces that were not found. NaN without faces."""
    errors = np.asarray(errors, float)
    return float((~(errors <= limit)).mean()) if errors.size else float("nan")
