"""All lessons, one after the other: python examples/primer [--out FOLDER]"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from lesson import begin

LESSONS = sorted(path.stem for path in Path(__file__).parent.glob("lesson[1-9]_*.py"))


def main(out: Path) -> None:
    for name in LESSONS:
        module = import_module(name)
        print("\n" + (module.__doc__ or "").splitlines()[0])
        module.main(out)


if __name__ == "__main__":
    main(begin(__doc__).out)
