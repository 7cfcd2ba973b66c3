"""68 points on a face, and the head's pose.

Paper   none: our own small network. The points are the iBUG/Multi-PIE 68 (Sagonas et al., ICCV-W 2013). Heat maps read out as
        expected positions: Sun et al., "Integral Human Pose Regression", ECCV 2018.
Input   a square window of 112 px about the face box, RGB [B, 3, 112, 112] in [-1, 1].
Output  [B, 68, 2], x and y from -1 (left, top edge of the window) to 1; points may lie a little outside.
Read    Points68 (network), loss, Landmarks68.example (augmentation), then `locate` (use on a photo).

Two heads look at the same features and their mean is the answer: one reads each point off its own heat map (sharp, local), one
regresses all points at once (a plausible shape where a point is covered). A photo is looked at twice: first in an upright window
about the box, then, mirrored as well, in the window that brings the first answer closest to the mean face. Training shows both
kinds of window.

The frames' labels were read off heat maps by a machine: they lie on a grid of 1/31 of the face, and half a step of it (1.6 % of
the face) too far right and down. Mirrored training shows the first, lips at full size the second. `true_points` takes the half
step back, so that the network learns where the corner of a mouth is; the answer keeps a share of it (`kept`), because labels as
they lie are what others compare with. `measure` gives both figures.

Where we differ from the usual wing loss: the labels lie on a coarse integer grid (about 1 % of the face size of pure rounding),
and a wing loss amplifies just these smallest errors. A Huber loss is quadratic below the rounding and so averages it away.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import cos, pi

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visagist.head.pose import pose_of
from visagist.landmarks import distort
from visagist.photo import draw
from visagist.photo.boxes import Box, iou
from visagist.photo.face import MIRROR68, Face, box_of_points
from visagist.photo.photo import Photo
from visagist.photo.window import Window
from visagist.recipe import Batch, Item, Networks, Recipe, Run, Stage, Tools

# Mean face of the training frames, mirror-symmetric, for a face box of side 1 about (0, 0): right half and middle.
_HALF = {
    0: (-0.455, -0.273), 1: (-0.449, -0.154), 2: (-0.429, -0.045), 3: (-0.407, 0.060), 4: (-0.369, 0.177), 5: (-0.305, 0.274),
    6: (-0.234, 0.339), 7: (-0.141, 0.395), 8: (0.0, 0.432), 17: (-0.345, -0.386), 18: (-0.292, -0.421), 19: (-0.226, -0.432),
    20: (-0.165, -0.426), 21: (-0.111, -0.411), 27: (0.0, -0.281), 28: (0.0, -0.201), 29: (0.0, -0.125), 30: (0.0, -0.060),
    31: (-0.074, -0.013), 32: (-0.042, -0.003), 33: (0.0, 0.006), 36: (-0.262, -0.290), 37: (-0.220, -0.305), 38: (-0.166, -0.305),
    39: (-0.116, -0.283), 40: (-0.162, -0.267), 41: (-0.218, -0.267), 48: (-0.155, 0.138), 49: (-0.102, 0.104), 50: (-0.035, 0.083),
    51: (0.0, 0.090), 57: (0.0, 0.217), 58: (-0.052, 0.211), 59: (-0.099, 0.185), 60: (-0.144, 0.136), 61: (-0.046, 0.124),
    62: (0.0, 0.122), 66: (0.0, 0.161), 67: (-0.045, 0.157),
}  # fmt: skip


def mean_face() -> np.ndarray:
    """The mean face [68, 2]: y down, the face box has side 1 and its centre at (0, 0)."""
    out = np.empty((68, 2))
    for i, (x, y) in _HALF.items():
        out[MIRROR68[i]] = -x, y
        out[i] = x, y
    return out


# --- network ----------------------------------------------------------------------------------------------------------------


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


class Points68(nn.Module):
    """[B, 3, S, S] in [-1, 1] -> points off the maps [B, 68, 2], points by regression [B, 68, 2], map logits [B, 68, S/4, S/4].

    window      S, a multiple of 16
    widths      channels at S/2, S/4, S/8, S/16
    blocks      residual blocks at S/4, S/8, S/16
    map_width   channels before the maps
    margin      side of the window over that of the face box; says where the mean face lies, from which the regression starts
    """

    positions: Tensor
    mean: Tensor

    def __init__(
        self, window: int, widths: tuple[int, int, int, int], blocks: tuple[int, int, int], map_width: int, margin: float
    ) -> None:
        super().__init__()
        a, b, c, d = widths
        self.stem = convolution(3, a, kernel=5, stride=2)  # S/2
        # Pooling, not strides: on a CPU the bf16 backward of a strided convolution costs ten times a pooled one (measured).
        self.to4 = nn.Sequential(nn.MaxPool2d(2), convolution(a, b))
        self.at4 = nn.Sequential(*(Residual(b) for _ in range(blocks[0])))  # S/4
        self.to8 = nn.Sequential(nn.MaxPool2d(2), convolution(b, c))
        self.at8 = nn.Sequential(*(Residual(c) for _ in range(blocks[1])))  # S/8
        self.to16 = nn.Sequential(nn.MaxPool2d(2), convolution(c, d))
        self.at16 = nn.Sequential(*(Residual(d) for _ in range(blocks[2])))  # S/16
        self.side4 = nn.Conv2d(b, map_width, 1)
        self.side8 = nn.Conv2d(c, map_width, 1)
        self.side16 = nn.Conv2d(d, map_width, 1)
        self.join = convolution(map_width, map_width)
        self.maps = nn.Conv2d(map_width, 68, 1)
        self.squeeze = convolution(d, 64, kernel=1)
        self.dropout = nn.Dropout(0.1)
        self.regress = nn.Linear(64 * (window // 16) ** 2, 136)
        cells = window // 4
        self.register_buffer("positions", (torch.arange(cells) * 2 + 1.0) / cells - 1, persistent=False)  # cell centres in -1..1
        self.register_buffer("mean", torch.tensor(mean_face() * 2 / margin, dtype=torch.float32), persistent=False)
        nn.init.normal_(self.regress.weight, std=0.001)
        nn.init.zeros_(self.regress.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.relu(self.stem(x))
        x4 = self.at4(F.relu(self.to4(x)))
        x8 = self.at8(F.relu(self.to8(x4)))
        x16 = self.at16(F.relu(self.to16(x8)))
        y = self.side8(x8) + F.interpolate(self.side16(x16), scale_factor=2.0, mode="nearest")
        y = self.side4(x4) + F.interpolate(F.relu(y), scale_factor=2.0, mode="nearest")
        logits = self.maps(F.relu(self.join(F.relu(y)))).float()  # [B, 68, S/4, S/4]
        heat = logits.flatten(2).softmax(2).view_as(logits)
        read = torch.stack([(heat.sum(2) * self.positions).sum(2), (heat.sum(3) * self.positions).sum(2)], dim=2)
        flat = self.dropout(F.relu(self.squeeze(x16)).flatten(1))
        regressed = self.mean + self.regress(flat).float().view(-1, 68, 2)
        return read, regressed, logits


# --- loss -------------------------------------------------------------------------------------------------------------------


def huber(found: Tensor, truth: Tensor, knee: float) -> Tensor:
    """Mean over points of Huber's loss on the distance r: r^2 / (2 knee) below the knee, r - knee / 2 above. [B, P, 2] each."""
    r2 = (found - truth).square().sum(-1)
    r = (r2 + 1e-12).sqrt()
    return torch.where(r < knee, r2 / (2 * knee), r - knee / 2).mean()


