"""``biril card``: a README.md beside a model: what is known of it, and fields for what only people know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import biril_nm
from biril_nm.commands.console import say, shown
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
from biril_nm.commands.samples import OwnSamples, Recorded
from biril_nm.commands.sources import CONFIG, LoadedFile, load_source, lowered
from biril_nm.commands.unused import refuse_unused, unused_lowering, unused_root
from biril_nm.errors import ConfigError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.recording.readout import decision_of

if TYPE_CHECKING:
    from biril_nm.data import Split

__all__ = ["card_command", "card_text", "escaped"]

Rows = list[tuple[str, str]]
SPECIAL = "\\`*_[]<>|#!~$"
OPEN = "(fill in)"
PEOPLE = (
    ("licence of the model", OPEN),
    ("licence of the data", OPEN),
    ("authors and contact", OPEN),
    ("intended use, and use to avoid", OPEN),
    ("known weaknesses", OPEN),
)
NOT_MEASURED = "not measured; give --dataset, or --spikes and --labels"


def card_command(
    src: Source,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Markdown file; default: README.md beside SRC."),
    ] = None,
    dataset: DataSetName = None,
    own: OwnSamples,
    samples: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Samples to run and compare engines on.")
    ] = 8,
    against: Against = None,
    lava: LavaChoice,
    data_root: DataRoot = None,
    lowering: LoweringChoice,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Write a model card: data, training, figures, fit to the chip, parity, and fields for the licence.

    Accuracy is measured where --dataset or samples with labels are given. Engines are compared as in
    biril report.

    Example: biril card out --dataset digits
    """
    from biril_nm.storage import atomic_file, check_output

    if out is not None and out.suffix != ".md":
        raise ConfigError(f"--out is '{out}'; expected a name that ends in .md")
    own.check({"--dataset": dataset, "--data-root": data_root})
    folder = src if src.is_dir() else src.parent
    target = check_output(out or folder / "README.md", force)
    source = load_source(src, lowering)
    unused = unused_lowering([source], lowering, uses=("--chip",))
    refuse_unused([*unused, *unused_root(dataset, data_root)])
    engines_of = [*(["torch"] if source.net is not None else []), "sim"]
    with lava_in(lava.lava_python):
        engines = default_engines(lava, engines_of, against)
    graph = lowered(source, lowering)
    test = None
    if dataset is not None:
        from biril_nm.data import load_data

        test = load_data(dataset, data_root, seed).test
    mine = own.read(graph)
    values = _values(graph, test, seed, samples) if mine is None else mine.head(samples).spikes
    parity = "not compared"
    if against or (against is None and len(engines) > 1):
        with lava_in(lava.lava_python):
            parity = _parity(source, graph, values, engines)
    sections = {
        "Network": _network(source, graph),
        "Data and training": _training(folder, own.spikes.name if own.spikes else dataset),
        "Figures": _figures(source, graph, test, seed)
        if mine is None
        else _own(source, graph, mine),
        "On the chip": _chip(graph, values, lowering.chip),
        "Parity": [("engines", ", ".join(engines) or "none"), ("result", parity)],
        "Licence and use": list(PEOPLE),
    }
    text = card_text(source.path.name, sections)
    with atomic_file(target, force) as part:
        part.write_text(text, encoding="utf-8")
    say(f"wrote {target}")


def card_text(name: str, sections: dict[str, Rows]) -> str:
    """The Markdown of a card; names and values are shown as they are, whatever they hold.

    Args:
        name: of the model.
        sections: heading -> rows of what and value.
    """
    lines = [
        f"# {escaped(name)}",
        "",
        f"A spiking network for Loihi-class chips. Written by `biril card` of biril-nm "
        f"{biril_nm.__version__}.",
    ]
    for heading, rows in sections.items():
        lines += ["", f"## {heading}", "", "| what | value |", "| --- | --- |"]
        lines += [f"| {escaped(what)} | {escaped(value)} |" for what, value in rows]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    plain = shown(text.replace("\n", "; "), lines=False)
    return "".join(f"\\{c}" if c in SPECIAL else c for c in plain)


