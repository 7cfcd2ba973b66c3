"""What all tests share: the one real portrait, and properties that try the same examples every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("house", max_examples=40, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """NASA's portrait of Eileen Collins, public domain: uint8 [512, 512, 3], read-only."""
    from skimage.data import astronaut as portrait

    pixels: np.ndarray = portrait()
    pixels.setflags(write=False)
    return pixels
