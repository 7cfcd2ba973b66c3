"""The convolutional bodies that the R-CNN family shares: picture in, map of features out.

Paper   VGG16: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks", ICLR 2015, configuration D;
        CaffeNet: A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet Classification", NeurIPS 2012, with pooling before the
        normalisation, as Caffe has it. R-CNN used CaffeNet, its two successors VGG16.
        `Body` and `FineBody` are ours, small enough to be trained on a CPU: K. He et al., "Deep Residual Learning", CVPR 2016,
        and, for the finer map, T.-Y. Lin et al., "Feature Pyramid Networks", CVPR 2017, cut down to one level.
Input   RGB [B, 3, H, W] in [-1, 1]; any size where nothing else is said
Output  features [B, `channels`, H / `stride`, W / `stride`], rounded up by VGG16
Differs no pretraining: weights are drawn after He. VGG16 and CaffeNet turn RGB in [-1, 1] into the BGR of 0..255 less the mean
        that Caffe's weights expect, so that such weights, converted, would do.
Read    layers, the small bodies, the papers' bodies
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN_BGR = (102.9801, 115.9465, 122.7717)  # of ImageNet, as the authors' code has it


# ---- layers ----------------------------------------------------------------------------------------------------------


class Conv(nn.Sequential):
    """3x3 (or 1x1) convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )


class Halve(nn.Module):
    """The largest of every 2x2. forward: [B, C, H, W] -> [B, C, H // 2, W // 2].

    In use as two maxima, the same numbers three times as quick as `max_pool2d` in bfloat16 on a CPU. Training keeps pooling, whose
    gradient goes to one of equal pixels.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training or (x.shape[2] | x.shape[3]) & 1:
            return F.max_pool2d(x, 2)
        rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


class Residual(nn.Module):
    """x + conv(conv(x)), ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Conv(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)), inplace=True)


# ---- the small bodies ------------------------------------------------------------------------------------------------
# Pictures shrink by max pooling: a strided 3x3 convolution trains many times slower on a CPU, so there is one, the first.


class Body(nn.Module):
    """Four stages down to stride 16. forward: [B, 3, H, W] -> [B, 128, H / 16, W / 16]; H and W multiples of 16."""

    stride, channels = 16, 128

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv(3, 16, stride=2)
        self.stages = nn.ModuleList(
            [
                nn.Sequential(Halve(), Conv(16, 32), Conv(32, 32)),
                nn.Sequential(Halve(), Conv(32, 64), Residual(64)),
                nn.Sequential(Halve(), Conv(64, 128), Residual(128), Residual(128)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x


class FineBody(nn.Module):
    """The same with a stage to stride 32, and back up to stride 8, so that a face of 16 pixels is two cells wide and one that
    fills the picture is still seen whole. forward: [B, 3, H, W] -> [B, 96, H / 8, W / 8]; H and W multiples of 32."""

    stride, channels = 8, 96

    def __init__(self) -> None:
        super().__init__()
        self.body = Body()
        self.deep = nn.Sequential(Halve(), Conv(128, 160), Residual(160), Residual(160))
        self.side = nn.ModuleList(Conv(c, 96, kernel=1) for c in (64, 128, 160))
        self.smooth = Conv(96, 96)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body.stem(x)
        levels = []
        for stage in (*self.body.stages, self.deep):
            x = stage(x)
            levels.append(x)
        top = self.side[2](levels[3])
        for i, level in ((1, levels[2]), (0, levels[1])):
            top = self.side[i](level) + F.interpolate(top, scale_factor=2, mode="nearest")
        out: Tensor = self.smooth(top)
        return out


# ---- the papers' bodies ----------------------------------------------------------------------------------------------


class Caffe(nn.Module):
    """RGB in [-1, 1] as BGR in 0..255 less the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN_BGR).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.mean, Tensor)
        return (x.flip(1) + 1) * 127.5 - self.mean


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1, groups: int = 1) -> list[nn.Module]:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
    nn.init.kaiming_normal_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return [layer, nn.ReLU(inplace=True)]


class VGG16(nn.Sequential):
    """The 13 convolutions of configuration D, without the last pool; 14,714,688 parameters.

    forward: [B, 3, H, W] -> [B, 512, h, w], h and w a sixteenth rounded up: pools keep the odd row, as Caffe's do, so that
    600 x 1000 pixels become 38 x 63 cells.
    """

    stride, channels = 16, 512

    def __init__(self) -> None:
        layers: list[nn.Module] = [Caffe()]
        inputs = 3
        for stage, (outputs, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
            layers += [nn.MaxPool2d(2, ceil_mode=True)] if stage else []
            for _ in range(count):
                layers += _conv(inputs, outputs)
                inputs = outputs
        super().__init__(*layers)


class CaffeNet(nn.Sequential):
    """The five convolutions, in two groups, up to pool5; 2,334,080 parameters. forward: [B, 3, 227, 227] -> [B, 256, 6, 6]."""

    stride, channels = 32, 256

    def __init__(self) -> None:
        super().__init__(
            Caffe(),
            *_conv(3, 96, 11, 4, 0), nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75),
            *_conv(96, 256, 5, 1, 2, groups=2), nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75),
            *_conv(256, 384),
            *_conv(384, 384, groups=2),
            *_conv(384, 256, groups=2), nn.MaxPool2d(3, 2),
        )  # fmt: skip


class Dense(nn.Sequential):
    """fc6 and fc7 with dropout, as in CaffeNet and VGG16. forward: [B, C, h, w] with C * h * w = inputs -> [B, outputs]."""

    def __init__(self, inputs: int, outputs: int = 4096, *, dropout: float = 0.5) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for size in (inputs, outputs):
            layer = nn.Linear(size, outputs)
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.ReLU(inplace=True), *([nn.Dropout(dropout)] if dropout else [])]
        super().__init__(*layers)
