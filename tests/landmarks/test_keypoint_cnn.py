"""The 15-point networks: the text's table, losses, examples, what is restored, photos of any size, a tiny overfit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from visagist import catalog
from visagist.errors import TrainingError
from visagist.landmarks import keypoint_cnn as room
from visagist.landmarks import layout
from visagist.landmarks.keypoint_cnn import Keypoints, Points15, SeedKeypoints, SeedNet
from visagist.landmarks.looks import Found, answer, grey, heads, mirror, to_network
from visagist.photo.face import MIRROR15, POINTS15, Face, points15_of
from visagist.photo.photo import Photo
from visagist.photo.window import Window
from visagist.recipe import Item, Recipe, Run, Tools
from visagist.training import metrics
from visagist.training.data import made_up
from visagist.training.loop import train
from visagist.weights import store

TINY = Keypoints(widths=(4, 8, 8, 8), blocks=(1, 1, 1), map_width=8)
DRAWN = made_up.items(6, seed=3, size=160)


def gappy(item: Item, *missing: int) -> Item:
    """The drawn face with its 15 points only, some of them not labelled."""
    points = points15_of(np.asarray(item.faces[0].points))
    points[list(missing)] = np.nan
    return replace(item, faces=(Face(item.faces[0].box, points=points, scheme="kaggle15"),))


# ---- the text's network


def test_the_seed_network_is_the_table() -> None:
    with torch.device("meta"):
        net = SeedNet()
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in net.named_children()}
    assert counts == {"conv1": 320, "conv2": 8_256, "conv3": 32_896, "fc1": 7_744_500, "fc2": 250_500, "fc3": 15_030, "dropout": 0}
    assert sum(counts.values()) == 8_051_502
    assert net.fc1.in_features == 15_488
    x, sizes = torch.zeros(1, 1, 96, 96, device="meta"), []
    for convolution in (net.conv1, net.conv2, net.conv3):
        x = convolution(x)
        sizes.append((*x.shape[1:],))
        x = F.max_pool2d(x, 2)
        sizes.append((*x.shape[1:],))
    assert sizes == [(32, 94, 94), (32, 47, 47), (64, 46, 46), (64, 23, 23), (128, 22, 22), (128, 11, 11)]
    assert net(torch.zeros(2, 1, 96, 96, device="meta")).shape == (2, 15, 2)


def test_the_seed_network_starts_as_the_text_says_and_counts_from_0_to_1_inside() -> None:
    torch.manual_seed(0)
    net = SeedNet().eval()
    for layer in (net.conv1, net.conv2, net.conv3, net.fc1, net.fc2, net.fc3):
        assert layer.bias is not None and (layer.bias == 0.1).all()
        assert layer.weight.abs().max() <= 0.2  # a normal distribution of 0.1 cut off at two deviations
    assert net.fc1.weight.std().item() == pytest.approx(0.088, abs=0.001)
    with torch.no_grad():
        for layer in (net.fc1, net.fc2, net.fc3):
            layer.weight.zero_()
        net.fc3.bias.fill_(0.75)
    assert torch.equal(net(torch.zeros(1, 1, 96, 96)), torch.full((1, 15, 2), 0.5))  # 72 of 96 px
    seen = []
    net.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(torch.tensor([-1.0, 1.0]).repeat(48).expand(1, 1, 96, 96))
    assert (seen[0].min(), seen[0].max()) == (0, 1)


def test_seed_settings() -> None:
    recipe = SeedKeypoints()
    stage = recipe.stages()[0]
    assert (stage.batch, stage.epochs, stage.patience, stage.watch) == (64, 100, 10, "rmse_96")
    assert stage.optimizers is not None
    (adam,) = stage.optimizers({"points": nn.Linear(1, 1)}).values()
    assert isinstance(adam, torch.optim.Adam) and adam.defaults["lr"] == 1e-3
    assert stage.over(2140).steps == round(100 * 2140 / 64)


def test_the_best_network_is_small() -> None:
    assert sum(p.numel() for p in Keypoints().networks()["points"].parameters()) == 1_847_437


# ---- losses


def test_rmse_loss_is_the_root_of_the_mean_square_and_has_a_gradient_at_zero() -> None:
    found = torch.tensor([[3.0, 0.0], [0.0, 1.0]], requires_grad=True)
    assert room.rmse_loss(found, torch.zeros(2, 2)).item() == pytest.approx((10 / 4) ** 0.5)
    loss = room.rmse_loss(found, found.detach().clone())
    loss.backward()
    assert loss.item() == pytest.approx(1e-6) and found.grad is not None and (found.grad == 0).all()


def test_masked_mean_by_hand_and_what_is_missing_gets_no_gradient() -> None:
    found = torch.tensor([[[1.0, 2.0], [5.0, 7.0]]], requires_grad=True)
    present = torch.tensor([[[1.0], [0.0]]]).expand(1, 2, 2)
    loss = room.masked_mean((found - 0).square(), present)
    assert loss.item() == pytest.approx((1 + 4) / 2)
    loss.backward()
    assert found.grad is not None and found.grad.tolist() == [[[1.0, 2.0], [0.0, 0.0]]]
    assert room.masked_mean(torch.ones(3), torch.zeros(3)).item() == 0


def test_gradients_of_missing_points_are_exactly_zero_in_the_whole_loss() -> None:
    torch.manual_seed(0)
    recipe, net = TINY, TINY.networks()["points"]
    examples = [recipe.example(gappy(item, 0, 5, 14), np.random.default_rng(i)) for i, item in enumerate(DRAWN[:3])]
    batch = {key: torch.from_numpy(np.stack([e[key] for e in examples])) for key in examples[0]}
    assert batch["present"].sum() == 3 * 12
    read, regressed, logits = (t.detach().requires_grad_() for t in net(batch["image"]))
    recipe.loss(net, (read, regressed, logits), batch)[0].backward()
    gone = batch["present"][..., 0] == 0
    for tensor in (read, regressed, logits):
        assert tensor.grad is not None and (tensor.grad[gone] == 0).all() and (tensor.grad[~gone] != 0).any()


# ---- mirroring


def test_mirroring_twice_is_the_same_and_eyes_change_sides() -> None:
    points = torch.randn(4, 15, 2)
    assert torch.equal(mirror(mirror(points)), points)
    image = torch.randn(4, 1, 96, 96)
    assert torch.equal(image.flip(3).flip(3), image)
    left, right = POINTS15.index("left_eye_center"), POINTS15.index("right_eye_center")
    assert torch.equal(mirror(points)[:, right], points[:, left] * torch.tensor([-1.0, 1.0]))
    pairs = {(2 * i, 2 * int(j)) for i, j in enumerate(MIRROR15) if i < j} | {
        (2 * i + 1, 2 * int(j) + 1) for i, j in enumerate(MIRROR15) if i < j
    }
    assert pairs == {(0, 2), (1, 3), (4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18), (15, 19), (22, 24), (23, 25)}
    for i, j in enumerate(MIRROR15):
        assert POINTS15[j] == POINTS15[i].translate({}).replace("left", "?").replace("right", "left").replace("?", "right")


def test_the_answer_for_a_mirrored_picture_is_the_mirrored_answer() -> None:
    torch.manual_seed(0)
    net = TINY.networks()["points"].eval()
    pictures = np.random.default_rng(0).integers(0, 256, (3, 96, 96), dtype=np.uint8)
    straight, spread = TINY.look_at(net, pictures)
    back, _ = TINY.look_at(net, pictures[:, :, ::-1])
    assert np.allclose(back, mirror(torch.from_numpy(straight)).numpy(), atol=1e-5)
    assert spread.shape == (3, 15) and (spread > 0).all()


# ---- examples


def test_seed_examples_are_the_square_as_it_lies() -> None:
    recipe = SeedKeypoints()
    for item in DRAWN:
        example = recipe.example(item, np.random.default_rng(0))
        assert example["image"].shape == (1, 96, 96) and example["points"].shape == (15, 2)
        window = layout.window_of_box(item.faces[0].box)
        points = np.asarray(item.faces[0].points)
        assert np.ptp(window.to_window(points), axis=0).max() == pytest.approx(96 / 1.3)
        assert np.allclose((example["points"] + 1) * 48, window.to_window(points15_of(points)), atol=1e-3)
    with pytest.raises(TrainingError, match="has gaps"):
        recipe.example(gappy(DRAWN[0], 3), np.random.default_rng(0))


def test_a_picture_of_96_px_is_used_as_it_lies() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
    photo = Photo.of(np.repeat(pixels[..., None], 3, 2))
    points = np.random.default_rng(1).uniform(20, 80, (15, 2))
    item = Item("a", lambda: photo, (Face((0, 0, 96, 96), points=points, scheme="kaggle15"),))
    example = SeedKeypoints().example(item, np.random.default_rng(0))
    assert np.array_equal(example["image"], to_network(pixels))
    assert np.allclose((example["points"] + 1) * 48, points, atol=1e-5)


@pytest.mark.parametrize("make", [lambda item: item, lambda item: gappy(item, 4, 11)], ids=["68", "gaps"])
def test_examples_are_pure_and_their_points_lie_on_the_face(make: Any) -> None:
    recipe = Keypoints()
    for seed in range(25):
        item = make(DRAWN[seed % len(DRAWN)])
        one, two = (recipe.example(item, np.random.default_rng(seed)) for _ in range(2))
        assert all(np.array_equal(one[key], two[key]) for key in one)
        assert one["image"].shape == (1, 96, 96) and np.abs(one["image"]).max() <= 1
        there = one["present"][:, 0] > 0
        assert (one["points"][~there] == 0).all() and np.abs(one["points"]).max() < 1.6
        assert there.sum() == (15 if make(DRAWN[0]) is DRAWN[0] else 13)
        assert (one["offset"] == 0).all()
        eyes, mouth = one["points"][:2], one["points"][[12, 13, 14]].mean(0)
        across, down = eyes[0] - eyes[1], mouth - eyes.mean(0)
        assert across[0] * down[1] - across[1] * down[0] > 0  # a face, not a mirrored face


def test_labels_of_video_frames_lose_their_offset_and_the_answer_gets_its_share_back() -> None:
    """Half a step of the labels' grid is taken out before mirroring; the network remembers it."""
    recipe = replace(TINY, plain=1.0, bend=0.0)
    frame = replace(DRAWN[0], facts={"crop_x0": 3.0})
    size = np.sqrt(np.ptp(np.asarray(frame.faces[0].points), axis=0).prod())
    side = layout.side_of(layout.window_of_box(frame.faces[0].box))
    mirrored = set()
    for seed in range(8):  # as it lies, the labels' box fills the square in both orientations
        example = recipe.example(frame, np.random.default_rng(seed))
        assert example["offset"] == pytest.approx(0.016 * size / side)
        shifted = (example["points"] + 1) / 2 + example["offset"]
        plain = recipe.example(DRAWN[0], np.random.default_rng(seed))
        assert np.allclose(shifted, (plain["points"] + 1) / 2, atol=1e-4)
        mirrored.add(bool(example["points"][10, 0] * plain["points"][10, 0] < 0))
    net = TINY.networks()["points"]
    net.get_buffer("offset").fill_(0.0125)
    pictures = np.zeros((1, 96, 96), np.uint8)
    with_share, without = (replace(TINY, kept=kept).predict({"points": net.eval()}, pictures) for kept in (0.6, 0.0))
    assert np.allclose(with_share - without, 0.6 * 0.0125 * 96)


