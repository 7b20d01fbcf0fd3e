"""``biril report``: one HTML file about a trained or lowered network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biril_nm.commands.console import say
from biril_nm.commands.inputs import STEPS, picture_input, random_input, sample_input
from biril_nm.commands.lava_choice import LavaChoice, default_engines, lava_in
from biril_nm.commands.options import (
    MAX_COUNT,
    Against,
    DataRoot,
    DataSetName,
    Force,
    LoweringChoice,
    Seed,
    Source,
)
from biril_nm.commands.samples import OwnSamples
from biril_nm.commands.sources import (
    LoadedFile,
    load_source,
    lowered,
    lowered_stages,
    lowering_options,
)
from biril_nm.commands.unused import refuse_unused, unused_lowering, unused_root
from biril_nm.evaluation.labelled import message_coding
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.inputs import driving_inputs, single_input
from biril_nm.recording.readout import decision_of

if TYPE_CHECKING:
    from biril_nm.reports.making import Drive, Subject

__all__ = ["report_command"]


def report_command(
    src: Source,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="HTML file; default: report.html beside SRC."),
    ] = None,
    dataset: DataSetName = None,
    own: OwnSamples,
    samples: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Samples to draw and compare.")
    ] = 20,
    against: Against = None,
    lava: LavaChoice,
    data_root: DataRoot = None,
    lowering: LoweringChoice,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Write a self-contained HTML report with pictures.

    With a data set, or samples of your own with labels, it says the accuracy, which classes are mixed up and
    which samples went worst. Without --against it compares torch if SRC holds a torch network, sim, and lava
    if it runs here; with --against "" nothing is compared.

    Example: biril report out --dataset digits
    """
    from biril_nm.reports.making import check_page, make_report

    own.check({"--dataset": dataset, "--data-root": data_root})
    folder = src if src.is_dir() else src.parent
    target = check_page(out or folder / "report.html", force)
    source = load_source(src, lowering)
    unused = unused_lowering([source], lowering, uses=("--chip",))
    refuse_unused([*unused, *unused_root(dataset, data_root)])
    others = [*(["torch"] if source.net is not None else []), "sim"]
    with lava_in(lava.lava_python):
        engines = tuple(default_engines(lava, others, against)) if against != "" else ()
        engines = engines if against is not None or len(engines) > 1 else ()
        subject = _subject(source, lowering)
        if dataset is not None:
            drive = _of_data_set(source, subject.graph, dataset, data_root, samples, seed)
        else:
            drive = _of_samples(source, subject.graph, own, samples, seed)
        make_report(subject, replace(drive, engines=engines), target, folder, force)
    say(f"wrote {target}")


def _subject(source: LoadedFile, lowering: LoweringChoice) -> Subject:
    """The integer network, and what it came from."""
    from biril_nm.reports.making import Subject

    if source.nir_graph is None:
        return Subject(lowered(source, lowering), source.net, chip=lowering.chip)
    from biril_nm.export.lowering import ideal_weights

    options = lowering_options(source, lowering)
    stages = lowered_stages(source, lowering)
    ideal = dict(ideal_weights(stages))
    return Subject(stages.graph, source.net, source.nir_graph, options, ideal, lowering.chip)


def _of_samples(
    source: LoadedFile, graph: LoihiGraph, own: OwnSamples, samples: int, seed: int
) -> Drive:
    """Samples of a file, or random ones."""
    from biril_nm.reports.classes import Labelled
    from biril_nm.reports.making import Drive

    found = own.read(graph)
    if found is None:
        values = random_input(graph, STEPS, samples, seed)
        return Drive(values, {"input": f"{samples} random samples of {STEPS} steps"})
    note = f"{len(found):,} samples of {own.spikes.name if own.spikes else ''}"
    labelled = None
    if found.labels is not None and len(driving_inputs(graph)) == 1:
        name = single_input(graph)
        coding = message_coding(graph.inputs[name], len(found.spikes[name]))
        labelled = Labelled(found.spikes[name], found.labels, coding)
    first = found.head(samples)
    return Drive(first.spikes, {"input": f"the first {len(first)} of {note}"}, (), labelled, note)


def _of_data_set(
    source: LoadedFile,
    graph: LoihiGraph,
    dataset: str,
    data_root: Path | None,
    samples: int,
    seed: int,
) -> Drive:
    """The test part of a data set."""
    from biril_nm.data import Batches, load_data
    from biril_nm.reports.classes import Labelled
    from biril_nm.reports.making import Drive

    test = load_data(dataset, data_root, seed).test
    _, coding = picture_input(graph, test)
    accuracy = None
    if source.net is not None:
        from biril_nm.training import evaluate

        decision = decision_of(graph)
        accuracy = evaluate(source.net, Batches(test, 250), seed, decision=decision).accuracy
    return Drive(
        sample_input(graph, test.head(samples), seed),
        {"input": f"the first {samples} test samples of {dataset}"},
        (),
        Labelled(test.values(), test.labels, coding, seed),
        f"{dataset}, {len(test):,} test samples",
        accuracy,
    )
