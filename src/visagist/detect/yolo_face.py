"""A face finder in the spirit of YOLO, small enough for a laptop: one look, several scales, all faces.

Paper   J. Redmon, S. Divvala, R. Girshick, A. Farhadi, "You Only Look Once", CVPR 2016, is where the idea comes from: one network,
        one pass, a grid of cells, and the cell that holds the centre of a face answers for it (`yolo.py` has that network).
        What v1 cannot do, find faces of a few pixels beside faces that fill the picture, is mended with
        T.-Y. Lin et al., "Feature Pyramid Networks", CVPR 2017: grids at strides 4, 8, 16 and 32;
        Z. Tian et al., "FCOS", ICCV 2019: a cell near the centre says how far it is to the four sides, without anchors;
        X. Li et al., "Generalized Focal Loss", NeurIPS 2020, eq. 2: the score is trained towards the IoU of the box;
        H. Rezatofighi et al., "Generalized IoU", CVPR 2019: the loss of the box.
Input   RGB [B, 3, H, W] in [-1, 1], H and W multiples of 32
Output  per cell a logit and distances to the left, top, right and bottom side of the face box
Read    networks, which cell answers for which face, losses, recipe, use on a photo
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visagist.detect.bodies import Conv, Halve, Residual
from visagist.detect.scenes import scene
from visagist.photo.boxes import area, suppress
from visagist.photo.draw import sheet
from visagist.photo.face import Face, by_falling_area
from visagist.photo.photo import Photo
from visagist.recipe import Batch, Item, Networks, Recipe, Run, Stage, Tools

STRIDES = (4, 8, 16, 32)
# Geometric mean side, in network pixels, of the faces each stride answers for. They overlap: both then answer.
REACH = ((0.0, 26.0), (20.0, 60.0), (48.0, 130.0), (104.0, 1e9))
CANDIDATES = 600  # boxes of a photo, the best, that suppression looks at
MOST = 192  # faces a training scene may ask for; further ones, the smallest, are ignored


# ---- networks --------------------------------------------------------------------------------------------------------


class FaceNet(nn.Module):
    """Trunk down to stride 32, pyramid back up to stride 4, one small head per stride.

    forward: [B, 3, H, W] -> per stride s, from number `finest` on, a pair (logits [B, H/s, W/s],
    features [B, H/s, W/s, channels]), see `sides`.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        c2, c3, c4, c5 = 2 * width, 4 * width, 6 * width, 8 * width
        self.stem = Conv(3, width, stride=2)
        # As in the paper, pictures shrink by max pooling; a strided convolution there would train five times slower on a CPU.
        self.down = nn.ModuleList(
            [
                nn.Sequential(Halve(), Conv(width, c2), Conv(c2, c2)),
                nn.Sequential(Halve(), Conv(c2, c3), Residual(c3)),
                nn.Sequential(Halve(), Conv(c3, c4), Residual(c4), Residual(c4)),
                nn.Sequential(Halve(), Conv(c4, c5), Residual(c5), Residual(c5)),
            ]
        )
        features = (c2, c3, c3, c3)  # channels of the pyramid at strides 4, 8, 16, 32
        self.side = nn.ModuleList(Conv(c, f, kernel=1) for c, f in zip((c2, c3, c4, c5), features, strict=True))
        self.up = nn.ModuleList(
            Conv(a, b, kernel=1) if a != b else nn.Identity() for a, b in zip(features[1:], features[:-1], strict=True)
        )
        self.head = nn.ModuleList(Conv(f, f) for f in features)
        last_layers = [nn.Conv2d(f, 5, 1) for f in features]
        self.answer = nn.ModuleList(last_layers)
        for last in last_layers:
            assert last.bias is not None
            nn.init.normal_(last.weight, std=0.01)
            nn.init.constant_(last.bias[:1], -4.6)  # every cell starts at a score of 0.01 (focal loss paper, section 4.1)
            nn.init.constant_(last.bias[1:], 1.0)

    def forward(self, x: Tensor, finest: int = 0) -> list[tuple[Tensor, Tensor]]:
        x = self.stem(x)
        levels = []
        for down in self.down:
            x = down(x)
            levels.append(x)
        x = self.side[3](levels[3])
        tops = [x]
        for i in range(2, finest - 1, -1):
            x = self.side[i](levels[i]) + F.interpolate(self.up[i](x), scale_factor=2, mode="nearest")
            tops.insert(0, x)
        out = []
        for top, head, last in zip(tops, self.head[finest:], self.answer[finest:], strict=True):
            features = head(top).permute(0, 2, 3, 1).float()  # [B, H/s, W/s, channels]
            out.append((_answer(last, features, slice(0, 1))[..., 0], features))
        return out


