"""Training scenes for face finders: a square cut recursively into tiles, each a face in its surroundings or something else.

What a finder must not learn is that a face sits in a rectangle with seams. So every tile of a scene is treated alike: faces,
backgrounds and parts of people that are no face (shoulders, clothes, hair) are all turned, scaled, recoloured and blurred the
same way and meet at the same seams, hard or blended; some patches are laid over the tiles with a soft round edge, and those too
are faces as often as not. Faces cut off by a seam or covered by a patch are neither right nor wrong: they are labelled "ignore".

Input: items with faces (with points where possible, so that the box of a turned face is exact) and items without.
Output: a neutral Item, photo uint8 [S, S, 3], faces labelled "face" or "ignore". Everything follows from the generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from visagist.photo.boxes import Box, area, clipped, overlap, scaled
from visagist.photo.face import Face, box_of_points
from visagist.photo.photo import Photo
from visagist.photo.window import Window
from visagist.recipe import Item

VISIBLE = 0.72  # share of a face box that must lie inside its tile for the face to be asked for
SMALLEST = 9.0  # faces whose box has a smaller geometric mean side, in scene pixels, are ignored

Labelled = tuple[Box, bool]  # a box, and whether it is a face that is asked for (else it is to be ignored)


@dataclass(frozen=True, eq=False)
class Pool:
    """Items sorted by what they can give to a scene, and their pictures in halved sizes, made when first wanted."""

    items: Sequence[Item]
    with_face: list[Item]
    people: list[Item]  # every face is labelled, so what lies outside is certainly no face
    without_face: list[Item]
    small: list[Item]  # pictures of one labelled thing (CIFAR-10): many kinds of texture, few pixels
    halved: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Sequence[Item]) -> Pool:
        with_face = [item for item in items if item.faces]
        empty = [item for item in items if not item.faces and item.complete]
        return cls(
            items,
            with_face,
            [item for item in with_face if item.complete],
            [item for item in empty if item.label is None],
            [item for item in empty if item.label is not None],
        )

    def cut(self, item: Item, window: Window, border: tuple[float, ...] | None = None) -> np.ndarray:
        """`window.cut` of the item's photo, from the smallest halved copy that has enough pixels."""
        pixels, matrix, level = item.photo.pixels, window.matrix, 0
        while np.hypot(matrix[0, 0], matrix[1, 0]) < 0.5 and min(pixels.shape[:2]) > 8:
            level += 1
            key = (id(item), level)
            if key not in self.halved:
                self.halved[key] = cv2.resize(pixels, (pixels.shape[1] // 2, pixels.shape[0] // 2), interpolation=cv2.INTER_AREA)
            half = self.halved[key]
            matrix = matrix @ np.diag([pixels.shape[1] / half.shape[1], pixels.shape[0] / half.shape[0], 1])
            pixels = half
        return Window(matrix, window.size).cut(pixels, border=border)


_pools: dict[int, Pool] = {}


def pool_of(items: Sequence[Item]) -> Pool:
    """The items sorted; remembered for the last few sequences, since a training asks for the same one at every example."""
    pool = _pools.get(id(items))
    if pool is None or pool.items is not items:
        while len(_pools) > 3:
            _pools.pop(next(iter(_pools)))
        pool = _pools[id(items)] = Pool.of(items)
    return pool


def scene(items: Sequence[Item], index: int, rng: np.random.Generator, size: int, *, least: float = 20) -> Item:
    """A scene of size x size; the item `index`, if it has a face, is the first face to be placed.

    least: pixels below which tiles are not cut any further, give or take the proportions of a cut.
    """
    pool = pool_of(items)
    if not pool.with_face and not pool.without_face:
        raise ValueError("scenes need items with faces or complete items without")
    canvas = np.empty((size, size, 3), np.uint8)
    found: list[Labelled] = []
    first = [items[index]] if items[index].faces else []
    # Some scenes are crowded with small faces, others hold a few large ones; some are empty.
    smallest = int(np.exp(rng.uniform(np.log(least), np.log(size / 1.4))))
    face_share = float(rng.choice([0.0, 0.35, 0.6, 0.85], p=[0.06, 0.30, 0.40, 0.24]))
    tiles = _cut(0, 0, size, size, smallest, rng)
    rng.shuffle(tiles)
    for x, y, w, h in tiles:
        canvas[y : y + h, x : x + w], boxes = _tile(pool, w, h, face_share, first, rng)
        found += _shifted(boxes, x, y)
    if rng.random() < 0.35:
        canvas = _blended_seams(canvas, tiles, rng)
    for _ in range(int(rng.integers(1, 5)) if rng.random() < 0.4 else 0):
        found = _lay_patch(canvas, found, pool, rng)
    photo = Photo.of(_spoiled(canvas, rng))
    faces = tuple(Face(box=box, label="face" if asked else "ignore") for box, asked in found)
    return Item(name=f"scene of {items[index].name}", load=lambda: photo, faces=faces)


def _cut(x: int, y: int, w: int, h: int, smallest: int, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """A rectangle cut in two again and again, until pieces are near `smallest` or chance stops."""
    long = max(w, h)
    if min(w, h) < 14 or long < 2 * smallest or (long < 4 * smallest and rng.random() < 0.12):
        return [(x, y, w, h)]
    share = rng.uniform(0.34, 0.66)
    if w > h * rng.uniform(0.75, 1.33):
        a = int(w * share)
        return _cut(x, y, a, h, smallest, rng) + _cut(x + a, y, w - a, h, smallest, rng)
    a = int(h * share)
    return _cut(x, y, w, a, smallest, rng) + _cut(x, y + a, w, h - a, smallest, rng)


def _tile(
    pool: Pool, w: int, h: int, face_share: float, first: list[Item], rng: np.random.Generator
) -> tuple[np.ndarray, list[Labelled]]:
    """One tile uint8 [h, w, 3] with its boxes in tile coordinates."""
    boxes: list[Labelled] = []
    if pool.with_face and (first or rng.random() < face_share):
        item = first.pop() if first else pool.with_face[int(rng.integers(len(pool.with_face)))]
        tile, boxes = _face_tile(pool, item, w, h, rng)
    else:
        tile = _other_tile(pool, w, h, rng)
    return _recoloured(tile, rng), boxes


def _roll(rng: np.random.Generator) -> float:
    """Degrees a head is tipped: mostly a little, every third one up to nearly lying."""
    return float(rng.uniform(-65, 65)) if rng.random() < 0.35 else float(np.clip(rng.normal(0, 13), -45, 45))


def _border(rng: np.random.Generator) -> tuple[float, ...] | None:
    """What lies past the edge of a photo: its last pixels repeated, or any colour."""
    return None if rng.random() < 0.5 else tuple(float(v) for v in rng.integers(0, 256, 3))


def _face_tile(pool: Pool, item: Item, w: int, h: int, rng: np.random.Generator) -> tuple[np.ndarray, list[Labelled]]:
    """The item's first face somewhere in a tile, with some of its surroundings."""
    x0, y0, x1, y1 = item.faces[0].box
    side = max(x1 - x0, y1 - y0)
    least = 0.24 if item.complete else 0.46  # a crop of a frame ends near the face, a portrait shows shoulders as well
    fill = float(rng.uniform(least, 1.05))  # long side of the face over short side of the tile
    scale = min(w, h) * fill / side
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    upright = Window.turned(middle, max(w, h) / scale, max(w, h), roll=_roll(rng), mirror=rng.random() < 0.5)
    matrix = np.diag(np.exp(rng.uniform(-0.13, 0.13, 2))) @ upright.matrix
    slack = np.maximum(np.array([w, h]) - side * scale, 0) / 2
    centre = np.array([w, h]) / 2 + rng.uniform(-1, 1, 2) * (slack + 0.12 * side * scale)
    matrix[:, 2] = centre - matrix[:, :2] @ middle
    tile = pool.cut(item, Window(matrix, (h, w)), _border(rng))
    boxes = [_judged(_moved_box(face, matrix), (h, w)) for face in item.faces]
    points = item.faces[0].points
    if points is not None and len(points) == 68 and rng.random() < 0.14:
        tile = _dressed(tile, points @ matrix[:, :2].T + matrix[:, 2], pool, rng)
    if not item.complete and fill < 0.75:  # an unlabelled face may be beyond the labelled one: neither right nor wrong there
        boxes += _beyond(boxes[0][0], (h, w))
    return tile, boxes


def _dressed(tile: np.ndarray, points: np.ndarray, pool: Pool, rng: np.random.Generator) -> np.ndarray:
    """The face with something over its forehead like a cap, or over its eyes like dark glasses; points [68, 2] in the tile."""
    h, w = tile.shape[:2]
    mask = np.zeros((h, w), np.uint8)
    right, left, chin = points[17], points[26], points[8]
    up = (right + left) / 2 - chin
    if rng.random() < 0.6:
        lift = rng.uniform(-0.02, 0.12)
        ends = [right + (right - left) * rng.uniform(0.05, 0.3), left + (left - right) * rng.uniform(0.05, 0.3)]
        outline = [
            ends[0] + up * lift,
            ends[1] + up * lift,
            ends[1] + up * rng.uniform(0.4, 0.8),
            ends[0] + up * rng.uniform(0.4, 0.8),
        ]
        cv2.fillConvexPoly(mask, np.round(np.array(outline) * 16).astype(np.int32), 255, cv2.LINE_8, 4)
        item = pool.without_face[int(rng.integers(len(pool.without_face)))] if pool.without_face else None
        cover = _part(pool, item, w, h, rng, least=0.1) if item else np.full_like(tile, rng.integers(0, 256, 3))
    else:
        reach = float(np.hypot(*(points[36] - points[39]))) * rng.uniform(0.65, 1.0)
        centres = [points[36:42].mean(0), points[42:48].mean(0)]
        for centre in centres:
            cv2.circle(mask, tuple(int(v) for v in np.round(centre * 16)), int(reach * 16), 255, -1, cv2.LINE_8, 4)
        a, b = (tuple(int(v) for v in np.round(c)) for c in centres)
        cv2.line(mask, a, b, 255, max(1, int(reach / 4)))
        cover = np.full_like(tile, rng.integers(0, 70, 3))
    return cv2.copyTo(cover, mask, tile.copy())


def _moved_box(face: Face, matrix: np.ndarray) -> Box:
    """The face box after an affine map; exact where the points are known, else that of the turned box made as large as the face."""
    if face.points is not None:
        return box_of_points(face.points @ matrix[:, :2].T + matrix[:, 2])
    x0, y0, x1, y1 = face.box
    cx, cy = matrix[:, :2] @ ((x0 + x1) / 2, (y0 + y1) / 2) + matrix[:, 2]
    hw, hh = np.hypot(*(matrix[:, :2] * ((x1 - x0) / 2, (y1 - y0) / 2)).T)  # an ellipse turns into an ellipse
    return float(cx - hw), float(cy - hh), float(cx + hw), float(cy + hh)


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _judged(box: Box, size: tuple[int, int]) -> Labelled:
    """A face is asked for unless it is too small or too much of it is cut off by its tile."""
    whole = _area(box)
    return box, whole >= SMALLEST**2 and _area(clipped(box, size)) >= VISIBLE * whole


def _beyond(box: Box, size: tuple[int, int]) -> list[Labelled]:
    """What lies well outside a labelled face, as up to four boxes to be ignored."""
    h, w = size
    x0, y0, x1, y1 = clipped(scaled(box, 1.35), size)
    strips = [(0.0, 0.0, float(w), y0), (0.0, y1, float(w), float(h)), (0.0, y0, x0, y1), (x1, y0, float(w), y1)]
    return [(s, False) for s in strips if s[2] - s[0] > 4 and s[3] - s[1] > 4]


def _shifted(boxes: list[Labelled], x: float, y: float) -> list[Labelled]:
    return [((b[0] + x, b[1] + y, b[2] + x, b[3] + y), asked) for b, asked in boxes]


def _other_tile(pool: Pool, w: int, h: int, rng: np.random.Generator) -> np.ndarray:
    """A tile that holds no face: part of a person beside the face, of some picture, or clouds of colour."""
    kind = rng.random()
    if kind < 0.30 and pool.people:
        tile = _beside_face(pool, pool.people[int(rng.integers(len(pool.people)))], w, h, rng)
        if tile is not None:
            return tile
    if pool.small and (kind < 0.45 or not pool.without_face) and min(w, h) < 120:
        return _part(pool, pool.small[int(rng.integers(len(pool.small)))], w, h, rng, least=0.6)
    if pool.without_face and kind < 0.97:
        return _part(pool, pool.without_face[int(rng.integers(len(pool.without_face)))], w, h, rng, least=0.15)
    clouds = rng.integers(0, 256, (max(2, h // 16), max(2, w // 16), 3)).astype(np.uint8)
    return cv2.resize(clouds, (w, h), interpolation=cv2.INTER_CUBIC)


def _part(pool: Pool, item: Item, w: int, h: int, rng: np.random.Generator, least: float) -> np.ndarray:
    """A turned part of a picture, between `least` and all of its short side."""
    height, width = item.photo.size
    side = min(height, width) * rng.uniform(least, 1.0)
    centre = (rng.uniform(side / 2, width - side / 2), rng.uniform(side / 2, height - side / 2))
    window = Window.turned(centre, side, max(w, h), roll=_roll(rng), mirror=rng.random() < 0.5)
    matrix = window.matrix.copy()
    matrix[:, 2] += np.array([w, h]) / 2 - max(w, h) / 2
    return pool.cut(item, Window(matrix, (h, w)), _border(rng))


def _beside_face(pool: Pool, item: Item, w: int, h: int, rng: np.random.Generator) -> np.ndarray | None:
    """Part of a person's photo that holds at most a sliver of any face, or None when chance finds none."""
    height, width = item.photo.size
    boxes = np.array([face.box for face in item.faces])
    for _ in range(6):
        long = min(height, width) * rng.uniform(0.12, 0.6)
        pw, ph = (long, long * h / w) if w >= h else (long * w / h, long)
        x0, y0 = rng.uniform(0, width - pw), rng.uniform(0, height - ph)
        box = (x0, y0, x0 + pw, y0 + ph)
        if (overlap(np.array([box]), boxes)[0] <= 0.12 * area(boxes)).all():
            return pool.cut(item, Window.of_box(box, (h, w)))
    return None


def _recoloured(tile: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gain, offset, gamma, saturation and now and then grey or dusk, by one table per channel and one mix with grey."""
    gamma, gain, offset = np.exp(rng.normal(0, 0.25)), np.exp(rng.normal(0, 0.15)), rng.normal(0, 12)
    if rng.random() < 0.2:
        gain *= rng.uniform(0.35, 0.85)
    tint = np.exp(rng.normal(0, 0.06, 3))
    ramp = (np.arange(256) / 255) ** gamma * 255 * gain + offset
    table = np.clip(ramp[:, None] * tint, 0, 255).astype(np.uint8)
    out = cv2.LUT(tile, table[None])
    keep = 0.0 if rng.random() < 0.08 else float(np.clip(rng.normal(1, 0.3), 0, 1.8))
    grey = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    out = cv2.addWeighted(out, keep, grey, 1 - keep, 0)
    if rng.random() < 0.25:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.4, 0.4 + 0.02 * min(tile.shape[:2]))))
    return out


def _blended_seams(canvas: np.ndarray, tiles: Sequence[tuple[int, int, int, int]], rng: np.random.Generator) -> np.ndarray:
    """The scene with its seams blurred away over a few pixels."""
    seams = np.zeros(canvas.shape[:2], np.uint8)
    width = int(rng.integers(1, 3))
    for x, y, w, h in tiles:
        cv2.rectangle(seams, (x, y), (x + w - 1, y + h - 1), 255, width)
    cv2.copyTo(cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.8, 2.0))), seams, canvas)
    return canvas


def _lay_patch(canvas: np.ndarray, found: list[Labelled], pool: Pool, rng: np.random.Generator) -> list[Labelled]:
    """Lay a soft round patch, face or not, over the canvas (in place); returns the boxes that are then there."""
    size = canvas.shape[0]
    side = int(np.exp(rng.uniform(np.log(18), np.log(size * 0.6))))
    x, y = (int(rng.integers(0, size - side)) for _ in range(2))
    patch, boxes = _tile(pool, side, side, 0.5, [], rng)
    grid = (np.arange(side) + 0.5) / side * 2 - 1
    power = float(rng.choice([2.0, 3.0, 6.0]))
    radius = (np.abs(grid[:, None]) ** power + np.abs(grid[None]) ** power) ** (1 / power)
    edge = float(rng.uniform(0.03, 0.3))
    m = np.clip((1 - radius) / edge, 0, 1)[..., None].astype(np.float32)
    canvas[y : y + side, x : x + side] = (canvas[y : y + side, x : x + side] * (1 - m) + patch * m).astype(np.uint8)
    cover = (float(x), float(y), float(x + side), float(y + side))
    kept = []
    for box, asked in found:
        covered = _common(box, cover) / max(1e-6, _area(box))
        if not asked or covered < 0.9:  # a face that is quite hidden is gone; one that is partly hidden is neither right nor wrong
            kept.append((box, asked and covered < 0.25))
    middle = (side * 0.1, side * 0.1, side * 0.9, side * 0.9)
    return kept + _shifted([(b, asked and _common(b, middle) >= 0.8 * _area(b)) for b, asked in boxes], x, y)


def _common(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _spoiled(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The scene as a bad camera would give it: noise, blur, JPEG, a lower resolution."""
    size = canvas.shape[0]
    if rng.random() < 0.15:
        factor = float(rng.uniform(0.5, 0.9))
        small = cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        canvas = cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.2:
        canvas = cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.3, 1.2)))
    if rng.random() < 0.3:
        grain = rng.integers(-128, 128, (size // 2, size // 2, 3), dtype=np.int8)  # uniform, then scaled: cheap
        noise = cv2.resize(grain.astype(np.float32), (size, size)) * float(rng.uniform(0.02, 0.15))
        canvas = np.clip(canvas + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        ok, data = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        canvas = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)) if ok else canvas
    return canvas
