"""The region proposal network: the paper's anchors to the pixel, who is sampled, the loss by hand, proposals."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from visagist.detect.regions import decode, encode, iou
from visagist.detect.rpn import RPN, RpnSample, anchors_of, propose, rpn_loss, rpn_sample, shapes

PAPER = shapes(16, (0.5, 1.0, 2.0), (8, 16, 32))
NONE = torch.empty(0, 4)
# As py-faster-rcnn prints them: 0-based, both corners inside.
TABLE = """
-84 -40 99 55    -176 -88 191 103   -360 -184 375 199
-56 -56 71 71    -120 -120 135 135  -248 -248 263 263
-36 -80 51 95    -80 -168 95 183    -168 -344 183 359
"""


def test_anchors_are_the_papers() -> None:
    table = torch.tensor([float(v) for v in TABLE.split()]).view(9, 4)
    table[:, 2:] += 1  # half-open
    assert torch.equal(PAPER, table)


def test_a_picture_of_600_x_1000_has_the_papers_anchors() -> None:
    anchors = anchors_of(38, 63, 16, PAPER)
    inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2] <= 1000) & (anchors[:, 3] <= 600)
    assert len(anchors) == 21_546 and int(inside.sum()) == 8_151


def test_anchors_run_over_rows_then_columns_then_shapes() -> None:
    anchors = anchors_of(2, 3, 16, PAPER).view(2, 3, 9, 4)
    assert torch.equal(anchors[1, 2], PAPER + torch.tensor([32.0, 16, 32, 16]))


def test_the_network_has_the_papers_parameters_and_orders_its_answers_like_the_anchors() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in RPN(512, 512, 9).parameters()) == 2_387_510
    net = RPN(4, 6, 2)
    with torch.no_grad():
        net.place.weight.zero_()
        net.place.bias.copy_(torch.arange(8.0))  # type: ignore[union-attr]
    logits, deltas = net(torch.randn(3, 4, 5, 7))
    assert logits.shape == (3, 70, 2) and deltas.shape == (3, 70, 4)
    assert deltas[1, :2].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    moved = net(torch.nn.functional.pad(torch.ones(1, 4, 1, 1), (2, 4, 1, 3)))[0]  # one cell speaks up: row 1, column 2
    changed = (moved - net(torch.zeros(1, 4, 5, 7))[0]).abs().amax(2).view(5, 7, 2).amax(2) > 0
    assert changed[0:3, 1:4].all() and changed.sum() == 9


# ---- who is sampled ----


def crowd() -> tuple[Tensor, Tensor]:
    """The paper's anchors on 600 x 1000, and truths: one of an anchor's size, one far too small for any, one cut by the border."""
    return anchors_of(38, 63, 16, PAPER), torch.tensor([[300.0, 200, 430, 330], [700, 400, 712, 415], [-60, 100, 60, 240]])


def test_a_sample_keeps_every_limit() -> None:
    anchors, truth = crowd()
    positives, negatives, deltas = rpn_sample(anchors, truth, NONE, (600, 1000), generator=torch.Generator().manual_seed(1))
    assert len(positives) + len(negatives) == 256 and 3 <= len(positives) <= 128
    chosen = anchors[torch.cat([positives, negatives])]
    assert (chosen[:, :2] >= 0).all() and (chosen[:, 2] <= 1000).all() and (chosen[:, 3] <= 600).all()
    assert iou(anchors[negatives], truth).amax() < 0.3
    inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2] <= 1000) & (anchors[:, 3] <= 600)
    overlaps = iou(anchors[positives], truth)
    best = iou(anchors[inside], truth).amax(0)
    assert ((overlaps >= 0.7) | (overlaps == best)).any(1).all()
    assert (overlaps == best).any(0).all()  # nobody goes without
    assert torch.allclose(decode(deltas, anchors[positives]), truth[overlaps.argmax(1)], atol=1e-3)


def test_half_of_the_sample_is_positive_at_most() -> None:
    anchors = torch.tensor([[0.0, 0, 16, 16]]).repeat(400, 1)
    anchors[300:] += 100
    truth = torch.tensor([[0.0, 0, 16, 16]])
    positives, negatives, _ = rpn_sample(anchors, truth, NONE, (200, 200))
    assert (len(positives), len(negatives)) == (128, 100)
    positives, negatives, _ = rpn_sample(anchors, truth + 300, NONE, (200, 200))
    assert (len(positives), len(negatives)) == (0, 256)


def test_anchors_across_the_border_are_used_where_it_is_said() -> None:
    anchors, truth = torch.tensor([[-4.0, 0, 12, 16], [0, 0, 16, 16]]), torch.tensor([[-4.0, 0, 12, 16]])
    assert rpn_sample(anchors, truth, NONE, (16, 16)).positives.tolist() == [1]  # the best of those inside
    assert rpn_sample(anchors, truth, NONE, (16, 16), inside=False).positives.tolist() == [0]


def test_ignored_areas_hold_no_negatives() -> None:
    anchors, truth = crowd()
    ignored = torch.tensor([[0.0, 0, 500, 600]])
    negatives = anchors[rpn_sample(anchors, truth, ignored, (600, 1000)).negatives]
    hidden = (negatives[:, 2].clamp(max=500) - negatives[:, 0].clamp(max=500)) / (negatives[:, 2] - negatives[:, 0])
    assert len(negatives) and (hidden < 0.5).all()


# ---- loss ----


def test_the_loss_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0], [0, math.log(3)], [math.log(4), 0], [9, 9]]])
    deltas = torch.zeros(1, 4, 4)
    deltas[0, 1] = torch.tensor([1.0, 0.1, 0, 0])
    asked = RpnSample(torch.tensor([1]), torch.tensor([0, 2]), torch.zeros(1, 4))
    terms = rpn_loss(logits, deltas, [asked])
    assert terms["object"].item() == pytest.approx((math.log(4 / 3) + math.log(2) + math.log(5 / 4)) / 3)
    assert terms["shift"].item() == pytest.approx((1 - 0.5 / 9 + 4.5 * 0.01) / 3)  # sigma 3; all three sampled anchors divide


def test_nothing_asked_costs_nothing_and_pictures_are_averaged() -> None:
    nothing = RpnSample(torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long), NONE)
    one = RpnSample(torch.tensor([0]), torch.tensor([1]), torch.ones(1, 4))
    logits, deltas = torch.zeros(2, 2, 2), torch.zeros(2, 2, 4)
    assert all(t.item() == 0 for t in rpn_loss(logits, deltas, [nothing, nothing]).values())
    both, half = rpn_loss(logits, deltas, [one, one]), rpn_loss(logits, deltas, [one, nothing])
    assert all(both[k].item() == pytest.approx(2 * half[k].item()) for k in both)
    assert both["object"].item() == pytest.approx(math.log(2))


# ---- proposals ----


def test_proposals_by_hand() -> None:
    anchors = torch.tensor([[0.0, 0, 40, 40], [2, 0, 42, 40], [60, 60, 100, 100], [80, 80, 90, 120], [50, 0, 90, 40]])
    goals = torch.tensor([[0.0, 0, 40, 44], [2, 0, 42, 40], [70, 70, 140, 100], [80, 80, 90, 120], [50, 0, 90, 40]])
    logits = torch.stack([torch.zeros(5), torch.tensor([1.0, 2, 3, 9, 0])], 1)
    limits = {"before": 4, "after": 3, "least": 16}
    boxes, scores = propose(logits, encode(goals, anchors), anchors, (100, 120), **limits)
    # 3 is too narrow; 2 ends where the picture ends; 1 strikes out 0; 4 is the fourth best of those large enough.
    expected = torch.tensor([[70.0, 70, 120, 100], [2, 0, 42, 40], [50, 0, 90, 40]])
    assert torch.allclose(boxes, expected, atol=1e-3)
    assert torch.allclose(scores, torch.tensor([3.0, 2, 0]).sigmoid())


@given(st.integers(0, 2**31), st.sampled_from([(50, 10), (200, 200)]))
def test_proposals_lie_inside_apart_and_in_order(seed: int, limits: tuple[int, int]) -> None:
    g = torch.Generator().manual_seed(seed)
    anchors = anchors_of(6, 8, 16, shapes(16, (1.0,), (1, 2, 4)))
    logits, deltas = torch.randn(len(anchors), 2, generator=g), torch.randn(len(anchors), 4, generator=g)
    deltas.requires_grad_()
    boxes, scores = propose(logits, deltas, anchors, (96, 128), before=limits[0], after=limits[1], least=5)
    assert len(boxes) == len(scores) <= limits[1] and not boxes.requires_grad
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= 128).all() and (boxes[:, 3] <= 96).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 5).all() and (scores.diff() <= 0).all()
    assert (iou(boxes, boxes).fill_diagonal_(0) <= 0.7).all()
