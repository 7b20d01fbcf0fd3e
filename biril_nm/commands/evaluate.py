"""``biril eval``: accuracy of a model or an integer graph on a data set."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from biril_nm.commands.console import print_json, print_table, progress_bar, say
from biril_nm.commands.inputs import picture_input
from biril_nm.commands.lava_choice import LavaPython, lava_in
from biril_nm.commands.options import (
    BUILT_IN,
    MAX_COUNT,
    Backend,
    DataRoot,
    DataSetName,
    Json,
    LoweringChoice,
    Seed,
)
from biril_nm.commands.samples import OwnSamples, Recorded
from biril_nm.commands.sources import LoadedFile, load_source, lowered
from biril_nm.commands.unused import LOWERS, given, refuse_unused, unused_lowering
from biril_nm.engines import Engine, Network, available_engines, get_engine
from biril_nm.errors import ConfigError
from biril_nm.evaluation.labelled import evaluate_net, message_coding
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.inputs import input_coding, single_input
from biril_nm.recording.readout import decision_of

if TYPE_CHECKING:
    from biril_nm.coding import Coding
    from biril_nm.evaluation.sharding import ArraySamples, DataSetSamples

__all__ = ["choose_engine", "evaluate_command"]

FLOAT = "torch"  # evaluates models as they are, without lowering
BATCH = 250


@dataclass(frozen=True)
class Chosen:
    """A data set and its folder, or samples of a file; and how many of them."""

    dataset: str | None
    data_root: Path | None
    own: OwnSamples
    samples: int | None


@dataclass(frozen=True)
class Workers:
    """Processes that share the samples."""

    workers: Annotated[
        int,
        typer.Option(
            min=1, max=MAX_COUNT, help="Processes that share the samples; the result is the same."
        ),
    ] = 1
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Run the workers on Ray instead of local processes.")
    ] = False

    @property
    def several(self) -> bool:
        """Whether this process leaves the work to others."""
        return self.workers > 1 or self.cluster


def evaluate_command(
    src: Annotated[
        list[Path],
        typer.Argument(help="model.pt, x.nir or x.loihi.npz, one or more", metavar="SRC..."),
    ],
    *,
    dataset: DataSetName = None,
    own: OwnSamples,
    backend: Backend = None,
    lava_python: LavaPython = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_COUNT, help="First N samples; default: all."),
    ] = None,
    data_root: DataRoot = None,
    lowering: LoweringChoice,
    workers: Workers,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure accuracy and firing rates on the test set of a data set, digits by default, or on your samples.

    A model is lowered first for any engine but torch. Several files are a sweep: all are measured on
    the same samples, by the same workers. With --cluster, workers join the Ray cluster of RAY_ADDRESS
    (or a local one) and read the data set from --data-root on their machine.

    Example: biril eval out/model.loihi.npz --dataset digits --workers 2
    """
    own.check({"--dataset": dataset, "--data-root": data_root})
    if own.spikes is None:
        dataset = dataset or BUILT_IN
    with lava_in(lava_python):
        sources = [load_source(path, lowering) for path in src]
        engine = choose_engine(sources, backend, workers.several)
        refuse_unused(_unused(sources, engine, lowering))
        chosen = Chosen(dataset, data_root, own, samples)
        if engine.name == FLOAT:
            results = _floats(sources, chosen, seed, lowering)
        else:
            networks = [Network(lowered(source, lowering), source.net) for source in sources]
            place, codings = _place(networks, chosen, seed)
            results = _integers(networks, place, codings, engine.name, seed, workers)
    named_by = {"dataset": dataset} if own.spikes is None else {"spikes": str(own.spikes)}
    facts = {**named_by, "backend": engine.name}
    named = [
        {"source": str(path), **facts, **found, "interval": _interval(found)}
        for path, found in zip(src, results)
    ]
    if json:
        print_json(named[0] if len(named) == 1 else {**facts, "results": named})
    elif len(named) == 1:
        _show_one(named[0])
    else:
        _show_many(named)


def _unused(sources: Sequence[LoadedFile], engine: Engine, lowering: LoweringChoice) -> list[str]:
    """Options of a lowering that is not made."""
    if engine.name != FLOAT:
        return unused_lowering(sources, lowering)
    flags = [flag for flag in given(lowering) if flag in LOWERS]
    if not flags:
        return []
    return [
        f"{', '.join(flags)}: engine '{FLOAT}' runs the float network as it is; add --backend sim to lower it"
    ]


def choose_engine(sources: Sequence[LoadedFile], backend: str | None, shared: bool) -> Engine:
    """The engine that all sources run on.

    Args:
        sources: the files.
        backend: its name; None: torch if all files hold a torch network, else sim.
        shared: whether workers share the samples.

    Raises:
        ConfigError: an unknown one, or one that some source or a worker cannot run.
    """
    floats = all(source.net is not None for source in sources)
    name = (FLOAT if floats else "sim") if backend is None else backend
    engine = get_engine(name)
    bare = [str(s.path) for s in sources if s.net is None]
    others = " or ".join(known for known in available_engines() if known != name)
    if engine.needs_net and bare:
        raise ConfigError(
            f"'{bare[0]}' holds no torch network, which engine '{name}' needs. Use --backend {others}"
        )
    if engine.needs_net and shared:
        raise ConfigError(
            f"engine '{name}' runs the torch network, and workers run integer networks only. Add "
            f"--backend {others}"
        )
    return engine


