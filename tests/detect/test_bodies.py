"""Bodies of the R-CNN family: shapes, exact parameter counts, the pixels Caffe expects."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visagist.detect.bodies import VGG16, Body, Caffe, CaffeNet, Dense, FineBody


def count(*nets: nn.Module) -> int:
    return sum(p.numel() for net in nets for p in net.parameters())


@pytest.mark.parametrize("make", [Body, FineBody])
def test_small_bodies_give_the_map_they_promise_and_every_parameter_learns(make: type[Body] | type[FineBody]) -> None:
    net = make()
    out = net(torch.randn(2, 3, 64, 96))
    assert out.shape == (2, net.channels, 64 // net.stride, 96 // net.stride)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_vgg16_has_the_papers_parameters_and_stride() -> None:
    with torch.device("meta"):
        net = VGG16()
        assert count(net) == 14_714_688
        assert net(torch.empty(1, 3, 600, 1000)).shape == (1, 512, 38, 63)


def test_caffenet_with_its_dense_layers_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        net, dense = CaffeNet(), Dense(256 * 6 * 6)
        assert count(net, dense, nn.Linear(4096, 21)) == 56_954_261
        assert dense(net(torch.empty(2, 3, 227, 227))).shape == (2, 4096)


def test_caffe_pixels() -> None:
    rgb = torch.tensor([255.0, 0, 127.5]).view(1, 3, 1, 1) / 127.5 - 1
    assert torch.allclose(Caffe()(rgb).flatten(), torch.tensor([127.5 - 102.9801, -115.9465, 255 - 122.7717]), atol=1e-3)
