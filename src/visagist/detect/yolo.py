"""YOLO, version 1: one network, one look, all boxes.

Paper   J. Redmon, S. Divvala, R. Girshick, A. Farhadi, "You Only Look Once: Unified, Real-Time Object Detection", CVPR 2016;
        where the paper is silent, the authors' darknet (called so below).
Input   RGB [B, 3, H, W] in [-1, 1]: 448 x 448 (`Yolo`, 20 classes) or 224 x 224 (`YoloFaceSheet`, faces only)
Output  [B, S, S, P*5 + C]: per cell P predictors (x, y, sqrt w, sqrt h, confidence), then C class probabilities, all linear.
        x, y in parts of the cell, w, h in parts of the picture. This order is ours; darknet packs classes, confidences and
        coordinates of all cells one after another.
Differs no pretraining on ImageNet, weights drawn after He; without it expect weak figures on VOC.
        Cells under faces that are labelled "ignore" are not asked for a confidence (our scenes have such faces).
        Where every IoU is 0 the nearest box answers, however far; darknet gives up beyond a distance of 20 pictures.
        `YoloFaceSheet` is the small relative for a CPU: batch norm, convolutions only, AdamW, composite scenes.
Read    networks, encoding, loss, decoding, recipes, use on a photo
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from visagist.detect.scenes import scene
from visagist.photo.boxes import Box, suppress
from visagist.photo.face import Face, by_falling_area
from visagist.photo.photo import Photo
from visagist.photo.window import Window
from visagist.recipe import Batch, Item, Networks, Recipe, Run, Scalars, Stage, Tools

VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
BLACK = (0.0, 0.0, 0.0)  # the bars of a letterboxed photo
SMALLEST = 0.005  # boxes with a side below this part of the picture are skipped (darknet)


# ---- networks --------------------------------------------------------------------------------------------------------------------


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> tuple[nn.Module, ...]:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    nn.init.kaiming_normal_(layer.weight, a=0.1)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer, nn.LeakyReLU(0.1, inplace=True)  # eq. 2


class PaperNet(nn.Sequential):
    """Figure 3: 24 convolutions, two dense layers; 271,703,550 parameters at S=7, P=2, C=20.

    forward: [B, 3, 64 S, 64 S] -> [B, S, S, P*5 + C]
    """

    def __init__(self, cells: int = 7, predictors: int = 2, classes: int = 20) -> None:
        def pool() -> nn.Module:
            return nn.MaxPool2d(2)

        depth = predictors * 5 + classes
        super().__init__(
            *_conv(3, 64, 7, 2), pool(),
            *_conv(64, 192), pool(),
            *_conv(192, 128, 1), *_conv(128, 256), *_conv(256, 256, 1), *_conv(256, 512), pool(),
            *(m for _ in range(4) for m in (*_conv(512, 256, 1), *_conv(256, 512))),
            *_conv(512, 512, 1), *_conv(512, 1024), pool(),
            *(m for _ in range(2) for m in (*_conv(1024, 512, 1), *_conv(512, 1024))),
            *_conv(1024, 1024), *_conv(1024, 1024, 3, 2),
            *_conv(1024, 1024), *_conv(1024, 1024),
            nn.Flatten(), nn.Linear(1024 * cells * cells, 4096), nn.LeakyReLU(0.1, inplace=True), nn.Dropout(0.5),
            nn.Linear(4096, cells * cells * depth), nn.Unflatten(1, (cells, cells, depth)),
        )  # fmt: skip


class FaceSheetNet(nn.Module):
    """Six convolutions with batch norm, five pools, a 1x1 convolution; 986,267 parameters at P=2, C=1.

    forward: [B, 3, 32 S, 32 S] -> [B, S, S, P*5 + C]; fully convolutional, so any S does.
    """

    def __init__(self, predictors: int = 2, classes: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for i, outputs in enumerate((16, 32, 64, 128, 256, 256)):
            layers += [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)]
            layers += [nn.MaxPool2d(2)] if i < 5 else []  # before the activation: the same answer at a quarter of its work
            layers += [nn.LeakyReLU(0.1, inplace=True)]
            inputs = outputs
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(inputs, predictors * 5 + classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x))
        return out.permute(0, 2, 3, 1)


# ---- encoding: boxes -> what the network should say ------------------------------------------------------------------------------


def encode(boxes: np.ndarray, classes: np.ndarray, cells: int, count: int) -> dict[str, np.ndarray]:
    """What boxes [N, 4] (x0, y0, x1, y1 in parts of the picture) with classes [N] (0..count-1, or -1: ignore) ask of each cell.

    truth  float32 [S, S, 5 + C]: x, y in the cell, w, h in the picture, 1 where an object is centred, one-hot class
    asked  float32 [S, S]: 0 where an object may hide and confidences are neither right nor wrong, else 1

    A cell holds one object: the first box whose centre lies in it wins. Callers shuffle when order must carry no meaning.
    An object cut off so far that its centre is outside cannot be asked for; the part that is seen is ignored.
    """
    truth, asked = np.zeros((cells, cells, 5 + count), np.float32), np.ones((cells, cells), np.float32)
    middle = (np.arange(cells) + 0.5) / cells
    for (x0, y0, x1, y1), kind in zip(boxes, classes, strict=True):
        w, h, cx, cy = x1 - x0, y1 - y0, (x0 + x1) / 2, (y0 + y1) / 2
        if min(w, h) < SMALLEST:
            continue
        centred = 0 <= cx <= 1 and 0 <= cy <= 1
        column, row = (int(np.clip(v * cells, 0, cells - 1)) for v in (cx, cy))
        if kind < 0 or not centred:
            asked[np.ix_((middle > y0) & (middle < y1), (middle > x0) & (middle < x1))] = 0
            if centred:
                asked[row, column] = 0
        elif not truth[row, column, 4]:
            truth[row, column, :5] = cx * cells - column, cy * cells - row, w, h, 1
            truth[row, column, 5 + int(kind)] = 1
    return {"truth": truth, "asked": np.maximum(asked, truth[..., 4])}


# ---- loss ------------------------------------------------------------------------------------------------------------------------


def whole_boxes(x: Tensor, y: Tensor, w: Tensor, h: Tensor) -> Tensor:
    """Cell-relative centres and sizes [B, S, S, P] as x0, y0, x1, y1 [B, S, S, P, 4] in parts of the picture."""
    cells = x.shape[1]
    at = torch.arange(cells, device=x.device, dtype=x.dtype)
    cx, cy = (x + at.view(1, 1, -1, 1)) / cells, (y + at.view(1, -1, 1, 1)) / cells
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], -1)


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes [..., 4] with boxes [..., 4], element by element; 0 where both are empty."""
    common = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common
    return torch.where(union > 0, common / union.clamp(min=1e-12), torch.zeros_like(union))


