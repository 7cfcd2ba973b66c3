"""What of a face's picture tells its shape: a window of fixed size, its brightness, and which pixels are lit skin.

Input   a photo, the fitted face, its 68 points; the albedo, if known.
Output  Skin: brightness and masks in the window, x right, y down.
Read    Skin, `looked_at`, then Skin.parts and Skin.known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from visagist.errors import FaceError
from visagist.head.light import LUMINANCE, linear
from visagist.head.morphable import EYES
from visagist.photo.window import Window

# Parts that are no skin or no surface: their points, and by how much the hull of these is grown, in distances between the eyes.
HELD = (
    *((slice(36, 42), 0.07), (slice(42, 48), 0.07)),  # eyes
    *((slice(17, 22), 0.05), (slice(22, 27), 0.05)),  # brows
    *((slice(31, 36), 0.05), (slice(60, 68), 0.03)),  # nostrils, the mouth's opening
)
LIPS, LIPS_GROWN = slice(48, 60), 0.02
MIDDLE = [36, 45, 54, 48]  # corners of the part that is taken to be skin: outer corners of eyes and mouth
EDGE = 0.045  # so far from the outline of the reference nothing is used, in distances between the eyes
FLAT = 0.03  # brightnesses whose 5th and 95th percentile differ by less than this part show no shading
DARK, BRIGHT = 0.003, 0.97  # linear light beyond which a pixel says nothing
BLACK = 10  # levels of a known albedo up to which it is black, as JPEG has it: unknown
SPREAD = 0.06  # least spread of ln(red / green) and ln(blue / green) that skin is taken to have
OTHER = 3.5  # so many spreads away a hue is not skin's
LEAST = 0.05  # so many pixels have to count, in squared distances between the eyes
ALBEDO = 0.1, 1.5  # bounds of a known albedo
SMALLEST = 12.0  # pixels between the eyes below which a photo shows no shape


@dataclass(frozen=True, eq=False)
class Skin:
    """One face in its window.

    window  photo -> window; points [68, 2] in the window; apart: window pixels between the eyes
    bright  float64 [h, w]: linear luminance; lit: bool, where it is that of skin, neither black nor burnt out
    albedo  float64 [h, w]: what somebody knows of it, of any scale, 0 where nobody does; None where nobody knows anything
    """

    window: Window
    points: np.ndarray
    apart: float
    bright: np.ndarray
    lit: np.ndarray
    albedo: np.ndarray | None = None

    def parts(self, covered: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of a reference that covers these pixels: all of it but its edge; the parts that keep its shape; the lips. bool [h, w]."""
        held = np.zeros_like(covered)
        for part, by in HELD:
            held |= grown(hull(self.points[part], covered.shape), by * self.apart)
        lips = grown(hull(self.points[LIPS], covered.shape), LIPS_GROWN * self.apart)
        return grown(covered, -EDGE * self.apart), held, lips & ~held

    def check(self, mask: np.ndarray) -> None:
        """FaceError "no-shading" where too few pixels count or all are alike."""
        if mask.sum() < LEAST * self.apart**2:
            hint = "it may be too dark, burnt out, painted, or cut by the border"
            raise FaceError("too little of the face shows shading", code="no-shading", hint=hint)
        low, middle, high = np.percentile(self.bright[mask], (5, 50, 95))
        if high - low < FLAT * middle:
            hint = "light from one side shows shape"
            raise FaceError("the face is equally bright everywhere, there is no shading", code="no-shading", hint=hint)

    def known(self, mask: np.ndarray, usual: float) -> tuple[Skin, np.ndarray | None]:
        """The skin whose albedo is known, and that albedo, `usual` in the median over the mask and where nobody knows it; all skin
        and None where nothing is known. FaceError "no-albedo" where too little of the mask is."""
        if self.albedo is None:
            return self, None
        lit = self.lit & (self.albedo > 0)
        if (mask & lit).sum() < LEAST * self.apart**2:
            hint = "it has to tell how bright skin is without light; black is what nobody knows"
            raise FaceError("the known albedo is black where the face is", code="no-albedo", hint=hint)
        even = np.clip(self.albedo * (usual / np.median(self.albedo[mask & lit])), *ALBEDO)
        return replace(self, lit=lit), np.where(self.albedo > 0, even, usual)


