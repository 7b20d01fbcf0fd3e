"""``biril report``: one HTML file about a trained or lowered network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biril_nm.commands.console import say
from biril_nm.commands.options import Chip, DataRoot, Dt, Force, Reset, Seed, WeightBits
from biril_nm.commands.sources import load_source, lowered, random_input, single_input
from biril_nm.errors import ConfigError

if TYPE_CHECKING:
    from biril_nm.export.report.page import Card

__all__ = ["report_command"]


def report_command(
    src: Annotated[
        Path,
        typer.Argument(help="Folder of biril train, model.pt, x.nir or x.loihi.npz", metavar="SRC"),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="HTML file; default: report.html beside SRC."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Draw test samples of digits or mnist, and measure accuracy."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples to draw and compare.")] = 20,
    against: Annotated[
        str, typer.Option(help="Engines of the parity check; empty: none.")
    ] = "sim,lava",
    data_root: DataRoot = None,
    dt: Dt = None,
    reset: Reset = None,
    chip: Chip = "loihi2",
    weight_bits: WeightBits = 8,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Write a self-contained HTML report with pictures.

    Example: biril report out --dataset digits
    """
    from biril_nm.commands.report_sections import chip_parts, parity_card
    from biril_nm.export.lowering.pipeline import ideal_weights
    from biril_nm.export.report.page import write_report
    from biril_nm.hardware_sim import simulate
    from biril_nm.parity import check_parity
    from biril_nm.storage import check_output

    folder = src if src.is_dir() else src.parent
    if out is not None and out.suffix not in (".html", ".htm"):
        raise ConfigError(f"--out '{out}' must end in .html")
    target = check_output(out or folder / "report.html", force)
    source = load_source(src / "model.pt" if src.is_dir() else src, dt)
    graph = lowered(source, chip, dt, weight_bits, reset)
    ideal = {} if source.nir_graph is None else ideal_weights(source.nir_graph, graph)
    cards: list[Card] = []
    if dataset is not None:
        values, cards = _with_data(source, graph, dataset, data_root, samples, seed)
        facts = {"input": f"the first {samples} test samples of {dataset}"}
    else:
        values = random_input(graph, 16, samples, seed)
        facts = {"input": f"{samples} random samples of 16 steps"}
    if against:
        cards.append(parity_card(check_parity(graph, values, against=against.split(","))))
    trace = simulate(graph, values, record=("s", "v"))
    more, sections = chip_parts(graph, trace, values, chip)
    write_report(
        target,
        graph,
        trace,
        ideal,
        run_dir=folder,
        facts=facts,
        force=force,
        cards=[*cards, *more],
        sections=sections,
    )
    say(f"wrote {target}")


def _with_data(
    source: Any, graph: Any, dataset: str, data_root: Path | None, samples: int, seed: int
) -> tuple[dict[str, Any], list[Card]]:
    from biril_nm.data import Batches, load_data
    from biril_nm.evaluation.accuracy import evaluate_graph

    test = load_data(dataset, data_root, seed).test
    name, coding = single_input(graph)
    note = f"{dataset}, {len(test):,} test samples"
    cards = []
    if source.net is not None:
        from biril_nm.training import evaluate

        accuracy = evaluate(source.net, Batches(test, 250)).accuracy
        cards.append(_accuracy("float (torch)", accuracy, len(test), note))
    found = evaluate_graph(graph, test.values(), test.labels, coding, seed=seed)
    cards.append(_accuracy("integers (sim)", found.accuracy, len(test), note))
    return {name: coding.encode(test.head(samples).values(), seed)}, cards


def _accuracy(what: str, share: float, n_samples: int, note: str) -> Card:
    """Accuracy with its binomial standard error."""
    from biril_nm.export.report.page import Card

    error = math.sqrt(share * (1 - share) / n_samples)
    return Card(f"accuracy, {what}", f"{share:.2%}", f"± {error:.2%}, {note}")
