"""Faster R-CNN: the network proposes its own regions.

Paper   S. Ren, K. He, R. Girshick, J. Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks",
        NeurIPS 2015; where it is silent, the authors' py-faster-rcnn.
Input   RGB [B, 3, H, W] in [-1, 1]; photos are brought to a short side of 600 and a long side of at most 1,000 pixels
Output  of the body features [B, C, h, w]; of the RPN see `rpn.py`, of the head `region_head.py`
Differs no pretraining on ImageNet, so that no layer is frozen from the start; expect weak figures on VOC without it.
        Boxes are half-open; the authors' `x2 - x1 + 1` is nowhere. Areas labelled "ignore" hold no negatives, and pictures
        whose labels are not complete have none at all.
        Proposals of steps 2 and 4 are made when wanted, not kept on disk: the networks they come from do not change.
        `FaceFasterRCNN` is the relative that a CPU trains; what is different there, and why, is said at its settings.
Read    the recipe with its two schedules, use on a photo, the face finder
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from visagist.detect.bodies import VGG16, FineBody
from visagist.detect.region_head import RegionHead, answers, region_loss, region_sample
from visagist.detect.regions import area, clip, iou, roi_align, roi_pool
from visagist.detect.rpn import RPN, RpnSample, anchors_of, propose, rpn_loss, rpn_sample, shapes
from visagist.detect.scenes import scene
from visagist.detect.yolo import VOC, door
from visagist.photo.draw import faces_on, sheet
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.photo.window import Window
from visagist.recipe import Batch, Item, Networks, Recipe, Run, Scalars, Stage, Tools

MOST = 1024  # boxes a picture may have, ignored ones included; further ones, the smallest, are passed over
IGNORED = -1  # class of an ignored box; 0 stands for no box
Truth = tuple[Tensor, Tensor, Tensor]  # true boxes [M, 4], their classes int64 [M] from 1 on, ignored boxes [I, 4]


# ---- recipe ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FasterRCNN(Recipe):
    """The paper's settings (section 3)."""

    needs: ClassVar[tuple[str, ...]] = ("box",)
    ships: ClassVar[tuple[str, ...]] = ("body", "rpn", "head")
    stride: ClassVar[int] = 16  # picture pixels per cell
    divisor: ClassVar[int] = 1  # a picture's sides are filled up to a multiple of it
    clipped: ClassVar[bool] = True  # answers end where the photo ends
    average: ClassVar[float] = 0.0  # see `Stage`
    clip: ClassVar[float] = 0.0

    names: tuple[str, ...] = VOC  # the classes, from number 1 on; 0 is the background
    schedule: str = "joint"  # "joint": one graph; "four-step": RPN and head in turns (section 3.2)
    short: int = 600  # s: short side of a picture
    long: int = 1000  # most of its long side
    base: int = 16  # side of the square that anchors are made from
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height over width of the anchors
    scales: tuple[float, ...] = (8.0, 16.0, 32.0)  # sides of the square anchors over base
    inside: bool = True  # anchors that cross the border are not trained
    anchor_positive: float = 0.7  # IoU from which an anchor is an object
    anchor_negative: float = 0.3  # IoU below which it is background
    anchors: int = 256  # anchors sampled per picture, half of them objects at most
    regions: int = 128  # regions sampled per picture, a quarter of them objects at most
    pooling: str = "pool"  # "pool": RoI pooling; "align": RoI align
    before: tuple[int, int] = (12000, 6000)  # proposals before suppression, in training and in use
    after: tuple[int, int] = (2000, 300)  # proposals after it
    least: float = 16  # proposals with a smaller side, in pixels of the photo, are dropped
    overlap: float = 0.3  # IoU above which the lower-scored of two boxes of a class is dropped
    most: int = 100  # objects of a photo
    batch: int = 2  # pictures whose gradients are added up
    steps: int = 70000  # length of the joint training
    rpn_steps: int = 80000  # length of steps 1 and 3 of the four
    region_steps: int = 40000  # length of steps 2 and 4
    rate: float = 1e-3  # learning rate of SGD, a tenth of it after three quarters (authors: 60k of 80k, joint 50k of 70k)
    momentum: float = 0.9  # of SGD
    decay: float = 5e-4  # weight decay; none on biases, whose rate is doubled

    def __post_init__(self) -> None:
        for name, allowed in (("schedule", ("joint", "four-step")), ("pooling", ("pool", "align"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {' or '.join(allowed)}, not {getattr(self, name)[:40]!r}")

    @property
    def cell(self) -> Tensor:
        """Anchors [A, 4] of the first cell."""
        return shapes(self.base, self.ratios, self.scales)

    def networks(self) -> Networks:
        body, rpn = VGG16(), RPN(512, 512, len(self.cell))
        return self.arranged(body, rpn, RegionHead(512, 4096, len(self.names) + 1, dropout=0.5))

    def arranged(self, body: nn.Module, rpn: nn.Module, head: nn.Module) -> Networks:
        """Four steps need a second body, for the RPN of step 1; both begin with the same weights."""
        first = {"first": copy.deepcopy(body)} if self.schedule == "four-step" else {}
        return {"body": body, "rpn": rpn, "head": head, **first}

    # ---- the two schedules ----

    def stages(self) -> tuple[Stage, ...]:
        def stage(name: str, trains: tuple[str, ...], steps: int, **how: Any) -> Stage:
            def optimizers(nets: Networks) -> dict[str, torch.optim.Optimizer]:
                return {"all": self.optimizer([nets[net] for net in trains])}

            plan = Stage(name, trains, optimizers=optimizers, schedule=self.factor, average=self.average, clip=self.clip, **how)
            return replace(plan, batch=self.batch, steps=steps)

        if self.schedule == "joint":
            return (stage("joint", ("body", "rpn", "head"), self.steps, step=self.joint_step),)
        return (
            stage("1 rpn", ("first", "rpn"), self.rpn_steps, step=self.first_rpn_step, measure=self._measured("first", "")),
            stage(
                "2 regions",
                ("body", "head"),
                self.region_steps,
                step=self.first_region_step,
                measure=self._measured("first", "body"),
            ),
            stage("3 rpn", ("rpn",), self.rpn_steps, step=self.rpn_step, measure=self._measured("body", ""), enter=_fresh_rpn),
            stage("4 regions", ("head",), self.region_steps, step=self.region_step),
        )

    def factor(self, progress: float) -> float:
        return 1.0 if progress < 0.75 else 0.1

    def optimizer(self, nets: Sequence[nn.Module]) -> torch.optim.Optimizer:
        named = [pair for net in nets for pair in net.named_parameters()]
        weights = {"params": [p for name, p in named if not name.endswith("bias")], "weight_decay": self.decay}
        biases = {"params": [p for name, p in named if name.endswith("bias")], "weight_decay": 0.0, "lr": 2 * self.rate}
        return torch.optim.SGD([weights, biases], self.rate, self.momentum)

    def joint_step(self, run: Run, batch: Batch) -> dict[str, Tensor]:
        return self._step(run, batch, "body", rpn=True, head=True)

    def first_rpn_step(self, run: Run, batch: Batch) -> dict[str, Tensor]:
        return self._step(run, batch, "first", rpn=True)

    def first_region_step(self, run: Run, batch: Batch) -> dict[str, Tensor]:
        return self._step(run, batch, "body", proposer="first", head=True)

    def rpn_step(self, run: Run, batch: Batch) -> dict[str, Tensor]:
        return self._step(run, batch, "body", rpn=True)

    def region_step(self, run: Run, batch: Batch) -> dict[str, Tensor]:
        return self._step(run, batch, "body", head=True)

    def _step(
        self, run: Run, batch: Batch, body: str, *, proposer: str = "", rpn: bool = False, head: bool = False
    ) -> dict[str, Tensor]:
        """One step down the terms of the RPN, of the head or of both, each with weight 1.

        Pictures of one size go through together, gradients are added up. proposer: the body that the RPN sees, if another.
        """
        sizes = [(int(h), int(w)) for h, w in batch["size"].tolist()]
        totals: dict[str, Tensor] = {}
        for size in sorted(set(sizes)):
            some = [i for i, other in enumerate(sizes) if other == size]
            x = door(batch["image"][some, : size[0], : size[1]])
            with run.autocast():
                features = run.nets[body](x)
                logits, deltas = run.nets["rpn"](run.nets[proposer](x) if proposer else features)
            anchors = self.anchors_of(features)
            truths = [_truth(batch["boxes"][i], batch["kinds"][i]) for i in some]
            terms: dict[str, Tensor] = {}
            if rpn:
                terms |= rpn_loss(logits, deltas, [self.rpn_sample(anchors, truth, size) for truth in truths])
            if head:
                scales = batch["scale"][some].tolist()
                proposals = [self.proposed(*one, anchors, size)[0] for one in zip(logits, deltas, scales, strict=True)]
                boxes, kinds, goals = zip(*map(self.region_sample, proposals, truths), strict=True)
                with run.autocast():
                    says, moves = run.nets["head"](self.pooled(features, boxes))
                terms |= region_loss(says, moves, torch.cat(kinds), torch.cat(goals))
            terms = {name: term * (len(some) / len(sizes)) for name, term in terms.items()}
            run.backward(torch.stack(list(terms.values())).sum())
            totals = {name: totals.get(name, 0) + term.detach() for name, term in terms.items()}
        run.apply("all")
        return totals

    def anchors_of(self, features: Tensor) -> Tensor:
        """All anchors [N, 4] of a map."""
        return anchors_of(features.shape[2], features.shape[3], self.stride, self.cell).to(features.device)

    def rpn_sample(self, anchors: Tensor, truth: Truth, size: tuple[int, int]) -> RpnSample:
        boxes, _, ignored = truth
        limits = self.anchor_positive, self.anchor_negative
        return rpn_sample(anchors, boxes, ignored, size, *limits, count=self.anchors, inside=self.inside)

    def proposed(
        self, logits: Tensor, deltas: Tensor, scale: float, anchors: Tensor, size: tuple[int, int], *, use: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Proposals and scores of one picture of this size that is `scale` times its photo, see `rpn.propose`."""
        limits = {"before": self.before[use], "after": self.after[use], "least": self.least * scale}
        return propose(logits, deltas, anchors, size, **limits)  # type: ignore[arg-type]

    def region_sample(self, proposals: Tensor, truth: Truth) -> tuple[Tensor, Tensor, Tensor]:
        return region_sample(proposals, *truth, count=self.regions, least=0.0)  # unlike Fast R-CNN, which wants 0.1

    def pooled(self, features: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """What the head sees of regions [n, 4], given picture by picture: [N, C, 7, 7]."""
        rois = torch.cat([torch.cat([b.new_full((len(b), 1), i), b], 1) for i, b in enumerate(boxes)])
        return (roi_align if self.pooling == "align" else roi_pool)(features, rois, 1 / self.stride)

    # ---- examples ----

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The photo at its size for the network, mirrored by chance: see `packed`."""
        return self.packed(item, *self.fitted(item.photo), mirror=rng.random() < 0.5, canvas=(self.long, self.long))

    def fitted(self, photo: Photo) -> tuple[np.ndarray, float]:
        """The photo with its short side at `short`, if that keeps the long side within `long`; and by how much it was scaled."""
        height, width = photo.size
        scale = min(self.short / min(height, width), self.long / max(height, width))
        h, w = (max(1, min(self.long, round(v * scale))) for v in (height, width))
        shrinks = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        return (photo.pixels if scale == 1 else cv2.resize(photo.pixels, (w, h), interpolation=shrinks)), scale

    def packed(
        self, item: Item, pixels: np.ndarray, scale: float, *, mirror: bool, canvas: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """image uint8 [*canvas, 3] with the picture at its top left; size int64 [2], its height and width; scale float32;
        boxes float32 [MOST, 4] in its pixels; kinds int64 [MOST]: class from 1 on, IGNORED, or 0 where there is no box."""
        h, w = pixels.shape[:2]
        image = np.zeros((*canvas, 3), np.uint8)
        image[:h, :w] = pixels[:, ::-1] if mirror else pixels
        kinds = [self.names.index(face.label) + 1 if face.label in self.names else IGNORED for face in item.faces]
        found = np.array([face.box for face in item.faces], np.float32).reshape(-1, 4) * np.float32(scale)
        if mirror:
            found = np.stack([w - found[:, 2], found[:, 1], w - found[:, 0], found[:, 3]], 1)
        kinds = [IGNORED if tiny else kind for kind, tiny in zip(kinds, (found[:, 2:] - found[:, :2]).min(1) < 2, strict=True)]
        order = sorted(range(len(kinds)), key=lambda i: (kinds[i] == IGNORED, -float((found[i, 2:] - found[i, :2]).prod())))
        boxes, classes = np.zeros((MOST, 4), np.float32), np.zeros(MOST, np.int64)
        for row, i in enumerate(order[: MOST - 1]):
            boxes[row], classes[row] = found[i], kinds[i]
        if not item.complete:
            boxes[-1], classes[-1] = (0, 0, w, h), IGNORED
        return {"image": image, "size": np.array([h, w]), "scale": np.float32(scale), "boxes": boxes, "kinds": classes}  # type: ignore[dict-item]

    def preview(self, run: Run, batch: Batch) -> np.ndarray:
        """Pictures of the batch with what is found."""
        shown = [image[:h, :w].cpu().numpy() for image, (h, w) in zip(batch["image"][:8], batch["size"].tolist(), strict=False)]
        return sheet([faces_on(p, self.detect(run.nets, Photo.of(p), min_score=0.4)) for p in shown], columns=4)

    # ---- use on a photo ----

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> Scalars:
        """AP50, AP, recall at 0.1 false positives per picture (see `training.metrics`), and the share of true boxes that a
        proposal covers with an IoU of 0.5."""
        return self._measured("body", "body")(nets, items, tools)

    def _measured(self, proposer: str, body: str) -> Callable[[Mapping[str, nn.Module], Sequence[Item], Tools], dict[str, float]]:
        """How the networks of one of the four steps are measured: the proposals, and what `body` finds in them."""

        def measure(nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
            looks = [self.look(nets, item.photo, min_score=0.01, proposer=proposer, body=body) for item in items]
            truths = [torch.tensor([f.box for f in item.faces if f.label in self.names]).view(-1, 4) for item in items]
            count = sum(len(truth) for truth in truths)
            covered = [int((iou(t, b).amax(1) >= 0.5).sum()) for t, (_, b, _) in zip(truths, looks, strict=True) if len(b)]
            figures = tools.metrics.detection([faces for faces, _, _ in looks], items) if body else {}
            return {**figures, "proposal_recall": sum(covered) / count if count else math.nan, "n_faces": float(count)}

        return measure

    def detect(self, nets: Mapping[str, nn.Module], photo: Photo, *, min_score: float = 0.5) -> tuple[Face, ...]:
        """Everything found with at least this score, largest first; boxes in photo pixels, `label` is the class."""
        return self.look(nets, photo, min_score=min_score)[0]

    def proposals(self, nets: Mapping[str, nn.Module], photo: Photo, count: int = 50) -> tuple[Face, ...]:
        """The best proposals, best first, labelled "proposal"; scores are how sure the RPN is that there is an object."""
        _, boxes, scores = self.look(nets, photo, body="")
        pairs = zip(boxes[:count].tolist(), scores[:count].tolist(), strict=True)
        return tuple(Face(box=tuple(box), score=score, label="proposal") for box, score in pairs)

    def objectness(self, nets: Mapping[str, nn.Module], photo: Photo) -> np.ndarray:
        """How sure the RPN is of an object at each cell, whatever its shape: float [h, w] in 0..1."""
        x, (height, width), _ = self.picture(photo)
        features = nets["body"](x)
        logits = nets["rpn"](features)[0][0].view(*features.shape[2:], -1, 2).float()
        seen = logits[: -(-height // self.stride), : -(-width // self.stride)]
        score: np.ndarray = (seen[..., 1] - seen[..., 0]).sigmoid().amax(-1).cpu().numpy()
        return score

    def picture(self, photo: Photo) -> tuple[Tensor, tuple[int, int], Tensor]:
        """The photo as the body takes it [1, 3, H, W], filled up to `divisor`; its size without that; its scale in x, y, x, y."""
        pixels, _ = self.fitted(photo)
        h, w = pixels.shape[:2]
        filled = np.full((-(-h // self.divisor) * self.divisor, -(-w // self.divisor) * self.divisor, 3), 127, np.uint8)
        filled[:h, :w] = pixels
        scale = torch.tensor([w / photo.size[1], h / photo.size[0]] * 2)
        return door(torch.from_numpy(filled)[None]), (h, w), scale

    def look(
        self, nets: Mapping[str, nn.Module], photo: Photo, *, min_score: float = 0.5, proposer: str = "body", body: str = "body"
    ) -> tuple[tuple[Face, ...], Tensor, Tensor]:
        """What the head finds with `body` in the proposals that the RPN makes with `proposer`; then these, in photo pixels [n, 4],
        and their scores [n]. body "": only these."""
        x, size, scale = self.picture(photo)
        x = x.to(next(nets[proposer].parameters()).device)
        features = nets[proposer](x)
        logits, deltas = (v[0].float() for v in nets["rpn"](features))
        boxes, scores = self.proposed(logits, deltas, float(scale.min()), self.anchors_of(features), size, use=True)
        found: tuple[Face, ...] = ()
        if body:
            features = features if body == proposer else nets[body](x)
            logits, deltas = nets["head"](self.pooled(features, [boxes]))
            found = answers(
                logits, deltas, boxes, size if self.clipped else None, self.names,
                min_score=min_score, overlap=self.overlap, scale=scale, most=self.most,
            )  # fmt: skip
        return found, boxes.cpu() / scale, scores.cpu()


def _truth(boxes: Tensor, kinds: Tensor) -> Truth:
    return boxes[kinds > 0], kinds[kinds > 0], boxes[kinds < 0]


def _fresh_rpn(nets: Networks) -> None:
    """Step 3 begins with a new RPN, as in the authors' code."""
    rpn = nets["rpn"]
    assert isinstance(rpn, RPN)
    rpn.reset()


# ---- the face finder -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FaceFasterRCNN(FasterRCNN):
    """A face finder by the same rules, trained on scenes by a CPU. What differs from the paper, and why, is said at each setting.

    Its body has cells of 8 pixels instead of 16, so that a face of 16 pixels is two cells wide, and looks back up from stride 32,
    so that a face that fills the picture is seen whole. Answers may reach beyond the photo, as the house's face boxes do.
    With other `names` it learns whole photos, shrunk, shifted and mirrored by chance, instead of scenes of faces.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    stride: ClassVar[int] = FineBody.stride
    divisor: ClassVar[int] = 32
    clipped: ClassVar[bool] = False
    average: ClassVar[float] = 0.999
    clip: ClassVar[float] = 10.0

    names: tuple[str, ...] = ("face",)
    scene: int = 384  # side of a training scene in pixels, a multiple of 32
    short: int = 384  # as the scenes, so that a face that fills a photo has a size that was trained
    long: int = 640
    ratios: tuple[float, ...] = (1.0,)  # face boxes are nearly square
    scales: tuple[float, ...] = (0.9, 1.4, 2.2, 3.5, 5.6, 9.0, 14.0, 23.0)  # 14 to 368 pixels
    inside: bool = False  # the anchors of faces that fill the picture all cross the border
    anchor_positive: float = 0.6  # anchors of 14 pixels 8 pixels apart hardly ever reach 0.7
    regions: int = 64  # seen per scene; a step costs half
    pooling: str = "align"  # rounding to whole cells moves small faces by a third of their size
    before: tuple[int, int] = (600, 500)
    after: tuple[int, int] = (150, 100)
    least: float = 4
    overlap: float = 0.4
    batch: int = 16  # scenes per step
    steps: int = 1200  # length of the joint training
    rpn_steps: int = 1500
    region_steps: int = 1500
    rate: float = 1e-3  # of AdamW: reached after 3 % of a stage, then along a cosine to 1 % of it
    decay: float = 0.05  # of AdamW, none on norms and biases
    width: int = 256  # of the head's two layers

    def networks(self) -> Networks:
        body = FineBody()
        rpn = RPN(body.channels, body.channels, len(self.cell))
        return self.arranged(body, rpn, RegionHead(body.channels, self.width, len(self.names) + 1))

    def factor(self, progress: float) -> float:
        return min(1.0, progress / 0.03 + 0.01) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    def optimizer(self, nets: Sequence[nn.Module]) -> torch.optim.Optimizer:
        parameters = [p for net in nets for p in net.parameters()]
        heavy = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.decay}
        light = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
        return torch.optim.AdamW([heavy, light], self.rate, (self.momentum, 0.999))

    def compose(self, items: Sequence[Item], index: int, rng: np.random.Generator) -> Item:
        if self.names == ("face",):
            return scene(items, index, rng, self.scene)
        return _shifted(items[index], rng, self.scene)

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A scene as it is: see `packed`."""
        pixels, scale = self.fitted(item.photo)
        return self.packed(item, pixels, scale, mirror=False, canvas=pixels.shape[:2])


def _shifted(item: Item, rng: np.random.Generator, side: int) -> Item:
    """The photo on a square of `side` pixels, larger or smaller, shifted and mirrored by chance. Objects of which less than half
    is left are ignored."""
    height, width = item.photo.size
    extent = max(height, width) * float(np.exp(rng.uniform(-0.3, 0.4)))  # photo pixels that are seen
    slack = np.abs(extent - np.array([width, height])) / 2
    x, y = np.array([width, height]) / 2 + rng.uniform(-1, 1, 2) * slack
    window = Window.turned((float(x), float(y)), extent, side, mirror=rng.random() < 0.5)
    colour = tuple(float(v) for v in rng.integers(0, 256, 3))
    photo = Photo.of(window.cut(item.photo.pixels, border=colour))
    faces = []
    for face in item.faces:
        corners = window.to_window(np.array(face.box).reshape(2, 2))
        (x0, y0), (x1, y1) = corners.min(0).tolist(), corners.max(0).tolist()
        box = torch.tensor([[x0, y0, x1, y1]])
        left = float(area(clip(box, side, side)) / area(box).clamp(min=1e-6))
        faces.append(replace(face, box=(x0, y0, x1, y1), label=face.label if left >= 0.5 else "ignore", points=None))
    return replace(item, load=lambda: photo, faces=tuple(faces))
