"""Selective search: boxes in which there may be something, whatever it is, from segments that are merged again and again.

Paper   J. Uijlings, K. van de Sande, T. Gevers, A. Smeulders, "Selective Search for Object Recognition", IJCV 2013; the first
        segments are those of P. Felzenszwalb, D. Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004
        (scikit-image's). `FAST` is what R-CNN and Fast R-CNN used: two colour spaces x two sizes of segment x two similarities.
Input   uint8 RGB [H, W, 3]; it is searched at a width of 500 pixels
Output  float32 [N, 4], boxes half-open in the pixels given, the likeliest first
Differs Where two pairs are equally alike, the pair of earlier regions is merged (the authors' order is not written down). Where
        there are more boxes than are wanted, near copies go first.
Read    settings, what a segment looks like, grouping, `propose`, how good proposals are, the cache
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from skimage.segmentation import felzenszwalb

from visagist.photo.boxes import iou, suppress

COLOUR_BINS, DIRECTIONS, TEXTURE_BINS = 25, 8, 10
MOST = 20_000  # boxes that a file of the cache may hold
COPY = 0.8  # IoU with an earlier box above which a box is a copy


class Strategy(NamedTuple):
    """One hierarchy: colour space "hsv" or "lab", k (scale and smallest size of the first segments), and what makes two regions
    alike: texture, size and fill, with or without colour."""

    space: str
    k: int
    colour: bool


FAST = tuple(Strategy(space, k, colour) for colour in (True, False) for space in ("hsv", "lab") for k in (50, 100))
MODES = {
    "fast": FAST,
    "quick": tuple(Strategy("lab", 50, colour) for colour in (True, False)),  # half the boxes for a third of the time
}


# ---- what a segment looks like -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Look:
    """A picture in one colour space: channels float32 [H, W, 3] in 0..1, and per pixel the bin of each of its histograms.

    colour int [H*W, 3] in 0..75, texture int [H*W, 24] in 0..240: numbers of bins, each channel (and direction) has its own.
    """

    channels: np.ndarray
    colour: np.ndarray
    texture: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray, space: str) -> Look:
        rgb = pixels.astype(np.float32) / 255
        if space == "hsv":
            channels = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV) / np.array([360, 1, 1], np.float32)
        elif space == "lab":
            channels = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB) / np.array([100, 255, 255], np.float32) + np.array(
                [0, 0.5, 0.5], np.float32
            )
        else:
            raise ValueError(f"there is no colour space {space!r}")
        count = pixels.shape[0] * pixels.shape[1]
        bins = (channels.reshape(count, 3) * COLOUR_BINS).astype(np.int32).clip(0, COLOUR_BINS - 1)
        colour = bins + np.arange(3, dtype=np.int32) * COLOUR_BINS
        return cls(channels, colour, _texture(channels).reshape(count, 3 * DIRECTIONS))


def _texture(channels: np.ndarray) -> np.ndarray:
    """Bins int32 [H, W, 24] of the slope (Gaussian, sigma 1) in 8 directions and 3 channels, up the slope only."""
    smooth = cv2.GaussianBlur(channels, (0, 0), 1.0)
    dx, dy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=1), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=1)
    parts = []
    for d in range(DIRECTIONS):
        angle = 2 * np.pi * d / DIRECTIONS
        slope = np.maximum(dx * np.float32(np.cos(angle)) + dy * np.float32(np.sin(angle)), 0)
        most = np.maximum(slope.max((0, 1)), 1e-6)
        bins = np.minimum((slope * (TEXTURE_BINS / most)).astype(np.int32), TEXTURE_BINS - 1)
        parts.append(bins + (np.arange(3, dtype=np.int32) * DIRECTIONS + d) * TEXTURE_BINS)
    return np.concatenate(parts, -1)


def _histograms(labels: np.ndarray, count: int, bins: np.ndarray, width: int) -> np.ndarray:
    """float32 [count, width]: per segment how often each bin occurs, each row of sum 1. labels [P], bins [P, M]."""
    rows = labels * width
    total = np.zeros(count * width, np.int64)
    for column in bins.T:
        total += np.bincount(rows + column, minlength=count * width)
    table = total.reshape(count, width).astype(np.float32)
    return table / table.sum(1, keepdims=True)


# ---- grouping ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Segments:
    """The first segments: histograms float32 [n, 75 | 240], sizes [n] in pixels, boxes [n, 4], pairs of neighbours [E, 2]."""

    colour: np.ndarray
    texture: np.ndarray
    sizes: np.ndarray
    boxes: np.ndarray
    pairs: np.ndarray

    @classmethod
    def of(cls, look: Look, k: int, sigma: float = 0.8) -> Segments:
        labels = felzenszwalb(look.channels, scale=k, sigma=sigma, min_size=k, channel_axis=-1)
        flat = labels.reshape(-1)
        n = int(flat.max()) + 1
        return cls(
            _histograms(flat, n, look.colour, 3 * COLOUR_BINS),
            _histograms(flat, n, look.texture, 3 * DIRECTIONS * TEXTURE_BINS),
            np.bincount(flat, minlength=n),
            _boxes(labels, n),
            _neighbours(labels, n),
        )


def _boxes(labels: np.ndarray, n: int) -> np.ndarray:
    """int [n, 4]: the box of each label."""
    boxes = np.empty((n, 4), np.int64)
    width = labels.shape[1]
    flat = labels.reshape(-1).astype(np.uint16 if n < 1 << 16 else np.int64)  # NumPy sorts short integers by radix
    order = np.argsort(flat, kind="stable")
    starts = np.searchsorted(flat[order], np.arange(n))
    ys, xs = order // width, order % width
    boxes[:, 0], boxes[:, 1] = np.minimum.reduceat(xs, starts), np.minimum.reduceat(ys, starts)
    boxes[:, 2], boxes[:, 3] = np.maximum.reduceat(xs, starts) + 1, np.maximum.reduceat(ys, starts) + 1
    return boxes


def _neighbours(labels: np.ndarray, n: int) -> np.ndarray:
    """int [E, 2]: pairs of labels a < b that touch, corners included, in order."""
    shifted = (
        (labels[:, :-1], labels[:, 1:]),
        (labels[:-1], labels[1:]),
        (labels[:-1, :-1], labels[1:, 1:]),
        (labels[:-1, 1:], labels[1:, :-1]),
    )
    codes = []
    for a, b in shifted:
        different = a != b
        low, high = np.minimum(a[different], b[different]), np.maximum(a[different], b[different])
        codes.append(np.unique(low.astype(np.int64) * n + high))
    both = np.unique(np.concatenate(codes))
    return np.stack([both // n, both % n], 1)


def group(segments: Segments, *, colour: bool) -> np.ndarray:
    """Boxes int [2n - 1, 4] of the segments and of all regions in the order in which they came to be (fewer, if parts of the
    picture did not touch): again and again the two neighbours that are most alike become one.

    Alike (paper, section 3.2): the common part of the colour histograms (with `colour`) and of the texture histograms,
    1 - (size_a + size_b) / size_picture, and 1 - (box_ab - size_a - size_b) / size_picture; each of weight one.
    """
    n = len(segments.sizes)
    table = np.concatenate([segments.colour, segments.texture], 1) if colour else segments.texture
    looks = np.empty((2 * n - 1, table.shape[1]), np.float32)
    looks[:n] = table
    ones = np.ones(table.shape[1], np.float32)
    sizes = [*segments.sizes.tolist(), *[0] * (n - 1)]
    boxes = [*map(tuple, segments.boxes.tolist()), *[(0, 0, 0, 0)] * (n - 1)]
    whole = float(segments.sizes.sum())
    near: list[set[int]] = [set() for _ in range(2 * n - 1)]
    heap: list[tuple[float, int, int]] = []
    a, b = segments.pairs.T
    common = np.minimum(table[a], table[b]) @ ones
    for i, j, c in zip(a.tolist(), b.tolist(), common.tolist(), strict=True):
        near[i].add(j)
        near[j].add(i)
        heap.append((-(c + _fit(sizes[i] + sizes[j], boxes[i], boxes[j], whole)), i, j))
    heapq.heapify(heap)
    alive = [True] * n + [False] * (n - 1)
    new = n
    while heap:
        _, i, j = heapq.heappop(heap)
        if not (alive[i] and alive[j]):
            continue
        alive[i] = alive[j] = False
        alive[new] = True
        p, q, size = boxes[i], boxes[j], sizes[i] + sizes[j]
        box = boxes[new] = (min(p[0], q[0]), min(p[1], q[1]), max(p[2], q[2]), max(p[3], q[3]))
        sizes[new] = size
        look = looks[new] = (looks[i] * sizes[i] + looks[j] * sizes[j]) / size
        around = near[new] = (near[i] | near[j]) - {i, j}
        if around:
            others = sorted(around)
            common = np.minimum(looks[others], look) @ ones
            for other, c in zip(others, common.tolist(), strict=True):
                mine = near[other]
                mine.discard(i)
                mine.discard(j)
                mine.add(new)
                heapq.heappush(heap, (-(c + _fit(size + sizes[other], box, boxes[other], whole)), other, new))
        new += 1
    return np.array(boxes[:new], np.int64).reshape(-1, 4)


def _fit(size: int, p: tuple[int, ...], q: tuple[int, ...], whole: float) -> float:
    """The terms of size and fill of two regions with boxes p and q that have `size` pixels together."""
    hull = (max(p[2], q[2]) - min(p[0], q[0])) * (max(p[3], q[3]) - min(p[1], q[1]))
    return 2 - hull / whole  # 1 - size / whole + 1 - (hull - size) / whole


# ---- proposals ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """How a picture is searched.

    mode   a key of MODES: "fast" is R-CNN's, "quick" is for a CPU
    width  pixels to which the picture's width is brought; its height to at most twice as many
    least  shortest side of a box there
    most   boxes at most
    seed   of the chance in the order of the boxes
    """

    mode: str = "fast"
    width: int = 500
    least: float = 20.0
    most: int = 3000
    seed: int = 0


def propose(pixels: np.ndarray, settings: Settings = Settings()) -> np.ndarray:
    """Boxes float32 [N, 4] of a picture uint8 [H, W, 3], none twice, in its own pixels.

    Order (paper, section 4.3): in each hierarchy the region made last has rank 1, the one before 2, and so on; boxes come by
    rank times a random number, so that large ones are early but not always, and all hierarchies are heard.
    """
    height, width = pixels.shape[:2]
    scale = min(settings.width / width, 2 * settings.width / height)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    small = pixels
    if (h, w) != (height, width):
        small = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    rng = np.random.default_rng(settings.seed)
    found, ranks = [], []
    looks: dict[str, Look] = {}
    segments: dict[tuple[str, int], Segments] = {}
    for space, k, colour in MODES[settings.mode]:
        if space not in looks:
            looks[space] = Look.of(small, space)
        if (space, k) not in segments:
            segments[space, k] = Segments.of(looks[space], k)
        boxes = group(segments[space, k], colour=colour)
        found.append(boxes)
        ranks.append(np.arange(len(boxes), 0, -1) * rng.random(len(boxes)))
    boxes = np.concatenate(found)[np.argsort(np.concatenate(ranks), kind="stable")]
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).min(1) >= settings.least]
    _, first = np.unique(boxes, axis=0, return_index=True)
    boxes = boxes[np.sort(first)]
    if len(boxes) > settings.most:  # hierarchies agree about large things; the small ones, of which each has others, came last
        boxes = boxes[suppress(boxes, -np.arange(len(boxes)), COPY)]
    return (boxes[: settings.most] * np.array([width / w, height / h] * 2)).astype(np.float32)


def recall(proposals: Sequence[np.ndarray], truths: Sequence[np.ndarray], threshold: float = 0.5) -> tuple[int, int]:
    """How many of the true boxes have a proposal of this IoU or more, and how many there are; one array [N, 4] a picture."""
    hit = total = 0
    for boxes, true in zip(proposals, truths, strict=True):
        total += len(true)
        if len(true) and len(boxes):
            hit += int((iou(true, boxes).max(1) >= threshold).sum())
    return hit, total


# ---- the cache ---------------------------------------------------------------------------------------------------------


class Cache:
    """Proposals that were made before: in memory, and in a folder if one is named, a file per picture and settings.

    Whatever the folder holds, the boxes are those that `propose` gives: a file that is not whole, or not of the shape it should
    have, is made anew. A folder that cannot be written to is no error.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, most: int = 4000) -> None:
        self.folder = Path(folder) if folder else None
        self.most = most
        self._known: dict[str, np.ndarray] = {}

    def of(self, pixels: np.ndarray, settings: Settings = Settings()) -> np.ndarray:
        """`propose(pixels, settings)`."""
        key = self.key(pixels, settings)
        if key not in self._known:
            file = None if self.folder is None else self.folder / f"{key}.npz"
            boxes = None if file is None else read(file, pixels.shape[:2])
            if boxes is None:
                boxes = propose(pixels, settings)
                if file is not None:
                    write(file, boxes)
            if len(self._known) >= self.most:
                self._known.pop(next(iter(self._known)))
            self._known[key] = boxes
        return self._known[key]

    @staticmethod
    def key(pixels: np.ndarray, settings: Settings) -> str:
        """A hash of the pixels and of all that the boxes depend on."""
        digest = hashlib.blake2b(pixels.tobytes(), digest_size=16)
        digest.update(repr((1, pixels.shape, settings, MODES[settings.mode])).encode())
        return digest.hexdigest()


