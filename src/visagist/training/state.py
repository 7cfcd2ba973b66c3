"""What a training knows between two steps: networks, averages, optimizers, the best weights so far, two counters.

All of it goes into the checkpoint, and nothing else does.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from visagist.errors import TrainingError
from visagist.recipe import Networks, Run, Stage

Weights = dict[str, dict[str, Tensor]]  # network -> its state dict


@dataclass
class Figures:
    """What is kept from one stage to the next besides the networks.

    shipped   weights to ship of networks that go on with others (Stage.hand_on is False)
    measured  the last measurement of what is shipped
    """

    shipped: Weights = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)


class State:
    """The state of one stage."""

    def __init__(self, index: int, stage: Stage, nets: Networks, figures: Figures, fabric: Fabric, precision: str) -> None:
        """Freeze what does not learn, make averages and optimizers."""
        self.index = index
        self.stage = stage
        self.nets = nets
        self.figures = figures
        self.best: Weights = {}
        self.best_metrics: dict[str, float] = {}
        self.best_value = math.inf
        self.waited = 0  # measurements since the best one
        self.totals: dict[str, float] = {}  # sums of the scalars since the last log line
        self.counted = 0  # steps in them

        trained = {name: nets[name] for name in stage.trains}
        # A recipe may have frozen single parameters itself; those stay as they are.
        self.frozen = [p for name, net in nets.items() if name not in trained for p in net.parameters() if p.requires_grad]
        for parameter in self.frozen:
            parameter.requires_grad_(False)
        self.averages: Networks = {}
        if stage.average > 0:
            self.averages = {name: copy.deepcopy(net).requires_grad_(False).eval() for name, net in trained.items()}
        optimizers = stage.optimizers(nets) if stage.optimizers is not None else {}
        self.rates = {name: [group["lr"] for group in optimizer.param_groups] for name, optimizer in optimizers.items()}
        mean = cast("Callable[[Tensor], Tensor]", fabric.all_reduce) if fabric.world_size > 1 else None
        self.run = Run(dict(nets), optimizers, stage, 0, fabric.device, precision, fabric.backward, mean)
        self.set_modes()

    def set_modes(self) -> None:
        """Networks that learn in training mode, all others in evaluation mode."""
        for name, net in self.nets.items():
            net.train(name in self.stage.trains and self.stage.step is not None)

    def set_rates(self) -> None:
        """Learning rates by the schedule."""
        factor = self.stage.schedule(self.run.progress)
        for name, optimizer in self.run.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self.rates[name], strict=True):
                group["lr"] = rate * factor

    def shown(self) -> Networks:
        """The networks as they would be shipped now."""
        return {**self.nets, **self.averages}

    def count(self, scalars: Mapping[str, float]) -> None:
        """A step is done: add its scalars to the totals of the log, move the averages. TrainingError not-finite."""
        for name, value in scalars.items():
            if not math.isfinite(value):
                raise self._not_finite(name)
            self.totals[name] = self.totals.get(name, 0.0) + value
        self.counted += 1
        self.run.step += 1
        decay = min(self.stage.average, (1 + self.run.step) / (10 + self.run.step))
        for name, average in self.averages.items():
            source = self.nets[name]
            _blend(list(average.parameters()), list(source.parameters()), 1 - decay)
            for (key, old), new in zip(average.named_buffers(), source.buffers(), strict=True):
                if key.rpartition(".")[2].startswith("running_"):  # of normalisation layers: they belong to the averaged weights
                    _blend([old], [new], 1 - decay)
                else:  # counters, fade-in factors: they say what is, not what was learnt
                    old.copy_(new)

    def means(self) -> dict[str, float]:
        """Means of the scalars since the last call."""
        means = {name: total / self.counted for name, total in self.totals.items()}
        self.totals, self.counted = {}, 0
        return means

    def judge(self, metrics: dict[str, float]) -> None:
        """Remember these weights if they are the best so far."""
        self.figures.measured = metrics
        if not self.stage.watch:
            return
        if self.stage.watch not in metrics:
            raise ValueError(f"stage {self.stage.name} watches {self.stage.watch!r}, but measure gives {sorted(metrics)}")
        value = metrics[self.stage.watch]
        self.waited += 1
        if value < self.best_value:
            shown = self.shown()
            self.best = _weights({name: shown[name] for name in self.stage.trains}, clone=True)
            self.best_value, self.best_metrics, self.waited = value, metrics, 0

    @property
    def exhausted(self) -> bool:
        """Whether it is time for an early stop."""
        return 0 < self.stage.patience <= self.waited

    def end(self, *, last: bool) -> None:
        """Hand the weights on to the next stage and unfreeze. TrainingError (not-finite) if a weight is not finite."""
        self._check()
        shown = self.best or _weights(self.averages)
        if self.best:
            self.figures.measured = self.best_metrics
        for name in self.stage.trains:
            self.figures.shipped.pop(name, None)
            if name in shown and (self.stage.hand_on or last):
                self.nets[name].load_state_dict(shown[name])
            elif name in shown:
                self.figures.shipped[name] = shown[name]
        for parameter in self.frozen:
            parameter.requires_grad_(True)

    def saved(self) -> dict[str, Any]:
        """Everything that `load` needs. TrainingError (not-finite) if a weight is not finite."""
        self._check()
        return {
            "stage": self.index,
            "step": self.run.step,
            "nets": _weights(self.nets),
            "averages": _weights(self.averages),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.run.optimizers.items()},
            # of papers that accumulate over several steps
            "gradients": {n: {k: p.grad for k, p in net.named_parameters() if p.grad is not None} for n, net in self.nets.items()},
            "best": self.best,
            "best_value": self.best_value,
            "best_metrics": self.best_metrics,
            "waited": self.waited,
            "totals": self.totals,
            "counted": self.counted,
            "shipped": self.figures.shipped,
            "measured": self.figures.measured,
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """Go back to what `saved` gave. TrainingError (cannot-resume) if it is of other networks."""
        try:
            for name, net in self.nets.items():
                net.load_state_dict(saved["nets"][name])
            for name, net in self.averages.items():
                net.load_state_dict(saved["averages"][name])
            for name, optimizer in self.run.optimizers.items():
                optimizer.load_state_dict(saved["optimizers"][name])
        except (KeyError, RuntimeError, ValueError) as error:
            what = f"the checkpoint is of other networks ({str(error).splitlines()[0]})"
            raise TrainingError(what, code="cannot-resume") from error
        for name, gradients in saved["gradients"].items():
            for key, parameter in self.nets[name].named_parameters():
                if key in gradients:
                    parameter.grad = gradients[key].to(parameter.device)
        self.run.step = saved["step"]
        self.best, self.best_value, self.best_metrics = saved["best"], saved["best_value"], saved["best_metrics"]
        self.waited, self.totals, self.counted = saved["waited"], saved["totals"], saved["counted"]
        self.figures.shipped, self.figures.measured = saved["shipped"], saved["measured"]

    def _check(self) -> None:
        for nets in (self.nets, self.averages):
            for name, net in nets.items():
                for key, tensor in net.state_dict().items():
                    if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                        raise self._not_finite(f"{name}.{key}")

    def _not_finite(self, what: str) -> TrainingError:
        where = f"stage {self.stage.name}, step {self.run.step}"
        hint = "the last good checkpoint is kept; try a lower learning rate, clipping or fp32"
        return TrainingError(f"{what} is not finite in {where}", code="not-finite", hint=hint)


def finished(stages: int, nets: Networks, figures: Figures) -> dict[str, Any]:
    """The state of a training that is done."""
    return {"stage": stages, "step": 0, "nets": _weights(nets), "shipped": figures.shipped, "measured": figures.measured}


def _weights(nets: Mapping[str, nn.Module], *, clone: bool = False) -> Weights:
    weights = {name: dict(net.state_dict()) for name, net in nets.items()}
    if clone:
        return {name: {key: copy.deepcopy(value) for key, value in state.items()} for name, state in weights.items()}
    return weights


def _blend(old: Sequence[Tensor], new: Sequence[Tensor], weight: float) -> None:
    with torch.no_grad():
        torch._foreach_lerp_(list(old), [tensor.detach() for tensor in new], weight)
