"""YOLO v1: the sheet's sizes, the encoding, every identity of the loss, decoding, and that it learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from visagist.detect import yolo
from visagist.detect.yolo import FaceSheetNet, PaperNet, Yolo, YoloFaceSheet, decode, encode, yolo_loss
from visagist.photo.face import Face
from visagist.photo.photo import Photo
from visagist.recipe import Item, Run

S, P, C = 7, 2, 3
DEPTH = P * 5 + C


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


# ---- networks ----


def test_the_paper_network_has_the_papers_size_and_shape() -> None:
    with torch.device("meta"):
        net = PaperNet()
        out = net(torch.empty(2, 3, 448, 448))
    assert parameters(net) == 271_703_550
    assert sum(parameters(m) for m in net if isinstance(m, nn.Conv2d)) == 60_155_968
    assert [parameters(m) for m in net if isinstance(m, nn.Linear)] == [205_524_992, 6_022_590]
    assert len([m for m in net if isinstance(m, nn.Conv2d)]) == 24
    assert out.shape == (2, 7, 7, 30)
    assert isinstance(net[-1], nn.Unflatten)
    assert isinstance(net[-2], nn.Linear)  # the last layer is linear


def test_the_face_sheet_network_has_the_sheets_size_and_takes_any_grid() -> None:
    net = FaceSheetNet()
    assert parameters(net) == 986_267
    with torch.device("meta"):
        far = FaceSheetNet()
        assert far(torch.empty(1, 3, 224, 224)).shape == (1, 7, 7, 11)
        assert far(torch.empty(1, 3, 448, 448)).shape == (1, 14, 14, 11)


def test_settings_agree_with_the_networks() -> None:
    assert (Yolo().cells, len(Yolo().names), YoloFaceSheet().cells) == (7, 20, 7)
    with torch.device("meta"):
        assert parameters(Yolo().networks()["yolo"]) == 271_703_550
        assert parameters(YoloFaceSheet().networks()["yolo"]) == 986_267


def test_every_parameter_gets_a_gradient() -> None:
    recipe = YoloFaceSheet(side=64)
    nets = recipe.networks()
    truth = torch.zeros(2, 2, 2, 6)
    truth[:, 0, 1] = torch.tensor([0.5, 0.5, 0.4, 0.4, 1.0, 1.0])
    terms = yolo_loss(nets["yolo"](torch.randn(2, 3, 64, 64)), truth, torch.ones(2, 2, 2), 2)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    for name, p in nets["yolo"].named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


# ---- encoding and decoding ----


def said(truth: np.ndarray) -> torch.Tensor:
    """What a network says that has learned this target by heart, with its second predictor."""
    out = torch.zeros(*truth.shape[:2], P * 5 + truth.shape[2] - 5, dtype=torch.float64)
    t = torch.from_numpy(truth).double()
    out[..., 5:10] = torch.stack([t[..., 0], t[..., 1], t[..., 2].sqrt(), t[..., 3].sqrt(), t[..., 4]], -1)
    out[..., 10:] = t[..., 5:]
    return out


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_decoding_gives_back_what_was_encoded(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.permutation(S * S)[:count]  # one box per cell
    centres = (np.stack([cells % S, cells // S], 1) + rng.uniform(0.001, 0.999, (count, 2))) / S
    half = rng.uniform(0.006, 1, (count, 2)) / 2
    boxes, classes = np.hstack([centres - half, centres + half]), rng.integers(0, C, count)
    out = said(encode(boxes, classes, S, C)["truth"])
    found, scores = decode(out, P)
    assert found.shape == (S * S * P, 4) and scores.shape == (S * S * P, C)
    kept = np.flatnonzero(scores.max(1) > 0.5)
    assert len(kept) == count
    order = {int(cell): i for i, cell in enumerate(cells)}
    for k in kept:
        i = order[k // P]
        np.testing.assert_allclose(found[k], boxes[i], atol=1e-5)
        assert scores[k].argmax() == classes[i]


def test_two_boxes_in_a_cell_leave_the_first() -> None:
    boxes = np.array([[0.1, 0.1, 0.18, 0.18], [0.07, 0.05, 0.17, 0.2]])
    for order in ([0, 1], [1, 0]):
        truth = encode(boxes[order], np.array(order), S, C)["truth"]
        assert truth[..., 4].sum() == 1
        kept = truth[truth[..., 4] == 1][0]
        assert kept[2] == pytest.approx(boxes[order[0], 2] - boxes[order[0], 0])
        assert kept[5 + order[0]] == 1 and kept[5:].sum() == 1


def test_encoding_at_the_edges() -> None:
    corner = encode(np.array([[0.9, 0.9, 1.1, 1.1]]), np.array([0]), S, C)["truth"]  # centre at 1, 1: the last cell
    assert corner[6, 6, 4] == 1 and corner[6, 6, 0] == pytest.approx(1)
    assert not encode(np.array([[0.5, 0.5, 0.504, 0.9]]), np.array([0]), S, C)["truth"].any()  # too thin
    assert not encode(np.zeros((0, 4)), np.zeros(0, int), S, C)["truth"].any()
    away = encode(np.array([[0.8, 0.0, 1.4, 0.5]]), np.array([0]), S, C)  # centre outside: ignored where it is seen
    assert not away["truth"].any()
    assert away["asked"][1, 6] == 0 and away["asked"].sum() < S * S


def test_cells_under_ignored_faces_are_not_asked_unless_they_hold_a_face() -> None:
    boxes = np.array([[0.3, 0.3, 0.7, 0.7], [0.45, 0.45, 0.55, 0.55]])
    made = encode(boxes, np.array([-1, 0]), S, 1)
    assert made["asked"][2, 2] == 0 and made["asked"][3, 3] == 1 and made["asked"][0, 0] == 1
    assert made["truth"][3, 3, 4] == 1
    tiny = encode(np.array([[0.01, 0.01, 0.03, 0.03]]), np.array([-1]), S, 1)
    assert tiny["asked"][0, 0] == 0 and tiny["asked"].sum() == S * S - 1


def test_scores_are_class_times_confidence_and_a_negative_root_means_its_square() -> None:
    out = torch.zeros(S, S, DEPTH)
    out[2, 3, :5] = torch.tensor([0.5, 0.5, -0.6, 0.5, 0.5])
    out[2, 3, 10:] = torch.tensor([0.2, 0.8, 1.7])
    boxes, scores = decode(out, P)
    k = (2 * S + 3) * P
    np.testing.assert_allclose(scores[k], [0.1, 0.4, 0.5], atol=1e-6)
    np.testing.assert_allclose(boxes[k], [0.5 - 0.18, 2.5 / 7 - 0.125, 0.5 + 0.18, 2.5 / 7 + 0.125], atol=1e-6)


# ---- loss ----


def slow_loss(out: np.ndarray, truth: np.ndarray, asked: np.ndarray, rescore: bool) -> float:
    """Equation 3 with its sums as loops, in double precision."""

    def corners(column: int, row: int, x: float, y: float, w: float, h: float) -> tuple[float, ...]:
        cx, cy = (x + column) / S, (y + row) / S
        return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2

    total = 0.0
    for n in range(len(out)):
        for row in range(S):
            for column in range(S):
                said, true = out[n, row, column], truth[n, row, column]
                answering, iou = -1, [0.0] * P
                if true[4]:
                    t = corners(column, row, *true[:4])
                    gaps = []
                    for b in range(P):
                        x, y, rw, rh, _ = said[5 * b : 5 * b + 5]
                        f = corners(column, row, x, y, rw * rw, rh * rh)
                        common = max(0.0, min(t[2], f[2]) - max(t[0], f[0])) * max(0.0, min(t[3], f[3]) - max(t[1], f[1]))
                        iou[b] = common / (true[2] * true[3] + rw * rw * rh * rh - common)
                        gaps.append(
                            math.dist(
                                ((x + column) / S, (y + row) / S, rw * rw, rh * rh), (*(np.add(t[:2], t[2:]) / 2), *true[2:4])
                            )
                        )
                    answering = int(np.argmax(iou)) if max(iou) > 0 else int(np.argmin(gaps))
                    total += sum((said[5 * P + c] - true[5 + c]) ** 2 for c in range(C))
                for b in range(P):
                    x, y, rw, rh, confidence = said[5 * b : 5 * b + 5]
                    if b == answering:
                        total += 5 * ((x - true[0]) ** 2 + (y - true[1]) ** 2)
                        total += 5 * ((rw - math.sqrt(true[2])) ** 2 + (rh - math.sqrt(true[3])) ** 2)
                        total += (confidence - (iou[b] if rescore else 1.0)) ** 2
                    elif asked[n, row, column]:
                        total += 0.5 * confidence**2
    return total / len(out)


def random_case(seed: int, *, far: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random answers and targets in double precision; `far`: every answer is too far away to overlap."""
    rng = np.random.default_rng(seed)
    out = rng.normal(0, 0.6, (3, S, S, DEPTH))
    if far:
        out[..., [0, 1, 5, 6]] += rng.choice([-60, 60], (3, S, S, 4))
    truth, asked = np.zeros((3, S, S, 5 + C)), (rng.random((3, S, S)) < 0.9).astype(float)
    here = rng.random((3, S, S)) < 0.2
    here[2] = False  # a picture without objects
    truth[here, :2], truth[here, 2:4], truth[here, 4] = rng.random((here.sum(), 2)), rng.uniform(0.01, 1, (here.sum(), 2)), 1
    truth[(*np.nonzero(here), 5 + rng.integers(0, C, here.sum()))] = 1
    asked[here] = 1
    a, b, c = (torch.from_numpy(v) for v in (out, truth, asked))
    return a, b, c


