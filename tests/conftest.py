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


@pytest.fixture(scope="session")
def egg() -> dict[str, np.ndarray]:
    """The front of an egg with a nose as a face model of six modes and three expressions, as `meshes.py` reads them of an npz."""
    from visagist.landmarks.landmarks68 import mean_face

    n = 41
    u, v = (g.ravel() for g in np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n)))
    angle = np.deg2rad(78)
    x, y = 7.5 * np.sin(u * angle) / np.sin(angle), 9.5 * np.sin(v * angle) / np.sin(angle)
    z = 3 + 7 * np.cos(u * angle) * np.cos(v * angle * 0.8) + 2.5 * np.exp(-((x / 1.2) ** 2) - ((y - 1) / 2) ** 2)
    vertices = np.stack([x, y, z], axis=1)
    a = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    triangles = np.concatenate([np.stack([a, a + 1, a + n + 1], 1), np.stack([a, a + n + 1, a + n], 1)])
    points = mean_face() * (14, -16) + (0, 0.5)
    landmarks = np.array([np.square(vertices[:, :2] - p).sum(1).argmin() for p in points])
    # even ones move alike on both sides, odd ones do not
    identity = np.stack([0.5 * np.sin((k + 1) * y / 5 + (k % 2) * x / 3)[:, None] * np.roll([1, 0.4, 0.8], k) for k in range(6)])
    mouth = np.exp(-((x / 3) ** 2) - ((y + 4) / 2) ** 2)[:, None]
    expression = np.stack([mouth * direction for direction in ([0, -2.0, 0], [0, 0, 1.5], [1.0, 0.5, 0])])
    names = {"identity_names": [f"identity{k:03d}" for k in range(6)], "expression_names": ["jawOpen", "smile_L", "smile_R"]}
    return {
        "neutral": vertices.astype(np.float32),
        "identity": identity.astype(np.float16),
        "expression": expression.astype(np.float16),
        "triangles": triangles.astype(np.int32),
        "landmarks68": landmarks.astype(np.int32),
        **{key: np.array(value) for key, value in names.items()},
    }
