"""A canvas finer than the picture, and how a made-up head is painted on it, from back to front."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from visagist.training.data.heads import Colour, Head, contour, mouth_y, points68, surface

FINE = 3  # canvas pixels per picture pixel; averaging them is the anti-aliasing


class Canvas:
    """A picture of size (height, width) to be painted on in picture coordinates."""

    def __init__(self, size: tuple[int, int], colour: Colour = (0, 0, 0)) -> None:
        self.size = size
        self.pixels = np.empty((size[0] * FINE, size[1] * FINE, 3), np.uint8)
        self.pixels[:] = np.round(colour)
        self.origin = np.zeros(2)  # where the canvas begins, in canvas pixels of the whole

    def mask(self, points: np.ndarray, blur: float = 0.0) -> tuple[np.ndarray, tuple[slice, slice]]:
        """What of the canvas lies within a polygon, softened over `blur` picture pixels: float32 [h, w, 1] in 0..1, and where."""
        fine = np.asarray(points, float) * FINE - self.origin
        margin = int(np.ceil(3 * blur * FINE)) + 2
        low = np.clip(np.floor(fine.min(0)).astype(int) - margin, 0, self.pixels.shape[1::-1])
        high = np.clip(np.ceil(fine.max(0)).astype(int) + margin, low, self.pixels.shape[1::-1])
        region = (slice(low[1], high[1]), slice(low[0], high[0]))
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        if mask.size:
            cv2.fillPoly(mask, [_fixed(fine - low)], 255, cv2.LINE_8, 4)
            if blur:
                mask = _softened(mask, max(0.3, blur * FINE))
        return mask[..., None].astype(np.float32) / 255, region

    def fill(self, points: np.ndarray, colour: Colour, alpha: float = 1.0, blur: float = 0.0) -> None:
        """A polygon [N, 2], opaque and hard, or with an alpha and a soft edge."""
        if alpha == 1 and not blur:
            cv2.fillPoly(self.pixels, [_fixed(np.asarray(points, float) * FINE - self.origin)], _scalars(colour), cv2.LINE_8, 4)
            return
        mask, region = self.mask(points, blur)
        part = self.pixels[region].astype(np.float32)
        self.pixels[region] = np.rint(part + alpha * mask * (np.array(colour, np.float32) - part))

    @contextmanager
    def only(self, points: np.ndarray) -> Iterator[Canvas]:
        """A canvas of which only what lies within the polygon will be seen on this one."""
        mask, (rows, columns) = self.mask(points)
        inner = Canvas((1, 1))
        if mask.size:
            inner.pixels = self.pixels[rows, columns].copy()
        inner.origin = self.origin + np.array([columns.start, rows.start])
        yield inner
        if mask.size:
            self.pixels[rows, columns] = np.where(mask > 0.5, inner.pixels, self.pixels[rows, columns])

    def line(self, points: np.ndarray, colour: Colour, width: float) -> None:
        """A line through points [N, 2], `width` picture pixels wide."""
        thick = max(1, round(width * FINE))
        cv2.polylines(
            self.pixels, [_fixed(np.asarray(points, float) * FINE - self.origin)], False, _scalars(colour), thick, cv2.LINE_8, 4
        )

    def shade(self, points: np.ndarray, factor: Callable[[np.ndarray, np.ndarray], np.ndarray], blur: float = 0.0) -> None:
        """Multiply the inside of a polygon by `factor(x, y)` of picture coordinates."""
        mask, region = self.mask(points, blur)
        if not mask.size:
            return
        x = (np.arange(region[1].start, region[1].stop) + 0.5) / FINE
        y = (np.arange(region[0].start, region[0].stop)[:, None] + 0.5) / FINE
        fine = factor(x, y).astype(np.float32)[..., None]
        self.pixels[region] = np.clip(np.rint(self.pixels[region] * (1 + mask * (fine - 1))), 0, 255)

    def picture(self) -> np.ndarray:
        """uint8 [H, W, 3]."""
        return cv2.resize(self.pixels, self.size[::-1], interpolation=cv2.INTER_AREA)


def paint(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    """The head with neck and shoulders. The generator only places hairs and freckles."""
    look, unit = head.look, head.scale
    points = head.place(points68(look))
    skin, dark = np.array(look.skin), np.array(look.skin) * 0.72
    line = tuple(np.array(look.skin) * 0.5)

    _hair_behind(canvas, head)
    _body(canvas, head, tuple(skin * 0.86))
    for side in (-1, 1):
        canvas.fill(head.place(_ring(side * 1.02, 0.22, 0.13, 0.30, -0.55)), tuple(skin * 0.90))
        canvas.fill(head.place(_ring(side * 1.04, 0.22, 0.06, 0.17, -0.50)), tuple(dark))

    outline = head.place(np.concatenate([contour(look, np.linspace(-1, 1, 41)), _skull(look.hair_line)]))
    canvas.fill(outline, look.skin)
    for side in (-1, 1):  # cheeks, sockets
        canvas.fill(head.place(_ring(side * 0.55, 0.62, 0.24, 0.20, 0.2)), (225, 90, 80), 0.16, unit * 0.12)
        canvas.fill(head.place(_ring(side * look.eye_apart, -0.06, 0.30, 0.17, 0.25)), tuple(dark * 0.9), 0.25, unit * 0.06)
    canvas.fill(head.place(_ring(0, look.chin - 0.12, 0.20, 0.10, 0.3)), tuple(np.minimum(skin * 1.1, 255)), 0.3, unit * 0.06)
    if look.freckles:
        for x, y in rng.normal((0, 0.45), (0.38, 0.13), (30, 2)):
            canvas.fill(head.place(_ring(x, y, 0.016, 0.016, 0.3, 6)), tuple(dark), 0.6)
    if look.beard:
        _beard(canvas, head, points, rng)
    _nose(canvas, head, points, line)
    _mouth(canvas, head, points)
    for group, brow, side in ((range(36, 42), range(17, 22), -1), (range(42, 48), range(22, 27), 1)):
        _eye(canvas, head, points[group.start : group.stop], side)
        _brow(canvas, points[brow.start : brow.stop], side, tuple(np.array(look.hair) * 0.8), look.brow_thick * unit)
    _light(canvas, head, outline)
    if not look.bald:
        _hair_in_front(canvas, head, rng)
    if look.hat:
        _hat(canvas, head)
    if look.glasses:
        _glasses(canvas, head, points)


# ---- parts, in head coordinates ----


def _ring(x: float, y: float, rx: float, ry: float, z: float | None = None, n: int = 24) -> np.ndarray:
    """An ellipse [N, 3] about (x, y), in depth z or on the face."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    px, py = x + rx * np.cos(t), y + ry * np.sin(t)
    return np.column_stack([px, py, surface(px, py) if z is None else np.full(n, z)])