@pytest.mark.parametrize("rescore", [True, False])
@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_loss_equals_the_loops(seed: int, far: bool, rescore: bool) -> None:
    out, truth, asked = random_case(seed, far=far)
    fast = sum(yolo_loss(out, truth, asked, P, rescore=rescore).values())
    assert float(fast) == pytest.approx(slow_loss(out.numpy(), truth.numpy(), asked.numpy(), rescore), abs=1e-6, rel=1e-9)
    if far:
        s = yolo.whole_boxes(*(out[..., i : i + 1] for i in (0, 1)), *(out[..., i : i + 1] ** 2 for i in (2, 3)))
        t = yolo.whole_boxes(*(truth[..., i : i + 1] for i in range(4)))
        assert not yolo.paired_iou(s, t)[truth[..., 4] == 1].any()  # the case is the one that is meant


def test_the_weights_of_the_terms() -> None:
    """One object, one wrong number at a time, by hand."""
    truth = torch.zeros(1, S, S, 5 + C)
    truth[0, 3, 3] = torch.tensor([0.5, 0.5, 0.25, 0.25, 1, 0, 1, 0])
    right = torch.zeros(1, S, S, DEPTH)
    right[0, 3, 3] = torch.tensor([0.5, 0.5, 0.5, 0.5, 1, 0, 0, 0, 0, 0, 0, 1, 0])
    asked = torch.ones(1, S, S)

    def terms(index: tuple[int, ...], by: float) -> dict[str, float]:
        out = right.clone()
        out[(0, *index)] += by
        return {name: float(v) for name, v in yolo_loss(out, truth, asked, P, rescore=False).items()}

    assert all(v == pytest.approx(0, abs=1e-12) for v in terms((3, 3, 0), 0.0).values())
    assert terms((3, 3, 0), 0.1)["centre"] == pytest.approx(5 * 0.01)
    assert terms((3, 3, 2), 0.1)["size"] == pytest.approx(5 * 0.01)
    assert terms((3, 3, 4), -0.3)["object"] == pytest.approx(0.09)
    assert terms((3, 3, 9), 0.3)["empty"] == pytest.approx(0.5 * 0.09)  # the idle predictor of the object's cell
    assert terms((0, 0, 4), 0.3)["empty"] == pytest.approx(0.5 * 0.09)
    assert terms((3, 3, 10), 0.3)["class"] == pytest.approx(0.09)
    assert sum(terms((0, 0, 10), 0.3).values()) == pytest.approx(0, abs=1e-12)  # classes of empty cells are free
    assert sum(terms((0, 0, 2), 0.3).values()) == pytest.approx(0, abs=1e-12)  # and so are their boxes


