"""Train any recipe: examples, steps, measurements, checkpoints, and a weights file with its card at the end.

Read `train`, then `_run_stage`, which is the loop. Nothing random is stored: the order of the data follows from (seed, stage,
epoch), an example from (seed, stage, step, position), torch's generator from (seed, stage, step). So a checkpoint is weights,
averages, optimizers and two counters, and a stopped and resumed run equals a straight one bit for bit on the same machine.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from visagist.errors import TrainingError
from visagist.recipe import Batch, Item, Networks, Recipe, Run, Stage, Tools
from visagist.training.feed import batches
from visagist.training.ledger import WEIGHTS, Ledger
from visagist.training.run import Progress, StopRequest, choose_device, choose_precision, fingerprint, torch_threads


def train(
    recipe: Recipe,
    items: Sequence[Item],
    out: str | Path,
    *,
    system: str,
    validation: Sequence[Item] = (),
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    resume: bool = False,
    workers: int = 1,
    threads: int | None = None,
    tools: Tools | None = None,
    every_minutes: float = 3,
    measure_every: int = 0,
    command: str = "",
    card: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Path:
    """Train a recipe on items and write its networks with a card; returns the path of the weights file in the run folder `out`.

    validation     items that `recipe.measure` is given; without them nothing is measured and the last weights are shipped
    precision      "fp32", "bf16", or "auto": bf16 where the processor computes it natively
    resume         go on from the folder's checkpoint, from the start if it has none yet
    workers        processes that make examples, 0 for none; the result does not depend on it
    threads        threads of torch in this process, None to leave them
    every_minutes  how often a checkpoint is written, besides those at the start of each stage and at Ctrl-C
    measure_every  steps between measurements, 0 for about twenty per stage
    command        the command line, for the card
    card           further fields of the weights card (trained_on, limits, paper...)

    Raises TrainingError not-finite (the step is named, the last good checkpoint stays), no-data, bad-data, cannot-resume;
    UsageError output-clash, no-device; KeyboardInterrupt on Ctrl-C after the checkpoint is written.
    """
    if not items:
        raise TrainingError("no item to train on", code="no-data")
    place = choose_device(device)
    fabric = Fabric(accelerator=place.type, devices=1, precision="32-true")  # Run opens torch.autocast; see Run.autocast
    settings = {
        "system": system,
        "recipe": type(recipe).__name__,
        "settings": dataclasses.asdict(recipe),
        "seed": seed,
        "precision": choose_precision(precision, place),
        "measure_every": measure_every,
        "data": fingerprint(items),
        "validation": fingerprint(validation),
        "threads": threads or torch.get_num_threads(),
        "device": place.type,
        "command": command,
    }
    ledger = Ledger(Path(out))
    with torch_threads(threads), Progress(quiet) as progress, StopRequest() as stop:
        saved = ledger.begin(settings, resume=resume)
        if saved is not None:
            ledger.rewind_log(saved["stage"], saved["step"])
        work = _Work(recipe, items, validation, tools or _tools(), seed, measure_every, every_minutes * 60, workers, fabric)
        torch.manual_seed(_seed(seed))
        nets = recipe.networks()
        stages = recipe.stages()
        shipped: dict[str, dict[str, Tensor]] = {}  # weights that a finished stage would ship, where they are not the networks' own
        measured: dict[str, float] = {}
        for index, stage in enumerate(stages):
            if stage.enter is not None:
                torch.manual_seed(_seed(seed, index))
                stage.enter(nets)
            _place(nets, place)
            if saved is not None and index < saved["stage"]:
                continue
            state = _State(index, stage, nets, settings["precision"], shipped, measured)
            if saved is not None and index == saved["stage"]:
                state.begin(work)
                state.load(saved)
                saved = None
            else:
                state.begin(work)
                ledger.write_checkpoint(state.saved())
            if stage.step is None:
                _fit(work, state, ledger, progress, stop)
            else:
                _run_stage(work, state, ledger, progress, stop)
            state.end(last=index == len(stages) - 1)
        if saved is not None:  # the run was finished already
            for name, net in nets.items():
                net.load_state_dict(saved["nets"][name])
            shipped, measured = saved["shipped"], saved["measured"]
        else:
            done = {"stage": len(stages), "step": 0, "nets": _weights(nets), "shipped": shipped, "measured": measured}
            ledger.write_checkpoint(done)
    names = recipe.ships or tuple(nets)
    weights = {f"{n}.{key}": t for n in names for key, t in shipped.get(n, nets[n].state_dict()).items()}
    path = ledger.folder / WEIGHTS
    _save_weights(path, weights, system, recipe, measured, command, dict(card or {}))
    return path


@dataclasses.dataclass(frozen=True)
class _Work:
    """What stays the same over the whole training."""

    recipe: Recipe
    items: Sequence[Item]
    validation: Sequence[Item]
    tools: Tools
    seed: int
    measure_every: int
    checkpoint_every: float  # seconds
    workers: int
    fabric: Fabric


class _State:
    """What a checkpoint holds, and the stage it belongs to."""

    def __init__(
        self, index: int, stage: Stage, nets: Networks, precision: str, shipped: dict[str, Any], measured: dict[str, float]
    ) -> None:
        self.index = index
        self.stage = stage
        self.nets = nets
        self.precision = precision
        self.shipped = shipped
        self.measured = measured
        self.averages: Networks = {}
        self.best: dict[str, dict[str, Tensor]] = {}
        self.best_value = math.inf
        self.waited = 0  # measurements since the best one
        self.totals: dict[str, float] = {}  # sums of the scalars since the last log line
        self.counted = 0

    def begin(self, work: _Work) -> None:
        """Freeze what does not learn, make averages and optimizers."""
        trained = {name: self.nets[name] for name in self.stage.trains}
        self.frozen = [p for name, net in self.nets.items() if name not in trained for p in net.parameters() if p.requires_grad]
        for parameter in self.frozen:
            parameter.requires_grad_(False)
        if self.stage.average > 0:
            self.averages = {name: copy.deepcopy(net).requires_grad_(False).eval() for name, net in trained.items()}
        fabric = work.fabric
        learns = self.stage.step is not None
        wrapped = {n: fabric.setup_module(net) if learns and n in trained and _learns(net) else net for n, net in self.nets.items()}
        self.plain = self.stage.optimizers(self.nets) if self.stage.optimizers is not None else {}
        self.rates = {name: [group["lr"] for group in o.param_groups] for name, o in self.plain.items()}
        optimizers = {name: fabric.setup_optimizers(optimizer) for name, optimizer in self.plain.items()}
        device = work.fabric.device
        self.run = Run(wrapped, optimizers, self.stage, 0, device, self.precision, fabric.backward)
        self.modes()

    def modes(self) -> None:
        """Networks that learn in training mode, all others in evaluation mode."""
        for name, net in self.run.nets.items():
            net.train(name in self.stage.trains and self.stage.step is not None)

    def shown(self) -> Networks:
        """The networks as they would be shipped now."""
        return {**self.nets, **self.averages}

    def average(self) -> None:
        """Move the averages towards the networks."""
        step = self.run.step
        decay = min(self.stage.average, (1 + step) / (10 + step))
        for name, average in self.averages.items():
            source = self.nets[name]
            _blend(list(average.parameters()), list(source.parameters()), 1 - decay)
            for (key, old), new in zip(average.named_buffers(), source.buffers(), strict=True):
                if key.rpartition(".")[2].startswith("running_"):
                    _blend([old], [new], 1 - decay)
                else:
                    old.copy_(new)

    def keep(self, metrics: dict[str, float]) -> None:
        """Remember these weights if they are the best so far."""
        self.measured.clear()
        self.measured.update(metrics)
        if not self.stage.watch:
            return
        value = metrics.get(self.stage.watch)
        if value is None:
            raise ValueError(f"stage {self.stage.name} watches {self.stage.watch!r}, but measure gives {sorted(metrics)}")
        if value < self.best_value:
            shown = self.shown()
            self.best = _weights({name: shown[name] for name in self.stage.trains})
            self.best_value, self.best_metrics, self.waited = value, metrics, 0
        else:
            self.waited += 1

    def end(self, *, last: bool) -> None:
        """Hand the weights on to the next stage and give frozen parameters back."""
        shown = self.best or _weights(self.averages)
        if self.best:
            self.measured.update(self.best_metrics)
        for name in self.stage.trains:
            self.shipped.pop(name, None)
            if name in shown and (self.stage.hand_on or last):
                self.nets[name].load_state_dict(shown[name])
            elif name in shown:
                self.shipped[name] = shown[name]
        for parameter in self.frozen:
            parameter.requires_grad_(True)

    def saved(self) -> dict[str, Any]:
        """Everything that a resumed run needs. TrainingError (not-finite) if a weight is not finite."""
        nets, averages = _weights(self.nets), _weights(self.averages)
        for kind in (nets, averages):
            for name, state in kind.items():
                for key, tensor in state.items():
                    if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                        raise _not_finite(f"{name}.{key}", self)
        gradients = {n: {k: p.grad for k, p in net.named_parameters() if p.grad is not None} for n, net in self.nets.items()}
        return {
            "stage": self.index,
            "step": self.run.step,
            "nets": nets,
            "averages": averages,
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.plain.items()},
            "gradients": gradients,  # of papers that accumulate over several steps
            "best": self.best,
            "best_value": self.best_value,
            "best_metrics": self.best_metrics if self.best else {},
            "waited": self.waited,
            "totals": self.totals,
            "counted": self.counted,
            "shipped": self.shipped,
            "measured": self.measured,
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Go back to what `saved` gave."""
        try:
            for name, net in self.nets.items():
                net.load_state_dict(saved["nets"][name])
            for name, net in self.averages.items():
                net.load_state_dict(saved["averages"][name])
            for name, optimizer in self.plain.items():
                optimizer.load_state_dict(saved["optimizers"][name])
        except (KeyError, RuntimeError, ValueError) as error:
            raise TrainingError(f"the checkpoint is of other networks ({error})", code="cannot-resume") from error
        for name, gradients in saved["gradients"].items():
            for key, parameter in self.nets[name].named_parameters():
                parameter.grad = gradients[key].to(parameter.device) if key in gradients else None
        self.run.step = saved["step"]
        self.best, self.best_value, self.best_metrics = saved["best"], saved["best_value"], saved["best_metrics"]
        self.waited, self.totals, self.counted = saved["waited"], saved["totals"], saved["counted"]
        self.shipped.update(saved["shipped"])
        self.measured.update(saved["measured"])