def _skull(height: float, grow: float = 1.0, n: int = 41) -> np.ndarray:
    """The upper outline of the head [N, 3], from the left ear over the top to the right ear."""
    t = np.linspace(0, np.pi, n)
    x = grow * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** 0.8
    y = -0.05 - grow * (height + 0.35) * np.sin(t) ** 0.9
    return np.column_stack([x, y, -0.4 * np.ones(n)])


def _hair_behind(canvas: Canvas, head: Head) -> None:
    look = head.look
    if look.bald:
        return
    fall = 0.25 + 2.0 * look.hair_long
    x, low = 1.14 + 0.16 * look.hair_long, fall
    top = _skull(look.hair_line + 0.12, 1.14)
    sides = np.array([[-x, 0.1, -0.7], [-x - 0.05, low * 0.6, -0.7], [-x + 0.15, low, -0.7], [x - 0.15, low, -0.7]])
    ends = np.array([[x + 0.05, low * 0.6, -0.7], [x, 0.1, -0.7]])
    canvas.fill(head.place(np.concatenate([top, sides, ends])), tuple(np.array(look.hair) * 0.72))


def _body(canvas: Canvas, head: Head, skin: Colour) -> None:
    c, chin = head.look, head.look.chin
    shoulders = [[-0.55, chin + 0.35], [-1.5, chin + 0.62], [-1.95, chin + 1.1], [-2.05, chin + 3.2]]
    body = np.array([*shoulders, *([-x, y] for x, y in shoulders[::-1])])
    canvas.fill(head.place(np.column_stack([body, np.full(len(body), -0.6)])), c.clothes)
    neck = np.array([[-0.55, chin - 0.75], [-0.50, chin + 0.2], [-0.62, chin + 0.42], [0, chin + 0.75]])
    neck = np.concatenate([neck, (neck * (-1, 1))[-2::-1]])
    canvas.fill(head.place(np.column_stack([neck, np.full(len(neck), -0.5)])), skin)
    shadow = _ring(0, chin - 0.1, 0.55, 0.32, -0.45)
    canvas.fill(head.place(shadow), tuple(np.array(skin) * 0.7), 0.6, head.scale * 0.06)


