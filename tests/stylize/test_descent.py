"""L-BFGS within bounds: on functions whose lowest point is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from visagist.stylize.descent import projected, with_scipy

METHODS = [projected, with_scipy]


def bowl(centre: Tensor, steepness: Tensor) -> Callable[[Tensor], tuple[float, Tensor]]:
    def function(x: Tensor) -> tuple[float, Tensor]:
        return float((steepness * (x - centre).square()).sum() / 2), steepness * (x - centre)

    return function


def rosenbrock(x: Tensor) -> tuple[float, Tensor]:
    leaf = x.detach().double().clone().requires_grad_()
    value = (100 * (leaf[1:] - leaf[:-1] ** 2) ** 2 + (1 - leaf[:-1]) ** 2).sum()
    value.backward()
    assert leaf.grad is not None
    return float(value.detach()), leaf.grad.to(x)


@pytest.mark.parametrize("method", METHODS)
def test_finds_the_lowest_point_inside_and_on_the_border(method: Callable[..., tuple[Tensor, float]]) -> None:
    centre = torch.tensor([[0.3, -0.2, 5.0], [-9.0, 0.9, 0.0]])
    steepness = torch.tensor([[1.0, 10.0, 3.0], [0.5, 100.0, 2.0]])
    losses: list[float] = []

    def told(x: Tensor, loss: float) -> bool:
        assert x.shape == centre.shape
        assert float(x.abs().max()) <= 1
        losses.append(loss)
        return False

    x, loss = method(bowl(centre, steepness), torch.zeros(2, 3), told, low=-1, high=1, iterations=60)
    torch.testing.assert_close(x, centre.clamp(-1, 1), atol=5e-3, rtol=0)
    assert loss == pytest.approx(losses[-1])
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("method", METHODS)
def test_follows_a_bent_valley(method: Callable[..., tuple[Tensor, float]]) -> None:
    evaluations = 0

    def counted(x: Tensor) -> tuple[float, Tensor]:
        nonlocal evaluations
        evaluations += 1
        return rosenbrock(x)

    start = torch.full((10,), -1.0, dtype=torch.float64)
    x, loss = method(counted, start, lambda x, loss: False, low=-2, high=2, iterations=150)
    assert loss < 1e-3
    torch.testing.assert_close(x, torch.ones_like(x), atol=0.05, rtol=0)
    assert evaluations < 250


@pytest.mark.parametrize("method", METHODS)
def test_ends_when_told_to(method: Callable[..., tuple[Tensor, float]]) -> None:
    count = 0

    def told(x: Tensor, loss: float) -> bool:
        nonlocal count
        count += 1
        return count == 3

    method(rosenbrock, torch.zeros(6), told, low=-2, high=2, iterations=50)
    assert count == 3


def test_ends_at_the_bottom_and_where_the_loss_is_no_number() -> None:
    told: list[float] = []

    def tell(x: Tensor, loss: float) -> bool:
        told.append(loss)
        return False

    centre = torch.tensor([0.25])
    projected(bowl(centre, torch.ones(1)), centre.clone(), tell, low=-1, high=1, iterations=50)
    assert told == []
    projected(lambda x: (float("nan"), torch.ones_like(x)), torch.zeros(2), tell, low=-1, high=1, iterations=5)
    assert told == []


def test_starts_inside_the_bounds() -> None:
    x, _ = projected(
        bowl(torch.zeros(2), torch.ones(2)), torch.tensor([7.0, -7.0]), lambda x, loss: True, low=-1, high=1, iterations=5
    )
    assert float(x.abs().max()) < 1
