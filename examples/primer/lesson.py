"""How every lesson begins: where its pictures go, and what else may be said on its command line."""

from __future__ import annotations

import argparse
from pathlib import Path


def begin(doc: str | None, **options: str) -> argparse.Namespace:
    """The command line of a lesson: --out and, where given, further options with their help. Prints the lesson's heading."""
    text = doc or ""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/primer"), help="folder for the pictures (default: runs/primer)")
    for name, help_ in options.items():
        parser.add_argument(f"--{name}", type=Path, help=help_)
    arguments = parser.parse_args()
    print(text.splitlines()[0])
    return arguments
