"""Down a loss within bounds: L-BFGS, SciPy's and our own.

Paper   Byrd, Lu, Nocedal, Zhu: A Limited Memory Algorithm for Bound Constrained Optimization (L-BFGS-B), SIAM J. Sci. Comput.
        1995, which is SciPy's. Ours: Liu, Nocedal: On the Limited Memory BFGS Method, Math. Programming 1989, with the
        projection of Bertsekas (SIAM J. Control Optim. 1982): what is at a bound and would leave it stands still.
Input   x and a function x -> (loss, gradient); x float32 of any shape, within `low`..`high`.
Output  x with a lower loss. From one iteration to the next the loss never rises.
Differs no search for the Cauchy point, no Wolfe conditions: a step is halved until the loss falls (Armijo), and pairs without
        positive curvature are left out. One step mostly takes one evaluation.
Read    projected, with_scipy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Function = Callable[[Tensor], tuple[float, Tensor]]
Told = Callable[[Tensor, float], bool]
Pairs = list[tuple[Tensor, Tensor, float]]  # change of x, change of the gradient, their product; newest last

ENOUGH = 1e-4  # of the fall that the gradient promises, a step must bring this much (Armijo)
TRIALS = 12  # shorter and shorter steps before a direction is given up
FIRST = 0.05  # largest change of a value in a first step, of which nothing is known yet


def projected(
    function: Function, x: Tensor, told: Told, *, low: float, high: float, iterations: int, memory: int = 10
) -> tuple[Tensor, float]:
    """L-BFGS with projection onto low..high, on the device and in the precision of x. Returns the last x and its loss.

    told    is told x and its loss after every iteration; True ends the descent
    memory  from how many steps curvature is learnt
    It ends early where no direction leads down any more.
    """
    x = x.detach().clamp(low, high)
    loss, gradient = function(x)
    pairs: Pairs = []
    done = 0
    while done < iterations:
        free = ~(((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0)))
        direction = _two_loops(gradient * free, pairs).mul_(free).neg_()
        length = 1.0 if pairs else FIRST / max(float(direction.abs().max()), 1e-30)
        step = _first_that_falls(function, x, loss, gradient, direction, length, low, high)
        if step is None:
            if not pairs:
                break
            pairs = []  # what was learnt misleads here; once more along the gradient
            continue
        new_x, new_loss, new_gradient = step
        moved, bent = new_x - x, new_gradient - gradient
        product = _dot(moved, bent)
        if product > 1e-8 * _dot(bent, bent):
            pairs = [*pairs[-memory + 1 :], (moved, bent, product)]
        x, loss, gradient = new_x, new_loss, new_gradient
        done += 1
        if told(x, loss):
            break
    return x, loss


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.flatten(), b.flatten()))


def _two_loops(gradient: Tensor, pairs: Pairs) -> Tensor:
    """The inverse Hessian, as the pairs tell it, times the gradient (Liu and Nocedal 1989, algorithm 2.1; Nocedal 1980)."""
    q = gradient.clone()
    shares = []
    for moved, bent, product in reversed(pairs):
        share = _dot(moved, q) / product
        q.sub_(bent, alpha=share)
        shares.append(share)
    if pairs:
        _, bent, product = pairs[-1]
        q.mul_(product / _dot(bent, bent))
    for (moved, bent, product), share in zip(pairs, reversed(shares)):
        q.add_(moved, alpha=share - _dot(bent, q) / product)
    return q


def _first_that_falls(
    function: Function, x: Tensor, loss: float, gradient: Tensor, direction: Tensor, length: float, low: float, high: float
) -> tuple[Tensor, float, Tensor] | None:
    """The first of shorter and shorter steps along the direction, kept within the bounds, with which the loss falls enough."""
    for _ in range(TRIALS):
        new_x = torch.clamp(x.add(direction, alpha=length), low, high)
        promised = _dot(gradient, new_x - x)
        if promised >= 0:
            return None
        new_loss, new_gradient = function(new_x)
        if new_loss <= loss + ENOUGH * promised:  # never with NaN
            return new_x, new_loss, new_gradient
        # the lowest point of the parabola through what is known, within reason
        rise = new_loss - loss - promised
        length *= min(max(-promised / (2 * rise), 0.1), 0.5) if np.isfinite(rise) and rise > 0 else 0.1
    return None


def with_scipy(
    function: Function, x: Tensor, told: Told, *, low: float, high: float, iterations: int, memory: int = 8
) -> tuple[Tensor, float]:
    """SciPy's L-BFGS-B: its own arithmetic in float64, the function called with float32. Otherwise as `projected`."""
    from scipy.optimize import Bounds, OptimizeResult, minimize

    def called(flat: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = function(back(flat))
        return loss, gradient.double().cpu().numpy().ravel()

    def back(flat: np.ndarray) -> Tensor:
        return torch.from_numpy(flat.reshape(x.shape)).to(x)

    def heard(intermediate_result: OptimizeResult) -> None:  # SciPy looks for this very name
        if told(back(intermediate_result.x), float(intermediate_result.fun)):
            raise StopIteration

    start = x.detach().clamp(low, high).double().cpu().numpy().ravel()
    options = {"maxcor": memory, "maxiter": iterations, "maxfun": 10 * iterations}
    found = minimize(called, start, jac=True, method="L-BFGS-B", bounds=Bounds(low, high), callback=heard, options=options)
    return back(found.x), float(found.fun)
