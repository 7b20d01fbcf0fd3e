"""``biril eval``: accuracy of a model or an integer graph on a data set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from biril_nm.commands.console import print_json, print_table, stderr
from biril_nm.commands.options import Chip, DataRoot, Dt, Json, Reset, Seed, WeightBits
from biril_nm.commands.sources import load_source, lowered, single_input
from biril_nm.errors import ConfigError

if TYPE_CHECKING:
    from biril_nm.data import Split

__all__ = ["evaluate_command"]

BACKENDS = ("torch", "sim", "lava")
BATCH = 250


def evaluate_command(
    src: Annotated[Path, typer.Argument(help="model.pt, x.nir or x.loihi.npz", metavar="SRC")],
    dataset: Annotated[str, typer.Option(help="digits (built in) or mnist.")] = "digits",
    backend: Annotated[
        str | None, typer.Option(help="torch, sim or lava; default: torch for .pt, else sim.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="First N test samples; default: all.")
    ] = None,
    data_root: DataRoot = None,
    dt: Dt = None,
    reset: Reset = None,
    chip: Chip = "loihi2",
    weight_bits: WeightBits = 8,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure accuracy and firing rates on the test set.

    A model given to sim or lava is lowered first.

    Example: biril eval out/model.loihi.npz --dataset digits
    """
    from biril_nm.data import load_data

    source = load_source(src, dt)
    engine = backend or ("torch" if source.net is not None else "sim")
    if engine not in BACKENDS:
        raise ConfigError(f"back end '{engine}' is unknown; known: {', '.join(BACKENDS)}")
    if engine == "torch" and source.net is None:
        raise ConfigError(f"'{src}' holds no torch network; use --backend sim or lava")
    data = load_data(dataset, data_root, seed)
    split = data.test.head(samples) if samples else data.test
    if engine == "torch":
        result = _torch(source.net, split, seed)
    else:
        graph = lowered(source, chip, dt, weight_bits, reset)
        result = _integers(graph, split, engine, seed)
    result = {"source": str(src), "dataset": dataset, "backend": engine, **result}
    if json:
        print_json(result)
        return
    rows = [(name, f"{rate:.4f}") for name, rate in result["firing_rates"].items()]
    print_table("", ("node", "spikes per neuron and step"), rows)
    right = round(result["accuracy"] * result["n_samples"])
    typer.echo(
        f"{engine}: accuracy {result['accuracy']:.2%} ({right} of {result['n_samples']} samples) "
        f"in {result['seconds']:.1f} s"
    )


def _torch(net: Any, split: Split, seed: int) -> dict[str, Any]:
    from biril_nm.data import Batches
    from biril_nm.training import evaluate

    began = time.perf_counter()
    found = evaluate(net, Batches(split, BATCH), seed=seed)
    return {
        "accuracy": found.accuracy,
        "n_samples": found.n_samples,
        "firing_rates": found.firing_rates,
        "seconds": time.perf_counter() - began,
    }


def _integers(graph: Any, split: Split, engine: str, seed: int) -> dict[str, Any]:
    from dataclasses import asdict

    from biril_nm.evaluation import evaluate_graph

    _, coding = single_input(graph)
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
        task = bar.add_task(engine, total=len(split))
        found = evaluate_graph(
            graph,
            split.values(),
            split.labels,
            coding,
            backend=engine,
            batch_size=BATCH,
            seed=seed,
            progress=lambda done: bar.update(task, completed=done),
        )
    return asdict(found)