# ---- training


def batch_of(recipe: Any, items: Sequence[Item]) -> dict[str, torch.Tensor]:
    examples = [recipe.example(item, np.random.default_rng(i)) for i, item in enumerate(items)]
    return {key: torch.from_numpy(np.stack([e[key] for e in examples])) for key in examples[0]}


@pytest.mark.parametrize(
    ("recipe", "steps"), [(replace(TINY, widths=(8, 16, 16, 16), rate=1e-2), 40), (SeedKeypoints(), 6)], ids=["best", "seed"]
)
def test_every_parameter_gets_a_gradient_and_a_few_faces_are_learnt(recipe: Any, steps: int) -> None:
    torch.manual_seed(0)
    nets, stage = recipe.networks(), recipe.stages()[0]
    run = Run(nets, stage.optimizers(nets), stage, 0, torch.device("cpu"))
    batch = batch_of(recipe, DRAWN[:4])
    before = {name: p.detach().clone() for name, p in nets["points"].named_parameters()}
    losses = [float(recipe.step(run, batch)["loss"])]
    changed = {name: bool((p != before[name]).any()) for name, p in nets["points"].named_parameters()}
    assert all(changed.values()), [name for name, moved in changed.items() if not moved]
    losses += [float(recipe.step(run, batch)["loss"]) for _ in range(steps)]
    assert min(losses[-5:]) < 0.6 * losses[0]
    assert recipe.preview(run, batch).dtype == np.uint8
    assert nets["points"].training


