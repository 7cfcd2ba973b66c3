"""What the detectors of the R-CNN family do with boxes: overlaps, coding, assignment, sampling, suppression, RoI pooling and align.

Paper   R. Girshick, "Fast R-CNN", ICCV 2015 (RoI pooling, smooth L1, sampling); S. Ren, K. He, R. Girshick, J. Sun, "Faster R-CNN",
        NeurIPS 2015 (assignment of anchors, coding); K. He et al., "Mask R-CNN", ICCV 2017 (RoI align).
Input   boxes float32 [N, 4] as x0, y0, x1, y1, half-open, in picture pixels; features [B, C, H, W] of any float type
Output  said at each function; coordinates and pooled features are float32 whatever the features are
Differs widths are x1 - x0; the authors' code, which counts inclusive pixels, has x1 - x0 + 1.
        Plain PyTorch on any device, no compiled extension. RoI align sums the cells of a bin, weighted, as an embedding bag sums
        words: 20 times quicker than the two matrix products it can be written as. RoI pooling's bins are those of adaptive max
        pooling of the region.
Read    boxes, coding and loss, who is what in training, suppression, RoI pooling, RoI align
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

GROWTH = math.log(1000 / 16)  # the most by which a side is let grow, as a logarithm


# ---- boxes -----------------------------------------------------------------------------------------------------------


def area(boxes: Tensor) -> Tensor:
    """Areas [N] of boxes [N, 4]; a box turned inside out has area 0."""
    return (boxes[:, 2] - boxes[:, 0]).clamp(min=0) * (boxes[:, 3] - boxes[:, 1]).clamp(min=0)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Areas of intersection [N, M] of every box of a [N, 4] with every box of b [M, 4]."""
    width = torch.minimum(a[:, None, 2], b[None, :, 2]) - torch.maximum(a[:, None, 0], b[None, :, 0])
    height = torch.minimum(a[:, None, 3], b[None, :, 3]) - torch.maximum(a[:, None, 1], b[None, :, 1])
    return width.clamp_(min=0).mul_(height.clamp_(min=0))


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union [N, M], 0..1; two empty boxes have 0."""
    common = overlap(a, b)
    union = (area(a)[:, None] + area(b)[None, :]).sub_(common)
    return torch.where(union > 0, common / union, 0.0)


def clip(boxes: Tensor, height: float, width: float) -> Tensor:
    """The parts of the boxes inside a picture; may be empty, never inside out."""
    x, y = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)
    return torch.stack([x[:, 0], y[:, 0], torch.maximum(x[:, 0], x[:, 1]), torch.maximum(y[:, 0], y[:, 1])], 1)


# ---- coding and loss -------------------------------------------------------------------------------------------------


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes as seen from anchors, pair by pair [N, 4]: shift of the centre in anchor sides, logarithm of the growth of sides."""
    size, base = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    shift = (boxes[:, :2] + boxes[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2
    return torch.cat([shift / base, torch.log(size / base)], 1)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """The boxes [N, 4] that `encode` turned into deltas [N, 4]; sides grow 62.5 times at most, so that nothing overflows."""
    base = anchors[:, 2:] - anchors[:, :2]
    middle = (anchors[:, :2] + anchors[:, 2:]) / 2 + deltas[:, :2] * base
    half = torch.exp(deltas[:, 2:].clamp(max=GROWTH)) * base / 2
    return torch.cat([middle - half, middle + half], 1)


def smooth_l1(x: Tensor, sigma: float = 1.0) -> Tensor:
    """0.5 sigma^2 x^2 where |x| < 1 / sigma^2, else |x| - 0.5 / sigma^2; element by element."""
    away, turn = x.abs(), 1 / sigma**2
    return torch.where(away < turn, 0.5 / turn * x.square(), away - 0.5 * turn)


# ---- who is what in training -----------------------------------------------------------------------------------------


def assign(
    boxes: Tensor, truth: Tensor, positive: float, negative: float, least: float = 0.0, *, best: bool = False
) -> tuple[Tensor, Tensor]:
    """What boxes (anchors, regions) [N, 4] are to the true boxes [M, 4].

    Returns roles int64 [N]: 1 for an IoU of at least `positive` with some true box, 0 for a highest IoU in [least, negative),
    -1 for neither; and index int64 [N] of the true box with the highest IoU (the first of equals, 0 where there is none).
    best: boxes that no other overlaps a true box more than are positive too, ties included, so that no true box that is touched
    at all goes without. Positive wins over negative.
    """
    roles = torch.full((len(boxes),), -1, dtype=torch.long, device=boxes.device)
    if not len(truth):
        return (roles.zero_() if least <= 0 else roles), torch.zeros_like(roles)
    overlaps = iou(boxes, truth)
    highest, index = overlaps.max(1)
    roles[(highest >= least) & (highest < negative)] = 0
    roles[highest >= positive] = 1
    if best and len(boxes):
        most = overlaps.amax(0)
        roles[(overlaps == torch.where(most > 0, most, 2.0)).any(1)] = 1  # a true box that nothing touches has no best
    return roles, index


def sample(labels: Tensor, count: int, positive_share: float, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """A random choice of at most `count`: indices of positives (label > 0, at most this share of count) and of negatives (label 0),
    which fill up what is left. Labels below 0 are never chosen."""
    positives, negatives = torch.nonzero(labels > 0)[:, 0], torch.nonzero(labels == 0)[:, 0]
    positives = _some(positives, int(count * positive_share), generator)
    return positives, _some(negatives, count - len(positives), generator)


def _some(indices: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    if len(indices) <= count:
        return indices
    return indices[torch.randperm(len(indices), generator=generator, device=indices.device)[:count]]


# ---- suppression -----------------------------------------------------------------------------------------------------


def nms(boxes: Tensor, scores: Tensor, threshold: float, most: int | None = None) -> Tensor:
    """Greedy non-maximum suppression: indices int64 of the boxes kept, best first; stops when `most` are kept.

    Keeps the best box, drops those whose IoU with it exceeds `threshold`, and goes on. Ties go to the lower index.
    Boxes are taken 256 at a time in order of their scores. Within such a block, who is kept follows by going over the block's
    matrix until nothing changes (after k passes the first k are right, in practice four passes do); those kept strike out
    later boxes.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    kept: list[Tensor] = []
    count = 0
    while len(order) and (most is None or count < most):
        block, order = order[:256], order[256:]
        close = (iou(boxes[block], boxes[block]) > threshold).triu_(1)  # [i, j]: i, the better, strikes out j if i is kept
        alive = torch.ones(len(block), dtype=torch.bool, device=boxes.device)
        while True:
            now = ~close[alive].any(0)
            if torch.equal(now, alive):
                break
            alive = now
        block = block[alive]
        kept.append(block)
        count += len(block)
        if len(order):
            order = order[~(iou(boxes[block], boxes[order]) > threshold).any(0)]
    out = torch.cat(kept) if kept else torch.empty(0, dtype=torch.long, device=boxes.device)
    return out if most is None else out[:most]


# ---- RoI pooling -----------------------------------------------------------------------------------------------------


def roi_pool(features: Tensor, rois: Tensor, scale: float, size: int = 7) -> Tensor:
    """The highest feature of each of size x size bins of every region: float32 [N, C, size, size].

    features [B, C, H, W]; rois [N, 5] (number of the picture, x0, y0, x1, y1 in its pixels); scale: cells per pixel.
    Corners are rounded to cells, both of which belong to the region; bins run from floor to ceiling and share cells; what lies
    outside the map counts for nothing, a bin with no cell gives 0. The gradient goes to the highest cell, of equals the first.
    """
    c, h, w = features.shape[1:]
    if not len(rois):
        return features.new_zeros(0, c, size, size, dtype=torch.float32)
    scaled = rois[:, 1:].float() * scale
    corners = (scaled.sign() * (scaled.abs() + 0.5).floor()).long()  # away from zero at the half, as C rounds
    corners[:, 2:] = torch.maximum(corners[:, 2:], corners[:, :2]) + 1  # half-open, one cell at least
    out_by = [max(0, int(v)) for v in (-corners[:, :2].amin(0)).tolist() + (corners[:, 2:].amax(0) - corners.new([w, h])).tolist()]
    left, top, right, low = out_by
    whole = F.pad(features.float(), (left, right, top, low), value=-torch.inf).contiguous()
    corners += corners.new([left, top, left, top])
    with torch.no_grad():
        crops = zip(rois[:, 0].long().tolist(), corners.tolist(), strict=True)
        best = [F.adaptive_max_pool2d(whole[i, :, y0:y1, x0:x1], size, return_indices=True) for i, (x0, y0, x1, y1) in crops]
        out, cell = (torch.stack(parts) for parts in zip(*best, strict=True))  # [N, C, size, size]; cells within the region
    if whole.requires_grad:
        x0, y0, x1, _ = (v[:, None, None, None] for v in corners.unbind(1))
        y, x = cell.div(x1 - x0, rounding_mode="floor") + y0, cell % (x1 - x0) + x0
        plane = rois[:, 0].long()[:, None] * c + torch.arange(c, device=rois.device)
        out = whole.flatten()[(plane[:, :, None, None] * whole.shape[2] + y) * whole.shape[3] + x]
    return torch.where(out > -torch.inf, out, 0.0)


# ---- RoI align -------------------------------------------------------------------------------------------------------


def roi_align(features: Tensor, rois: Tensor, scale: float, size: int = 7, samples: int = 2) -> Tensor:
    """The mean of samples x samples bilinear samples in each of size x size bins of every region: float32 [N, C, size, size].

    features [B, C, H, W]; rois [N, 5] (number of the picture, x0, y0, x1, y1 in its pixels); scale: cells per pixel. Nothing is
    rounded: the centre of cell i lies at (i + 0.5) / scale pixels. Between the outermost centres and one cell beyond, the map
    goes on with its edge, further out it is 0.
    """
    c, h, w = features.shape[1:]
    table = features.float().permute(0, 2, 3, 1).reshape(-1, c)  # a row per cell
    count, taps = len(rois), 2 * samples
    row, high = _taps(rois[:, 2], rois[:, 4], scale, size, samples, h)
    column, wide = _taps(rois[:, 1], rois[:, 3], scale, size, samples, w)
    row = (row + rois[:, 0].long()[:, None, None] * h)[:, :, None, :, None]  # [N, size, 1, taps, 1]
    cells = (row * w + column[:, None, :, None, :]).reshape(-1, taps * taps)
    weights = (high[:, :, None, :, None] * wide[:, None, :, None, :]).reshape(-1, taps * taps)
    with torch.autocast(features.device.type, enabled=False):
        bins = F.embedding_bag(cells, table, mode="sum", per_sample_weights=weights)
    return bins.view(count, size, size, c).permute(0, 3, 1, 2)


def _taps(begin: Tensor, end: Tensor, scale: float, size: int, samples: int, cells: int) -> tuple[Tensor, Tensor]:
    """Which cells count in each bin along one side, and how much: int64, float32 [N, size, 2 samples]; a mean over the samples."""
    at = (torch.arange(size * samples, device=begin.device) + 0.5) / (size * samples)
    x = (begin.float()[:, None] + at * (end - begin).float()[:, None]) * scale - 0.5  # in cells, centres at whole numbers
    seen = (x >= -1) & (x <= cells)
    x = x.clamp(0, cells - 1)
    first = x.floor()
    part = x - first
    cell = torch.stack([first, (first + 1).clamp(max=cells - 1)], -1).long()
    weight = torch.stack([1 - part, part], -1) * seen[:, :, None] / samples
    return cell.view(len(begin), size, 2 * samples), weight.view(len(begin), size, 2 * samples)
