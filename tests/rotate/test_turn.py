"""Turning heads: the model learns from meshes, a turned photo shows what a rendered one shows, far pixels stay."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from visagist import catalog
from visagist.errors import FaceError, TrainingError, UsageError
from visagist.head import mesh
from visagist.head.fit import Fit, annotated_points, turn_of
from visagist.head.render import rasterise
from visagist.photo.face import Face, Pose
from visagist.photo.photo import Photo
from visagist.recipe import Item, Networks, Run, Tools
from visagist.rotate.carry import carried, carry
from visagist.rotate.foreign import foreign
from visagist.rotate.inner import Inner, opened
from visagist.rotate.turn import PLAIN, Basis, MorphableTurn
from visagist.training.data.readers import read
from visagist.training.loop import train

SIZE = (220, 240)


@pytest.fixture(scope="module")
def items(egg: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    folder = tmp_path_factory.mktemp("egg")
    np.savez(folder / "egg.npz", **egg)
    return read(folder, needs=("mesh",))


@pytest.fixture(scope="module")
def learnt(items: Sequence[Item]) -> tuple[MorphableTurn, Networks]:
    recipe = MorphableTurn().suited(items)
    nets = recipe.networks()
    (stage,) = recipe.stages()
    assert stage.fit is not None
    stage.fit(Run(nets, {}, stage, 0, torch.device("cpu")), items)
    return recipe, nets


def rendered(recipe: MorphableTurn, nets: Networks, pose: Pose) -> tuple[np.ndarray, Fit]:
    """A photo of the egg, painted with smooth colours, before a plain ground; and how it stands there."""
    model = recipe._model(nets)
    fit = Fit(5.5, turn_of(pose), np.array([120.0, 115.0]), np.zeros(len(model.identity)), np.zeros(len(model.expression)), 0.0)
    seen = rasterise(fit.placed(model.mean), model.triangles, SIZE)
    paint = 128 + 100 * np.sin(model.mean * (0.5, 0.4, 0.6))
    pixels = np.full((*SIZE, 3), 60, np.uint8)
    pixels[seen.covered] = np.rint(seen.spread(paint)[seen.covered])
    return pixels, fit


def face_of(recipe: MorphableTurn, nets: Networks, fit: Fit) -> Face:
    model = recipe._model(nets)
    vertices = model.shape(fit.identity, fit.expression)
    return Face.of_points(fit.placed(annotated_points(model, vertices, fit.turn))[:, :2])


def test_the_recipe_takes_its_counts_from_the_meshes(learnt: tuple[MorphableTurn, Networks], egg: dict[str, np.ndarray]) -> None:
    recipe, nets = learnt
    assert (recipe.vertices, recipe.triangles, recipe.identities, recipe.expressions) == (1681, 3200, 6, 3)
    assert recipe.names == ("jawOpen", "smile_L", "smile_R")
    assert sum(b.numel() for b in nets["basis"].buffers() if b.is_floating_point()) == 1681 * 3 * (1 + 6 + 3) + 9
    faces = nets["basis"](torch.zeros(2, 6), torch.zeros(2, 3))
    assert np.allclose(faces.numpy(), egg["neutral"], atol=1e-5)
    with torch.device("meta"):  # the default is the shipped model
        whole = Basis(6706, 13120, 40, 20, 45)
    assert sum(b.numel() for b in whole.buffers() if b.is_floating_point()) == 6706 * 3 * 61 + 45 * 20


def test_a_training_from_start_to_finish(items: list[Item], tmp_path: Path) -> None:
    recipe = MorphableTurn(identities=4)
    learn, measured = recipe.split(items, [])
    weights = train(recipe, learn, tmp_path / "run", system="morphable", validation=measured[:7], workers=0, quiet=True)
    loaded = catalog.load(weights)
    figures = {row.metric: row.value for row in loaded.card.measured}
    assert loaded.recipe.identities == 4 and figures["identity_mean"] > 0 and figures["yaw_error"] < 3


def test_measured_errors_shrink_with_the_basis(items: list[Item], learnt: tuple[MorphableTurn, Networks]) -> None:
    recipe, nets = learnt
    figures = recipe.measure(nets, items, Tools(None))
    assert figures["n"] == 150 and figures["identity_rms"] < 1e-3 and figures["expression_p99"] < 1e-3  # all modes are kept


def test_meshes_that_teach_nothing(items: list[Item]) -> None:
    with pytest.raises(TrainingError, match="no neutral"):
        MorphableTurn().suited(items[1:])
    with pytest.raises(TrainingError, match="tell people apart"):
        MorphableTurn().suited(items[:1])
    with pytest.raises(TrainingError, match="beyond the kept"):
        MorphableTurn(vertices=500).suited(items)


@pytest.mark.parametrize("turned", [Pose(18, 0, 0), Pose(-12, 8, 5)])
def test_the_turned_photo_shows_what_a_rendering_shows(learnt: tuple[MorphableTurn, Networks], turned: Pose) -> None:
    """The middle of the face against the truth; without turning it would be several times as far off."""
    recipe, nets = learnt
    before, fit = rendered(recipe, nets, Pose(0, 0, 0))
    found = recipe.rotate(nets, Photo.of(before), [face_of(recipe, nets, fit)], turn=tuple(turned))
    model = recipe._model(nets)
    truth, there = rendered(recipe, nets, turned)
    centre = model.mean.mean(0) - (
        0,
        0,
        0.62 * np.linalg.norm(model.mean[model.landmarks[36:42]].mean(0) - model.mean[model.landmarks[42:48]].mean(0)),
    )
    shift = 5.5 * (fit.turn - there.turn)[:2] @ centre  # heads turn about their own centre, not about the model's origin
    window = (slice(85, 145), slice(95, 145))
    moved = np.roll(truth, np.rint(shift[::-1]).astype(int), (0, 1))
    off = np.abs(found[window].astype(float) - moved[window]).mean()
    assert off < 14 and off < 0.6 * np.abs(before[window].astype(float) - moved[window]).mean()


def test_not_turned_is_the_photo_itself_and_far_pixels_stay(learnt: tuple[MorphableTurn, Networks]) -> None:
    recipe, nets = learnt
    pixels, fit = rendered(recipe, nets, Pose(5, 0, 0))
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 255, (700, 800, 3), dtype=np.uint8)
    wide[200:420, 250:490] = pixels
    face = face_of(recipe, nets, fit).moved(np.array([[1.0, 0, 250], [0, 1, 200]]))
    assert np.array_equal(recipe.rotate(nets, Photo.of(wide), [face]), wide)
    out = recipe.rotate(nets, Photo.of(wide), [face], turn=(25, 0, 0))
    changed = np.nonzero((out != wide).any(2))
    assert len(changed[0]) > 1000
    placed = fit.placed(recipe._model(nets).mean)[:, :2] + (250, 200)
    (x0, y0), (x1, y1) = placed.min(0), placed.max(0)
    high = y1 - y0
    assert changed[0].min() > y0 - 1.2 * high and changed[0].max() < y1 + 1.2 * high
    assert changed[1].min() > x0 - 1.2 * high and changed[1].max() < x1 + 1.2 * high


def test_a_mirrored_photo_turns_the_other_way(learnt: tuple[MorphableTurn, Networks]) -> None:
    recipe, nets = learnt
    pixels, fit = rendered(recipe, nets, Pose(8, 3, 0))
    face = face_of(recipe, nets, fit)
    out = recipe.rotate(nets, Photo.of(pixels), [face], turn=(15, 0, 0))
    mirrored = np.ascontiguousarray(pixels[:, ::-1])
    back = recipe.rotate(nets, Photo.of(mirrored), [face.mirrored(SIZE[1])], turn=(-15, 0, 0))[:, ::-1]
    assert np.abs(out.astype(float) - back).mean() < 1.5


def test_a_face_cut_by_the_border_and_one_outside(learnt: tuple[MorphableTurn, Networks]) -> None:
    recipe, nets = learnt
    pixels, fit = rendered(recipe, nets, Pose(0, 0, 0))
    model = recipe._model(nets)
    for x in (0, 100):
        moved = Fit(5.5, fit.turn, fit.shift - (x, 0), np.zeros(6), np.zeros(3), 0.0)
        out = carry(np.ascontiguousarray(pixels[:, x : x + 140]), model, moved, turn_of(Pose(20, 0, 0)), np.zeros(3))
        assert out.shape == (220, 140, 3)
    gone = Fit(5.5, fit.turn, fit.shift + 5000, np.zeros(6), np.zeros(3), 0.0)
    assert np.array_equal(carry(pixels, model, gone, turn_of(Pose(20, 0, 0)), np.zeros(3)), pixels)


def test_what_lies_beyond_the_visible_outline_is_no_skin(learnt: tuple[MorphableTurn, Networks]) -> None:
    """A fit a little too wide holds a strip of the green wall on either side; turned, no cheek becomes green."""
    recipe, nets = learnt
    model = recipe._model(nets)
    fit = rendered(recipe, nets, Pose(0, 0, 0))[1]
    seen = rasterise(fit.placed(model.mean), model.triangles, SIZE)
    pixels = np.full((*SIZE, 3), (20, 180, 40), np.uint8)
    pixels[seen.covered] = 190, 140, 120
    wide = replace(fit, scale=fit.scale * 1.1)
    covered = rasterise(wide.placed(model.mean), model.triangles, SIZE)
    strange = foreign(pixels, covered, model.apart * wide.scale)
    wall = covered.covered & ~seen.covered
    sides = np.abs(np.arange(SIZE[0]) - 115) < 40
    assert strange[seen.covered].mean() < 0.05 and strange[sides][wall[sides]].mean() > 0.7
    green = []
    for without in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if without:
                patch.setattr(sys.modules[carry.__module__], "foreign", lambda *_: None)
            out = recipe.rotate(nets, Photo.of(pixels), [face_of(recipe, nets, wide)], turn=(25, 0, 0), background="plain")
        low = out[115:140, :120].astype(int)  # the side that comes into view
        green.append(int((low[..., 1] > low[..., 0] + 20).sum()))
    assert green[1] < 0.3 * green[0]


@pytest.mark.parametrize("yaw", [-60, 60])
def test_no_part_of_the_face_shows_beside_a_profile(yaw: float) -> None:
    """The middle of a grey face is magenta; turned far, nothing beside the face is."""
    loaded = catalog.load("morphable")
    model = loaded.recipe.model(loaded.nets)
    still = np.zeros(len(model.identity)), np.zeros(len(model.expression))
    fit = Fit(6.0, turn_of(Pose(0, 0, 0)), np.array([120.0, 110.0]), *still, 0.0)
    seen = rasterise(fit.placed(model.mean), model.triangles, SIZE)
    far = np.linalg.norm(model.mean[:, :2] - model.mean[:, :2].mean(0), axis=1)
    middle = seen.covered & (seen.spread(far[:, None])[..., 0] < 6.5)
    pixels = np.where(middle[..., None], np.array([220, 0, 220], np.uint8), np.uint8(90))
    turn = turn_of(Pose(yaw, 0, 0))
    out = carry(pixels, model, fit, turn, fit.expression).astype(int)
    there = rasterise(carried(model, fit, turn, fit.expression).placed(model.mean), model.triangles, SIZE).covered
    beside = cv2.dilate(there.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    assert not ((out[..., 0] - out[..., 1] > 60) & beside).any()


@pytest.mark.parametrize(("yaw", "cut"), [(-20, slice(0, 128)), (20, slice(112, 240))])
def test_what_the_border_cuts_off_is_lent_by_the_other_cheek(
    learnt: tuple[MorphableTurn, Networks], yaw: float, cut: slice
) -> None:
    """A face of two like halves, cut a little beyond its middle: the cut photo turned is the turned photo, cut."""
    recipe, nets = learnt
    model = recipe._model(nets)
    fit = rendered(recipe, nets, Pose(0, 0, 0))[1]
    seen = rasterise(fit.placed(model.mean), model.triangles, SIZE)
    pixels = np.full((*SIZE, 3), 60, np.uint8)
    paint = seen.spread(128 + 100 * np.cos(model.mean * (0.5, 0.4, 0.6)))
    pixels[seen.covered] = np.rint(paint[seen.covered])
    less = np.ascontiguousarray(pixels[:, cut])
    there = replace(fit, shift=fit.shift - (cut.start, 0))
    whole, part = (
        recipe.rotate(nets, Photo.of(photo), [face_of(recipe, nets, own)], turn=(yaw, 0, 0), background="plain").astype(float)
        for photo, own in ((pixels, fit), (less, there))
    )
    off = np.abs(whole[:, cut] - part)[(whole[:, cut] != PLAIN).any(2)]
    assert off.mean() < 1


@pytest.mark.parametrize("background", ["plain", "keep"])
def test_backgrounds(learnt: tuple[MorphableTurn, Networks], background: str) -> None:
    """plain: nothing but the face is left; keep: the photo as it is, without the old face."""
    recipe, nets = learnt
    pixels, fit = rendered(recipe, nets, Pose(0, 0, 0))
    face = face_of(recipe, nets, fit)
    out = recipe.rotate(nets, Photo.of(pixels), [face], turn=(20, 0, 0), background=background)
    (turned,) = recipe.turns(nets, [face], turn=(20, 0, 0))
    *_, there = recipe.maps(nets, SIZE, turned.to)
    around = cv2.dilate(there.astype(np.uint8), np.ones((9, 9))) == 0
    grey = PLAIN if background == "plain" else 60
    assert np.abs(out[around].astype(int) - grey).max() <= 1
    moved = recipe.rotate(nets, Photo.of(pixels), [face], turn=(20, 0, 0))
    inside = cv2.erode(there.astype(np.uint8), np.ones((9, 9))) > 0
    assert np.abs(out[inside].astype(int) - moved[inside]).max() <= 1
    with pytest.raises(UsageError, match="no background"):
        recipe.rotate(nets, Photo.of(pixels), [face], background="sea")


def test_what_is_said_of_a_turn(learnt: tuple[MorphableTurn, Networks]) -> None:
    recipe, nets = learnt
    _, fit = rendered(recipe, nets, Pose(40, 0, 0))
    face = face_of(recipe, nets, fit)
    still, near, far = (recipe.turns(nets, [face], turn=(-by, 0, 30))[0] for by in (0, 25, 60))
    assert still.angle < 1e-3 and abs(near.angle - 25) < 1.5 and abs(far.angle - 60) < 2  # tipping does not count
    assert not near.extrapolated and far.extrapolated and still.visible > 0.95 > near.visible > far.visible > 0.3
    told = far.as_dict()
    assert json.loads(json.dumps(told)) == told and told["extrapolated"] is True and told["turned_to"] != told["pose"]


def test_maps_of_a_head(learnt: tuple[MorphableTurn, Networks]) -> None:
    """Millimetres towards the viewer, and normals that are the slopes of that depth."""
    recipe, nets = learnt
    _, fit = rendered(recipe, nets, Pose(0, 0, 0))
    near, pointing, there = recipe.maps(nets, SIZE, fit)
    inside = cv2.erode(there.astype(np.uint8), np.ones((15, 15))) > 0
    step = 10 / fit.scale  # millimetres in a pixel
    down, right = np.gradient(near / step)
    slopes = np.stack([-right, down, np.ones_like(near)], axis=2)
    slopes /= np.linalg.norm(slopes, axis=2, keepdims=True)
    assert np.median((slopes * pointing).sum(2)[inside]) > 0.99
    assert np.allclose(np.linalg.norm(pointing[there], axis=1), 1, atol=1e-4)


def test_hidden_skin_is_lent_by_the_other_cheek(learnt: tuple[MorphableTurn, Networks]) -> None:
    """A photo that shows one side only, painted alike on both: lent skin is closer to the truth than stretched skin."""
    recipe, nets = learnt
    model = recipe.model(nets)

    def painted(pose: Pose) -> tuple[np.ndarray, Fit, np.ndarray]:
        _, fit = rendered(recipe, nets, pose)
        seen = rasterise(fit.placed(model.mean), model.triangles, SIZE)
        paint = 128 + 100 * np.sin(np.abs(model.mean) * (0.9, 0.8, 0.7))
        pixels = np.full((*SIZE, 3), 60, np.uint8)
        pixels[seen.covered] = np.rint(seen.spread(paint)[seen.covered])
        return pixels, fit, seen.covered

    before, fit, _ = painted(Pose(40, 0, 0))
    truth, there, covered = painted(Pose(-30, 0, 0))
    now, then = fit.placed(model.mean), there.placed(model.mean)
    facing, facing_then = (-(mesh.normals(model.mean, model.triangles) @ one.turn[2]) for one in (fit, there))
    source, target = (rasterise(placed, model.triangles, SIZE) for placed in (now, then))
    inner = Inner(model, now, facing, facing_then, source, target, model.apart * fit.scale)

    def moved(where: np.ndarray) -> np.ndarray:
        at = (where - 0.5).astype(np.float32)
        return cv2.remap(before, at[..., 0], at[..., 1], cv2.INTER_LINEAR).astype(np.float32)

    stretched = moved(inner.places())
    lent = inner.mirrored(stretched, moved)
    changed = (np.abs(lent - stretched).max(2) > 1) & covered
    assert changed.sum() > 0.1 * covered.sum() and not changed[cv2.erode(inner.known.astype(np.uint8), np.ones((25, 25))) > 0].any()
    off, was = (np.abs(layer[changed] - truth[changed]).mean() for layer in (lent, stretched))
    assert off < 0.5 * was
    assert np.abs(inner.softened(stretched) - stretched)[inner.known].max() < 1e-3
    own = inner.completed(stretched, 128 + 100 * np.sin(np.abs(model.mean) * (0.9, 0.8, 0.7)))  # as if the colours were known
    assert np.abs(own[changed] - truth[changed]).mean() < 0.5 * was


def test_an_opened_mouth_is_dark_inside(learnt: tuple[MorphableTurn, Networks]) -> None:
    """Only where lips part that were closed, and only between them."""
    model = learnt[0].model(learnt[1])
    around = np.deg2rad(180 - 45 * np.arange(8))  # corner, upper lip, corner, lower lip
    places = np.stack([2.5 * np.cos(around), 1.5 * np.sin(around) - 4], axis=1)
    rim = np.array([np.square(model.mean[:, :2] - place).sum(1).argmin() for place in places])
    model, shut = replace(model, landmarks=np.concatenate([model.landmarks[:60], rim])), model.mean.astype(float)
    shut[rim[[1, 2, 3]]] = shut[rim[[7, 6, 5]]]
    wide = shut.copy()
    wide[rim[[5, 6, 7]], 1] -= 0.3 * model.apart
    placed = wide * (10.0, -10.0, -10.0) + (100, 100, 0)
    reach = np.abs(placed[rim, :2] - placed[rim, :2].mean(0)).max() + 5
    keep = (np.abs(placed[model.triangles].mean(1)[:, :2] - placed[rim, :2].mean(0)).max(1)) > reach  # a face with a hole
    target = rasterise(placed, model.triangles[keep], (240, 200))
    layer = np.full((240, 200, 3), 200, np.float32)
    out = opened(layer, model, shut, wide, placed, target)
    dark = out[..., 0] < 100
    (x0, y0), (x1, y1) = placed[rim, :2].min(0), placed[rim, :2].max(0)
    ys, xs = np.nonzero(dark)
    assert dark.sum() > 20 and xs.min() >= x0 - 1 and xs.max() <= x1 + 1 and ys.min() >= y0 - 1 and ys.max() <= y1 + 1
    assert opened(layer, model, wide, wide, placed, target) is layer
    assert opened(layer, model, wide, shut, placed, target) is layer


def test_an_expression_moves_the_mouth_only(learnt: tuple[MorphableTurn, Networks]) -> None:
    recipe, nets = learnt
    pixels, fit = rendered(recipe, nets, Pose(0, 0, 0))
    out = recipe.rotate(nets, Photo.of(pixels), [face_of(recipe, nets, fit)], expression={"jawOpen": 1.0})
    moved = np.abs(out.astype(int) - pixels).sum(2) > 12
    assert moved[120:165].mean() > 5 * moved[40:85].mean()


def test_the_mesh_lies_on_the_photo(learnt: tuple[MorphableTurn, Networks]) -> None:
    recipe, nets = learnt
    pixels, fit = rendered(recipe, nets, Pose(0, 0, 0))
    made = recipe.mesh(nets, Photo.of(pixels), face_of(recipe, nets, fit))
    assert made.uv is not None and made.vertices.shape == (1681, 3) and len(made.triangles) == 3200
    seen = fit.placed(recipe._model(nets).mean)[:, :2] / (SIZE[1], SIZE[0])
    assert np.abs(made.uv - np.stack([seen[:, 0], 1 - seen[:, 1]], 1)).max() < 0.02


def test_what_cannot_be_turned(learnt: tuple[MorphableTurn, Networks]) -> None:
    recipe, nets = learnt
    pixels, fit = rendered(recipe, nets, Pose(0, 0, 0))
    photo, face = Photo.of(pixels), face_of(recipe, nets, fit)
    rng = np.random.default_rng(0)
    for faces, more, code in (
        ([Face((0, 0, 9, 9))], {}, "no-points"),
        ([Face.of_points(rng.uniform(0, 99, (68, 2)))], {}, "no-fit"),
        ([Face.of_points(np.full((68, 2), 5.0))], {}, "no-fit"),
        ([face], {"turn": (90.0, 0.0, 0.0)}, "too-far"),
    ):
        with pytest.raises(FaceError) as caught:
            recipe.rotate(nets, photo, faces, **more)  # type: ignore[arg-type]
        assert caught.value.code == code
    for expression, said in (({"frown": 1}, "frown"), ({"jawOpen": 1e300}, "weight"), ({"jawOpen": np.nan}, "weight")):
        with pytest.raises(UsageError, match=said):
            recipe.rotate(nets, photo, [face], expression=expression)


def test_names_of_expressions_are_those_that_were_asked_for(learnt: tuple[MorphableTurn, Networks]) -> None:
    """A training calls them by number on the same buffers; that must not stay."""
    recipe, nets = learnt
    basis = nets["basis"]
    assert isinstance(basis, Basis)
    numbered = basis.model(["0", "1", "2"], offsets=False)
    assert set(numbered.named) == {"0", "1", "2"} and numbered.offsets is None
    assert set(recipe.model(nets).named) == set(recipe.names) and recipe.model(nets).offsets is not None
    assert recipe.model(nets) is recipe.model(nets)


def test_a_view_tells_where_the_head_is_in_it(learnt: tuple[MorphableTurn, Networks]) -> None:
    recipe, nets = learnt
    pixels, fit = rendered(recipe, nets, Pose(5.0, 0.0, 0.0))
    seen, there = recipe.view(nets, pixels, fit, Pose(-15.0, 5.0, 0.0), fit.expression)
    assert np.array_equal(seen, carry(pixels, recipe.model(nets), fit, turn_of(Pose(-15.0, 5.0, 0.0)), fit.expression))
    assert np.allclose(there.pose, (-15, 5, 0), atol=1e-6)
    model = recipe.model(nets)
    shown = rasterise(there.placed(model.mean), model.triangles, SIZE)
    drawn = shown.spread(128 + 100 * np.sin(model.mean * (0.5, 0.4, 0.6)))
    assert np.median(np.abs(seen[shown.covered] - drawn[shown.covered])) < 4
