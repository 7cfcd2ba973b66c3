"""What can go wrong in a training is said in one line, and what was good is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from visagist.errors import OutputError, PhotoError, TrainingError, UsageError, WeightsError
from visagist.recipe import Item, Recipe, Stage, Tools
from visagist.training import run as run_module
from visagist.training.evaluate import evaluate
from visagist.training.ledger import Ledger
from visagist.training.loop import train
from visagist.weights import device as devices


@dataclass(frozen=True)
class Toy(Recipe):
    steps: int = 6

    def networks(self):
        return {"net": nn.Linear(2, 1)}

    def stages(self):
        sgd = lambda nets: {"net": torch.optim.SGD(nets["net"].parameters(), 0.01)}  # noqa: E731
        return (Stage("only", ("net",), step=self.step, optimizers=sgd, batch=4, steps=self.steps),)

    def example(self, item, rng):
        return {"x": rng.normal(size=2)}

    def step(self, run, batch):
        loss = run.nets["net"](batch["x"]).square().mean()
        run.update("net", loss)
        return {"loss": loss}


ITEMS = [Item(f"{i}.png", lambda: None) for i in range(5)]


def go(recipe: Recipe, out: Path, items=ITEMS, **options):
    return train(recipe, items, out, **{"system": "toy", "workers": 0, "quiet": True, "tools": Tools(None), **options})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_scalar_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(value, tmp_path):
    class Explodes(Toy):
        def step(self, run, batch):
            return {**super().step(run, batch), "penalty": torch.tensor(value) if run.step == 4 else 0.0}

    with pytest.raises(TrainingError, match="penalty is not finite in stage only, step 4") as info:
        go(Explodes(), tmp_path, every_minutes=0)
    assert info.value.code == "not-finite"
    assert info.value.exit_code == 4
    assert Ledger(tmp_path).read_checkpoint()["step"] == 4
    assert not (tmp_path / "weights.safetensors").exists()


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    class Poisons(Toy):
        def step(self, run, batch):
            if run.step == 3:
                run.nets["net"].weight.data[0, 0] = float("nan")
            return {"loss": 1.0}

    with pytest.raises(TrainingError, match=r"net\.weight is not finite in stage only, step 4") as info:
        go(Poisons(), tmp_path, every_minutes=0)
    assert info.value.code == "not-finite"
    assert Ledger(tmp_path).read_checkpoint()["step"] == 3


def test_weights_that_are_not_finite_at_the_end_are_not_shipped(tmp_path):
    class Poisons(Toy):
        def step(self, run, batch):
            run.nets["net"].weight.data.fill_(float("nan"))
            return {"loss": 1.0}

    with pytest.raises(TrainingError, match="not finite"):
        go(Poisons(), tmp_path)
    assert Ledger(tmp_path).read_checkpoint()["step"] == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_an_example_that_fails_names_its_item(workers, tmp_path):
    class Fails(Toy):
        def example(self, item, rng):
            if item.name == "3.png":
                raise PhotoError("ends too early", code="truncated", path="data/3.png")
            return super().example(item, rng)

    with pytest.raises(TrainingError, match=r"item 3\.png: data/3\.png: \[truncated\] ends too early") as info:
        go(Fails(), tmp_path, workers=workers)
    assert info.value.code == "bad-data"


def test_examples_of_different_shapes_are_said_so(tmp_path):
    class Ragged(Toy):
        def example(self, item, rng):
            return {"x": np.zeros(1 + int(item.name[0]))}

    with pytest.raises(ValueError, match="disagree on the shape of 'x'"):
        go(Ragged(), tmp_path)


def test_no_items(tmp_path):
    with pytest.raises(TrainingError) as info:
        go(Toy(), tmp_path, items=[])
    assert info.value.code == "no-data"
    with pytest.raises(TrainingError) as info:
        evaluate(Toy(), {}, [])
    assert info.value.code == "no-data"


def test_devices_and_precisions_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for wrong in ({"device": "cuda"}, {"device": "abacus"}, {"precision": "fp8"}):
        with pytest.raises(UsageError):
            go(Toy(), tmp_path, **wrong)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("card", "error", "what"),
    [
        ({"limits": 3}, WeightsError, "not iterable"),
        ({"paper": 7}, WeightsError, "paper: "),
        ({"trained_on": [{"set": "x", "count": 3}]}, WeightsError, "licence: field required"),
        ({"trained_on": ["x"]}, WeightsError, "card is wrong"),
        ({"commercial_use": "yes"}, WeightsError, "commercial_use: "),
        ({"licence": "MIT"}, UsageError, "no field licence"),
    ],
)
def test_what_is_wrong_with_the_card_is_said_before_the_training(card, error, what, tmp_path):
    with pytest.raises(error, match=what) as info:
        go(Toy(), tmp_path / "run", card=card)
    assert info.value.code in ("bad-card", "bad-setting")
    assert not (tmp_path / "run").exists()


def test_training_computes_in_bfloat16_where_use_does(monkeypatch):
    for quick, wanted in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(devices, "quick_bfloat16", lambda device, quick=quick: quick)
        assert run_module.choose_precision("auto", torch.device("cpu")) == wanted
        assert run_module.choose_precision("fp32", torch.device("cpu")) == "fp32"


def test_an_output_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("I am not a folder")
    with pytest.raises(OutputError) as info:
        go(Toy(), tmp_path / "file" / "run")
    assert info.value.code == "unwritable"


def test_plain_lines_where_stderr_is_no_terminal(tmp_path, capsys, monkeypatch):
    class Measured(Toy):
        def measure(self, nets, items, tools):
            return {"error": 0.5}

    monkeypatch.setattr(run_module, "EVERY", 0.0)
    go(Measured(), tmp_path / "a", quiet=False, validation=ITEMS, measure_every=6)
    output = capsys.readouterr()
    assert output.out == ""
    lines = output.err.splitlines()
    assert len(lines) == 7
    assert lines[0].startswith("only 1/6  loss ")
    assert lines[0].endswith("left")
    assert lines[-1] == "only 6: error 0.5"
    go(Measured(), tmp_path / "b", validation=ITEMS)
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    go(Toy(), tmp_path, quiet=False)
    assert "6/6" in capsys.readouterr().err


def test_a_second_ctrl_c_interrupts_at_once(tmp_path):
    class Twice(Toy):
        def step(self, run, batch):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not reached")

    with pytest.raises(KeyboardInterrupt):
        go(Twice(), tmp_path)
    assert Ledger(tmp_path).read_checkpoint()["step"] == 0


def test_threads_are_given_back(tmp_path):
    before = torch.get_num_threads()
    go(Toy(), tmp_path, threads=1)
    assert torch.get_num_threads() == before


def test_evaluate_measures_without_gradients_and_answers_in_json():
    class Measured(Toy):
        def measure(self, nets, items, tools):
            assert not nets["net"].training
            assert not torch.is_grad_enabled()
            assert tools.finder is not None
            return {"error": np.float32(0.5), "ratio": float("inf"), "n": float(len(items)), "n_faces": 3.0}

    result = evaluate(Measured(), Measured().networks(), ITEMS, finder=lambda photo: ())
    assert result == {"error": 0.5, "ratio": None, "n": 5, "n_faces": 3}
    assert [type(v) for v in result.values()] == [float, type(None), int, int]


@pytest.mark.long
def test_two_processes_share_a_batch_and_reach_the_same_weights(tmp_path):
    go(Toy(), tmp_path / "one", precision="fp32")
    command = [sys.executable, __file__, str(tmp_path / "two")]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=True, timeout=120)
    one, two = (Ledger(tmp_path / name).read_checkpoint()["nets"]["net"] for name in ("one", "two"))
    assert all(torch.allclose(one[k], two[k], atol=1e-6) for k in one)


if __name__ == "__main__":
    go(Toy(), Path(sys.argv[1]), precision="fp32", processes=2, device="cpu")
