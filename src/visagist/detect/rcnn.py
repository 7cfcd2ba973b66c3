"""R-CNN: every proposal is warped to a square, and a network trained to classify squares says what it shows.

Paper   R. Girshick, J. Donahue, T. Darrell, J. Malik, "Rich Feature Hierarchies for Accurate Object Detection and Semantic
        Segmentation", CVPR 2014 (the arXiv version 5 has the box regression as used here); the authors' code where it is silent
Input   windows RGB [B, 3, S, S] in [-1, 1], S = 227; about 2,000 of a photo
Output  pool5 [B, D], fc7 [B, F] and logits [B, K + 1] (class 0: background); then a linear SVM on fc7 and, from pool5, deltas of
        the box for every class
Differs no pretraining on ImageNet, so that weak figures on VOC are to be expected. Faces beyond the border of the photo stay so.
        A logistic function turns the margins of the SVM into scores of 0..1, since scores are that everywhere in the house.
        `FaceRCNN` is the relative that a CPU trains: windows of 64 pixels, a small body, scenes of faces.
Read    windows, networks, the recipe with its three stages, use on a photo
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

from visagist.detect.bodies import Body, CaffeNet, Dense
from visagist.detect.region_head import drop_hidden, region_sample
from visagist.detect.regions import area, assign, decode, encode, nms
from visagist.detect.searched import Searched
from visagist.detect.svm import hinge_svm, logistic, ridge
from visagist.detect.yolo import VOC, door
from visagist.photo.draw import sheet
from visagist.photo.face import Face, by_falling_area
from visagist.photo.photo import Photo
from visagist.photo.window import Window
from visagist.recipe import Batch, Item, Networks, Run, Scalars, Stage

GREY = (124.0, 117.0, 104.0)  # what windows show beyond the photo: the mean colour of ImageNet
CHUNK = 256  # windows that go through the network at once
NORM = 20.0  # mean length to which features are scaled for the SVM


# ---- windows -----------------------------------------------------------------------------------------------------------


def windows(pixels: np.ndarray, boxes: np.ndarray, side: int, context: float) -> np.ndarray:
    """Boxes [N, 4] of a picture as uint8 [N, side, side, 3], stretched so that around each are `context` pixels of the window
    (appendix A, D)."""
    out = np.empty((len(boxes), side, side, 3), np.uint8)
    inner = side - 2 * context
    halves = [pixels]  # the picture, halved again and again: a window is cut from the one that is at most twice too fine
    for i, (x0, y0, x1, y1) in enumerate(np.asarray(boxes, np.float64)):
        w, h = max(x1 - x0, 1e-3), max(y1 - y0, 1e-3)
        level = int(max(0, np.floor(np.log2(min(w, h) / inner))))
        while len(halves) <= level and min(halves[-1].shape[:2]) > 1:
            size = halves[-1].shape[1] // 2, halves[-1].shape[0] // 2
            halves.append(cv2.resize(halves[-1], size, interpolation=cv2.INTER_AREA))
        half = halves[min(level, len(halves) - 1)]
        sx, sy = half.shape[1] / pixels.shape[1], half.shape[0] / pixels.shape[0]
        mx, my = w * context / inner, h * context / inner
        window = Window.of_box(((x0 - mx) * sx, (y0 - my) * sy, (x1 + mx) * sx, (y1 + my) * sy), (side, side))
        out[i] = window.cut(half, border=GREY)
    return out


# ---- networks ----------------------------------------------------------------------------------------------------------


class WindowNet(nn.Module):
    """Convolutions, fc6 and fc7, and the classes of the fine-tuning; CaffeNet with 21 classes has 56,954,261 parameters.

    forward: [B, 3, S, S] -> pool5 [B, D], fc7 [B, F], logits [B, classes]; classes counts the background.
    """

    def __init__(self, body: nn.Module, inputs: int, width: int, classes: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.body = body
        self.dense = Dense(inputs, width, dropout=dropout)
        self.kind = nn.Linear(width, classes)
        nn.init.normal_(self.kind.weight, std=0.01)
        nn.init.zeros_(self.kind.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pool5 = self.body(x).flatten(1)
        fc7 = self.dense(pool5).float()
        with torch.autocast(x.device.type, enabled=False):
            return pool5.float(), fc7, self.kind(fc7)


class Svm(nn.Module):
    """K linear SVMs, each with a logistic function. forward: fc7 [B, F] -> scores [B, K] in 0..1."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(classes, inputs)), nn.Parameter(torch.zeros(classes))
        self.slope, self.offset = nn.Parameter(torch.ones(classes)), nn.Parameter(torch.zeros(classes))

    def forward(self, features: Tensor) -> Tensor:
        return (self.margin(features) * self.slope + self.offset).sigmoid()

    def margin(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(features.float(), self.weight, self.bias)


class Shift(nn.Linear):
    """From pool5 [B, D] to the deltas [B, K, 4] of the box for every class."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__(inputs, 4 * classes)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, pool5: Tensor) -> Tensor:
        with torch.autocast(pool5.device.type, enabled=False):
            return super().forward(pool5.float()).unflatten(1, (-1, 4))


# ---- recipes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RCNN(Searched):
    """The paper's settings: fine-tuning (section 2.3), SVM (appendix B), box regression (appendix C)."""

    ships: ClassVar[tuple[str, ...]] = ("cnn", "svm", "shift")

    names: tuple[str, ...] = VOC
    side: int = 227  # S: side of a window
    context: float = 16  # p: pixels of the window around the warped box
    windows: int = 64  # windows of one picture in a batch, at most a quarter of them objects
    batch: int = 2  # pictures of a batch: 128 windows
    steps: int = 70000  # length of the fine-tuning
    drop: int = 20000  # steps after which the rate falls to a tenth, each time
    rate: float = 1e-3  # learning rate of SGD
    momentum: float = 0.9  # of SGD
    decay: float = 5e-4  # weight decay; none on biases, whose rate is doubled
    mined: int = 5000  # pictures whose proposals the SVM and the box regression see
    negative: float = 0.3  # IoU below which a proposal is a negative of the SVM; positives are the true boxes
    cost: float = 1e-3  # C of the SVM
    positive_weight: float = 2.0  # of its positives
    bias_feature: float = 10.0  # the SVM's constant feature
    near: float = 0.6  # IoU of a proposal with a true box from which it teaches the box regression
    penalty: float = 1000.0  # lambda of the box regression

    def networks(self) -> Networks:
        return self._with_fitted(WindowNet(CaffeNet(), 256 * 6 * 6, 4096, len(self.names) + 1), 256 * 6 * 6, 4096)

    def _with_fitted(self, cnn: WindowNet, inputs: int, width: int) -> Networks:
        return {"cnn": cnn, "svm": Svm(width, len(self.names)), "shift": Shift(inputs, len(self.names))}

    def stages(self) -> tuple[Stage, ...]:
        return (
            Stage("fine-tuning", ("cnn",), self.step, optimizers=self.optimizer, schedule=self.factor, batch=self.batch,
                  steps=self.steps, measure=_nothing, **self.extras),  # type: ignore[arg-type]
            Stage("svm", ("svm",), fit=self.fit_svm, measure=_nothing),
            Stage("boxes", ("shift",), fit=self.fit_boxes, measure=self.measure_some),
        )  # fmt: skip

    extras: ClassVar[Mapping[str, float]] = {}  # further settings of the fine-tuning

    def factor(self, progress: float) -> float:
        return float(0.1 ** (int(progress * self.steps) // self.drop))

    def optimizer(self, nets: Networks) -> dict[str, torch.optim.Optimizer]:
        named = list(nets["cnn"].named_parameters())
        groups = [
            {"params": [p for n, p in named if not n.endswith("bias")], "weight_decay": self.decay},
            {"params": [p for n, p in named if n.endswith("bias")], "weight_decay": 0.0, "lr": 2 * self.rate},
        ]
        return {"cnn": torch.optim.SGD(groups, self.rate, self.momentum)}

    # ---- fine-tuning ----

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """windows uint8 [n, S, S, 3], half of them mirrored; kinds int64 [n]: 0 background, -1 where the picture had no more."""
        at = self.regions(item, rng)
        chance = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        boxes, kinds, _ = region_sample(*at, count=self.windows, least=0.0, generator=chance)
        cut = windows(item.photo.pixels, boxes.numpy(), self.side, self.context)
        mirrored = rng.random(len(cut)) < 0.5
        cut[mirrored] = cut[mirrored, :, ::-1]
        shown = np.zeros((self.windows, self.side, self.side, 3), np.uint8)
        labels = np.full(self.windows, -1, np.int64)
        shown[: len(cut)], labels[: len(cut)] = self.recoloured(cut, rng), kinds.numpy()
        return {"windows": shown, "kinds": labels}

    def recoloured(self, cut: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The paper changes no colours."""
        return cut

    def step(self, run: Run, batch: Batch) -> dict[str, Tensor]:
        kinds = batch["kinds"].flatten()
        asked = kinds >= 0
        if not asked.any():  # pictures of which too little is known
            return {"loss": torch.zeros(()), "wrong": torch.zeros(())}
        with run.autocast():
            _, _, logits = run.nets["cnn"](door(batch["windows"].flatten(0, 1)[asked]))
        loss = F.cross_entropy(logits, kinds[asked])
        run.update("cnn", loss)
        right = (logits.argmax(1) == kinds[asked]).float().mean()
        return {"loss": loss.detach(), "wrong": 1 - right}

    def preview(self, run: Run, batch: Batch) -> np.ndarray:
        """Windows of the batch, those taken for an object brighter than those taken for background."""
        shown, kinds = batch["windows"].flatten(0, 1)[:96], batch["kinds"].flatten()[:96]
        with run.autocast():
            object_ = 1 - run.nets["cnn"](door(shown))[2].softmax(1)[:, 0]
        dim = torch.where(kinds < 0, 0.0, 0.35 + 0.65 * object_)[:, None, None, None]
        return sheet(list((shown * dim).byte().cpu().numpy()), columns=16)

    # ---- SVM and box regression ----

    def features(self, nets: Mapping[str, nn.Module], pixels: np.ndarray, boxes: np.ndarray) -> tuple[Tensor, Tensor]:
        """pool5 [N, D] and fc7 [N, F] of boxes of a picture."""
        device = next(nets["cnn"].parameters()).device
        cut = windows(pixels, boxes, self.side, self.context)
        parts = [nets["cnn"](door(torch.from_numpy(c).to(device)))[:2] for c in np.array_split(cut, max(1, -(-len(cut) // CHUNK)))]
        return torch.cat([p[0] for p in parts]).float(), torch.cat([p[1] for p in parts]).float()

    @torch.no_grad()
    def fit_svm(self, run: Run, items: Sequence[Item]) -> Scalars:
        """One SVM per class: all true boxes of the class against the hard ones among the proposals that have little of it.

        One pass of hard negative mining over the pictures: those with a margin above -1 join the negatives, of which those that
        have become easy (below -1.2) leave; the SVM is fitted again whenever as many new ones came as there are features.
        """
        classes = len(self.names)
        positives: list[list[np.ndarray]] = [[] for _ in range(classes)]
        lengths = []
        for item in self.pictures(items, self.mined, 1):
            at = self.regions(item)
            boxes = torch.cat([at.truth, at.proposals[:20]])
            if not len(boxes):
                continue
            with run.autocast():
                fc7 = self.features(run.nets, item.photo.pixels, boxes.numpy())[1].cpu().numpy()
            lengths.append(np.linalg.norm(fc7, axis=1))
            for k in range(classes):
                positives[k].append(fc7[: len(at.truth)][at.kinds.numpy() == k + 1])
        scale = NORM / max(1e-12, float(np.concatenate(lengths).mean())) if lengths else 1.0
        miners = [_Miner(np.concatenate(p) * scale, self) for p in positives] if lengths else []
        for item in self.pictures(items, self.mined, 1):
            at = self.regions(item)
            if not len(at.proposals):
                continue
            with run.autocast():
                fc7 = self.features(run.nets, item.photo.pixels, at.proposals.numpy())[1].cpu().numpy() * scale
            for k, miner in enumerate(miners):
                roles, _ = assign(at.proposals, at.truth[at.kinds == k + 1], 2.0, self.negative)
                miner.see(fc7[drop_hidden(roles, at.proposals, at.ignored).numpy() == 0])
        svm = run.nets["svm"]
        assert isinstance(svm, Svm)
        figures: Scalars = {"scale": scale, "hard_negatives": float(sum(len(m.negatives) for m in miners))}
        for k, miner in enumerate(miners):
            weight, bias, slope, offset = miner.finish()
            svm.weight[k] = torch.from_numpy(weight * scale).to(svm.weight)
            svm.bias[k], svm.slope[k], svm.offset[k] = bias, slope, offset
        return figures

    @torch.no_grad()
    def fit_boxes(self, run: Run, items: Sequence[Item]) -> Scalars:
        """One ridge regression per class, from pool5 of the proposals near a true box to that box."""
        seen: list[list[np.ndarray]] = [[] for _ in self.names]
        goals: list[list[np.ndarray]] = [[] for _ in self.names]
        for i, item in enumerate(self.pictures(items, self.mined, 1)):
            at = self.regions(item, np.random.default_rng((2014, i)))
            roles, index = assign(at.proposals, at.truth, self.near, self.near)
            close = roles == 1
            if not close.any():
                continue
            boxes, index = at.proposals[close], index[close]
            with run.autocast():
                pool5 = self.features(run.nets, item.photo.pixels, boxes.numpy())[0].cpu().numpy()
            wanted, kinds = encode(at.truth[index], boxes).numpy(), at.kinds[index].numpy()
            for k in range(len(self.names)):
                seen[k].append(pool5[kinds == k + 1])
                goals[k].append(wanted[kinds == k + 1])
        shift = run.nets["shift"]
        assert isinstance(shift, Shift)
        error, count = 0.0, 0
        for k, (rows, targets) in enumerate(zip(seen, goals, strict=True)):
            x, t = (np.concatenate(rows), np.concatenate(targets)) if rows else (np.zeros((0, 1)), np.zeros((0, 4)))
            if not len(x):
                continue
            weight, bias = ridge(x, t, self.penalty)
            shift.weight[4 * k : 4 * k + 4] = torch.from_numpy(weight.T).to(shift.weight)
            shift.bias[4 * k : 4 * k + 4] = torch.from_numpy(bias).to(shift.bias)
            error, count = error + float(np.square(x @ weight + bias - t).sum()), count + len(x)
        return {"near_proposals": float(count), "shift_error": error / max(1, count)}

    # ---- use on a photo ----

    def detect(self, nets: Mapping[str, nn.Module], photo: Photo, *, min_score: float = 0.5) -> tuple[Face, ...]:
        """Everything found with at least this score, largest first; boxes in photo pixels, `label` is the class."""
        boxes = torch.from_numpy(self.proposals(photo))
        if not len(boxes):
            return ()
        pool5, fc7 = self.features(nets, photo.pixels, boxes.numpy())
        scores = nets["svm"](fc7).cpu()
        likely = (scores >= min_score).any(1)
        shifts = nets["shift"](pool5[likely.to(pool5.device)]).cpu()
        found = []
        for k, name in enumerate(self.names):
            score = scores[likely, k]
            above = score >= min_score
            placed = decode(shifts[above, k], boxes[likely][above])
            solid = area(placed) > 0
            placed, score = placed[solid], score[above][solid]
            kept = nms(placed, score, self.overlap, self.most)
            found += [
                Face(box=(b[0], b[1], b[2], b[3]), score=s, label=name)
                for b, s in zip(placed[kept].tolist(), score[kept].tolist(), strict=True)
            ]
        return by_falling_area(found)


class _Miner:
    """The SVM of one class while negatives are looked for; all features are scaled."""

    def __init__(self, positives: np.ndarray, recipe: RCNN) -> None:
        self.positives, self.recipe = positives.astype(np.float32), recipe
        self.negatives = np.zeros((0, positives.shape[1]), np.float32)
        self.weight, self.bias = np.zeros(positives.shape[1]), 0.0
        self.new = 0

    def see(self, negatives: np.ndarray) -> None:
        """Negatives of one picture."""
        hard = negatives[negatives @ self.weight + self.bias > -1]
        self.negatives = np.concatenate([self.negatives, hard.astype(np.float32)])
        self.new += len(hard)
        if self.new > max(2000, 2 * self.negatives.shape[1]):
            self.fit()
            self.negatives = self.negatives[self.negatives @ self.weight + self.bias > -1.2]

    def fit(self) -> None:
        x, y = self._all()
        r = self.recipe
        self.weight, self.bias = hinge_svm(x, y, cost=r.cost, positive_weight=r.positive_weight, bias_feature=r.bias_feature)
        self.new = 0

    def finish(self) -> tuple[np.ndarray, float, float, float]:
        """Weight, bias, and slope and offset of the logistic function. Without both kinds everything has a score of 0 almost."""
        if not len(self.positives) or not len(self.negatives):
            return self.weight * 0, -1.0, 1.0, -10.0
        self.fit()
        x, y = self._all()
        return self.weight, self.bias, *logistic(x @ self.weight + self.bias, y)

    def _all(self) -> tuple[np.ndarray, np.ndarray]:
        y = np.concatenate([np.ones(len(self.positives)), -np.ones(len(self.negatives))])
        return np.concatenate([self.positives, self.negatives]), y


def _nothing(*_: object) -> dict[str, float]:
    """Nothing can be measured before there are SVMs."""
    return {}


@dataclass(frozen=True)
class FaceRCNN(RCNN):
    """A face finder in R-CNN's way that a CPU trains: small windows, a small body, scenes of faces, AdamW."""

    needs: ClassVar[tuple[str, ...]] = ()
    extras: ClassVar[Mapping[str, float]] = {"average": 0.998, "clip": 10.0}

    names: tuple[str, ...] = ("face",)
    scenes: int = 1200
    search: str = "quick"
    learn: str = "quick"
    jitter: int = 8
    side: int = 64  # S, a multiple of 16
    context: float = 8
    windows: int = 32
    batch: int = 4
    steps: int = 2500
    rate: float = 1e-3  # of AdamW, along a cosine after a rise over the first twentieth
    decay: float = 0.02
    mined: int = 300

    def networks(self) -> Networks:
        inputs = Body.channels * (self.side // Body.stride) ** 2
        return self._with_fitted(WindowNet(Body(), inputs, 256, len(self.names) + 1, dropout=0.0), inputs, 256)

    def factor(self, progress: float) -> float:
        return min(1.0, progress / 0.05 + 0.01) * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * progress))))

    def optimizer(self, nets: Networks) -> dict[str, torch.optim.Optimizer]:
        heavy = [p for p in nets["cnn"].parameters() if p.ndim > 1]
        light = [p for p in nets["cnn"].parameters() if p.ndim <= 1]
        groups = [{"params": heavy, "weight_decay": self.decay}, {"params": light, "weight_decay": 0.0}]
        return {"cnn": torch.optim.AdamW(groups, self.rate)}

    def recoloured(self, cut: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Each window brighter or darker and with more or less contrast."""
        gain = np.exp(rng.normal(0, 0.2, (len(cut), 1, 1, 1))).astype(np.float32)
        tint = np.exp(rng.normal(0, 0.05, (len(cut), 1, 1, 3))).astype(np.float32)
        offset = rng.normal(0, 12, (len(cut), 1, 1, 1)).astype(np.float32)
        return np.clip(cut * (gain * tint) + offset, 0, 255).astype(np.uint8)
