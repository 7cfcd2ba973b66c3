"""Our own feature network: small, trained on what is at hand, made for style transfer.

Paper   none: a slim VGG (Simonyan, Zisserman, ICLR 2015) with the average pools and the levelled activations of Gatys, Ecker,
        Bethge: Texture Synthesis Using Convolutional Neural Networks, NeurIPS 2015. Two crops of one picture among those of
        others: Chen, Kornblith, Norouzi, Hinton: A Simple Framework for Contrastive Learning (SimCLR), ICML 2020.
Input   float RGB [B, 3, H, W] in [-1, 1].
Output  as every `Features`: name of a layer -> [B, C, h, w] behind its ReLU, at strides 1, 2, 4, 8 and 16.
Differs from VGG: half and less of the widths, nine convolutions, batch norm while it learns (folded away in use).
Read    PerceptualNet, Heads (networks), pair_loss, levelled (activations of mean 1), Perceptual (the training).

Two tasks teach it. Labelled pictures (CIFAR-10) say what things look like: their classes are told from the deepest layer. Pictures
without a label (backgrounds, portraits) are larger and hold what 32 px cannot: sharp edges, grain, fabric. Two crops are cut from
each of some such pictures and shown in different light; which two belong together must be told from the mean activations of all
layers from stride 2 on. That is a question about texture and palette, and means over positions are the first half of what a Gram
matrix holds. Presets take one task, the other, both, or none (`random`, for comparison).

At the end the network is levelled: running statistics are taken anew from crops, then every channel is scaled to a mean activation
of 1 and the next layer takes the factor back. What it computes stays the same; that no channel rules a Gram matrix is new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visagist.errors import TrainingError
from visagist.recipe import Batch, Item, Networks, Recipe, Run, Scalars, Stage, Tools
from visagist.stylize.features import Features

SMALL = 32  # side of a labelled picture as the network sees it, pixels
MEASURED = 2000  # at most so many labelled pictures are measured on

# --- networks ---------------------------------------------------------------------------------------------------------------


class PerceptualNet(Features):
    """`depths[g]` convolutions 3x3 of `widths[g]` channels at stride 2^g, an average pool between; "conv1_1" ... "conv5_1"."""

    content: ClassVar[Mapping[str, float]] = {"conv4_1": 1.0}
    style: ClassVar[Mapping[str, float]] = {f"conv{group}_1": 0.2 for group in range(1, 6)}
    least: ClassVar[int] = 16

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        blocks: dict[str, nn.Module] = {}
        channels = 3
        for group, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
            for number in range(1, depth + 1):
                pools = [nn.AvgPool2d(2)] if number == 1 and group > 1 else []
                convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
                blocks[f"conv{group}_{number}"] = nn.Sequential(*pools, convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
                channels = width
        super().__init__(blocks)
        self.ends = tuple(f"conv{group}_{depth}" for group, depth in enumerate(depths, 1))  # the last layer of each stride


class Heads(nn.Module):
    """What the tasks are answered with; not shipped. Mean activations in; logits of the classes, or a place to compare crops in."""

    def __init__(self, deepest: int, classes: int, all_widths: int, places: int) -> None:
        super().__init__()
        self.classes = nn.Linear(deepest, classes)
        self.pairs = nn.Sequential(nn.BatchNorm1d(all_widths), nn.Linear(all_widths, places, bias=False))

    def forward(self, means: Tensor, task: str) -> Tensor:
        """means [B, C], task "classes" or "pairs" -> [B, N]."""
        head: nn.Module = getattr(self, task)
        found: Tensor = head(means)
        return found


def pair_loss(places: Tensor, numbers: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Loss of SimCLR (eq. 1) and the share of crops whose nearest neighbour is the other crop of their picture.

    places [2 N, D]: crops 2 i and 2 i + 1 belong together; numbers [N] of the pictures. Other crops of the same picture, where it
    was drawn twice, count neither way.
    """
    unit = F.normalize(places.float(), dim=1)
    near = unit @ unit.T / temperature  # cosines
    order = torch.arange(len(near), device=near.device)
    of = numbers.repeat_interleave(2)
    same = (of[:, None] == of[None, :]) & (order[:, None] ^ 1 != order[None, :])
    near = near.masked_fill(same, -torch.inf)
    return F.cross_entropy(near, order ^ 1), (near.detach().argmax(1) == order ^ 1).float().mean()


