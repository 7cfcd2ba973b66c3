"""What a training needs around the loop: where it computes, how it is stopped, what it says."""

from __future__ import annotations

import hashlib
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

import torch

from visagist.errors import UsageError
from visagist.recipe import Item, Tools
from visagist.weights import device as devices

EVERY = 30.0  # seconds between plain progress lines
RECENT = 200  # steps from which the time left is foretold: machines are shared, their pace changes


def choose_device(name: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda". UsageError (no-device) if an explicit one is absent."""
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"no device is called {name!r}", code="no-device", hint="use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("this machine has no CUDA device that torch can use", code="no-device", hint="use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(name: str, device: torch.device) -> str:
    """ "fp32" or "bf16"; "auto" is bf16 where the device computes it in hardware, as in use (`weights.device`)."""
    if name not in ("auto", "fp32", "bf16"):
        raise UsageError(f"no precision is called {name!r}", code="usage", hint="use auto, fp32 or bf16")
    if name != "auto":
        return name
    return "bf16" if devices.quick_bfloat16(device) else "fp32"


def fingerprint(items: Sequence[Item]) -> dict[str, Any]:
    """What tells one set of items from another without decoding a photo: their number and a hash of names and labels."""
    digest = hashlib.sha256()
    for item in items:
        faces = [(f.label, repr(f.box), None if f.points is None else f.points.tobytes()) for f in item.faces]
        digest.update(repr((item.name, item.label, faces, sorted(item.targets), sorted(item.facts.items()))).encode())
    return {"count": len(items), "sha256": digest.hexdigest()[:16]}


def borrowed(tools: Tools) -> dict[str, str]:
    """A hash of the weights or pixels of everything a recipe was lent: a run is resumed with the same or not at all."""
    digests = {name: hashlib.sha256(photo.pixels.tobytes()) for name, photo in tools.pictures.items()}
    for name, nets in tools.lent.items():
        digests[name] = hashlib.sha256()
        for net in nets.values():
            for tensor in net.state_dict().values():
                digests[name].update(tensor.float().cpu().contiguous().numpy().tobytes())
    return {name: digest.hexdigest()[:16] for name, digest in digests.items()}


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """torch with this many threads inside; None leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class StopRequest:
    """Turns the first Ctrl-C (or SIGTERM) into a wish that the loop grants after its step; the second one interrupts at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, the first Ctrl-C interrupts too: for work that cannot be stopped and resumed half-way."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        try:
            yield
        finally:
            self.asked = False


class Progress:
    """A bar with the time left on a terminal, else a line every half minute; on stderr, nothing when quiet."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.rate = 0.0  # examples per second
        self._bar: Any = None

    def __enter__(self) -> Self:
        if not self.quiet and sys.stderr.isatty():
            from rich import progress as rich
            from rich.console import Console

            done = rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeRemainingColumn()
            columns = rich.TextColumn("{task.description}"), *done, rich.TextColumn("{task.fields[note]}")
            self._bar = rich.Progress(*columns, console=Console(stderr=True))
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def stage(self, name: str, steps: int, done: int, batch: int) -> None:
        """A stage begins (or goes on) at step `done`."""
        self._name, self._steps, self._done, self._batch = name, steps, done, batch
        self._told = time.monotonic()
        self._recent = deque([self._told], maxlen=RECENT)
        if self._bar is not None:
            self._task = self._bar.add_task(name, total=steps, completed=done, note="")

    def step(self, scalars: Mapping[str, float]) -> None:
        """One step is done."""
        self._done += 1
        now = time.monotonic()
        self._recent.append(now)
        per_second = (len(self._recent) - 1) / max(now - self._recent[0], 1e-6)
        self.rate = per_second * self._batch
        text = "  ".join(f"{name} {value:.4g}" for name, value in scalars.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=f"{text}  {self.rate:.0f}/s")
        elif now - self._told > EVERY:
            self._told = now
            left = (self._steps - self._done) / per_second
            self.say(f"{self._name} {self._done}/{self._steps}  {text}  {self.rate:.0f} examples/s  {_clock(left)} left")

    def note(self, text: str) -> None:
        """What is being done between two steps, beside the bar."""
        if self._bar is not None:
            self._bar.update(self._task, note=text)

    def say(self, text: str) -> None:
        """A line on stderr."""
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else f"{minutes} min"
