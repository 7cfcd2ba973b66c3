"""Turn the head in a photo: fit a 3D morphable model to the 68 points, pose it anew, carry the photo along.

Paper   Blanz, Vetter: A Morphable Model for the Synthesis of 3D Faces. SIGGRAPH 1999; the photo as texture.
Input   training: registered meshes. Use: a photo and the 68 points of its faces.
Output  training: mean, bases, topology (see `head.morphable`). Use: the photo with heads turned, same size; fits; meshes.
Differs Landmarks alone are fitted (no shading, no colour). Nothing is pasted over the photo: where each pixel comes from is one map
        over the whole picture, see `rotate.carry`.
Read    Basis (what is shipped), MorphableTurn.fit and .measure (training), then .fit_face, .rotate, .mesh (use).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visagist.errors import FaceError, TrainingError, UsageError
from visagist.head import annotated, morphable
from visagist.head.fit import Fit, annotated_points, fit, turn_of
from visagist.head.mesh import Mesh, normals
from visagist.head.morphable import Morphable
from visagist.head.render import rasterise
from visagist.head.texture import Texture, sampled
from visagist.photo.face import Face, Pose
from visagist.photo.photo import Photo
from visagist.recipe import Item, Networks, Recipe, Run, Stage, Tools
from visagist.rotate.carry import carried, carry, taken_out, visible
from visagist.rotate.doubts import doubts

DOUBTFUL = 0.12  # error of a fit, in distances between the eyes, above which the points are no face's
FURTHEST = 75.0  # degrees of yaw and of pitch that a head may be turned to
MOST = 2.0  # of an expression: twice the whole of it; beyond, faces turn inside out
KNOWN = 45.0  # degrees from the photo's pose beyond which much of the result is guessed
BACKGROUNDS = ("mesh", "keep", "plain")
PLAIN = 216  # grey level of a plain background
MILLIMETRES = 10.0  # in a unit of the model


@dataclass(frozen=True, eq=False)
class Turned:
    """How one head was turned.

    found    the head in the photo
    to       the head in the result
    angle    degrees between the two views of it; tipping in the picture's plane does not count
    visible  share of the skin in the result that the photo shows, 0..1
    """

    found: Fit
    to: Fit
    angle: float
    visible: float

    @property
    def extrapolated(self) -> bool:
        """Whether much of the result is guessed."""
        return self.angle > KNOWN

    def as_dict(self) -> dict[str, object]:
        """Ready for JSON: the fit, and what became of it."""
        to = {axis: round(value, 2) for axis, value in self.to.pose._asdict().items()}
        told = {
            "turned_to": to,
            "angle": round(self.angle, 2),
            "visible": round(self.visible, 3),
            "extrapolated": self.extrapolated,
        }
        return {**self.found.as_dict(), **told}


class Basis(nn.Module):
    """The model as buffers; nothing in it learns by gradients.

    mean lies flat [3 N], because vectors keep float32 in weights files and a rounding of the mean would be seen.
    """

    mean: Tensor
    identity: Tensor
    expression: Tensor
    named: Tensor
    triangles: Tensor
    landmarks: Tensor
    mirror: Tensor

    def __init__(self, vertices: int, triangles: int, identities: int, expressions: int, names: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3 * vertices))
        self.register_buffer("identity", torch.zeros(identities, vertices, 3))
        self.register_buffer("expression", torch.zeros(expressions, vertices, 3))
        self.register_buffer("named", torch.zeros(names, expressions))
        self.register_buffer("triangles", torch.zeros(triangles, 3, dtype=torch.int32))
        self.register_buffer("landmarks", torch.zeros(68, dtype=torch.int32))
        self.register_buffer("mirror", torch.zeros(vertices, dtype=torch.int32))
        self._models: dict[tuple[tuple[str, ...], bool], Morphable] = {}

    def forward(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Faces [B, N, 3] of coefficients [B, I] and [B, E]."""
        moved = torch.einsum("bk,knc->bnc", identity, self.identity) + torch.einsum("bk,knc->bnc", expression, self.expression)
        return self.mean.view(-1, 3) + moved

    def model(self, names: Sequence[str], *, offsets: bool) -> Morphable:
        """The same for NumPy, its expressions called so; made once for the same arguments. ValueError when the buffers make no
        model."""
        asked = tuple(names), offsets
        if asked not in self._models:
            kept = {name: value.detach().cpu().numpy() for name, value in self.named_buffers()}
            told = dict(zip(names, kept.pop("named").astype(np.float64), strict=True))
            integers = {name: kept.pop(name).astype(np.int64) for name in ("triangles", "landmarks", "mirror")}
            model = Morphable(kept["mean"].reshape(-1, 3), kept["identity"], kept["expression"], named=told, **integers)
            self._models[asked] = replace(model, offsets=annotated.offsets(model.apart)) if offsets else model
        return self._models[asked]

    def take(self, model: Morphable) -> None:
        """Become this model."""
        given = {"mean": model.mean.reshape(-1), "named": np.array(list(model.named.values())).reshape(self.named.shape)}
        given |= {name: getattr(model, name) for name in ("identity", "expression", "triangles", "landmarks", "mirror")}
        for name, buffer in self.named_buffers():
            buffer.copy_(torch.as_tensor(given[name], dtype=buffer.dtype))
        self._models = {}


