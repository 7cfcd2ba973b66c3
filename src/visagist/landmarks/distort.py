"""What can happen to a face between the lens and the network: random views, shapes, light, blur, dirt. NumPy and OpenCV only.

Everything works on one window, uint8 RGB [S, S, 3], with its points float [P, 2] in window pixels, and takes its chances from
the generator it is handed. Strengths were chosen by looking at sheets: a person can still place the points by eye.
"""

from __future__ import annotations

import cv2
import numpy as np

Rng = np.random.Generator


def sheared(matrix: np.ndarray, size: int, strength: float, rng: Rng) -> np.ndarray:
    """The window map [2, 3] followed by a random stretch and shear about the window's centre; strength is its typical size."""
    linear = np.eye(2) + rng.normal(0, strength, (2, 2))
    linear /= np.sqrt(abs(np.linalg.det(linear)))  # size is jittered elsewhere
    centre = np.array([size / 2, size / 2])
    out = linear @ matrix
    out[:, 2] += centre - linear @ centre
    return out


def bent(image: np.ndarray, points: np.ndarray, strength: float, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Picture and points after a smooth random bend; strength is its typical size in pixels.

    The bend is given backwards (output pixel q shows input q + field(q)), so a point p moves to the q with q + field(q) = p,
    found by a few fixed-point rounds (the field changes slowly).
    """
    size = image.shape[0]
    coarse = rng.normal(0, strength, (5, 5, 2)).astype(np.float32)
    field = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    grid = np.arange(size, dtype=np.float32)
    out = cv2.remap(
        image, field[..., 0] + grid[None, :], field[..., 1] + grid[:, None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    moved = points.copy()
    for _ in range(4):
        at = cv2.remap(
            field,
            (moved[:, 0] - 0.5).astype(np.float32),
            (moved[:, 1] - 0.5).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )[:, 0]
        moved = points - at
    return out, moved


def cut_off(image: np.ndarray, rng: Rng) -> np.ndarray:
    """As if the photo ended inside the window: a band at one side is black, grey or repeats the last line of pixels."""
    size = image.shape[0]
    depth = int(rng.uniform(0.05, 0.3) * size)
    turned = np.rot90(image, turn := int(rng.integers(4))).copy()
    turned[:depth] = turned[depth] if rng.random() < 0.6 else rng.choice([0, 0, 128, 255])
    return np.ascontiguousarray(np.rot90(turned, -turn))


def covered(image: np.ndarray, rng: Rng) -> np.ndarray:
    """One to three patches (hands, hair, microphones, captions) of flat colour, of noise or from elsewhere in the window."""
    size = image.shape[0]
    out = image.copy()
    for _ in range(int(rng.integers(1, 4))):
        w, h = (int(v) for v in rng.uniform(0.08, 0.42, 2) * size)
        x, y = int(rng.integers(-w // 2, size - w // 2)), int(rng.integers(-h // 2, size - h // 2))
        kind = rng.random()
        fill: np.ndarray
        if kind < 0.4:
            fill = np.broadcast_to(rng.integers(0, 256, 3).astype(np.uint8), image.shape)
        elif kind < 0.55:
            noise = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
            fill = cv2.resize(noise, (size, size), interpolation=cv2.INTER_LINEAR)
        else:
            fill = np.roll(image, tuple(int(v) for v in rng.integers(size // 4, size, 2)), axis=(0, 1))
        mask = np.zeros((size, size), np.uint8)
        if rng.random() < 0.5:
            cv2.rectangle(mask, (x, y), (x + w, y + h), 1, -1)
        else:
            cv2.ellipse(mask, (x + w // 2, y + h // 2), (w // 2 + 1, h // 2 + 1), float(rng.uniform(0, 180)), 0, 360, 1, -1)
        out = np.where(mask[..., None] > 0, fill, out)
    return np.ascontiguousarray(out)


def recoloured(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Other light and another camera: gain per channel, gamma, contrast, saturation down to grey, light from one side."""
    x = image.astype(np.float32) / 255.0
    if rng.random() < 0.5:
        x = np.power(x, np.float32(np.exp(rng.normal(0, 0.3))))
    grey = x @ np.array([0.299, 0.587, 0.114], np.float32)
    saturation = 0.0 if rng.random() < 0.15 else float(np.clip(rng.normal(1, 0.3), 0, 2))
    x = grey[..., None] + np.float32(saturation) * (x - grey[..., None])
    x *= np.exp(rng.normal(0, 0.08, 3) + rng.normal(0, 0.15)).astype(np.float32)
    x = (x - x.mean()) * np.float32(np.exp(rng.normal(0, 0.2))) + x.mean() + np.float32(rng.normal(0, 0.06))
    if rng.random() < 0.3:
        size = image.shape[0]
        ramp = np.linspace(-1, 1, size, dtype=np.float32)
        angle = rng.uniform(0, 2 * np.pi)
        side = np.float32(np.cos(angle)) * ramp[None, :] + np.float32(np.sin(angle)) * ramp[:, None]
        x *= np.exp(np.float32(rng.uniform(0.2, 0.8)) * side)[..., None]
    return np.clip(x * 255.0, 0, 255).astype(np.uint8)


def degraded(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Fewer real pixels, motion blur, sensor noise and JPEG, each with its own chance."""
    size = image.shape[0]
    small = image
    if rng.random() < 0.45:
        side = int(np.exp(rng.uniform(np.log(0.28), np.log(0.95))) * size)
        small = cv2.resize(small, (side, side), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.12:
        length = int(rng.integers(2, 8))
        kernel = np.zeros((length, length), np.float32)
        ends = rng.uniform(0, length - 1, 4)
        cv2.line(kernel, (int(ends[0]), int(ends[1])), (int(ends[2]), int(ends[3])), 1.0)
        small = cv2.filter2D(small, -1, kernel / kernel.sum())
    if rng.random() < 0.3:
        noise = rng.standard_normal(small.shape, dtype=np.float32) * np.float32(np.exp(rng.uniform(0.5, 2.9)))
        small = np.clip(small + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 90))])
        small = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    if small.shape[0] != size:
        small = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR)
    return small
