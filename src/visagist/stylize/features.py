"""Feature networks: what style transfer looks at a picture with. One interface, and the networks people have weights for.

Paper   Simonyan, Zisserman: Very Deep Convolutional Networks (VGG-16, VGG-19), ICLR 2015. Szegedy et al.: Going Deeper with
        Convolutions (GoogLeNet), CVPR 2015. Krizhevsky, Sutskever, Hinton: AlexNet, NeurIPS 2012, as Caffe's reference network
        (CaffeNet). Iandola et al.: SqueezeNet (version 1.1), arXiv 1602.07360, 2016.
Input   float RGB [B, 3, H, W] in [-1, 1]. What each network wants instead (BGR, 0..255, means) is made inside.
Output  name of a layer -> [B, C, h, w] behind its ReLU; nothing deeper than the deepest layer asked for is evaluated.
Differs only the convolutions, classifiers are left out. Pools may average, as Gatys et al. prefer. No weights of these networks
        come with visagist: they are trained on ImageNet; a user brings them (`brought.py`).
Read    Features (the interface), gram, then VGG19 and the others.

Layers have Caffe's names, which are those of the papers on style transfer: "conv4_2" is what comes out of the ReLU behind the
convolution conv4_2, there "in place" and elsewhere called relu4_2.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

CONVENTIONS = ("torchvision", "caffe")
CAFFE_MEANS = (104.00698793, 116.66876762, 122.67891434)  # of blue, green, red in ImageNet, 0..255 (Caffe's mean image)
TORCH_MEANS, TORCH_DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green, blue, 0..1


# ---- the interface


class Features(nn.Module):
    """A network read at named layers. Subclasses fill `blocks`: name -> what leads here from the layer before, ReLU included.

    layers   names of what it can give, shallow to deep
    content  default content layers and their weights
    style    default style layers and their weights
    least    shortest side of a picture it takes, in pixels, when asked for its deepest layer
    """

    content: ClassVar[Mapping[str, float]]
    style: ClassVar[Mapping[str, float]]
    least: ClassVar[int]

    def __init__(self, blocks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict(blocks)
        self.layers: tuple[str, ...] = tuple(blocks)

    def entering(self, x: Tensor) -> Tensor:
        """RGB in [-1, 1] as this network wants it."""
        return x

    def forward(self, x: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """x [B, 3, H, W] in [-1, 1] -> the layers of these names. ValueError for a name it does not have."""
        h = self.entering(x)
        found: dict[str, Tensor] = {}
        for name in self.upto(names):
            h = self.blocks[name](h)
            if name in names:
                found[name] = h
        return found

    def upto(self, names: Collection[str]) -> tuple[str, ...]:
        """The layers to evaluate for these: all down to the deepest. ValueError for a name it does not have."""
        unknown = [name for name in names if name not in self.layers]
        if unknown:
            raise ValueError(f"there is no layer {unknown[0]!r}, there are {', '.join(self.layers)}")
        return self.layers[: max(self.layers.index(name) for name in names) + 1] if names else ()

    def count(self, names: Collection[str]) -> int:
        """Weights and biases that are used down to the deepest of these layers."""
        return sum(p.numel() for name in self.upto(names) for p in self.blocks[name].parameters())


def gram(x: Tensor) -> Tensor:
    """Gram matrix of features [B, C, H, W] -> [B, C, C]: products of channels, averaged over the H W positions, in float32."""
    f = x.float().flatten(2)  # [B, C, M]
    return f @ f.transpose(1, 2) / f.shape[2]


class Entrance(nn.Module):
    """RGB in [-1, 1] -> what the trainers of a network fed it with.

    "caffe": BGR, 0..255 less the mean of each colour. "torchvision": RGB, 0..1, less the mean, in standard deviations.
    """

    def __init__(self, convention: str) -> None:
        super().__init__()
        if convention not in CONVENTIONS:
            raise ValueError(f"there is no convention {convention!r}, choose {' or '.join(CONVENTIONS)}")
        self.swap = convention == "caffe"
        if self.swap:
            scale, shift = torch.full((3,), 127.5), 127.5 - torch.tensor(CAFFE_MEANS)
        else:
            deviations = torch.tensor(TORCH_DEVIATIONS)
            scale, shift = 0.5 / deviations, (0.5 - torch.tensor(TORCH_MEANS)) / deviations
        self.register_buffer("scale", scale.view(3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flip(1) if self.swap else x
        return x.float() * self.scale + self.shift  # type: ignore[operator]


class Foreign(Features):
    """What the networks below share: two conventions of colours, two kinds of pools."""

    def __init__(self, blocks: Mapping[str, nn.Module], convention: str) -> None:
        super().__init__(blocks)
        self.entrance = Entrance(convention)

    def entering(self, x: Tensor) -> Tensor:
        return self.entrance(x)


def pool(kind: str, side: int, stride: int, ceil: bool) -> nn.Module:
    """A "max" or "average" pool. Caffe lets the last window hang over the edge (ceil), torchvision's VGG drops it."""
    if kind not in ("max", "average"):
        raise ValueError(f"there is no pool {kind!r}, choose max or average")
    return nn.MaxPool2d(side, stride, ceil_mode=ceil) if kind == "max" else nn.AvgPool2d(side, stride, ceil_mode=ceil)


