"""What Fast and Faster R-CNN do with regions, wherever these come from: head, training sample, loss, answer.

Paper   R. Girshick, "Fast R-CNN", ICCV 2015, sections 2.1 to 2.3 and 3.1.
Input   regions' features [N, C, 7, 7] from `regions.roi_pool` or `roi_align`
Output  logits [N, K + 1] (class 0 is the background) and, for every class, deltas [N, K + 1, 4] in units of `SPREAD`
Read    RegionHead, region_sample, region_loss, answers
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visagist.detect.bodies import Dense
from visagist.detect.regions import area, assign, clip, decode, encode, nms, overlap, sample, smooth_l1
from visagist.photo.face import Face, by_falling_area

SPREAD = (0.1, 0.1, 0.2, 0.2)  # standard deviations by which deltas are divided before they are learned (authors' code)
HIDDEN = 0.5  # share of a box in an ignored area from which on it is no negative


class RegionHead(nn.Module):
    """fc6, fc7, then class and box side by side. For VGG16 (512 x 7 x 7, 4,096 wide, 21 classes) 119,976,041 parameters.

    forward: [N, C, 7, 7] -> logits [N, classes], deltas [N, classes, 4]; classes counts the background.
    """

    def __init__(self, channels: int, width: int, classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dense = Dense(channels * 49, width, dropout=dropout)
        self.kind, self.place = nn.Linear(width, classes), nn.Linear(width, classes * 4)
        for layer, spread in ((self.kind, 0.01), (self.place, 0.001)):  # section 2.3
            nn.init.normal_(layer.weight, std=spread)
            nn.init.zeros_(layer.bias)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        x = self.dense(regions).float()
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would round scores and sides
            return self.kind(x), self.place(x).view(len(x), self.kind.out_features, 4)


def drop_hidden(roles: Tensor, boxes: Tensor, ignored: Tensor) -> Tensor:
    """The roles [N] of boxes [N, 4] (see `regions.assign`), with -1 for negatives that lie half in an ignored area [M, 4]."""
    negatives = torch.nonzero(roles == 0)[:, 0]
    if len(ignored) and len(negatives):
        some = boxes[negatives]
        roles[negatives[overlap(some, ignored).amax(1) >= HIDDEN * area(some)]] = -1
    return roles


def region_sample(
    proposals: Tensor,
    truth: Tensor,
    kinds: Tensor,
    ignored: Tensor,
    *,
    count: int = 128,
    share: float = 0.25,
    positive: float = 0.5,
    least: float = 0.1,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """A training sample of one picture's regions: boxes [n, 4], classes int64 [n] (0: background), deltas [n, 4] to learn.

    proposals [N, 4]; truth [M, 4] of classes kinds int64 [M], 1..K; ignored [I, 4]. True boxes are regions, too. A region with an
    IoU of `positive` is of that class, in [least, positive) it is background; positives are at most `share` of `count`.
    """
    boxes = torch.cat([proposals, truth])
    roles, index = assign(boxes, truth, positive, positive, least)
    positives, negatives = sample(drop_hidden(roles, boxes, ignored), count, share, generator)
    chosen = torch.cat([positives, negatives])
    classes, deltas = torch.zeros_like(chosen), boxes.new_zeros(len(chosen), 4)
    classes[: len(positives)] = kinds[index[positives]]
    deltas[: len(positives)] = encode(truth[index[positives]], boxes[positives]) / boxes.new_tensor(SPREAD)
    return boxes[chosen], classes, deltas


def region_loss(logits: Tensor, deltas: Tensor, classes: Tensor, goals: Tensor) -> dict[str, Tensor]:
    """Softmax cross-entropy, and smooth L1 on the four values of the true class; both averaged over all regions of the sample.

    logits [n, K + 1], deltas [n, K + 1, 4] from `RegionHead`; classes int64 [n], goals [n, 4] from `region_sample`.
    """
    if not len(classes):
        return {"kind": logits.sum(), "place": deltas.sum()}
    mine = deltas[torch.arange(len(classes), device=deltas.device), classes]
    away = smooth_l1(mine - goals).sum(1) * (classes > 0)
    return {"kind": F.cross_entropy(logits, classes), "place": away.mean()}


def answers(
    logits: Tensor,
    deltas: Tensor,
    boxes: Tensor,
    size: tuple[int, int] | None,
    names: Sequence[str],
    *,
    min_score: float,
    overlap: float,
    scale: float | Tensor = 1.0,
    most: int = 100,
) -> tuple[Face, ...]:
    """The objects of a picture, largest first: of every class the boxes with this score, moved and thinned out.

    logits [n, K + 1], deltas [n, K + 1, 4] of regions boxes [n, 4] in a picture that is `scale` times the photo; size: its height
    and width, where boxes end; None: they may reach beyond, as the house's face boxes do; overlap: IoU above which the
    lower-scored of two boxes of a class is dropped; at most `most` objects are left.
    """
    found: list[tuple[float, str, list[float]]] = []
    scores = logits.float().softmax(1).cpu()
    moved, boxes = (deltas.float() * deltas.new_tensor(SPREAD)).cpu(), boxes.cpu()
    for kind, name in enumerate(names, start=1):
        above = torch.nonzero(scores[:, kind] >= min_score)[:, 0]
        placed = decode(moved[above, kind], boxes[above])
        placed = placed if size is None else clip(placed, *size)
        solid = area(placed) > 0
        placed, score = placed[solid], scores[above, kind][solid]
        kept = nms(placed, score, overlap, most)
        found += [(s, name, b) for s, b in zip(score[kept].tolist(), (placed[kept] / scale).tolist(), strict=True)]
    best = sorted(found, key=lambda one: -one[0])[:most]
    return by_falling_area([Face(box=(b[0], b[1], b[2], b[3]), score=s, label=name) for s, name, b in best])
