"""The face model: principal components in closed form, alignment, the model's own checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from visagist.head import morphable
from visagist.head.morphable import Morphable


def learnt(egg: dict[str, np.ndarray], **more: Any) -> Morphable:
    arrays = {k: egg[k].astype(float) for k in ("neutral", "identity", "expression")}
    names = tuple(str(n) for n in egg["expression_names"])
    counts = {"identities": 6, "expressions": 3, **more}
    return morphable.of_modes(*arrays.values(), names, egg["triangles"], egg["landmarks68"], **counts)


def test_components_are_those_of_drawn_faces() -> None:
    """Against the covariance of a million draws, component by component; orthogonal; as long as their standard deviation."""
    rng = np.random.default_rng(0)
    modes = rng.normal(size=(3, 8))
    drawn = rng.standard_normal((200_000, 3)) @ modes
    found = morphable.principal(modes, np.eye(3), 3)
    assert np.allclose(found.T @ found, drawn.T @ drawn / len(drawn), atol=0.15)
    inner = found @ found.T
    assert np.allclose(inner, np.diag(np.diag(inner)), atol=1e-9) and (np.diff(np.diag(inner)) <= 0).all()
    assert np.allclose(found.T @ found, modes.T @ modes)  # all of them: nothing is lost


def test_moment_of_sparse_expressions_is_that_of_draws() -> None:
    rng = np.random.default_rng(1)
    weights = np.zeros((100_000, 9))
    active = rng.integers(1, 6, len(weights))
    chosen = rng.random(weights.shape).argsort(1).argsort(1) < active[:, None]
    weights[chosen] = rng.random(int(chosen.sum()))
    assert np.abs(morphable.sparse_moment(9) - weights.T @ weights / len(weights)).max() < 2e-3


def test_a_full_basis_gives_every_face_back(egg: dict[str, np.ndarray]) -> None:
    model = learnt(egg)
    face = np.tensordot([0.5, -1, 2, 0, 0.1, -0.3], egg["identity"].astype(float), 1)
    flat = model.identity.reshape(6, -1)
    found = flat @ face.ravel() / np.square(flat).sum(1)
    assert np.abs(model.shape(found) - egg["neutral"] - face).max() < 1e-6
    fewer = learnt(egg, identities=2)
    assert fewer.identity.shape == (2, len(egg["neutral"]), 3)
    assert np.allclose(np.abs(fewer.identity), np.abs(model.identity[:2]), atol=1e-9)


def test_expressions_by_name(egg: dict[str, np.ndarray]) -> None:
    model = learnt(egg)
    moved = model.shape(expression=model.expressed({"jawopen": 0.5, "smile": 1})) - model.mean
    wanted = egg["expression"].astype(float)
    assert np.abs(moved - 0.5 * wanted[0] - wanted[1] - wanted[2]).max() < 1e-6
    with pytest.raises(ValueError, match="no expression 'frown'"):
        model.expressed({"frown": 1})


def test_scans_in_any_place_and_turn(egg: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(2)
    scans = []
    for _ in range(5):
        face = egg["neutral"] + np.tensordot(rng.standard_normal(2), egg["identity"][:2].astype(float), 1)
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        scans.append(face @ (q * np.sign(np.linalg.det(q))) + rng.normal(size=3) * 9)
    model = morphable.of_scans(np.stack(scans), egg["triangles"], egg["landmarks68"], identities=4)
    for scan in scans:
        near = morphable.aligned(scan, model.mean)
        flat = model.identity.reshape(4, -1)
        found = flat @ (near - model.mean).ravel() / np.maximum(np.square(flat).sum(1), 1e-12)
        assert np.abs(model.shape(found) - near).max() < 0.1
    assert np.allclose(morphable.aligned(3 * scans[0] + 1, scans[0], scaled=True), scans[0])


@pytest.mark.parametrize("field", ["identity", "landmarks", "mirror", "triangles"])
def test_what_is_no_model(egg: dict[str, np.ndarray], field: str) -> None:
    model = learnt(egg)
    parts = dict(vars(model))
    parts[field] = model.identity[:, :-1] if field == "identity" else parts[field] + 9999
    parts = {name: value for name, value in parts.items() if name in Morphable.__dataclass_fields__}
    with pytest.raises(ValueError):
        Morphable(**parts)
