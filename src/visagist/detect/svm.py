"""The two things R-CNN fits without a loop over pictures: a linear SVM, and a ridge regression.

Paper   R. Girshick, J. Donahue, T. Darrell, J. Malik, "Rich feature hierarchies", CVPR 2014, sections 2.3 and 3.5, appendix C;
        C.-J. Hsieh et al., "A Dual Coordinate Descent Method for Large-scale Linear SVM", ICML 2008 (liblinear's method);
        J. Platt, "Probabilistic Outputs for Support Vector Machines", 1999
Input   features float [n, D], one row each
Output  weights and bias of a linear layer
Read    hinge_svm, logistic, ridge
"""

from __future__ import annotations

import numpy as np


def hinge_svm(
    x: np.ndarray,
    y: np.ndarray,
    *,
    cost: float = 1e-3,
    positive_weight: float = 2.0,
    bias_feature: float = 10.0,
    tolerance: float = 1e-3,
    epochs: int = 1000,
    seed: int = 0,
) -> tuple[np.ndarray, float]:
    """The w [D] and bias b that minimise |w|^2 / 2 + v^2 / 2 + sum_i C_i max(0, 1 - y_i (w x_i + b)), b = v * bias_feature.

    x [n, D], y [n] of 1 and -1. C_i is `cost`, for positives times `positive_weight`. The bias is the weight v of one more feature
    that is always `bias_feature`, so that it is hardly held back (liblinear -B 10).

    Solved in the dual, min |sum_i a_i y_i x_i|^2 / 2 - sum_i a_i with 0 <= a_i <= C_i, one a_i after another in random order,
    exactly along each; only those are visited that do not already satisfy the condition of the optimum (Hsieh, section 3.2).
    Every tenth pass those between their bounds are moved together: with a large C single steps would take thousands of passes.
    """
    rows = np.concatenate([np.asarray(x, np.float64), np.full((len(x), 1), bias_feature)], 1)
    y = np.asarray(y, np.float64)
    rows *= y[:, None]  # y_i x_i is all that is used
    most = np.where(y > 0, cost * positive_weight, cost)
    length = np.einsum("ij,ij->i", rows, rows)
    a, w = np.zeros(len(rows)), np.zeros(rows.shape[1])
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        slope = rows @ w - 1
        off = np.where(a <= 0, np.minimum(slope, 0), np.where(a >= most, np.maximum(slope, 0), slope))
        wrong = np.flatnonzero(np.abs(off) > tolerance)
        if not len(wrong):
            break
        for i in rng.permutation(wrong):
            row = rows[i]
            step = min(max(a[i] - (row @ w - 1) / length[i], 0.0), most[i]) - a[i]
            if step:
                a[i] += step
                w += step * row
        if epoch % 10 == 9:
            _together(a, rows, most)
        w = a @ rows  # what rounding has added up goes
    return w[:-1], float(w[-1] * bias_feature)


def _together(a: np.ndarray, rows: np.ndarray, most: np.ndarray) -> None:
    """Newton's step of those a_i that are at no bound, in place; one that meets its bound stays there and the others go on."""
    for _ in range(100):
        free = np.flatnonzero((a > 0) & (a < most))
        if not 0 < len(free) <= 600:
            return
        some = rows[free]
        products = some @ some.T
        products[np.diag_indices(len(free))] += 1e-9 * products.trace()
        step = np.linalg.solve(products, 1 - some @ (a @ rows))
        bound = np.where(step > 0, most[free], 0.0)
        room = np.divide(bound - a[free], step, out=np.full(len(free), np.inf), where=step != 0)
        first = int(room.argmin())
        a[free] = np.clip(a[free] + min(1.0, float(room[first])) * step, 0, most[free])
        if room[first] >= 1:
            return
        a[free[first]] = bound[first]


def logistic(margins: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the most likely p(y = 1) = 1 / (1 + exp(-(slope * margin + offset))) (Platt; Newton's method).

    margins [n], y [n] of 1 and -1. As in Platt's paper the goals are (n+ + 1) / (n+ + 2) and 1 / (n- + 2), so that no finite
    sample makes the function a step.
    """
    x, right = np.asarray(margins, np.float64), np.asarray(y) > 0
    up, down = int(right.sum()), int((~right).sum())
    goal = np.where(right, (up + 1) / (up + 2), 1 / (down + 2))
    design = np.stack([x, np.ones_like(x)], 1)

    def loss(v: np.ndarray) -> float:
        z = design @ v
        return float((np.logaddexp(0, z) - goal * z).sum())

    v = np.array([0.0, np.log((up + 1) / (down + 1))])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(design @ v, -500, 500)))
        gradient = design.T @ (p - goal)
        curvature = design.T @ (design * (p * (1 - p))[:, None]) + 1e-12 * np.eye(2)
        step, length, now = np.linalg.solve(curvature, gradient), 1.0, loss(v)
        while loss(v - length * step) > now and length > 1e-9:
            length /= 2
        v = v - length * step
        if np.abs(length * step).max() < 1e-9:
            break
    return float(v[0]), float(v[1])


def ridge(x: np.ndarray, t: np.ndarray, weight: float = 1000.0) -> tuple[np.ndarray, np.ndarray]:
    """The w [D, M] and b [M] that minimise |x w + b - t|^2 + weight |w|^2; x [n, D], t [n, M].

    The authors whiten t first. Whitening is a linear map of the columns of t, the optimum is linear in t, and undoing the map
    afterwards gives the same w: it is left out. Centring both x and t sets b free of the penalty.
    """
    x, t = np.asarray(x, np.float64), np.asarray(t, np.float64)
    mean_x, mean_t = x.mean(0), t.mean(0)
    centred = x - mean_x
    if len(x) < x.shape[1]:  # the same through the rows
        w = centred.T @ np.linalg.solve(centred @ centred.T + weight * np.eye(len(x)), t - mean_t)
    else:
        w = np.linalg.solve(centred.T @ centred + weight * np.eye(x.shape[1]), centred.T @ (t - mean_t))
    return w, mean_t - mean_x @ w
