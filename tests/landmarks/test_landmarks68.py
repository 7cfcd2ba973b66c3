"""The 68-point system: network, losses, examples, geometry, use; the trained weights on the one real portrait."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from visagist.landmarks import landmarks68 as room
from visagist.landmarks.landmarks68 import Landmarks68, Points68
from visagist.photo.face import MIRROR68, Face, box_of_points
from visagist.photo.photo import Photo
from visagist.recipe import Item, Run, Tools
from visagist.training import metrics

TINY = Landmarks68(window=64, widths=(8, 16, 16, 24), blocks=(1, 1, 1), map_width=16)


def face_item(seed: int, size: int = 200) -> Item:
    """A picture of nothing but coloured dots at the points of a turned mean face: enough to learn from and to check geometry."""
    rng = np.random.default_rng(seed)
    angle, side = rng.normal(0, 0.15), rng.uniform(70, 110)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = room.mean_face() @ turn.T * side + size / 2 + rng.normal(0, 8, 2)
    pixels = np.full((size, size, 3), 90, np.uint8)
    for i, (x, y) in enumerate(points):
        x0, y0 = int(x), int(y)
        pixels[y0 - 2 : y0 + 3, x0 - 2 : x0 + 3] = (60 + 2 * i, 250 - 3 * i, (i * 37) % 256)
    photo = Photo.of(pixels)
    return Item(f"dots{seed}.png", lambda: photo, (Face.of_points(points),))


def test_parameter_count() -> None:
    assert sum(p.numel() for p in Landmarks68().networks()["points"].parameters()) == 2_812_108


def test_mean_face_is_symmetric_and_fills_the_box() -> None:
    mean = room.mean_face()
    assert np.allclose((mean * [-1, 1])[MIRROR68], mean)
    assert np.allclose(box_of_points(mean), (-0.5, -0.475, 0.5, 0.475), atol=0.002)


def test_fresh_network_answers_with_the_mean_face() -> None:
    torch.manual_seed(0)
    net = TINY.networks()["points"].eval()
    read, regressed, logits = net(torch.zeros(2, 3, 64, 64))
    assert read.shape == regressed.shape == (2, 68, 2) and logits.shape == (2, 68, 16, 16)
    mean = torch.tensor(room.mean_face() * 2 / TINY.margin, dtype=torch.float32)
    assert torch.allclose(regressed, mean.expand(2, -1, -1), atol=0.1)


def test_map_is_read_at_cell_centres() -> None:
    """A map that is one hot cell gives that cell's centre in window units."""
    net = TINY.networks()["points"]
    assert isinstance(net, Points68)
    assert torch.allclose(net.positions[:2], torch.tensor([-1 + 1 / 16, -1 + 3 / 16]))
    assert torch.allclose(net.positions, -net.positions.flip(0))


def test_huber() -> None:
    truth = torch.zeros(1, 1, 2)
    near, far = torch.tensor([[[0.006, 0.008]]]), torch.tensor([[[0.3, 0.4]]])
    assert room.huber(near, truth, 0.03).item() == pytest.approx(0.01**2 / 0.06, rel=1e-4)
    assert room.huber(far, truth, 0.03).item() == pytest.approx(0.5 - 0.015, rel=1e-5)


def test_map_loss_is_least_for_the_target_and_then_its_entropy() -> None:
    positions = (torch.arange(16) * 2 + 1.0) / 16 - 1
    truth = torch.tensor([[[0.1, -0.3]]])
    bell = torch.exp(-(truth[..., :1] - positions).square() / (2 * 0.1**2))
    bell_y = torch.exp(-(truth[..., 1:] - positions).square() / (2 * 0.1**2))
    target = (bell_y / bell_y.sum()).unsqueeze(-1) * (bell / bell.sum()).unsqueeze(-2)
    entropy = -(target * target.clamp_min(1e-30).log()).sum()
    best = room.map_loss(target.clamp_min(1e-30).log(), truth, positions, 0.1)
    assert best.item() == pytest.approx(entropy.item(), rel=1e-4)
    assert room.map_loss(torch.zeros(1, 1, 16, 16), truth, positions, 0.1).item() == pytest.approx(np.log(256), rel=1e-4)


def test_example_is_pure_and_in_range() -> None:
    recipe, item = Landmarks68(), face_item(1)
    for seed in range(30):
        one, two = (recipe.example(item, np.random.default_rng(seed)) for _ in range(2))
        assert all(np.array_equal(one[key], two[key]) for key in ("image", "points"))
        assert one["image"].shape == (3, 112, 112) and one["image"].dtype == np.float32
        assert one["points"].shape == (68, 2) and one["points"].dtype == np.float32
        assert -1 <= one["image"].min() and one["image"].max() <= 1
        assert np.abs(one["points"]).max() < 1.35


