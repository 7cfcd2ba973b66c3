"""15 points on a face: the network of Kaggle's "Facial Keypoints Detection" as it was written down, and what a better one takes.

Paper   none: a training text from the competition (2013; the text is later). Three convolutions and three dense layers, 3.41 on
        its leaderboard. Masked losses and mirroring follow Nouri's tutorial for the same competition. Heat maps read out as
        expected positions: Sun et al., "Integral Human Pose Regression", ECCV 2018.
Input   the square about a face (`layout.py`) as 96 x 96 grey, [B, 1, 96, 96] in [-1, 1].
Output  [B, 15, 2], x and y from -1 (left, top edge of the square) to 1.
Differs preset `seed`: the best weights are restored, which the text forgets; 1e-12 stands inside the root of its loss. Preset
        `best`: another network, all rows instead of the complete ones, augmentation, two looks at a photo.
Read    SeedNet, Points15 (networks), rmse_loss, masked_mean (losses), SeedKeypoints, Keypoints (training); `looks.py` is the use
        on a photo and the measure.

Coordinates are the house's: 96 px span [0, 96], the centre of the first pixel is 0.5. Kaggle's columns count from pixel centres;
readers and writers of its files add and subtract the half pixel (`training/data/kaggle.py`).

The labels of the video frames lie half a step of their grid too far right and down (docs/landmarks.md). Mirroring would turn that
round and teach the mean of both. So `best` learns the features themselves, remembers by how much the labels it learnt from were
off (a buffer of the network, 0 for labels that are not), and its answer keeps a share of it, as `landmarks68` does. `seed` mirrors
nothing and learns the labels as they lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visagist.errors import TrainingError
from visagist.landmarks import distort, layout
from visagist.landmarks.layout import SIZE
from visagist.landmarks.looks import HALF, Looks, grey, to_network
from visagist.photo.face import MIRROR15, Face
from visagist.photo.window import Window
from visagist.recipe import Batch, Item, Networks, Run, Stage

# --- networks ---------------------------------------------------------------------------------------------------------------


class SeedNet(nn.Module):
    """The text's network: [B, 1, 96, 96] in [-1, 1] -> [B, 15, 2] in window units; inside, pixels and targets are in [0, 1].

    320 + 8,256 + 32,896 + 7,744,500 + 250,500 + 15,030 = 8,051,502 parameters.
    """

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)  # no padding anywhere: 96 -> 94, pooled 47
        self.conv2 = nn.Conv2d(32, 64, 2)  # 46, pooled 23
        self.conv3 = nn.Conv2d(64, 128, 2)  # 22, pooled 11
        self.fc1 = nn.Linear(128 * 11 * 11, 500)  # 15,488 ->
        self.fc2 = nn.Linear(500, 500)
        self.fc3 = nn.Linear(500, 30)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("offset", torch.zeros(2))
        for layer in (self.conv1, self.conv2, self.conv3, self.fc1, self.fc2, self.fc3):
            nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
            nn.init.constant_(layer.bias, 0.1)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = (x + 1) / 2
        for convolution in (self.conv1, self.conv2, self.conv3):
            x = F.max_pool2d(F.relu(convolution(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        x = self.dropout(F.relu(self.fc2(x)))
        with torch.autocast("cuda" if x.is_cuda else "cpu", enabled=False):  # bfloat16 near 1 is 0.4 px coarse
            y: Tensor = self.fc3(x.float())  # [B, 30] in 0..1
        return y.view(-1, 15, 2) * 2 - 1


def convolution(inner: int, outer: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, batch norm."""
    layer = nn.Conv2d(inner, outer, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outer))


