from __future__ import annotations

import os
import subprocess
import sys

import pytest

from visagist.apps import process
from visagist.apps.process import Memory

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@LINUX
def test_memory_is_given_back_when_the_process_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([300, 300, 400, 430, 310, 320, 440, 300])
    monkeypatch.setattr(process, "resident", lambda: next(sizes) << 20)
    memory, calls = Memory(), []
    memory._trim = calls.append
    for expected in (1, 1, 1, 2, 2, 3):  # the first time always, then after more than 128 MB
        memory.give_back()
        assert len(calls) == expected


HOLES = """
from visagist.apps import process
process.settle()
memory = process.Memory()
memory.give_back()
start = process.resident()
blocks = [b"x" * (1 << 20) for _ in range(400)]
kept = blocks[::7]
assert process.resident() - start > 350 << 20
del blocks
memory.give_back()
print((process.resident() - start) >> 20)
"""


@LINUX
def test_holes_go_back_to_the_system() -> None:
    if process._glibc("malloc_trim") is None:
        pytest.skip("another C library")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", HOLES], env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 100  # a seventh of 400 MB is in use


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    process.settle()
    Memory().give_back()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"  # what the user has set stays