def test_examples_of_a_mirrored_item_are_the_mirrored_examples() -> None:
    """Left and right points change places with the picture: labels stay in the order that the picture shows."""
    recipe = replace(Landmarks68(), bend=0.0)
    for seed in range(12):
        points = recipe.example(face_item(2), np.random.default_rng(seed))["points"]
        jaw, eyes = points[[0, 16]], points[[36, 45]]
        across, eye_line = jaw[1] - jaw[0], eyes[1] - eyes[0]
        assert across @ eye_line > 0
        chin = points[8] - points[27]
        assert across[0] * chin[1] - across[1] * chin[0] > 0  # a face, not a mirrored face


def test_labels_of_video_frames_lose_their_constant_offset() -> None:
    """A half step of the label grid, known to be there by the columns of that set; other labels are taken as they are."""
    recipe, plain = Landmarks68(), face_item(3)
    frame = replace(plain, facts={"crop_x0": 12.0})
    face = plain.faces[0]
    assert face.points is not None
    assert np.array_equal(recipe.true_points(plain, face), face.points)
    size = np.sqrt(np.ptp(face.points, axis=0).prod())
    assert np.allclose(face.points - recipe.true_points(frame, face), 0.016 * size)
    net = Answers(room.mean_face() * 2 / recipe.margin)
    figures = recipe.measure({"points": net}, [frame], Tools(metrics, lambda photo: frame.faces))
    assert figures["nme_box"] != figures["nme_box_centred"]
    figures = recipe.measure({"points": net}, [plain], Tools(metrics, lambda photo: plain.faces))
    assert figures["nme_box"] != figures["nme_box_centred"]  # what the answer keeps counts against exact labels
    exact = Landmarks68(kept=0.0).measure({"points": net}, [plain], Tools(metrics, lambda photo: plain.faces))
    assert exact["nme_box"] == exact["nme_box_centred"] == pytest.approx(figures["nme_box_centred"])


def test_the_answer_keeps_its_share_of_the_offset() -> None:
    net, box = Answers(room.mean_face() * 2 / Landmarks68().margin), (20.0, 20.0, 70.0, 70.0)
    pixels = np.zeros((90, 90, 3), np.uint8)
    with_share, without = (Landmarks68(kept=kept).locate(net, pixels, [box])[0] for kept in (0.6, 0.0))
    size = np.sqrt(np.ptp(without, axis=0).prod())
    assert np.allclose(with_share - without, 0.6 * 0.016 * size)


def test_windows_show_the_face_where_the_mean_face_lies() -> None:
    recipe = Landmarks68()
    points = room.mean_face() * 80 + np.array([300.0, 200.0])
    first = recipe.first_window(box_of_points(points)).to_window(points)
    second = recipe.second_window(points).to_window(points)
    assert np.allclose(first, second, atol=0.2)
    assert np.allclose(np.ptp(second[:, 0]), 112 / 1.3 / 1.1, atol=0.2)


def test_every_parameter_gets_a_gradient_and_the_loss_falls() -> None:
    """Tiny overfit: after some steps on four pictures the points are close."""
    torch.manual_seed(0)
    recipe = replace(TINY, batch=4, rate=3e-3, steps=200_000)  # no decay of the rate within these few steps
    nets, stage = recipe.networks(), recipe.stages()[0]
    assert stage.optimizers is not None
    run = Run(nets, stage.optimizers(nets), stage, 0, torch.device("cpu"))
    calm = replace(recipe, aligned=1.0, scale=0.0, shift=0.0, bend=0.0, shear=0.0)
    examples = [calm.example(face_item(i), np.random.default_rng(i)) for i in range(3)]
    batch = {key: torch.from_numpy(np.stack([e[key] for e in examples])) for key in examples[0]}
    losses = [float(recipe.step(run, batch)["loss"])]
    nets["points"].zero_grad()
    total, _ = recipe.loss(nets["points"], nets["points"](batch["image"]), batch["points"])
    total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in nets["points"].parameters())
    losses += [float(recipe.step(run, batch)["loss"]) for _ in range(60)]
    assert losses[-1] < losses[1] / 2
    assert recipe.preview(run, batch).dtype == np.uint8