@dataclass(frozen=True)
class Scripted(SeedKeypoints):
    """Measures what it is told, and remembers the weights it was asked about."""

    script: tuple[float, ...] = ()
    seen: ClassVar[list[dict[str, torch.Tensor]]] = []

    def measure(self, nets: Mapping[str, nn.Module], items: Sequence[Item], tools: Tools) -> dict[str, float]:
        self.seen.append({name: value.detach().clone() for name, value in nets["points"].state_dict().items()})
        return {"rmse_96": self.script[len(self.seen) - 1], "n": 1.0}


@pytest.mark.parametrize(
    ("script", "best", "measured"), [((4, 3, 9), 1, 3), ((4, 5, 6, 3), 0, 3)], ids=["worse last", "early stop"]
)
def test_the_best_epoch_is_what_is_used(tmp_path: Any, script: tuple[float, ...], best: int, measured: int) -> None:
    recipe = Scripted(batch=2, epochs=len(script), patience=2, script=script)
    recipe.seen.clear()
    options: dict[str, Any] = {"workers": 0, "quiet": True, "precision": "fp32", "system": "keypoint-cnn"}
    path = train(recipe, DRAWN[:2], tmp_path / "run", validation=DRAWN[2:4], tools=Tools(None), **options)
    assert len(recipe.seen) == measured
    weights, card = store.read(path)
    assert card.measured[0].value == script[best]
    for name, value in recipe.seen[best].items():
        assert torch.allclose(weights[f"points.{name}"].float(), value, atol=2e-4)
    last = recipe.seen[-1]["fc3.weight"]
    assert not torch.allclose(weights["points.fc3.weight"].float(), last, atol=1e-5)