def _network(source: LoadedFile, graph: LoihiGraph) -> Rows:
    inputs = [
        f"{name} {node.shape}, {node.message_bits or 1} bits" for name, node in graph.inputs.items()
    ]
    populations = [f"{name} ({node.size})" for name, node in graph.neurons.items()]
    weights = sum(
        int(getattr(node.weight, "nnz", node.weight.size)) for node in graph.connections.values()
    )
    rows = [("file", source.path.name)]
    if source.net is not None:
        count = sum(p.numel() for p in source.net.parameters())
        rows.append(("architecture", f"{source.net.name}, {count:,} parameters"))
        rows.append(("input coding", f"{source.net.coding}"))
    return [
        *rows,
        ("inputs", ", ".join(inputs)),
        ("populations (neurons)", ", ".join(populations)),
        ("stored weights on the chip", f"{weights:,}"),
        ("decision", decision_of(graph)),
    ]


def _training(folder: Path, dataset: str | None) -> Rows:
    """What a folder of ``biril train`` says; fields to fill in without one."""
    path = folder / CONFIG
    if not path.is_file():
        return [("data", dataset or OPEN), ("training", OPEN)]
    from biril_nm.training.run_config import RunConfig

    run = RunConfig.read(path)
    train = run.train
    return [
        ("data", run.dataset),
        ("schedule", train.schedule),
        ("epochs", str(train.epochs)),
        ("learning rate", f"{train.lr:g}"),
        ("batch size", str(run.batch_size)),
        ("augmentation", ", ".join(run.augment) or "none"),
        ("seed", str(run.seed)),
        *([("started from", run.parent)] if run.parent else []),
    ]


def _figures(source: LoadedFile, graph: LoihiGraph, test: Split | None, seed: int) -> Rows:
    """Accuracy of the float network and of the integers on the test samples."""
    if test is None:
        return [("accuracy", NOT_MEASURED)]
    from biril_nm.evaluation.accuracy import evaluate_graph

    rows = [("test samples", f"{len(test):,}")]
    if source.net is not None:
        from biril_nm.data import Batches
        from biril_nm.training import evaluate

        decision = decision_of(graph)
        found = evaluate(source.net, Batches(test, 250), seed, decision=decision).accuracy
        rows.append(("accuracy, float (torch)", f"{found:.2%}"))
    _, coding = picture_input(graph, test)
    found = evaluate_graph(graph, test.values(), test.labels, coding, seed=seed).accuracy
    return [*rows, ("accuracy, integers (simulator)", f"{found:.2%}")]


def _own(source: LoadedFile, graph: LoihiGraph, mine: Recorded) -> Rows:
    """Accuracy on samples of one's own."""
    from biril_nm.evaluation.labelled import accuracy

    if mine.labels is None or len(mine.spikes) != 1:
        return [("accuracy", NOT_MEASURED)]
    (spikes,) = mine.spikes.values()
    rows = [("test samples", f"{len(mine):,}")]
    if source.net is not None:
        found = accuracy(source.net, spikes, mine.labels, decision=decision_of(graph))
        rows.append(("accuracy, float (torch)", f"{found:.2%}"))
    found = accuracy(graph, spikes, mine.labels)
    return [*rows, ("accuracy, integers (simulator)", f"{found:.2%}")]


def _values(graph: LoihiGraph, test: Split | None, seed: int, samples: int) -> Any:
    if test is None:
        return random_input(graph, STEPS, samples, seed)
    return sample_input(graph, test.head(samples), seed)


def _parity(source: LoadedFile, graph: LoihiGraph, values: Any, engines: Sequence[str]) -> str:
    from biril_nm.parity import check_parity

    return check_parity(graph, values, against=list(engines), net=source.net).summary()


def _chip(graph: LoihiGraph, values: Mapping[str, Any], chip: str) -> Rows:
    """Cores and modelled energy."""
    from biril_nm.hardware_sim import Activity, estimate_energy, map_to_chip, simulate
    from biril_nm.hardware_sim.cost.energy import energy_text
    from biril_nm.loihi import chip_profile

    profile = chip_profile(chip)
    mapping = map_to_chip(graph, profile)
    activity = Activity.of(graph, simulate(graph, values), values)
    energy = estimate_energy(graph, activity, mapping, profile)
    samples = next(iter(values.values())).shape[1]
    return [
        ("chip", chip),
        ("cores", mapping.cores_text + ("" if mapping.fits else ", does not fit")),
        (
            "energy per sample, modelled",
            f"{energy_text(energy.joules)}, {energy.table.name}, mean of {samples} samples",
        ),
        ("latency", f"{energy.latency_steps} steps"),
    ]
