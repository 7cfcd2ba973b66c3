"""The linear SVM, the logistic function and the ridge regression against what is known of their optima."""

import numpy as np
import pytest
from scipy.optimize import minimize

from visagist.detect.svm import hinge_svm, logistic, ridge


def problem(n: int = 120, d: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * 3
    y = np.where(x[:, 0] + 0.5 * x[:, 1] + rng.normal(size=n) * 2 > 2, 1.0, -1.0)
    return x, y


def objective(w: np.ndarray, b: float, x: np.ndarray, y: np.ndarray, cost: float, weight: float, feature: float) -> float:
    hinge = np.maximum(0, 1 - y * (x @ w + b)) * np.where(y > 0, cost * weight, cost)
    return float(w @ w / 2 + (b / feature) ** 2 / 2 + hinge.sum())


@pytest.mark.parametrize("cost", [1e-3, 0.05, 2.0])
def test_svm_reaches_the_optimum_of_a_general_solver(cost: float) -> None:
    """The reference solves the quadratic programme with slack variables as written, by SLSQP."""
    x, y = problem(60, 4)
    n, d = x.shape
    most = np.where(y > 0, 2 * cost, cost)

    def value(v: np.ndarray) -> float:
        return float(v[: d + 1] @ v[: d + 1] / 2 + most @ v[d + 1 :])

    def slope(v: np.ndarray) -> np.ndarray:
        return np.concatenate([v[: d + 1], most])

    rows = np.concatenate([y[:, None] * x, y[:, None] * 10, np.eye(n)], 1)
    within = {"type": "ineq", "fun": lambda v: rows @ v - 1, "jac": lambda v: rows}
    start = np.concatenate([np.zeros(d + 1), np.ones(n)])
    bounds = [(None, None)] * (d + 1) + [(0, None)] * n
    found = minimize(
        value, start, jac=slope, constraints=[within], bounds=bounds, method="SLSQP", options={"maxiter": 500, "ftol": 1e-12}
    )
    w, b = hinge_svm(x, y, cost=cost, tolerance=1e-6)
    ours = objective(w, b, x, y, cost, 2, 10)
    assert ours <= found.fun + 1e-6 * (1 + abs(found.fun))
    assert ours == pytest.approx(found.fun, rel=1e-4, abs=1e-6)


def test_svm_by_hand() -> None:
    """Two points on a line, a bias that costs almost nothing: the margin touches both."""
    w, b = hinge_svm(np.array([[1.0], [3.0]]), np.array([-1.0, 1.0]), cost=100, bias_feature=100, tolerance=1e-9)
    assert w[0] == pytest.approx(1, abs=1e-3) and b == pytest.approx(-2, abs=1e-3)


def test_svm_satisfies_the_conditions_of_the_optimum() -> None:
    x, y = problem(400, 20, 1)
    w, b = hinge_svm(x, y, cost=0.01, tolerance=1e-6)
    margin = y * (x @ w + b)
    most = np.where(y > 0, 0.02, 0.01)
    # w is the sum of a_i y_i x_i with a_i = C_i inside the margin, 0 outside; what is left comes from points on the margin
    inside, on = margin < 1 - 1e-5, np.abs(margin - 1) <= 1e-5
    left = w - (most * y * inside) @ x
    share, *_ = np.linalg.lstsq((y[on, None] * x[on]).T, left, rcond=None)
    assert np.abs((y[on] * share) @ x[on] - left).max() < 1e-4
    assert (share > -1e-4).all() and (share < most[on] + 1e-4).all()


def test_a_weight_on_positives_moves_the_margin_towards_the_others() -> None:
    x, y = problem()
    found = [(lambda w, b: (x @ w + b)[y > 0].mean())(*hinge_svm(x, y, positive_weight=weight)) for weight in (1.0, 2.0, 8.0)]
    assert found[0] < found[1] < found[2]


def test_svm_is_the_same_every_time() -> None:
    x, y = problem()
    a, b = hinge_svm(x, y), hinge_svm(x, y)
    assert np.array_equal(a[0], b[0]) and a[1] == b[1]


def test_logistic_is_the_most_likely() -> None:
    rng = np.random.default_rng(2)
    margins = rng.normal(size=3000) * 2
    y = np.where(rng.random(3000) < 1 / (1 + np.exp(-(1.7 * margins - 0.6))), 1.0, -1.0)
    slope, offset = logistic(margins, y)
    assert slope == pytest.approx(1.7, abs=0.15) and offset == pytest.approx(-0.6, abs=0.15)
    goal = np.where(y > 0, ((y > 0).sum() + 1) / ((y > 0).sum() + 2), 1 / ((y < 0).sum() + 2))
    rest = 1 / (1 + np.exp(-(slope * margins + offset))) - goal
    assert abs(rest.sum()) < 1e-5 and abs((rest * margins).sum()) < 1e-5


def test_logistic_stays_finite_where_classes_are_apart() -> None:
    slope, offset = logistic(np.array([-3.0, -2, 2, 3]), np.array([-1.0, -1, 1, 1]))
    assert 0 < slope < 10 and abs(offset) < 1
    assert np.isfinite(logistic(np.zeros(5), np.array([1.0, -1, -1, -1, -1]))).all()
    assert np.isfinite(logistic(np.array([-900.0, 900]), np.array([-1.0, 1]))).all()


@pytest.mark.parametrize("n", [8, 200])
def test_ridge_against_its_equation_and_whitening_changes_nothing(n: int) -> None:
    rng = np.random.default_rng(n)
    x, t = rng.normal(size=(n, 30)) * 5 + 1, rng.normal(size=(n, 4)) @ rng.normal(size=(4, 4)) + 3
    w, b = ridge(x, t, 1000)
    cx, ct = x - x.mean(0), t - t.mean(0)
    assert np.allclose(cx.T @ (cx @ w - ct) + 1000 * w, 0, atol=1e-7)
    assert np.allclose((x @ w + b - t).mean(0), 0, atol=1e-9)
    values, vectors = np.linalg.eigh(ct.T @ ct / n + 0.001 * np.eye(4))  # as the authors' code whitens
    white, back = vectors @ np.diag(values**-0.5) @ vectors.T, vectors @ np.diag(values**0.5) @ vectors.T
    assert np.allclose(ridge(x, ct @ white, 1000)[0] @ back, w, atol=1e-9)
