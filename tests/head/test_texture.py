"""Colours of faces: what is known comes back, what is hidden follows from what is seen, light is taken out."""

from __future__ import annotations

import numpy as np
import pytest

from visagist.head import texture
from visagist.head.fit import Fit, turn_of
from visagist.head.light import encoded, harmonics, linear
from visagist.head.mesh import normals
from visagist.head.texture import Texture, learnt, sampled, unlit
from visagist.photo.face import Pose
from visagist.training.data.bust import Bust


def family(rng: np.random.Generator, people: int, vertices: int = 400) -> np.ndarray:
    """Colours [P, N, 3] that vary in three ways."""
    ways = np.cos(np.linspace(0, 9, vertices)[None, :, None] * np.array([0.0, 1.0, 2.3])[:, None, None] + np.arange(3)) * 18
    return 140 + np.einsum("pk,knc->pnc", rng.standard_normal((people, 3)), ways)


def test_hidden_skin_follows_from_what_is_seen() -> None:
    rng = np.random.default_rng(0)
    colours = family(rng, 60)
    known = rng.random((60, 400)) < 0.9
    made = learnt(colours[:50], known[:50], 3)
    assert made.basis.shape == (3, 400, 3)
    flat = made.basis.reshape(3, -1)
    assert np.abs(flat @ flat.T - np.diag(np.diag(flat @ flat.T))).max() < 1e-3 * (flat @ flat.T).max()  # orthogonal
    seen = np.arange(400) < 200
    for person in colours[50:]:
        found = made.completed(person, seen)
        assert np.array_equal(found[seen], person[seen])
        mean_only = np.abs(person - made.mean)[~seen].mean()
        assert np.abs(found - person)[~seen].mean() < max(0.3 * mean_only, 3)


def test_without_anything_seen_the_mean_is_the_answer() -> None:
    made = Texture(np.full((9, 3), 90.0), np.ones((2, 9, 3)))
    assert np.array_equal(made.completed(np.zeros((9, 3)), np.zeros(9, bool)), made.mean)
    assert np.array_equal(made.colours(np.array([10.0])), np.full((9, 3), 100.0))
    assert made.colours(np.array([1000.0])).max() == 255


@pytest.mark.parametrize("shape", [(9, 2), (9,)])
def test_what_is_no_texture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="texture"):
        Texture(np.zeros(shape), np.zeros((2, *shape)))
    with pytest.raises(ValueError, match="finite"):
        Texture(np.full((9, 3), np.nan), np.zeros((2, 9, 3)))


def test_light_is_taken_out_and_its_colour_kept() -> None:
    rng = np.random.default_rng(1)
    facing = rng.standard_normal((3000, 3)) * (1, 1, 0.4) - (0, 0, 1.6)
    facing /= np.linalg.norm(facing, axis=1, keepdims=True)
    albedo = linear(np.array([[200, 150, 120]], np.float32)) * (1 + 0.05 * rng.standard_normal((3000, 1)))
    shade = harmonics(facing * (1, -1, -1), 2) @ np.array([0.6, 0.35, 0.15, 0.2, 0, 0.05, 0, 0, 0])
    lit = encoded(albedo * np.maximum(shade, 0.05)[:, None])
    seen = np.ones(3000, bool)
    even = unlit(lit, facing, None, seen)
    assert even.std(0).max() < 0.4 * lit.std(0).min()
    ratio = linear(even.astype(np.float32)).mean(0) / albedo.mean(0)
    assert np.ptp(ratio) < 0.05 * ratio.mean()


def test_a_photo_is_read_where_it_shows_the_face() -> None:
    model = Bust.bundled().narrow
    pose = Pose(35.0, 0.0, 0.0)
    found = Fit(11.0, turn_of(pose), np.array([130.0, 120.0]), np.zeros(0), np.zeros(16)[:0], 0.0)
    ramp = np.linspace(0, 255, 260).astype(np.uint8)
    pixels = np.repeat(np.repeat(ramp[None, :, None], 240, 0), 3, 2)
    colours, seen = sampled(pixels, model, found)
    x = found.placed(model.mean)[:, 0]
    assert np.abs(colours[seen, 0] - np.interp(x[seen], np.arange(260) + 0.5, ramp)).max() < 6
    facing = -(normals(model.mean, model.triangles) @ found.turn[2])
    assert not seen[facing < texture.GRAZING].any()
    assert seen[model.landmarks[36]] or seen[model.landmarks[45]]
    far, near = model.mean[:, 0] > 5, model.mean[:, 0] < -5
    assert seen[near].mean() != pytest.approx(seen[far].mean(), abs=0.3)  # one cheek is turned away
    inside = model.mean[:, 2] > 8
    assert texture.skinlike(np.full((len(x), 3), 200.0), seen, np.full((len(x), 3), 180.0), model)[seen & inside].all()
    odd = np.full((len(x), 3), 200.0)
    odd[model.mean[:, 1] > 9] = 0  # a dark fringe
    assert not texture.skinlike(odd, seen, np.full((len(x), 3), 180.0), model)[model.mean[:, 1] > 9].any()