def looked_at(
    pixels: np.ndarray, points: np.ndarray, outline: np.ndarray, unit: float, apart: int, albedo: np.ndarray | None = None
) -> Skin:
    """The face in uint8 [H, W, 3] with these points [68, 2].

    outline  [N, 2]: places of the reference's vertices in the photo
    unit     photo pixels per unit of the model
    apart    window pixels between the eyes
    albedo   the known one, sRGB uint8 [H, W, 3], black where it is not known; where it has the hue of the photo, that is skin
    FaceError "too-small".
    """
    eyes = float(np.linalg.norm(points[EYES[0]].mean(0) - points[EYES[1]].mean(0)))
    eyes = max(eyes, 5 * unit)  # in a profile the eyes seem close together
    if eyes < SMALLEST:
        what = f"the face is too small, with {eyes:.0f} pixels between the eyes"
        raise FaceError(what, code="too-small", hint=f"{SMALLEST:.0f} are the least")
    scale = apart / eyes
    low, high = outline.min(0) - 6 / scale, outline.max(0) + 6 / scale
    width, height = np.ceil((high - low) * scale).astype(int).tolist()
    window = Window(np.array([[scale, 0, -scale * low[0]], [0, scale, -scale * low[1]]]), (height, width))
    placed = window.to_window(points)
    colour = linear(window.cut(pixels)).astype(np.float64)
    lit = window.cut(np.full(pixels.shape[:2], 255, np.uint8), border=(0.0,)) > 250  # within the photo
    lit &= (colour.min(2) > DARK / 3) & (colour.max(2) < BRIGHT)
    hue, known = np.log(np.maximum(colour, DARK / 3)), None
    if albedo is not None:
        sure = window.cut(np.where(albedo.max(2) > BLACK, 255, 0).astype(np.uint8), border=(0.0,)) > 250
        own = linear(window.cut(albedo)).astype(np.float64)
        hue, known = hue - np.log(np.maximum(own, DARK / 3)), np.where(sure, own @ LUMINANCE, 0)
    middle = hull(placed[MIDDLE], lit.shape) & lit
    if middle.any():
        lit &= alike(hue, middle)
    bright = colour @ LUMINANCE
    return Skin(window, placed, apart, bright, lit & (bright > DARK), known)


def alike(logs: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """bool [h, w]: which pixels have the hue of those in the middle, bool [h, w]. logs [h, w, 3]: logarithms of linear colours."""
    hue = np.stack([blurred(logs[..., i] - logs[..., 1], 1.0) for i in (0, 2)], axis=2)
    usual = np.median(hue[middle], axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(hue[middle] - usual), axis=0), SPREAD)
    same: np.ndarray = (np.abs(hue - usual) / spread).max(2) < OTHER
    return same


def hull(points: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """bool [h, w]: within the convex hull of these points."""
    filled = np.zeros(size, np.uint8)
    cv2.fillConvexPoly(filled, np.rint(cv2.convexHull(points.astype(np.float32))).astype(np.int32), 1)
    return filled > 0


def grown(mask: np.ndarray, by: float) -> np.ndarray:
    """The mask grown by so many pixels, shrunk where negative; beyond the picture nothing is."""
    reach = max(1, round(abs(by)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    change = cv2.dilate if by > 0 else cv2.erode
    changed: np.ndarray = change(mask.astype(np.uint8), disc, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    return changed


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian of this sigma, in pixels; at the edge the picture goes on with its last pixel."""
    return cv2.GaussianBlur(np.ascontiguousarray(picture), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
