"""Draw docs/pictures/augment.webp: what `visagist augment` makes of two rendered people.

    python docs/augmented.py

The picture shows nobody: heads of the morphable model with procedural skin (`training/data/rendered.py`).
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from visagist.apps.cli import app
from visagist.photo.photo import Photo
from visagist.training.data import rendered
from visagist.training.data.kinds import write_points

PEOPLE = ("one", "other")
SEED = 21


def main() -> None:
    sheet = Path(__file__).parent / "pictures" / "augment.webp"
    with TemporaryDirectory() as folder:
        points = []
        for name, item in zip(PEOPLE, rendered.items(len(PEOPLE), SEED, size=256, people=len(PEOPLE), yaw=12), strict=True):
            item.photo.save(Path(folder, f"{name}.png"))
            points.append((f"{name}.png", item.faces[0].points))
        write_points(Path(folder, "points.csv"), points)
        drawn = str(Path(folder, "sheet.jpg"))  # a WEBP made of a JPEG is lossy, too, and a third as large
        app(["augment", folder, "--dry-run", "--most", "6", "--lights", "1", "--sheet", drawn], standalone_mode=False)
        Photo.open(drawn).save(sheet, overwrite=True)
    print(f"{sheet}: {sheet.stat().st_size} bytes")


if __name__ == "__main__":
    main()
