"""A larger network for faces, for those who have a graphics card: a residual network of 18 layers.

Paper   He, Zhang, Ren, Sun: Identity Mappings in Deep Residual Networks. ECCV 2016; in the form of Deng, Guo, Xue, Zafeiriou:
        ArcFace. CVPR 2019 (batch norm before the first convolution of a block, PReLU, no pooling before the last layer).
Input   an aligned window, RGB [B, 3, S, S] in [-1, 1].
Output  [B, D].
Differs Nothing; it was not trained here. 24,025,600 parameters and 2.6 billion multiplications a face with S = 112, D = 512.
Read    Block, then Deep.
"""

from __future__ import annotations

from torch import Tensor, nn

WIDTHS, BLOCKS = (64, 128, 256, 512), (2, 2, 2, 2)


class Block(nn.Module):
    """x + norm, 3x3, norm, PReLU, 3x3, norm. With a stride x goes through a 1x1 convolution of its own."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(before), nn.Conv2d(before, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after), nn.PReLU(after), nn.Conv2d(after, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
        )  # fmt: skip
        self.past: nn.Module = nn.Identity()
        if stride > 1:
            self.past = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.past(x) + self.layers(x)
        return found


class Deep(nn.Module):
    """[B, 3, S, S] -> [B, D], S a multiple of 16."""

    def __init__(self, side: int, dimensions: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.PReLU(WIDTHS[0])]
        for before, after, count in zip((WIDTHS[0], *WIDTHS), WIDTHS, BLOCKS, strict=False):
            layers.append(Block(before, after, 2))
            layers += [Block(after, after, 1) for _ in range(count - 1)]
        self.body = nn.Sequential(*layers, nn.BatchNorm2d(WIDTHS[-1]))
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(WIDTHS[-1] * (side // 16) ** 2, dimensions)
        self.norm = nn.BatchNorm1d(dimensions)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.project(self.dropout(self.body(x).flatten(1))))
        return found
