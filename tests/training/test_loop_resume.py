"""A stopped and resumed training equals a straight one bit for bit, wherever and however it was stopped.

Run as a script (`python test_loop_resume.py FOLDER MOMENT`) this file trains and is killed at a moment: see `main`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from visagist.errors import TrainingError, UsageError
from visagist.recipe import Item, Recipe, Stage, Tools
from visagist.training import ledger
from visagist.training.loop import train

ITEMS = [Item(f"{i}.png", lambda: None) for i in range(7)]


@dataclass(frozen=True)
class Everything(Recipe):
    """Two adversaries with Adam and dropout, batch norm, channels_last weights, averages, best weights, gradients that
    wait over several steps; then a grown generator trained by L-BFGS; then a fit."""

    steps: int = 9

    def networks(self):
        body = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(8, 3, 3, padding=1)]
        critic = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 1))
        head = nn.Linear(1, 3)
        head.register_buffer("fitted", torch.zeros(1))
        return {"G": nn.Sequential(*body), "D": critic, "head": head}

    def stages(self):
        def adam(nets):
            return {name: torch.optim.Adam(nets[name].parameters(), 0.01) for name in "GD"}

        def lbfgs(nets):
            return {"head": torch.optim.LBFGS(nets["head"].parameters(), max_iter=3)}

        def enter(nets):
            nn.init.normal_(nets["head"].weight)

        common = {"batch": 4, "steps": self.steps, "watch": "error"}
        return (
            Stage("play", ("G", "D"), step=self.play, optimizers=adam, average=0.9, schedule=lambda p: 1 - p, **common),
            Stage("polish", ("head",), step=self.polish, optimizers=lbfgs, enter=enter, **common),
            Stage("fit", ("head",), fit=self.fit),
        )

    def example(self, item, rng):
        return {"image": rng.normal(size=(3, 8, 8)).astype(np.float32)}

    def play(self, run, batch):
        at(run)
        generator, critic, real = run.nets["G"], run.nets["D"], batch["image"]  # [4,3,8,8]
        with run.autocast():
            fake = generator(real + torch.randn_like(real))
            d_loss = (critic(fake.detach()) - critic(real)).float().mean()
        run.backward(d_loss)
        if run.step % 2:  # applied every other step
            run.apply("D")
        with run.autocast(), run.frozen("D"):
            g_loss = (critic(fake).float() ** 2).mean()
        run.update("G", g_loss)
        return {"D": d_loss, "G": g_loss}

    def polish(self, run, batch):
        at(run)
        wanted = run.nets["G"](batch["image"]).mean((0, 2, 3))
        return {"loss": run.minimize("head", lambda: (run.nets["head"](torch.ones(1, 1))[0] - wanted).square().sum())}

    def fit(self, run, items):
        at(run)
        run.nets["head"].fitted.copy_(run.nets["head"].weight.sum() + torch.rand(1))
        return {"n": len(items)}

    def measure(self, nets, items, tools):
        return {"error": float(sum(p.sum() for p in nets["G"].parameters()).abs()), "n": len(items)}


def at(run) -> None:
    """Called at every step; tests put something here."""


def go(out: Path, **options: Any) -> Path:
    settings = {"system": "toy", "validation": ITEMS[:2], "workers": 0, "quiet": True, "tools": Tools(None), "precision": "bf16"}
    recipe = options.pop("recipe", Everything())
    return train(recipe, options.pop("items", ITEMS), out, **{**settings, "measure_every": 2, **options})


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    go(out)
    return out


def same(out: Path, straight: Path) -> None:
    """Weights, and what was logged, but for the clock."""
    assert (out / "weights.safetensors").read_bytes() == (straight / "weights.safetensors").read_bytes()
    assert (out / "checkpoint.safetensors").read_bytes() == (straight / "checkpoint.safetensors").read_bytes()
    assert log(out) == log(straight)


def log(out: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in entry.items() if k != "examples_per_second"} for entry in entries]


@pytest.mark.parametrize(("stage", "step"), [(0, 0), (0, 4), (0, 8), (1, 3), (2, 0)])
def test_ctrl_c_then_resume_equals_a_straight_run(stage, step, straight, tmp_path, monkeypatch):
    def interrupt(run):
        if (run.stage.name, run.step) == (("play", "polish", "fit")[stage], step):
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys.modules[__name__], "at", interrupt)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "weights.safetensors").exists()
    saved = ledger.Ledger(tmp_path).read_checkpoint()
    assert (saved["stage"], saved["step"]) == (stage, 0 if stage == 2 else step + 1)
    monkeypatch.undo()
    go(tmp_path, resume=True)
    same(tmp_path, straight)


@dataclass(frozen=True)
class Patient(Recipe):
    """Long enough that a line of the log is a mean over several steps; stops early."""

    def networks(self):
        return {"net": nn.Linear(1, 1)}

    def stages(self):
        sgd = lambda nets: {"net": torch.optim.SGD(nets["net"].parameters(), 1e-3)}  # noqa: E731
        return (Stage("only", ("net",), step=self.step, optimizers=sgd, steps=500, watch="error", patience=3),)

    def example(self, item, rng):
        return {"x": rng.normal(size=1)}

    def step(self, run, batch):
        at(run)
        loss = run.nets["net"](batch["x"]).square().mean()
        run.update("net", loss)
        return {"loss": loss}

    def measure(self, nets, items, tools):
        return {"error": 1.0, "n": len(items)}


def test_means_of_the_log_and_patience_outlive_an_interruption(tmp_path, monkeypatch):
    def interrupt(run):
        if run.step == 102:  # within a line of five steps, after two of four measurements
            signal.raise_signal(signal.SIGINT)

    go(tmp_path / "a", recipe=Patient(), measure_every=50)
    assert log(tmp_path / "a")[-1]["step"] == 200
    monkeypatch.setattr(sys.modules[__name__], "at", interrupt)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "b", recipe=Patient(), measure_every=50)
    monkeypatch.undo()
    go(tmp_path / "b", recipe=Patient(), measure_every=50, resume=True)
    same(tmp_path / "b", tmp_path / "a")


def test_checkpoints_at_every_step_change_nothing(straight, tmp_path):
    go(tmp_path, every_minutes=0)
    same(tmp_path, straight)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(workers, straight, tmp_path):
    go(tmp_path, workers=workers)
    same(tmp_path, straight)


def test_another_seed_changes_something(straight, tmp_path):
    go(tmp_path, seed=1)
    assert (tmp_path / "weights.safetensors").read_bytes() != (straight / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("moment", ["half-written", *(pytest.param(m, marks=pytest.mark.long) for m in ("written", "step"))])
def test_kill_9_loses_nothing_that_was_saved(moment, straight, tmp_path):
    command = [sys.executable, __file__, str(tmp_path), moment]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert (tmp_path / ".checkpoint.safetensors.part").exists() == (moment != "step")
    saved = ledger.Ledger(tmp_path).read_checkpoint()
    assert (saved["stage"], saved["step"]) == (0, 5 if moment == "step" else 4)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"stage": 0, "st')  # a line cut off
    go(tmp_path, resume=True)
    same(tmp_path, straight)
    assert not (tmp_path / ".checkpoint.safetensors.part").exists()


def test_resuming_a_finished_run_only_writes_the_weights_again(straight, tmp_path):
    go(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    go(tmp_path, resume=True)
    same(tmp_path, straight)


def test_resume_without_a_checkpoint_starts(straight, tmp_path):
    go(tmp_path, resume=True)
    same(tmp_path, straight)


def test_a_folder_with_a_run_is_not_overwritten(straight):
    with pytest.raises(UsageError) as info:
        go(straight)
    assert info.value.code == "output-clash"


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 5},
        {"items": ITEMS[1:]},
        {"recipe": Everything(steps=10)},
        {"precision": "fp32"},
        {"validation": ITEMS},
        {"system": "x"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_resume_refuses_other_settings_and_data(other, straight):
    with pytest.raises(TrainingError, match="started with other") as info:
        go(straight, resume=True, **other)
    assert info.value.code == "cannot-resume"
    assert info.value.exit_code == 4


def damage(out: Path, how: str) -> None:
    file = out / "checkpoint.safetensors"
    data = file.read_bytes()
    file.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "text": b"hello, I am text" * 9}[how])


@pytest.mark.parametrize("how", ["empty", "cut", "text"])
def test_a_damaged_checkpoint_is_said_so(how, straight, tmp_path):
    for name in ("settings.json", "checkpoint.safetensors"):
        (tmp_path / name).write_bytes((straight / name).read_bytes())
    damage(tmp_path, how)
    with pytest.raises(TrainingError, match="damaged") as info:
        go(tmp_path, resume=True)
    assert info.value.code == "cannot-resume"


def main() -> None:
    """Kill this process in a step, while a checkpoint is half written, or between its end and the renaming."""
    out, moment = Path(sys.argv[1]), sys.argv[2]
    os.environ["OMP_NUM_THREADS"] = "1"
    write = ledger.replace_file
    writes = [0]

    def killing(path: Path, save) -> None:
        writes[0] += path.name == "checkpoint.safetensors"
        if moment == "step" or writes[0] < 6:  # one at the start, then one per step
            return write(path, save)
        draft = path.with_name(f".{path.name}.part")
        save(draft)
        if moment == "half-written":
            os.truncate(draft, draft.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    def kill(run) -> None:
        if moment == "step" and run.step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    ledger.replace_file = killing
    globals()["at"] = kill
    go(out, every_minutes=0)


if __name__ == "__main__":
    main()
