"""The small face finder: counts, identities, who answers for whom, and that it learns."""

import math

import numpy as np
import pytest
import torch

from visagist.detect.bodies import Halve
from visagist.detect.yolo_face import (
    MOST,
    REACH,
    STRIDES,
    FaceNet,
    YoloFace,
    answers,
    assign,
    finder_loss,
    paired_iou,
    quality_focal,
)
from visagist.photo.photo import Photo


def no_ignore(size: int) -> torch.Tensor:
    return torch.zeros(size // 4, size // 4, dtype=torch.bool)


def test_exact_parameter_count() -> None:
    with torch.device("meta"):
        net = FaceNet()
    assert sum(p.numel() for p in net.parameters()) == 1_340_100


def test_shapes_and_first_scores() -> None:
    out = answers(FaceNet(4).eval(), torch.zeros(2, 3, 64, 96))
    for (logits, distances), stride in zip(out, STRIDES, strict=True):
        assert logits.shape == (2, 64 // stride, 96 // stride)
        assert distances.shape == (*logits.shape, 4)
        assert (distances > 0).all()
        assert logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize("size", [(10, 6), (9, 6), (4, 7)])
def test_halving_is_max_pooling_in_training_and_in_use(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    assert torch.equal(Halve().eval()(x), Halve().train()(x))
    assert torch.equal(Halve().eval()(x), torch.nn.functional.max_pool2d(x, 2))


def test_the_coarse_strides_alone_say_the_same() -> None:
    net, x = FaceNet(4).eval(), torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        every, coarse = net(x), net(x, 2)
    assert len(coarse) == 2
    assert all(torch.equal(a, b) for pair in zip(every[2:], coarse, strict=True) for a, b in zip(*pair, strict=True))


def test_every_parameter_gets_a_gradient() -> None:
    net = FaceNet(4)
    boxes = torch.tensor([[[8.0, 8, 24, 28], [30, 20, 80, 90], [4, 4, 124, 126], [100, 100, 112, 111]]])
    terms = finder_loss(answers(net, torch.randn(1, 3, 128, 128)), boxes, no_ignore(128)[None])
    (terms["score"] + terms["box"]).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_quality_focal_closed_form() -> None:
    logits = torch.tensor([0.0, 2.0, -3.0])
    quality = torch.tensor([1.0, 0.25, 0.0])
    p = logits.sigmoid()
    expected = (quality - p).abs() ** 2 * -(quality * p.log() + (1 - quality) * (1 - p).log())
    assert torch.allclose(quality_focal(logits, quality), expected, atol=1e-6)
    sure = torch.tensor([math.log(0.7 / 0.3)])
    assert quality_focal(sure, torch.tensor([0.7])).item() == pytest.approx(0.0, abs=1e-12)


def test_paired_iou_by_hand() -> None:
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 2, 2]])
    b = torch.tensor([[1.0, 0, 3, 2], [2, 0, 3, 1], [0, 0, 2, 2]])
    iou, giou = paired_iou(a, b)
    assert iou.tolist() == pytest.approx([2 / 6, 0, 1])
    assert giou.tolist() == pytest.approx([2 / 6, 0 - 1 / 3, 1])


@pytest.mark.parametrize("side", [10.0, 16, 22, 40, 55, 64, 100, 120, 180, 250])
def test_every_size_of_face_is_answered_for(side: float) -> None:
    rng = np.random.default_rng(int(side))
    for _ in range(20):
        x, y = rng.uniform(0, 256 - side, 2)
        index, asked = assign(torch.tensor([[x, y, x + side, y + side]], dtype=torch.float32), no_ignore(256))
        assert (index == 0).any()
        assert asked[index == 0].all()


def test_reach_leaves_no_gap() -> None:
    for (_, high), (low, _) in zip(REACH[:-1], REACH[1:], strict=True):
        assert low < high


def test_the_smaller_of_two_faces_gets_the_cell_and_ignored_cells_are_not_asked() -> None:
    boxes = torch.tensor([[20.0, 20, 60, 60], [32, 32, 56, 56], [0, 0, 0, 0]])
    index, _ = assign(boxes, no_ignore(96))
    stride8 = index[24 * 24 :][: 12 * 12].reshape(12, 12)
    assert stride8[5, 5] == 1  # both claim it
    ignored = no_ignore(96)
    ignored[:6] = True
    index, asked = assign(boxes[2:], ignored)
    assert (index == -1).all()
    asked4, asked8 = asked[: 24 * 24].reshape(24, 24), asked[24 * 24 :][: 12 * 12].reshape(12, 12)
    assert not asked4[:6].any() and asked4[6:].all()
    assert not asked8[:3].any() and asked8[3:].all()


