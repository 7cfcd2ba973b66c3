"""How far a picture is from the one it should be."""

from __future__ import annotations

import numpy as np


def mean_squared_error(made: np.ndarray, wanted: np.ndarray) -> float:
    """Mean over rows, columns and channels of the squared difference of 8-bit values (so 100 is 10 grey levels).

    made, wanted uint8 of one shape: what a user sees, clipped and rounded. ValueError for anything else.
    """
    if made.dtype != np.uint8 or wanted.dtype != np.uint8 or made.shape != wanted.shape or not made.size:
        raise ValueError(f"needs two uint8 pictures of one size, got {made.dtype} {made.shape} and {wanted.dtype} {wanted.shape}")
    difference = made.astype(np.float64) - wanted
    return float((difference * difference).mean())
