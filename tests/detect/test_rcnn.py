"""R-CNN: counts, windows, samples, the three stages, and that it learns."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from visagist import catalog
from visagist.detect.rcnn import GREY, RCNN, FaceRCNN, Shift, Svm, _Miner, windows
from visagist.detect.searched import Searched, jittered
from visagist.detect.selective_search import Settings
from visagist.photo.boxes import iou
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Item, Run
from visagist.training.data import made_up
from visagist.training.loop import train

SMALL = FaceRCNN(scenes=2, scene=128, steps=4, windows=16, batch=2, mined=2, glance=1)
DRAWN = made_up.items(3, seed=1, size=96)


def shapes(count: int, seed: int = 0, size: int = 160) -> list[Item]:
    """Pictures of circles and squares on noise, a class each."""
    import cv2

    made = []
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        pixels = rng.integers(100, 140, (size, size, 3)).astype(np.uint8)
        faces = []
        for name, x, y in (("circle", 40, 45), ("square", 115, 110), ("circle", 120, 40)):
            r, colour = int(rng.integers(18, 26)), tuple(int(v) for v in rng.choice([0, 250], 3))
            if name == "circle":
                cv2.circle(pixels, (x, y), r, colour, -1)
            else:
                cv2.rectangle(pixels, (x - r, y - r), (x + r, y + r), colour, -1)
            faces.append(Face((x - r, y - r, x + r + 1, y + r + 1), label=name))
        made.append(Item(f"shapes {i}", partial(Photo.of, pixels), tuple(faces)))
    return made


# ---- networks ----


def test_exact_parameter_counts() -> None:
    with torch.device("meta"):
        paper, face = RCNN().networks(), FaceRCNN().networks()
    assert sum(p.numel() for p in paper["cnn"].parameters()) == 56_954_261
    assert paper["svm"].weight.shape == (20, 4096) and paper["shift"].weight.shape == (80, 9216)
    assert sum(p.numel() for net in face.values() for p in net.parameters()) == 1_371_097


def test_the_papers_network_takes_the_papers_window() -> None:
    with torch.device("meta"):
        net = RCNN().networks()["cnn"]
        pool5 = net.body(torch.zeros(2, 3, 227, 227)).flatten(1)
        fc7 = net.dense(pool5)
    assert pool5.shape == (2, 9216) and fc7.shape == (2, 4096) and net.kind(fc7).shape == (2, 21)


def test_every_parameter_gets_a_gradient() -> None:
    net = FaceRCNN().networks()["cnn"].eval()
    _, _, logits = net(torch.randn(4, 3, 64, 64))
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 0, 1])).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_what_is_fitted_is_in_the_weights() -> None:
    nets = SMALL.networks()
    assert set(SMALL.ships) == {"cnn", "svm", "shift"} == set(nets)
    assert {"weight", "bias", "slope", "offset"} == set(nets["svm"].state_dict())
    svm, shift = Svm(3, 2), Shift(3, 2)
    assert svm(torch.randn(5, 3)).tolist() == [[0.5, 0.5]] * 5
    assert shift(torch.randn(5, 3)).shape == (5, 2, 4)


# ---- windows ----


def test_a_window_shows_the_box_and_its_context() -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[20:60, 50:150] = 255
    (cut,) = windows(pixels, np.array([[50, 20, 150, 60]]), 64, 8)
    assert (cut[9:55, 9:55] == 255).all()
    assert (cut[:7] == 0).all() and (cut[:, :7] == 0).all() and (cut[57:] == 0).all() and (cut[:, 57:] == 0).all()


def test_beyond_the_photo_a_window_is_grey() -> None:
    pixels = np.full((40, 40, 3), 255, np.uint8)
    (cut,) = windows(pixels, np.array([[0, 0, 40, 40]]), 64, 16)
    assert (cut[0, 0] == np.array(GREY)).all() and (cut[32, 32] == 255).all()


def test_large_boxes_are_averaged() -> None:
    """A chessboard of single pixels becomes an even grey, not moire."""
    board = np.indices((400, 400)).sum(0) % 2 * 255
    cut = windows(np.repeat(board[..., None], 3, 2).astype(np.uint8), np.array([[0, 0, 400, 400]]), 32, 0)
    assert np.abs(cut.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("box", [(5, 5, 5, 5), (0, 0, 1, 90), (-50, -50, -20, -20), (0, 0, 1e5, 3)])
def test_strange_boxes_have_windows_too(box: tuple[float, ...]) -> None:
    cut = windows(np.zeros((30, 20, 3), np.uint8), np.array([box]), 32, 4)
    assert cut.shape == (1, 32, 32, 3)


# ---- samples ----


def test_scenes_are_few_and_fixed() -> None:
    names = set()
    for seed in range(12):
        item = SMALL.compose(DRAWN, 0, np.random.default_rng(seed))
        names.add(item.photo.pixels.tobytes())
    assert len(names) == 2
    assert {i.photo.pixels.tobytes() for i in SMALL.pictures(DRAWN, 9, 1)} == names


def test_a_quarter_of_the_windows_are_objects_at_most() -> None:
    recipe = RCNN(names=("circle", "square"), search="quick", learn="quick", width=160, windows=32, side=64, jitter=9)
    for i, item in enumerate(shapes(2)):
        example = recipe.example(item, np.random.default_rng(i))
        assert example["windows"].shape == (32, 64, 64, 3)
        assert 1 <= (example["kinds"] > 0).sum() <= 8
        assert set(example["kinds"].tolist()) <= {-1, 0, 1, 2}


def test_an_example_follows_from_its_generator() -> None:
    item = SMALL.fixed_scene(DRAWN, 0)
    a, b = (SMALL.example(item, np.random.default_rng(4)) for _ in range(2))
    assert all((a[key] == b[key]).all() for key in a)


def test_what_is_labelled_ignore_or_not_labelled_at_all_is_no_background(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = np.array([[0, 0, 40, 40], [50, 50, 90, 90], [12, 12, 48, 48]], np.float32)
    monkeypatch.setattr(Searched, "proposals", lambda *_, **__: boxes)
    photo = Photo.of(np.zeros((100, 100, 3), np.uint8))
    faces = (Face((10, 10, 50, 50)), Face((48, 48, 95, 95), label="ignore"))
    recipe = FaceRCNN(scenes=0, jitter=0)
    at = recipe.regions(Item("x", lambda: photo, faces))
    assert at.truth.tolist() == [[10, 10, 50, 50]] and at.kinds.tolist() == [1] and at.ignored.tolist() == [[48, 48, 95, 95]]
    assert len(at.proposals) == 3
    partly = recipe.regions(Item("x", lambda: photo, faces[:1], complete=False))
    assert partly.proposals.tolist() == boxes[[0, 2]].tolist()
    example = recipe.example(Item("x", lambda: photo, faces), np.random.default_rng(0))
    assert sorted(example["kinds"].tolist())[-3:] == [0, 1, 1]  # the box in the ignored area is nothing
    assert (example["kinds"] == -1).sum() == 29


def test_a_step_over_pictures_of_which_nothing_is_known_changes_nothing() -> None:
    recipe = FaceRCNN(scenes=0, width=160, windows=8)
    (drawn,) = shapes(1)
    unknown = Item("unknown", lambda: drawn.photo, complete=False)
    example = recipe.example(unknown, np.random.default_rng(0))
    assert (example["kinds"] == -1).all()
    nets = recipe.networks()
    stage = recipe.stages()[0]
    before = [p.clone() for p in nets["cnn"].parameters()]
    batch = {k: torch.from_numpy(v[None]) for k, v in example.items()}
    terms = recipe.step(Run(nets, recipe.optimizer(nets), stage, 0, torch.device("cpu")), batch)
    assert all(float(v) == 0 for v in terms.values())
    assert all(torch.equal(a, b) for a, b in zip(before, nets["cnn"].parameters(), strict=True))


def test_jittered_boxes_stay_near() -> None:
    boxes = np.repeat(np.array([[10.0, 20, 50, 100]]), 200, 0)
    near = iou(boxes[:1], jittered(boxes, np.random.default_rng(0)))[0]
    assert near.min() > 0.2 and near.max() > 0.8 and 0.4 < (near >= 0.5).mean() < 0.9


def test_proposals_are_kept_where_the_user_says_and_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = shapes(1, seed=7)[0].photo
    recipe = FaceRCNN(width=160)
    monkeypatch.delenv("VISAGIST_PROPOSALS", raising=False)
    plain = recipe.proposals(photo)
    monkeypatch.setenv("VISAGIST_PROPOSALS", str(tmp_path / "kept"))
    assert np.array_equal(recipe.proposals(photo), plain)
    assert len(list((tmp_path / "kept").glob("*.npz"))) == 1
    assert Settings("quick", 160) != Settings("fast", 160)


# ---- the SVM ----


def test_hard_negatives_are_looked_for() -> None:
    rng = np.random.default_rng(0)
    positives = rng.normal(2, 1, (40, 10))
    miner = _Miner(positives, SMALL)
    easy, hard = rng.normal(-6, 1, (4000, 10)), rng.normal(0, 1, (300, 10))
    for part in np.array_split(easy, 8):
        miner.see(part)
    assert len(miner.negatives) < 4000  # those beyond the margin have left
    miner.see(hard)
    weight, bias, slope, offset = miner.finish()
    score = 1 / (1 + np.exp(-(slope * (positives @ weight + bias) + offset)))
    wrong = 1 / (1 + np.exp(-(slope * (hard @ weight + bias) + offset)))
    assert score.mean() > 0.7 > 0.15 > wrong.mean()
    assert 1 / (1 + np.exp(-(slope * (easy @ weight + bias) + offset).max())) < 0.05


def test_a_class_that_never_occurs_is_never_found() -> None:
    miner = _Miner(np.zeros((0, 5)), SMALL)
    miner.see(np.ones((9, 5)))
    weight, bias, slope, offset = miner.finish()
    assert not weight.any() and 1 / (1 + np.exp(-(slope * bias + offset))) < 1e-3


# ---- all of it ----


def test_it_learns_two_classes(tmp_path: Path) -> None:
    items = shapes(3)
    recipe = FaceRCNN(names=("circle", "square"), width=160, steps=60, rate=5e-4, batch=3, windows=24, mined=3, glance=1)
    file = train(recipe, items, tmp_path / "run", system="rcnn", workers=0, threads=1, quiet=True, card={"preset": "face"})
    loaded = catalog.load(file)
    assert loaded.recipe == recipe
    with loaded.inference():
        found = loaded.recipe.detect(loaded.nets, items[0].photo, min_score=0.3)
        figures = loaded.recipe.measure(loaded.nets, items, tools())
    assert figures["proposal_recall"] == 1 and figures["ap50"] > 0.8
    assert {face.label for face in found} == {"circle", "square"}
    assert all(0 <= face.score <= 1 for face in found)


def tools() -> object:
    from visagist.recipe import Tools
    from visagist.training import metrics

    return Tools(metrics)


def test_data_without_any_object_ends_in_a_finder_that_finds_nothing(tmp_path: Path) -> None:
    empty = [Item(f"empty {i}", lambda p=item.photo: p) for i, item in enumerate(shapes(2))]
    recipe = FaceRCNN(width=160, names=("circle",), steps=2, batch=2, windows=8, mined=2)
    file = train(recipe, empty, tmp_path / "run", system="rcnn", workers=0, quiet=True, card={"preset": "face"})
    loaded = catalog.load(file)
    with loaded.inference():
        assert loaded.recipe.detect(loaded.nets, empty[0].photo, min_score=0.2) == ()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (37, 53)])
def test_any_size_of_photo_is_searched(shape: tuple[int, int]) -> None:
    recipe = FaceRCNN(width=100)
    nets = {name: net.eval() for name, net in recipe.networks().items()}
    with torch.inference_mode():
        faces = recipe.detect(nets, Photo.of(np.full((*shape, 3), 90, np.uint8)), min_score=0.1)
    assert all(np.isfinite(face.box).all() for face in faces)


def test_a_preview_is_a_picture() -> None:
    item = SMALL.fixed_scene(DRAWN, 0)
    batch = {k: torch.from_numpy(v[None]) for k, v in SMALL.example(item, np.random.default_rng(0)).items()}
    nets = {name: net.eval() for name, net in SMALL.networks().items()}
    with torch.no_grad():
        seen = SMALL.preview(Run(nets, {}, SMALL.stages()[0], 0, torch.device("cpu")), batch)
    assert seen.dtype == np.uint8 and seen.ndim == 3