class Residual(nn.Module):
    """x + two 3x3 convolutions; He et al., CVPR 2016."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class Points15(nn.Module):
    """[B, 1, 96, 96] in [-1, 1] -> points off the maps [B, 15, 2], points by regression [B, 15, 2], map logits [B, 15, 24, 24].

    Two heads on the same features: maps place a point sharply, the regression keeps the face in shape; their mean is the answer.
    widths     channels at 48, 24, 12 and 6 cells a side
    blocks     residual blocks at 24, 12 and 6
    map_width  channels before the maps
    offset     buffer: by how much the training's labels lay off the features, in sides of the square
    """

    offset: Tensor
    positions: Tensor
    mean: Tensor

    def __init__(self, widths: tuple[int, int, int, int], blocks: tuple[int, int, int], map_width: int) -> None:
        super().__init__()
        a, b, c, d = widths
        # Pooling, not strides, past the first layer: on a CPU the bf16 backward of a strided convolution costs ten times as much.
        self.stem = convolution(1, a, kernel=5, stride=2)  # 48
        self.to24 = nn.Sequential(nn.MaxPool2d(2), convolution(a, b))
        self.at24 = nn.Sequential(*(Residual(b) for _ in range(blocks[0])))
        self.to12 = nn.Sequential(nn.MaxPool2d(2), convolution(b, c))
        self.at12 = nn.Sequential(*(Residual(c) for _ in range(blocks[1])))
        self.to6 = nn.Sequential(nn.MaxPool2d(2), convolution(c, d))
        self.at6 = nn.Sequential(*(Residual(d) for _ in range(blocks[2])))
        self.side24 = nn.Conv2d(b, map_width, 1)
        self.side12 = nn.Conv2d(c, map_width, 1)
        self.side6 = nn.Conv2d(d, map_width, 1)
        self.join = convolution(map_width, map_width)
        self.maps = nn.Conv2d(map_width, 15, 1)
        self.squeeze = convolution(d, 64, kernel=1)
        self.dropout = nn.Dropout(0.1)
        self.regress = nn.Linear(64 * 6 * 6, 30)
        self.register_buffer("offset", torch.zeros(2))
        self.register_buffer("positions", (torch.arange(24) * 2 + 1.0) / 24 - 1, persistent=False)  # cell centres
        self.register_buffer("mean", torch.tensor(layout.mean_layout(), dtype=torch.float32), persistent=False)
        nn.init.normal_(self.regress.weight, std=0.001)
        nn.init.zeros_(self.regress.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x24 = self.at24(F.relu(self.to24(F.relu(self.stem(x)))))
        x12 = self.at12(F.relu(self.to12(x24)))
        x6 = self.at6(F.relu(self.to6(x12)))
        y = self.side12(x12) + F.interpolate(self.side6(x6), scale_factor=2.0, mode="nearest")
        y = self.side24(x24) + F.interpolate(F.relu(y), scale_factor=2.0, mode="nearest")
        logits = self.maps(F.relu(self.join(F.relu(y)))).float()  # [B, 15, 24, 24]
        heat = logits.flatten(2).softmax(2).view_as(logits)
        read = torch.stack([(heat.sum(2) * self.positions).sum(2), (heat.sum(3) * self.positions).sum(2)], dim=2)
        flat = self.dropout(F.relu(self.squeeze(x6)).flatten(1))
        regressed = self.mean + self.regress(flat).float().view(-1, 15, 2)
        return read, regressed, logits


# --- losses -----------------------------------------------------------------------------------------------------------------


def rmse_loss(found: Tensor, truth: Tensor) -> Tensor:
    """The text's loss: sqrt(mean of (found - truth)^2 + 1e-12), without which the root has no gradient at 0."""
    return ((found - truth).square().mean() + 1e-12).sqrt()


def masked_mean(losses: Tensor, present: Tensor) -> Tensor:
    """sum of m * losses / max(1, sum of m): what is not labelled (m = 0) counts neither way and gets no gradient.

    With losses = (found - truth)^2 this is the masked mean squared error.
    """
    return (losses * present).sum() / present.sum().clamp_min(1)


def map_loss(logits: Tensor, truth: Tensor, positions: Tensor, sigma: float) -> Tensor:
    """Cross entropy [B, P] of the softmax of each map [B, P, h, w] against a Gaussian of `sigma` (window units) about the point."""
    inside = truth.clamp(-1, 1)
    gx = torch.exp(-(inside[..., :1] - positions).square() / (2 * sigma**2))  # [B, P, w]
    gy = torch.exp(-(inside[..., 1:] - positions).square() / (2 * sigma**2))
    target = (gy / gy.sum(-1, keepdim=True)).unsqueeze(-1) * (gx / gx.sum(-1, keepdim=True)).unsqueeze(-2)
    return -(target.flatten(2) * logits.flatten(2).log_softmax(2)).sum(2)