def _run_stage(work: _Work, state: _State, ledger: Ledger, progress: Progress, stop: StopRequest) -> None:
    """The loop."""
    stage, run = state.stage, state.run
    assert stage.step is not None
    measure_every = work.measure_every or max(1, math.ceil(stage.steps / 20))
    log_every = max(1, min(100, stage.steps // 100))
    written = time.monotonic()
    progress.stage(stage.name, stage.steps, run.step, stage.batch)
    keys = {"seed": work.seed, "stage": state.index, "batch": stage.batch}
    patient = not (stage.patience and state.waited >= stage.patience)
    for batch in batches(work.recipe, work.items, first=run.step, last=stage.steps if patient else 0, workers=work.workers, **keys):
        batch = _to(batch, run.device)
        torch.manual_seed(_seed(work.seed, state.index, run.step))
        for name, optimizer in state.plain.items():
            for group, rate in zip(optimizer.param_groups, state.rates[name], strict=True):
                group["lr"] = rate * stage.schedule(run.progress)

        scalars = _numbers(stage.step(run, batch))
        for name, value in scalars.items():
            if not math.isfinite(value):
                raise _not_finite(name, state)
        run.step += 1
        state.average()

        for name, value in scalars.items():
            state.totals[name] = state.totals.get(name, 0.0) + value
        state.counted += 1
        progress.step(scalars)
        last = run.step == stage.steps
        if run.step % log_every == 0 or last:
            means = {name: total / state.counted for name, total in state.totals.items()}
            ledger.log(stage=state.index, name=stage.name, step=run.step, **means, examples_per_second=progress.rate)
            state.totals, state.counted = {}, 0
        if run.step % measure_every == 0 or last:
            _measure(work, state, ledger, progress, batch)
            if stage.patience and state.waited >= stage.patience:
                progress.say(f"{stage.name}: no better {stage.watch} in {stage.patience} measurements, stopped at step {run.step}")
                return
        if stop.asked or time.monotonic() - written > work.checkpoint_every:
            ledger.write_checkpoint(state.saved())
            written = time.monotonic()
            if stop.asked:
                progress.say(f"stopped at step {run.step} of {stage.name}; resume goes on from here")
                raise KeyboardInterrupt


def _fit(work: _Work, state: _State, ledger: Ledger, progress: Progress, stop: StopRequest) -> None:
    """A stage without a loop. Ctrl-C ends it at once; it starts again on resume."""
    stage = state.stage
    assert stage.fit is not None
    progress.stage(stage.name, 1, 0, len(work.items))
    torch.manual_seed(_seed(work.seed, state.index, 0))
    with stop.at_once():
        scalars = _numbers(stage.fit(state.run, work.items))
    for name, value in scalars.items():
        if not math.isfinite(value):
            raise _not_finite(name, state)
    ledger.log(stage=state.index, name=stage.name, step=1, **scalars)
    progress.step(scalars)
    _measure(work, state, ledger, progress, None)


def _measure(work: _Work, state: _State, ledger: Ledger, progress: Progress, batch: Batch | None) -> None:
    """Measure and preview the networks as they would be shipped, without a trace in the training."""
    shown = state.shown()
    for net in shown.values():
        net.eval()
    step = state.run.step
    measure = state.stage.measure or work.recipe.measure
    with torch.no_grad():  # not inference_mode: a network may keep a grid it made here and use it in training
        sheet = None if batch is None else work.recipe.preview(dataclasses.replace(state.run, nets=shown), batch)
        metrics = dict(measure(shown, work.validation, work.tools)) if work.validation else {}
    state.modes()
    if sheet is not None:
        ledger.sheet(f"{state.index}-{state.stage.name}-{step:07d}", sheet)
    if metrics:
        ledger.log(stage=state.index, name=state.stage.name, step=step, measured=metrics)
        progress.say(f"{state.stage.name} step {step}: " + "  ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
        state.keep(metrics)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def _place(nets: Networks, device: torch.device) -> None:
    """To the device; weights of convolutions channels_last, everything else contiguous (L-BFGS wants pictures so)."""
    for net in nets.values():
        net.to(device)
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.to(memory_format=torch.channels_last)


def _to(batch: Batch, device: torch.device) -> Batch:
    """To the device, pictures channels_last."""
    def one(t: Tensor) -> Tensor:
        if t.dim() == 4 and t.is_floating_point():
            return t.to(device, non_blocking=True, memory_format=torch.channels_last)
        return t.to(device, non_blocking=True)

    return {name: one(tensor) for name, tensor in batch.items()}


def _numbers(scalars: Mapping[str, Tensor | float]) -> dict[str, float]:
    return {name: float(value.detach() if isinstance(value, Tensor) else value) for name, value in scalars.items()}


def _learns(net: nn.Module) -> bool:
    return any(p.requires_grad for p in net.parameters())


def _weights(nets: Mapping[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
    return {n: {k: t.detach().clone() if isinstance(t, Tensor) else t for k, t in net.state_dict().items()} for n, net in nets.items()}


def _blend(old: Sequence[Tensor], new: Sequence[Tensor], weight: float) -> None:
    with torch.no_grad():
        torch._foreach_lerp_(list(old), [t.detach() for t in new], weight)


def _not_finite(what: str, state: _State) -> TrainingError:
    where = f"stage {state.stage.name}, step {state.run.step}"
    hint = "the last good checkpoint is kept; try a lower learning rate or fp32"
    return TrainingError(f"{what} is not finite in {where}", code="not-finite", hint=hint)


def _tools() -> Tools:
    from visagist.training import metrics

    return Tools(metrics)


def _save_weights(
    path: Path, weights: dict[str, Tensor], system: str, recipe: Recipe, measured: dict[str, float], command: str, card: dict[str, Any]
) -> None:
    from safetensors.torch import save_file

    from visagist.training.ledger import replace_file

    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in weights.items()}
    replace_file(path, lambda draft: save_file(tensors, draft))