def write(file: Path, boxes: np.ndarray) -> None:
    """Proposals as an .npz of `boxes` float32 [N, 4], whole or not at all."""
    part = file.with_name(f"{file.stem}.{os.getpid()}.part.npz")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(part, boxes=boxes)
        part.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()


def read(file: Path, size: tuple[int, int]) -> np.ndarray | None:
    """The boxes of a file that `write` wrote for a picture of size (height, width), or None if it is not such a file.

    The file is not trusted: nothing is unpickled or unpacked, and no more is read than a picture can have boxes.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entry = archive.getinfo("boxes.npy")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > 16 * MOST + 1024:
                return None
            with archive.open(entry) as stream:
                if np.lib.format.read_magic(stream) != (1, 0):
                    return None
                shape, columns_first, kind = np.lib.format.read_array_header_1_0(stream, max_header_size=1000)
                data = stream.read(16 * MOST + 1)
        if kind != np.dtype("<f4") or columns_first or len(shape) != 2 or shape[1] != 4 or len(data) != 16 * shape[0]:
            return None
        boxes = np.frombuffer(data, "<f4").reshape(-1, 4).astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return None
    limits = np.array([size[1], size[0]] * 2, np.float32) + 0.01
    inside = np.isfinite(boxes).all() and (boxes >= -0.01).all() and (boxes <= limits).all()
    return boxes if inside and (boxes[:, 2:] > boxes[:, :2]).all() else None
