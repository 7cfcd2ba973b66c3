"""Devices and precision of networks in use."""

from collections import namedtuple

import pytest
import torch
from torch import nn

from visagist.errors import UsageError
from visagist.weights import device as devices
from visagist.weights.fused import ConvReLU

Pair = namedtuple("Pair", ["a", "b"])


class Odd(nn.Module):
    """Answers with what a network may answer with."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.seen = None

    def forward(self, x, *, extra=None):
        self.seen = x.is_contiguous(memory_format=torch.channels_last), torch.is_autocast_enabled(x.device.type)
        y = self.conv(x)
        return {"pair": Pair(y, [y, (y, None)]), "count": torch.ones(2, dtype=torch.int64), "extra": extra}


def test_choosing():
    assert devices.choose("cpu") == torch.device("cpu")
    assert devices.choose("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "mps"])
def test_no_such_device(name):
    with pytest.raises(UsageError) as caught:
        devices.choose(name)
    assert caught.value.code == "no-device"


def test_an_explicit_device_never_falls_back(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda", "cuda:0"):
        with pytest.raises(UsageError, match="not available") as caught:
            devices.choose(name)
        assert caught.value.code == "no-device"
    assert devices.choose("auto").type == "cpu"


def test_emulated_bfloat16_is_not_quick(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert not devices.quick_bfloat16(torch.device("cpu"))


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("exact", [True, False])
def test_prepared_networks(monkeypatch, quick, exact):
    monkeypatch.setattr(devices, "quick_bfloat16", lambda device: quick)
    net, device = Odd(), torch.device("cpu")
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        plain = net(x)["pair"].a
    ready = devices.prepare(net, device, exact=exact)
    assert ready is net
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    out = net(x, extra=x)
    assert net.seen == (True, quick and not exact)
    assert isinstance(out["pair"], Pair)
    for tensor in (out["pair"].a, out["pair"].b[0], out["pair"].b[1][0]):
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, plain, atol=0.03 if quick and not exact else 1e-5, rtol=0.03)
    assert out["pair"].b[1][1] is None
    assert out["count"].dtype == torch.int64
    assert torch.equal(out["extra"], x)
    assert not torch.is_autocast_enabled("cpu")


def test_pixels_can_still_be_optimised():
    """Frozen weights, but gradients reach the input: style transfer needs that."""
    net = devices.prepare(Odd(), torch.device("cpu"))
    x = torch.randn(1, 3, 4, 4, requires_grad=True)
    net(x)["pair"].a.sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("stride", "dilation", "groups", "bias"), [(1, 1, 1, True), (2, 1, 2, False), (1, 2, 1, True)])
def test_relu_computed_with_its_convolution_changes_nothing(dtype, stride, dilation, groups, bias):
    conv = torch.nn.Conv2d(4, 6, 3, stride, 1, dilation, groups, bias).to(dtype).requires_grad_(False)
    x = torch.randn(2, 4, 9, 12).to(dtype).contiguous(memory_format=torch.channels_last)
    apart = torch.relu(conv(x))
    assert torch.equal(ConvReLU.of(conv)(x), apart)
    y = x.clone().requires_grad_()
    assert torch.equal(ConvReLU.of(conv)(y), apart)
    assert torch.autograd.grad(ConvReLU.of(conv)(y).sum(), y)[0].abs().sum() > 0
    assert (ConvReLU.of(conv)(x.float()) - apart).abs().max() <= 0.05  # as it is called under autocast


def test_batch_norm_is_folded_into_the_convolution_before_it():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4))
    net = nn.Sequential(inner, nn.BatchNorm2d(4))  # the last one follows no convolution
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.running_var, 0.2, 3)
        nn.init.uniform_(norm.weight, -1, 1)
        nn.init.uniform_(norm.bias, -1, 1)
    x = torch.randn(2, 3, 8, 8)
    expected = net.eval()(x).detach()
    found = devices.prepare(net, torch.device("cpu"), exact=True)(x)
    assert torch.allclose(found, expected, atol=1e-5)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == 1
    assert not any(p.requires_grad for p in net.parameters())
    assert inner[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("positive", [True, False])
def test_batch_norm_behind_a_pool_is_folded_where_its_factors_are_positive(positive):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(5), nn.GELU())
    nn.init.uniform_(net[2].running_mean, -1, 1)
    nn.init.uniform_(net[2].running_var, 0.2, 3)
    nn.init.uniform_(net[2].weight, 0 if positive else -1, 1)
    x = torch.randn(2, 3, 8, 8)
    expected = net.eval()(x).detach()
    assert torch.allclose(devices.prepare(net, torch.device("cpu"), exact=True)(x), expected, atol=1e-5)
    assert isinstance(net[2], nn.BatchNorm2d) != positive
