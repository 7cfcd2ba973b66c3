"""What Fast and Faster R-CNN share: parameter count, training sample, loss in closed form, answers."""

from __future__ import annotations

import math

import pytest
import torch

from visagist.detect.region_head import SPREAD, RegionHead, answers, drop_hidden, region_loss, region_sample
from visagist.detect.regions import decode, encode, iou


def test_the_head_of_vgg16_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        head = RegionHead(512, 4096, 21, dropout=0.5)
        assert sum(p.numel() for p in head.parameters()) == 119_976_041
    logits, deltas = RegionHead(4, 8, 21)(torch.zeros(3, 4, 7, 7))
    assert logits.shape == (3, 21) and deltas.shape == (3, 21, 4)


def test_a_sample_keeps_its_counts_and_learns_the_right_boxes() -> None:
    g = torch.Generator().manual_seed(0)
    truth, kinds = torch.tensor([[10.0, 10, 50, 50], [100, 100, 160, 180]]), torch.tensor([2, 7])
    near = truth.repeat(60, 1) + torch.rand(120, 4, generator=g) * 6 - 3
    far = torch.rand(400, 2, generator=g) * 40 + 200
    proposals = torch.cat([near, torch.cat([far, far + 30], 1)])
    boxes, classes, deltas = region_sample(proposals, truth, kinds, torch.empty(0, 4), least=0.0, generator=g)
    assert len(boxes) == 128 and (classes > 0).sum() == 32 and set(classes.tolist()) == {0, 2, 7}
    of = torch.where(classes == 2, 0, 1)
    positives = classes > 0
    back = decode(deltas * torch.tensor(SPREAD), boxes)
    assert torch.allclose(back[positives], truth[of][positives], atol=1e-3)
    assert (iou(boxes, truth)[positives].amax(1) >= 0.5).all() and (iou(boxes, truth)[~positives].amax(1) < 0.5).all()
    assert not deltas[~positives].any()


def test_background_may_have_to_overlap_and_true_boxes_are_regions() -> None:
    truth, none = torch.tensor([[0.0, 0, 10, 10]]), torch.empty(0, 4)
    proposals = torch.tensor([[50.0, 50, 60, 60], [0, 0, 10, 30]])  # IoU 0 and 1/3
    kinds = torch.tensor([1])
    assert region_sample(proposals, truth, kinds, none)[1].tolist() == [1, 0]
    assert region_sample(proposals, truth, kinds, none, least=0.0)[1].tolist() == [1, 0, 0]
    assert region_sample(none, none, kinds[:0], none)[0].shape == (0, 4)


def test_ignored_areas_hold_no_negatives_but_may_hold_positives() -> None:
    truth, ignored = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.0, 0, 60, 60]])
    proposals = torch.tensor([[50.0, 50, 60, 60], [55, 50, 64, 60], [56, 50, 66, 60], [0, 0, 10, 9]])
    boxes, classes, _ = region_sample(proposals, truth, torch.tensor([1]), ignored, least=0.0)
    assert classes.tolist() == [1, 1, 0] and boxes[2].tolist() == [56, 50, 66, 60]
    assert drop_hidden(torch.tensor([0, 1]), proposals[:2], ignored).tolist() == [-1, 1]


def test_the_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, 0], [0, math.log(3)]])
    deltas = torch.zeros(2, 2, 4)
    deltas[1, 1] = torch.tensor([0.5, 0, 2, 0])
    deltas[:, 0] = 9  # of the background's box nothing is asked
    terms = region_loss(logits, deltas, torch.tensor([0, 1]), torch.zeros(2, 4))
    assert terms["kind"].item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert terms["place"].item() == pytest.approx((0.125 + 1.5) / 2)


def test_a_sample_of_nothing_costs_nothing() -> None:
    terms = region_loss(torch.zeros(0, 2), torch.zeros(0, 2, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))
    assert all(t.item() == 0 for t in terms.values())


def test_answers_are_thinned_out_class_by_class() -> None:
    boxes = torch.tensor([[0.0, 0, 20, 20], [1, 0, 21, 20], [40, 40, 60, 60], [0, 0, 20, 20]])
    truth = torch.tensor([[0.0, 0, 24, 20]])
    logits = torch.tensor([[0.0, 6, 0], [0, 5, 0], [9, 0, 0], [0, 0, 4]])
    deltas = torch.zeros(4, 3, 4)
    deltas[0, 1] = encode(truth, boxes[:1])[0] / torch.tensor(SPREAD)
    found = answers(logits, deltas, boxes, None, ("circle", "square"), min_score=0.5, overlap=0.3, scale=0.5)
    assert [f.label for f in found] == ["circle", "square"]  # by falling area
    assert found[0].box == pytest.approx((0, 0, 48, 40), abs=1e-3)
    assert found[0].score == pytest.approx(math.exp(6) / (math.exp(6) + 2))
    clipped = answers(logits, deltas, boxes, (20, 22), ("circle", "square"), min_score=0.5, overlap=0.3)
    assert clipped[0].box == pytest.approx((0, 0, 22, 20), abs=1e-3)
    assert len(answers(logits, deltas, boxes, None, ("circle", "square"), min_score=0.0, overlap=1.0, most=5)) == 5