@pytest.mark.parametrize("seed", range(3))
def test_empty_cells_move_confidences_only_and_no_gradient_goes_through_the_iou(seed: int) -> None:
    out, truth, asked = random_case(seed)
    out.requires_grad_(True)
    terms = yolo_loss(out, truth, asked, P)
    (gradient,) = torch.autograd.grad(sum(terms.values()), out, retain_graph=True)  # type: ignore[arg-type]
    empty = truth[..., 4] == 0
    confidences = [4, 9]
    others = [i for i in range(DEPTH) if i not in confidences]
    assert not gradient[empty][:, others].any()
    assert gradient[empty & (asked == 1)][:, confidences].any()
    assert not gradient[empty & (asked == 0)].any()
    (of_object,) = torch.autograd.grad(terms["object"], out)
    assert not of_object[..., others].any()


def test_pictures_without_objects_are_finite_forwards_and_backwards() -> None:
    out = torch.randn(2, S, S, DEPTH, requires_grad=True)
    terms = yolo_loss(out, torch.zeros(2, S, S, 5 + C), torch.ones(2, S, S), P)
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    assert loss.isfinite() and out.grad is not None and out.grad.isfinite().all()
    assert all(not terms[name].detach() for name in ("centre", "size", "object", "class"))


# ---- training and use ----


