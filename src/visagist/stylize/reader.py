"""Reading a frozen feature network quickly, whole or tile by tile, and the way back to the picture.

Paper   none; what makes an evaluation of Gatys et al. quick. The factor of each step on a CPU is in docs/lab_notes.md.
Input   a feature network and the layers that are wanted; then pictures [1, 3, H, W] in [-1, 1].
Output  features; for gradients of the features, the gradient of the picture.
Differs from calling the network: its own copy of the weights, in the precision and the memory layout in which they are used; no
        gradients of weights; a max pool comes before the ReLU whose output nobody wants, which gives the same numbers (both keep
        the order of values) from a quarter of the work; pictures larger than `tile` are read in pieces that overlap.
Read    Reader: `read`; Reading: `pull`; Tile.

Tiles: a feature depends on the picture no further away than `reach`; a tile is read with that much around it, and only features of
its core count. Core borders lie on multiples of the network's whole stride, so a convolutional network with even pools gives the
same features as the whole picture read at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visagist.stylize.features import Features

Found = dict[str, Tensor]

# What `Reader.memory` reckons with; tests/stylize/test_memory.py holds it against what a process grows by.
COPIES = 4  # of the largest layer that are alive at once on the way back
PICTURES = 12  # float32 numbers for each pixel: the picture, what enters the network, their gradients
NORMALISING = 5  # pictures that a response normalisation holds for its way back


@dataclass(frozen=True)
class Tile:
    """rows, columns: what is read, of the picture. core: what counts of it: rows and columns of the picture."""

    rows: slice
    columns: slice
    core: tuple[slice, slice]

    def of(self, x: Tensor) -> Tensor:
        """This part of a picture [..., H, W]."""
        return x[..., self.rows, self.columns]

    def kept(self, features: Tensor, stride: int) -> tuple[slice, slice]:
        """Which features [..., h, w] of the tile belong to its core, at a layer of this stride."""
        spans = []
        for read, core, count in zip((self.rows, self.columns), self.core, features.shape[-2:]):
            first = (core.start - read.start) // stride
            last = count if core.stop == read.stop else (core.stop - read.start) // stride
            spans.append(slice(first, last))
        return spans[0], spans[1]

    def place(self, stride: int, kept: tuple[slice, slice]) -> tuple[slice, slice]:
        """Where these features lie among those of the whole picture."""
        rows, columns = (core.start // stride for core in self.core)
        return slice(rows, rows + kept[0].stop - kept[0].start), slice(columns, columns + kept[1].stop - kept[1].start)


class Reading:
    """What was read of one picture: features by layer, and the pieces of the way back, from one wanted layer to the next."""

    def __init__(self) -> None:
        self.found: Found = {}
        self.pieces: list[tuple[str, Tensor, Tensor]] = []  # layer; what its features were made from; they themselves

    def pull(self, pulls: Callable[[str, Tensor, Tensor | None], Tensor]) -> Tensor:
        """The gradient of the picture [1, 3, H, W]; memory is given back on the way, so this works once.

        pulls  is asked from the deepest layer on: a layer's name, its features and the gradient that came from deeper layers (None
               for the deepest); it returns the whole gradient of these features and may change the one it got in place
        """
        gradient: Tensor | None = None
        while self.pieces:
            name, leaf, features = self.pieces.pop()
            whole = pulls(name, features.detach(), gradient)
            (gradient,) = torch.autograd.grad(features, leaf, whole)
        assert gradient is not None
        return gradient


class Reader:
    """A feature network ready to be read at `names` with `dtype` inside; `net` itself stays as it is."""

    def __init__(self, net: Features, names: Collection[str], dtype: torch.dtype, device: torch.device) -> None:
        self.names = tuple(name for name in net.layers if name in names)
        self.dtype, self.device = dtype, device
        self.entering = net.entering
        chain: list[tuple[nn.Module, str]] = []  # modules in order, each with the layer it completes or ""
        for name in net.upto(names):
            block = copy.deepcopy(net.blocks[name]).to(device, dtype)
            block = block.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            parts = list(block.children()) if isinstance(block, nn.Sequential) else [block]
            chain += [(part, "") for part in parts[:-1]] + [(parts[-1], name if name in self.names else "")]
        self.chain = _pools_first(chain)
        for part, _ in self.chain:
            part.eval().requires_grad_(False)
        self.strides, self.channels, self.reach, self.held, self.largest = self._measured()

    def read(self, x: Tensor) -> Reading:
        """x [1, 3, H, W] in [-1, 1] -> its features, of `dtype`; the way back is recorded unless gradients are switched off."""
        reading = Reading()
        leaf = x.detach().requires_grad_(torch.is_grad_enabled())
        h = self.entering(leaf).to(self.dtype, memory_format=torch.channels_last)
        for part, name in self.chain:
            h = part(h)
            if name:
                reading.found[name] = h.detach()
                reading.pieces.append((name, leaf, h))
                leaf = h = h.detach().requires_grad_(torch.is_grad_enabled())
        return reading

    @property
    def stride(self) -> int:
        """Of the deepest layer: pixels from one of its features to the next."""
        return max(self.strides.values())

    def tiles(self, height: int, width: int, side: int) -> list[Tile]:
        """The picture in cores of at most `side` pixels; one tile where it is no larger."""
        if height <= side and width <= side:
            whole = slice(0, height), slice(0, width)
            return [Tile(*whole, whole)]
        stride = self.stride
        margin = -(-self.reach // stride) * stride

        def spans(length: int) -> Iterator[tuple[slice, slice]]:
            step = max(stride, side // stride * stride)
            starts = list(range(0, length, step))
            if len(starts) > 1 and length - starts[-1] < stride:  # too little for one feature of the deepest layer
                del starts[-1]
            for start, stop in zip(starts, [*starts[1:], length]):
                yield slice(max(0, start - margin), min(length, stop + margin)), slice(start, stop)

        return [Tile(rows, columns, (a, b)) for rows, a in spans(height) for columns, b in spans(width)]

    def memory(self, height: int, width: int) -> int:
        """Bytes that `read` and `pull` of a picture of this size take at once, about.

        Every feature is held for the way back; on that way a few copies of a layer live at a time. The picture is in float32.
        """
        numbers = self.held + COPIES * self.largest
        return round(height * width * (numbers * torch.finfo(self.dtype).bits / 8 + 4 * PICTURES))

    def kept(self, names: Collection[str], height: int, width: int) -> int:
        """Bytes that the features of these layers take for a picture of this size."""
        numbers = sum(self.channels[name] / self.strides[name] ** 2 for name in names)
        return round(height * width * numbers * torch.finfo(self.dtype).bits / 8)

    def _measured(self) -> tuple[dict[str, int], dict[str, int], int, float, float]:
        """Stride and channels of each wanted layer; the farthest pixel that a deepest feature depends on; numbers for each pixel
        that are held for the way back, and those of the largest layer."""
        strides: dict[str, int] = {}
        channels: dict[str, int] = {}
        stride, reach, held, largest = 1, 0.0, 0.0, 0.0
        h = torch.zeros(1, 3, 256, 256, device="meta", dtype=self.dtype)

        def made(inner: nn.Module, _: object, output: Tensor) -> None:
            nonlocal held, largest
            numbers = output.numel() / 256**2
            largest = max(largest, numbers)
            if isinstance(inner, nn.Sequential | nn.Identity) or (isinstance(inner, nn.ReLU) and inner.inplace):
                return  # the same memory as what came before
            held += numbers * (NORMALISING if isinstance(inner, nn.LocalResponseNorm) else 1)
            if isinstance(inner, nn.MaxPool2d):
                held += numbers * 64 / torch.finfo(self.dtype).bits  # where each maximum was, as int64

        for part, name in self.chain:
            for inner in part.modules():
                if isinstance(inner, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
                    side, step = _one(inner.kernel_size), _one(inner.stride)
                    reach += (side - 1) / 2 * stride if isinstance(inner, nn.Conv2d) else (side - step) * stride
                    stride *= step
            blank = copy.deepcopy(part).to("meta")
            for inner in blank.modules():
                inner.register_forward_hook(made)
            h = blank(h)
            if name:
                strides[name], channels[name] = stride, h.shape[1]
        return strides, channels, round(reach), held, largest


def _one(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]


def _pools_first(chain: list[tuple[nn.Module, str]]) -> list[tuple[nn.Module, str]]:
    """The same chain with every max pool before the ReLU that it follows, where the ReLU completes no layer that is wanted."""
    chain = list(chain)
    for i in range(len(chain) - 1):
        (part, name), (following, _) = chain[i], chain[i + 1]
        if isinstance(part, nn.ReLU) and not name and isinstance(following, nn.MaxPool2d):
            chain[i], chain[i + 1] = (following, ""), (part, chain[i + 1][1])
    return chain
