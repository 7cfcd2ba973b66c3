"""A small network that learns CIFAR-10 in minutes on two processor cores.

Paper   own; the recipe follows Jordan, "94% on CIFAR-10 Training in 3.29 Seconds on a Single GPU" (arXiv:2404.00498) and its later
        version with orthogonal steps, which follow Page, "How to Train Your ResNet" (2018-2019).
Input   float RGB [B, 3, 32, 32] in [-1, 1].
Output  logits [B, K] for K classes.
Differs wider than the version for 94 % and longer trained; batch norm over parts of 125 pictures of a batch (what memory
        likes; its noise does no harm); running statistics measured afresh at the end; the answer is the mean of two views.
Read    Whitened (the network), Best: whiten, step, settle.

Where the time goes: 200 million multiplications a picture, three times that in training. Little is done at 32 x 32, where a
processor waits for memory: 24 channels there, pooling before norm and activation, everything wide from 15 x 15 on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visagist.classify.classifier import AT_ONCE, Classifier, cut_out, square, to_network, varied
from visagist.classify.spectral import Spectral
from visagist.recipe import Batch, Item, Networks, Run, Scalars, Stage, Tools

PATCH = 2  # side of the patches that are whitened


class Standard(nn.Module):
    """Colours as the data have them -> mean 0 and standard deviation 1 in each channel."""

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("spread", torch.ones(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.spread


class Whitened(nn.Module):
    """A fixed layer that whitens 2 x 2 patches, then three blocks of two convolutions: 32 -> 31 -> 15 -> 7 -> 3 -> 1.

    For widths (96, 320, 320) and 10 classes 3,151,416 parameters, of which 288 are fitted to the data and 1,472, the factors of the
    norms, stay 1.
    """

    def __init__(self, widths: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.standard = Standard()
        stem = 2 * 3 * PATCH**2  # each direction of a patch and its opposite, since what follows cuts off below zero
        self.whiten = nn.Conv2d(3, stem, PATCH)
        self.whiten.weight.requires_grad_(False)
        nn.init.zeros_(self.whiten.bias)  # type: ignore[arg-type]
        self.blocks = nn.Sequential(*(_block(a, b) for a, b in zip((stem, *widths), widths)))
        self.head = nn.Linear(widths[-1], classes, bias=False)
        if not self.head.weight.is_meta:  # where there are no numbers, asking for their spread imports torch's compiler: a second
            with torch.no_grad():
                self.head.weight.div_(self.head.weight.std())

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.gelu(self.whiten(self.standard(x))))  # [B, 24, 31, 31] -> [B, C, 3, 3]
        logits: Tensor = self.head(F.max_pool2d(x, 3).flatten(1)) / x.shape[1]
        return logits


def _block(before: int, after: int) -> nn.Sequential:
    """Two convolutions; the first is pooled at once, so that norm and activation see a fourth of the pixels."""
    return nn.Sequential(
        _convolution(before, after), nn.MaxPool2d(2), _norm(after), nn.GELU(),
        _convolution(after, after), _norm(after), nn.GELU(),
    )  # fmt: skip


def _convolution(before: int, after: int) -> nn.Conv2d:
    """3 x 3 without bias. Its first filters hand the channels on as they are, as a residual connection would."""
    made = nn.Conv2d(before, after, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(made.weight[:before])
    return made


def _norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with a learnt shift and no learnt factor."""
    norm = nn.BatchNorm2d(channels, momentum=0.05)
    norm.weight.requires_grad_(False)
    return norm


