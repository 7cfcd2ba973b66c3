"""Light on skin: spherical harmonics of normals, light from a direction, and the light that a picture was taken in.

    basis = harmonics(normals, 1)                      # 1, nx, ny, nz at every pixel
    light = estimate(shade, basis[mask])               # the light [4] behind brightnesses over albedo
    light = lamp(azimuth=45, elevation=20)             # one lamp to the picture's right and above, and light all around

Paper   Basri, Jacobs: Lambertian Reflectance and Linear Subspaces. PAMI 2003: a convex matt surface under any distant light looks
        like a sum of nine harmonics of its normals; four give nine tenths of it.

Normals float [..., 3]: x to the picture's right, y up, z towards the viewer. Brightness is linear light, 0..1.
"""

from __future__ import annotations

import numpy as np

LUMINANCE = (0.2126, 0.7152, 0.0722)  # of linear sRGB
TERMS = {1: 4, 2: 9}  # order of the harmonics -> how many there are
STRENGTH = 0.85  # of a lamp's light: so much comes from its direction, the rest from all around


def linear(pixels: np.ndarray) -> np.ndarray:
    """Linear light float32 of sRGB values: uint8 of any shape, or float 0..255."""
    if pixels.dtype == np.uint8:
        return _TABLE[pixels]
    return _curve(pixels / np.float32(255)).astype(np.float32)


def encoded(light: np.ndarray) -> np.ndarray:
    """sRGB values float32 0..255 of linear light; what lies beyond 0..1 is clipped."""
    light = np.clip(light, 0, 1)
    curved = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.power(np.maximum(light, 0.0031308), 1 / 2.4) - 0.055)
    return (255 * curved).astype(np.float32)


def _curve(value: np.ndarray) -> np.ndarray:
    value = np.clip(value, 0, 1)
    curved: np.ndarray = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return curved


_TABLE = _curve(np.arange(256) / 255).astype(np.float32)


def harmonics(normals: np.ndarray, order: int) -> np.ndarray:
    """The harmonics [..., 4] or, of order 2, [..., 9] of unit normals [..., 3], without their constant factors."""
    x, y, z = normals[..., 0], normals[..., 1], normals[..., 2]
    terms = [np.ones_like(x), x, y, z]
    if order == 2:
        terms += [x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1]
    return np.stack(terms, axis=-1)


def slopes(normals: np.ndarray, light: np.ndarray) -> np.ndarray:
    """How the shade `harmonics(normals) @ light` changes with each component of the normals, [..., 3]."""
    grown = np.broadcast_to(light[1:4], normals.shape).astype(normals.dtype, copy=True)
    if len(light) == TERMS[2]:
        x, y, z = normals[..., 0], normals[..., 1], normals[..., 2]
        xy, xz, yz, xx, zz = light[4:]
        grown[..., 0] += xy * y + xz * z + 2 * xx * x
        grown[..., 1] += xy * x + yz * z - 2 * xx * y
        grown[..., 2] += xz * x + yz * y + 6 * zz * z
    return grown


def estimate(shade: np.ndarray, basis: np.ndarray, *, rounds: int = 5, least: float = 0.01) -> np.ndarray:
    """The light [K] whose `basis` [P, K] @ light comes closest to `shade` [P], brightness over albedo.

    The sum of absolute differences counts (by least squares weighted anew in each of the `rounds`), so that shadows, highlights
    and moles have little say; differences below `least` count as squares.
    """
    weights = np.ones(len(shade))
    light = np.zeros(basis.shape[1])
    for _ in range(rounds):
        root = np.sqrt(weights)
        light = np.linalg.lstsq(basis * root[:, None], shade * root, rcond=None)[0]
        weights = 1 / np.maximum(np.abs(shade - basis @ light), least)
    return light


def direction(azimuth: float, elevation: float) -> np.ndarray:
    """The unit vector towards a lamp: azimuth in degrees, 0 where the camera is, 90 at the picture's right; elevation up."""
    a, e = np.deg2rad((azimuth, elevation))
    return np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])


def lamp(normals: np.ndarray, azimuth: float, elevation: float) -> np.ndarray:
    """The shade [...] of normals [..., 3] under one lamp and some light from all around; a surface that faces the lamp has 1."""
    facing = np.maximum(normals @ direction(azimuth, elevation), 0)
    lit: np.ndarray = 1 - STRENGTH + STRENGTH * facing
    return lit
