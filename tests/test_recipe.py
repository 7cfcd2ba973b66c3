"""The contract: what a step may rely on in Run, and what Stage refuses."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from visagist.recipe import Item, Run, Stage


def run(net: nn.Module, clip: float = 0.0, optimizer=None, mean=None) -> Run:
    stage = Stage("only", ("net",), step=lambda run, batch: {}, optimizers=lambda nets: {}, steps=4, clip=clip)
    optimizer = optimizer or torch.optim.SGD(net.parameters(), lr=1.0)
    return Run({"net": net}, {"net": optimizer}, stage, 1, torch.device("cpu"), "fp32", mean=mean)


def one(value: float) -> nn.Linear:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, value)
    return net


def test_importing_the_contract_does_not_import_torch():
    code = "import sys, visagist.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_stage_has_either_a_step_or_a_fit():
    with pytest.raises(ValueError, match="either step or fit"):
        Stage("none", ("net",))
    with pytest.raises(ValueError, match="either step or fit"):
        Stage("both", ("net",), step=lambda r, b: {}, fit=lambda r, i: {}, optimizers=lambda n: {})
    with pytest.raises(ValueError, match="optimizers"):
        Stage("step", ("net",), step=lambda r, b: {})


def test_an_item_gives_its_photo():
    photo = object()
    assert Item("a.jpg", lambda: photo).photo is photo


def test_update_is_one_plain_step_and_forgets_older_gradients():
    net = one(3.0)
    net.weight.grad = torch.full((1, 1), 100.0)
    run(net).update("net", (0.5 * net.weight.square()).sum())  # w - w = 0
    assert net.weight.item() == 0.0
    assert net.weight.grad is None


def test_backward_accumulates_until_apply():
    net = one(1.0)
    r = run(net)
    r.backward(net.weight.sum())
    r.backward(net.weight.sum())
    assert net.weight.item() == 1.0
    r.apply("net")
    assert net.weight.item() == -1.0


def test_clip_bounds_the_norm_of_the_step():
    net = one(0.0)
    run(net, clip=0.5).update("net", 100 * net.weight.sum())
    assert net.weight.item() == pytest.approx(-0.5)


def test_frozen_nets_pass_gradients_on_but_get_none():
    net, judge = one(1.0), one(2.0)
    judge.register_parameter("fixed", nn.Parameter(torch.zeros(1), requires_grad=False))
    r = run(net)
    r.nets["judge"] = judge
    with r.frozen("judge"):
        r.backward(judge(net(torch.ones(1, 1))).sum())
    assert net.weight.grad is not None
    assert net.weight.grad.item() == 2.0
    assert judge.weight.grad is None
    assert judge.weight.requires_grad
    assert not judge.fixed.requires_grad  # as it was before


def test_minimize_runs_a_closure():
    net = one(5.0)
    r = run(net, optimizer=torch.optim.LBFGS(net.parameters(), max_iter=20))
    first = r.minimize("net", lambda: (net.weight - 1).square().sum())
    assert first.item() == 16.0
    assert net.weight.item() == pytest.approx(1.0, abs=1e-5)


def test_progress_and_precision():
    r = run(one(1.0))
    assert r.progress == 0.25
    with r.autocast():
        assert r.nets["net"](torch.ones(1, 1)).dtype == torch.float32
    r.precision = "bf16"
    with r.autocast():
        assert r.nets["net"](torch.ones(1, 1)).dtype == torch.bfloat16


def test_gradients_are_averaged_over_processes_and_what_none_used_stays_without():
    net = nn.ModuleDict({"used": one(1.0), "unused": one(1.0)})
    told = []

    def mean(tensor: torch.Tensor) -> torch.Tensor:  # as if the other process had had no gradient
        told.append(tensor.clone())
        return tensor / 2

    r = run(net, mean=mean)
    r.update("net", 4 * net["used"].weight.sum())
    assert [t.tolist() for t in told] == [[1.0, 0.0], [4.0]]
    assert net["used"].weight.item() == -1.0
    assert net["unused"].weight.item() == 1.0
