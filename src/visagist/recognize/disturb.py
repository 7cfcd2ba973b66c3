"""What a picture of the same person can look like otherwise: place, light, focus, compression, things in front. NumPy and OpenCV.

Everything takes its chances from the generator it is handed. Turned heads are the business of `augment.py`.
"""

from __future__ import annotations

import cv2
import numpy as np

from visagist.photo.window import Window

Rng = np.random.Generator


def moved(window: Window, rng: Rng, *, roll: float, scale: float, shift: float) -> Window:
    """The window looking a little elsewhere: turned by up to `roll` degrees, its side up to `scale` larger or smaller, shifted by
    up to `shift` of its side; mirrored in half of the cases."""
    side = window.size[0]
    centre = side / 2 + rng.uniform(-shift, shift, 2) * side
    larger = side * float(np.exp(rng.uniform(-scale, scale)))
    place = float(centre[0]), float(centre[1])
    after = Window.turned(place, larger, side, roll=float(rng.uniform(-roll, roll)), mirror=bool(rng.random() < 0.5))
    matrix = after.matrix[:, :2] @ window.matrix
    matrix[:, 2] += after.matrix[:, 2]
    return Window(matrix, window.size)


def lit(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Other light and another camera: gamma, contrast, brightness, gain per channel, colour down to grey, light from one side.

    image uint8 [S, S, 3]; returns the same.
    """
    x = image.astype(np.float32) / 255
    x = np.power(x, np.float32(np.exp(rng.normal(0, 0.25))))
    grey = x @ np.array([0.299, 0.587, 0.114], np.float32)
    saturation = 0.0 if rng.random() < 0.15 else float(np.clip(rng.normal(1, 0.3), 0, 2))
    x = grey[..., None] + np.float32(saturation) * (x - grey[..., None])
    x *= np.exp(rng.normal(0, 0.07, 3) + rng.normal(0, 0.12)).astype(np.float32)
    x = (x - x.mean()) * np.float32(np.exp(rng.normal(0, 0.2))) + x.mean() + np.float32(rng.normal(0, 0.05))
    if rng.random() < 0.3:
        ramp = np.linspace(-1, 1, image.shape[0], dtype=np.float32)
        angle = rng.uniform(0, 2 * np.pi)
        side = np.float32(np.cos(angle)) * ramp[None, :] + np.float32(np.sin(angle)) * ramp[:, None]
        x *= np.exp(np.float32(rng.uniform(0.2, 0.7)) * side)[..., None]
    return np.clip(x * 255, 0, 255).astype(np.uint8)


def worn(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Fewer real pixels, blur, noise, JPEG, each with its own chance. uint8 [S, S, 3] -> the same."""
    size = image.shape[0]
    if rng.random() < 0.5:
        side = max(8, int(np.exp(rng.uniform(np.log(0.3), 0)) * size))
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.4)))
    if rng.random() < 0.2:
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(1, 10))
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 90))])
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    if image.shape[0] != size:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR if rng.random() < 0.5 else cv2.INTER_CUBIC)
    return image


def erased(image: np.ndarray, most: float, rng: Rng) -> np.ndarray:
    """A rectangle of up to `most` of the area in one colour or in noise (Zhong et al., Random Erasing. AAAI 2020)."""
    size = image.shape[0]
    area, shape = rng.uniform(0.02, most) * size * size, np.exp(rng.uniform(-1, 1))
    height, width = (int(np.clip(side, 1, size)) for side in (np.sqrt(area * shape), np.sqrt(area / shape)))
    top, left = int(rng.integers(0, size - height + 1)), int(rng.integers(0, size - width + 1))
    out = image.copy()
    flat = rng.random() < 0.5
    out[top : top + height, left : left + width] = rng.integers(0, 256, 3 if flat else (height, width, 3))
    return out
