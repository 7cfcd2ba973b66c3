"""A face by its edges: histograms of gradients, and the directions in which one person's pictures differ least.

Paper   Dalal, Triggs: Histograms of Oriented Gradients for Human Detection. CVPR 2005 (the features); Hatch, Kajarekar, Stolcke:
        Within-Class Covariance Normalization for SVM-based Speaker Recognition. Interspeech 2006 (the directions).
Input   an aligned window, RGB [B, 3, S, S] in [-1, 1].
Output  [B, D].
Differs Two sizes of the window. The covariance within people is shrunk towards a multiple of the identity.
Read    histograms, then Gradients and its `fit`. Nothing here learns by descent: it knows little, and other things than a network
        that knows its training pictures by heart, so that both together tell strangers apart better than either.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CELL = 8  # pixels
BINS = 9  # directions of edges, over half a turn
CLIP = 0.2  # largest entry of a block, as in the paper
SHRINK = 0.1  # part of the covariance within people that is replaced by its mean variance


def histograms(x: Tensor) -> Tensor:
    """RGB [B, 3, S, S] in [-1, 1] -> [B, C]: 36 numbers for each block of 2 x 2 cells, of the window and of its half size."""
    return torch.cat([_of_size(x), _of_size(F.avg_pool2d(x, 2))], dim=1)


def length(side: int) -> int:
    """C, how many numbers those are for a window of this side."""
    return sum((s // CELL - 1) ** 2 * 4 * BINS for s in (side, side // 2))


def _of_size(x: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114], device=x.device)
    grey = ((x.float() * weights[:, None, None]).sum(1, keepdim=True) + 1).clamp_min(0).mul(127.5).sqrt()  # [B, 1, S, S]
    wide = F.pad(grey, (1, 1, 1, 1), mode="reflect")
    gx, gy = wide[:, :, 1:-1, 2:] - wide[:, :, 1:-1, :-2], wide[:, :, 2:, 1:-1] - wide[:, :, :-2, 1:-1]
    strength = (gx.square() + gy.square()).sqrt()
    place = torch.atan2(gy, gx).remainder(pi) * (BINS / pi)  # 0..BINS
    bins = torch.arange(BINS, device=x.device)[:, None, None]
    off = (place - bins).remainder(BINS)
    share = (1 - torch.minimum(off, BINS - off)).clamp_min(0)  # an edge is shared by the two directions next to it
    cells = F.avg_pool2d(strength * share, CELL)  # [B, BINS, S / 8, S / 8]
    blocks = torch.cat([cells[:, :, :-1, :-1], cells[:, :, 1:, :-1], cells[:, :, :-1, 1:], cells[:, :, 1:, 1:]], dim=1)
    blocks = blocks / (blocks.norm(dim=1, keepdim=True) + 1e-3)
    blocks = blocks.clamp_max(CLIP)
    return (blocks / (blocks.norm(dim=1, keepdim=True) + 1e-3)).flatten(1)


class Gradients(nn.Module):
    """[B, 3, S, S] in [-1, 1] -> [B, D]: histograms less their mean, times a matrix. `fit` makes both."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, side: int, dimensions: int) -> None:
        super().__init__()
        count = length(side) if dimensions else 0
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("matrix", torch.zeros(count, dimensions))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return (histograms(x) - self.mean) @ self.matrix.float()

    @torch.no_grad()
    def fit(self, features: Tensor, labels: Tensor) -> float:
        """Take mean and matrix from histograms [N, C] of people labels int [N]: the principal components, turned and scaled so that
        pictures of one person vary alike in all directions. Returns the part of the variance that the components hold.

        Components that there are no pictures for stay 0.
        """
        self.mean.copy_(features.mean(0))
        centred = features - self.mean
        values, vectors = torch.linalg.eigh((centred @ centred.T).double())  # of N x N: there are fewer pictures than numbers
        count = min(self.matrix.shape[1], int((values > values[-1] * 1e-6).sum()))
        values, vectors = values[-count:].flip(0), vectors[:, -count:].flip(1)
        components = centred.T.double() @ (vectors / values.sqrt())  # [C, K]
        along = centred.double() @ components  # [N, K]
        people = int(labels.max()) + 1
        sums = torch.zeros(people, count, dtype=torch.double).index_add_(0, labels, along)
        often = torch.bincount(labels, minlength=people)
        left = (along - sums[labels] / often[labels, None])[often[labels] > 1]
        freedom = max(1, len(left) - int((often > 1).sum()))
        within = left.T @ left / freedom
        spread = float(within.trace()) / count if len(left) else 1.0
        within = (1 - SHRINK) * within + SHRINK * max(spread, 1e-12) * torch.eye(count, dtype=torch.double)
        variance, axes = torch.linalg.eigh(within)
        made = components @ (axes / variance.sqrt())
        self.matrix.zero_()
        self.matrix[:, :count] = (made / made.abs().max()).float()  # lengths do not matter, float16 likes them small
        return float(values.sum() / centred.square().sum())
