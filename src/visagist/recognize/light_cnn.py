"""The network whose features TP-GAN and CAPG-GAN compare faces by: Light CNN-9, small and without any rectifier.

Paper   Wu, He, Sun, Tan: A Light CNN for Deep Face Representation with Noisy Labels. IEEE Transactions on Information Forensics and
        Security 13, 2018 (arXiv:1511.02683): the network of 9 layers.
Input   an aligned window, RGB [B, 3, S, S] in [-1, 1], S = 128; inside it becomes grey in [0, 1].
Output  [B, D], D = 256. An identity loss that wants the paper's last two layers gets them one after the other, both with gradients:
        `last = net.body(x)`, the last pooled map [B, 128, S/16, S/16]; then `net.feature(last)`, the vector [B, 256].
Differs Behind the vector comes a batch norm without weights: the loss compares directions, and as all answers of a max-feature-map
        lean to one side, without it all vectors point the same way and nothing is learnt. Trained with the loss of the embedding
        (margin 0: the paper's softmax, but of cosines), without bootstrapping of noisy labels, on windows by the usual template
        (the paper's show eyes higher). It was not trained here.
        5,480,864 parameters, without the classifier, and 1.0 billion multiplications a face.
Read    Maxout, then LightCNN.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn

GROUPS = ((48, 96, True), (96, 192, True), (192, 128, False), (128, 128, True))  # channels before, after; whether it is pooled
LUMA = (0.299, 0.587, 0.114)  # grey of red, green and blue as they are encoded (ITU-R BT.601)
OFFSET = 0.1  # what every bias begins with, as in the authors' definition of the network


class Grey(nn.Module):
    """RGB [B, 3, H, W] in [-1, 1] -> grey [B, 1, H, W] in [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        red, green, blue = (weight * x[:, i : i + 1] for i, weight in enumerate(LUMA))
        return (red + green + blue + 1) / 2


class Maxout(nn.Module):
    """The larger one of two answers, for every channel and place: max-feature-map 2/1. The layer gives 2 C channels, the first
    C of which meet the other C; with `layer` a convolution [B, C', H, W] -> [B, C, H, W], with a linear one [B, C'] -> [B, C].

    First weights as the authors have them: even between +-sqrt(3 / inputs). Their variance of 1 / inputs is the right one here: of
    two independent answers about zero the larger has the same mean square as each.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        reach = sqrt(3 / layer.weight[0].numel())
        nn.init.uniform_(layer.weight, -reach, reach)
        assert layer.bias is not None
        nn.init.constant_(layer.bias, OFFSET)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.layer(x).chunk(2, dim=1)
        return torch.maximum(first, second)


def maxout(before: int, after: int, kernel: int) -> Maxout:
    """A convolution of the same size and its max-feature-map."""
    return Maxout(nn.Conv2d(before, 2 * after, kernel, padding=kernel // 2))


class LightCNN(nn.Module):
    """[B, 3, S, S] -> [B, D], S a multiple of 16.

    body     [B, 3, S, S] -> [B, 128, S/16, S/16], the last pooled map
    feature  [B, 128, S/16, S/16] -> [B, D], the paper's vector; `norm` and, in training, dropout are what `forward` adds
    """

    def __init__(self, side: int, dimensions: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [Grey(), maxout(1, GROUPS[0][0], 5), nn.MaxPool2d(2)]
        for before, after, pooled in GROUPS:
            layers += [maxout(before, before, 1), maxout(before, after, 3)]
            layers += [nn.MaxPool2d(2)] if pooled else []
        self.body = nn.Sequential(*layers)
        places = (side // 16) ** 2
        self.feature = nn.Sequential(nn.Flatten(), Maxout(nn.Linear(GROUPS[-1][1] * places, 2 * dimensions)))
        self.norm = nn.BatchNorm1d(dimensions, affine=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.dropout(self.norm(self.feature(self.body(x))))
        return found
