"""The command as a process: how it starts, how it is stopped, what survives. Networks are fakes, see `faked`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from visagist.photo.photo import Photo
from visagist.training.data import cifar

Write = Callable[..., Path]
FAKED = Path(__file__).with_name("faked.py")


def start(arguments: Sequence[str | bytes], *, pause: float = 0, **more: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(FAKED), *arguments]
    environment = {**os.environ, "VISAGIST_TEST_PAUSE": str(pause)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def photos(here: Path, photo: Write) -> list[str]:
    return [photo(f"in/{number}.jpg").name for number in range(5)]


def results() -> list[str]:
    """The finished results, each a whole photo."""
    found = sorted(p for p in Path("out").iterdir() if not p.name.startswith("."))
    assert all(Photo.open(p).history for p in found)
    return [p.name for p in found]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130), (signal.SIGINT, 130)])
def test_a_stopped_batch_keeps_what_is_finished_and_a_rerun_does_the_rest(photos: list[str], number: int, code: int) -> None:
    arguments = ["makeup", "in", "-o", "out", "--finish", "tint", "--json"]
    process = start(arguments, pause=0.5)
    wait_for(Path("out/1.jpg"), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    finished = results()
    assert 2 <= len(finished) < 5
    assert [json.loads(line)["photo"] for line in out.splitlines()][:1] == ["in/0.jpg"]
    if code == 130:
        assert b"Traceback" not in err
        assert len(err.splitlines()) == 1
        assert not list(Path("out").glob(".*"))
    kept = {name: Path("out", name).read_bytes() for name in finished}

    again = start(arguments)
    out, _ = again.communicate(timeout=60)
    assert again.returncode == 0
    assert [json.loads(line)["skipped"] for line in out.splitlines()] == [name in finished for name in photos]
    assert results() == photos
    assert {name: Path("out", name).read_bytes() for name in finished} == kept
    assert not list(Path("out").glob(".*"))


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups")
def test_a_training_whose_whole_group_is_stopped_saves_and_says_so(here: Path) -> None:
    Path("set").mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (64, 3, 32, 32), dtype=np.uint8)
    cifar.write(Path("set/data_batch_1.bin"), [i % 4 for i in range(64)], pictures)
    options = ["--data", "set", "--out", "run", "--epochs", "1000000", "--workers", "1"]
    command = [sys.executable, "-m", "visagist", "train", "cifar-dense", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stderr is not None and b"learn" in process.stderr.readline()  # it is at work
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err and b"[internal]" not in err
    assert Path("run/checkpoint.safetensors").exists() and not Path("run/weights.safetensors").exists()


def test_a_reader_that_leaves_ends_the_command_quietly(photos: list[str]) -> None:
    process = start(["makeup", "in", "-o", "out", "--finish", "tint", "--json"], pause=0.2)
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["photo"] == "in/0.jpg"
    process.stdout.close()
    with process.stderr:
        err = process.stderr.read()
    assert process.wait(60) == 130
    assert b"Traceback" not in err


def test_names_as_the_shell_gives_them(here: Path) -> None:
    """Bytes that are no UTF-8, in an ASCII locale, arrive and come back as they were."""
    name = b"caf\xe9 \xe5\x8f\xa3\n.png"
    import numpy as np

    Photo.of(np.full((20, 20, 3), 90, np.uint8)).save(os.fsdecode(name))
    command = [sys.executable, str(FAKED), "detect", "--json", "--", name]
    done = subprocess.run(
        command, env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}, capture_output=True, check=True, timeout=60
    )
    assert os.fsencode(json.loads(done.stdout)["photo"]) == name
    done = subprocess.run([*command[:-3], "--", name], capture_output=True, check=True, timeout=60)
    assert len(done.stdout.splitlines()) == 2


LIGHT = """
import sys
from visagist.apps.cli import main
code = main(sys.argv[1:])
heavy = [name for name in ("torch", "lightning", "cv2", "skimage", "scipy") if name in sys.modules]
print(code, *heavy, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], "0"),
        (["--version"], "0"),
        (["detect", "--help"], "0"),
        (["makeup", "-h"], "0"),
        (["train", "--help"], "0"),
        (["evaluate", "--help"], "0"),
        (["models"], "0"),
        (["doctor"], "0"),
    ],
)
def test_what_must_answer_at_once_imports_nothing_heavy(here: Path, arguments: list[str], expected: str) -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT, *arguments], capture_output=True, text=True, timeout=60)
    assert done.stderr.split() == [expected], done.stderr
    assert done.stdout


def test_the_process_is_set_up_before_torch() -> None:
    code = """
import os, sys
from visagist.apps.cli import main
assert "OMP_WAIT_POLICY" not in os.environ
main(["--help"])
assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
assert "torch" not in sys.modules
"""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, timeout=60)


def test_the_module_is_the_command(here: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "visagist", "detect", "gone.jpg"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, "gone.jpg: [missing] there is no such file")
