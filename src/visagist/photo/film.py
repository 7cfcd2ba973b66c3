"""Pictures one after the other as a moving picture: GIF and WebP by Pillow, MP4 and AVI by OpenCV."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from visagist.errors import OutputError
from visagist.photo import mark
from visagist.photo.mark import Step

ENDINGS = {".gif": "GIF", ".webp": "WEBP", ".mp4": "mp4v", ".avi": "MJPG"}
LONGEST = 640  # pixels of a frame's longer side
SHOWN = 12  # frames a second
LAST = 2.0  # seconds for which the last frame stays


class Film:
    """Collects frames and writes them. OutputError "unsupported" for a name that ends in none of gif, webp, mp4, avi; "exists"."""

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.kind = ENDINGS.get(self.path.suffix.lower(), "")
        if not self.kind:
            what = f"films cannot be written as {self.path.suffix or 'a file without an ending'}"
            raise OutputError(what, code="unsupported", path=path, hint="use " + ", ".join(ENDINGS))
        if not overwrite and os.path.lexists(path):
            raise OutputError("the file exists already", code="exists", path=path, hint="--overwrite replaces it")
        self.frames: list[np.ndarray] = []

    def add(self, pixels: np.ndarray) -> None:
        """One frame more: uint8 [H, W, 3]. All are brought to the size of the last one, at most 640 pixels long, when written."""
        scale = min(1.0, LONGEST / max(pixels.shape[:2]))
        height, width = (max(2, round(n * scale) // 2 * 2) for n in pixels.shape[:2])  # MP4 wants even sides
        self.frames.append(_sized(pixels, (height, width)))

    def save(self, steps: Sequence[Step] = ()) -> None:
        """Write the film, whole or not at all. OutputError "unwritable".

        steps  how its frames were made: the mark of a WebP, the comment of a GIF; the other kinds hold no such thing
        """
        if not self.frames:
            return
        size = self.frames[-1].shape[:2]
        frames = [_sized(frame, size) for frame in self.frames]
        try:
            handle, part = tempfile.mkstemp(
                prefix=f".{self.path.name[:80]}.", suffix=self.path.suffix.lower(), dir=self.path.parent
            )
            os.close(handle)
            try:
                if self.kind in ("GIF", "WEBP"):
                    self._by_pillow(frames, part, steps)
                else:
                    self._by_opencv(frames, part)
                mask = os.umask(0)
                os.umask(mask)
                os.chmod(part, 0o666 & ~mask)
                os.replace(part, self.path)
            except BaseException:
                Path(part).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise OutputError(f"cannot write ({error.strerror or error})", code="unwritable", path=self.path) from error

    def _by_pillow(self, frames: list[np.ndarray], part: str, steps: Sequence[Step]) -> None:
        first, *others = (Image.fromarray(frame) for frame in frames)
        times = [round(1000 / SHOWN)] * len(others) + [round(1000 * LAST)]
        if self.kind == "WEBP":
            more: dict[str, Any] = {"quality": 80, "xmp": mark.write(steps)[0]}
        else:
            more = {"comment": "; ".join(f"made by visagist {step.verb} ({step.system})" for step in steps).encode()[:255]}
        first.save(part, self.kind, save_all=True, append_images=others, duration=times, loop=0, **more)

    def _by_opencv(self, frames: list[np.ndarray], part: str) -> None:
        height, width = frames[0].shape[:2]
        code = cv2.VideoWriter.fourcc(*self.kind)
        writer = cv2.VideoWriter(part, code, float(SHOWN), (width, height))
        if not writer.isOpened():
            raise OSError(f"this OpenCV writes no {self.path.suffix}")
        for frame in frames + frames[-1:] * round(SHOWN * LAST):
            writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
        writer.release()


def _sized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if pixels.shape[:2] == size:
        return pixels
    shrinks = pixels.shape[0] * pixels.shape[1] > size[0] * size[1]
    return cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
