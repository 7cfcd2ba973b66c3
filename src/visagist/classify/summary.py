"""The table of a network as Keras prints it: layers, shapes with channels last, parameters that learn and those that do not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# torch's layer -> what Keras calls it (class, and the start of its name).
KERAS = {
    "Conv2d": ("Conv2D", "conv2d"),
    "Linear": ("Dense", "dense"),
    "BatchNorm1d": ("BatchNormalization", "batch_normalization"),
    "BatchNorm2d": ("BatchNormalization", "batch_normalization"),
    "MaxPool2d": ("MaxPooling2D", "max_pooling2d"),
    "LeakyReLU": ("LeakyReLU", "leaky_re_lu"),
    "ReLU": ("ReLU", "re_lu"),
    "GELU": ("GELU", "gelu"),
    "Flatten": ("Flatten", "flatten"),
    "Dropout": ("Dropout", "dropout"),
    "Standard": ("Normalization", "normalization"),
}
COLUMNS = (46, 24, 11)


def summary(net: nn.Module, *, shape: tuple[int, int, int] = (3, 32, 32)) -> str:
    """The table of a network for input [B, *shape]; several lines without a last line break.

    Running statistics of batch norm count as parameters that do not learn, as in Keras. Padding and the way from [-1, 1] to
    [0, 1] have no row: Keras has them in its convolutions and before the network. Run in evaluation mode, on the CPU.
    """
    rows: list[tuple[str, str, int]] = []
    names: dict[str, int] = {}

    def seen(module: nn.Module, given: Any, out: Tensor) -> None:
        kind, start = KERAS[type(module).__name__]
        number = names[start] = names.get(start, 0) + 1
        rows.append((f"{start}_{number} ({kind})", _shape(out.shape), sum(_counts(module))))

    hooks = [module.register_forward_hook(seen) for module in net.modules() if type(module).__name__ in KERAS]
    learning = net.training
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
        net.train(learning)
    learnt, kept = (sum(counts) for counts in zip(*(_counts(module) for module in net.modules()), strict=True))
    first = ("input_1 (InputLayer)", _shape(torch.Size((1, *shape))), 0)
    lines = [_line("Layer (type)", "Output Shape", "Param #"), "=" * sum(COLUMNS)]
    lines += [_line(name, out, f"{count:,}") for name, out, count in (first, *rows)]
    totals = {"Total": learnt + kept, "Trainable": learnt, "Non-trainable": kept}
    return "\n".join([*lines, "=" * sum(COLUMNS), *(f"{name} params: {count:,}" for name, count in totals.items())])


def _counts(module: nn.Module) -> tuple[int, int]:
    """Numbers of the module itself, without those of its parts: those that learn, those that do not."""
    parameters = list(module.parameters(recurse=False))
    learnt = sum(p.numel() for p in parameters if p.requires_grad)
    kept = sum(p.numel() for p in parameters if not p.requires_grad)
    return learnt, kept + sum(b.numel() for b in module.buffers(recurse=False) if b.is_floating_point())


def _shape(size: torch.Size) -> str:
    """(None, 32, 32, 10) for [B, 10, 32, 32]."""
    _, *rest = size
    return str((None, *rest[1:], *rest[:1]) if len(rest) == 3 else (None, *rest))


def _line(*cells: str) -> str:
    return "".join(f"{cell:<{width}}" for cell, width in zip(cells, COLUMNS)).rstrip()
