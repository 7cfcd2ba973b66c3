"""The canvas of a style transfer: how large, what is on it at first, which colours, where faces are. NumPy and OpenCV only.

Paper   sizes, the noise and its spectrum, the mixed start: the program style-transfer (fzliu, 2015). Colours: Gatys, Bethge,
        Hertzmann, Shechtman: Preserving Color in Neural Artistic Style Transfer, arXiv 1606.05897 (2016).
Input   pictures float32 [H, W, 3] in [-1, 1], RGB; faces as `Face`.
Output  sizes (height, width), pictures, masks float32 [H, W] in 0..1.
Differs from the program: sizes have a limit of pixels, or a panorama would grow beyond reason (`capped=False` takes it away).
Read    fitted, resized, floated, noise, recoloured, tempered, with_colours_of, face_mask, with_faces_of.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from visagist.photo.blend import polygon_mask
from visagist.photo.face import Face

SHORT = 224  # the shorter side is not made smaller than this: the side that networks of ImageNet were trained with
FOREHEAD = 0.45  # a face's forehead reaches this much of the height from brows to chin above the brows
KEPT = 0.8  # of the photo in a face that is kept altogether, laid over the result
PIECE = 1 << 20  # pixels whose colours are in float64 at a time
FEATHER = 0.05  # of the width of a face, over which its mask fades
SLOW = 0.02  # of the longer side: what changes over more than this is light and shade, what changes over less is strokes

# ITU-R BT.601, full range: luminance, and chroma as JPEG has it.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def fitted(size: tuple[int, int], long: int, *, least: int = 1, capped: bool = True) -> tuple[int, int]:
    """(height, width) to work at: the longer side `long`, yet the shorter at least 224 where that takes no more than long² pixels.

    Neither side is made smaller than `least`, which is what the network needs. Not `capped`, the rule is the program's: the shorter
    side is at least 224, whatever `long` is and however long a panorama becomes.
    """
    height, width = size
    if capped:
        scale = max(long / max(size), min(SHORT, long) / min(size))
        scale = min(scale, long / (height * width) ** 0.5)
    else:
        scale = max(long / max(size), SHORT / min(size))
    return max(least, round(height * scale)), max(least, round(width * scale))


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture float32 [H, W, ...] at `size` (height, width): averaged where it shrinks, cubic where it grows."""
    if picture.shape[:2] == size:
        return picture
    shrinks = size[0] * size[1] < picture.shape[0] * picture.shape[1]
    out = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.clip(out, -1, 1)