def convolved(channels: int, out: int, side: int, **more: int) -> list[nn.Module]:
    """A convolution and its ReLU."""
    return [nn.Conv2d(channels, out, side, **more), nn.ReLU(inplace=True)]  # type: ignore[arg-type]


# ---- VGG


def vgg_blocks(depths: tuple[int, ...], kind: str, ceil: bool) -> dict[str, nn.Module]:
    """conv1_1 ... conv5_N: 3x3 convolutions of 64, 128, 256, 512, 512 maps, `depths` of each, a 2x2 pool between."""
    blocks: dict[str, nn.Module] = {}
    channels = 3
    for group, (width, depth) in enumerate(zip((64, 128, 256, 512, 512), depths), 1):
        for number in range(1, depth + 1):
            before = [pool(kind, 2, 2, ceil)] if number == 1 and group > 1 else []
            blocks[f"conv{group}_{number}"] = nn.Sequential(*before, *convolved(channels, width, 3, padding=1))
            channels = width
    return blocks


class VGG19(Foreign):
    """Sixteen convolutions; 12,944,960 parameters to conv5_1."""

    depths: ClassVar[tuple[int, ...]] = (2, 2, 4, 4, 4)
    content: ClassVar[Mapping[str, float]] = {"conv4_2": 1.0}
    style: ClassVar[Mapping[str, float]] = {f"conv{group}_1": 0.2 for group in range(1, 6)}
    least: ClassVar[int] = 16

    def __init__(self, *, convention: str = "torchvision", pools: str = "max") -> None:
        super().__init__(vgg_blocks(self.depths, pools, convention == "caffe"), convention)


class VGG16(Foreign):
    """Thirteen convolutions; 9,995,072 parameters to conv5_1."""

    depths: ClassVar[tuple[int, ...]] = (2, 2, 3, 3, 3)
    content: ClassVar[Mapping[str, float]] = VGG19.content
    style: ClassVar[Mapping[str, float]] = VGG19.style
    least: ClassVar[int] = VGG19.least

    def __init__(self, *, convention: str = "torchvision", pools: str = "max") -> None:
        super().__init__(vgg_blocks(self.depths, pools, convention == "caffe"), convention)


# ---- GoogLeNet


