"""``biril sim``: drive an integer graph with spikes from a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from biril_nm.commands.console import print_json, print_table
from biril_nm.commands.options import Force, Json
from biril_nm.commands.sources import GRAPH_SUFFIX, read_spikes
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.plastic import learned_changes
from biril_nm.storage import check_output

__all__ = ["sim_command"]


def sim_command(
    graph: Annotated[Path, typer.Argument(help="x.loihi.npz", metavar="GRAPH")],
    spikes: Annotated[
        Path,
        typer.Option(
            help=".npz with integers 'spikes' (n_steps, batch, *shape), or .npy of that shape, which is "
            "read from disk as it is needed."
        ),
    ],
    record: Annotated[
        str,
        typer.Option(help="What to record, of s,u,v; with --learn also w,t,d,x1,x2,y1,y2,y3."),
    ] = "s",
    learn: Annotated[bool, typer.Option("--learn", help="Let plastic connections learn.")] = False,
    learned_out: Annotated[
        Path | None,
        typer.Option(
            help=f"Write the graph with its learned weights and tags to this *{GRAPH_SUFFIX}."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the trace to this .npz.")
    ] = None,
    record_to: Annotated[
        Path | None,
        typer.Option(
            help="Record to this folder as the run goes on, for traces larger than memory."
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; default: all CPUs.")] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Simulate a network on integers, exactly as Lava's fixed_pt models do.

    Example: biril sim out/model.loihi.npz --spikes out/lava/input.npz
    """
    if not graph.name.endswith(GRAPH_SUFFIX):
        raise FileFormatError(
            f"'{graph}' is no integer graph; make one with: biril export {graph} --to loihi"
        )
    if out is not None and out.suffix != ".npz":
        raise ConfigError(f"--out '{out}' must end in .npz")
    _check_learned_out(learned_out, learn)
    for path in (out, learned_out):
        if path is not None:
            check_output(path, force)
    if out is not None and record_to is not None:
        raise ConfigError("--out and --record-to both say where the trace goes; give one of them")
    from biril_nm.hardware_sim import simulate

    network = LoihiGraph.load(graph)
    values = read_spikes(spikes, network, learn)
    start = time.perf_counter()
    trace = simulate(
        network,
        values,
        record=record.split(","),
        n_threads=threads,
        learn=learn,
        record_to=record_to,
        force=force,
    )
    seconds = time.perf_counter() - start
    if out is not None:
        trace.save(out, force=force)
    written = out or record_to
    if learned_out is not None and trace.graph is not None:
        trace.graph.save(learned_out, force=force)
    changes = {} if trace.graph is None else learned_changes(network, trace.graph)
    n_steps, batch = (int(trace.meta[key]) for key in ("n_steps", "batch"))
    if json:
        print_json(
            {
                "n_steps": n_steps,
                "batch": batch,
                "seconds": seconds,
                "n_spikes": dict(trace.n_spikes),
                "output": str(written) if written else None,
                **(
                    {"learned": changes, "learned_output": learned_out and str(learned_out)}
                    if learn
                    else {}
                ),
            }
        )
        return
    rows = [
        (
            name,
            f"{network.neurons[name].size:,}",
            f"{count:,}",
            f"{count / (n_steps * batch * network.neurons[name].size):.4f}",
        )
        for name, count in trace.n_spikes.items()
    ]
    title = f"{batch} samples x {n_steps} steps in {seconds:.3f} s"
    print_table(title, ("node", "neurons", "spikes", "spikes per neuron and step"), rows)
    for name, change in changes.items():
        typer.echo(
            f"{name}: {change['changed']:,} of {change['synapses']:,} weights changed, mean |change| "
            f"{change['mean_change']:.2f}, {change['at_limit']:,} at a limit"
        )
    for path in (written, learned_out):
        if path is not None:
            typer.echo(f"wrote {path}")


def _check_learned_out(path: Path | None, learn: bool) -> None:
    if path is None:
        return
    if not learn:
        raise ConfigError("--learned-out needs --learn: nothing is learned without it")
    if not path.name.endswith(GRAPH_SUFFIX):
        raise ConfigError(f"--learned-out '{path}' must end in {GRAPH_SUFFIX}")
