"""Every finish on one photo: `python examples/every_finish.py me.jpg` writes me.glazed.jpg, me.glossy.jpg and me.tint.jpg."""

from __future__ import annotations

import sys
from pathlib import Path

import visagist
from visagist import Photo

source = Path(sys.argv[1])
photo = Photo.open(source)
faces = visagist.landmarks(photo)  # found once, used three times
for finish in ("glazed", "glossy", "tint"):
    painted = visagist.makeup(photo, finish=finish, faces=faces)
    target = source.with_name(f"{source.stem}.{finish}{painted.extension}")
    painted.save(target, overwrite=True)
    print(target)
