"""Lipstick: a three-layer fully convolutional network paints a crop of a mouth; the paint is laid onto the photo.

Paper   "Three-layer ELU fully convolutional network for lip colour" (a training text without a publication, 2018): mouths of
        90 x 30 pixels, before and after make-up, two finishes, one network each, mean squared error.
Input   the box of the mouth, float RGB [B, 3, H, W] in [-1, 1], 30 x 90 in training.
Output  the painted mouth, same shape, about [-1, 1], not clipped.
Differs the text does not say how the result returns into a photo and pastes the rectangle; here the network's colour change is
        turned into a local colour map for the photo's own pixels, inside a soft outline of the lips (`composition.py`). A third
        finish, any shade, needs no network (`tint.py`). The preset `seed` is the text. The default trains the same layers as a
        correction of the picture, from scaled input, with an optimizer that suits them better (`muon.py`).
Read    Lips (the network), squared_error, affine_map and AffineMaps (what it must beat), Lipstick: step, measure, makeup.

Axes: B batch, H rows, W columns; colours are RGB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visagist.errors import FaceError, UsageError
from visagist.makeup import composition, tint
from visagist.makeup.mouth import Mouth
from visagist.makeup.muon import Muon
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Batch, Item, Networks, Recipe, Run, Scalars, Stage, Tools

FINISHES = ("glazed", "glossy")  # those with a network; "tint" is the third
SIZE = (30, 90)  # (height, width) of the crops the networks learn from
LEVELS = 127.5  # grey levels of 0..255 in one unit of [-1, 1]


# ---- networks


class Lips(nn.Module):
    """Three 3x3 convolutions, 3 -> 24 -> 45 -> 3: 672 + 9,765 + 1,218 = 11,655 parameters, any H x W.

    It sees 7 x 7 pixels around each pixel: colour and fine texture, not whether it is inside a mouth.
    """

    def __init__(self, *, raw: bool) -> None:
        """raw: True as the text has it, values 0..255 inside and an ELU at the end; False: a correction added to the input."""
        super().__init__()
        self.raw = raw
        self.conv1 = nn.Conv2d(3, 24, 3, padding=1)
        self.conv2 = nn.Conv2d(24, 45, 3, padding=1)
        self.conv3 = nn.Conv2d(45, 3, 3, padding=1)
        if raw:
            for conv in (self.conv1, self.conv2, self.conv3):
                nn.init.trunc_normal_(conv.weight, std=0.1, a=-0.2, b=0.2)
                nn.init.constant_(conv.bias, 0.1)  # type: ignore[arg-type]
        else:
            nn.init.zeros_(self.conv3.weight)  # it starts as the identity
            nn.init.zeros_(self.conv3.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        h = (x + 1) * LEVELS if self.raw else x  # [B, 3, H, W]
        h = F.elu(self.conv1(h))  # [B, 24, H, W]
        h = F.elu(self.conv2(h))  # [B, 45, H, W]
        h = self.conv3(h).float()  # [B, 3, H, W]; sums of colours are not left to bfloat16
        return F.elu(h) / LEVELS - 1 if self.raw else x + h


class AffineMaps(nn.Module):
    """The best map colour -> colour by a 3x3 matrix and a shift for each finish: what a network must beat. Nothing to train.

    map  [2, 3, 4] on colours in [-1, 1], in the order of FINISHES; the identity until it is fitted
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("map", torch.eye(3, 4).repeat(len(FINISHES), 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, 2, 3, H, W], one picture for each finish."""
        linear, shift = self.map[:, :, :3], self.map[:, :, 3]  # type: ignore[index]
        painted: Tensor = torch.einsum("fij,bjhw->bfihw", linear, x) + shift[None, :, :, None, None]
        return painted


def affine_map(bare: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The affine map float64 [3, 4] that takes colours bare [N, 3] closest to wanted [N, 3] (least squares).

    In float64: in float32 the normal equations of some hundred thousand pixels gave visibly wrong maps.
    """
    a = np.concatenate([bare.astype(np.float64), np.ones((len(bare), 1))], 1)  # [N, 4]
    found: np.ndarray = np.linalg.lstsq(a, wanted.astype(np.float64), rcond=None)[0].T
    return found


# ---- loss


def squared_error(painted: Tensor, wanted: Tensor) -> Tensor:
    """Mean over batch, rows, columns and colours of the squared difference in grey levels (100 is 10 grey levels)."""
    return (painted.float() - wanted.float()).square().mean() * LEVELS**2


# ---- the recipe


@dataclass(frozen=True)
class Lipstick(Recipe):
    """Both finishes in one training: the same mouths, a network each. Preset `residual`."""

    raw: bool = False  # values 0..255 in the network and an ELU at its end, as the text; False: a correction of the picture
    steps: int = 6000  # updates of each network
    batch: int = 8
    optimizer: str = "muon"  # or "adam"
    rate: float = 1.5e-2  # learning rate at its highest
    warm: int = 50  # steps of rising rate
    falling: bool = True  # then it falls along half a cosine wave to 0
    mirror: bool = True  # every second example mirrored left to right
    average: float = 0.995  # moving average of the weights, which is shipped; 0 for none
    both_ways: bool = True  # the answer is the mean of the crop's and, turned back, the mirrored crop's

    needs: ClassVar[tuple[str, ...]] = FINISHES
    ships: ClassVar[tuple[str, ...]] = (*FINISHES, "affine")
    exact: ClassVar[bool] = True  # a crop takes milliseconds, and bfloat16 would show as steps in smooth colour

    def __post_init__(self) -> None:
        if self.optimizer not in ("muon", "adam"):
            raise ValueError(f"there is no optimizer {self.optimizer!r}, choose muon or adam")

    def networks(self) -> Networks:
        return {**{finish: Lips(raw=self.raw) for finish in FINISHES}, "affine": AffineMaps()}

    def stages(self) -> tuple[Stage, ...]:
        def optimizers(nets: Networks) -> dict[str, torch.optim.Optimizer]:
            kind = {"muon": Muon, "adam": torch.optim.Adam}[self.optimizer]
            return {finish: kind(nets[finish].parameters(), lr=self.rate) for finish in FINISHES}

        learn = Stage(
            "paint", FINISHES, step=self.step, optimizers=optimizers, batch=self.batch, steps=self.steps, schedule=self.schedule,
            average=self.average,
        )  # fmt: skip
        return (Stage("affine", ("affine",), fit=self.fit), learn)

    def schedule(self, progress: float) -> float:
        """Factor on the learning rate."""
        rising = min(1.0, (progress * self.steps + 1) / max(1, self.warm))
        return rising * (0.5 * (1 + math.cos(math.pi * progress)) if self.falling else 1.0)

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """bare, glazed, glossy float32 [3, 30, 90] in [-1, 1]."""
        mirrored = self.mirror and rng.random() < 0.5
        pictures = _pictures(item)
        return {name: to_network(p[:, ::-1] if mirrored else p) for name, p in pictures.items()}

    def fit(self, run: Run, items: Sequence[Item]) -> Scalars:
        """The affine maps, from all pixels of all items."""
        pictures = [_pictures(item) for item in items]
        bare = np.concatenate([p["bare"].reshape(-1, 3) for p in pictures]) / LEVELS - 1
        scalars = {}
        for number, finish in enumerate(FINISHES):
            wanted = np.concatenate([p[finish].reshape(-1, 3) for p in pictures]) / LEVELS - 1
            found = affine_map(bare, wanted)
            left = bare @ found[:, :3].T + found[:, 3] - wanted
            scalars[f"affine_{finish}_mse"] = float((left**2).mean() * LEVELS**2)
            run.nets["affine"].map[number].copy_(torch.from_numpy(found))  # type: ignore[index]
        return scalars

    def step(self, run: Run, batch: Batch) -> Mapping[str, Tensor | float]:
        bare = batch["bare"]  # [B, 3, 30, 90]
        losses = {}
        for finish in FINISHES:
            with run.autocast():
                painted = run.nets[finish](bare)
            loss = squared_error(painted, batch[finish])
            run.update(finish, loss)
            losses[finish] = loss.detach()
        return losses

    def preview(self, run: Run, batch: Batch) -> np.ndarray:
        """For twelve mouths a row: bare; glazed as wanted and as painted; glossy as wanted and as painted."""
        rows = batch["bare"][:12]
        columns = [rows]
        for finish in FINISHES:
            columns += [batch[finish][:12], run.nets[finish](rows)]
        sheet = to_pixels(torch.stack(columns, 1).flatten(0, 1))  # [12 * 5, 30, 90, 3]
        height, width = SIZE
        sheet = sheet.reshape(-1, len(columns), height, width, 3).transpose(0, 2, 1, 3, 4).reshape(-1, len(columns) * width, 3)
        return cv2.resize(sheet, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        """Mean squared errors of the 8-bit picture (clipped and rounded): of each network, of doing nothing, of the affine map."""
        pictures = [_pictures(item) for item in items]
        bare = np.stack([p["bare"] for p in pictures])  # [N, 30, 90, 3]
        x = torch.from_numpy(np.stack([to_network(p) for p in bare]))
        x = x.to(next(nets[FINISHES[0]].parameters()).device)
        affine = nets["affine"](x)
        figures = {}
        for number, finish in enumerate(FINISHES):
            wanted = np.stack([p[finish] for p in pictures])
            made = {"": to_pixels(self.answer(nets[finish], x)), "identity_": bare, "affine_": to_pixels(affine[:, number])}
            for name, picture in made.items():
                figures[f"{name}{finish}_mse"] = tools.metrics.mean_squared_error(picture, wanted)
        return {**dict(sorted(figures.items(), key=lambda f: ("_" in f[0].removesuffix("_mse"), f[0]))), "n": float(len(items))}

    # use

    def answer(self, net: nn.Module, x: Tensor) -> Tensor:
        """What the network makes of mouths [B, 3, H, W], all in [-1, 1]; not clipped."""
        painted: Tensor = net(x)
        return (painted + net(x.flip(3)).flip(3)) / 2 if self.both_ways else painted

    def painted(self, net: nn.Module, crop: np.ndarray) -> np.ndarray:
        """The painted crop: uint8 or float [H, W, 3] in 0..255 -> float32 [H, W, 3], clipped to 0..255."""
        x = torch.from_numpy(to_network(crop))[None].to(next(net.parameters()).device)
        with torch.inference_mode():
            out: np.ndarray = ((self.answer(net, x)[0].clamp(-1, 1) + 1) * LEVELS).permute(1, 2, 0).cpu().numpy()
        return out

    def makeup(
        self,
        nets: Mapping[str, nn.Module],
        photo: Photo,
        faces: Sequence[Face],
        *,
        finish: str,
        shade: str = "#b0123a",
        strength: float = 1.0,
    ) -> np.ndarray:
        """The photo's pixels with painted lips: new uint8 [H, W, 3], equal to the photo's wherever there are no lips.

        faces   with 68 points (or 15, whose mouth is an ellipse); all of them are painted
        finish  "glazed", "glossy", or "tint" with the colour `shade`, "#rrggbb"
        strength 0..1
        A mouth narrower than `mouth.SMALLEST` pixels stays as it is: nobody could see lipstick on it.
        FaceError "no-mouth" when no face has a mouth that can be painted; UsageError for a finish or shade that is none.
        """
        if finish not in (*FINISHES, "tint"):
            raise UsageError(f"there is no finish {finish!r}", code="usage", hint="choose " + ", ".join((*FINISHES, "tint")))
        colour = tint.parse(shade) if finish == "tint" else None
        pixels = photo.pixels
        mouths = [mouth for face in faces if (mouth := Mouth.of(face, pixels.shape[:2])) is not None]
        if not mouths:
            hint = f"a mouth must lie in the photo and be at least {Mouth.SMALLEST:g} pixels wide"
            raise FaceError("no mouth to paint", code="no-mouth", hint=hint)
        out = pixels.copy()
        for mouth in mouths:
            if colour is not None:
                composition.tint(out, mouth, colour, strength)
            else:
                composition.paint(out, mouth, lambda crop: self.painted(nets[finish], crop), strength)
        return out


@dataclass(frozen=True)
class SeedLipstick(Lipstick):
    """Preset `seed`: input, output, initial weights and training as the text and its code have them."""

    raw: bool = True
    steps: int = 1000  # 100 passes of 10 batches
    batch: int = 17
    optimizer: str = "adam"
    rate: float = 1e-4
    warm: int = 0
    falling: bool = False
    mirror: bool = False
    average: float = 0.0
    both_ways: bool = False


def to_network(picture: np.ndarray) -> np.ndarray:
    """uint8 or float [H, W, 3] in 0..255 -> float32 [3, H, W] in [-1, 1]."""
    return np.ascontiguousarray((picture.astype(np.float32) / LEVELS - 1).transpose(2, 0, 1))


def to_pixels(x: Tensor) -> np.ndarray:
    """[B, 3, H, W] about [-1, 1] -> uint8 [B, H, W, 3], clipped and rounded."""
    pixels: np.ndarray = ((x.detach().float() + 1) * LEVELS).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def _pictures(item: Item) -> dict[str, np.ndarray]:
    """The mouth and its targets, uint8 [30, 90, 3] each, under "bare", "glazed", "glossy"."""
    return {"bare": _sized(item.photo), **{finish: _sized(item.targets[finish]()) for finish in FINISHES}}


def _sized(photo: Photo) -> np.ndarray:
    height, width = SIZE
    pixels: Any = photo.pixels
    if pixels.shape[:2] == SIZE:
        return pixels
    shrinks = pixels.shape[0] * pixels.shape[1] > height * width
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