def _nose(canvas: Canvas, head: Head, points: np.ndarray, line: Colour) -> None:
    unit, side = head.scale, 1 if head.look.light < 0 else -1
    look = head.look
    dark = tuple(np.array(look.skin) * 0.78)
    flank = np.array([[0, 0.05], [side * 0.06, 0.1], [side * look.nose_width * 0.9, look.nose + 0.1], [0, look.nose]])
    canvas.fill(head.place(np.column_stack([flank, [0.42, 0.36, 0.42, 0.68]])), dark, 0.7, unit * 0.035)
    canvas.fill(
        head.place(_ring(0, look.nose - 0.03, 0.07, 0.06, 0.7)),
        tuple(np.minimum(np.array(look.skin) * 1.15, 255)),
        0.7,
        unit * 0.04,
    )
    for x in (-0.5, 0.5):
        canvas.fill(head.place(_ring(x * look.nose_width, look.nose + 0.115, 0.055, 0.028, 0.5)), tuple(np.array(line) * 0.7))
    canvas.line(_smooth(points[31:36]), line, unit * 0.025)


def _mouth(canvas: Canvas, head: Head, points: np.ndarray) -> None:
    look, unit = head.look, head.scale
    outer, inner = points[48:60], points[60:68]
    colour = np.array(look.lips)
    whole = _smooth_closed(outer, (0, 6))
    canvas.fill(whole, look.lips)
    upper = np.concatenate([_smooth(outer[:7]), _smooth(inner[:5])[::-1]])
    canvas.fill(upper, tuple(colour * 0.86))
    shine = (outer[8] + outer[9] + 2 * inner[6]) / 4
    t = np.linspace(0, 2 * np.pi, 16)
    oval = shine + np.column_stack([np.cos(t) * 0.13, np.sin(t) * 0.02]) * unit
    canvas.fill(oval, tuple(np.minimum(colour * 1.2 + 30, 255)), 0.5, unit * 0.025)
    mouth = _smooth_closed(inner, (0, 4))
    if look.mouth_open > 0.02:
        canvas.fill(mouth, (70, 22, 28))
        y, gap = mouth_y(look), look.mouth_open
        low = y + min(0.10, gap * 0.55)
        teeth = np.array([[-0.30, y - 0.05], [0.30, y - 0.05], [0.26, low], [-0.26, low]])
        with canvas.only(mouth) as inside:
            inside.fill(head.place(_ring(0, y + gap, 0.2, 0.3 * gap, 0.3)), (190, 90, 95))
            inside.fill(head.place(np.column_stack([teeth, surface(*teeth.T)])), (240, 236, 226))
            for x in np.linspace(-0.2, 0.2, 5):
                inside.line(head.place(np.array([[x, y - 0.05, 0.35], [x * 0.95, low, 0.35]])), (206, 200, 190), unit * 0.008)
    else:
        canvas.line(_smooth(inner[:5]), tuple(colour * 0.5), unit * 0.022)


