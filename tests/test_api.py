"""The waist, with small stand-ins for the networks: what goes in, what comes out, which faces are meant."""

import inspect
from dataclasses import dataclass, replace

import numpy as np
import pytest
import skimage.data
import torch
from torch import nn

import visagist
from visagist import api, catalog
from visagist.errors import FaceError, PhotoError, UsageError, WeightsError
from visagist.photo.boxes import iou
from visagist.photo.face import Face, Pose, by_falling_area
from visagist.photo.photo import Photo
from visagist.recipe import Recipe
from visagist.weights import store

BOXES = [(60.0, 10.0, 70.0, 22.0), (5.0, 5.0, 45.0, 55.0), (50.0, 30.0, 75.0, 60.0)]
FACES = by_falling_area([Face(box=box, score=0.9) for box in BOXES])
REAL = [catalog.SYSTEMS[name] for name in ("yolo", "landmarks68", "lipstick")]
ASTRONAUT = (172.0, 68.0, 278.0, 196.0)  # about: brows to chin, ear to ear
CARD = {"input": "RGB", "paper": "none", "command": "visagist train toy", "commercial_use": True}


@dataclass(frozen=True)
class Nets(Recipe):
    def networks(self):
        return {"net": nn.Conv2d(3, 1, 1)}


@dataclass(frozen=True)
class Finder(Nets):
    def detect(self, nets, photo, *, min_score):
        assert torch.is_inference_mode_enabled()
        nets["net"](torch.zeros(1, 3, 2, 2))
        faces = [] if photo.pixels.max() == 0 else FACES
        return tuple(face for face in faces if face.score >= min_score)


@dataclass(frozen=True)
class Pointer(Nets):
    def landmarks(self, nets, photo, faces):
        assert torch.is_inference_mode_enabled()
        return tuple(pointed(face) for face in faces)


@dataclass(frozen=True)
class Painter(Nets):
    def makeup(self, nets, photo, faces, *, finish, shade, strength):
        assert torch.is_inference_mode_enabled()
        assert all(face.scheme == "ibug68" for face in faces)
        pixels = photo.pixels.copy()
        for face in faces:
            x0, y0, x1, y1 = (round(v) for v in face.box)
            pixels[y0:y1, x0:x1] = 200
        return pixels


def pointed(face):
    x0, y0, x1, y1 = face.box
    rng = np.random.default_rng(0)
    return replace(face, points=rng.uniform((x0, y0), (x1, y1), (68, 2)), scheme="ibug68", pose=Pose(0.0, 0.0, 0.0))


@pytest.fixture(autouse=True)
def systems(monkeypatch, tmp_path):
    """The three systems of the waist, bundled with networks of four numbers."""
    monkeypatch.setattr(store, "BUNDLED", tmp_path / "bundled")
    for name, verb, cls in (("yolo", "detect", Finder), ("landmarks68", "landmarks", Pointer), ("lipstick", "makeup", Painter)):
        row = catalog.System(name, verb, "none", {"stand-in": (f"{__name__}:{cls.__name__}", {})})
        monkeypatch.setitem(catalog.SYSTEMS, name, row)
        store.save(store.path(name), store.state(cls().networks()), system=name, settings={"preset": "stand-in"}, **CARD)
    catalog.forget()
    yield
    catalog.forget()


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(1, 100, (64, 80, 3), dtype=np.uint8)


def test_each_function_fits_on_a_page():
    for verb in ("detect", "landmarks", "makeup", "stylize", "classify", "rotate"):
        lines = inspect.getsource(getattr(api, verb)).splitlines()
        doc = inspect.getdoc(getattr(api, verb)) or ""
        assert len(lines) - len(doc.splitlines()) <= 25
        assert ">>> " in doc
        parameters = list(inspect.signature(getattr(api, verb)).parameters.values())
        assert parameters[0].name == "photo"
        assert all(p.kind is p.KEYWORD_ONLY for p in parameters[1:] if p.name not in ("faces", "style", "settings"))


def test_photo_path_and_array_are_the_same(pixels, tmp_path):
    file = tmp_path / "脸 1.png"
    Photo.of(pixels).save(file)
    for photo in (Photo.of(pixels), pixels, file, str(file)):
        faces = visagist.detect(photo, device="cpu")
        assert [face.box for face in faces] == [face.box for face in FACES]


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_other_arrays_are_refused(array):
    with pytest.raises(UsageError, match="is no photo"):
        visagist.detect(array)


def test_no_photo(tmp_path):
    with pytest.raises(PhotoError):
        visagist.detect(tmp_path / "none.jpg")


def test_detect(pixels):
    assert visagist.detect(pixels, min_score=0.95) == ()
    for score in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="min_score"):
            visagist.detect(pixels, min_score=score)
    with pytest.raises(UsageError) as caught:
        visagist.detect(pixels, model="lipstick")
    assert caught.value.code == "wrong-verb"
    with pytest.raises(UsageError) as caught:
        visagist.detect(pixels, device="tpu")
    assert caught.value.code == "no-device"
    with pytest.raises(WeightsError):
        visagist.detect(pixels, model="./none.safetensors")


def test_landmarks(pixels):
    found = visagist.landmarks(pixels)
    assert [face.box for face in found] == [face.box for face in FACES]
    assert all(face.scheme == "ibug68" for face in found)
    (one,) = visagist.landmarks(pixels, [FACES[2]])
    assert one.box == FACES[2].box
    assert visagist.landmarks(np.zeros_like(pixels)) == ()
    assert visagist.landmarks(pixels, []) == ()