@dataclass(frozen=True)
class Best(Classifier):
    """The default of `visagist classify`."""

    mirrored: bool = True  # the answer is the mean of the picture's and the mirrored picture's

    widths: tuple[int, int, int] = (96, 320, 320)  # channels at 15, 7 and 3 cells a side
    batch: int = 2000
    part: int = 125  # pictures that batch norm sees at once; gradients of the parts of a batch are added up
    epochs: int = 17
    rate: float = 0.24  # of the convolutions: part of their length that a step turns; falls evenly to 0, as all rates
    momentum: float = 0.6
    bias_rate: float = 0.053  # of the shifts, for the summed loss of a batch of 2,000 (SGD, Nesterov momentum 0.85)
    head_rate: float = 0.67  # of the last layer
    decay: float = 2e-6  # weight decay of shifts and last layer for each picture of a batch
    whitening: float = 0.375  # part of the training in which the first layer's shifts learn
    shift: int = 2  # largest shift in pixels, the border mirrored
    cutout: int = 0  # side of a grey square that hides a part of each picture, 0 for none
    smoothing: float = 0.2  # label smoothing: this part of the target is spread over all classes
    glance: int = 1000  # pictures that the figures during training are of; those at the end are of all

    ships: ClassVar[tuple[str, ...]] = ("classifier",)

    def networks(self) -> Networks:
        return {"classifier": Whitened(self.widths, len(self.classes))}

    def stages(self) -> tuple[Stage, ...]:
        learn = Stage(
            "learn", ("classifier",), step=self.step, optimizers=self.optimizers, batch=self.batch, epochs=self.epochs,
            schedule=lambda progress: 1 - progress, measure=self.glanced,
        )  # fmt: skip
        whiten = Stage("whiten", ("classifier",), fit=self.whiten, measure=lambda nets, items, tools: {})
        return whiten, learn, Stage("settle", ("classifier",), fit=self.settle)

    def optimizers(self, nets: Networks) -> dict[str, torch.optim.Optimizer]:
        """Convolutions by orthogonal steps, everything else by SGD."""
        net = nets["classifier"]
        assert isinstance(net, Whitened)
        filters = [p for p in net.blocks.parameters() if p.dim() == 4]
        shifts = [p for p in net.blocks.parameters() if p.dim() == 1 and p.requires_grad]
        decay = self.decay * self.batch
        groups = [
            {"params": [net.whiten.bias, *shifts], "lr": self.bias_rate, "weight_decay": decay / self.bias_rate},
            {"params": [net.head.weight], "lr": self.head_rate, "weight_decay": decay / self.head_rate},
        ]
        return {
            "filters": Spectral(filters, lr=self.rate, momentum=self.momentum),
            "rest": torch.optim.SGD(groups, momentum=0.85, nesterov=True),
        }

    def whiten(self, run: Run, items: Sequence[Item]) -> Scalars:
        """Set the first layer so that its answers on patches of these pictures are uncorrelated and of one size (PCA whitening)."""
        net = run.nets["classifier"]
        assert isinstance(net, Whitened)
        x = to_network(_some(items, 4 * AT_ONCE)).to(run.device)  # [N, 3, 32, 32]
        net.standard.mean.copy_(x.mean((0, 2, 3))[:, None, None])
        net.standard.spread.copy_(x.std((0, 2, 3)).clamp_min(1e-3)[:, None, None])
        patches = F.unfold(net.standard(x), PATCH)  # [N, 12, 31 * 31]
        flat = patches.transpose(0, 1).flatten(1).double()  # [12, N * 961]
        values, vectors = torch.linalg.eigh(flat @ flat.T / flat.shape[1])  # rising
        directions = (vectors / (values + 5e-4).sqrt()).T.flip(0)  # rows, the commonest first
        weight = torch.cat([directions, -directions]).view(net.whiten.weight.shape)
        net.whiten.weight.copy_(weight)
        return {"largest": float(values[-1]), "smallest": float(values[0])}

    def step(self, run: Run, batch: Batch) -> Mapping[str, Tensor | float]:
        net = run.nets["classifier"]
        assert isinstance(net, Whitened)
        net.whiten.bias.requires_grad_(run.progress < self.whitening)  # type: ignore[union-attr]  # else nothing goes back so far
        pictures = varied(batch["image"], shift=self.shift, flipped=self.flips(run, batch))  # uint8 [B, 32, 32, 3]
        pictures = cut_out(pictures, self.cutout) if self.cutout else pictures
        count = len(pictures)
        loss, right = torch.zeros(()), torch.zeros(())
        for x, label in zip(pictures.split(self.part), batch["label"].split(self.part), strict=True):
            with run.autocast():
                logits = net(to_network(x))
            logits = logits.float()  # [part, K]
            summed = F.cross_entropy(logits, label, label_smoothing=self.smoothing, reduction="sum")
            run.backward(summed * (self.batch / count))  # several processes share a batch and take the mean of their gradients
            loss += summed.detach().cpu() / count
            right += (logits.detach().argmax(1) == label).sum().cpu() / count
        run.apply("filters")
        run.apply("rest")
        return {"loss": loss, "right": right}

    def settle(self, run: Run, items: Sequence[Item]) -> Scalars:
        """The running statistics of the norms, measured with the final weights: the means over 10,000 pictures as they are."""
        net = run.nets["classifier"]
        norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
        kept = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all passes
        net.train()
        pictures = _some(items, 20 * AT_ONCE)
        with torch.no_grad(), run.autocast():
            for part in pictures.split(AT_ONCE):
                net(to_network(part.to(run.device)))
        net.eval()
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
        return {"n": float(len(pictures))}

    def glanced(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        """What `measure` finds on some of the items."""
        return self.measure(nets, items[:: max(1, len(items) // self.glance)][: self.glance], tools)


def _some(items: Sequence[Item], most: int) -> Tensor:
    """At most so many pictures, evenly spread over the items: uint8 [N, 32, 32, 3]."""
    count = min(most, len(items))
    return torch.from_numpy(np.stack([square(items[i * len(items) // count].photo.pixels) for i in range(count)]))