def _eye(canvas: Canvas, head: Head, eye: np.ndarray, side: int) -> None:
    look, unit = head.look, head.scale
    shape = _smooth_closed(eye, (0, 3))
    lash = tuple(np.array(look.hair) * 0.4)
    if look.eye_open > 0.02:
        canvas.fill(shape, (242, 240, 236))
        x, y = side * look.eye_apart + look.gaze * look.eye_width * 0.5, -look.eye_open * 0.15
        with canvas.only(shape) as inside:
            for radius, colour in ((0.105, np.array(look.iris) * 0.6), (0.092, np.array(look.iris)), (0.045, np.full(3, 12.0))):
                inside.fill(head.place(_ring(x, y, radius, radius, 0.22)), tuple(colour))
            inside.fill(head.place(_ring(x + 0.03, y - 0.035, 0.022, 0.022, 0.22, 10)), (255, 255, 255))
    canvas.line(_smooth(eye[:4]), lash, unit * 0.032)
    canvas.line(_smooth(eye[[3, 4, 5, 0]]), tuple(np.array(look.skin) * 0.6), unit * 0.014)


def _brow(canvas: Canvas, brow: np.ndarray, side: int, colour: Colour, thick: float) -> None:
    along = _smooth(brow)
    share = np.linspace(0, 1, len(along)) if side < 0 else np.linspace(1, 0, len(along))  # thick towards the nose
    half = (0.25 + 0.75 * share)[:, None] * thick / 2
    across = np.gradient(along, axis=0)[:, ::-1] * (1, -1)
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
    canvas.fill(np.concatenate([along + across * half, (along - across * half)[::-1]]), colour, 0.9, thick * 0.12)


def _beard(canvas: Canvas, head: Head, points: np.ndarray, rng: np.random.Generator) -> None:
    look, unit = head.look, head.scale
    lower = contour(look, np.linspace(-0.8, 0.8, 25))
    top = np.array([[0.62, 0.9], [0.5, 1.0], [0.28, look.nose + 0.24], [0, look.nose + 0.21]])
    top = np.concatenate([top, (top * (-1, 1))[-2::-1]])
    area = head.place(np.concatenate([lower, np.column_stack([top, surface(*top.T)])]))
    canvas.fill(area, look.hair, 0.35 + 0.55 * look.beard, unit * 0.05)
    u, v = rng.uniform(-0.7, 0.7, 160), rng.uniform(0.02, 0.35, 160)
    roots = contour(look, u)
    roots[:, :2] += np.column_stack([-roots[:, 0] * v * 0.6, -v])
    for a, tone in zip(head.place(roots), rng.uniform(0.6, 1.5, 160), strict=True):
        canvas.line(np.array([a, a + np.array([0, unit * 0.05])]), tuple(np.minimum(np.array(look.hair) * tone, 255)), unit * 0.012)


