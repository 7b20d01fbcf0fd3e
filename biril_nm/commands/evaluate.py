"""``biril eval``: accuracy of a model or an integer graph on a data set."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from biril_nm.commands.console import print_json, print_table, stderr
from biril_nm.commands.options import Chip, DataRoot, Dt, Json, Reset, Seed, WeightBits
from biril_nm.commands.sources import load_source, lowered, single_input
from biril_nm.errors import ConfigError

if TYPE_CHECKING:
    from biril_nm.commands.sources import Source
    from biril_nm.data import Split
    from biril_nm.evaluation.sharding import DataSetSource
    from biril_nm.hw_graph import LoihiGraph

__all__ = ["evaluate_command"]

BACKENDS = ("torch", "sim", "lava")
BATCH = 250


def evaluate_command(
    src: Annotated[
        list[Path],
        typer.Argument(help="model.pt, x.nir or x.loihi.npz, one or more", metavar="SRC..."),
    ],
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

    A model given to sim or lava is lowered first. Several files are a sweep: all are measured on the
    same samples, by the same workers. With --cluster, workers join the Ray cluster of RAY_ADDRESS (or
    a local one) and read the data set from --data-root on their machine.

    Example: biril eval out/model.loihi.npz --dataset digits --workers 2
    """
    from biril_nm.data import load_data
    from biril_nm.evaluation.sharding import DataSetSource

    sources = [load_source(path, dt) for path in src]
    engine = _engine(sources, backend, workers > 1 or cluster)
    if engine == "torch":
        test = load_data(dataset, data_root, seed).test
        split = test.head(samples) if samples else test
        results = [_torch(source.net, split, seed) for source in sources]
    else:
        graphs = [lowered(source, chip, dt, weight_bits, reset) for source in sources]
        place = DataSetSource.of(dataset, data_root, seed, samples)
        results = _integers(graphs, place, engine, seed, workers, cluster)
    facts = {"dataset": dataset, "backend": engine}
    named = [{"source": str(path), **facts, **found} for path, found in zip(src, results)]
    if json:
        print_json(named[0] if len(named) == 1 else {**facts, "results": named})
    elif len(named) == 1:
        _show_one(named[0])
    else:
        _show_many(named)


def _engine(sources: Sequence[Source], backend: str | None, shared: bool) -> str:
    """The back end that all sources run on.

    Raises:
        ConfigError: an unknown one, or one that some source or a worker cannot run.
    """
    engine = backend or ("torch" if all(s.net is not None for s in sources) else "sim")
    if engine not in BACKENDS:
        raise ConfigError(f"back end '{engine}' is unknown; known: {', '.join(BACKENDS)}")
    bare = [str(s.path) for s in sources if s.net is None]
    if engine == "torch" and bare:
        raise ConfigError(f"'{bare[0]}' holds no torch network; use --backend sim or lava")
    if engine == "torch" and shared:
        raise ConfigError("workers run integer networks only; add --backend sim or lava")
    return engine


def _right(result: Mapping[str, Any]) -> str:
    right = round(result["accuracy"] * result["n_samples"])
    return f"{result['accuracy']:.2%} ({right} of {result['n_samples']} samples)"


def _show_one(result: Mapping[str, Any]) -> None:
    rows = [(name, f"{rate:.4f}") for name, rate in result["firing_rates"].items()]
    print_table("", ("node", "spikes per neuron and step"), rows)
    typer.echo(f"{result['backend']}: accuracy {_right(result)} in {result['seconds']:.1f} s")


def _show_many(results: Sequence[Mapping[str, Any]]) -> None:
    rows = [(r["source"], _right(r), f"{r['seconds']:.1f} s") for r in results]
    print_table("", ("source", f"accuracy, {results[0]['backend']}", "engine"), rows)
    best = max(results, key=lambda r: r["accuracy"])
    typer.echo(f"best: {best['source']}, {best['accuracy']:.2%}")


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
    graphs: Sequence[LoihiGraph],
    source: DataSetSource,
    engine: str,
    seed: int,
    workers: int,
    cluster: bool,
) -> list[dict[str, Any]]:
    """One result per graph; ``seconds`` is the engine's time, of one graph on workers the wall time."""
    from dataclasses import asdict

    from biril_nm.evaluation.accuracy import evaluate_graph
    from biril_nm.evaluation.sharding import evaluate_graphs

    codings = [single_input(graph)[1] for graph in graphs]
    options: dict[str, Any] = {"backend": engine, "batch_size": BATCH, "seed": seed}
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
        task = bar.add_task(engine, total=len(source) * len(graphs))
        began = time.perf_counter()
        if workers == 1 and not cluster:
            values, labels = source.read()
            found = []
            for i, (graph, coding) in enumerate(zip(graphs, codings)):

                def show(done: int, before: int = i * len(source)) -> None:
                    bar.update(task, completed=before + done)

                found.append(
                    evaluate_graph(graph, values, labels, coding, progress=show, **options)
                )
            return [asdict(each) for each in found]
        options["progress"] = lambda done: bar.update(task, completed=done)
        found = evaluate_graphs(
            graphs, source, codings, n_workers=workers, cluster=cluster, **options
        )
    rows = [{**asdict(each), "workers": workers} for each in found]
    if len(rows) == 1:
        rows[0]["seconds"] = time.perf_counter() - began
    return rows
