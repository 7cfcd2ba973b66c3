"""`visagist people`: a data set of rendered people with exact labels, made out of nothing. Reads no photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visagist.apps.options import Quiet


def people(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The data set; a stopped one is continued.", show_default=False)],
    count: Annotated[int, typer.Option("--count", min=1, max=1_000_000, help="How many pictures.")] = 1000,
    persons: Annotated[int, typer.Option("--people", min=1, help="How many different persons they show.")] = 400,
    size: Annotated[int, typer.Option("--size", min=32, max=1024, help="Side of the pictures in pixels.")] = 160,
    yaw: Annotated[float, typer.Option("--yaw", min=0, max=90, help="Heads are turned up to so many degrees.")] = 90.0,
    pitch: Annotated[float, typer.Option("--pitch", min=0, max=60, help="And nod up to so many.")] = 30.0,
    masks: Annotated[bool, typer.Option("--masks", help="Also write what each pixel shows, as numbers, into kinds/.")] = False,
    learnt: Annotated[
        float,
        typer.Option("--learnt", min=0, max=1, help="Share of people with skin learnt from photographs instead of painted skin."),
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same people.")] = 0,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Processes that draw; the result is the same.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the people of other settings in FOLDER.")] = False,
    quiet: Quiet = False,
) -> int:
    """Render people who do not exist as a data set with 68 points, boxes and poses."""
    from visagist.apps.report import counting
    from visagist.training.data.rendered_folder import TABLE, Settings, write

    settings = Settings(count, persons, size, yaw, pitch, seed, masks, learnt)
    with counting(count, quiet) as tell:
        for done in write(Path(folder), settings, processes=processes, overwrite=overwrite):
            tell(done)
    if not quiet:
        print(f"{Path(folder) / TABLE}: {count} pictures of {min(count, persons)} rendered people")
    return 0