def _light(canvas: Canvas, head: Head, outline: np.ndarray) -> None:
    """Brighter towards the light, darker away from it and towards the outline."""
    angle = np.deg2rad(head.look.light + head.look.roll)
    centre = head.place(np.array([[0, 0.6, 0.0]]))[0]

    def factor(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x, y = (x - centre[0]) / head.scale, (y - centre[1]) / head.scale
        towards = x * np.sin(angle) - y * np.cos(angle)
        made: np.ndarray = (
            1 + head.look.contrast * np.clip(0.7 * towards, -1, 0.6) - 0.10 * np.clip(x**2 + (y / 1.4) ** 2 - 0.5, 0, 1)
        )
        return made

    canvas.shade(outline, factor, head.scale * 0.02)


def _hair_in_front(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    look = head.look
    top = _skull(look.hair_line + 0.12, 1.12)
    part = rng.uniform(-0.5, 0.5)
    x = np.linspace(-1.06, 1.06, 25)
    fringe = -look.hair_line * (1 - 0.85 * np.abs(x) ** 3) + 0.16 * np.abs(x - part) * (1 - x**2) + 0.03 * np.sin(x * 17 + part * 9)
    low = 0.15 + 0.9 * look.hair_long
    sides = np.array([[-1.13, low], [-1.02, low * 0.9]]), np.array([[1.02, low * 0.9], [1.13, low]])
    hem = np.concatenate([sides[0], np.column_stack([x, fringe]), sides[1]])
    shape = np.concatenate([top, np.column_stack([hem, np.concatenate([[-0.5] * 2, -0.3 + 0.5 * (1 - x**2), [-0.5] * 2])])])
    canvas.fill(head.place(shape), look.hair)
    for t in rng.uniform(0.1, np.pi - 0.1, 26):  # strands
        a = np.array([np.cos(t) * 1.08, -0.05 - (look.hair_line + 0.45) * np.sin(t), -0.3])
        b = a * (0.9, 1, 1) + (0, 0.28 * np.sin(t) + 0.05, 0.2)
        tone = tuple(np.clip(np.array(look.hair) * rng.uniform(0.7, 1.35), 0, 255))
        canvas.line(head.place(np.stack([a, b])), tone, head.scale * 0.018)


def _hat(canvas: Canvas, head: Head) -> None:
    look = head.look
    colour = np.array(look.clothes) * 0.85
    crown = _skull(look.hair_line + 0.25, 1.16)
    crown = crown[crown[:, 1] < -look.hair_line * 0.65]
    canvas.fill(head.place(crown), tuple(colour))
    brim = _ring(0, -look.hair_line * 0.68, 1.32, 0.13, 0.1)
    canvas.fill(head.place(brim), tuple(colour * 0.7))


def _glasses(canvas: Canvas, head: Head, points: np.ndarray) -> None:
    look, unit = head.look, head.scale
    frame = (28, 26, 30) if look.glasses != "round" else (120, 96, 60)
    for side in (-1, 1):
        centre = side * (look.eye_apart + 0.01)
        ring = _ring(centre, 0.04, 0.33, 0.27, 0.36, 40)
        if look.glasses != "round":  # towards a rectangle
            d = ring[:, :2] - (centre, 0.04)
            ring[:, :2] = (centre, 0.04) + np.sign(d) * np.abs(d / (0.33, 0.27)) ** 0.45 * (0.33, 0.24)
        lens = head.place(ring)
        canvas.fill(lens, (20, 20, 26) if look.glasses == "dark" else (225, 235, 245), 0.92 if look.glasses == "dark" else 0.13)
        canvas.line(np.concatenate([lens, lens[:1]]), frame, unit * 0.035)
        canvas.line(head.place(np.array([[side * 0.77, 0.0, 0.36], [side * 1.03, -0.02, -0.5]])), frame, unit * 0.035)
    canvas.line(head.place(np.array([[-0.11, -0.01, 0.42], [0, -0.04, 0.46], [0.11, -0.01, 0.42]])), frame, unit * 0.035)


# ---- curves in the picture ----


def _smooth(points: np.ndarray, steps: int = 6) -> np.ndarray:
    """A Catmull-Rom curve through points [N, 2]."""
    p = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    parts = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
        parts.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.concatenate([*parts, points[-1:]])


def _smooth_closed(points: np.ndarray, corners: tuple[int, int]) -> np.ndarray:
    """A closed curve through points that is pointed at two of them."""
    a, b = corners
    return np.concatenate([_smooth(points[a : b + 1]), _smooth(np.concatenate([points[b:], points[:1]]))])


def _softened(mask: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; a wide one is made on a reduced mask, which is all that can be seen of it."""
    height, width = mask.shape
    less = int(sigma // 3)
    if less < 2 or min(mask.shape) < 4 * less:
        return cv2.GaussianBlur(mask, (0, 0), sigma)
    small = cv2.resize(mask, (width // less, height // less), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / less), (width, height), interpolation=cv2.INTER_LINEAR)


def _scalars(colour: Colour) -> tuple[float, ...]:
    """OpenCV takes Python's numbers only."""
    return tuple(float(v) for v in colour)


def _fixed(points: np.ndarray) -> np.ndarray:
    """Continuous coordinates as OpenCV's fixed-point ones with 4 fractional bits (its pixel centres are whole numbers)."""
    return np.round(np.clip(points - 0.5, -8000, 16000) * 16).astype(np.int32)