@dataclass(frozen=True)
class MorphableTurn(Recipe):
    """Settings of the model and of its fit."""

    needs = ("mesh",)
    ships = ("basis",)
    exact = True

    vertices: int = 6706  # N: so many first vertices are kept; the default is the narrow face of ICT-FaceKit
    triangles: int = 13120  # set from the meshes
    identities: int = 40  # components of identity, at most
    expressions: int = 20  # components of expression, at most
    names: tuple[str, ...] = ()  # expressions with names, set from the meshes
    gaze: str = "eyeLook"  # expressions whose names begin so move eyeballs only and are left out
    noise: float = 0.03  # sigma: standard deviation of a landmark over the distance between the eyes
    offsets: bool = True  # the 68 vertices are ICT-FaceKit's, not where annotators set points (`head.annotated`); scans: False
    outline: float = 0.5  # weight of the jaw's squared errors, sheet: contour

    def networks(self) -> Networks:
        return {"basis": Basis(self.vertices, self.triangles, self.identities, self.expressions, len(self.names))}

    def suited(self, items: Sequence[Item]) -> MorphableTurn:
        """The recipe with the counts of these meshes."""
        first = self._first(items)
        vertices = min(self.vertices, len(first["vertices"]))
        triangles = int((first["triangles"] < vertices).all(1).sum())
        scans = sum(item.facts["kind"] == "scan" for item in items)
        identities = sum(item.facts["kind"] == "identity" for item in items) or max(scans - 1, 0)
        names = tuple(item.name for item in self._expressions(items))
        if not identities or not triangles:
            raise TrainingError("there is nothing to tell people apart by in these meshes", code="no-data", hint="give two or more")
        if first["landmarks68"].max() >= vertices:
            raise TrainingError("some of the 68 points lie beyond the kept vertices", code="bad-data", hint="raise --vertices")
        return replace(
            self,
            vertices=vertices,
            triangles=triangles,
            identities=min(self.identities, identities),
            offsets=self.offsets and not scans,
            expressions=min(self.expressions, len(names)),
            names=names,
        )

    def stages(self) -> tuple[Stage, ...]:
        return (Stage("basis", ("basis",), fit=self.fit),)

    def split(self, items: Sequence[Item], validation: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
        """The modes say what all faces are: random faces drawn from them are measured on."""
        return items, validation or items

    def fit(self, run: Run, items: Sequence[Item]) -> dict[str, float]:
        """Principal components of the meshes."""
        basis = run.nets["basis"]
        assert isinstance(basis, Basis)
        first = self._first(items)
        inside = (first["triangles"] < self.vertices).all(1)
        triangles, landmarks = first["triangles"][inside], first["landmarks68"]
        if self._of(items, "scan"):
            scans = np.stack([item.arrays["vertices"][: self.vertices] for item in self._of(items, "scan")]).astype(np.float64)
            model = morphable.of_scans(scans, triangles, landmarks, identities=self.identities)
        else:
            model = morphable.of_modes(
                first["vertices"][: self.vertices].astype(np.float64),
                self._moves(self._of(items, "identity")),
                self._moves(self._expressions(items)),
                self.names,
                triangles,
                landmarks,
                identities=self.identities,
                expressions=self.expressions,
            )
        basis.take(model)
        return {"identity_cm": float(np.sqrt(np.square(model.identity).sum((0, 2)).mean()))}

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        """How far random faces, never seen in the training, lie from the model, in units of the meshes; how well fits are.

        identity_mean, identity_rms, identity_p95, expression_mean, expression_rms, expression_p99: distances of vertices.
        yaw_error, pitch_error (degrees), fit_error (after a similarity): 150 random heads with 3 % noise on their points.
        """
        model = self._model(nets)
        identity, expression = self._of(items, "identity"), self._expressions(items)
        if not identity:
            return {}
        rng = np.random.default_rng(0)
        people, moves = self._moves(identity), self._moves(expression)
        figures: dict[str, float] = {"n": 150}
        drawn = rng.standard_normal((150, len(people)))
        active = np.zeros((150, len(moves)))
        for row in active[:, : len(moves)]:
            if len(row):
                chosen = rng.choice(len(row), min(int(rng.integers(1, 6)), len(row)), replace=False)
                row[chosen] = rng.random(len(chosen))
        for name, weights, modes, basis, tail in (
            ("identity", drawn, people, model.identity, 95),
            ("expression", active, moves, model.expression, 99),
        ):
            if len(modes):
                far = np.concatenate([_left(np.tensordot(w, modes, 1), basis) for w in weights])
                figures |= {f"{name}_mean": far.mean(), f"{name}_rms": np.sqrt(np.square(far).mean())}
                figures[f"{name}_p{tail}"] = np.percentile(far, tail)
        errors = []
        for who, what in zip(drawn, active, strict=True):
            face = model.mean + np.tensordot(who, people, 1) + np.tensordot(what, moves, 1)
            pose = Pose(rng.uniform(-50, 50), rng.uniform(-20, 15), rng.uniform(-10, 10))
            errors.append(self._refitted(model, face, pose, rng))
        for name, values in zip(("yaw_error", "pitch_error", "fit_error"), np.transpose(errors), strict=True):
            figures[name] = values.mean()
        return {name: float(value) for name, value in figures.items()}

    def _refitted(self, model: Morphable, face: np.ndarray, pose: Pose, rng: np.random.Generator) -> tuple[float, float, float]:
        """Errors of yaw, pitch and shape where this face [N, 3] in this pose is fitted by its points with 3 % noise."""
        turn = turn_of(pose)
        seen = annotated_points(model, face, turn) @ turn[:2].T * 10
        apart = np.linalg.norm(seen[36:42].mean(0) - seen[42:48].mean(0))
        found = fit(model, seen + rng.normal(0, 0.03 * apart, seen.shape), noise=self.noise, outline=self.outline)
        near = morphable.aligned(model.shape(found.identity, found.expression), face, scaled=True)
        off = np.linalg.norm(near - face, axis=1).mean()
        return abs(found.pose.yaw - pose.yaw), abs(found.pose.pitch - pose.pitch), float(off)

    # use

    def _model(self, nets: Mapping[str, nn.Module]) -> Morphable:
        basis = nets["basis"]
        assert isinstance(basis, Basis)
        return basis.model(self.names, offsets=self.offsets)

    def fit_face(self, nets: Mapping[str, nn.Module], face: Face) -> Fit:
        """The head behind a face with 68 points. FaceError "no-points" without them, "no-fit" where they are no face's."""
        if face.points is None or face.scheme != "ibug68":
            raise FaceError("the face has no 68 points", code="no-points", hint="give faces that `landmarks` found")
        try:
            found = fit(self._model(nets), face.points, noise=self.noise, outline=self.outline)
        except (ValueError, np.linalg.LinAlgError):
            raise FaceError("the points make no head", code="no-fit") from None
        if found.error > DOUBTFUL:
            raise FaceError(f"no head fits the points (error {found.error:.2f})", code="no-fit", hint="is it a face in full view?")
        return found

    def turned(
        self,
        model: Morphable,
        found: Fit,
        *,
        pose: tuple[float | None, float | None, float | None] = (None, None, None),
        turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
        expression: Mapping[str, float] = MappingProxyType({}),
    ) -> Turned:
        """What becomes of a head of this model that was found so; parameters and errors as `rotate`."""
        for name, weight in expression.items():
            if not -MOST <= weight <= MOST:  # also refuses NaN
                what = f"the weight of {name} is {weight:g}"
                raise UsageError(what, code="usage", hint=f"weights lie between {-MOST:g} and {MOST:g}, 1 is the whole expression")
        try:
            change = model.expressed(expression)
        except ValueError as error:
            raise UsageError(str(error), code="no-expression", hint="there are " + ", ".join(self.names)) from None
        wanted = Pose(*(d + (now if a is None else a) for now, a, d in zip(found.pose, pose, turn, strict=True)))
        if max(abs(wanted.yaw), abs(wanted.pitch)) > FURTHEST:
            what = f"a head cannot be turned to yaw {wanted.yaw:.3g}, pitch {wanted.pitch:.3g}"
            raise FaceError(what, code="too-far", hint=f"{FURTHEST:.0f} degrees of either are the most")
        to = carried(model, found, turn_of(wanted), found.expression + change)
        angle = float(np.rad2deg(np.arccos(np.clip(found.turn[2] @ to.turn[2], -1, 1))))
        return Turned(found, to, angle, visible(model, found, to.turn, to.expression))

    def turns(self, nets: Mapping[str, nn.Module], faces: Sequence[Face], **how: Any) -> tuple[Turned, ...]:
        """What `rotate` does with these faces, in their order; parameters and errors as there."""
        model = self._model(nets)
        return tuple(self.turned(model, self.fit_face(nets, face), **how) for face in faces)

    def rotate(
        self,
        nets: Mapping[str, nn.Module],
        photo: Photo,
        faces: Sequence[Face],
        *,
        background: str = "mesh",
        skin: Texture | None = None,
        **how: Any,
    ) -> np.ndarray:
        """The photo uint8 [H, W, 3] with the head of each face turned, the largest last.

        how: pose        yaw, pitch, roll in degrees that heads get; None keeps the photo's
             turn        degrees that are added to that
             expression  weights of named expressions that are added to the photo's, about 0..1, -2 to 2 ("mouthSmile": 0.6)
        background  "mesh": everything about the head moves along; "keep": faces are laid over the photo, whose own are filled in
                    smoothly; "plain": over grey
        skin        the texture basis for this model, for skin that neither cheek shows; one of another model is left out

        FaceError as `fit_face`; "too-far" for a pose beyond 75 degrees of yaw or pitch; UsageError "no-expression", "usage".
        """
        if background not in BACKGROUNDS:
            raise UsageError(f"there is no background {background!r}", code="usage", hint="choose " + ", ".join(BACKGROUNDS))
        model, pixels = self._model(nets), photo.pixels
        turned = sorted(self.turns(nets, faces, **how), key=lambda one: one.found.scale)
        colours = [None if skin is None else self.colours(nets, pixels, one.found, skin) for one in turned]
        if background == "mesh":
            for one, own in zip(turned, colours, strict=True):
                pixels = carry(pixels, model, one.found, one.to.turn, one.to.expression, skin=own)
            return pixels
        ground = np.full_like(pixels, PLAIN) if background == "plain" else pixels
        if background == "keep":
            for one in turned:
                ground = taken_out(ground, model, one.found)
        for one, own in zip(turned, colours, strict=True):
            ground = carry(pixels, model, one.found, one.to.turn, one.to.expression, ground=ground, skin=own)
        return ground

    def maps(self, nets: Mapping[str, nn.Module], size: tuple[int, int], there: Fit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of a head in a picture of this size (height, width): depth in millimetres float32 [H, W], growing towards the viewer;
        normals float32 [H, W, 3], x right, y up, z to the viewer; where they are known, bool [H, W]."""
        model = self._model(nets)
        vertices = model.shape(there.identity, there.expression)
        seen = rasterise(there.placed(vertices), model.triangles, size)
        up = (normals(vertices, model.triangles) @ there.turn.T) * (1, -1, -1)
        pointing = seen.spread(up)
        pointing /= np.maximum(np.linalg.norm(pointing, axis=2, keepdims=True), 1e-6)
        near = np.where(seen.covered, -seen.depth * np.float32(MILLIMETRES / there.scale), np.float32(0))
        return near, pointing, seen.covered

    def view(
        self,
        nets: Mapping[str, nn.Module],
        pixels: np.ndarray,
        found: Fit,
        pose: Pose,
        expression: np.ndarray,
        *,
        skin: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Fit]:
        """A picture uint8 [H, W, 3] with a head that was fitted before, turned to a pose and with these coefficients of expression;
        and the fit of the head in it. For many views of one photo; skin: its `colours`."""
        model, turn = self._model(nets), turn_of(pose)
        return carry(pixels, model, found, turn, expression, skin=skin), carried(model, found, turn, expression)

    def colours(self, nets: Mapping[str, nn.Module], pixels: np.ndarray, found: Fit, skin: Texture) -> np.ndarray | None:
        """Colours of a face's vertices float [N, 3], sRGB 0..255: the photo's, where it hides them those of the texture basis. None
        for the basis of another model."""
        model = self._model(nets)
        return skin.completed(*sampled(pixels, model, found)) if len(skin.mean) == len(model.mean) else None

    def doubts(self, nets: Mapping[str, nn.Module], photo: Photo, found: Fit, to: Fit | None = None) -> tuple[str, ...]:
        """What to expect of a head that was found so in a photo and turned into that, or relit; sentences, mostly none."""
        return doubts(self._model(nets), found, photo.pixels, to)

    def model(self, nets: Mapping[str, nn.Module]) -> Morphable:
        """The morphable model, for what is done with fits elsewhere."""
        return self._model(nets)

    def mesh(self, nets: Mapping[str, nn.Module], photo: Photo, face: Face) -> Mesh:
        """The face as a surface in model units, with the photo as its texture: uv say where each vertex is seen in it."""
        found = self.fit_face(nets, face)
        model = self._model(nets)
        vertices = model.shape(found.identity, found.expression)
        height, width = photo.size
        at = found.placed(vertices)[:, :2] / (width, height)
        return Mesh(vertices, model.triangles, np.clip(np.stack([at[:, 0], 1 - at[:, 1]], axis=1), 0, 1))

    # what the items hold

    @staticmethod
    def _of(items: Sequence[Item], kind: str) -> list[Item]:
        return [item for item in items if item.facts["kind"] == kind]

    def _expressions(self, items: Sequence[Item]) -> list[Item]:
        return [item for item in self._of(items, "expression") if not (self.gaze and item.name.startswith(self.gaze))]

    def _moves(self, items: Sequence[Item]) -> np.ndarray:
        """float64 [M, N, 3]"""
        if not items:
            return np.zeros((0, self.vertices, 3))
        return np.stack([item.arrays["move"][: self.vertices] for item in items]).astype(np.float64)

    @staticmethod
    def _first(items: Sequence[Item]) -> Mapping[str, np.ndarray]:
        first = next((item.arrays for item in items if "triangles" in item.arrays and "vertices" in item.arrays), None)
        if first is None:
            raise TrainingError("these meshes have no neutral face", code="no-data")
        return first


def _left(move: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """How far each vertex is from where the best sum of the (orthogonal) basis brings it, float [N]; move [N, 3]."""
    flat = basis.reshape(len(basis), -1).astype(np.float64)
    found = (flat @ move.ravel()) / np.maximum(np.square(flat).sum(1), 1e-12)
    left: np.ndarray = np.linalg.norm(move - (found @ flat).reshape(move.shape), axis=1)
    return left
