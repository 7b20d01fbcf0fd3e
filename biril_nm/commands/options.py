"""Options that several subcommands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["MAX_SEED", "Chip", "DataRoot", "Dt", "Force", "Json", "Reset", "Seed", "WeightBits"]

MAX_SEED = (1 << 63) - 1

Force = Annotated[bool, typer.Option("--force", help="Replace existing output.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of everything random.")]
Chip = Annotated[str, typer.Option(help="Chip whose limits hold: loihi1 or loihi2.")]
WeightBits = Annotated[int, typer.Option(min=1, max=8, help="Bits per weight.")]
Dt = Annotated[
    float | None,
    typer.Option("--dt", help="Width of a time step in seconds, where the file does not tell."),
]
Reset = Annotated[
    str | None,
    typer.Option(
        help="'zero': spikes reset v to 0, where the file does not tell; 'force-zero': accept "
        "the change where it tells otherwise."
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(envvar="BIRIL_DATA", help="Folder of the data sets, as torchvision lays it out."),
]
