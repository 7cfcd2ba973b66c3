"""A convolution and the ReLU behind it in one pass over memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvReLU(nn.Conv2d):
    """relu(conv(x)), the same numbers, on a CPU without writing and reading what lies between.

    torch's compiler uses oneDNN's fused operator; it has no public name and no gradient. Where a version of torch lacks it, the
    device is no CPU or a gradient is asked for, the two are computed one after the other.
    """

    @classmethod
    def of(cls, conv: nn.Conv2d) -> ConvReLU:
        """The convolution itself, turned into one with a ReLU behind it."""
        conv.__class__ = cls
        assert isinstance(conv, ConvReLU)
        return conv

    def forward(self, x: Tensor) -> Tensor:
        fused = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
        plain = x.device.type == "cpu" and self.padding_mode == "zeros" and not isinstance(self.padding, str)
        if fused is None or not plain or (torch.is_grad_enabled() and x.requires_grad):
            return torch.relu_(super().forward(x))
        x, how = x.to(self.weight.dtype), (self.padding, self.stride, self.dilation, self.groups)
        out: Tensor = fused(x, self.weight, self.bias, *how, "relu", [], "")
        return out
