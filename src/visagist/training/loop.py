"""Train any recipe: examples, steps, measurements, checkpoints, and a weights file with its card at the end.

Read `train`, then `_loop`. Nothing random is stored: the order of the data follows from (seed, stage, epoch), an example from
(seed, stage, step, position), torch's generator from (seed, stage, step). So a checkpoint is weights, averages, optimizers and
two counters, and a stopped and resumed run equals a straight one bit for bit on the same machine.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import time
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from visagist.errors import TrainingError, UsageError
from visagist.photo.photo import Photo
from visagist.recipe import Batch, Item, Networks, Recipe, Tools
from visagist.training.feed import batches
from visagist.training.ledger import WEIGHTS, Ledger
from visagist.training.run import Progress, StopRequest, borrowed, choose_device, choose_precision, fingerprint, torch_threads
from visagist.training.state import Figures, State, finished
from visagist.weights import store
from visagist.weights.card import read_card


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
    start: str | Path | None = None,
    blend: float = 1.0,
    workers: int = 1,
    threads: int | None = None,
    processes: int = 1,
    nodes: int = 1,
    tools: Tools | None = None,
    lent: Mapping[str, Networks] | None = None,
    pictures: Mapping[str, Photo] | None = None,
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
    start          weights file or run folder of the same networks to begin with, instead of random numbers
    blend          share of what was learnt in the weights that are written, the rest is what they began with (`start`): what a
                   network knew is kept while it learns more (Wortsman et al., Robust fine-tuning of zero-shot models. CVPR 2022,
                   eq. 1). It changes nothing in the training: a finished run that is resumed with another blend writes others
    workers        processes that make examples, 0 for none; the result does not depend on it
    threads        threads of torch in this process, None to leave them
    processes      that share each batch on every one of `nodes` machines (started again by Lightning Fabric with the same command)
    lent, pictures what the recipe borrows and looks at, by the names of its fields
    every_minutes  how often a checkpoint is written, besides those at the start of each stage and at Ctrl-C
    measure_every  steps between measurements, 0 for ten per stage, or one after every pass where a stage counts those
    command        the command line, for the card
    card           what else goes into the weights card: preset, input, paper, trained_on, commercial_use, limits, and
                   validation_set, validation_fold, which name what was measured on

    Raises TrainingError not-finite (the step is named, the last good checkpoint stays), no-data, bad-data, cannot-resume;
    UsageError output-clash, no-device; KeyboardInterrupt on Ctrl-C, once the checkpoint is written.
    """
    if not items:
        raise TrainingError("no item to train on", code="no-data")
    if not 0 < blend <= 1 or (blend < 1 and start is None):
        raise UsageError(f"a blend of {blend:g}", code="usage", hint="0 to 1; below 1 the training needs weights to begin with")
    recipe = recipe.suited(items)
    path = Path(out) / WEIGHTS
    described = _card_fields(system, recipe, command, card or {})
    store.describe(path, **described[0])  # what is wrong with the card is said now and not after the training
    place = choose_device(device)
    # Fabric stays at full precision, Run opens torch.autocast: Fabric's own mixed precision refuses gradient penalties.
    strategy = "ddp" if processes * nodes > 1 else "auto"
    fabric = Fabric(accelerator=place.type, devices=processes, num_nodes=nodes, strategy=strategy, precision="32-true")
    fabric.launch()
    tools = dataclasses.replace(tools or (_tools() if validation else Tools(None)), lent=lent or {}, pictures=pictures or {})
    settings = {
        "system": system,
        "recipe": type(recipe).__name__,
        "settings": dataclasses.asdict(recipe),
        "seed": seed,
        "precision": choose_precision(precision, place),
        "measure_every": measure_every,
        "data": fingerprint(items),
        "validation": fingerprint(validation),
        "processes": fabric.world_size,
        "threads": threads or torch.get_num_threads(),
        "device": place.type,
        "command": command,
        **({"borrowed": hashes} if (hashes := borrowed(tools)) else {}),
        **({"start": read_card(store.find(start)).sha256[:16]} if start is not None else {}),
    }
    ledger = Ledger(Path(out), silent=not fabric.is_global_zero)
    work = _Work(recipe, items, validation, tools, seed, measure_every, every_minutes * 60, workers, fabric, ledger)
    with torch_threads(threads), Progress(quiet or not fabric.is_global_zero) as progress, StopRequest() as stop:
        saved = ledger.begin(settings, resume=resume)
        fabric.barrier()
        torch.manual_seed(_seed(seed))
        nets = recipe.networks()
        if start is not None:
            _begin_with(nets, recipe.ships, start)
        figures = Figures()
        stages = [stage.over(len(items)) for stage in recipe.stages()]
        for index, stage in enumerate(stages):
            if stage.enter is not None:
                torch.manual_seed(_seed(seed, index))
                stage.enter(nets)
            _place(nets, fabric.device)
            if saved is not None and index < saved["stage"]:
                continue
            state = State(index, stage, nets, figures, fabric, str(settings["precision"]))
            state.run.tools = tools
            if saved is not None:
                state.load(saved)
                saved = None
            else:
                ledger.write_checkpoint(state.saved())
            run_stage = _fit if stage.step is None else _loop
            run_stage(work, state, progress, stop)
            state.end(last=index == len(stages) - 1)
        if saved is None:
            ledger.write_checkpoint(finished(len(stages), nets, figures))
        else:  # it was finished before; what is left is to write the weights
            for name, net in nets.items():
                net.load_state_dict(saved["nets"][name])
            figures = Figures(saved["shipped"], saved["measured"])
    if fabric.is_global_zero:
        weights = store.state(nets, recipe.ships)
        weights |= {f"{n}.{k}": t for n, state in figures.shipped.items() for k, t in state.items() if f"{n}.{k}" in weights}
        measured = figures.measured
        if blend < 1 and start is not None:
            weights = _blended(weights, start, blend, {name for stage in stages if stage.step for name in stage.trains})
            measured = _measured_anew(recipe, nets, weights, validation, tools) if validation else {}
        fields, on = described
        store.save(path, weights, measured=_rows(recipe, measured, len(validation), on), bits=recipe.bits, **fields)
    fabric.barrier()
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
    ledger: Ledger