def map_loss(logits: Tensor, truth: Tensor, positions: Tensor, sigma: float) -> Tensor:
    """Cross entropy between the softmax of the maps [B, P, h, w] and a Gaussian of `sigma` (window units) about the true points."""
    inside = truth.clamp(-1, 1)
    gx = torch.exp(-(inside[..., :1] - positions).square() / (2 * sigma**2))  # [B, P, w]
    gy = torch.exp(-(inside[..., 1:] - positions).square() / (2 * sigma**2))
    target = (gy / gy.sum(-1, keepdim=True)).unsqueeze(-1) * (gx / gx.sum(-1, keepdim=True)).unsqueeze(-2)
    log_heat = logits.flatten(2).log_softmax(2)
    return -(target.flatten(2) * log_heat).sum(2).mean()


# --- recipe -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Landmarks68(Recipe):
    """Settings of the training and the window; see the file's head."""

    needs = ("points",)
    ships = ("points",)

    window: int = 112  # side of the window in pixels
    margin: float = 1.3  # side of the window over the longer side of the face box
    widths: tuple[int, int, int, int] = (32, 64, 128, 256)  # channels at 1/2, 1/4, 1/8, 1/16 of the window
    blocks: tuple[int, int, int] = (1, 2, 1)  # residual blocks at 1/4, 1/8, 1/16
    map_width: int = 96  # channels before the heat maps
    shift: float = 0.05  # typical error of the box's centre, in window sides
    scale: float = 0.09  # typical error of the box's side, as a factor exp(+-scale)
    roll: float = 40.0  # largest turn in degrees, in a third of the examples; else about 8
    aligned: float = 0.45  # part of the examples that are seen in the second window
    bend: float = 1.2  # smooth bends, typical size in window pixels
    shear: float = 0.05  # stretch and shear, typical size
    knee: float = 0.03  # knee of the Huber loss in window units (2 = window side)
    map_weight: float = 0.03  # weight of the map loss
    sigma: float = 0.06  # width of the map targets in window units
    batch: int = 64
    steps: int = 4000
    rate: float = 1.5e-3  # AdamW
    decay: float = 0.05  # weight decay
    lag: float = 0.016  # frames of video: labels lie this part of the face's size too far right and down
    kept: float = 0.6  # share of that lag which the answer keeps: others compare with the labels as they lie
    average: float = 0.998  # decay of the moving average

    def networks(self) -> Networks:
        net = Points68(window=self.window, widths=self.widths, blocks=self.blocks, map_width=self.map_width, margin=self.margin)
        return {"points": net}

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

    # the window's geometry

    def first_window(self, box: Box) -> Window:
        """The upright square window about a face box."""
        x0, y0, x1, y1 = box
        side = self.margin * max(x1 - x0, y1 - y0)
        return Window.turned(((x0 + x1) / 2, (y0 + y1) / 2), side, self.window)

    def second_window(self, points: np.ndarray) -> Window:
        """The window in which points [68, 2] of the photo lie closest to the mean face."""
        return Window.aligned(points, (mean_face() / self.margin + 0.5) * self.window, (self.window, self.window))

    def true_points(self, item: Item, face: Face) -> np.ndarray:
        """The labelled points [68, 2], those of video frames without the half step of their grid (see the file's head)."""
        assert face.points is not None
        if "crop_x0" not in item.facts:  # only that set was labelled that way
            return face.points
        return face.points - self.lag * sizes(face.points)

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """image float32 [3, S, S] in [-1, 1]; points float32 [68, 2] in window units."""
        faces = [face for face in item.faces if face.points is not None]
        points = self.true_points(item, faces[int(rng.integers(len(faces)))])
        if rng.random() < self.aligned:
            seen, jitter = self.second_window(points), 0.4
            turn = rng.normal(0, 3)
        else:
            seen, jitter = self.first_window(box_of_points(points)), 1.0
            turn = rng.uniform(-self.roll, self.roll) if rng.random() < 1 / 3 else rng.normal(0, 8)
        # the jittered square, in the window's own pixels, becomes the window
        half = self.window / 2
        shift = np.clip(rng.normal(0, self.shift, 2), -2.4 * self.shift, 2.4 * self.shift) * jitter * self.window
        side = self.window * float(np.exp(np.clip(rng.normal(0, self.scale), -2.2 * self.scale, 2.2 * self.scale) * jitter))
        mirror = bool(rng.random() < 0.5)
        jittered = Window.turned((half + shift[0], half + shift[1]), side, self.window, roll=float(turn), mirror=mirror)
        matrix = jittered.matrix[:, :2] @ seen.matrix
        matrix[:, 2] += jittered.matrix[:, 2]
        if rng.random() < 0.5:
            matrix = distort.sheared(matrix, self.window, self.shear, rng)
        window = Window(matrix, (self.window, self.window))
        image = window.cut(item.photo.pixels, border=None if rng.random() < 0.6 else (0, 0, 0))
        truth = window.to_window(points)
        if mirror:
            truth = truth[MIRROR68]
        if rng.random() < 0.4:
            image, truth = distort.bent(image, truth, self.bend, rng)
        if rng.random() < 0.1:
            image = distort.cut_off(image, rng)
        if rng.random() < 0.3:
            image = distort.covered(image, rng)
        image = distort.degraded(distort.recoloured(image, rng), rng)
        return {"image": to_network(image), "points": (truth / half - 1).astype(np.float32)}

    def loss(self, net: nn.Module, found: tuple[Tensor, Tensor, Tensor], truth: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum that is minimised and its parts; found as the network gives it, truth [B, 68, 2]."""
        read, regressed, logits = found
        parts = {
            "read": huber(read, truth, self.knee),
            "regressed": huber(regressed, truth, self.knee),
            "maps": map_loss(logits, truth, net.positions, self.sigma),  # type: ignore[arg-type]
        }
        return parts["read"] + parts["regressed"] + self.map_weight * parts["maps"], parts

    def step(self, run: Run, batch: Batch) -> Mapping[str, Tensor | float]:
        net = run.nets["points"]
        with run.autocast():
            found = net(batch["image"].contiguous(memory_format=torch.channels_last))
        total, parts = self.loss(net, found, batch["points"])
        run.update("points", total)
        return {"loss": total.detach(), **{name: value.detach() for name, value in parts.items()}}

    def preview(self, run: Run, batch: Batch) -> np.ndarray:
        """Sixteen examples: truth in green, answer in red; uint8 [H, W, 3]."""
        net = run.nets["points"]
        learning = net.training
        net.eval()
        with torch.inference_mode():
            found = answer(net(batch["image"][:16]))
        net.train(learning)
        return sheet(batch["image"][:16], batch["points"][:16], found)

    # use

    def locate(self, net: nn.Module, pixels: np.ndarray, boxes: Sequence[Box], *, passes: int = 2) -> np.ndarray:
        """Points [N, 68, 2] in photo coordinates of the faces in these boxes; pixels uint8 [H, W, 3].

        passes 1: the upright window about the box; 2: then the aligned window, straight and mirrored, and their mean; 3: again.
        """
        if not boxes:
            return np.empty((0, 68, 2))
        points = np.empty((0, 68, 2))
        for number in range(passes):
            windows = [self.first_window(box) for box in boxes] if number == 0 else [self.second_window(p) for p in points]
            cuts = [to_network(window.cut(pixels)) for window in windows]
            found = self.look(net, cuts, mirrored=number > 0)
            half = self.window / 2
            points = np.stack([window.to_photo((p + 1) * half) for window, p in zip(windows, found, strict=True)])
        return points + self.kept * self.lag * sizes(points)

    def look(self, net: nn.Module, windows: Sequence[np.ndarray], *, mirrored: bool = False, batch: int = 32) -> np.ndarray:
        """Points [N, 68, 2] in window units of windows float32 [3, S, S]; `mirrored`: the mean with the mirrored window's."""
        where = next(net.parameters()).device
        out = []
        with torch.inference_mode():
            for start in range(0, len(windows), batch):
                x = torch.from_numpy(np.stack(windows[start : start + batch])).to(where)
                x = x.contiguous(memory_format=torch.channels_last)
                points = answer(net(x))
                if mirrored:
                    back = answer(net(x.flip(3)))[:, MIRROR68] * torch.tensor([-1.0, 1.0], device=where)
                    points = (points + back) / 2
                out.append(points.double().cpu().numpy())
        return np.concatenate(out)

    def landmarks(self, nets: Mapping[str, nn.Module], photo: Photo, faces: Sequence[Face]) -> tuple[Face, ...]:
        """The same faces, boxes and order, with points, scheme "ibug68" and pose."""
        if not faces:
            return ()
        points = self.locate(nets["points"], photo.pixels, [face.box for face in faces])
        return tuple(replace(face, points=p, scheme="ibug68", pose=pose_of(p)) for face, p in zip(faces, points, strict=True))

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        """nme_box (a fraction, faces found), failure_rate, n, rmse_96: points as `landmarks` gives them against labels as they lie.

        nme_box_centred: the same with the lag taken out of both, which is how far points are from what they stand for.
        From the finder's boxes, or without a finder from the true boxes with errors that follow from the item's name alone.
        """
        rows: list[tuple[np.ndarray, ...]] = []  # points found, as labelled, and what the labels stand for
        people: list[str] = []
        for item in items:
            photo = item.photo
            truths = [face for face in item.faces if face.scheme == "ibug68"]
            boxes = self._boxes(item, photo, truths, tools)
            located = iter(self.locate(nets["points"], photo.pixels, [box for box in boxes if box is not None]))
            for face, box in zip(truths, boxes, strict=True):
                found = np.full((68, 2), np.nan) if box is None else next(located)
                rows.append((found, np.asarray(face.points), self.true_points(item, face)))
                people.append(item.person or item.name)
        found, labels, features = np.array(rows).reshape(-1, 3, 68, 2).swapaxes(0, 1)
        figures: dict[str, float] = tools.metrics.points(found, labels, people=people)
        centred = tools.metrics.points(found - self.kept * self.lag * sizes(found), features, people=people)
        return {**figures, "nme_box_centred": centred["nme_box"]}

    def _boxes(self, item: Item, photo: Photo, truths: Sequence[Face], tools: Tools) -> list[Box | None]:
        if tools.finder is None:
            rng = np.random.default_rng(zlib.crc32(item.name.encode()))
            return [_jittered(face.box, rng) for face in truths]
        found = [face.box for face in tools.finder(photo)]
        if not found or not truths:
            return [None] * len(truths)
        overlaps = iou(np.array([face.box for face in truths]), np.array(found))
        return [found[int(row.argmax())] if row.max() > 0.3 else None for row in overlaps]


def sizes(points: np.ndarray) -> np.ndarray:
    """The size of faces by their points [..., 68, 2]: root of the area of their bounding box, [..., 1, 1]."""
    return np.asarray(np.sqrt(np.ptp(points, axis=-2).prod(-1)))[..., None, None]


def _jittered(box: Box, rng: np.random.Generator) -> Box:
    """A box as a finder would give it: centre off by about 4 %, sides by about 6 %."""
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0
    cx, cy = (x0 + x1) / 2 + rng.normal(0, 0.04) * w, (y0 + y1) / 2 + rng.normal(0, 0.04) * h
    w, h = w * np.exp(rng.normal(0, 0.06)), h * np.exp(rng.normal(0, 0.06))
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def answer(found: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The network's answer [B, 68, 2]: the mean of its two heads."""
    return (found[0] + found[1]) / 2


def to_network(window: np.ndarray) -> np.ndarray:
    """uint8 [S, S, 3] -> float32 [3, S, S] in [-1, 1]."""
    return np.ascontiguousarray((window.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1))


def sheet(images: Tensor, truth: Tensor, found: Tensor, *, side: int = 224) -> np.ndarray:
    """Windows [N, 3, S, S] side by side, true points green, found points red; uint8 [H, W, 3]."""
    tiles = []
    for image, *both in zip(images.float().cpu().numpy(), truth.cpu().numpy(), found.float().cpu().numpy(), strict=True):
        pixels = np.ascontiguousarray(((image.transpose(1, 2, 0) + 1) * 127.5).clip(0, 255).astype(np.uint8))
        tile = np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_LINEAR))
        for points, colour in zip(both, ((0, 255, 0), (255, 40, 40)), strict=True):
            for x, y in np.rint(((points + 1) / 2 * side - 0.5) * 16).astype(int).tolist():
                cv2.circle(tile, (x, y), 20, colour, -1, cv2.LINE_AA, shift=4)
        tiles.append(tile)
    return draw.sheet(tiles, columns=4)