def square_item(rng: np.random.Generator, *, empty: bool = False) -> Item:
    """A grey picture with one bright square that stands for a face."""
    pixels = rng.integers(60, 90, (96, 128, 3)).astype(np.uint8)
    faces: tuple[Face, ...] = ()
    if not empty:
        side = int(rng.integers(24, 48))
        x, y = int(rng.integers(0, 128 - side)), int(rng.integers(0, 96 - side))
        pixels[y : y + side, x : x + side] = (230, 60, 40)
        faces = (Face(box=(x, y, x + side, y + side)),)
    photo = Photo.of(pixels)
    return Item(name="square", load=lambda: photo, faces=faces)


def stacked(recipe: Yolo, items: list[Item], rng: np.random.Generator) -> dict[str, torch.Tensor]:
    made = [recipe.example(item, rng) for item in items]
    return {k: torch.from_numpy(np.stack([m[k] for m in made])) for k in made[0]}


def test_an_example_moves_boxes_with_the_pixels() -> None:
    rng = np.random.default_rng(5)
    recipe = YoloFaceSheet(side=96, exposure=1.0)
    for _ in range(20):
        made = recipe.example(square_item(rng), rng)
        found, scores = decode(said(made["truth"]), P)
        red = made["image"][..., 0].astype(int) > 150
        if scores.max() < 0.5:
            continue  # the square's centre was cropped away
        ys, xs = np.nonzero(red)
        seen = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        box = np.clip(found[scores[:, 0].argmax()], 0, 1) * 96
        np.testing.assert_allclose(box, seen, atol=1.6)


def test_recolouring_keeps_the_hue_and_never_wraps() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    np.testing.assert_array_equal(yolo._exposed(pixels, 1.0, 1.0), pixels)
    bright = yolo._exposed(pixels, 1.5, 1.0)
    np.testing.assert_allclose(bright.max(-1), np.minimum(pixels.max(-1) * 1.5, 255), atol=0.5)
    vivid = yolo._exposed(pixels, 1.0, 1.5)
    np.testing.assert_array_equal(vivid.max(-1), pixels.max(-1))
    assert (vivid.min(-1) <= pixels.min(-1)).all()
    np.testing.assert_array_equal(vivid.argsort(-1)[..., 2], pixels.argsort(-1)[..., 2])


