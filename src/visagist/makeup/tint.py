"""Lipstick of any shade without a network. NumPy only.

Colour is changed in Oklab (Björn Ottosson, "A perceptual color space for image processing", 2020), where lightness, hue and
chroma can be changed one at a time. The lips keep their own play of light: every pixel keeps how much lighter or darker it is
than the lips in general, and its highlights. Hue and chroma are the shade's; chroma follows the light, so shadows stay deep and
highlights pale. Of the lightness between lips and shade a part is bridged, so that a dark shade is darker than a pale one, as
paint is; less where that means lighter, because lips are often dark for want of light, and bright ones would glow.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from visagist.errors import UsageError

DARKER, LIGHTER = 0.5, 0.2  # part of the way that the lips' lightness moves to that of a darker or lighter shade
COVER = 0.88  # part of the way that hue and chroma move; the rest is the lips' own variation
SHINE = (0.10, 0.28)  # a highlight begins, and is all light, so much lighter than the lips in Oklab

_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    np.float32,
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    np.float32,
)
_FROM_LAB = np.linalg.inv(_TO_LAB.astype(np.float64)).astype(np.float32)
_FROM_LMS = np.linalg.inv(_TO_LMS.astype(np.float64)).astype(np.float32)
_LEVELS = np.arange(256) / 255
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)
_FINE = np.arange(4097) / 4096  # square roots of linear light: fine steps in the dark
_ENCODED = (255 * np.where(_FINE**2 <= 0.0031308, _FINE**2 * 12.92, 1.055 * _FINE ** (2 / 2.4) - 0.055)).astype(np.float32)


def parse(shade: str) -> np.ndarray:
    """The colour "#rrggbb" or "rrggbb" as uint8 [3]. UsageError "bad-shade"."""
    if not isinstance(shade, str) or not re.fullmatch(r"#?[0-9a-fA-F]{6}", shade):
        raise UsageError(f"{str(shade)[:40]!r} is no shade", code="bad-shade", hint="write it as '#rrggbb', such as '#b0123a'")
    return np.frombuffer(bytes.fromhex(shade.removeprefix("#")), np.uint8)


def to_oklab(pixels: np.ndarray) -> np.ndarray:
    """uint8 sRGB [..., 3] -> Oklab float32 [..., 3]: L 0..1, a, b."""
    lab: np.ndarray = np.cbrt(_LINEAR[pixels] @ _TO_LMS.T) @ _TO_LAB.T
    return lab


def from_oklab(lab: np.ndarray) -> np.ndarray:
    """Oklab float32 [..., 3] -> sRGB float32 [..., 3] in 0..255, clipped."""
    linear = ((lab @ _FROM_LAB.T) ** 3) @ _FROM_LMS.T
    places = np.sqrt(np.clip(linear, 0, 1)) * 4096
    encoded: np.ndarray = _ENCODED[np.rint(places).astype(np.int16)]
    return encoded


def painted(region: np.ndarray, weights: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """Lips in another shade.

    region   uint8 [h, w, 3]
    weights  float [h, w], how much each pixel is lip
    shade    uint8 [3]
    Returns float32 [h, w, 3] in 0..255, the colour the lips have where they are fully covered.
    """
    lab = to_oklab(region)
    light = lab[..., 0]
    sure = weights > 0.5 * float(weights.max(initial=0.0))
    general = float(np.median(light[sure])) if sure.any() else float(light.mean())
    wanted = to_oklab(shade)
    chroma, hue = float(np.hypot(wanted[1], wanted[2])), (float(wanted[1]), float(wanted[2]))
    bridged = (DARKER if wanted[0] < general else LIGHTER) * (float(wanted[0]) - general)
    moved = np.clip(light + bridged, 0, 1)
    # The same paint in less light is darker and paler in one proportion.
    lit = np.clip(moved / max(float(wanted[0]), 1e-3), 0, 1.15)
    shine = np.clip((light - general - SHINE[0]) / (SHINE[1] - SHINE[0]), 0, 1)
    full = np.minimum(chroma * lit, _chroma_limit(*_direction(hue))[np.rint(moved * 255).astype(np.int16)])
    cover = COVER * (1 - 0.8 * shine)
    direction = np.array(_direction(hue), np.float32)
    out = np.empty_like(lab)
    out[..., 0] = moved
    out[..., 1:] = lab[..., 1:] + cover[..., None] * (full[..., None] * direction - lab[..., 1:])
    return from_oklab(out)


def _direction(hue: tuple[float, float]) -> tuple[float, float]:
    """The hue as a unit vector, rounded so that a shade is looked up once; grey has none."""
    length = float(np.hypot(*hue))
    return (0.0, 0.0) if length < 1e-4 else (round(hue[0] / length, 6), round(hue[1] / length, 6))


@lru_cache(maxsize=64)
def _chroma_limit(a: float, b: float) -> np.ndarray:
    """The largest chroma of a hue that sRGB can show at lightness 0, 1/255 ... 1: float32 [256]."""
    light = np.arange(256, dtype=np.float32) / 255
    low, high = np.zeros(256, np.float32), np.full(256, 0.4, np.float32)
    for _ in range(12):
        middle = (low + high) / 2
        linear = ((np.stack([light, middle * a, middle * b], -1) @ _FROM_LAB.T) ** 3) @ _FROM_LMS.T
        fits = ((linear > -1e-4) & (linear < 1 + 1e-4)).all(-1)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return low
