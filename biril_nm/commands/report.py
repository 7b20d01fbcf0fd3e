"""``biril report``: one HTML file about a trained or lowered network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    Lowering,
    Seed,
)
from biril_nm.commands.sources import LoadedFile, load_source, lowered, lowered_stages
from biril_nm.commands.unused import refuse_unused, unused_lowering, unused_root
from biril_nm.errors import ConfigError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.recording.readout import decision_of

if TYPE_CHECKING:
    from biril_nm.data import Split
    from biril_nm.export.report.page import Card

__all__ = ["report_command"]


def report_command(
    src: Annotated[
        Path,
        typer.Argument(help="Folder of biril train, model.pt, x.nir or x.loihi.npz", metavar="SRC"),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="HTML file; default: report.html beside SRC."),
    ] = None,
    dataset: DataSetName = None,
    samples: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Samples to draw and compare.")
    ] = 20,
    against: Against = None,
    lava: LavaChoice,
    data_root: DataRoot = None,
    lowering: Lowering,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Write a self-contained HTML report with pictures.

    Without --against it compares torch if SRC holds a torch network, sim, and lava if it runs here; with
    --against "" nothing is compared.

    Example: biril report out --dataset digits
    """
    from biril_nm.commands.report_sections import chip_parts, parity_card
    from biril_nm.data import load_data
    from biril_nm.export.report.page import Extra, write_report
    from biril_nm.hardware_sim import simulate
    from biril_nm.parity import check_parity
    from biril_nm.storage import check_output

    folder = src if src.is_dir() else src.parent
    if out is not None and out.suffix not in (".html", ".htm"):
        raise ConfigError(f"--out '{out}' must end in .html")
    target = check_output(out or folder / "report.html", force)
    source = load_source(src / "model.pt" if src.is_dir() else src, lowering)
    unused = unused_lowering([source], lowering, uses=("--chip",))
    refuse_unused([*unused, *unused_root(dataset, data_root)])
    others = [*(["torch"] if source.net is not None else []), "sim"]
    with lava_in(lava.lava_python):
        engines = default_engines(lava, others, against)
    graph, ideal = _lowered(source, lowering)
    cards: list[Card] = []
    if dataset is not None:
        test = load_data(dataset, data_root, seed).test
        cards = _accuracies(source, graph, test, f"{dataset}, {len(test):,} test samples", seed)
        values = sample_input(graph, test.head(samples), seed)
        facts = {"input": f"the first {samples} test samples of {dataset}"}
    else:
        values = random_input(graph, STEPS, samples, seed)
        facts = {"input": f"{samples} random samples of {STEPS} steps"}
    if against or (against is None and len(engines) > 1):
        with lava_in(lava.lava_python):
            cards.append(parity_card(check_parity(graph, values, against=engines, net=source.net)))
    recording = simulate(graph, values, record=("s", "v"))
    more, sections = chip_parts(graph, recording, values, lowering.chip)
    extra = Extra(facts, [*cards, *more], sections)
    write_report(target, graph, recording, ideal, folder, extra, force)
    say(f"wrote {target}")


def _lowered(source: LoadedFile, lowering: Lowering) -> tuple[LoihiGraph, dict[str, Any]]:
    """The integer network, and its weights before rounding where the source has them."""
    if source.nir_graph is None:
        return lowered(source, lowering), {}
    from biril_nm.export.lowering import ideal_weights

    stages = lowered_stages(source, lowering)
    return stages.graph, dict(ideal_weights(stages))


def _accuracies(
    source: LoadedFile, graph: LoihiGraph, test: Split, note: str, seed: int
) -> list[Card]:
    """Accuracy of the float network, if there is one, and of the integers."""
    from biril_nm.evaluation.accuracy import evaluate_graph

    cards = []
    if source.net is not None:
        from biril_nm.data import Batches
        from biril_nm.training import evaluate

        decision = decision_of(graph)
        accuracy = evaluate(source.net, Batches(test, 250), seed, decision=decision).accuracy
        cards.append(_accuracy("float (torch)", accuracy, len(test), note))
    _, coding = picture_input(graph, test)
    found = evaluate_graph(graph, test.values(), test.labels, coding, seed=seed)
    return [*cards, _accuracy("integers (sim)", found.accuracy, len(test), note)]


def _accuracy(what: str, share: float, n_samples: int, note: str) -> Card:
    """Accuracy with its binomial standard error."""
    from biril_nm.export.report.page import Card

    error = math.sqrt(share * (1 - share) / n_samples)
    return Card(f"accuracy, {what}", f"{share:.2%}", f"± {error:.2%}, {note}")