def test_no_objects_no_nan_in_a_step() -> None:
    recipe = YoloFaceSheet(side=64)
    rng = np.random.default_rng(0)
    stage = recipe.stages()[0]
    nets = recipe.networks()
    assert stage.optimizers is not None
    run = Run(nets, stage.optimizers(nets), stage, 0, torch.device("cpu"))
    scalars = recipe.step(run, stacked(recipe, [square_item(rng, empty=True) for _ in range(4)], rng))
    assert all(v.isfinite() for v in scalars.values())
    assert all(p.isfinite().all() for p in nets["yolo"].parameters())


def test_a_few_pictures_are_learned_by_heart() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    recipe = YoloFaceSheet(side=96, jitter=0.0, exposure=1.0, warm=10, steps=150)
    items = [square_item(rng) for _ in range(6)] + [square_item(rng, empty=True)]
    stage = recipe.stages()[0]
    nets = recipe.networks()
    assert stage.optimizers is not None
    run = Run(nets, stage.optimizers(nets), stage, 0, torch.device("cpu"))
    batch = stacked(recipe, items, rng)
    for run.step in range(150):
        last = recipe.step(run, batch)
    nets["yolo"].eval()
    with torch.no_grad():
        found = [recipe.detect(nets, item.photo, min_score=0.4) for item in items]
    assert sum(float(v) for v in last.values()) < 0.2
    for item, faces in zip(items, found, strict=True):
        assert len(faces) == len(item.faces)
        if faces:
            np.testing.assert_allclose(faces[0].box, item.faces[0].box, atol=10)


def test_the_papers_schedule() -> None:
    recipe = Yolo()
    schedule = recipe.stages()[0].schedule
    assert schedule(0.0) == pytest.approx(0.1)
    assert schedule(10 / 135) == 1 and schedule(74 / 135) == 1
    assert schedule(80 / 135) == 0.1 and schedule(120 / 135) == 0.01


class Fixed(nn.Module):
    """Says the same of every picture: an upright face box in the middle, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = x.shape[-1] // 32
        out = torch.zeros(len(x), s, s, 11)
        out[:, s // 2, s // 2] = torch.tensor([0.5, 0.5, 0.5, 0.7, 0.9, 0.5, 0.5, 0.52, 0.7, 0.8, 1.0])
        return out


def test_detection_stretches_suppresses_and_comes_back_in_photo_pixels() -> None:
    photo = Photo.of(np.zeros((100, 400, 3), np.uint8))
    (face,) = YoloFaceSheet().detect({"yolo": Fixed()}, photo, min_score=0.2)
    np.testing.assert_allclose(face.box, (200 - 50, 50 - 24.5, 200 + 50, 50 + 24.5), atol=1e-4)
    assert face.score == pytest.approx(0.9) and face.label == "face"
    (boxed,) = YoloFaceSheet(letterbox=True).detect({"yolo": Fixed()}, photo, min_score=0.2)
    np.testing.assert_allclose(boxed.box, (200 - 50, 50 - 98, 200 + 50, 50 + 98), atol=1e-4)
    assert YoloFaceSheet().detect({"yolo": Fixed()}, photo, min_score=0.95) == ()


def test_tiles_cover_the_photo_and_overlap_by_a_fifth() -> None:
    parts = YoloFaceSheet(tiles=2).areas((90, 180))
    assert parts[0] == (0, 0, 180, 90) and len(parts) == 5
    np.testing.assert_allclose(parts[1:], [(0, 0, 100, 50), (80, 0, 180, 50), (0, 40, 100, 90), (80, 40, 180, 90)])
    faces = YoloFaceSheet(tiles=2).detect({"yolo": Fixed()}, Photo.of(np.zeros((90, 180, 3), np.uint8)), min_score=0.2)
    assert len(faces) == 5  # one in the middle of each, none suppressing another


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
def test_odd_photos_are_searched(size: tuple[int, int]) -> None:
    recipe = YoloFaceSheet()
    net = FaceSheetNet().eval()
    with torch.no_grad():
        recipe.detect({"yolo": net}, Photo.of(np.zeros((*size, 3), np.uint8)), min_score=0.99)
