"""Weights of feature networks that a user brings: which network and convention, and whose names stand in the file.

Paper   those of `features.py`.
Input   tensors by name, as other programs keep them.
Output  the recipe FeatureNetwork, and a state dict for its network.
Read    FeatureNetwork, adopted, then how each network's convolutions are called elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from visagist.errors import TrainingError, WeightsError
from visagist.recipe import Networks, Recipe, Stage
from visagist.stylize.features import CONVENTIONS, INCEPTIONS, VGG16, VGG19, CaffeNet, Foreign, GoogLeNet, SqueezeNet

NETWORKS: Mapping[str, Callable[..., Foreign]] = {
    "vgg19": VGG19,
    "vgg16": VGG16,
    "googlenet": GoogLeNet,
    "caffenet": CaffeNet,
    "squeezenet1_1": SqueezeNet,
}
# What stands in front of every name where a network was part of something else.
_INSIDE = re.compile(r"^(module\.|model\.|net\.)+")
# Convolutions that belong to the classifier or to losses beside the trunk.
_HEADS = ("classifier", "aux", "loss", "fc", "pre_logits", "conv10")
TORCHVISION_EPSILON = 1e-3  # of the batch norms in torchvision's GoogLeNet


@dataclass(frozen=True)
class FeatureNetwork(Recipe):
    """One of these networks with weights that a user brought. Nothing to train: `visagist convert` makes the weights file."""

    network: str = "vgg19"
    convention: str = ""  # of colours and details, that of the trainers: torchvision (default) or caffe (default of caffenet)
    pools: str = "max"  # or "average", which Gatys et al. find smoother (their section 2); the weights are the same

    ships: ClassVar[tuple[str, ...]] = ("features",)

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f"there is no feature network {self.network!r}, choose {', '.join(NETWORKS)}")
        if self.convention not in ("", *CONVENTIONS):
            raise ValueError(f"there is no convention {self.convention!r}, choose {' or '.join(CONVENTIONS)}")
        if self.network == "caffenet" and self.convention == "torchvision":
            raise ValueError("weights of caffenet exist in the convention caffe only")

    def networks(self) -> Networks:
        convention = self.convention or ("caffe" if self.network == "caffenet" else "torchvision")
        return {"features": NETWORKS[self.network](convention=convention, pools=self.pools)}

    def adopted(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a weights file holds, from the tensors of another program: see `adopted`."""
        net = self.networks()["features"]
        assert isinstance(net, Foreign)
        return {f"features.{name}": value for name, value in adopted(tensors, net).items()}

    def stages(self) -> tuple[Stage, ...]:
        hint = "bring weights with `visagist convert`, or train the system perceptual"
        raise TrainingError(f"{self.network} is trained on ImageNet, which cannot be done here", code="no-data", hint=hint)


def adopted(tensors: Mapping[str, Tensor], net: Foreign) -> dict[str, Tensor]:
    """A state dict for `net` from the tensors of another program, float32; its classifier and counters are left out.

    Known are the names of torchvision ("features.0.weight", also behind "module." or "model.") and of Caffe's layers
    ("conv1_1.weight", "inception_3a/5x5_reduce.bias"). Batch norms of torchvision's GoogLeNet are multiplied into the convolutions.
    WeightsError "wrong-shape" when the tensors are those of another network, naming the first that does not fit.
    """
    tensors = {_INSIDE.sub("", name): value for name, value in tensors.items()}
    places = [name for name, part in net.named_modules() if isinstance(part, nn.Conv2d)]  # in the order of `known_as`
    state: dict[str, Tensor] = {}
    used = set()
    for place, names in zip(places, known_as(net), strict=True):
        found = next((name for name in names if f"{name}.weight" in tensors), None)
        if found is None:
            raise _other(f"{' or '.join(f'{name}.weight' for name in names)} is missing")
        used.add(f"{found}.weight")
        weight, bias = _folded(found, tensors)
        own = net.get_submodule(place)
        for kind, value in (("weight", weight), ("bias", bias)):
            wanted = own.get_parameter(kind).shape
            if value.shape != wanted:
                raise _other(f"{found}.{kind} has shape {list(value.shape)}, not {list(wanted)}")
            state[f"{place}.{kind}"] = value.detach().float().clone()
    for name, value in tensors.items():
        if value.dim() == 4 and name.endswith(".weight") and name not in used and not name.startswith(_HEADS):
            raise _other(f"{name[:60]} is unknown")
    return state


def _other(why: str) -> WeightsError:
    return WeightsError(f"the weights are of another network: {why}", code="wrong-shape")


def _folded(name: str, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution; a batch norm beside it (torchvision's "conv" and "bn") is multiplied in."""
    weight = tensors[f"{name}.weight"]
    norm = f"{name.removesuffix('.conv')}.bn"
    needed = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    if not all(part in tensors for part in needed):
        return weight, tensors.get(f"{name}.bias", torch.zeros(0)).flatten()  # Caffe's first files keep biases as [1, 1, 1, C]
    scale, shift, mean, variance = (tensors[part].float() for part in needed)
    factor = scale / (variance + TORCHVISION_EPSILON).sqrt()
    return weight.float() * factor.view(-1, 1, 1, 1), shift - mean * factor


# ---- what the convolutions are called elsewhere, in the order they are evaluated: names in Caffe and in torchvision


def known_as(net: Foreign) -> list[tuple[str, ...]]:
    """For each convolution of a network what other programs call it, without ".weight"."""
    if isinstance(net, VGG16 | VGG19):
        return _vgg(net)
    if isinstance(net, GoogLeNet):
        return _googlenet()
    if isinstance(net, SqueezeNet):
        return _squeezenet()
    return [(name,) for name in net.layers]


def _vgg(net: Foreign) -> list[tuple[str, ...]]:
    """torchvision numbers convolutions, ReLUs and pools in one row."""
    names: list[tuple[str, ...]] = []
    number = 0
    for name in net.layers:
        number += name.endswith("_1") and name != "conv1_1"  # the pool before
        names.append((name, f"features.{number}"))
        number += 2
    return names


def _googlenet() -> list[tuple[str, ...]]:
    names: list[tuple[str, ...]] = [("conv1/7x7_s2", "conv1.conv"), ("conv2/3x3_reduce", "conv2.conv"), ("conv2/3x3", "conv3.conv")]
    inside = {
        "1x1": "branch1", "3x3_reduce": "branch2.0", "3x3": "branch2.1", "5x5_reduce": "branch3.0", "5x5": "branch3.1",
        "pool_proj": "branch4.1",
    }  # fmt: skip
    return names + [(f"inception_{n}/{own}", f"inception{n}.{other}.conv") for n in INCEPTIONS for own, other in inside.items()]


def _squeezenet() -> list[tuple[str, ...]]:
    names: list[tuple[str, ...]] = [("conv1", "features.0")]
    for fire, number in zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True):  # pools have a number too
        parts = (("squeeze1x1", "squeeze"), ("expand1x1", "expand1x1"), ("expand3x3", "expand3x3"))
        names += [(f"fire{fire}/{own}", f"features.{number}.{other}") for own, other in parts]
    return names
