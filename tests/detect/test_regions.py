"""Boxes and region operators: against slow loops (benchmarks/region_ops.py), by hand, and their properties."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visagist.detect import regions


def _loops() -> Any:
    spec = importlib.util.spec_from_file_location("region_ops", Path(__file__).parents[2] / "benchmarks" / "region_ops.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOOPS = _loops()
SEEDS = st.integers(0, 2**31)


def whole_boxes(count: int, rng: np.random.Generator, side: int = 12) -> np.ndarray:
    """Boxes with whole-number corners on a small canvas: many ties, equal boxes and empty ones."""
    corners = np.sort(rng.integers(0, side, (count, 2, 2)), 1)
    return corners.reshape(count, 4).astype(np.float32)


def some_rois(count: int, rng: np.random.Generator, pictures: int) -> np.ndarray:
    boxes = LOOPS.some_boxes(count, rng, 150, 110) + rng.uniform(-40, 40, (count, 1)).astype(np.float32)
    return np.concatenate([rng.integers(0, pictures, (count, 1)).astype(np.float32), boxes], 1)


# ---- boxes ----


@given(SEEDS)
def test_iou_is_the_loop_s_to_the_bit_and_symmetric(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = whole_boxes(9, rng), LOOPS.some_boxes(7, rng, 40, 40)
    got = regions.iou(torch.from_numpy(a), torch.from_numpy(b))
    assert np.array_equal(got.numpy(), [[LOOPS.slow_iou(x, y) for y in b] for x in a])
    assert torch.equal(got.T, regions.iou(torch.from_numpy(b), torch.from_numpy(a)))
    assert ((got >= 0) & (got <= 1)).all()


def test_clip_keeps_what_is_inside() -> None:
    boxes = torch.tensor([[-5.0, 2, 30, 40], [25, 2, 40, 9], [-9, -9, -1, -1]])
    assert regions.clip(boxes, 20, 24).tolist() == [[0, 2, 24, 20], [24, 2, 24, 9], [0, 0, 0, 0]]


@given(SEEDS)
def test_coding_comes_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (torch.from_numpy(LOOPS.some_boxes(20, rng)) for _ in range(2))
    back = regions.decode(regions.encode(b, a), a)
    assert torch.allclose(back, b, rtol=1e-5, atol=1e-5 * 640)


def test_coding_by_hand_and_its_limit() -> None:
    anchor = torch.tensor([[10.0, 20, 30, 60]])  # centre (20, 40), 20 x 40
    box = torch.tensor([[20.0, 30, 60, 70]])  # centre (40, 50), 40 x 40
    assert torch.allclose(regions.encode(box, anchor), torch.tensor([[1.0, 0.25, math.log(2), 0]]))
    wild = regions.decode(torch.tensor([[0.0, 0, 100, 100]]), anchor)
    assert torch.allclose(wild[:, 2:] - wild[:, :2], torch.tensor([[20.0, 40]]) * 62.5)


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_smooth_l1_by_its_formula(sigma: float) -> None:
    x = torch.linspace(-2, 2, 401, requires_grad=True)
    got = regions.smooth_l1(x, sigma)
    for v, y in zip(x.tolist(), got.tolist(), strict=True):
        expected = 0.5 * sigma**2 * v * v if abs(v) < 1 / sigma**2 else abs(v) - 0.5 / sigma**2
        assert y == pytest.approx(expected, abs=1e-6)
    got.sum().backward()
    assert x.grad is not None and x.grad.abs().max() <= 1 + 1e-6  # the slope never exceeds 1, and is continuous
    assert (x.grad.diff().abs() <= 0.011 * sigma**2).all()


# ---- assignment and sampling ----


@given(SEEDS, st.booleans(), st.sampled_from([(0.7, 0.3, 0.0), (0.5, 0.5, 0.0), (0.5, 0.5, 0.1)]))
def test_assignment_is_the_loop_s(seed: int, best: bool, limits: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(seed)
    boxes, truth = whole_boxes(60, rng), whole_boxes(int(rng.integers(0, 5)), rng)
    roles, index = regions.assign(torch.from_numpy(boxes), torch.from_numpy(truth), *limits, best=best)
    slow_roles, slow_index = LOOPS.slow_assign(boxes, truth, *limits, best=best)
    assert roles.tolist() == slow_roles and index.tolist() == slow_index


def test_no_true_box_goes_without_a_positive_anchor() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [50, 50, 60, 60], [0, 20, 10, 30]])
    truth = torch.tensor([[5.0, 0, 15, 10], [0, 20, 10, 30]])  # the first half on two anchors: IoU 1/3 with both, a tie
    assert regions.assign(anchors, truth, 0.7, 0.3, best=True)[0].tolist() == [1, 1, 0, 1]
    assert regions.assign(anchors, truth, 0.7, 0.3)[0].tolist() == [-1, -1, 0, 1]
    far = torch.tensor([[5.0, 0, 15, 10], [0, 26, 10, 36]])  # IoU 4/16 < 0.3 makes a negative; being the best wins over it
    roles, index = regions.assign(anchors, far, 0.7, 0.3, best=True)
    assert roles.tolist() == [1, 1, 0, 1] and index.tolist() == [0, 0, 0, 1]


def test_without_true_boxes_all_is_background_unless_background_must_overlap() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4]])
    assert regions.assign(boxes, torch.empty(0, 4), 0.7, 0.3, best=True)[0].tolist() == [0]
    assert regions.assign(boxes, torch.empty(0, 4), 0.5, 0.5, 0.1)[0].tolist() == [-1]


@given(SEEDS, st.integers(0, 400), st.integers(0, 400), st.sampled_from([(256, 0.5), (128, 0.25)]))
def test_samples_keep_their_counts_and_shares(seed: int, positive: int, negative: int, rule: tuple[int, float]) -> None:
    labels = torch.cat([torch.full((positive,), 3), torch.zeros(negative, dtype=torch.long), torch.full((50,), -1)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    count, share = rule
    chosen, rest = regions.sample(labels, count, share, torch.Generator().manual_seed(seed))
    assert len(chosen) == min(positive, int(count * share)) and len(rest) == min(negative, count - len(chosen))
    assert (labels[chosen] == 3).all() and (labels[rest] == 0).all()
    assert len(set(chosen.tolist() + rest.tolist())) == len(chosen) + len(rest)


# ---- suppression ----


@given(SEEDS, st.sampled_from([0.0, 0.3, 0.5, 0.7]))
def test_suppression_is_the_loop_s_ties_and_all(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 120))
    boxes, scores = whole_boxes(count, rng, 8), rng.integers(0, 6, count).astype(np.float32) / 5
    kept = regions.nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
    assert kept.tolist() == LOOPS.slow_nms(boxes, scores, threshold)
    assert kept.tolist()[:5] == regions.nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold, 5).tolist()


def test_suppression_over_several_blocks() -> None:
    rng = np.random.default_rng(3)
    boxes, scores = LOOPS.some_boxes(900, rng, 300, 300), rng.random(900).astype(np.float32)
    kept = regions.nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.3)
    assert kept.tolist() == LOOPS.slow_nms(boxes, scores, 0.3) and len(kept) > 256


def test_a_chain_of_boxes_is_undone_link_by_link() -> None:
    boxes = torch.tensor([[4.0 * i, 0, 4.0 * i + 10, 10] for i in range(300)])  # each strikes out its neighbours only
    assert regions.nms(boxes, torch.linspace(1, 0, 300), 0.4).tolist() == list(range(0, 300, 2))


# ---- RoI pooling and align ----


@given(SEEDS, st.sampled_from([1, 2, 7]))
def test_pooling_is_the_loop_s_to_the_bit(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.integers(-3, 9, (2, 3, 13, 17)).astype(np.float32)
    rois = some_rois(12, rng, 2)
    got = regions.roi_pool(torch.from_numpy(features), torch.from_numpy(rois), 1 / 8, size)
    assert np.array_equal(got.numpy(), LOOPS.slow_roi_pool(features, rois, 1 / 8, size))


def test_pooling_by_hand() -> None:
    features = torch.arange(16.0).view(1, 1, 4, 4)
    # Corners at cells 0.5 -> 1 and 2.4 -> 2: cells 1..2 both ways, bins of one cell.
    out = regions.roi_pool(features, torch.tensor([[0.0, 8, 8, 38.4, 38.4]]), 1 / 16, 2)
    assert out.flatten().tolist() == [5, 6, 9, 10]
    wide = regions.roi_pool(features, torch.tensor([[0.0, 0, 0, 32, 32]]), 1 / 16, 2)  # three cells in two bins share the middle
    assert wide.flatten().tolist() == [5, 6, 9, 10]
    outside = regions.roi_pool(features, torch.tensor([[0.0, 48, 48, 96, 96]]), 1 / 16, 2)  # a bin without a cell gives 0
    assert outside.flatten().tolist() == [15, 0, 0, 0]


def test_the_gradient_of_pooling_goes_to_the_first_highest_cell() -> None:
    features = torch.zeros(1, 1, 4, 4, requires_grad=True)
    regions.roi_pool(features, torch.tensor([[0.0, 0, 0, 48, 48]]), 1 / 16, 1).sum().backward()
    assert features.grad is not None
    assert features.grad.flatten().tolist() == [1] + [0] * 15


def test_the_gradient_of_pooling_is_right() -> None:
    features = torch.randperm(2 * 2 * 48, generator=torch.Generator().manual_seed(1)).view(2, 2, 6, 8).float() / 10
    rois = torch.tensor([[0.0, 3, 5, 60, 40], [1, 20, 0, 30, 44], [1, 0, 0, 12, 9]])
    leaf, slow = features.clone().requires_grad_(), torch.zeros_like(features)
    out = regions.roi_pool(leaf, rois, 1 / 8, 3)
    weight = torch.rand(out.shape, generator=torch.Generator().manual_seed(2))
    (out * weight).sum().backward()
    for n, i, j, c in np.ndindex(3, 3, 3, 2):  # all features differ: the cell is known by its value
        slow[int(rois[n, 0]), c][features[int(rois[n, 0]), c] == out[n, c, i, j]] += weight[n, c, i, j]
    assert leaf.grad is not None and torch.allclose(leaf.grad, slow)


@given(SEEDS, st.sampled_from([(1, 1), (2, 2), (7, 2), (3, 4)]))
def test_align_is_the_loop_s(seed: int, sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((2, 3, 13, 17)).astype(np.float32)
    rois = some_rois(12, rng, 2)
    got = regions.roi_align(torch.from_numpy(features), torch.from_numpy(rois), 1 / 8, *sizes)
    assert np.allclose(got.numpy(), LOOPS.slow_roi_align(features, rois, 1 / 8, *sizes), atol=2e-5)


def test_align_gives_back_a_plane() -> None:
    x = (torch.arange(20) + 0.5) * 8
    features = (2 * x[None, :] + x[:, None]).view(1, 1, 20, 20)
    out = regions.roi_align(features, torch.tensor([[0.0, 21, 33, 91, 75]]), 1 / 8, 7)
    at = (torch.arange(7) + 0.5) / 7
    assert torch.allclose(out[0, 0], 2 * (21 + 70 * at)[None, :] + (33 + 42 * at)[:, None], atol=1e-3)


def test_align_passes_its_gradient_and_stays_in_float32_under_autocast() -> None:
    features = torch.randn(1, 2, 6, 6, dtype=torch.float64).float().requires_grad_()
    rois = torch.tensor([[0.0, 4, 4, 40, 30]])
    with torch.autocast("cpu", torch.bfloat16):
        out = regions.roi_align(features.bfloat16(), rois, 1 / 8, 3)
    assert out.dtype == torch.float32
    out.sum().backward()
    assert features.grad is not None and features.grad.sum() == pytest.approx(18, rel=0.01)  # weights of a bin sum to 1


@pytest.mark.parametrize("operator", [regions.roi_pool, regions.roi_align])
def test_no_region_no_features(operator: Any) -> None:
    assert operator(torch.rand(2, 5, 4, 4), torch.empty(0, 5), 1 / 16).shape == (0, 5, 7, 7)


def test_where_torchvision_is_at_hand_it_agrees() -> None:
    ops = pytest.importorskip("torchvision.ops", exc_type=ImportError)
    rng = np.random.default_rng(5)
    features, rois = torch.randn(2, 4, 13, 17), torch.from_numpy(some_rois(30, rng, 2))
    assert torch.allclose(regions.roi_align(features, rois, 1 / 8), ops.roi_align(features, rois, 7, 1 / 8, 2, True), atol=1e-5)
    assert torch.allclose(regions.roi_pool(features, rois, 1 / 8), ops.roi_pool(features, rois, 7, 1 / 8))
    boxes, scores = torch.from_numpy(LOOPS.some_boxes(500, rng)), torch.rand(500)
    assert torch.equal(regions.nms(boxes, scores, 0.5), ops.nms(boxes, scores, 0.5))