class Inception(nn.Module):
    """Four branches side by side: 1x1; 1x1 and 3x3; 1x1 and `third` x `third`; pool and 1x1 (paper, figure 2b)."""

    def __init__(self, channels: int, widths: tuple[int, int, int, int, int, int], third: int) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, projected = widths
        self.branch1 = nn.Sequential(*convolved(channels, one, 1))
        self.branch2 = nn.Sequential(*convolved(channels, reduce3, 1), *convolved(reduce3, three, 3, padding=1))
        self.branch3 = nn.Sequential(*convolved(channels, reduce5, 1), *convolved(reduce5, five, third, padding=third // 2))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), *convolved(channels, projected, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


# Paper, table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class GoogLeNet(Foreign):
    """5,973,552 parameters to inception_5b. torchvision's has no response normalisation and 3x3 where the paper has 5x5; its
    batch norms are multiplied into the convolutions when weights are adopted."""

    content: ClassVar[Mapping[str, float]] = {"conv2/3x3": 2e-4, "inception_3a/output": 1 - 2e-4}
    style: ClassVar[Mapping[str, float]] = dict.fromkeys(
        ("conv1/7x7_s2", "conv2/3x3", *(f"inception_{n}/output" for n in ("3a", "4a", "5a"))), 0.2
    )
    least: ClassVar[int] = 32

    def __init__(self, *, convention: str = "torchvision", pools: str = "max") -> None:
        caffe = convention == "caffe"
        norm = [nn.LocalResponseNorm(5, 1e-4)] if caffe else []
        blocks: dict[str, nn.Module] = {
            "conv1/7x7_s2": nn.Sequential(*convolved(3, 64, 7, stride=2, padding=3)),
            "conv2/3x3": nn.Sequential(pool(pools, 3, 2, True), *norm, *convolved(64, 64, 1), *convolved(64, 192, 3, padding=1)),
        }
        channels = 192
        for name, widths in INCEPTIONS.items():
            before = [*(norm if name == "3a" else []), *([pool(pools, 3, 2, True)] if name in ("3a", "4a", "5a") else [])]
            blocks[f"inception_{name}/output"] = nn.Sequential(*before, Inception(channels, widths, 5 if caffe else 3))
            channels = widths[0] + widths[2] + widths[4] + widths[5]
        super().__init__(blocks, convention)


# ---- CaffeNet


class CaffeNet(Foreign):
    """AlexNet in two groups, pool before normalisation; 2,334,080 parameters. Its weights exist in Caffe's convention only."""

    content: ClassVar[Mapping[str, float]] = {"conv4": 1.0}
    style: ClassVar[Mapping[str, float]] = {f"conv{number}": 0.2 for number in range(1, 6)}
    least: ClassVar[int] = 64

    def __init__(self, *, convention: str = "caffe", pools: str = "max") -> None:
        def between() -> list[nn.Module]:
            return [pool(pools, 3, 2, True), nn.LocalResponseNorm(5, 1e-4)]

        blocks = {
            "conv1": nn.Sequential(*convolved(3, 96, 11, stride=4)),
            "conv2": nn.Sequential(*between(), *convolved(96, 256, 5, padding=2, groups=2)),
            "conv3": nn.Sequential(*between(), *convolved(256, 384, 3, padding=1)),
            "conv4": nn.Sequential(*convolved(384, 384, 3, padding=1, groups=2)),
            "conv5": nn.Sequential(*convolved(384, 256, 3, padding=1, groups=2)),
        }
        super().__init__(blocks, convention)


# ---- SqueezeNet


class Fire(nn.Module):
    """1x1 convolution to few maps, then 1x1 and 3x3 side by side (paper, figure 1)."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(*convolved(channels, squeezed, 1))
        self.expand1x1 = nn.Sequential(*convolved(squeezed, expanded, 1))
        self.expand3x3 = nn.Sequential(*convolved(squeezed, expanded, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1)


class SqueezeNet(Foreign):
    """Version 1.1; 722,496 parameters to fire9. Layers and their depth as in Stanford's course CS231n; all weights alike."""

    content: ClassVar[Mapping[str, float]] = {"fire2": 1.0}
    style: ClassVar[Mapping[str, float]] = dict.fromkeys(("conv1", "fire3", "fire4", "fire5"), 0.25)
    least: ClassVar[int] = 32

    def __init__(self, *, convention: str = "torchvision", pools: str = "max") -> None:
        blocks: dict[str, nn.Module] = {"conv1": nn.Sequential(*convolved(3, 64, 3, stride=2))}
        channels = 64
        for number, (squeezed, expanded) in enumerate(
            zip((16, 16, 32, 32, 48, 48, 64, 64), (64, 64, 128, 128, 192, 192, 256, 256)), 2
        ):
            before = [pool(pools, 3, 2, True)] if number in (2, 4, 6) else []
            blocks[f"fire{number}"] = nn.Sequential(*before, Fire(channels, squeezed, expanded))
            channels = 2 * expanded
        super().__init__(blocks, convention)
