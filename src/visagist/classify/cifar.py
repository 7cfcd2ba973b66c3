"""The ladder on CIFAR-10: a dense network, two convolutions, and a convolutional network with batch norm and dropout.

Paper   "Convolutional networks on CIFAR-10" (a training text without a publication, 2018, in Keras); its dense network as in
        Foster, "Generative Deep Learning", 2019, chapter 2, which the text continues.
Input   float RGB [B, 3, 32, 32] in [-1, 1]; inside, pixels are in [0, 1] as in the text.
Output  logits [B, K] for K classes; the text's last softmax is in the loss and in `Classifier.answers`.
Differs nothing in the networks, to the digit: 646,260, 206,910 and 592,554 parameters. The text names no learning rate, batch or
        length; preset `seed` has the book's (Adam 5e-4, batches of 32, 10 passes, pictures as they are). `schedule` and `better`
        train the same network with mirror images, small shifts and a falling rate.
Read    SamePad, Flatten (what Keras does otherwise than torch), dense, two_convolutions, convolutional (networks), Ladder
        (training).

Where Keras and torch disagree, this is Keras: LeakyReLU of slope 0.3, batch norm with epsilon 1e-3 that keeps 0.99 of its running
statistics, weights from Glorot's uniform distribution, biases 0, pictures flattened in the order rows, columns, channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visagist.classify.classifier import SIDE, Classifier, to_network, varied
from visagist.recipe import Batch, Item, Networks, Run, Stage, Tools

# ---- networks


class Pixels(nn.Module):
    """[-1, 1] -> [0, 1], what the text divides by 255 for."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2


class SamePad(nn.Module):
    """Zeros around a picture so that a convolution gives ceil(size / stride) positions, as Keras's "same".

    An odd number of zeros is put behind: with kernel 3 and stride 2 on an even size none before and one after, so the kernel is
    centred on pixels 1, 3, 5 ...; torch's own padding=1 would centre it on 0, 2, 4 ...
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        needed = [max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0) for size in x.shape[2:]]
        (top, bottom), (left, right) = ((n // 2, n - n // 2) for n in needed)
        return F.pad(x, (left, right, top, bottom))


class Flatten(nn.Module):
    """[B, C, H, W] -> [B, H * W * C], channels running fastest."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


def dense(classes: int = 10) -> nn.Sequential:
    """3,072 -> 200 -> 150 -> K: 614,600 + 30,150 + 1,510 = 646,260 parameters for 10 classes."""
    return _glorot(
        nn.Sequential(
            Pixels(), Flatten(),
            nn.Linear(3 * SIDE * SIDE, 200), nn.ReLU(),
            nn.Linear(200, 150), nn.ReLU(),
            nn.Linear(150, classes),
        )
    )  # fmt: skip


def two_convolutions(classes: int = 10) -> nn.Sequential:
    """10 and 20 filters of 3 x 3, then dense: 280 + 1,820 + 204,810 = 206,910 parameters for 10 classes.

    Nothing bends between the layers, so all of it is one linear map of the pixels whose matrix is made of few numbers.
    """
    return _glorot(
        nn.Sequential(
            Pixels(),
            nn.Conv2d(3, 10, 3, padding=1),
            nn.Conv2d(10, 20, 3, padding=1),
            Flatten(), nn.Linear(20 * SIDE * SIDE, classes),
        )
    )  # fmt: skip


def convolutional(classes: int = 10) -> nn.Sequential:
    """Four convolutions, of which the second and fourth halve the sides, and a dense layer of 128.

    896 + 9,248 + 18,496 + 36,928 + 524,416 + 1,290, and of the norms 640 + 640: 591,914 parameters and 640 running statistics.
    """
    return _glorot(
        nn.Sequential(
            Pixels(),
            nn.Conv2d(3, 32, 3, padding=1), _norm(32), nn.LeakyReLU(0.3),  # 32 x 32
            SamePad(3, 2), nn.Conv2d(32, 32, 3, stride=2), _norm(32), nn.LeakyReLU(0.3),  # 16 x 16
            nn.Conv2d(32, 64, 3, padding=1), _norm(64), nn.LeakyReLU(0.3),
            SamePad(3, 2), nn.Conv2d(64, 64, 3, stride=2), _norm(64), nn.LeakyReLU(0.3),  # 8 x 8
            Flatten(), nn.Linear(64 * 8 * 8, 128), nn.BatchNorm1d(128, eps=1e-3, momentum=0.01), nn.LeakyReLU(0.3),
            nn.Dropout(0.5),
            nn.Linear(128, classes),
        )
    )  # fmt: skip


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)  # torch's momentum is what is taken of the new, Keras's what is kept


