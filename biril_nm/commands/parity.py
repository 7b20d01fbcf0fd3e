"""``biril parity``: do torch, the simulator and Lava agree on this network?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from biril_nm.commands.console import print_json, say
from biril_nm.commands.options import Chip, DataRoot, Dt, Json, Reset, Seed, WeightBits
from biril_nm.commands.sources import (
    load_source,
    lowered,
    random_input,
    read_spikes,
    single_input,
)
from biril_nm.errors import ConfigError

__all__ = ["parity_command"]


def parity_command(
    src: Annotated[Path, typer.Argument(help="model.pt, x.nir or x.loihi.npz", metavar="SRC")],
    against: Annotated[
        str | None,
        typer.Option(help="Engines, of torch,sim,lava; default: all that SRC allows."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples to compare.")] = 16,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps per sample; default: as trained, else 16.")
    ] = None,
    spikes: Annotated[
        Path | None, typer.Option(help="Input from this .npz instead of random input.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Input from the test set of digits or mnist.")
    ] = None,
    data_root: DataRoot = None,
    learn: Annotated[
        bool, typer.Option("--learn", help="Let plastic connections learn; compare them too.")
    ] = False,
    dt: Dt = None,
    reset: Reset = None,
    chip: Chip = "loihi2",
    weight_bits: WeightBits = 8,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Compare every spike, current and voltage of the integer engines, and torch's predictions.

    With --learn also every weight, tag and trace of plastic connections, at every step of the chip.
    Exit code 1 with the first differing neuron if they disagree.

    Example: biril parity out/model.pt --dataset digits --samples 20
    """
    from biril_nm.parity import check_parity

    source = load_source(src, dt)
    graph = lowered(source, chip, dt, weight_bits, reset)
    engines = (
        against.split(",")
        if against
        else (["torch"] if source.net and not learn else []) + ["sim", "lava"]
    )
    if "torch" in engines and source.net is None:
        raise ConfigError(f"'{src}' holds no torch network; compare sim,lava, or give model.pt")
    told = [value["n_steps"] for value in graph.metadata.get("coding", {}).values()]
    n_steps = steps or max((n for n in told if n > 1), default=16)
    values: Any
    if spikes is not None:
        values = {name: a[:, :samples] for name, a in dict(read_spikes(spikes, graph)).items()}
    elif dataset is not None:
        values = _dataset_input(graph, dataset, data_root, samples, steps, seed)
    else:
        values = random_input(graph, n_steps, samples, seed)
    report = check_parity(
        graph,
        values,
        against=engines,
        net=source.net if "torch" in engines else None,
        learn=learn,
    )
    if json:
        print_json(report.to_dict())
    else:
        say(report.summary())
    if not report.ok:
        raise typer.Exit(1)


def _dataset_input(
    graph: Any, dataset: str, data_root: Path | None, samples: int, steps: int | None, seed: int
) -> dict[str, Any]:
    from dataclasses import replace

    from biril_nm.data import load_data

    name, coding = single_input(graph)
    if steps is not None:
        coding = replace(coding, n_steps=steps)
    return {name: coding.encode(load_data(dataset, data_root).test.head(samples).values(), seed)}
