"""The region proposal network: anchors at every cell, which of them is an object, and where it really is.

Paper   S. Ren, K. He, R. Girshick, J. Sun, "Faster R-CNN", NeurIPS 2015, section 3.1; where it is silent, the authors'
        py-faster-rcnn.
Input   features [B, C, h, w] of a body
Output  logits [B, h w A, 2] (background, object) and deltas [B, h w A, 4], anchors in the order row, column, shape
Read    anchors, network, training sample and loss, proposals
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visagist.detect.region_head import drop_hidden
from visagist.detect.regions import assign, clip, decode, encode, nms, sample, smooth_l1

# ---- anchors ---------------------------------------------------------------------------------------------------------


def shapes(base: int, ratios: Sequence[float], scales: Sequence[float]) -> Tensor:
    """The anchors [A, 4] of the cell at 0, 0, half-open: a square of `base`, its area kept at every ratio h / w with sides rounded
    to whole pixels, then enlarged by every scale. Paper: base 16, ratios 0.5, 1, 2, scales 8, 16, 32."""
    out = []
    for ratio in ratios:
        width = round((base * base / ratio) ** 0.5)
        height = round(width * ratio)
        out += [
            (base / 2 - width * s / 2, base / 2 - height * s / 2, base / 2 + width * s / 2, base / 2 + height * s / 2)
            for s in scales
        ]
    return torch.tensor(out)


def anchors_of(height: int, width: int, stride: int, cell: Tensor) -> Tensor:
    """All anchors [height width A, 4] of a map of height x width cells: those of the first cell, moved."""
    y, x = torch.meshgrid(torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij")
    moves = torch.stack([x, y, x, y], -1).to(cell)
    return (moves.view(-1, 1, 4) + cell).view(-1, 4)


# ---- networks --------------------------------------------------------------------------------------------------------


class RPN(nn.Module):
    """A 3x3 convolution, then score and place of A anchors at every cell; 2,387,510 parameters at 512 channels, A = 9.

    forward: [B, C, h, w] -> logits [B, h w A, 2], deltas [B, h w A, 4].
    """

    def __init__(self, channels: int, width: int, shapes: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, width, 3, padding=1)
        self.kind, self.place = nn.Conv2d(width, shapes * 2, 1), nn.Conv2d(width, shapes * 4, 1)
        self.reset()

    def reset(self) -> None:
        """Weights as new."""
        for layer in (self.hidden, self.kind, self.place):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.hidden(features)).permute(0, 2, 3, 1).float()  # [B, h, w, width]
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would round scores and sides
            out = [F.linear(x, layer.weight.flatten(1), layer.bias) for layer in (self.kind, self.place)]
        return out[0].reshape(len(x), -1, 2), out[1].reshape(len(x), -1, 4)


# ---- loss of the RPN -------------------------------------------------------------------------------------------------


class RpnSample(NamedTuple):
    """The anchors of one picture that are asked: indices int64 [n] of positives, of negatives, and the positives' deltas [p, 4]."""

    positives: Tensor
    negatives: Tensor
    deltas: Tensor


def rpn_sample(
    anchors: Tensor,
    truth: Tensor,
    ignored: Tensor,
    size: tuple[int, int],
    positive: float = 0.7,
    negative: float = 0.3,
    *,
    count: int = 256,
    inside: bool = True,
    generator: torch.Generator | None = None,
) -> RpnSample:
    """A training sample of a picture's anchors (section 3.1.3): at most half of `count` positives, filled up with negatives.

    anchors [N, 4], truth [M, 4], ignored [I, 4], size (height, width). Positive: the best anchors of each true box, and those with
    an IoU of at least `positive`; negative: below `negative`. inside: anchors that cross the picture's border are not used.
    """
    used = torch.arange(len(anchors), device=anchors.device)
    if inside:
        used = torch.nonzero((anchors[:, :2] >= 0).all(1) & (anchors[:, 2] <= size[1]) & (anchors[:, 3] <= size[0]))[:, 0]
    some = anchors[used]
    roles, index = assign(some, truth, positive, negative, best=True)
    positives, negatives = sample(drop_hidden(roles, some, ignored), count, 0.5, generator)
    return RpnSample(used[positives], used[negatives], encode(truth[index[positives]], some[positives]))


def rpn_loss(logits: Tensor, deltas: Tensor, samples: Sequence[RpnSample]) -> dict[str, Tensor]:
    """Softmax cross-entropy, and smooth L1 (sigma 3) of the positives; both divided by the number of sampled anchors and averaged
    over the pictures. (The paper divides by 256 and 2,400 and weighs the second by 10, which is nearly the same.)

    logits [B, N, 2], deltas [B, N, 4], one sample per picture.
    """
    kind, place = logits.sum() * 0, deltas.sum() * 0
    for says, moves, (positives, negatives, goals) in zip(logits, deltas, samples, strict=True):
        asked = torch.cat([positives, negatives])
        if len(asked):
            right = (torch.arange(len(asked), device=asked.device) < len(positives)).long()
            kind = kind + F.cross_entropy(says[asked], right)
            place = place + smooth_l1(moves[positives] - goals, 3.0).sum() / len(asked)
    return {"object": kind / len(samples), "shift": place / len(samples)}


# ---- proposals -------------------------------------------------------------------------------------------------------


def propose(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    size: tuple[int, int],
    *,
    before: int,
    after: int,
    least: float,
    overlap: float = 0.7,
) -> tuple[Tensor, Tensor]:
    """Proposals of one picture of size (height, width), best first: boxes [n, 4] and scores [n] in 0..1; no gradient.

    Of the anchors, moved by deltas [N, 4] and clipped, those with a side below `least` are dropped, of the `before` best by logits
    [N, 2] those that overlap a better one by more than `overlap`, and `after` are left.
    """
    with torch.no_grad():
        boxes = clip(decode(deltas, anchors), *size)
        large = torch.nonzero((boxes[:, 2:] - boxes[:, :2] >= least).all(1))[:, 0]
        score = (logits[large, 1] - logits[large, 0]).sigmoid()
        if len(score) > before:  # sorting a few is quicker than sorting all
            some = torch.nonzero(score >= score.topk(before).values[-1])[:, 0]
            large, score = large[some], score[some]
        score, order = torch.sort(score, descending=True, stable=True)
        boxes, score = boxes[large[order[:before]]], score[:before]
        kept = nms(boxes, score, overlap, after)
        return boxes[kept], score[kept]
