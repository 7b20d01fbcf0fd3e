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
    from biril_nm.sharding import DataSetSource

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
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that share the samples; the result is the same.")
    ] = 1,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Run the workers on Ray instead of local processes.")
    ] = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure accuracy and firing rates on the test set.

    A model given to sim or lava is lowered first. With --cluster, workers join the Ray cluster of
    RAY_ADDRESS (or a local one) and read the data set from --data-root on their machine.

    Example: biril eval out/model.loihi.npz --dataset digits --workers 2
    """
    from biril_nm.data import load_data
    from biril_nm.sharding import DataSetSource

    source = load_source(src, dt)
    engine = backend or ("torch" if source.net is not None else "sim")
    if engine not in BACKENDS:
        raise ConfigError(f"back end '{engine}' is unknown; known: {', '.join(BACKENDS)}")
    if engine == "torch" and source.net is None:
        raise ConfigError(f"'{src}' holds no torch network; use --backend sim or lava")
    if engine == "torch" and (workers > 1 or cluster):
        raise ConfigError("workers run integer networks only; add --backend sim or lava")
    if engine == "torch":
        test = load_data(dataset, data_root, seed).test
        result = _torch(source.net, test.head(samples) if samples else test, seed)
    else:
        graph = lowered(source, chip, dt, weight_bits, reset)
        place = DataSetSource.of(dataset, data_root, seed, samples)
        result = _integers(graph, place, engine, seed, workers, cluster)
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


def _integers(
    graph: Any, source: DataSetSource, engine: str, seed: int, workers: int, cluster: bool
) -> dict[str, Any]:
    from dataclasses import asdict

    from biril_nm.evaluation import evaluate_graph
    from biril_nm.sharding import evaluate_sharded

    _, coding = single_input(graph)
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
        task = bar.add_task(engine, total=len(source))
        options: dict[str, Any] = {
            "backend": engine,
            "batch_size": BATCH,
            "seed": seed,
            "progress": lambda done: bar.update(task, completed=done),
        }
        began = time.perf_counter()
        if workers == 1 and not cluster:
            found = evaluate_graph(graph, *source.read(), coding, **options)
            return asdict(found)
        found = evaluate_sharded(
            graph, source, coding, n_workers=workers, cluster=cluster, **options
        )
    return {**asdict(found), "seconds": time.perf_counter() - began, "workers": workers}