def _loop(work: _Work, state: State, progress: Progress, stop: StopRequest) -> None:
    """The loop."""
    stage, run, fabric, ledger = state.stage, state.run, work.fabric, work.ledger
    assert stage.step is not None
    if stage.batch % fabric.world_size:
        raise UsageError(f"{fabric.world_size} processes cannot share batches of {stage.batch}", code="usage")
    measure_every = work.measure_every or math.ceil(stage.steps / (stage.epochs or 10))
    log_every = max(1, min(100, stage.steps // 100))
    written = time.monotonic()
    progress.stage(stage.name, stage.steps, run.step, stage.batch)
    feed = batches(
        work.recipe, work.items, seed=work.seed, stage=state.index, batch=stage.batch, first=run.step, last=stage.steps,
        workers=work.workers, rank=fabric.global_rank, world=fabric.world_size, pin=fabric.device.type == "cuda",
    )  # fmt: skip
    for batch in feed:
        batch = _to(batch, fabric.device)
        state.set_rates()
        torch.manual_seed(_seed(work.seed, state.index, run.step, fabric.global_rank))
        scalars = stage.step(run, batch)
        overdue = time.monotonic() - written > work.checkpoint_every
        scalars, stopping, overdue = _agree(fabric, scalars, stop.asked, overdue)
        state.count(scalars)
        progress.step(scalars)

        last = run.step == stage.steps
        if run.step % log_every == 0 or last:
            line = {**state.means(), "examples_per_second": progress.rate}
            ledger.log(stage=state.index, name=stage.name, step=run.step, **line)
        if run.step % measure_every == 0 or last:
            _measure(work, state, progress, batch)
            if state.exhausted:
                progress.say(f"{stage.name}: no better {stage.watch} in {stage.patience} measurements, stopped at step {run.step}")
                return
        if stopping or overdue:
            ledger.write_checkpoint(state.saved())
            written = time.monotonic()
        if stopping:
            progress.say(f"{stage.name}: interrupted at step {run.step}, the checkpoint is written")
            raise KeyboardInterrupt


def _fit(work: _Work, state: State, progress: Progress, stop: StopRequest) -> None:
    """A stage without a loop. Ctrl-C ends it at once, and a resumed run begins it again."""
    stage = state.stage
    assert stage.fit is not None
    progress.stage(stage.name, 1, 0, len(work.items))
    torch.manual_seed(_seed(work.seed, state.index, 0))
    with stop.at_once():
        scalars = _numbers(stage.fit(state.run, work.items))
    state.count(scalars)
    progress.step(scalars)
    work.ledger.log(stage=state.index, name=stage.name, step=state.run.step, **state.means())
    _measure(work, state, progress, None)


def _measure(work: _Work, state: State, progress: Progress, batch: Batch | None) -> None:
    """Measure and preview the networks as they would be shipped, without a trace in the training."""
    name, step, shown = state.stage.name, state.run.step, state.shown()
    metrics: dict[str, float] = {}
    progress.note("measuring")
    if work.fabric.is_global_zero:
        for net in shown.values():
            net.eval()
        with torch.no_grad():  # not inference_mode: a network may keep a grid that it made here and use it in training
            if batch is not None:
                sheet = work.recipe.preview(dataclasses.replace(state.run, nets=shown), batch)
                if sheet is not None:
                    work.ledger.sheet(f"{state.index}-{name}-{step:07d}", sheet)
            if work.validation:
                measure = state.stage.measure or work.recipe.measure
                metrics = dict(measure(shown, work.validation, work.tools))
        state.set_modes()
    metrics = work.fabric.broadcast(metrics)
    if metrics:
        work.ledger.log(stage=state.index, name=name, step=step, measured=metrics)
        progress.say(f"{name} {step}: " + "  ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
        state.judge(metrics)


def _agree(fabric: Fabric, scalars: Mapping[str, Tensor | float], *wishes: bool) -> tuple[dict[str, float], bool, bool]:
    """Scalars as numbers; over several processes their means, and each wish granted to all if one has it."""
    if fabric.world_size == 1:
        return _numbers(scalars), wishes[0], wishes[1]
    numbers = _numbers(scalars)
    told = torch.tensor([*numbers.values(), *wishes], dtype=torch.float64, device=fabric.device)
    *means, first, second = fabric.all_reduce(told).tolist()  # type: ignore[union-attr]
    return dict(zip(numbers, means, strict=True)), first > 0, second > 0


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def _begin_with(nets: Networks, ships: Sequence[str], start: str | Path) -> None:
    """Give the networks these weights. WeightsError as `store.read`; "wrong-shape" where they are of other networks."""
    tensors, _ = store.read(start)
    own = {name: nets[name] for name in ships or tuple(nets)}
    if problems := store.compare(own, tensors):
        raise store.mismatch(problems, start)
    for prefix, net in own.items():
        net.load_state_dict(
            {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
        )


def _blended(weights: Mapping[str, Tensor], start: str | Path, share: float, learnt: Set[str]) -> dict[str, Tensor]:
    """The tensors of the `learnt` networks as far from those of `start` towards these as `share` says."""
    before, _ = store.read(start)
    kept = {name for name, value in weights.items() if name.split(".")[0] not in learnt or not value.is_floating_point()}
    old = {name: before[name].to(value) for name, value in weights.items() if name not in kept}
    return {name: value if name in kept else torch.lerp(old[name], value, share) for name, value in weights.items()}


def _measured_anew(
    recipe: Recipe, nets: Networks, weights: Mapping[str, Tensor], validation: Sequence[Item], tools: Tools
) -> dict[str, float]:
    """The figures of the networks with these weights, which they are given."""
    for prefix in recipe.ships or tuple(nets):
        own = {name.removeprefix(f"{prefix}."): value for name, value in weights.items() if name.startswith(f"{prefix}.")}
        nets[prefix].load_state_dict(own)
        nets[prefix].eval()
    with torch.no_grad():
        return dict(recipe.measure(nets, validation, tools))


def _place(nets: Networks, device: torch.device) -> None:
    """To the device; weights of convolutions channels_last, everything else as it is (L-BFGS wants pictures contiguous)."""
    for net in nets.values():
        net.to(device)
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                for parameter in module.parameters():
                    if parameter.dim() == 4:
                        parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _to(batch: Batch, device: torch.device) -> Batch:
    """To the device, pictures channels_last."""
    layout = {n: torch.channels_last if t.dim() == 4 and t.is_floating_point() else torch.preserve_format for n, t in batch.items()}
    return {name: tensor.to(device, non_blocking=True, memory_format=layout[name]) for name, tensor in batch.items()}


def _numbers(scalars: Mapping[str, Tensor | float]) -> dict[str, float]:
    return {name: float(value.detach() if isinstance(value, Tensor) else value) for name, value in scalars.items()}


def _tools() -> Tools:
    from visagist.training import metrics

    return Tools(metrics)


def _card_fields(system: str, recipe: Recipe, command: str, card: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """What `store.save` is told of these weights besides the figures, and the set and fold of the figures."""
    fields = {"input": "", "paper": "", "commercial_use": False, **card, "system": system, "command": command}
    on = {"set": fields.pop("validation_set", "validation"), "fold": fields.pop("validation_fold", "dev")}
    fields["settings"] = {"preset": fields.pop("preset", ""), **dataclasses.asdict(recipe)}
    known = set(inspect.signature(store.save).parameters) - {"place", "state", "measured", "bits"}
    if unknown := sorted(fields.keys() - known):
        raise UsageError(f"a weights card has no field {', '.join(unknown)}", code="bad-setting")
    return fields, on


def _rows(recipe: Recipe, metrics: Mapping[str, float], count: int, on: Mapping[str, str]) -> list[dict[str, Any]]:
    """Figures as the card keeps them. Metrics called n or n_... are counts; they stand beside those they belong to."""
    n = int(metrics.get("n", metrics.get("n_photos", count)))
    figures = {name: float(value) for name, value in metrics.items() if name != "n" and not name.startswith("n_")}
    known = {name: value for name, value in figures.items() if math.isfinite(value)}
    return [{"metric": name, "value": value, "n": int(metrics.get(recipe.counted(name), n)), **on} for name, value in known.items()]
