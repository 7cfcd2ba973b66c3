"""The colours that faces have: a texture basis learnt from fitted portraits.

Paper   Blanz, Vetter: A Morphable Model for the Synthesis of 3D Faces. SIGGRAPH 1999, the texture vectors T_i. The free shape model
        that our heads are learnt from has none.
Input   portraits with 68 points and a morphable model that fits them. People with glasses are left out.
Output  mean colour and components on the model's vertices. Used for skin that a photo hides and for rendered people; it shows
        faces nobody has: means and differences of many.
Differs Colours are read off photographs and not off scans; the light is taken out by nine harmonics, so what the harmonics cannot
        explain (cast shadows, highlights) stays in the texture. Expressions are not: teeth show in the mean smile.
Read    Skin (what is shipped), FaceTexture.fit and .measure; the mathematics is in `head.texture`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from visagist.errors import TrainingError
from visagist.head import texture
from visagist.head.fit import fit
from visagist.head.mesh import normals
from visagist.head.morphable import Morphable
from visagist.head.texture import Texture
from visagist.recipe import Item, Networks, Recipe, Run, Stage, Tools
from visagist.rotate.turn import Basis

DOUBTFUL = 0.10  # error of a fit above which a portrait is left out
TURNED = 30.0  # degrees of yaw above which it is


class Skin(nn.Module):
    """The texture as buffers; nothing in it learns by gradients. mean lies flat [3 N] and so keeps float32 in weights files."""

    mean: Tensor
    basis: Tensor

    def __init__(self, vertices: int, components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3 * vertices))
        self.register_buffer("basis", torch.zeros(components, vertices, 3))

    def forward(self, coefficients: Tensor) -> Tensor:
        """Colours [B, N, 3], sRGB 0..255, of coefficients [B, K]."""
        return self.mean.view(-1, 3) + torch.einsum("bk,knc->bnc", coefficients, self.basis)

    def texture(self) -> Texture:
        """The same for NumPy."""
        return Texture(self.mean.cpu().numpy().reshape(-1, 3), self.basis.cpu().numpy())


@dataclass(frozen=True)
class FaceTexture(Recipe):
    """Settings of the texture."""

    needs: ClassVar[tuple[str, ...]] = ("points",)
    ships: ClassVar[tuple[str, ...]] = ("skin",)
    borrows: ClassVar[tuple[str, ...]] = ("model",)
    exact: ClassVar[bool] = True

    model: str = "morphable"  # system or weights of the model whose vertices are coloured
    vertices: int = 6706  # N: how many it has
    components: int = 30  # K, at most one less than people
    glasses: bool = False  # whether people with glasses are taken

    def networks(self) -> Networks:
        return {"skin": Skin(self.vertices, self.components)}

    def stages(self) -> tuple[Stage, ...]:
        return (Stage("texture", ("skin",), fit=self.fit),)

    def fit(self, run: Run, items: Sequence[Item]) -> dict[str, float]:
        """Read every portrait, take out its light, first over one colour, then over the mean; principal components."""
        model = self._model(run.tools)
        read = [one for item in items if (one := self._read(model, item)) is not None]
        if len(read) <= self.components:
            what = f"{self.components} components need more than {len(read)} portraits that can be fitted"
            raise TrainingError(what, code="no-data", hint="lower --components or give more portraits with points")
        raw, known, facing = (np.stack(values) for values in zip(*read, strict=True))
        mean: np.ndarray | None = None
        for _ in range(3):
            even = np.stack([texture.unlit(*one, mean, own) for one, own in zip(zip(raw, facing, strict=True), known, strict=True)])
            if mean is not None:
                known = np.stack([texture.skinlike(one, own, mean, model) for one, own in zip(even, known, strict=True)])
            both, either = _mirrored(even, known, model.mirror)
            made = texture.learnt(both, either, self.components)
            mean = (made.mean + made.mean[model.mirror]) / 2
        skin = run.nets["skin"]
        assert isinstance(skin, Skin)
        skin.mean.copy_(torch.as_tensor(made.mean.ravel(), dtype=torch.float32))
        skin.basis.copy_(torch.as_tensor(made.basis, dtype=torch.float32))
        return {"portraits": float(len(read)), "deviation": float(np.sqrt(np.square(made.basis).sum(0).mean()))}

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        """How far colours of people who were not learnt from are off, root mean square of sRGB values 0..255.

        mean_error: the mean in the person's tone; basis_error: the best coefficients; hidden_basis and hidden_mirror: the left half
        of the face from the right one alone, by the basis, and by the other side's colours; hidden_mean: by the mean in its tone.
        """
        skin = nets["skin"]
        assert isinstance(skin, Skin)
        made, model = skin.texture(), self._model(tools)
        left = model.mean[:, 0] > 0.3
        rows = []
        for item in items:
            read = self._read(model, item)
            if read is None:
                continue
            raw, known, facing = read
            even = texture.unlit(raw, facing, made.mean, known)
            known = texture.skinlike(even, known, made.mean, model)
            toned = made.mean + (even - made.mean)[known].mean(0)
            best = made.colours(made.coefficients(even, known))
            half = known & ~left
            hidden = known & left & known[model.mirror]
            if hidden.sum() < 500 or half.sum() < 500:
                continue
            guess = made.colours(made.coefficients(even, half))
            alone = made.mean + (even - made.mean)[half].mean(0)
            pairs = ((toned, known), (best, known), (guess, hidden), (even[model.mirror], hidden), (alone, hidden))
            rows.append([float(np.sqrt(np.square(found - even)[where].mean())) for found, where in pairs])
        if not rows:
            return {}
        names = ("mean_error", "basis_error", "hidden_basis", "hidden_mirror", "hidden_mean")
        return {"n": float(len(rows)), **dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))}

    def _read(self, model: Morphable, item: Item) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Colours [N, 3], which are known [N], normals before the camera [N, 3]; None for a portrait that is left out."""
        if item.facts.get("eyeglasses") == 1 and not self.glasses:
            return None
        points = next(face.points for face in item.faces if face.scheme == "ibug68")
        try:
            found = fit(model, np.asarray(points))
        except (ValueError, np.linalg.LinAlgError):
            return None
        if found.error > DOUBTFUL or abs(found.pose.yaw) > TURNED:
            return None
        colours, seen = texture.sampled(item.photo.pixels, model, found)
        return colours, seen, normals(model.shape(found.identity, found.expression), model.triangles) @ found.turn.T

    def _model(self, tools: Tools) -> Morphable:
        basis = tools.lent["model"]["basis"]
        assert isinstance(basis, Basis)
        model = basis.model([str(number) for number in range(len(basis.named))], offsets=True)
        if len(model.mean) != self.vertices:
            what = f"the model {self.model} has {len(model.mean)} vertices, not {self.vertices}"
            raise TrainingError(what, code="wrong-shape", hint=f"give --vertices {len(model.mean)}")
        return model


def _mirrored(colours: np.ndarray, known: np.ndarray, mirror: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours [P, N, 3] with what is seen on the other side of the face alone taken from there, and what is known then [P, N]."""
    taken = ~known & known[:, mirror]
    return np.where(taken[..., None], colours[:, mirror], colours), known | taken