def painted(photo, pixels):
    """Numbers of the faces that were painted."""
    numbers = []
    for number, face in enumerate(FACES, 1):
        x0, y0, x1, y1 = (int(v) for v in face.box)
        if (photo.pixels[y0:y1, x0:x1] != pixels[y0:y1, x0:x1]).any():
            numbers.append(number)
    return numbers


def test_makeup(pixels):
    photo = visagist.makeup(pixels, finish="tint", strength=0.5, shade="#112233")
    assert painted(photo, pixels) == [1, 2, 3]
    (step,) = photo.history
    card = catalog.load("lipstick").card
    assert (step.verb, step.system, step.weights) == ("makeup", "lipstick", card.sha256[:12])
    assert step.settings == {"finish": "tint", "shade": "#112233", "strength": 0.5, "face": "all"}
    again = visagist.makeup(photo, finish="glazed", face=2)
    assert [step.verb for step in again.history] == ["makeup", "makeup"]
    assert again.history[1].settings == {"finish": "glazed", "strength": 1.0, "face": 2}


@pytest.mark.parametrize(("face", "numbers"), [("all", [1, 2, 3]), ("largest", [1]), (1, [1]), (3, [3]), ("2", [2])])
def test_which_faces_are_painted(pixels, face, numbers):
    assert painted(visagist.makeup(pixels, finish="glossy", face=face), pixels) == numbers


def test_faces_found_before(pixels, monkeypatch):
    def never(*args, **named):
        raise AssertionError("nobody was asked to look")

    monkeypatch.setattr(api, "detect", never)
    assert painted(visagist.makeup(pixels, finish="glossy", faces=FACES[1:]), pixels) == [2, 3]
    assert painted(visagist.makeup(pixels, finish="glossy", faces=FACES[1:], face=1), pixels) == [2]
    monkeypatch.setattr(api, "landmarks", never)
    assert painted(visagist.makeup(pixels, finish="glossy", faces=[pointed(f) for f in FACES[1:]]), pixels) == [2, 3]


def test_makeup_without_a_face(pixels):
    for faces in (None, []):
        with pytest.raises(FaceError, match="no face was found") as caught:
            visagist.makeup(np.zeros_like(pixels), finish="glossy", faces=faces)
        assert caught.value.code == "no-face"
        assert caught.value.exit_code == 1


def test_makeup_told_nonsense(pixels):
    for options in (
        {"finish": "matte"},
        {"finish": "tint", "strength": 1.5},
        {"finish": "tint", "strength": float("nan")},
        {"finish": "tint", "face": 0},
        {"finish": "tint", "face": -1},
        {"finish": "tint", "face": True},
        {"finish": "tint", "face": 1.5},
        {"finish": "tint", "face": "left"},
        {"finish": "tint", "face": "²"},
    ):
        with pytest.raises(UsageError):
            visagist.makeup(pixels, **options)


def test_choosing_a_face():
    assert api.choose(FACES) == api.choose(FACES, "all") == FACES
    assert api.choose(FACES[:1], None) == FACES[:1]
    assert api.choose(FACES[::-1], "largest") == FACES[:1]
    assert api.choose(FACES[::-1], 1) == FACES[2:]
    with pytest.raises(FaceError, match="choose 1 \\(left 5, top 5, 40x50\\), 2 ") as caught:
        api.choose(FACES, None)
    assert caught.value.code == "several-faces"
    with pytest.raises(FaceError, match="no face 4.*3 \\(left 60, top 10, 10x12\\)") as caught:
        api.choose(FACES, 4)
    assert caught.value.code == "no-such-face"
    with pytest.raises(FaceError, match="and so on to 30") as caught:
        api.choose(FACES * 10, 31)
    assert len(str(caught.value)) < 400
    with pytest.raises(FaceError) as caught:
        api.choose((), 1)
    assert caught.value.code == "no-face"


@pytest.mark.skipif(not all(row.bundled for row in REAL), reason="weights of a verb are not bundled yet")
def test_a_real_portrait_with_the_bundled_weights(monkeypatch):
    monkeypatch.undo()
    catalog.forget()
    portrait = skimage.data.astronaut()
    faces = visagist.landmarks(portrait, device="cpu")
    assert len(faces) == 1
    assert overlap_of(faces[0].box, ASTRONAUT) > 0.5
    low, high = faces[0].outer_lips.min(0), faces[0].outer_lips.max(0)
    margin = (high - low).max() * 0.5
    for finish in ("glazed", "glossy", "tint"):
        photo = visagist.makeup(portrait, finish=finish, faces=faces, device="cpu")
        ys, xs = np.nonzero((photo.pixels != portrait).any(2))
        assert len(xs) > 50
        assert xs.min() >= low[0] - margin
        assert xs.max() <= high[0] + margin
        assert ys.min() >= low[1] - margin
        assert ys.max() <= high[1] + margin


def overlap_of(a, b):
    return float(iou(np.array([a]), np.array([b]))[0, 0])


def test_turning_told_nonsense(pixels):
    both = {"yaw": 3, "turn": (1, 0, 0)}
    for options in ({"yaw": float("nan")}, both, {"turn": (1, 0)}, {"expression": {"smile": float("inf")}}):
        with pytest.raises(UsageError, match="no sense"):
            api.rotate(pixels, **options)


def test_what_is_not_for_turning_turns_no_heads() -> None:
    with pytest.raises((WeightsError, UsageError), match="not for rotate"):
        visagist.rotate(np.zeros((64, 64, 3), np.uint8), yaw=10, model="texture")