def test_without_folds_rows_are_held_back() -> None:
    items = [replace(DRAWN[0], name=f"{i}.png", person=f"p{i // 3}") for i in range(1200)]
    learnt, held = SeedKeypoints().split(items, [])
    assert [i.name for i in held] == [f"{i}.png" for i in range(100)] and len(learnt) == 1100
    learnt, held = Keypoints().split(items, [])
    assert len(held) == 120 and not {i.person for i in learnt} & {i.person for i in held}
    for recipe in (SeedKeypoints(), Keypoints(), Recipe()):
        assert recipe.split(items[:9], items[9:12]) == (items[:9], items[9:12])
        assert len(recipe.split(items[:9], [])[0]) == 9


# ---- use


class Answers(nn.Module):
    """Instead of a network: the same points for every picture."""

    def __init__(self, points: np.ndarray) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.tensor(points, dtype=torch.float32))
        self.register_buffer("offset", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> Found:
        return self.points.expand(len(x), -1, -1)


def test_heads() -> None:
    a, b = torch.zeros(2, 15, 2), torch.ones(2, 15, 2)
    assert torch.equal(answer((a, b, a)), torch.full((2, 15, 2), 0.5)) and len(heads((a, b, a))) == 2
    assert torch.equal(answer(b), b)


def test_points_of_a_large_photo_are_the_affine_map_of_the_96_px_answer() -> None:
    """4000 x 3000: within one pixel of the photo, though the network's picture is twelve times coarser."""

    class Dots(nn.Module):
        """Finds the brightest place of the picture, for every point."""

        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(1))
            self.register_buffer("offset", torch.zeros(2))

        def forward(self, x: torch.Tensor) -> Found:
            weight = ((x[:, 0] + 1) / 2).clamp_min(0) ** 4
            at = (torch.arange(96) + 0.5) / 48 - 1
            total = weight.sum((1, 2))
            place = torch.stack([(weight.sum(1) * at).sum(1) / total, (weight.sum(2) * at).sum(1) / total], 1)
            return place[:, None].expand(-1, 15, -1) * self.one

    photo = np.zeros((3000, 4000, 3), np.uint8)
    box, dot = (1500.0, 900.0, 2300.0, 1800.0), np.array([2003.0, 1291.0])
    import cv2

    cv2.circle(photo, tuple(((dot - 0.5) * 16).astype(int).tolist()), 60 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    recipe = SeedKeypoints()
    window = layout.first_window(box)
    assert layout.side_of(window) == pytest.approx(1.3 * 900)
    centre = window.to_photo(np.array([48.0, 48.0]))
    assert np.allclose(centre, (1900, 1350 - 0.08 * 900))
    points, _ = recipe.look(Dots(), photo, [window])
    found, _ = recipe.look_at(Dots(), grey(window.cut(photo))[None])
    assert np.allclose(points[0], window.to_photo((found[0] + 1) * 48), atol=1e-6)
    assert np.abs(points[0] - dot).max() < 1  # and that is where the dot is


def test_a_second_look_is_taken_about_the_points_found() -> None:
    recipe, mean = TINY, layout.mean_layout()
    box = (100.0, 80.0, 180.0, 170.0)
    points, spread, sides = recipe.locate(Answers(mean), np.zeros((300, 300, 3), np.uint8), [box])
    first = layout.first_window(box)
    assert np.allclose(
        points[0], first.to_photo((mean + 1) * 48), atol=0.1
    )  # the answer is the mean: the second square is the first
    assert sides[0] == pytest.approx(layout.side_of(first), rel=1e-3) and spread.shape == (1, 15)
    empty = recipe.locate(Answers(mean), np.zeros((9, 9, 3), np.uint8), [])
    assert [part.shape for part in empty] == [(0, 15, 2), (0, 15), (0,)]


def test_landmarks_keep_boxes_and_doubt_what_is_no_face() -> None:
    mean = layout.mean_layout()
    photo = Photo.of(np.zeros((120, 240, 3), np.uint8))
    faces = tuple(Face((x, 20.0, x + 50, 75.0), score=0.5 + x / 1000) for x in (10.0, 90.0))
    for recipe in (TINY, SeedKeypoints()):
        out = recipe.landmarks({"points": Answers(mean)}, photo, faces)
        assert [f.box for f in out] == [f.box for f in faces] and [f.score for f in out] == [f.score for f in faces]
        assert all(f.scheme == "kaggle15" and f.points is not None and f.pose is None and f.doubt is None for f in out)
        assert recipe.landmarks({"points": Answers(mean)}, photo, ()) == ()
    (upside,) = SeedKeypoints().landmarks({"points": Answers(mean * [1, -1])}, photo, faces[:1])
    assert upside.doubt == "the eyes are below the mouth"


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (40, 2)])
def test_boxes_far_outside_tiny_photos(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    boxes = [(-500.0, -500.0, -300.0, -290.0), (0.0, 0.0, 1.0, 1.0)]
    points, spread, _ = TINY.locate(TINY.networks()["points"].eval(), np.zeros((*size, 3), np.uint8), boxes)
    assert np.isfinite(points).all() and np.isfinite(spread).all()


def test_measure_by_hand() -> None:
    """Labels one window pixel right of the answer, some missing: an error of 1 in x and 0 in y is 0.707 over both."""
    mean = layout.mean_layout()
    pixels = np.zeros((96, 96, 3), np.uint8)
    items = []
    for shift in (1.0, 1.0):
        points = (mean + 1) * 48 + (shift, 0)
        points[[3, 7]] = np.nan
        items.append(Item(f"{len(items)}", lambda: Photo.of(pixels), (Face((0, 0, 96, 96), points=points, scheme="kaggle15"),)))
    figures = SeedKeypoints().measure({"points": Answers(mean)}, items, Tools(metrics))
    assert figures["n"] == 2 and figures["rmse_96"] == pytest.approx(0.5**0.5, abs=1e-4)
    assert figures["nme_box"] == pytest.approx(1 / (96 / 1.3), rel=1e-3)
    drawn = SeedKeypoints().measure({"points": Answers(mean)}, DRAWN, Tools(metrics))
    assert drawn["n"] == len(DRAWN) and 1 < drawn["rmse_96"] < 20
    none = SeedKeypoints().measure({"points": Answers(mean)}, [], Tools(metrics))
    assert none["n"] == 0 and np.isnan(none["rmse_96"])


def test_windows() -> None:
    net = Points15((4, 8, 8, 8), (1, 1, 1), 8).eval()
    read, regressed, logits = net(torch.zeros(1, 1, 96, 96))
    assert read.shape == regressed.shape == (1, 15, 2) and logits.shape == (1, 15, 24, 24)
    assert torch.allclose(regressed[0], torch.tensor(layout.mean_layout(), dtype=torch.float32), atol=0.1)
    assert isinstance(layout.labelled_window(DRAWN[0], DRAWN[0].faces[0]), Window)


# Found once on the one real portrait, and looked at.
ASTRONAUT = [
    (248.8, 104.6), (204.4, 102.1), (240.3, 104.7), (256.9, 104.6), (212.9, 103.2), (196.5, 101.1), (240.0, 91.9), (266.5, 94.2),
    (214.4, 90.6), (188.0, 90.1), (225.3, 130.1), (245.7, 144.2), (203.4, 142.3), (224.7, 141.4), (223.8, 155.7),
]  # fmt: skip


@pytest.mark.skipif(catalog.SYSTEMS["keypoint-cnn"].bundled is None, reason="no weights came with this version")
def test_trained_weights_on_the_astronaut() -> None:
    import skimage.data

    loaded = catalog.load("keypoint-cnn", "cpu")
    photo = Photo.of(skimage.data.astronaut())
    (face, sky) = loaded.recipe.landmarks(
        loaded.nets, photo, (Face((168.0, 74.0, 284.0, 188.0)), Face((20.0, 330.0, 130.0, 450.0)))
    )
    assert face.points is not None and face.spread is not None
    assert np.linalg.norm(face.points - ASTRONAUT, axis=1).mean() < 1.5
    assert face.doubt is None and face.spread.max() < 2
    assert sky.doubt is not None  # a sleeve