def test_a_fine_grid_is_told_that_the_middle_of_a_large_face_is_background() -> None:
    index, asked = assign(torch.tensor([[16.0, 16, 240, 240]]), no_ignore(256))
    cells = [(256 // s) ** 2 for s in STRIDES]
    for start, stop in ((0, cells[0]), (cells[0], sum(cells[:2])), (sum(cells[:2]), sum(cells[:3]))):
        assert asked[start:stop].all() and (index[start:stop] == -1).all()
    assert (index[sum(cells[:3]) :] == 0).any()


def test_a_picture_without_faces_has_a_finite_loss_and_no_box_loss() -> None:
    out = answers(FaceNet(4), torch.randn(2, 3, 64, 64))
    terms = finder_loss(out, torch.zeros(2, MOST, 4), no_ignore(64).expand(2, -1, -1))
    assert torch.isfinite(terms["score"]) and terms["box"].item() == 0


def test_a_perfect_answer_costs_nothing() -> None:
    size, box = 64, torch.tensor([[[16.0, 16, 48, 48]]])
    index, _ = assign(box[0], no_ignore(size))
    out, start = [], 0
    for stride in STRIDES:
        n = size // stride
        mine = (index[start : start + n * n] == 0).reshape(1, n, n)
        start += n * n
        c = (torch.arange(n) + 0.5) * stride
        left, top = c[None, None, :].expand(1, n, n) - 16, c[None, :, None].expand(1, n, n) - 16
        out.append((torch.where(mine, 30.0, -30.0), torch.stack([left, top, 32 - left, 32 - top], -1) / stride))
    terms = finder_loss(out, box, no_ignore(size)[None])
    assert terms["score"].item() == pytest.approx(0, abs=1e-6)
    assert terms["box"].item() == pytest.approx(0, abs=1e-5)


def test_example_shapes_and_ignored_areas() -> None:
    from visagist.photo.face import Face
    from visagist.recipe import Item

    photo = Photo.of(np.zeros((64, 64, 3), np.uint8))
    item = Item("x", lambda: photo, (Face((8, 8, 30, 30)), Face((32, 0, 64, 64), label="ignore")))
    example = YoloFace().example(item, np.random.default_rng(0))
    assert example["image"].shape == (64, 64, 3) and example["boxes"].shape == (MOST, 4)
    assert example["boxes"][0].tolist() == [8, 8, 30, 30] and not example["boxes"][1:].any()
    assert example["ignored"][:, 8:].all() and not example["ignored"][:, :8].any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (37, 53), (700, 90)])
def test_any_size_of_photo_is_searched(shape: tuple[int, int]) -> None:
    recipe = YoloFace(width=4)
    nets = {"finder": recipe.networks()["finder"].eval()}
    with torch.inference_mode():
        faces = recipe.detect(nets, Photo.of(np.zeros((*shape, 3), np.uint8)), min_score=0.005)
    assert all(np.isfinite(f.box).all() for f in faces)


def test_of_neighbouring_cells_the_best_speaks() -> None:
    class Bumps(torch.nn.Module):
        """One bump of scores over 3 x 3 cells of the finest grid, and another that stands alone; boxes of 10 pixels."""

        def __init__(self) -> None:
            super().__init__()
            self.answer = torch.nn.ModuleList(torch.nn.Conv2d(1, 5, 1) for _ in STRIDES)
            for last in self.answer:
                torch.nn.init.zeros_(last.bias)
                torch.nn.init.ones_(last.weight)
            self.requires_grad_(False)

        def forward(self, x: torch.Tensor, finest: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
            out = []
            for stride in STRIDES:
                h, w = x.shape[2] // stride, x.shape[3] // stride
                out.append((torch.full((1, h, w), -9.0), torch.full((1, h, w, 1), 5.0 / stride).log()))
            out[0][0][0, 9:12, 9:12] = 1.0
            out[0][0][0, 10, 10] = 2.0
            out[0][0][0, 30, 20] = 0.5
            return out[finest:]

    faces = YoloFace(overlap=0.99, inside=1.0).detect({"finder": Bumps()}, Photo.of(np.zeros((192, 192, 3), np.uint8)))
    assert [round(f.score, 3) for f in sorted(faces, key=lambda f: -f.score)] == [0.881, 0.622]
    assert sorted(f.box for f in faces) == [(37.0, 37.0, 47.0, 47.0), (77.0, 117.0, 87.0, 127.0)]
