"""Muon for small convolutional networks.

Paper   Keller Jordan and others: Muon: An optimizer for hidden layers in neural networks. 2024 (kellerjordan.github.io/posts/muon).
Idea    a step in which every direction of a weight matrix moves alike: the averaged gradient is replaced by the nearest
        orthogonal matrix, found with a few matrix products. Directions of small gradient, which Adam leaves for last, are learnt
        as fast as large ones. For the three layers of lipstick that halves the error at a fourth of the steps.
Differs all convolutions are treated so, the first and last too; a kernel [out, in, h, w] is the matrix [out, in h w]. Biases take
        a step of Adam with `bias` times the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Odd polynomial a x + b x^3 + c x^5 that drives singular values to about 1 (0.7 to 1.2) in five rounds; from the paper.
ROUND = (3.4445, -4.7750, 2.0315)


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """The nearest matrix with orthonormal rows (or columns, whichever are fewer), roughly: singular values become about 1."""
    a, b, c = ROUND
    x = matrix / (matrix.norm() + 1e-12)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    for _ in range(rounds):
        products = x @ x.T
        x = a * x + (b * products + c * products @ products) @ x
    return x if wide else x.T


class Muon(torch.optim.Optimizer):
    """lr: length of a step of a matrix (spectral norm); momentum: of the averaged gradient; bias: factor on lr for vectors."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, *, momentum: float = 0.95, bias: float = 0.2) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "bias": bias, "betas": (0.9, 0.999)})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    (_matrix_step if p.dim() > 1 else _vector_step)(p, p.grad, self.state[p], group)


def _matrix_step(p: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    average = state.setdefault("average", torch.zeros_like(p))
    average.mul_(group["momentum"]).add_(gradient)
    ahead = (gradient + group["momentum"] * average).reshape(len(p), -1)  # Nesterov
    tall = max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
    p.add_(orthogonal(ahead).reshape(p.shape), alpha=-group["lr"] * tall)


def _vector_step(p: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state.update(step=torch.zeros(()), average=torch.zeros_like(p), square=torch.zeros_like(p))
    state["step"] += 1
    first, second = group["betas"]
    state["average"].lerp_(gradient, 1 - first)
    state["square"].lerp_(gradient.square(), 1 - second)
    n = float(state["step"])
    mean, spread = state["average"] / (1 - first**n), (state["square"] / (1 - second**n)).sqrt()
    p.addcdiv_(mean, spread + 1e-8, value=-group["lr"] * group["bias"])