class Answers(torch.nn.Module):
    """Instead of a network: the same points for every window."""

    def __init__(self, points: np.ndarray) -> None:
        super().__init__()
        self.points = torch.nn.Parameter(torch.tensor(points, dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        points = self.points.expand(len(x), -1, -1)
        return points, points, torch.zeros(1)


def test_locate_goes_back_to_the_photo() -> None:
    recipe = Landmarks68(kept=0.0)
    points = room.mean_face() * 80 + np.array([120.0, 100.0])
    net = Answers(room.mean_face() * 2 / recipe.margin)
    pixels = np.zeros((200, 240, 3), np.uint8)
    for passes in (1, 2):
        found = recipe.locate(net, pixels, [box_of_points(points)] * 2, passes=passes)
        assert found.shape == (2, 68, 2) and np.abs(found - points).max() < 0.5
    assert recipe.locate(net, pixels, []).shape == (0, 68, 2)


def test_landmarks_keep_order_boxes_and_scores() -> None:
    recipe = Landmarks68()
    net = Answers(room.mean_face() * 2 / recipe.margin)
    faces = tuple(Face((x, 20.0, x + 50, 75.0), score=0.5 + x / 1000) for x in (10.0, 90.0, 150.0))
    out = recipe.landmarks({"points": net}, Photo.of(np.zeros((100, 240, 3), np.uint8)), faces)
    assert [f.box for f in out] == [f.box for f in faces] and [f.score for f in out] == [f.score for f in faces]
    assert all(f.scheme == "ibug68" and f.pose is not None and f.points is not None for f in out)
    assert recipe.landmarks({"points": net}, Photo.of(np.zeros((9, 9, 3), np.uint8)), ()) == ()


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (40, 2)])
def test_boxes_far_outside_tiny_photos(size: tuple[int, int]) -> None:
    recipe = Landmarks68()
    net = Answers(room.mean_face() * 2 / recipe.margin)
    found = recipe.locate(net, np.zeros((*size, 3), np.uint8), [(-500.0, -500.0, -300.0, -290.0), (0.0, 0.0, 1.0, 1.0)])
    assert np.isfinite(found).all()


def test_measure_counts_faces_that_were_not_found_as_failures() -> None:
    recipe = Landmarks68()
    items = [face_item(i) for i in range(3)]
    net = Answers(room.mean_face() * 2 / recipe.margin)
    perfect = Tools(metrics, lambda photo: next(item.faces for item in items if item.photo is photo))
    figures = recipe.measure({"points": net}, items, perfect)
    assert figures["n"] == 3 and figures["failure_rate"] < 0.5 and figures["nme_box"] < 0.10
    nothing = recipe.measure({"points": net}, items, Tools(metrics, lambda photo: ()))
    assert nothing["failure_rate"] == 1 and np.isnan(nothing["nme_box"])
    elsewhere = recipe.measure({"points": net}, items, Tools(metrics, lambda photo: (Face((0.0, 0.0, 8.0, 8.0)),)))
    assert elsewhere["failure_rate"] == 1
    assert recipe.measure({"points": net}, items, Tools(metrics))["n"] == 3


# The trained weights on the one real portrait: every second point, found once and looked at.
ASTRONAUT = {
    0: (177.2, 99.6), 4: (184.2, 145.8), 8: (221.8, 177.3), 12: (262.9, 150.5), 16: (274.1, 105.1), 17: (187.2, 89.7),
    19: (200.7, 86.4), 21: (213.2, 89.7), 22: (239.1, 91.0), 24: (251.7, 88.8), 26: (264.8, 93.8), 27: (225.3, 104.0),
    30: (224.1, 128.3), 33: (223.7, 133.4), 36: (195.7, 100.0), 39: (212.1, 102.1), 42: (239.0, 103.5), 45: (255.3, 103.4),
    48: (202.3, 140.6), 51: (223.4, 139.7), 54: (244.8, 142.8), 57: (222.7, 154.6), 62: (223.3, 142.2), 66: (223.0, 149.1),
}  # fmt: skip


def test_trained_weights_on_the_astronaut() -> None:
    import skimage.data

    from visagist import catalog

    loaded = catalog.load("landmarks68", "cpu")
    portrait = skimage.data.astronaut()
    rough = Face((168.0, 74.0, 284.0, 188.0))
    (face,) = loaded.recipe.landmarks(loaded.nets, Photo.of(portrait), (rough,))
    assert face.points is not None and face.pose is not None and face.box == rough.box
    off = {i: np.hypot(*(face.points[i] - place)) for i, place in ASTRONAUT.items()}
    assert np.mean(list(off.values())) < 1.7 and max(off.values()) < 4  # 1.1 of it is the offset that the answer keeps
    assert abs(face.pose.yaw) < 5 and abs(face.pose.roll - 3) < 3
    # mirrored, the same features
    exact = replace(loaded.recipe, kept=0.0)
    (features,) = exact.landmarks(loaded.nets, Photo.of(portrait), (rough,))
    (mirrored,) = exact.landmarks(loaded.nets, Photo.of(portrait[:, ::-1].copy()), (rough.mirrored(512),))
    assert np.abs(mirrored.mirrored(512).points - features.points).max() < 1.5
    # enlarged and hanging over the edge
    import cv2

    large = cv2.resize(portrait[60:, 160:], None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    (big,) = loaded.recipe.landmarks(loaded.nets, Photo.of(large), (Face((32.0, 56.0, 496.0, 512.0)),))
    assert big.points is not None
    assert np.linalg.norm(big.points / 4 + (160, 60) - face.points, axis=1).mean() < 1.5
