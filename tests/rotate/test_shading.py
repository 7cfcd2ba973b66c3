"""Shape from shading on drawn heads whose shape, light and albedo are known: the bundled model with bumps that it does not have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest

from visagist import catalog
from visagist.errors import FaceError, TrainingError, UsageError
from visagist.head import light as lights
from visagist.head.fit import Fit, annotated_points, fit, turn_of
from visagist.head.mesh import Mesh, normals
from visagist.head.morphable import Morphable
from visagist.head.render import rasterise
from visagist.photo.face import MIRROR68, Face, Pose
from visagist.photo.photo import Photo
from visagist.rotate.depth import Problem, back, conjugate, lifted, slopes_of
from visagist.rotate.reference import by_slopes, drawn, surface
from visagist.rotate.relief import Relief
from visagist.rotate.shading import Shading

SIZE = (190, 170)
QUICK = Shading(apart=45)


@dataclass(frozen=True, eq=False)
class Head:
    """A drawn photo and what is true of it: points, depth [H, W] towards the viewer in pixels, normals [H, W, 3], where it is; its
    albedo as a picture."""

    pixels: np.ndarray
    points: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    covered: np.ndarray
    scale: float
    albedo: np.ndarray


@pytest.fixture(scope="module")
def loaded() -> Any:
    return catalog.load("morphable")


@pytest.fixture(scope="module")
def model(loaded: Any) -> Morphable:
    made: Morphable = loaded.recipe.model(loaded.nets)
    return made


@pytest.fixture(scope="module")
def head(model: Morphable) -> Callable[..., Head]:
    """Draws a head: somebody, slightly turned, in a random light from one side, or from the camera; blotched, or of one albedo."""

    @cache
    def draw(seed: int, frontal: bool = False, blotched: bool = False) -> Head:
        rng = np.random.default_rng(seed)
        vertices = model.shape(rng.standard_normal(40), 0.5 * rng.standard_normal(20))
        centres = vertices[rng.integers(0, len(vertices), 14)]
        far = np.square(vertices[:, None] - centres).sum(2) / np.square(rng.uniform(0.6, 1.6, 14))
        bumps = np.exp(-far) @ rng.uniform(-0.15, 0.15, 14)
        vertices = vertices + bumps[:, None] * normals(vertices, model.triangles)
        turn = turn_of(Pose(rng.uniform(-12, 12), rng.uniform(-6, 6), rng.uniform(-4, 4)))
        scale = 7.5
        placed = scale * vertices @ turn.T
        points = scale * annotated_points(model, vertices, turn) @ turn[:2].T
        shift = np.array(SIZE[::-1]) / 2 - (placed[:, :2].min(0) + placed[:, :2].max(0)) / 2
        placed[:, :2] += shift
        seen = rasterise(placed, model.triangles, SIZE)
        at = seen.spread(normals(vertices, model.triangles) @ turn.T * (1, -1, -1)).astype(np.float64)
        at /= np.maximum(np.linalg.norm(at, axis=2, keepdims=True), 1e-9)
        where, strong = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.45)
        if frontal:
            light = np.array([0.5, 0.0, 0.0, 0.4])
        else:
            light = np.array([0.5, strong * np.cos(where), strong * np.sin(where), 0.4])
        noise, points = rng.standard_normal(SIZE), points + shift + rng.normal(0, 0.015 * 6.5 * scale, (68, 2))
        spots = cv2.GaussianBlur(rng.standard_normal(SIZE), (0, 0), 7.0)
        albedo = 0.7 * (1 + 0.08 * blotched * spots / spots.std())
        lit = np.where(seen.covered, albedo * np.maximum(lights.harmonics(at, 1) @ light, 0), 0.1) + 0.004 * noise
        pixels, even = (np.repeat(np.rint(lights.encoded(a)).astype(np.uint8)[..., None], 3, axis=2) for a in (lit, albedo))
        return Head(pixels, points, -seen.depth, at, seen.covered, scale, even)

    return draw


@cache
def told(model: Morphable, one: Head, recipe: Shading = QUICK) -> Relief:
    return recipe.relief(model, Photo.of(one.pixels), one.points, fit(model, one.points))


def errors(one: Head, found: Relief) -> tuple[float, float, float, float]:
    """Mean angle between normals in degrees, and of depth in units of the model: of the aligned reference, of the relief."""
    true = found.window.cut(one.normals.astype(np.float32))
    depth = found.window.cut(np.where(one.covered, one.depth, 0).astype(np.float32))
    use = found.mask & (found.window.cut(one.covered.astype(np.float32)) > 0.999)
    _, before, at = drawn(found.aligned, found.triangles, found.mask.shape)

    def angle(n: np.ndarray) -> float:
        cosine = (n * true).sum(2) / np.maximum(np.linalg.norm(true, axis=2), 1e-6)
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))[use].mean())

    def far(z: np.ndarray) -> float:
        off = (z / found.window.scale - depth)[use] / one.scale
        return float(np.abs(off - np.median(off)).mean())

    return angle(at), angle(found.normals), far(before), far(found.depth)


def test_normals_and_depth_get_better(model: Morphable, head: Callable[..., Head]) -> None:
    """On twenty heads: benchmarks/shading.py."""
    for seed in (1, 3):
        one = head(seed)
        found = told(model, one)
        before, after, far_before, far_after = errors(one, found)
        assert after < 0.9 * before and far_after < 1.05 * far_before
        assert found.residual < 4  # levels: light, albedo and shape give the photo back
        assert not found.frontal and np.abs(found.change).max() < 1.5 * found.unit


@pytest.mark.long
def test_twenty_heads(model: Morphable, head: Callable[..., Head]) -> None:
    rows = np.array([errors(one := head(seed), told(model, one, Shading())) for seed in range(20)])
    before, after, far_before, far_after = rows.T
    assert after.mean() < 0.9 * before.mean() and (after > before).sum() <= 1
    assert (far_after < 1.05 * far_before).all()


# a known albedo


def knowing(model: Morphable, one: Head, albedo: np.ndarray | None) -> Relief:
    return QUICK.relief(model, Photo.of(one.pixels), one.points, fit(model, one.points), albedo)


def test_a_known_albedo_is_not_taken_for_slopes(model: Morphable, head: Callable[..., Head]) -> None:
    """On twenty heads: benchmarks/shading.py, kinds skin and known."""
    for seed in (1, 3):
        one = head(seed, blotched=True)
        without, found = told(model, one), knowing(model, one, one.albedo)
        (before, plain, _, far_plain), (_, better, _, far_better) = errors(one, without), errors(one, found)
        assert better < 0.8 * plain and better < 0.7 * before and far_better < far_plain
        assert found.residual < 0.7 * without.residual
        true = found.window.cut(lights.linear(one.albedo[..., 0]))[found.mask]
        assert np.corrcoef(true, found.albedo[found.mask])[0, 1] > 0.95


def test_the_scale_of_a_known_albedo_is_not_seen(model: Morphable, head: Callable[..., Head]) -> None:
    one = head(1, blotched=True)
    darker = np.rint(lights.encoded(0.4 * lights.linear(one.albedo))).astype(np.uint8)
    full, dim = (knowing(model, one, albedo) for albedo in (one.albedo, darker))
    assert np.abs(full.light - dim.light).max() < 0.02 and np.abs(full.normals - dim.normals)[full.mask].mean() < 0.005


def test_black_is_what_nobody_knows(model: Morphable, head: Callable[..., Head]) -> None:
    one = head(1, blotched=True)
    half = one.albedo.copy()
    half[:, int(one.points[30, 0]) :] = 3  # black, as JPEG has it
    found, nose = knowing(model, one, half), told(model, one).window.to_window(one.points)[30, 0]
    assert found.mask[:, : int(nose) - 2].any() and not found.mask[:, int(nose) + 2 :].any()
    assert np.isfinite(found.change).all() and found.change[:, int(nose) + 2 :].any()  # the shape goes on smoothly
    half[:] = 3
    half[:20, :20] = 200  # off the face
    with pytest.raises(FaceError, match="black where the face is") as caught:
        knowing(model, one, half)
    assert caught.value.code == "no-albedo"
    with pytest.raises(UsageError, match="has 170 x 189 pixels, the photo 170 x 190") as wrong:
        knowing(model, one, one.albedo[1:])
    assert wrong.value.code == "bad-albedo"


def test_paint_that_is_known_is_skin_and_stays_paint(model: Morphable, head: Callable[..., Head]) -> None:
    one = head(3)
    cheek = cv2.circle(np.zeros(SIZE, np.float32), one.points[[2, 31]].mean(0).astype(int).tolist(), 13, 1.0, cv2.FILLED) > 0
    share = np.where(cheek[..., None], (0.9, 0.4, 0.3), 1.0)
    photo, albedo = (np.rint(lights.encoded(lights.linear(a) * share)).astype(np.uint8) for a in (one.pixels, one.albedo))
    painted = Head(photo, one.points, one.depth, one.normals, one.covered, one.scale, albedo)
    without, found = knowing(model, painted, None), knowing(model, painted, albedo)
    inside = found.window.cut(cheek.astype(np.float32)) > 0.99
    assert without.mask[inside].mean() < 0.1 and found.mask[inside].mean() > 0.9
    assert errors(painted, found)[1] < errors(painted, without)[1]
    lit, clean = found.relit(photo, 0, 0), told(model, one).relit(one.pixels, 0, 0)  # it is no shadow that a lamp takes away
    assert np.allclose(lights.linear(lit)[cheek].mean(0) / lights.linear(clean)[cheek].mean(0), (0.9, 0.4, 0.3), rtol=0.05)


# what tells nothing, settings


def test_a_face_at_the_border(model: Morphable, head: Callable[..., Head]) -> None:
    one = head(1)
    for y, x in ((60, 0), (0, 70)):
        points = one.points - np.array((x, y))
        found = QUICK.relief(model, Photo.of(one.pixels[y:, x:]), points, fit(model, points))
        shown, _ = found.laid(found.mask.astype(float), (SIZE[0] - y, SIZE[1] - x))
        assert found.mask.sum() > 2000 and np.isfinite(found.change).all() and shown.max() > 0.9
        assert found.relit(one.pixels[y:, x:], 50, 0).shape == (SIZE[0] - y, SIZE[1] - x, 3)
    with pytest.raises(FaceError, match="too little"):
        QUICK.relief(model, Photo.of(one.pixels[:40, :40]), one.points, fit(model, one.points))


@pytest.mark.parametrize("settings", [{"reference": "mean"}, {"refine": 0.0}, {"order": 2}, {"smooth": 0.02, "wide": 0.0}])
def test_settings(model: Morphable, head: Callable[..., Head], settings: dict[str, Any]) -> None:
    one = head(3)
    before, after, _, _ = errors(one, told(model, one, Shading(apart=45, **settings)))
    assert after < before


def test_parts_that_are_no_skin_keep_the_reference(model: Morphable, head: Callable[..., Head]) -> None:
    one = head(1)
    found = told(model, one)
    assert found.held.sum() > 200 and not found.change[found.held].any() and found.change[found.mask].any()
    for x, y in found.window.to_window(one.points)[[37, 44, 19, 24, 33, 66]].astype(int):
        assert found.held[y, x]


def test_light_from_the_camera_tells_nothing(model: Morphable, head: Callable[..., Head]) -> None:
    one = head(1, frontal=True)
    found = told(model, one)
    assert found.frontal and found.as_dict()["frontal_light"]
    reach = np.ptp(found.depth[found.mask])
    assert np.abs(found.change).max() < 0.01 * reach
    _, before, _ = drawn(found.aligned, found.triangles, found.mask.shape)
    assert np.abs(found.depth - before)[found.mask].max() < 0.01 * reach


def test_faces_that_tell_nothing(model: Morphable, head: Callable[..., Head]) -> None:
    one = head(1)
    for pixels, code in ((128, "no-shading"), (0, "no-shading"), (255, "no-shading")):
        with pytest.raises(FaceError) as caught:
            QUICK.relief(model, Photo.of(np.full_like(one.pixels, pixels)), one.points, fit(model, one.points))
        assert caught.value.code == code
    small = one.points / 6
    with pytest.raises(FaceError, match="too small"):
        QUICK.relief(model, Photo.of(one.pixels[::6, ::6]), small, fit(model, small))


def test_a_mirrored_photo_has_the_mirrored_relief(model: Morphable, head: Callable[..., Head]) -> None:
    one = head(1)
    found = told(model, one)
    face = Face.of_points(one.points).mirrored(SIZE[1])
    assert face.points is not None
    again = QUICK.relief(model, Photo.of(one.pixels[:, ::-1]), face.points, fit(model, face.points))
    at, there = found.laid(found.normals, SIZE)
    back_at, back_there = (a[:, ::-1] for a in again.laid(again.normals, SIZE))
    both = there & back_there
    assert both.sum() > 0.95 * there.sum()
    assert np.abs(at - back_at * (-1, 1, 1))[both].mean() < 0.03
    assert np.allclose(found.light[1], -again.light[1], atol=0.04)


def test_another_light(model: Morphable, head: Callable[..., Head]) -> None:
    one = head(1)
    wide = np.full((500, 500, 3), 90, np.uint8)
    wide[150 : 150 + SIZE[0], 160 : 160 + SIZE[1]] = one.pixels
    points = one.points + np.array((160, 150))
    found = QUICK.relief(model, Photo.of(wide), points, fit(model, points))
    assert np.array_equal(found.relit(wide, 60, 0, strength=0.0), wide)
    assert np.array_equal(found.under(wide, found.light), wide)
    face = found.laid(found.mask.astype(float), wide.shape[:2])[0] > 0.99
    half = found.under(wide, 0.5 * found.light)
    assert 0.45 < lights.linear(half[face]).mean() / lights.linear(wide[face]).mean() < 0.55
    right, left = (found.relit(wide, azimuth, 0) for azimuth in (60, -60))
    for lit in (right, left):
        changed = np.nonzero((lit != wide).any(2))
        assert changed[0].min() > 90 and changed[0].max() < 420 and changed[1].min() > 90 and changed[1].max() < 420
    cheeks = [slice(int(points[k, 1]) - 8, int(points[k, 1]) + 8) for k in (2, 14)]
    near, other = (
        np.s_[cheeks[0], int(points[2, 0]) + 6 : int(points[2, 0]) + 18],
        np.s_[cheeks[1], int(points[14, 0]) - 18 : int(points[14, 0]) - 6],
    )
    assert right[other].mean() > 1.2 * right[near].mean() and left[near].mean() > 1.2 * left[other].mean()
    even = found.albedo_of(wide)
    skin, _ = found.laid(found.mask.astype(float), wide.shape[:2])
    assert even[skin > 0.9].std() < 0.7 * wide[skin > 0.9].std()


def test_the_mesh(model: Morphable, head: Callable[..., Head]) -> None:
    one = head(1)
    found = told(model, one)
    mesh = found.mesh(SIZE)
    assert mesh.uv is not None and 0.95 * found.covered.sum() < len(mesh.vertices) <= found.covered.sum()
    assert 1.6 * len(mesh.vertices) < len(mesh.triangles) < 2 * len(mesh.vertices)
    up = normals(mesh.vertices, mesh.triangles)
    assert (up[:, 2] > 0).all()  # towards the viewer
    at = np.clip((mesh.uv * (1, -1) + (0, 1)) * SIZE[::-1], 0, np.array(SIZE[::-1]) - 1).astype(int)
    assert one.covered[at[:, 1], at[:, 0]].mean() > 0.9
    assert 11 < np.ptp(mesh.vertices[:, 0]) < 19  # centimetres


def test_turned_with_its_relief(loaded: Any, model: Morphable, head: Callable[..., Head]) -> None:
    one = head(1)
    photo, face = Photo.of(one.pixels), Face.of_points(one.points)
    with loaded.inference():
        found = QUICK.reliefs(loaded.nets, photo, [face], turner=loaded.recipe)
        again = {"turner": loaded.recipe, "reliefs": found}
        assert np.array_equal(QUICK.rotate(loaded.nets, photo, [face], **again), one.pixels)
        turned = QUICK.rotate(loaded.nets, photo, [face], turn=(15, 0, 0), **again)
        lit = QUICK.rotate(loaded.nets, photo, [face], light=(70, 10), **again)
    assert turned.shape == one.pixels.shape and (turned != one.pixels).any() and (lit != turned).any()
    raised, own = found[0].carried(model)
    flat = model.shape(found[0].reference.found.identity, found[0].reference.found.expression)
    assert isinstance(own, Fit) and raised.mean.shape == model.mean.shape
    moved = raised.shape(own.identity, own.expression) - flat
    assert 0 < np.abs(moved).max() < 1.5 and np.abs(moved @ own.turn[:2].T).max() < 1e-6  # along the view only


def test_a_bent_mean_face_is_turned_as_well(loaded: Any, model: Morphable, head: Callable[..., Head]) -> None:
    one = head(1)
    photo, face, recipe = Photo.of(one.pixels), Face.of_points(one.points), Shading(apart=45, reference="mean", rounds=1)
    with loaded.inference():
        found = recipe.reliefs(loaded.nets, photo, [face], turner=loaded.recipe)
        turned, smiling = (
            recipe.rotate(loaded.nets, photo, turner=loaded.recipe, reliefs=found, **how)
            for how in ({"turn": (12, 0, 0)}, {"expression": {"mouthSmile": 0.8}})
        )
    assert (turned != one.pixels).any() and (smiling != one.pixels).any() and (smiling != turned).any()


def test_somebody_elses_face_as_reference(loaded: Any, model: Morphable, head: Callable[..., Head]) -> None:
    one = head(1)
    photo, face = Photo.of(one.pixels), Face.of_points(one.points)
    mesh = Mesh(10 * model.mean + 3.0, model.triangles)
    recipe = Shading(apart=45, reference="mean")
    with loaded.inference():
        (found,) = recipe.reliefs(loaded.nets, photo, [face], turner=loaded.recipe, other=(mesh, model.landmarks))
        lit = recipe.rotate(loaded.nets, photo, [face], turner=loaded.recipe, reliefs=(found,), light=(60, 0))
    assert (lit != one.pixels).any()
    before, after, _, _ = errors(one, found)
    assert after < before and 5 < found.unit / found.window.scale < 10
    with pytest.raises(ValueError, match="68 numbers"):
        surface(mesh, model.landmarks[:60])
    with pytest.raises(ValueError, match="one place"):
        surface(mesh, np.zeros(68, int))


def test_a_reference_whose_points_are_no_faces(loaded: Any, model: Morphable) -> None:
    recipe, mean = Shading(reference="mean"), model.mean.astype(np.float64)

    def refused(vertices: np.ndarray, landmarks: np.ndarray) -> str:
        with pytest.raises(UsageError) as caught:
            recipe.begun_with(loaded.nets, (Mesh(vertices, model.triangles), landmarks), turner=loaded.recipe)
        assert caught.value.code == "bad-reference"
        return caught.value.what

    for wrong in (np.arange(68), model.landmarks[::-1], np.roll(model.landmarks, 1), model.landmarks[list(MIRROR68)]):
        assert "do not lie as the 68 points" in refused(mean, wrong)
    assert "do not lie as the 68 points" in refused(mean * (1, -1, 1), model.landmarks)  # y down
    assert "elsewhere, by 180 degrees" in refused(mean * (1, -1, -1), model.landmarks)  # as cameras have it
    assert "elsewhere, by 90 degrees" in refused(mean[:, [0, 2, 1]] * (1, -1, 1), model.landmarks)  # z up
    rng = np.random.default_rng(0)
    for vertices in (
        *(model.shape(1.5 * rng.standard_normal(40), rng.standard_normal(20)) for _ in range(5)),
        model.shape(None, model.expressed({"jawOpen": 1.5})),
        mean @ turn_of(Pose(25, 10, 5)) @ turn_of(Pose(0, 0, 0)).T / 2.54,
    ):
        found = recipe.begun_with(loaded.nets, (Mesh(vertices, model.triangles), model.landmarks), turner=loaded.recipe)
        eyes = found.mean[model.landmarks[36:48]].reshape(2, 6, 3).mean(1)
        assert np.isclose(np.linalg.norm(eyes[1] - eyes[0]), 6.5)


def test_settings_that_make_no_sense() -> None:
    for wrong in ({"reference": "x"}, {"order": 3}, {"apart": 5}, {"refine": -1.0}, {"smooth": float("nan")}, {"rounds": 0}):
        with pytest.raises(ValueError, match="reference|order|refine"):
            Shading(**wrong)
    with pytest.raises(UsageError):
        catalog.recipe("shading", order=3)
    with pytest.raises(TrainingError, match="nothing to train"):
        Shading().stages()


# the equations


def test_slopes_and_their_transpose() -> None:
    rng = np.random.default_rng(0)
    z, p, q = (rng.standard_normal((7, 9)) for _ in range(3))
    a, b = slopes_of(z)
    p[:, -1], q[-1] = 0, 0
    assert np.isclose((a * p + b * q).sum(), (z * back(p, q)).sum())


def test_how_shade_changes_with_slopes() -> None:
    light = np.array([0.5, 0.2, 0.1, 0.4, 0.05, -0.03, 0.02, 0.04, 0.01])

    def shade(p: float, q: float, order: int) -> float:
        n = np.array([-p, q, 1.0])
        return float(lights.harmonics(n / np.linalg.norm(n), order) @ light[: lights.TERMS[order]])

    for order in (1, 2):
        n = np.array([-0.3, -0.4, 1.0])
        by_p, by_q = by_slopes(n / np.linalg.norm(n), light[: lights.TERMS[order]])
        assert np.isclose(by_p, (shade(0.3 + 1e-6, -0.4, order) - shade(0.3, -0.4, order)) / 1e-6, atol=1e-5)
        assert np.isclose(by_q, (shade(0.3, -0.4 + 1e-6, order) - shade(0.3, -0.4, order)) / 1e-6, atol=1e-5)


def test_lifted_normals_are_those_of_the_sum() -> None:
    y, x = np.mgrid[:20, :20].astype(float)
    still = np.broadcast_to(np.array([-0.2, 0.1, 1.0]) / np.linalg.norm([-0.2, 0.1, 1.0]), (20, 20, 3))  # z = 0.2 x + 0.1 y
    for forward in (True, False):
        at = lifted(still, 0.3 * x - 0.5 * y, forward=forward)[1:-1, 1:-1]
        assert np.allclose(at, np.array([-0.5, -0.4, 1.0]) / np.linalg.norm([-0.5, -0.4, 1.0]))


def test_conjugate_gradients() -> None:
    rng = np.random.default_rng(1)
    root = rng.standard_normal((12, 12))
    matrix, wanted = root @ root.T + np.eye(12), rng.standard_normal(12)
    found = conjugate(lambda x: matrix @ x, matrix @ wanted, np.zeros(12), 100)
    assert np.abs(found - wanted).max() < 0.01


def test_a_bump_on_a_plane_is_found() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    bump = 4 * np.exp(-(x**2 + y**2) / 120)
    still = np.zeros((64, 64, 3))
    still[..., 2] = 1
    light = np.array([0.5, 0.3, 0.2, 0.4])
    bright = 0.7 * lights.harmonics(lifted(still, bump, forward=True), 1) @ light
    face = np.ones((64, 64), bool)
    problem = Problem(bright, np.full((64, 64), 0.7), light, still, face, ~face, face, 1e-4, 1e-6)
    found = problem.solved()
    again = 0.7 * lights.harmonics(lifted(still, found, forward=True), 1) @ light
    assert np.abs(again - bright)[:-1, :-1].max() < 0.015 < 0.2 * np.abs(bright - bright[0, 0]).max()
    assert np.corrcoef(found.ravel(), bump.ravel())[0, 1] > 0.8  # across the light a picture says nothing


def test_light_is_told_apart_from_moles() -> None:
    rng = np.random.default_rng(2)
    n = rng.standard_normal((800, 3))
    n[:, 2] = np.abs(n[:, 2])
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    light = np.array([0.5, 0.2, -0.1, 0.3])
    shade = lights.harmonics(n, 1) @ light
    shade[:80] *= 0.4
    assert np.abs(lights.estimate(shade, lights.harmonics(n, 1)) - light).max() < 0.03


def test_srgb_there_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(np.rint(lights.encoded(lights.linear(levels))), levels)
    assert np.allclose(lights.direction(90, 0), (1, 0, 0), atol=1e-9) and np.allclose(lights.direction(0, 90), (0, 1, 0), atol=1e-9)