def _right(result: Mapping[str, Any]) -> str:
    low, high = result["interval"]
    samples = f"({_n_right(result)} of {result['n_samples']} samples), 95% interval {low:.1%} to {high:.1%}"
    return f"{result['accuracy']:.2%} by {result['decision']} {samples}"


def _interval(result: Mapping[str, Any]) -> tuple[float, float]:
    from biril_nm.evaluation.interval import accuracy_interval

    return accuracy_interval(_n_right(result), result["n_samples"])


def _n_right(result: Mapping[str, Any]) -> int:
    right: int = round(result["accuracy"] * result["n_samples"])
    return right


def _show_one(result: Mapping[str, Any]) -> None:
    rows = [(name, f"{rate:.4f}") for name, rate in result["firing_rates"].items()]
    print_table("", ("node", "spikes per neuron and step"), rows)
    say(f"{result['backend']}: accuracy {_right(result)}, in {result['seconds']:.1f} s")


def _show_many(results: Sequence[Mapping[str, Any]]) -> None:
    rows = [(r["source"], _right(r), f"{r['seconds']:.1f} s") for r in results]
    print_table("", ("source", f"accuracy, {results[0]['backend']}", "engine"), rows)
    best = max(results, key=lambda r: r["accuracy"])
    say(f"best: {best['source']}, {best['accuracy']:.2%}")


def _floats(
    sources: Sequence[LoadedFile], chosen: Chosen, seed: int, lowering: LoweringChoice
) -> list[dict[str, Any]]:
    """One result of each torch network."""
    from biril_nm.data import Batches, load_data
    from biril_nm.training import evaluate

    decisions = [_decision(source, lowering) for source in sources]
    if chosen.own.spikes is not None:
        graphs = [lowered(source, lowering) for source in sources]
        return [_float_on(*each, chosen) for each in zip(sources, graphs, decisions)]
    test = load_data(chosen.dataset or BUILT_IN, chosen.data_root, seed).test
    split = test.head(chosen.samples) if chosen.samples else test
    results = []
    for source, decision in zip(sources, decisions):
        began = time.perf_counter()
        found = evaluate(cast(Any, source.net), Batches(split, BATCH), seed=seed, decision=decision)
        seconds = time.perf_counter() - began
        results.append({**asdict(found), "decision": decision, "seconds": seconds})
    return results


def _decision(source: LoadedFile, lowering: LoweringChoice) -> str:
    from biril_nm.export.nir_nodes.decision import decision_of_nir

    return lowering.decision or decision_of_nir(cast(Any, source.nir_graph).metadata)


def _float_on(
    source: LoadedFile, graph: LoihiGraph, decision: str, chosen: Chosen
) -> dict[str, Any]:
    """A torch network on samples of a file."""
    found = _recorded(graph, chosen)
    name = single_input(graph)
    coding = input_coding(graph, name)
    result = evaluate_net(
        cast(Any, source.net), found.spikes[name], found.classes, coding, decision, BATCH
    )
    return {**asdict(result), "decision": decision}


def _recorded(graph: LoihiGraph, chosen: Chosen) -> Recorded:
    return cast(Recorded, chosen.own.read(graph, need_labels=True)).head(chosen.samples)


def _place(
    networks: Sequence[Network], chosen: Chosen, seed: int
) -> tuple[ArraySamples | DataSetSamples, list[Coding]]:
    """The samples, and how each network takes them."""
    from biril_nm.evaluation.sharding import ArraySamples, DataSetSamples

    graphs = [network.graph for network in networks]
    if chosen.own.spikes is None:
        name = chosen.dataset or BUILT_IN
        place = DataSetSamples.of(name, chosen.data_root, seed, chosen.samples)
        split = place.split()
        return place, [picture_input(graph, split)[1] for graph in graphs]
    found = [_recorded(graph, chosen) for graph in graphs]
    values, labels = found[0].spikes[single_input(graphs[0])], found[0].classes
    inputs = [graph.inputs[single_input(graph)] for graph in graphs]
    return ArraySamples(values, labels, 1), [message_coding(node, len(values)) for node in inputs]


def _integers(
    networks: Sequence[Network],
    samples: ArraySamples | DataSetSamples,
    codings: Sequence[Coding],
    engine: str,
    seed: int,
    workers: Workers,
) -> list[dict[str, Any]]:
    """One result per network; ``seconds`` is the engine's time, of one network on workers wall time."""
    from biril_nm.evaluation.accuracy import EvaluationOptions, GraphEvaluation, evaluate_graph
    from biril_nm.evaluation.sharding import evaluate_graphs

    def facts(network: Network) -> dict[str, str]:
        return {"decision": decision_of(network.graph)}

    with progress_bar() as bar:
        task = bar.add_task(engine, total=len(samples) * len(networks))

        def show(done: int, before: int = 0) -> None:
            bar.update(task, completed=before + done)

        if workers.several:
            began = time.perf_counter()
            options = EvaluationOptions(engine, BATCH, seed)
            graphs = [network.graph for network in networks]
            found = evaluate_graphs(
                graphs, samples, codings, workers.workers, options, workers.cluster, show
            )
            rows = [
                {**facts(network), **asdict(each), "workers": workers.workers}
                for network, each in zip(networks, found)
            ]
            if len(rows) == 1:
                rows[0]["seconds"] = time.perf_counter() - began
            return rows
        values, labels = samples.read()

        def measure(index: int) -> GraphEvaluation:
            before = index * len(samples)
            return evaluate_graph(
                networks[index], values, labels, codings[index], engine, BATCH, seed,
                lambda done: show(done, before),
            )  # fmt: skip

        return [{**facts(each), **asdict(measure(i))} for i, each in enumerate(networks)]