# --- recipes ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeedKeypoints(Looks):
    """Preset `seed`: the text's settings, complete rows only, labels as they lie."""

    needs: ClassVar[tuple[str, ...]] = ("all keypoints",)

    batch: int = 64
    epochs: int = 100  # at most
    patience: int = 10  # epochs without a better rmse_96 after which it ends; the best weights are kept
    rate: float = 1e-3  # Adam
    first: int = 100  # rows that are measured on where the data have no folds

    def networks(self) -> Networks:
        return {"points": SeedNet()}

    def split(self, items: Sequence[Item], validation: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
        """Without folds the first rows are measured on, as in the text; of a small set a tenth."""
        if validation:
            return items, validation
        held = min(self.first, len(items) // 10)
        return items[held:], items[:held]

    def stages(self) -> tuple[Stage, ...]:
        def adam(nets: Networks) -> dict[str, torch.optim.Optimizer]:
            return {"points": torch.optim.Adam(nets["points"].parameters(), lr=self.rate)}

        watched: dict[str, Any] = {"watch": "rmse_96", "patience": self.patience}
        return (Stage("points", ("points",), step=self.step, optimizers=adam, batch=self.batch, epochs=self.epochs, **watched),)

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The square as it is: image float32 [1, 96, 96] in [-1, 1]; points float32 [15, 2] in window units."""
        face = _one_of(item, rng, every_point=True)
        window = layout.labelled_window(item, face)
        points = window.to_window(np.asarray(layout.labelled(face))) / HALF - 1
        return {"image": to_network(grey(window.cut(item.photo.pixels))), "points": points.astype(np.float32)}

    def step(self, run: Run, batch: Batch) -> Mapping[str, Tensor | float]:
        with run.autocast():
            found = run.nets["points"](batch["image"])
        loss = rmse_loss(found / 2, batch["points"] / 2)  # in coordinates over 96, as the text has them
        run.update("points", loss)
        return {"loss": loss.detach()}


@dataclass(frozen=True)
class Keypoints(Looks):
    """Preset `best`: every labelled point of every row counts, and a face comes in many ways."""

    needs: ClassVar[tuple[str, ...]] = ("keypoints",)
    mirrored: ClassVar[bool] = True
    turned: ClassVar[bool] = True

    widths: tuple[int, int, int, int] = (32, 64, 128, 192)  # channels at 48, 24, 12 and 6 cells a side
    blocks: tuple[int, int, int] = (1, 2, 1)  # residual blocks at 24, 12 and 6 cells
    map_width: int = 96  # channels before the heat maps
    plain: float = 0.4  # part of the examples in the square as it is measured (besides bends, light and dirt)
    aligned: float = 0.2  # part of the examples with the roll taken out, as the second look at a photo has them
    shift: float = 0.05  # in the others: typical error of the square's centre, in its sides
    scale: float = 0.12  # and of its side, as a factor exp(+-scale)
    roll: float = 40.0  # largest turn in degrees, in a third of them; else about 10
    bend: float = 1.0  # smooth bends, typical size in pixels
    shear: float = 0.05  # stretch and shear, typical size
    knee: float = 0.06  # up to this error (window units, 1 is 48 px) the loss is quadratic, beyond it linear
    map_weight: float = 0.03  # weight of the map loss
    sigma: float = 0.07  # width of the map targets in window units
    lag: float = 0.016  # frames of video: labels lie this part of the face's size too far right and down
    batch: int = 64
    steps: int = 4000
    rate: float = 1.5e-3  # AdamW, falling as a cosine
    decay: float = 0.05  # weight decay
    average: float = 0.998  # decay of the moving average of the weights, which is what ships

    def networks(self) -> Networks:
        return {"points": Points15(self.widths, self.blocks, self.map_width)}

    def split(self, items: Sequence[Item], validation: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
        """Without folds a tenth of the people is measured on; a row whose person is not known is somebody of its own."""
        people = sorted({item.person or item.name for item in items})
        if validation or len(people) < 10:
            return items, validation
        held = {people[i] for i in np.random.default_rng(0).permutation(len(people))[: len(people) // 10]}
        parts: tuple[list[Item], list[Item]] = [], []
        for item in items:
            parts[(item.person or item.name) in held].append(item)
        return parts

    def stages(self) -> tuple[Stage, ...]:
        warm = 200 / max(self.steps, 400)

        def schedule(progress: float) -> float:
            return min(progress / warm + 0.01, 1.0) * (0.5 + 0.5 * cos(pi * progress))

        def optimizers(nets: Networks) -> dict[str, torch.optim.Optimizer]:
            parameters = list(nets["points"].parameters())
            groups = [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.decay},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ]
            return {"points": torch.optim.AdamW(groups, lr=self.rate)}

        return (
            Stage(
                "points", ("points",), step=self.step, optimizers=optimizers, batch=self.batch, steps=self.steps,
                schedule=schedule, average=self.average, clip=5.0,
            ),
        )  # fmt: skip

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """image float32 [1, 96, 96] in [-1, 1]; points float32 [15, 2] in window units, 0 where they are not labelled; present
        float32 [15, 1] says where they are; offset float32 [2], the labels' from the features, in sides of the square.
        """
        face = _one_of(item, rng)
        seen = layout.labelled_window(item, face)
        offset = self.lag_of(item, face)  # in photo pixels
        points = np.asarray(layout.labelled(face)) - offset
        mirrored = bool(rng.random() < 0.5)
        matrix = self._view(seen, points, offset, mirrored, rng)
        window = Window(matrix, (SIZE, SIZE))
        image = window.cut(item.photo.pixels, border=None if rng.random() < 0.6 else (0, 0, 0))
        truth = window.to_window(points)
        if mirrored:
            truth = truth[MIRROR15]
        present = np.isfinite(truth).all(1, keepdims=True)
        truth = np.where(present, truth, HALF)
        if rng.random() < 0.4:
            image, truth = distort.bent(image, truth, self.bend, rng)
        if rng.random() < 0.1:
            image = distort.cut_off(image, rng)
        if rng.random() < 0.25:
            image = distort.covered(image, rng)
        image = distort.degraded(distort.recoloured(image, rng), rng)
        return {
            "image": to_network(grey(image)),
            "points": np.where(present, truth / HALF - 1, 0).astype(np.float32),
            "present": present.astype(np.float32),
            "offset": np.full(2, offset / layout.side_of(seen), np.float32),
        }

    def lag_of(self, item: Item, face: Face) -> float:
        """How far right and down of the features the labels of a face lie, in photo pixels: known of video frames only."""
        if face.scheme != "ibug68" or face.points is None or "crop_x0" not in item.facts:
            return 0.0
        return self.lag * float(np.sqrt(np.ptp(face.points, axis=0).prod()))

    def _view(self, seen: Window, points: np.ndarray, offset: float, mirrored: bool, rng: np.random.Generator) -> np.ndarray:
        """The map [2, 3] from the photo to one of the squares a face may be seen in: plain, aligned, or as badly as a finder's."""
        kind, shift, scale, turn = rng.random(), np.zeros(2), 1.0, 0.0
        if kind < self.plain:
            if mirrored:  # the square was drawn about labels that lie too far right: in the mirrored picture they would, too
                shift[0] = -2 * offset
        elif kind < self.plain + self.aligned and np.isfinite(points).all(1).sum() > 2:
            seen = layout.window_of_points(points, turned=True)
            shift, scale, turn = rng.normal(0, self.shift / 3, 2), np.exp(rng.normal(0, self.scale / 3)), rng.normal(0, 3)
            shift *= layout.side_of(seen)
        else:
            turn = rng.uniform(-self.roll, self.roll) if rng.random() < 1 / 3 else rng.normal(0, 10)
            shift = np.clip(rng.normal(0, self.shift, 2), -2.4 * self.shift, 2.4 * self.shift)
            scale = np.exp(np.clip(rng.normal(0, self.scale), -2.2 * self.scale, 2.2 * self.scale))
            if rng.random() < 1 / 3:  # the first look at a photo: a larger square, further up
                scale, shift = scale * layout.FIRST_SCALE, shift + np.array([0.0, layout.FIRST_SHIFT])
            shift *= layout.side_of(seen)
        half = SIZE / 2
        centre = seen.to_window(seen.to_photo(np.array([half, half])) + shift)
        jitter = Window.turned((float(centre[0]), float(centre[1])), SIZE * scale, SIZE, roll=float(turn), mirror=mirrored)
        matrix = jitter.matrix[:, :2] @ seen.matrix
        matrix[:, 2] += jitter.matrix[:, 2]
        return distort.sheared(matrix, SIZE, self.shear, rng) if kind >= self.plain and rng.random() < 0.5 else matrix

    def loss(self, net: nn.Module, found: tuple[Tensor, Tensor, Tensor], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum that is minimised and its parts; found as the network gives it."""
        read, regressed, logits = found
        truth, present = batch["points"], batch["present"]  # [B, 15, 2], [B, 15, 1]
        both = present.expand_as(truth)
        parts = {
            "read": masked_mean(F.huber_loss(read, truth, reduction="none", delta=self.knee), both) / self.knee,
            "regressed": masked_mean(F.huber_loss(regressed, truth, reduction="none", delta=self.knee), both) / self.knee,
            "maps": masked_mean(map_loss(logits, truth, net.get_buffer("positions"), self.sigma), present[..., 0]),
        }
        return parts["read"] + parts["regressed"] + self.map_weight * parts["maps"], parts

    def step(self, run: Run, batch: Batch) -> Mapping[str, Tensor | float]:
        net = run.nets["points"]
        with run.autocast():
            found = net(batch["image"].contiguous(memory_format=torch.channels_last))
        total, parts = self.loss(net, found, batch)
        run.update("points", total)
        net.get_buffer("offset").lerp_(batch["offset"].mean(0), 1 / (run.step + 1))  # the mean over the whole training
        return {"loss": total.detach(), **{name: value.detach() for name, value in parts.items()}}


def _one_of(item: Item, rng: np.random.Generator, *, every_point: bool = False) -> Face:
    """One of the labelled faces of an item."""
    faces = []
    for face in item.faces:
        points = layout.labelled(face)
        there = np.zeros(1, bool) if points is None else np.isfinite(points).all(1)
        if there.all() if every_point else there.any():
            faces.append(face)
    if not faces:
        what = "has gaps" if every_point else "has no points"
        raise TrainingError(what, code="bad-data", path=item.name)
    return faces[int(rng.integers(len(faces)))]
