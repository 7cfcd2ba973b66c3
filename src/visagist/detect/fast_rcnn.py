"""Fast R-CNN: the network looks once at the whole picture, and every proposal takes its part of the features.

Paper   R. Girshick, "Fast R-CNN", ICCV 2015; the authors' code where it is silent
Input   RGB [B, 3, H, W] in [-1, 1], photos brought to a short side of 600 and a long side of at most 1,000 pixels; regions [N, 5]
        (number of the picture, x0, y0, x1, y1 in its pixels), about 2,000 a photo, from selective search
Output  logits [N, K + 1] (class 0: background) and deltas of the box [N, K + 1, 4], see `region_head.py`
Differs no pretraining on ImageNet, so no layer is frozen, and weak figures on VOC are to be expected.
        Where RoI pooling rounds corners to cells, RoI align (`pooling`) does not.
        `FaceFastRCNN` is the relative that a CPU trains: a small body, scenes of faces, RoI align.
Read    the network, the recipe, use on a photo
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from visagist.detect.bodies import VGG16, FineBody
from visagist.detect.region_head import RegionHead, answers, region_loss, region_sample
from visagist.detect.regions import roi_align, roi_pool
from visagist.detect.searched import Searched
from visagist.detect.yolo import VOC, door
from visagist.photo.draw import faces_on, sheet
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Batch, Item, Networks, Run, Stage

CHUNK = 256  # regions that are pooled at once


# ---- network -----------------------------------------------------------------------------------------------------------


class FastNet(nn.Module):
    """A body over the picture, a head over regions of its map; with VGG16 and 21 classes 134,690,729 parameters.

    forward: pictures [B, 3, H, W], regions [N, 5] -> logits [N, K + 1], deltas [N, K + 1, 4].
    """

    def __init__(self, body: VGG16 | FineBody, head: RegionHead, *, align: bool) -> None:
        super().__init__()
        self.body, self.head, self.align = body, head, align
        self.scale = 1 / body.stride

    def forward(self, x: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        pool = roi_align if self.align else roi_pool
        parts = [self.head(pool(features, part, self.scale)) for part in rois.split(CHUNK)]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


# ---- recipes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FastRCNN(Searched):
    """The paper's settings (sections 2.3 and 4.1)."""

    ships: ClassVar[tuple[str, ...]] = ("fast",)
    divisor: ClassVar[int] = 1  # sides of a picture are filled up to a multiple of it

    names: tuple[str, ...] = VOC
    short: int = 600  # short side of a picture
    long: int = 1000  # most of its long side
    pooling: str = "pool"  # "pool": RoI pooling; "align": RoI align
    regions_each: int = 64  # R / N: regions of a picture in a batch, at most a quarter of them objects
    least_background: float = 0.1  # IoU from which (and below 0.5) a region may be background
    batch: int = 2  # N: pictures of a batch
    steps: int = 40000  # length of the training
    rate: float = 1e-3  # learning rate of SGD, a tenth of it after three quarters of the training
    momentum: float = 0.9  # of SGD
    decay: float = 5e-4  # weight decay; none on biases, whose rate is doubled

    def __post_init__(self) -> None:
        if self.pooling not in ("pool", "align"):
            raise ValueError(f"pooling is pool or align, not {self.pooling[:40]!r}")

    def networks(self) -> Networks:
        head = RegionHead(512, 4096, len(self.names) + 1, dropout=0.5)
        return {"fast": FastNet(VGG16(), head, align=self.pooling == "align")}

    def stages(self) -> tuple[Stage, ...]:
        return (
            Stage("regions", ("fast",), self.step, optimizers=self.optimizer, schedule=self.factor, batch=self.batch,
                  steps=self.steps, measure=self.measure_some, **self.extras),  # type: ignore[arg-type]
        )  # fmt: skip

    extras: ClassVar[Mapping[str, float]] = {}  # further settings of the stage

    def factor(self, progress: float) -> float:
        return 1.0 if progress < 0.75 else 0.1

    def optimizer(self, nets: Networks) -> dict[str, torch.optim.Optimizer]:
        named = list(nets["fast"].named_parameters())
        groups = [
            {"params": [p for n, p in named if not n.endswith("bias")], "weight_decay": self.decay},
            {"params": [p for n, p in named if n.endswith("bias")], "weight_decay": 0.0, "lr": 2 * self.rate},
        ]
        return {"fast": torch.optim.SGD(groups, self.rate, self.momentum)}

    # ---- training ----

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """image uint8 [S, S, 3], the picture in its upper left corner, size int64 [2] its height and width there;
        rois float32 [n, 4], kinds int64 [n] (0: background, -1: the picture had no more) and goals float32 [n, 4].

        Half of the pictures are mirrored. S is `scene` for scenes, else `long`.
        """
        at = self.regions(item, rng)
        chance = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        pixels, scale = item.photo.pixels, 1.0 if self.composed else self.fit(item.photo.size)
        if rng.random() < 0.5:
            pixels, width = pixels[:, ::-1], pixels.shape[1]
            at = at._replace(**{name: _mirrored(getattr(at, name), width) for name in ("proposals", "truth", "ignored")})
        boxes, kinds, goals = region_sample(*at, count=self.regions_each, least=self.least_background, generator=chance)
        pixels, (sx, sy) = _resized(pixels, scale)
        side = self.scene if self.composed else self.long
        image = np.zeros((side, side, 3), np.uint8)
        image[: pixels.shape[0], : pixels.shape[1]] = self.recoloured(pixels, rng)
        count = self.regions_each
        all_rois, all_goals = np.zeros((count, 4), np.float32), np.zeros((count, 4), np.float32)
        all_kinds = np.full(count, -1, np.int64)
        all_rois[: len(boxes)] = boxes.numpy() * np.array([sx, sy, sx, sy], np.float32)
        all_kinds[: len(boxes)], all_goals[: len(boxes)] = kinds.numpy(), goals.numpy()
        size = np.array(pixels.shape[:2])
        return {"image": image, "size": size, "rois": all_rois, "kinds": all_kinds, "goals": all_goals}

    def recoloured(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The paper changes no colours."""
        return pixels

    def fit(self, size: tuple[int, int]) -> float:
        """By how much a photo of this size is scaled."""
        return min(self.short / min(size), self.long / max(size))

    def step(self, run: Run, batch: Batch) -> dict[str, Tensor]:
        """Pictures of one size go through together, gradients are added up."""
        sizes = [(int(h), int(w)) for h, w in batch["size"].tolist()]
        totals: dict[str, Tensor] = {}
        for size in sorted(set(sizes)):
            some = [i for i, other in enumerate(sizes) if other == size]
            asked = batch["kinds"][some] >= 0
            number = torch.nonzero(asked)[:, :1].float()
            height, width = (-(-side // self.divisor) * self.divisor for side in size)
            x = door(batch["image"][some, :height, :width])
            with run.autocast():
                logits, deltas = run.nets["fast"](x, torch.cat([number, batch["rois"][some][asked]], 1))
            terms = region_loss(logits, deltas, batch["kinds"][some][asked], batch["goals"][some][asked])
            terms = {name: term * (len(some) / len(sizes)) for name, term in terms.items()}
            run.backward(torch.stack(list(terms.values())).sum())
            for name, term in terms.items():
                totals[name] = totals.get(name, 0) + term.detach()
        run.apply("fast")
        return totals

    def preview(self, run: Run, batch: Batch) -> np.ndarray:
        """Pictures of the batch with what is found among their sampled regions."""
        shown = []
        for image, size, rois, kinds in zip(batch["image"][:8], batch["size"], batch["rois"], batch["kinds"], strict=False):
            pixels = image[: int(size[0]), : int(size[1])]
            found = self.answer(run.nets, pixels, rois[kinds >= 0], 0.3, 1.0)
            shown.append(faces_on(pixels.cpu().numpy(), found))
        return sheet(shown, columns=4)

    # ---- use on a photo ----

    def detect(self, nets: Mapping[str, nn.Module], photo: Photo, *, min_score: float = 0.5) -> tuple[Face, ...]:
        """Everything found with at least this score, largest first; boxes in photo pixels, `label` is the class."""
        boxes = torch.from_numpy(self.proposals(photo))
        scale = self.fit(photo.size)
        pixels, (sx, sy) = _resized(photo.pixels, scale)
        found = self.answer(nets, torch.from_numpy(pixels.copy()), boxes * boxes.new_tensor([sx, sy, sx, sy]), min_score, scale)
        return found

    def answer(
        self, nets: Mapping[str, nn.Module], pixels: Tensor, boxes: Tensor, min_score: float, scale: float
    ) -> tuple[Face, ...]:
        """What is found among boxes [N, 4] of a picture uint8 [H, W, 3] that is `scale` times the photo."""
        if not len(boxes):
            return ()
        device = next(nets["fast"].parameters()).device
        height, width = (-(-side // self.divisor) * self.divisor for side in pixels.shape[:2])
        padded = pixels.new_zeros(1, height, width, 3)
        padded[0, : pixels.shape[0], : pixels.shape[1]] = pixels
        boxes = boxes.to(device)
        logits, deltas = nets["fast"](door(padded.to(device)), torch.cat([torch.zeros_like(boxes[:, :1]), boxes], 1))
        return answers(
            logits, deltas, boxes, None, self.names, min_score=min_score, overlap=self.overlap, scale=scale, most=self.most
        )


def _resized(pixels: np.ndarray, scale: float) -> tuple[np.ndarray, tuple[float, float]]:
    """The picture scaled, and by how much its width and height really are."""
    height, width = pixels.shape[:2]
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    if (h, w) != (height, width):
        pixels = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return np.ascontiguousarray(pixels), (w / width, h / height)


def _mirrored(boxes: Tensor, width: float) -> Tensor:
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


@dataclass(frozen=True)
class FaceFastRCNN(FastRCNN):
    """A face finder in Fast R-CNN's way that a CPU trains: a small body, RoI align, scenes of faces, AdamW."""

    needs: ClassVar[tuple[str, ...]] = ()
    extras: ClassVar[Mapping[str, float]] = {"average": 0.998, "clip": 10.0}
    divisor: ClassVar[int] = 32

    names: tuple[str, ...] = ("face",)
    scenes: int = 3600
    search: str = "quick"
    learn: str = "quick"
    jitter: int = 2
    short: int = 320
    long: int = 640
    pooling: str = "align"
    least_background: float = 0.0  # scenes are all the background it ever sees
    batch: int = 8
    steps: int = 3000
    rate: float = 1e-3  # of AdamW, along a cosine after a rise over the first twentieth
    decay: float = 0.02

    def networks(self) -> Networks:
        head = RegionHead(FineBody.channels, 256, len(self.names) + 1)
        return {"fast": FastNet(FineBody(), head, align=self.pooling == "align")}

    def factor(self, progress: float) -> float:
        return min(1.0, progress / 0.05 + 0.01) * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * progress))))

    def optimizer(self, nets: Networks) -> dict[str, torch.optim.Optimizer]:
        heavy = [p for p in nets["fast"].parameters() if p.ndim > 1]
        light = [p for p in nets["fast"].parameters() if p.ndim <= 1]
        groups = [{"params": heavy, "weight_decay": self.decay}, {"params": light, "weight_decay": 0.0}]
        return {"fast": torch.optim.AdamW(groups, self.rate)}

    def recoloured(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Brighter or darker, with more or less contrast, tinted."""
        gain, tint, offset = np.exp(rng.normal(0, 0.2)), np.exp(rng.normal(0, 0.05, 3)), rng.normal(0, 12)
        table = np.clip(np.arange(256)[:, None] * (gain * tint) + offset, 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(np.ascontiguousarray(pixels), table[None]))