def _glorot(net: nn.Sequential) -> nn.Sequential:
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return net


NETWORKS: Mapping[str, Callable[[int], nn.Sequential]] = {
    "dense": dense,
    "two-convolutions": two_convolutions,
    "convolutional": convolutional,
}


# ---- the recipe


@dataclass(frozen=True)
class Ladder(Classifier):
    """One of the three networks. The defaults are the book's training (preset `seed`)."""

    network: str = "convolutional"  # or "dense", "two-convolutions"
    batch: int = 32
    epochs: int = 10
    rate: float = 5e-4  # Adam
    decay: float = 0.0  # weight decay of AdamW
    falling: bool = False  # the rate rises over the first twentieth of the steps and falls along half a cosine wave
    mirror: bool = False  # each picture mirrored in every other pass
    shift: int = 0  # largest shift in pixels, the border mirrored
    smoothing: float = 0.0  # label smoothing: this part of the target is spread over all classes
    average: float = 0.0  # decay of a moving average of the weights, which is what ships; 0 for none
    held: int = 0  # pictures held back from training, to keep the best weights by; 0: the last weights ship

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f"there is no network {self.network!r}, choose {', '.join(NETWORKS)}")

    def networks(self) -> Networks:
        return {"classifier": NETWORKS[self.network](len(self.classes))}

    def split(self, items: Sequence[Item], validation: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
        """Weights are chosen by pictures held back from the training ones, never by the test set, which is for the end."""
        if not self.held:
            return items, validation
        back = set(np.random.default_rng(0).permutation(len(items))[: min(self.held, len(items) // 5)].tolist())
        return [item for i, item in enumerate(items) if i not in back], [items[i] for i in sorted(back)]

    def stages(self) -> tuple[Stage, ...]:
        def adam(nets: Networks) -> dict[str, torch.optim.Optimizer]:
            parameters = nets["classifier"].parameters()
            return {"classifier": torch.optim.AdamW(parameters, lr=self.rate, weight_decay=self.decay)}

        return (
            Stage(
                "learn", ("classifier",), step=self.step, optimizers=adam, batch=self.batch, epochs=self.epochs,
                schedule=self.schedule, average=self.average, watch="error" if self.held else "", measure=self.watched,
            ),
        )  # fmt: skip

    def schedule(self, progress: float) -> float:
        """Factor on the learning rate."""
        return min(1.0, 20 * progress + 0.02) * (0.5 + 0.5 * cos(pi * progress)) if self.falling else 1.0

    def watched(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        """What `measure` finds, and the error by which the best weights are kept."""
        figures = self.measure(nets, items, tools)
        return {**figures, "error": 1 - figures["accuracy"]} if self.held else figures

    def step(self, run: Run, batch: Batch) -> Mapping[str, Tensor | float]:
        pictures, label = batch["image"], batch["label"]  # uint8 [B, 32, 32, 3], int64 [B]
        if self.shift or self.mirror:
            pictures = varied(pictures, shift=self.shift, flipped=self.flips(run, batch) if self.mirror else None)
        with run.autocast():
            logits = run.nets["classifier"](to_network(pictures))
        logits = logits.float()  # [B, K]
        loss = F.cross_entropy(logits, label, label_smoothing=self.smoothing)
        run.update("classifier", loss)
        return {"loss": loss.detach(), "right": (logits.detach().argmax(1) == label).float().mean()}