def _answer(last: nn.Module, features: Tensor, rows: slice) -> Tensor:
    """These outputs of a 1x1 convolution at chosen places: features [..., channels] -> [..., rows]."""
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    with torch.autocast(features.device.type, enabled=False):  # bfloat16 would round a side to 1/256 of its length
        return F.linear(features, last.weight.flatten(1)[rows], last.bias[rows])


def sides(last: nn.Module, features: Tensor) -> Tensor:
    """How far it is from a cell to the left, top, right and bottom side, [..., 4] in units of the stride, positive.

    last is the stride's part of `FaceNet.answer`. Used on a photo, only the cells that found something are asked: four fifths of
    the work of the last layer.
    """
    return torch.exp(_answer(last, features, slice(1, 5)).clamp(-6, 5))


def answers(net: nn.Module, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What every cell says: per stride s logits [B, H/s, W/s] and sides [B, H/s, W/s, 4]."""
    assert isinstance(net.answer, nn.ModuleList)
    return [(logits, sides(last, features)) for (logits, features), last in zip(net(x), net.answer, strict=True)]


# ---- which cell answers for which face -------------------------------------------------------------------------------


def cell_centres(height: int, width: int, stride: int) -> Tensor:
    """Centres (x, y) of the cells of one stride, float [height / stride, width / stride, 2]."""
    ys = (torch.arange(height // stride) + 0.5) * stride
    xs = (torch.arange(width // stride) + 0.5) * stride
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)


def assign(boxes: Tensor, ignored: Tensor) -> tuple[Tensor, Tensor]:
    """For every cell of every stride: which face it answers for, and whether it is asked at all.

    boxes [N, 4], empty ones to be passed over; ignored bool [H / 4, W / 4]. Returns index int64 [cells] (-1: background) and
    asked bool [cells], strides one after another. A face whose size is within a stride's reach gets the cells whose centre is
    within 1.5 strides of its centre and inside it; where two faces claim a cell, the smaller gets it. Other cells in the middle
    of such a face, and cells whose centre is ignored, are not asked. A face out of reach is background: a cell of a fine grid
    in the middle of a large face that is never told so will find faces there.
    """
    height, width = ignored.shape[0] * 4, ignored.shape[1] * 4
    extent = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    side, middle = extent.prod(1).sqrt(), (boxes[:, :2] + boxes[:, 2:]) / 2
    all_index, all_asked = [], []
    for stride, (low, high) in zip(STRIDES, REACH, strict=True):
        c = cell_centres(height, width, stride).reshape(-1, 1, 2)
        half = stride // 8
        asked = ~ignored[half :: stride // 4, half :: stride // 4].reshape(-1)
        index = torch.full((c.shape[0],), -1, dtype=torch.long)
        faces = torch.nonzero((side > 0) & (side >= low * 0.8) & (side < high * 1.2))[:, 0]  # those about within reach
        if faces.numel():
            away = (c - middle[faces]).abs()  # [cells, faces, 2]
            inside = (away < extent[faces] / 2).all(-1)
            offset = away.amax(-1)
            claims = inside & (side[faces] >= low) & (side[faces] < high) & (offset < 1.5 * stride)
            near = inside & (offset < 0.3 * side[faces])
            smallest = torch.where(claims, side[faces], torch.inf).min(1)
            taken = smallest.values.isfinite()
            index[taken] = faces[smallest.indices[taken]]
            asked = taken | (asked & ~near.any(1))
        all_index.append(index)
        all_asked.append(asked)
    return torch.cat(all_index), torch.cat(all_asked)


# ---- losses ----------------------------------------------------------------------------------------------------------


def quality_focal(logits: Tensor, quality: Tensor, beta: float = 2.0) -> Tensor:
    """|q - sigma(x)|^beta * binary cross-entropy(x, q), per element (Generalized Focal Loss, eq. 2). quality in [0, 1]."""
    weight = (quality - logits.sigmoid()).abs() ** beta
    return weight * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def paired_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalized IoU [N] of boxes a [N, 4] with boxes b [N, 4], pair by pair. GIoU = IoU - (hull - union) / hull."""
    common = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(-1)
    union = (a[:, 2:] - a[:, :2]).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - common
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(-1)
    iou = common / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


def finder_loss(out: Sequence[tuple[Tensor, Tensor]], boxes: Tensor, ignored: Tensor) -> dict[str, Tensor]:
    """Loss terms of a batch: "score" and "box", each summed over cells and divided by the number of answering cells.

    out from `answers` for pictures [B, 3, H, W]; boxes [B, N, 4]; ignored bool [B, H / 4, W / 4].
    """
    size = (ignored.shape[1] * 4, ignored.shape[2] * 4)
    logits = torch.cat([o[0].flatten(1) for o in out], 1)  # [B, cells]
    distances = torch.cat([o[1].flatten(1, 2) for o in out], 1)  # [B, cells, 4]
    centres = torch.cat([cell_centres(*size, s).reshape(-1, 2) for s in STRIDES]).to(logits.device)
    strides = torch.cat([torch.full(((size[0] // s) * (size[1] // s),), float(s)) for s in STRIDES]).to(logits.device)
    answers = [assign(b, i) for b, i in zip(boxes.cpu(), ignored.cpu(), strict=True)]
    index = torch.stack([a[0] for a in answers]).to(logits.device)
    asked = torch.stack([a[1] for a in answers]).to(logits.device)
    picture, cell = torch.nonzero(index >= 0, as_tuple=True)
    quality = torch.zeros_like(logits)
    box_loss = distances.sum() * 0
    if cell.numel():
        d = distances[picture, cell] * strides[cell, None]
        found = torch.cat([centres[cell] - d[:, :2], centres[cell] + d[:, 2:]], 1)
        iou, giou = paired_iou(found, boxes[picture, index[picture, cell]])
        quality[picture, cell] = iou.detach().clamp(0, 1)
        box_loss = (1 - giou).sum()
    score_loss = (quality_focal(logits, quality) * asked).sum()
    count = max(1, cell.numel())
    return {"score": score_loss / count, "box": box_loss / count}


# ---- recipe ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class YoloFace(Recipe):
    """Settings of the small face finder; trained on scenes of faces among backgrounds (see `scenes.py`)."""

    needs: ClassVar[tuple[str, ...]] = ()
    ships: ClassVar[tuple[str, ...]] = ("finder",)

    width: int = 16  # channels after the first convolution; the others are multiples of it
    scene: int = 320  # side of a training scene in pixels, a multiple of 32
    batch: int = 32  # scenes per step
    steps: int = 5000  # length of the training
    rate: float = 2e-3  # learning rate of AdamW, reached after warming up over the first 3 %, then cosine to 1 % of it
    decay: float = 0.05  # weight decay of AdamW
    box_weight: float = 1.5  # weight of the box loss beside the score loss
    longest: int = 1280  # photos are reduced to this longest side before they are searched
    overlap: float = 0.3  # IoU above which the lower-scored of two boxes is dropped
    inside: float = 0.6  # share of the smaller of two boxes that lies in the other one, above which the lower-scored is dropped

    def networks(self) -> Networks:
        return {"finder": FaceNet(self.width)}

    def stages(self) -> tuple[Stage, ...]:
        def schedule(progress: float) -> float:
            return min(1.0, progress / 0.03 + 0.01) * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * progress))))

        return (
            Stage(
                name="scenes",
                trains=("finder",),
                step=self.step,
                optimizers=lambda nets: {"finder": _adamw(nets["finder"], self.rate, self.decay)},
                batch=self.batch,
                steps=self.steps,
                schedule=schedule,
                average=0.999,
                clip=10.0,
            ),
        )

    def compose(self, items: Sequence[Item], index: int, rng: np.random.Generator) -> Item:
        return scene(items, index, rng, self.scene)

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """image uint8 [S, S, 3]; boxes float32 [MOST, 4], the unused ones 0; ignored bool [S / 4, S / 4]."""
        pixels = item.photo.pixels
        height, width = pixels.shape[0] // 4, pixels.shape[1] // 4
        faces = by_falling_area([face for face in item.faces if face.label == "face"])
        boxes, ignored = np.zeros((MOST, 4), np.float32), np.zeros((height, width), bool)
        for i, face in enumerate(faces[:MOST]):
            boxes[i] = face.box
        for face in (*faces[MOST:], *(face for face in item.faces if face.label == "ignore")):
            x0, y0, x1, y1 = (max(0, round(v / 4)) for v in face.box)
            ignored[y0:y1, x0:x1] = True
        return {"image": pixels, "boxes": boxes, "ignored": ignored}

    def step(self, run: Run, batch: Batch) -> dict[str, Tensor]:
        x = door(batch["image"])  # [B, 3, S, S] in [-1, 1]
        with run.autocast():
            out = answers(run.nets["finder"], x)
        terms = finder_loss(out, batch["boxes"], batch["ignored"])
        run.update("finder", terms["score"] + self.box_weight * terms["box"])
        return {name: term.detach() for name, term in terms.items()}

    def preview(self, run: Run, batch: Batch) -> np.ndarray:
        """The first scenes with what is asked for (green), what is ignored (dark) and what is found (red)."""
        shown = []
        for image, boxes, ignored in zip(batch["image"][:12], batch["boxes"], batch["ignored"], strict=False):
            pixels = image.cpu().numpy().copy()
            found = self.detect(run.nets, Photo.of(pixels), min_score=0.4)
            pixels[cv2.resize(ignored.cpu().numpy().astype(np.uint8), pixels.shape[1::-1]) > 0] //= 2
            for box in boxes.tolist():
                _rectangle(pixels, box, (0, 255, 0))
            for face in found:
                _rectangle(pixels, face.box, (255, 0, 0))
            shown.append(pixels)
        return sheet(shown, columns=4)

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        """AP50, AP, recall at 0.1 false positives per picture, over the photos as they are (see `training.metrics`)."""
        found = [self.detect(nets, item.photo, min_score=0.01) for item in items]
        figures: dict[str, float] = tools.metrics.detection(found, items)
        return figures

    # ---- use on a photo ----

    def detect(self, nets: Mapping[str, nn.Module], photo: Photo, *, min_score: float = 0.5) -> tuple[Face, ...]:
        """All faces with at least this score, largest first; boxes in photo pixels by the house convention.

        The photo is searched at its own size (at most `longest`) and, for faces that fill it, once more at 160 pixels.
        """
        height, width = photo.size
        longest = max(height, width)
        fit = min(1.0, self.longest / longest)
        looks = [(fit, 0.0)]  # scale, and the smallest face in photo pixels that is taken from this look
        if longest * fit > 320:
            looks.append((160 / longest, longest / 5))  # smaller ones the first look sees better
        if longest * fit < 160:  # a small picture: its faces may be smaller than any cell answers for
            looks.append((2.0, 0.0))
        boxes, scores = [], []
        for scale, least in looks:
            b, s = _search(nets["finder"], photo.pixels, scale, min_score, finest=int(least * scale > REACH[0][1]))
            large = area(b) >= least * least
            boxes.append(b[large])
            scores.append(s[large])
        every, score = np.concatenate(boxes), np.concatenate(scores)
        best = np.argsort(-score, kind="stable")[:CANDIDATES]
        every, score = every[best], score[best]
        keep = suppress(every, score, self.overlap, inside=self.inside)
        return by_falling_area([Face(box=tuple(every[i]), score=float(score[i])) for i in keep])


def door(image: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] as networks take it: float32 [B, 3, H, W] in [-1, 1], channels last in memory."""
    return image.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def _adamw(net: nn.Module, rate: float, decay: float) -> torch.optim.Optimizer:
    """AdamW with no decay on norms and biases."""
    heavy = [p for p in net.parameters() if p.ndim > 1]
    light = [p for p in net.parameters() if p.ndim <= 1]
    return torch.optim.AdamW([{"params": heavy, "weight_decay": decay}, {"params": light, "weight_decay": 0.0}], lr=rate)


def _rectangle(pixels: np.ndarray, box: Sequence[float], colour: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = (round(float(v)) for v in box)
    cv2.rectangle(pixels, (x0, y0), (x1, y1), colour, 1)


def _search(
    net: nn.Module, pixels: np.ndarray, scale: float, min_score: float, *, finest: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [N, 4] in photo pixels and scores [N] of every cell above `min_score`, at one scale, before suppression.

    finest: number of the first stride that is asked; the work of finer ones is saved.
    """
    height, width = pixels.shape[:2]
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    while pixels.shape[0] >= 2 * h and pixels.shape[1] >= 2 * w and not (pixels.shape[0] | pixels.shape[1]) & 1:
        pixels = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)  # the same means, 5 times as quick
    if (h, w) != pixels.shape[:2]:
        pixels = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    padded = np.full((-(-h // 32) * 32, -(-w // 32) * 32, 3), 127, np.uint8)
    padded[:h, :w] = pixels
    p = next(net.parameters())
    out = net(door(torch.from_numpy(padded)[None].to(p.device)), finest)
    assert isinstance(net.answer, nn.ModuleList)
    boxes, scores = [], []
    for (logits, features), last, stride in zip(out, net.answer[finest:], STRIDES[finest:], strict=True):
        score = logits[0].sigmoid().cpu()
        # Neighbours answer for the same face: the best of 3 x 3 cells speaks (Zhou et al., "Objects as Points", 2019).
        peak = torch.from_numpy(cv2.dilate(score.numpy(), np.ones((3, 3), np.uint8)))  # 30 times as quick as max_pool2d
        ys, xs = torch.nonzero((score >= min_score) & (score == peak), as_tuple=True)
        best = score[ys, xs].topk(min(CANDIDATES, len(ys))).indices
        ys, xs = ys[best], xs[best]
        centre = torch.stack([xs, ys], 1).add(0.5).mul(stride)
        d = sides(last, features[0, ys, xs]).cpu() * stride
        boxes.append(torch.cat([centre - d[:, :2], centre + d[:, 2:]], 1))
        scores.append(score[ys, xs])
    found = torch.cat(boxes).double().numpy() / np.array([w / width, h / height] * 2)
    return found, torch.cat(scores).double().numpy()