@torch.no_grad()
def levelled(net: PerceptualNet, x: Tensor) -> None:
    """Take batch norm's statistics from the pictures x [B, 3, H, W] and scale every channel to a mean of 1 over them, in place.

    Gatys et al. 2015, section 2: with ReLUs and average pools a factor passes through a layer, so the next layer's weights divide
    it out again. A channel that never fires keeps its scale.
    """
    factor: Tensor | None = None
    for block in net.blocks.values():
        *pools, convolution, norm, _ = block.children()
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        for pool in pools:
            x = pool(x)
        if factor is not None:
            convolution.weight *= factor[:, None, None]
        y = convolution(x)
        variance, mean = torch.var_mean(y, (0, 2, 3))
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.eval()
        x = F.relu(norm(y))
        factor = x.mean((0, 2, 3))
        factor[factor < 1e-4] = 1
        norm.weight.div_(factor)
        norm.bias.div_(factor)
        x /= factor[:, None, None]


# --- recipe -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Together(Item):
    """Several items that make one example: larger pictures with their numbers, and small labelled ones."""

    large: tuple[tuple[int, Item], ...] = ()
    small: tuple[Item, ...] = ()


@dataclass(frozen=True)
class Perceptual(Recipe):
    """Preset `both`: labelled pictures and crops of larger ones in every step."""

    ships: ClassVar[tuple[str, ...]] = ("features",)

    widths: tuple[int, int, int, int, int] = (32, 64, 128, 256, 256)  # channels at strides 1, 2, 4, 8, 16
    depths: tuple[int, int, int, int, int] = (2, 2, 2, 2, 1)  # convolutions there
    classes: int = 10  # classes of the labelled pictures
    large: int = 1  # larger pictures in an example, two crops of each; 0 for none
    crop: int = 80  # side of the crops in pixels
    closest: int = 64  # side of the smallest crop, in pixels of its picture; the largest is as large as the picture
    small: int = 8  # labelled pictures in an example, 0 for none
    smoothing: float = 0.1  # of the labels
    temperature: float = 0.2  # tau of the pairs
    places: int = 64  # dimensions in which crops are compared
    pair_weight: float = 1.0  # weight of the pairs' loss
    batch: int = 32  # examples in a step
    steps: int = 3000  # 0: no training, only levelled random filters
    rate: float = 3e-3  # AdamW, rising over a tenth, then falling as a cosine
    decay: float = 0.05  # weight decay
    levelled_on: int = 48  # crops that the network is levelled on

    def networks(self) -> Networks:
        heads = Heads(self.widths[-1], self.classes, sum(self.widths[1:]), self.places)
        return {"features": PerceptualNet(self.widths, self.depths), "heads": heads}

    def stages(self) -> tuple[Stage, ...]:
        def schedule(progress: float) -> float:
            return min(progress / 0.1 + 0.01, 1.0) * (0.5 + 0.5 * cos(pi * progress))

        def adam(nets: Networks) -> dict[str, torch.optim.Optimizer]:
            parameters = [p for net in nets.values() for p in net.parameters()]
            groups = [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.decay},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ]
            return {"all": torch.optim.AdamW(groups, lr=self.rate)}

        learning = Stage(
            "tasks", ("features", "heads"), step=self.step, optimizers=adam, batch=self.batch, steps=max(1, self.steps),
            schedule=schedule, clip=5.0,
        )  # fmt: skip
        levelling = Stage("level", ("features",), fit=self.level, measure=self.compared)
        return (learning, levelling) if self.steps else (levelling,)

    def compose(self, items: Sequence[Item], index: int, rng: np.random.Generator) -> Item:
        """Draws what one example takes; the index only sets the generator."""
        large, small = sorted_out(items)
        self._check(large, small)
        crops = tuple((int(i), large[i]) for i in rng.integers(max(1, len(large)), size=self.large))
        labelled = tuple(small[i] for i in rng.integers(max(1, len(small)), size=self.small))
        return Together(items[index].name, items[index].load, large=crops, small=labelled)

    def _check(self, large: Sequence[Item], small: Sequence[Item]) -> None:
        for wanted, there, what, flag in (
            (self.large, large, "without a class", "--large"),
            (self.small, small, "in folders of classes", "--small"),
        ):
            if wanted and not there:
                hint = f"name such a set too, or leave the task out with {flag} 0"
                raise TrainingError(f"there are no pictures {what}", code="no-data", hint=hint)

    def example(self, item: Item, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """crops uint8 [2 large, crop, crop, 3] and numbers [large]; pictures uint8 [small, 32, 32, 3] and labels [small]."""
        assert isinstance(item, Together)
        made: dict[str, np.ndarray] = {}
        if item.large:
            twice = [one.photo.pixels for _, one in item.large for _ in range(2)]
            made["crops"] = np.stack([crop_of(pixels, self.crop, self.closest, rng) for pixels in twice])
            made["numbers"] = np.array([number for number, _ in item.large], np.int64)
        if item.small:
            made["pictures"] = np.stack([shifted(one.photo.pixels, rng) for one in item.small])
            made["labels"] = np.array([one.label for one in item.small], np.int64)
        return made

    def step(self, run: Run, batch: Batch) -> Mapping[str, Tensor | float]:
        net, heads = run.nets["features"], run.nets["heads"]
        losses: list[Tensor] = []
        told: dict[str, Tensor | float] = {}
        if "crops" in batch:
            x = recoloured(entering(batch["crops"].flatten(0, 1)))
            with run.autocast():
                means = self.means(net, x, "pairs")
            loss, right = pair_loss(heads(means, "pairs"), batch["numbers"].flatten(), self.temperature)
            losses.append(self.pair_weight * loss)
            told |= {"pair_loss": loss.detach(), "pair_right": right}
        if "pictures" in batch:
            x, labels = entering(batch["pictures"].flatten(0, 1)), batch["labels"].flatten()
            with run.autocast():
                means = self.means(net, x, "classes")
            logits = heads(means, "classes")
            loss = F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
            losses.append(loss)
            told |= {"class_loss": loss.detach(), "class_right": (logits.detach().argmax(1) == labels).float().mean()}
        run.update("all", torch.stack(losses).sum())
        return told

    def means(self, net: nn.Module, x: Tensor, task: str) -> Tensor:
        """Mean activations [B, C]: of the deepest layer for classes, of the last layers of strides 2 to 16 for pairs."""
        names = tuple(f"conv{group}_{depth}" for group, depth in enumerate(self.depths, 1))
        names = names[1:] if task == "pairs" else names[-1:]
        found = net(x, names)
        return torch.cat([found[name].mean((2, 3), dtype=torch.float32) for name in names], 1)

    def level(self, run: Run, items: Sequence[Item]) -> Scalars:
        """The last stage: `levelled` on crops, of labelled pictures where there are no others."""
        large, small = sorted_out(items)
        rng = np.random.default_rng(0)
        chosen = rng.permutation(len(large or small))[: self.levelled_on]
        crops = np.stack([crop_of((large or small)[i].photo.pixels, 128, self.closest, rng) for i in chosen])
        net = run.nets["features"]
        assert isinstance(net, PerceptualNet)
        levelled(net, entering(torch.from_numpy(crops).to(run.device)))
        return {"crops": float(len(crops))}

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        """pairs: of how many unlabelled pictures, each cropped twice, the second crop lies nearest to the first, by mean
        activations in standard deviations. accuracy: of the classes, while the heads are there, on at most 2,000 pictures."""
        large, small = sorted_out(items)
        figures: dict[str, float] = {}
        device = next(nets["features"].parameters()).device
        if large:
            rng = np.random.default_rng(0)
            looks = []
            for _ in range(2):
                crops = torch.from_numpy(np.stack([crop_of(i.photo.pixels, self.crop, self.closest, rng) for i in large]))
                means = torch.cat([self.means(nets["features"], entering(p.to(device)), "pairs") for p in crops.split(64)])
                looks.append(F.normalize((means - means.mean(0)) / (means.std(0, correction=0) + 1e-5), dim=1))
            nearest = (looks[0] @ looks[1].T).argmax(1)
            figures |= {"pairs": float((nearest.cpu() == torch.arange(len(large))).float().mean()), "n_pairs": len(large)}
            figures["n"] = len(large)
        if small and self.small and "heads" in nets:
            small = small[:: -(-len(small) // MEASURED)]
            pictures = torch.from_numpy(np.stack([_sized(item.photo.pixels) for item in small]))
            means = torch.cat([self.means(nets["features"], entering(p.to(device)), "classes") for p in pictures.split(250)])
            right = nets["heads"](means, "classes").argmax(1).cpu() == torch.tensor([item.label for item in small])
            figures |= {"accuracy": float(right.float().mean()), "n": len(small)}
        return figures

    def compared(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        """What `measure` finds of pairs: the heads know nothing of levelled channels, and do not ship."""
        return self.measure({"features": nets["features"]}, items, tools)


_sorted: dict[int, tuple[Sequence[Item], list[Item], list[Item]]] = {}


def sorted_out(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Items without and with a class; remembered for the last few sequences, since a training asks at every example."""
    known = _sorted.get(id(items))
    if known is None or known[0] is not items:
        while len(_sorted) > 3:
            _sorted.pop(next(iter(_sorted)))
        large, small = [i for i in items if i.label is None], [i for i in items if i.label is not None]
        known = _sorted[id(items)] = items, large, small
    return known[1], known[2]


def entering(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W] in [-1, 1], channels last."""
    return (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def crop_of(pixels: np.ndarray, size: int, closest: int, rng: np.random.Generator) -> np.ndarray:
    """A square of the picture as uint8 [size, size, 3]: sides between `closest` and the whole are drawn evenly by octaves."""
    short = min(pixels.shape[:2])
    side = round(float(np.exp(rng.uniform(np.log(min(closest, short)), np.log(short)))))
    y, x = (int(rng.integers(length - side + 1)) for length in pixels.shape[:2])
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    crop = cv2.resize(pixels[y : y + side, x : x + side], (size, size), interpolation=how)
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def shifted(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A labelled picture uint8 [32, 32, 3], moved by up to 4 px, mirrored every other time."""
    y, x = (int(v) for v in rng.integers(9, size=2))
    padded = cv2.copyMakeBorder(_sized(pixels), 4, 4, 4, 4, cv2.BORDER_REFLECT_101)[y : y + SMALL, x : x + SMALL]
    return np.ascontiguousarray(padded[:, ::-1] if rng.random() < 0.5 else padded)


def _sized(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.shape[:2] == (SMALL, SMALL) else cv2.resize(pixels, (SMALL, SMALL), interpolation=cv2.INTER_AREA)


def recoloured(x: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in [-1, 1] in another light: saturation, then gain and shift, common and of each colour. A picture's
    exact colours would give its number away without a look at its texture."""

    def drawn(channels: int, spread: float) -> Tensor:
        return torch.randn(len(x), channels, 1, 1, device=x.device) * spread

    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * drawn(1, 0.3).exp()
    x = x * (drawn(3, 0.15) + drawn(1, 0.2)).exp() + drawn(3, 0.05) + drawn(1, 0.15)
    return x.clamp(-1, 1).contiguous(memory_format=torch.channels_last)