def floated(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels uint8 [H, W, 3] as float32 in [-1, 1], made smaller first where they are larger than `size` (height, width)."""
    if pixels.shape[0] > size[0] and pixels.shape[1] > size[1]:  # a large photo as float would take four times its memory
        pixels = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
    out: np.ndarray = pixels.astype(np.float32) / np.float32(127.5) - 1
    return out


def noise(size: tuple[int, int], power: float, rng: np.random.Generator) -> np.ndarray:
    """Noise float32 [h, w, 3] in [-1, 1] whose amplitude goes with the frequency to this power: 0 white, -1 pink.

    Amplitudes f^power with random phases, the magnitude of the inverse transform, stretched to the whole range (each colour).
    """
    rows, columns = (np.fft.fftfreq(n)[:, None] * n for n in size)
    distance = np.hypot(rows, columns.T)
    distance[0, 0] = 1  # the mean, which stretching takes away
    channels = []
    for _ in range(3):
        spectrum = distance**power * np.exp(2j * np.pi * rng.random(size))
        field = np.abs(np.fft.ifft2(spectrum))
        low, high = field.min(), field.max()
        channels.append((field - low) / max(high - low, 1e-12) * 2 - 1)
    return np.stack(channels, 2).astype(np.float32)


def recoloured(style: np.ndarray, content: np.ndarray) -> np.ndarray:
    """The style with mean and covariance of the content's colours (paper, section 4.1, symmetric root), clipped to [-1, 1]."""
    means, roots = [], []
    for picture in (style, content):
        mean, spread = _moments(picture)
        values, vectors = np.linalg.eigh(spread + 1e-5 * np.eye(3))  # a grey picture spreads in one direction only
        means.append(mean)
        roots.append((vectors * np.sqrt(np.maximum(values, 1e-5))) @ vectors.T)
    matrix = roots[1] @ np.linalg.inv(roots[0])
    colours = style.reshape(-1, 3)
    out = np.empty((len(colours), 3), np.float32)
    for first in range(0, len(colours), PIECE):
        piece = (colours[first : first + PIECE] - means[0]) @ matrix.T + means[1]
        out[first : first + PIECE] = np.clip(piece, -1, 1)
    return out.reshape(style.shape)


def _moments(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [3] and covariance [3, 3] of the colours of a picture, in float64, a piece at a time."""
    colours = picture.reshape(-1, 3)
    mean = colours.mean(0, dtype=np.float64)
    spread = np.zeros((3, 3))
    for first in range(0, len(colours), PIECE):
        apart = colours[first : first + PIECE] - mean
        spread += apart.T @ apart
    return mean, spread / len(colours)


def tempered(painted: np.ndarray, toned: np.ndarray) -> np.ndarray:
    """The strokes of `painted` over the light and shade of `toned`, float32 [h, w, 3] in [-1, 1].

    A painter trained on few photographs drives contrast too far: light places burn out, dark ones run together, and what was there
    is gone. Such places take back most of `toned`; then all that changes over more than SLOW of the longer side does.
    """
    burnt = np.maximum(painted.min(2), -painted.max(2))[..., None]  # towards white or black, which saturated colours are not
    painted = painted + 0.8 * np.clip((burnt - 0.65) / 0.3, 0, 1) * (toned - painted)
    slow = cv2.GaussianBlur(toned - painted, (0, 0), SLOW * max(painted.shape[:2]), borderType=cv2.BORDER_REFLECT_101)
    tempered: np.ndarray = np.clip(painted + 0.85 * slow, -1, 1)
    return tempered


def with_colours_of(content: np.ndarray, painted: np.ndarray) -> np.ndarray:
    """Luminance of the painted picture, chroma of the content (paper, section 4.2), both [H, W, 3] in [-1, 1].

    A luminance that would push a colour out of the range, and so change its chroma, is held back to where it does not.
    """
    chroma = content - (content @ LUMA)[..., None]  # R-Y, G-Y, B-Y
    luma = np.clip(painted @ LUMA, -1 - chroma.min(2), 1 - chroma.max(2))
    return (luma[..., None] + chroma).astype(np.float32)


def face_mask(faces: Sequence[Face], size: tuple[int, int], scale: tuple[float, float]) -> np.ndarray:
    """Where faces are: float32 [h, w] in 0..1 on a canvas of `size`, fading over 5 % of a face's width.

    faces  in pixels of the photo; with 68 points from chin to hairline, without an ellipse in the box
    scale  (rows, columns) of the canvas for one of the photo
    """
    mask = np.zeros(size, np.float32)
    for face in faces:
        outline = _outline(face) * (scale[1], scale[0])
        feather = FEATHER * float(np.ptp(outline[:, 0]))
        mask = np.maximum(mask, polygon_mask(outline, size, feather=feather).full(size))
    return mask


def with_faces_of(photo: np.ndarray, painted: np.ndarray, mask: np.ndarray, guard: float) -> np.ndarray:
    """The painted picture, the photo laid over its faces: by 0.8 times `guard` (0..1) where the mask [h, w] is 1."""
    return painted + (KEPT * guard * mask[:, :, None]) * (photo - painted)


def _outline(face: Face) -> np.ndarray:
    """The face's outline [P, 2] in pixels of the photo."""
    if face.scheme == "ibug68" and face.points is not None:
        jaw, brows = face.jaw, np.concatenate([face.group("right_brow"), face.group("left_brow")])
        up = (brows.mean(0) - jaw[8]) * FOREHEAD
        return np.concatenate([jaw, brows[::-1] + up])
    x0, y0, x1, y1 = face.box
    turns = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([(x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(turns), (y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(turns)], 1)
