"""``biril parity``: do torch, the simulator and Lava agree on this network?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biril_nm.commands.console import note, print_json, say
from biril_nm.commands.inputs import (
    n_steps_of,
    sample_input,
    silent_layers,
    waking_input,
)
from biril_nm.commands.lava_choice import LavaChoice, default_engines, lava_in
from biril_nm.commands.options import (
    MAX_COUNT,
    Against,
    DataRoot,
    DataSetName,
    Json,
    Learn,
    LoweringChoice,
    Seed,
)
from biril_nm.commands.samples import OwnSamples, Recorded
from biril_nm.commands.sources import LoadedFile, load_source, lowered
from biril_nm.commands.unused import refuse_unused, unused_lowering, unused_root
from biril_nm.hw_graph.inputs import driving_inputs, input_coding, single_input
from biril_nm.recording.readout import decision_of

if TYPE_CHECKING:
    from biril_nm.hw_graph import LoihiGraph

__all__ = ["parity_command"]


def parity_command(
    src: Annotated[Path, typer.Argument(help="model.pt, x.nir or x.loihi.npz", metavar="SRC")],
    *,
    against: Against = None,
    samples: Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="Samples to compare.")] = 16,
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_COUNT, help="Steps per sample; default: as trained, else 16."),
    ] = None,
    own: OwnSamples,
    dataset: DataSetName = None,
    data_root: DataRoot = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a layer never spiked, too.")
    ] = False,
    learn: Learn = False,
    lava: LavaChoice,
    lowering: LoweringChoice,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Compare every spike, current and voltage of the integer engines, and torch's predictions.

    Without --against: torch if SRC holds a torch network, sim, and lava if it runs here. With --learn also
    every weight, tag and trace of plastic connections, at every step of the chip. Exit code 1 with the
    first differing neuron if they disagree.

    Without --spikes and --dataset the input is random; its strength, then its length (unless --steps is
    given) rise until every layer spikes. With labels it says the accuracy, too.

    A graph that was trained on the integers (biril train --integers) runs in torch too, every integer.

    Example: biril parity out/model.pt --dataset digits --samples 20
    """
    from biril_nm.data import load_data
    from biril_nm.parity import check_parity

    own.check({"--dataset": dataset, "--steps": steps})
    source = load_source(src, lowering)
    refuse_unused([*unused_root(dataset, data_root), *unused_lowering([source], lowering)])
    graph = lowered(source, lowering)
    values: dict[str, Any]
    found = own.read(graph, learn=learn)
    if found is not None:
        found = found.head(samples)
        values = dict(found.spikes)
    elif dataset is not None:
        test = load_data(dataset, data_root).test
        values = sample_input(graph, test.head(samples), seed, steps)
    else:
        values = waking_input(graph, steps or n_steps_of(graph), samples, seed, steps is None)
    others = [*(["torch"] if source.net is not None and not learn else []), "sim"]
    with lava_in(lava.lava_python):
        engines = default_engines(lava, others, against, at_least=2)
        net = source.net or _integers_in_torch(graph, engines, learn)
        report = check_parity(graph, values, against=engines, net=net, learn=learn)
    right = {} if found is None or learn else _accuracies(source, graph, found)
    if json:
        print_json({**report.to_dict(), **({"accuracy": right} if right else {})})
    else:
        say(report.summary())
        for name, share in right.items():
            say(f"accuracy, {name}: {share:.2%} of {report.n_samples} samples")
    silent = silent_layers(graph, report.n_spikes)
    if silent:
        tried = " on any random input that was tried" if found is None and dataset is None else ""
        note(
            f"{', '.join(silent)} did not spike{tried}: the agreement proves nothing about their spikes. "
            f"Give input with --spikes or --dataset, or lower the thresholds"
        )
    if not report.ok or (strict and silent):
        raise typer.Exit(1)


def _integers_in_torch(graph: LoihiGraph, engines: Sequence[str], learn: bool) -> Any:
    """The torch module that trained a graph, where torch is asked for."""
    if "torch" not in engines or learn:
        return None
    from biril_nm.training.integers.net import QuantizedNet, trained_graph

    return QuantizedNet(graph) if trained_graph(graph) else None


def _accuracies(source: LoadedFile, graph: LoihiGraph, found: Recorded) -> dict[str, float]:
    """Accuracy of the float network, if there is one, and of the integers, on samples with labels."""
    from biril_nm.evaluation.labelled import accuracy

    if found.labels is None or len(driving_inputs(graph)) != 1 or len(graph.outputs) != 1:
        return {}
    name = single_input(graph)
    spikes, decision = found.spikes[name], decision_of(graph)
    right = {}
    if source.net is not None:
        coding = input_coding(graph, name)
        right["torch"] = accuracy(
            source.net, spikes, found.labels, coding=coding, decision=decision
        )
    return {**right, "sim": accuracy(graph, spikes, found.labels)}
