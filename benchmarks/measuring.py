"""What the benchmarks share: one thread, time of the processor, memory of one system in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from visagist.apps import process

process.settle()  # what every command does to its process, before torch is imported

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

Thing = TypeVar("Thing")


def one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def medians(
    uses: Mapping[str, Callable[[Thing], object]], things: Sequence[Thing], turn: int = 1
) -> dict[str, tuple[float, float]]:
    """Seconds of the processor and of the clock that each takes for one thing, medians; in turns of so many things, so that a noisy
    machine is noisy for all. On a machine that does nothing else the two are the same."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in uses}
    for use in uses.values():
        use(things[0])  # what the first call compiles or reserves
    for first in range(0, len(things), turn):
        for name, use in uses.items():
            for thing in things[first : first + turn]:
                start = time.process_time(), time.perf_counter()
                use(thing)
                seconds[name].append((time.process_time() - start[0], time.perf_counter() - start[1]))
    middle = {name: np.median(np.array(of), axis=0).tolist() for name, of in seconds.items()}
    return {name: (cpu, clock) for name, (cpu, clock) in middle.items()}


def grown_in_child(script: str, *arguments: str) -> float | None:
    """Megabytes as `report_growth` prints them in another process; None, with the reason on stderr, where it fails."""
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    if done.returncode:
        print(f"memory: {' '.join(arguments[:2])}: {done.stderr[-300:]}", file=sys.stderr)
        return None
    return float(done.stdout.split()[-1])


def report_growth(work: Callable[[], object]) -> None:
    """Print by how many megabytes this process grew at most while it did this; Linux only."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = process.resident()
        work()
        status = Path("/proc/self/status").read_text()
    except OSError as error:
        raise SystemExit(str(error)) from None
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    print(max(0.0, (peak - before) / 1e6))


def into_page(page: Path, name: str, text: str) -> None:
    """Put a table where the page has <!-- table: NAME --> ... <!-- end of table -->, so that nobody types figures."""
    begin, end = f"<!-- table: {name} -->\n", "<!-- end of table -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    if not found or end not in rest:
        raise SystemExit(f"{page} has no {begin.strip()} ... {end}")
    page.write_text(before + begin + text.strip() + "\n" + end + rest.partition(end)[2], encoding="utf-8")


def named(pairs: Sequence[str]) -> dict[str, str]:
    """NAME=FILE ... of the command line."""
    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise SystemExit(f"NAME=FILE is wanted, not {wrong[0]}")
    return dict(pair.split("=", 1) for pair in pairs)
