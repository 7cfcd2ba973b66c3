"""Shape from shading: one photo and a face that is somebody else's give the depth of every pixel, the light and the albedo.

Paper   Kemelmacher-Shlizerman, Basri: 3D Face Reconstruction from a Single Image Using a Single Reference Face Shape. PAMI 2011.
Input   a photo, the 68 points of a face, the morphable model (or another surface with 68 points) as reference; albedo, if known.
Output  Relief: depth, normals, albedo and light of the face; from it the photo in another light, turned, as a mesh.
Differs The reference is the fitted morphable model, whose coefficients and pose are first corrected by the shading itself
        (`reference.refined`), so that what is smooth is explained by faces and only the rest pixel by pixel. See also `depth`.
Read    Shading (settings), .relief (the whole method), then _light and _albedo; .rotate (use). Step 1 is in `reference`, which
        pixels count in `skin`, step 3 in `depth`, what is done with the result in `relief`.

Inside, pictures are windows with `apart` pixels between the eyes: x right, y down, depth z towards the viewer in pixels; normals
x right, y up, z towards the viewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from torch import nn

from visagist.errors import TrainingError, UsageError
from visagist.head.fit import Fit
from visagist.head.light import TERMS, encoded, estimate, harmonics
from visagist.head.mesh import Mesh
from visagist.head.morphable import Morphable
from visagist.head.render import harmonic
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Networks, Recipe, Stage
from visagist.rotate.around import Head
from visagist.rotate.carry import carry
from visagist.rotate.depth import Problem, lifted
from visagist.rotate.reference import Reference, check, drawn, fitted, refined, surface, warped
from visagist.rotate.relief import Relief
from visagist.rotate.skin import ALBEDO, Skin, blurred, looked_at
from visagist.rotate.turn import MorphableTurn

REFERENCES = ("fitted", "mean")
SKIN = 0.7  # albedo of the reference's skin; only its product with the light is seen
FRONTAL = 0.15  # light whose part within the picture is less than this much of that from all around says little of slopes
NOISY, SMOOTH = 400.0, (0.003, 0.3)  # lambda 1 over the variance of the noise, and between which bounds it stays
DEEPEST = 1.5  # cm that the depth may leave the reference
ENOUGH = 0.05  # pixels: a round that changes less is the last


@dataclass(frozen=True)
class Shading(Recipe):
    """Settings. There is nothing to train: all that is learnt is the morphable model."""

    reference: str = "fitted"  # the fitted model, or "mean": its mean face, warped onto the points
    apart: int = 80  # pixels between the eyes that the face is brought to
    order: int = 1  # of the harmonics: 1 (4 terms) or 2 (9 terms)
    rounds: int = 3  # of depth, light and albedo, at most
    refine: float = 0.7  # sigma of a pixel's shade while the model's coefficients are corrected; 0: they stay
    smooth: float = 0.0  # lambda 1: weight of the change's squared slopes; 0: by the photo's noise
    pull: float = 2.5e-5  # lambda 2: weight of the squared distance from the reference, in pixels at 70 between the eyes
    wide: float = 0.15  # sigma of the Gaussian that smooths the albedo, in distances between the eyes; 0: it stays the reference's
    iterations: int = 250  # of conjugate gradients, at most
    noise: float = 0.03  # sigma of a landmark over the distance between the eyes, while the model is corrected
    outline: float = 0.5  # weight of the jaw's squared errors there

    ships: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.reference not in REFERENCES:
            raise ValueError(f"there is no reference {self.reference!r}, choose {' or '.join(REFERENCES)}")
        if self.order not in TERMS or not 30 <= self.apart <= 160 or not 1 <= self.rounds <= 20:
            raise ValueError("order is 1 or 2, apart lies between 30 and 160, rounds between 1 and 20")
        numbers = (self.refine, self.smooth, self.pull, self.wide, self.noise, self.outline)
        if not np.isfinite(numbers).all() or min(numbers) < 0 or not self.noise or not 1 <= self.iterations <= 10_000:
            raise ValueError("refine, smooth, pull, wide, outline are 0 or more, noise is more, iterations at least 1")

    def networks(self) -> Networks:
        return {}

    def stages(self) -> tuple[Stage, ...]:
        hint = "run `visagist rotate --model shading`; what can be trained is its model, the system morphable"
        raise TrainingError("shape from shading has nothing to train", code="no-data", hint=hint)

    # the method

    def relief(
        self,
        model: Morphable,
        photo: Photo,
        points: np.ndarray,
        found: Fit | None = None,
        known: np.ndarray | None = None,
        head: Head | None = None,
    ) -> Relief:
        """What the shading of one face tells.

        model   the morphable model; with reference "mean" any surface with 68 points
        points  [68, 2] in pixels of the photo; found: the model's fit to them, None for the mean face warped onto them
        known   the albedo: how bright skin is without light, sRGB uint8 [H, W, 3] of the photo's size and of any scale; where it is
                black nobody knows, and shading says nothing there. None: skin is alike everywhere, but for darker lips
        head    the rest of the head in the photo, for a new light

        FaceError "no-shading" for a face without any (flat, dark, burnt out), "too-small" for fewer than 12 pixels between the
        eyes, "no-albedo" where the known albedo is black; UsageError "bad-albedo" for one of another size. In light that comes from
        the camera the reference stays as it is; `Relief.frontal` says so.
        """
        # steps 0 and 1: the window, the aligned reference, the pixels that count
        fits = self.reference == "fitted" and found is not None
        if known is not None and known.shape != photo.pixels.shape:
            what = f"the known albedo has {known.shape[1]} x {known.shape[0]} pixels, the photo {photo.size[1]} x {photo.size[0]}"
            raise UsageError(what, code="bad-albedo", hint="it lies on the photo, pixel on pixel: give it the same size")
        whole = fitted(model, found) if found is not None and fits else warped(model, points)
        skin = looked_at(photo.pixels, points, whole.placed[:, :2], whole.found.scale, self.apart, known)
        aligned = reference = whole.within(skin.window)
        face, held, lips, still = self._seen(model, reference, skin)
        mask = face & ~held & skin.lit
        skin.check(mask)
        skin, own = skin.known(mask, SKIN)
        mask &= skin.lit
        # step 2: the light; and with it the reference once more
        albedo, light = self._first_light(skin, still, mask, lips, own)
        trust = _trust(light)
        if self.refine and fits and trust > 0.01:
            given = {"sure": self.refine / trust, "noise": self.noise, "outline": self.outline}
            changed = None
            for _ in range(2):
                shade = skin.bright / albedo
                reference, changed = refined(model, reference, skin.points, shade, light, mask, before=changed, **given)
                face, held, lips, still = self._seen(model, reference, skin)
                mask = face & ~held & skin.lit
                albedo, light = self._first_light(skin, still, mask, lips, own)
        # steps 3 to 5: depth, light, albedo
        smooth = (self.smooth or _smoothing(skin.bright / albedo, mask)) / max(trust, 1e-4)
        base, at, change, rounds = albedo, still, None, 0
        most, pull = DEEPEST * reference.found.scale, self.pull * (70 / self.apart) ** 2
        while rounds < self.rounds:
            rounds += 1
            problem = Problem(skin.bright, albedo, light, still, face, held, mask, smooth, pull)
            before, change = change, np.clip(problem.solved(change, self.iterations), -most, most)
            at = lifted(still, change)
            light = self._light(skin.bright / albedo, at, mask & ~lips)
            albedo = self._albedo(skin.bright, base, at, light, mask)
            if before is not None and np.abs(change - before).max() < ENOUGH:
                break
        assert change is not None
        return Relief(
            window=skin.window,
            aligned=aligned,
            reference=reference,
            triangles=model.triangles,
            change=harmonic(change[..., None].astype(np.float32), face | held)[..., 0].astype(np.float64),  # to the edge and beyond
            mask=mask,
            held=held,
            light=light,
            albedo=albedo,
            residual=float(np.abs(encoded(skin.bright) - encoded(albedo * self._shade(at, light)))[mask].mean()),
            frontal=trust < 1,
            rounds=rounds,
            known=own,
            head=None if head is None else head.within(skin.window),
        )

    def _seen(self, model: Morphable, reference: Reference, skin: Skin) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Masks of the reference's face, of the parts that keep its shape, of its lips; its normals."""
        seen, _, still = drawn(reference, model.triangles, skin.bright.shape)
        return *skin.parts(seen.covered), still

    def _first_light(
        self, skin: Skin, still: np.ndarray, mask: np.ndarray, lips: np.ndarray, own: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The reference's albedo, which is the known one, or even, with lips as dark as the photo's; the light on the reference."""
        if own is not None:
            return own, self._light(skin.bright / own, still, mask & ~lips)
        albedo = np.full(mask.shape, SKIN)
        light = self._light(skin.bright / albedo, still, mask & ~lips)
        if (lips & mask).any():
            shown = skin.bright / np.maximum(albedo * self._shade(still, light), 0.05)
            share = float(np.clip(np.median(shown[lips & mask]), 0.3, 1.5))
            albedo *= 1 + (share - 1) * blurred(lips.astype(np.float64), 0.02 * self.apart)
        return albedo, light

    def _shade(self, at: np.ndarray, light: np.ndarray) -> np.ndarray:
        shade: np.ndarray = harmonics(at, self.order) @ light
        return shade

    def _light(self, shade: np.ndarray, at: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Step 2: I = rho l Y(n) solved for the light l."""
        return estimate(shade[mask], harmonics(at[mask], self.order))

    def _albedo(self, bright: np.ndarray, base: np.ndarray, at: np.ndarray, light: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Step 4: what light and normals leave of the brightness, smoothed over a wide neighbourhood."""
        if not self.wide:
            return base
        left = np.clip(bright / np.maximum(base * self._shade(at, light), 0.05), ALBEDO[0] / SKIN, ALBEDO[1] / SKIN)
        weight = mask.astype(np.float64)
        sums, counts = (blurred(a, self.wide * self.apart) for a in (left * weight, weight))
        return base * np.where(mask, sums / np.maximum(counts, 1e-9), 1)

    # use

    def reliefs(
        self,
        nets: Mapping[str, nn.Module],
        photo: Photo,
        faces: Sequence[Face],
        *,
        turner: MorphableTurn,
        other: tuple[Mesh, np.ndarray] | None = None,
        known: np.ndarray | None = None,
        bust: Morphable | None = None,
    ) -> tuple[Relief, ...]:
        """The relief of each face, which has its 68 points.

        nets, turner  networks and recipe of the system morphable
        other         another face as reference, with the vertices [68] of its points; the recipe's reference has to be "mean"
        known         the albedo of all of them, as `relief` takes it
        bust          a model of whole heads whose first vertices are the face's, so that a new light goes on over scalp and neck
        FaceError and UsageError as `relief`, `begun_with` and `MorphableTurn.fit_face`.
        """
        model = turner.model(nets) if other is None else self.begun_with(nets, other, turner=turner)
        made = []
        for face in faces:
            found = turner.fit_face(nets, face)
            assert face.points is not None
            head = None if bust is None else Head.of(bust, turner.model(nets), found)
            made.append(self.relief(model, photo, face.points, found if other is None else None, known, head))
        return tuple(made)

    def begun_with(self, nets: Mapping[str, nn.Module], other: tuple[Mesh, np.ndarray], *, turner: MorphableTurn) -> Morphable:
        """Another face as reference, as `reliefs` takes it. UsageError "bad-reference" for one whose points are no face's."""
        try:
            one = surface(*other)
            check(one, turner.model(nets))
        except ValueError as error:
            hint = "needed are the numbers, from 0, of its vertices at the 68 points"
            raise UsageError(f"no face with 68 points: {error}", code="bad-reference", hint=hint) from None
        return one

    def rotate(
        self,
        nets: Mapping[str, nn.Module],
        photo: Photo,
        faces: Sequence[Face] = (),
        *,
        turner: MorphableTurn,
        reliefs: Sequence[Relief] = (),
        light: tuple[float, float] | None = None,
        pose: tuple[float | None, float | None, float | None] = (None, None, None),
        turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
        expression: Mapping[str, float] = MappingProxyType({}),
    ) -> np.ndarray:
        """The photo uint8 [H, W, 3] with faces in another light and then turned, each with its relief; the largest last.

        reliefs  of these faces, where they are at hand; to turn, with the morphable model as reference
        light    azimuth and elevation of a lamp in degrees, see `head.light.direction`; None leaves the light alone
        pose, turn, expression  as `MorphableTurn.rotate`; heads turn away under the light that is painted on them
        """
        model, pixels = turner.model(nets), photo.pixels
        found = sorted(reliefs or self.reliefs(nets, photo, faces, turner=turner), key=lambda one: one.unit / one.window.scale)
        for relief in found if light is not None else ():
            assert light is not None
            pixels = relief.relit(pixels, *light)
        turns = any(turn) or expression or any(angle is not None for angle in pose)
        for relief in found if turns else ():
            raised, fit = relief.carried(model)
            to = turner.turned(raised, fit, pose=pose, turn=turn, expression=expression).to
            pixels = carry(pixels, raised, fit, to.turn, to.expression)
        return pixels


def _trust(light: np.ndarray) -> float:
    """How far this light lets slopes be told, 0..1: by how much of it comes from within the picture's plane."""
    around = max(float(light[0]), float(light[0] + light[3]) / 2, 1e-6)
    return min(1.0, float(np.hypot(light[1], light[2])) / (FRONTAL * around)) ** 2


def _smoothing(shade: np.ndarray, mask: np.ndarray) -> float:
    """Lambda 1 for the noise of this picture: pores, grain and what JPEG makes of them."""
    fine = (shade - blurred(shade, 1.0))[mask]
    noise = 1.4826 * float(np.median(np.abs(fine - np.median(fine))))
    return float(np.clip(NOISY * noise**2, *SMOOTH))
