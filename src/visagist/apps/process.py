"""What a command does to its own process for the sake of speed, and how it is stopped. A library would have to be asked first."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

# Constants of glibc's malloc.h for mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_FROM = 32 << 20  # bytes; the largest threshold that glibc takes
_KEEP_FREE = 256 << 20  # bytes at the end of the heap
_GROWTH = 128 << 20  # bytes by which a process may grow before `Memory` gives back what is free


def settle() -> None:
    """Set up threads and memory; must run before torch is imported.

    OMP_WAIT_POLICY=PASSIVE: threads that wait sleep, which pays where cores are shared with other programs.
    malloc: the buffers of networks (below 32 MB) are taken from memory that stays with the process instead of being mapped and
    zeroed by the system on every call, which makes networks on a CPU 1.3 to 1.9 times as fast. Larger ones (a photo of 12
    megapixels has 36 MB) are still mapped and given back at once; `Memory` keeps the rest from growing from photo to photo.
    oneDNN keeps the code it made for 1024 combinations of layer and size; with photos of many sizes that is memory for nothing.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
    mallopt = _glibc("mallopt")
    if mallopt is not None and not {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        mallopt(_M_MMAP_THRESHOLD, _MMAP_FROM)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_FREE)


class Memory:
    """Keeps a long batch from growing: photos of many sizes leave holes in the heap, 1 GB after 300 photos, while what is in use
    stays the same. Holes are given back when the process has grown; after each photo that would cost a quarter of the time."""

    def __init__(self) -> None:
        self._trim = _glibc("malloc_trim")
        self._before: int | None = None  # resident bytes when last trimmed

    def give_back(self) -> None:
        """Call between photos. Does nothing where the C library is not glibc."""
        if self._trim is None:
            return
        if self._before is None or resident() > self._before + _GROWTH:
            self._trim(0)
            self._before = resident()


def resident() -> int:
    """Bytes of this process that are in physical memory; Linux only."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _glibc(name: str) -> Any:
    """A function of the C library, None where that has none of this name or is not for Linux."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):  # another C library than glibc
        return None


def stop_politely() -> None:
    """SIGTERM does what Ctrl-C does: the photo at work is dropped, what is finished stays, exit code 130."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
