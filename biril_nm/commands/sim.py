"""``biril sim``: drive an integer graph with spikes from a file."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import typer
from numpy.typing import NDArray

from biril_nm.commands.console import print_json, print_table, say
from biril_nm.commands.inputs import n_steps_of, read_pictures, read_spikes
from biril_nm.commands.options import MAX_COUNT, Force, Json, Learn
from biril_nm.commands.sources import GRAPH_SUFFIX
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.inputs import single_input
from biril_nm.hw_graph.plastic import learned_changes
from biril_nm.storage import check_output, keep_inputs

if TYPE_CHECKING:
    from biril_nm.recording import Recording

__all__ = ["sim_command"]


@dataclass(frozen=True)
class Drive:
    """What drives the network."""

    spikes: Annotated[
        Path | None,
        typer.Option(
            help=".npz with integers 'spikes' (n_steps, batch, *shape), or .npy of that shape, which "
            "is read from disk during the run."
        ),
    ] = None
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="For an x.net whose input layer has neurons: .npz with 'pictures' (batch, *shape), or "
            ".npy of that shape; each sample sets the bias of the input neurons, which get no spikes."
        ),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_COUNT, help="Steps per picture; default: as trained, else 16."),
    ] = None

    def check(self, learn: bool, outputs: Outputs) -> None:
        """Refuse options that contradict each other, before anything is read.

        Raises:
            ConfigError: no input or two, or an option that has no meaning for it.
        """
        if (self.spikes is None) == (self.pictures is None):
            raise typer.BadParameter("give the input by one of --spikes and --pictures")
        if self.steps is not None and self.pictures is None:
            raise ConfigError(
                "--steps has no meaning beside --spikes, which has the steps. Leave it out"
            )
        if self.pictures is not None and (learn or outputs.record_to is not None):
            raise ConfigError(
                "--pictures runs each sample with biases of its own. Leave out --learn and --record-to"
            )


@dataclass(frozen=True)
class Outputs:
    """Where the results of a run go."""

    learned_out: Annotated[
        Path | None,
        typer.Option(
            help=f"Write the graph with its learned weights and tags to this *{GRAPH_SUFFIX}."
        ),
    ] = None
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the recording to this .npz.")
    ] = None
    record_to: Annotated[
        Path | None,
        typer.Option(
            help="Record to this folder during the run, for recordings larger than memory."
        ),
    ] = None
    force: Force = False

    def check(self, learn: bool, inputs: Sequence[Path | None]) -> None:
        """Refuse outputs that contradict each other or the run, before it starts.

        Args:
            learn: whether the run learns.
            inputs: the files that it reads.

        Raises:
            ConfigError: an option that has no meaning here.
            OutputExistsError: a file exists, and ``force`` is False, or it is one of the inputs.
        """
        if self.out is not None and self.out.suffix != ".npz":
            raise ConfigError(f"--out is '{self.out}'; expected a name that ends in .npz")
        if self.out is not None and self.record_to is not None:
            raise ConfigError(
                "--out and --record-to both say where the recording goes. Give one of them"
            )
        if self.learned_out is not None:
            if not learn:
                raise ConfigError("--learned-out needs --learn: nothing is learned without it")
            if not self.learned_out.name.endswith(GRAPH_SUFFIX):
                raise ConfigError(
                    f"--learned-out is '{self.learned_out}'; expected a name that ends in {GRAPH_SUFFIX}"
                )
            if self.out is not None and os.path.realpath(self.out) == os.path.realpath(
                self.learned_out
            ):
                raise ConfigError(
                    f"--out and --learned-out are both '{self.out}'; expected a file for each. Change one "
                    f"of them"
                )
        keep_inputs((self.out, self.learned_out, self.record_to), inputs)
        for path in (self.out, self.learned_out):
            if path is not None:
                check_output(path, self.force)

    def write(self, recording: Recording) -> tuple[Path, ...]:
        """Write the files; all outputs of the run."""
        if self.out is not None:
            recording.save(self.out, force=self.force)
        if self.learned_out is not None and recording.graph is not None:
            recording.graph.save(self.learned_out, force=self.force)
        paths = (self.out or self.record_to, self.learned_out)
        return tuple(path for path in paths if path is not None)


def sim_command(
    graph: Annotated[Path, typer.Argument(help="x.loihi.npz", metavar="GRAPH")],
    *,
    drive: Drive,
    record: Annotated[
        str,
        typer.Option(help="What to record, of s,u,v; with --learn also w,t,d,x1,x2,y1,y2,y3."),
    ] = "s",
    learn: Learn = False,
    outputs: Outputs,
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_COUNT, help="Threads; default: all CPUs."),
    ] = None,
    json: Json = False,
) -> None:
    """Simulate a network on integers, exactly as Lava's fixed_pt models do.

    Example: biril sim out/model.loihi.npz --spikes out/lava/input.npz
    """
    from biril_nm.hardware_sim import simulate

    drive.check(learn, outputs)
    outputs.check(learn, (graph, drive.spikes, drive.pictures))
    if not graph.name.endswith(GRAPH_SUFFIX):
        raise FileFormatError(
            f"'{graph}' is not an integer graph (x{GRAPH_SUFFIX}). Make one: biril export {graph} "
            f"--to loihi"
        )
    network = LoihiGraph.load(graph)
    options: dict[str, Any] = {"record": record.split(","), "n_threads": threads}
    if drive.pictures is not None:
        samples = read_pictures(drive.pictures)
        start = time.perf_counter()
        recording = _simulate_pictures(network, samples, drive.steps, options)
    else:
        values = read_spikes(cast(Path, drive.spikes), network, learn)
        start = time.perf_counter()
        recording = simulate(
            network,
            values,
            **options,
            learn=learn,
            record_to=outputs.record_to,
            force=outputs.force,
        )
    seconds = time.perf_counter() - start
    written = outputs.write(recording)
    changes = {} if recording.graph is None else learned_changes(network, recording.graph)
    if json:
        print_json(_facts(recording, outputs, seconds, changes if learn else None))
        return
    _show(network, recording, seconds, changes)
    for path in written:
        say(f"wrote {path}")


def _simulate_pictures(
    network: LoihiGraph, pictures: NDArray[Any], steps: int | None, options: dict[str, Any]
) -> Recording:
    """One run for each picture, which sets the bias of the input neurons, as one recording."""
    from biril_nm.export import with_input_bias
    from biril_nm.hardware_sim import simulate
    from biril_nm.recording import joined

    biased = [with_input_bias(network, picture) for picture in pictures]
    source = network.inputs[single_input(network)]
    silence = np.broadcast_to(np.int32(0), (steps or n_steps_of(network), 1, *source.shape))
    return joined([simulate(each, silence, **options) for each in biased])


def _facts(
    recording: Recording, outputs: Outputs, seconds: float, changes: dict[str, Any] | None
) -> dict[str, Any]:
    output, learned = outputs.out or outputs.record_to, outputs.learned_out
    facts = {
        "n_steps": int(recording.meta["n_steps"]),
        "batch": int(recording.meta["batch"]),
        "seconds": seconds,
        "n_spikes": dict(recording.n_spikes),
        "output": str(output) if output else None,
    }
    if changes is None:
        return facts
    return {**facts, "learned": changes, "learned_output": str(learned) if learned else None}


def _show(
    network: LoihiGraph, recording: Recording, seconds: float, changes: dict[str, Any]
) -> None:
    n_steps, batch = (int(recording.meta[key]) for key in ("n_steps", "batch"))
    rows = [
        (
            name,
            f"{network.neurons[name].size:,}",
            f"{count:,}",
            f"{count / (n_steps * batch * network.neurons[name].size):.4f}",
        )
        for name, count in recording.n_spikes.items()
    ]
    title = f"{batch} samples x {n_steps} steps in {seconds:.3f} s"
    print_table(title, ("node", "neurons", "spikes", "spikes per neuron and step"), rows)
    for name, change in changes.items():
        say(
            f"{name}: {change['changed']:,} of {change['synapses']:,} weights changed, mean |change| "
            f"{change['mean_change']:.2f}, {change['at_limit']:,} at a limit"
        )