def responsible(found: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Which predictor answers for the object of a cell: index [B, S, S] of the highest IoU, and all IoU [B, S, S, P].

    Where every IoU is 0: the smallest distance in (cx, cy, w, h) (darknet). Ties go to the first. found, true [B, S, S, P, 4].
    """
    iou = paired_iou(found, true)
    a, b = (torch.cat([(v[..., :2] + v[..., 2:]) / 2, v[..., 2:] - v[..., :2]], -1) for v in (found, true))
    distance = (a - b).square().sum(-1)
    none = iou.amax(-1) == 0
    return torch.where(none, distance.argmin(-1), iou.argmax(-1)), iou


def yolo_loss(
    out: Tensor, truth: Tensor, asked: Tensor, predictors: int, coord: float = 5.0, noobj: float = 0.5, *, rescore: bool = True
) -> dict[str, Tensor]:
    """The terms of eq. 3, weighted, each summed over the picture and averaged over the batch; their sum is the loss.

    out    float [B, S, S, P*5 + C]
    truth  float [B, S, S, 5 + C], asked float [B, S, S], see `encode`
    rescore  an answering confidence is drawn to the IoU its box has now (paper: Pr(object) * IoU), else to 1; no gradient
             goes through the IoU
    """
    n, s = out.shape[:2]
    p = out[..., : predictors * 5].reshape(n, s, s, predictors, 5)
    x, y, root_w, root_h, confidence = p.unbind(-1)  # each [B, S, S, P]
    tx, ty, tw, th, here = (v.unsqueeze(-1) for v in truth[..., :5].unbind(-1))  # each [B, S, S, 1]
    with torch.no_grad():
        true = whole_boxes(tx, ty, tw, th).expand(n, s, s, predictors, 4)
        answers, iou = responsible(whole_boxes(x, y, root_w**2, root_h**2), true)
        mine = nn.functional.one_hot(answers, predictors).to(out.dtype) * here  # 1_ij^obj
        others = (1 - mine) * asked.unsqueeze(-1)  # 1_ij^noobj: also the idle predictors of cells that hold an object
        goal = iou if rescore else torch.ones_like(iou)
    terms = {
        "centre": coord * mine * ((x - tx) ** 2 + (y - ty) ** 2),
        "size": coord * mine * ((root_w - tw.sqrt()) ** 2 + (root_h - th.sqrt()) ** 2),
        "object": mine * (confidence - goal) ** 2,
        "empty": noobj * others * confidence**2,
        "class": here * (out[..., predictors * 5 :] - truth[..., 5:]) ** 2,
    }
    return {name: term.sum() / n for name, term in terms.items()}


# ---- decoding: what the network says -> boxes ------------------------------------------------------------------------------------


def decode(out: Tensor, predictors: int) -> tuple[np.ndarray, np.ndarray]:
    """One picture's answer [S, S, P*5 + C] as boxes [S*S*P, 4] in parts of the picture and scores [S*S*P, C] in 0..1.

    score = class probability * confidence (eq. 1). A network that says a negative root means its square, as in darknet.
    """
    s, depth = out.shape[0], out.shape[2]
    p = out[..., : predictors * 5].reshape(1, s, s, predictors, 5).double()
    boxes = whole_boxes(p[..., 0], p[..., 1], p[..., 2] ** 2, p[..., 3] ** 2).reshape(-1, 4)
    scores = p[0, ..., 4:].clamp(0, 1) * out[:, :, None, predictors * 5 :].double().clamp(0, 1)  # [S, S, P, C]
    return boxes.cpu().numpy(), scores.reshape(-1, depth - predictors * 5).cpu().numpy()


# ---- recipes ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Yolo(Recipe):
    """The paper's settings (section 2.2)."""

    needs: ClassVar[tuple[str, ...]] = ("box",)
    ships: ClassVar[tuple[str, ...]] = ("yolo",)
    stride: ClassVar[int] = 64  # network pixels per cell

    names: tuple[str, ...] = VOC  # the C classes
    side: int = 448  # height and width of the network's picture; S = side / 64
    predictors: int = 2  # B: boxes per cell
    coord: float = 5.0  # lambda_coord: weight of the coordinates in the loss
    noobj: float = 0.5  # lambda_noobj: weight of confidences where nothing is
    rescore: bool = True  # confidences learn the IoU of their box; false: 1 (darknet knows both)
    jitter: float = 0.2  # scaling and translation of the picture, in parts of it
    exposure: float = 1.5  # largest factor on value and saturation in HSV, up or down
    batch: int = 64  # pictures per step
    steps: int = 34900  # 135 epochs of VOC 2007 + 2012 trainval, 16,551 pictures
    warm: int = 800  # steps over which the rate rises from a tenth: the paper's "first epochs", here three of VOC
    rate: float = 1e-2  # learning rate for 75 epochs, a tenth of it for 30, a hundredth for 30
    momentum: float = 0.9  # of SGD
    decay: float = 5e-4  # weight decay
    overlap: float = 0.5  # IoU above which the lower-scored of two boxes of a class is dropped
    letterbox: bool = False  # keep the photo's proportions with black bars; the paper stretches
    tiles: int = 1  # k: look at the whole photo and at k x k tiles with a fifth of overlap, for groups

    @property
    def cells(self) -> int:
        """S"""
        return self.side // self.stride

    def networks(self) -> Networks:
        return {"yolo": PaperNet(self.cells, self.predictors, len(self.names))}

    def stages(self) -> tuple[Stage, ...]:
        def optimizers(nets: Networks) -> dict[str, torch.optim.Optimizer]:
            return {"yolo": torch.optim.SGD(nets["yolo"].parameters(), self.rate, self.momentum, weight_decay=self.decay)}

        def schedule(progress: float) -> float:
            if progress * self.steps < self.warm:  # starting at the full rate diverges
                return 0.1 + 0.9 * progress * self.steps / self.warm
            epoch = progress * 135
            return 1.0 if epoch < 75 else 0.1 if epoch < 105 else 0.01

        stage = Stage("detection", ("yolo",), self.step, optimizers=optimizers, schedule=schedule)
        return (replace(stage, batch=self.batch, steps=self.steps),)

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """image uint8 [side, side, 3]; truth and asked, see `encode`. Scaled, shifted and recoloured (section 2.2)."""
        height, width = item.photo.size
        low, high = rng.uniform(-self.jitter, self.jitter, (2, 2))  # each side moves in or out
        seen = (low[0] * width, low[1] * height, (1 + high[0]) * width, (1 + high[1]) * height)
        view = Window.of_box(seen, (self.side, self.side))
        pixels = _exposed(view.cut(item.photo.pixels), *np.exp(rng.uniform(-1, 1, 2) * math.log(self.exposure)))
        return {"image": pixels, **self.target(item.faces, view, rng)}

    def target(self, faces: Sequence[Face], view: Window, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The faces (of any class) as the network sees them through the window; which of two in a cell is kept is chance."""
        order = rng.permutation(len(faces))
        corners = np.array([faces[i].box for i in order], np.float64).reshape(-1, 2, 2)
        boxes = (view.to_window(corners) / self.side).reshape(-1, 4)
        classes = np.array([self.names.index(faces[i].label) if faces[i].label in self.names else -1 for i in order], np.int64)
        return encode(boxes, classes, self.cells, len(self.names))

    def step(self, run: Run, batch: Batch) -> dict[str, Tensor]:
        with run.autocast():
            out = run.nets["yolo"](door(batch["image"]))
        weights = self.coord, self.noobj
        terms = yolo_loss(out.float(), batch["truth"], batch["asked"], self.predictors, *weights, rescore=self.rescore)
        run.update("yolo", torch.stack(list(terms.values())).sum())
        return {name: term.detach() for name, term in terms.items()}

    def preview(self, run: Run, batch: Batch) -> np.ndarray:
        """Pictures of the batch with what is found."""
        from visagist.photo.draw import faces_on, sheet

        pixels = [image.cpu().numpy() for image in batch["image"][:12]]
        return sheet([faces_on(p, self.detect(run.nets, Photo.of(p), min_score=0.3)) for p in pixels], columns=4)

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> Scalars:
        """AP50, AP, recall at 0.1 false positives per picture, over the photos as they are (see `training.metrics`)."""
        found = [self.detect(nets, item.photo, min_score=0.001) for item in items]
        figures: Scalars = tools.metrics.detection(found, items)
        return figures

    # ---- use on a photo ----

    def detect(self, nets: Mapping[str, nn.Module], photo: Photo, *, min_score: float = 0.5) -> tuple[Face, ...]:
        """Everything found with at least this score, largest first; boxes in photo pixels, `label` is the class."""
        p = next(nets["yolo"].parameters())
        views = [Window.of_box(area, (self.side, self.side)) for area in self.areas(photo.size)]
        boxes, scores = [], []
        for view in views:
            pixels = torch.from_numpy(view.cut(photo.pixels, border=BLACK if self.letterbox else None))[None].to(p.device)
            b, s = decode(nets["yolo"](door(pixels))[0].float(), self.predictors)
            boxes.append(view.to_photo(b.reshape(-1, 2, 2) * self.side).reshape(-1, 4))
            scores.append(s)
        every, score = np.concatenate(boxes), np.concatenate(scores)
        found = []
        for c, name in enumerate(self.names):
            above = np.flatnonzero(score[:, c] >= min_score)
            kept = above[suppress(every[above], score[above, c], self.overlap)]
            found += [Face(box=tuple(every[i]), score=float(score[i, c]), label=name) for i in kept]
        return by_falling_area(found)

    def areas(self, size: tuple[int, int]) -> list[Box]:
        """The parts of a photo of size (height, width) that the network is shown: all of it, and its tiles."""
        height, width = size
        parts: list[Box] = [(0.0, 0.0, float(width), float(height))]
        if self.tiles > 1:
            w, h = (v / (self.tiles - 0.2 * (self.tiles - 1)) for v in (width, height))
            starts = np.arange(self.tiles) * 0.8
            parts += [(float(x * w), float(y * h), float(x * w + w), float(y * h + h)) for y in starts for x in starts]
        return [_square(part) for part in parts] if self.letterbox else parts


@dataclass(frozen=True)
class YoloFaceSheet(Yolo):
    """A face finder of a million parameters that a CPU trains: composite scenes, AdamW, warm-up and cosine, clipped gradient."""

    needs: ClassVar[tuple[str, ...]] = ()
    stride: ClassVar[int] = 32

    names: tuple[str, ...] = ("face",)
    side: int = 224  # height and width of the network's picture; S = side / 32, twice the side finds smaller faces
    least: float = 64  # smallest tile of a scene: two cells, so that few cells get two faces
    batch: int = 32  # scenes per step
    steps: int = 3000  # length of the training
    warm: int = 300  # steps over which the rate rises
    rate: float = 3e-3  # learning rate of AdamW, falling along a cosine
    momentum: float = 0.9  # beta_1 of AdamW

    def networks(self) -> Networks:
        return {"yolo": FaceSheetNet(self.predictors, len(self.names))}

    def stages(self) -> tuple[Stage, ...]:
        def optimizers(nets: Networks) -> dict[str, torch.optim.Optimizer]:
            betas = (self.momentum, 0.999)
            return {"yolo": torch.optim.AdamW(nets["yolo"].parameters(), self.rate, betas, weight_decay=self.decay)}

        def schedule(progress: float) -> float:
            done = progress * self.steps
            return min(1.0, (done + 1) / self.warm) * 0.5 * (1 + math.cos(math.pi * progress))

        stage = Stage("composites", ("yolo",), self.step, optimizers=optimizers, schedule=schedule)
        return (replace(stage, batch=self.batch, steps=self.steps, average=0.995, clip=5.0),)

    def compose(self, items: Sequence[Item], index: int, rng: np.random.Generator) -> Item:
        """A scene of faces; with other `names` a picture of the data set."""
        return scene(items, index, rng, self.side, least=self.least) if self.names == ("face",) else items[index]


def door(image: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] as networks take it: float32 [B, 3, H, W] in [-1, 1], channels last in memory."""
    return image.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def _square(box: Box) -> Box:
    """The smallest square about the centre that holds the box."""
    x0, y0, x1, y1 = box
    cx, cy, half = (x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0) / 2
    return cx - half, cy - half, cx + half, cy + half


def _exposed(pixels: np.ndarray, value: float, saturation: float) -> np.ndarray:
    """uint8 RGB with value and saturation (of HSV) multiplied and clipped, the hue as it was."""
    rgb = pixels.astype(np.float32)
    v = rgb.max(-1, keepdims=True)
    most = v / np.maximum(v - rgb.min(-1, keepdims=True), 1e-6)  # the factor that brings the saturation to 1
    rgb = v - (v - rgb) * np.minimum(saturation, most)
    return np.clip(np.rint(rgb * np.minimum(value, 255 / np.maximum(v, 1e-6))), 0, 255).astype(np.uint8)
