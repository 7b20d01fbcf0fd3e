"""``report``: everything that is known of a network on its samples, in one HTML file and one object."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biril_nm.arguments import Count, checked
from biril_nm.data.labels import check_labels
from biril_nm.display import html_table
from biril_nm.engines import Network, get_engine
from biril_nm.errors import BirilError, ConfigError
from biril_nm.evaluation.labelled import as_array, as_samples
from biril_nm.export.report.page import Card, Extra, Image, Section, write_report
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.inputs import check_inputs, driving_inputs, input_coding, single_input
from biril_nm.parity import ParityReport, check_parity
from biril_nm.recording import Recording
from biril_nm.recording.readout import predict, readout_node
from biril_nm.reports.bits import BitsError, bits_section, errors_by_bits
from biril_nm.reports.chip import chip_parts, parity_card
from biril_nm.reports.classes import (
    BATCH,
    Classes,
    Labelled,
    classes_of,
    classes_section,
    worst_input,
    worst_section,
)
from biril_nm.reports.layers import LayerFit, layer_fits, layers_section, limits_section
from biril_nm.reports.pictures import voltages_png
from biril_nm.storage import check_output

if TYPE_CHECKING:
    import nir
    from torch import nn

    from biril_nm.export.lowering import LoweringOptions

__all__ = ["Drive", "Report", "Subject", "check_page", "make_report", "report"]

TORCH, SIM, LAVA = "torch", "sim", "lava"


@dataclass(frozen=True)
class Subject:
    """What is reported.

    Attributes:
        graph: the integer network.
        net: the torch network behind it.
        nir_graph: what it was lowered from.
        options: how it was lowered; None where that is not known.
        ideal: its weights before rounding.
        chip: name of the chip.
    """

    graph: LoihiGraph
    net: nn.Module | None = None
    nir_graph: nir.NIRGraph | None = None
    options: LoweringOptions | None = None
    ideal: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    chip: str = "loihi2"


@dataclass(frozen=True)
class Drive:
    """What drives it.

    Attributes:
        inputs: the samples that are drawn and compared, by input name.
        facts: what the report says of them.
        engines: engines to compare; empty: nothing is compared.
        labelled: all samples with their labels.
        note: what these are.
        float_accuracy: of the torch network on them.
    """

    inputs: Mapping[str, NDArray[Any]]
    facts: Mapping[str, str] = field(default_factory=dict)
    engines: Sequence[str] = ()
    labelled: Labelled | None = None
    note: str = ""
    float_accuracy: float | None = None


@dataclass(frozen=True)
class Report:
    """What a report says.

    Attributes:
        path: the HTML file.
        accuracy: of the integers, 0..1; None without labels.
        float_accuracy: of the torch network; None without one or without labels.
        parity: whether the engines agree; None where nothing was compared.
        layers: each population beside the float network and its limits.
        classes: confusion and worst samples; None without labels.
        bits: what fewer bits per weight would cost; empty where that is not known.
    """

    path: Path
    accuracy: float | None
    float_accuracy: float | None
    parity: ParityReport | None
    layers: tuple[LayerFit, ...]
    classes: Classes | None
    bits: tuple[BitsError, ...]

    def summary(self) -> str:
        """A few lines for people."""
        shares = (("integers", self.accuracy), ("float", self.float_accuracy))
        lines = [f"accuracy, {name}: {share:.2%}" for name, share in shares if share is not None]
        lines += [] if self.parity is None else [self.parity.summary()]
        return "\n".join([*lines, f"report: {self.path}"])

    def __repr__(self) -> str:
        return f"Report({'; '.join(self.summary().splitlines())})"

    def _repr_html_(self) -> str:
        return html_table(("report",), [(line,) for line in self.summary().splitlines()])


@checked
def report(
    graph: LoihiGraph,
    spikes: ArrayLike | Mapping[str, ArrayLike],
    labels: ArrayLike | None = None,
    net: nn.Module | None = None,
    out: str | Path = "report.html",
    against: Sequence[str] | None = None,
    n_samples: Count = 20,
    force: bool = False,
) -> Report:
    """Write a self-contained HTML report about a network on samples of one's own.

    Args:
        graph: the integer network.
        spikes: samples as the chip receives them, integers ``(n_steps, n, *shape)``, a dict for several
            inputs; where the graph has a coding also values that it takes.
        labels: classes ``(n,)``; all samples are classified then.
        net: the torch network behind the graph, which is compared layer by layer.
        out: HTML file to write.
        against: engines to compare; None: torch if there is a net, sim, and lava if it runs here; an empty
            list compares nothing.
        n_samples: how many of the samples are drawn and compared.
        force: replace an existing file.

    Raises:
        ConfigError: samples, labels or a net that do not fit the graph.
        RangeError: values that an input does not carry.
        OutputExistsError: ``out`` exists and ``force`` is False.
        MissingDependencyError: jinja2 or matplotlib is not installed.
    """
    path = check_page(Path(out), force)
    engines = _default_engines(net) if against is None else tuple(against)
    drive = _drive(graph, spikes, labels, n_samples)
    subject = _subject(graph, net, next(iter(drive.inputs.values())))
    return make_report(subject, replace(drive, engines=engines), path, force=force)


def _drive(graph: LoihiGraph, spikes: Any, labels: Any, n_samples: int) -> Drive:
    """The samples, the first of which are drawn and compared."""
    labelled = None
    if isinstance(spikes, Mapping):
        arrays = check_inputs(graph, {name: as_array(values) for name, values in spikes.items()})
        if len(driving_inputs(graph)) == 1:
            spikes = arrays[single_input(graph)]
    if isinstance(spikes, Mapping):
        if labels is not None:
            single_input(graph)  # which says that there are several
        inputs = {name: array[:, :n_samples] for name, array in arrays.items()}
        count = next(iter(arrays.values())).shape[1]
    else:
        values, coding = as_samples(graph, spikes)
        count = coding.n_samples(values)
        if not count:
            raise ConfigError(f"spikes have shape {np.shape(values)}; expected one sample or more")
        if labels is not None:
            n_classes = graph.neurons[readout_node(graph)].size
            known = check_labels(labels, count, n_classes, f"samples in spikes {values.shape}")
            labelled = Labelled(values, known, coding)
        first = coding.encode(coding.samples(values, slice(n_samples)), 0)
        inputs = check_inputs(graph, {single_input(graph): first})
    shape, note = next(iter(inputs.values())).shape, f"{count:,} samples"
    facts = {"input": f"the first {shape[1]} of {note}, {shape[0]} steps each"}
    return Drive(inputs, facts, (), labelled, note)


def check_page(path: Path, force: bool) -> Path:
    """The path of a page that may be written.

    Raises:
        ConfigError: another ending.
        OutputExistsError: the file exists and ``force`` is False.
    """
    if path.suffix not in (".html", ".htm"):
        raise ConfigError(f"--out is '{path}'; expected a name that ends in .html")
    return check_output(path, force)


def _default_engines(net: nn.Module | None) -> tuple[str, ...]:
    torch = () if net is None else (TORCH,)
    lava = () if get_engine(LAVA).why_not() is not None else (LAVA,)
    found = (*torch, SIM, *lava)
    return found if len(found) > 1 else ()


def _subject(graph: LoihiGraph, net: Any, spikes: NDArray[Any]) -> Subject:
    """The network with the floats that it came from, where the module still leads to it."""
    chip = str(graph.metadata.get("chip", "loihi2"))
    bare = Subject(graph, net, chip=chip)
    if net is None:
        return bare
    from biril_nm.export.lowering import LoweringOptions, ideal_weights, lower_stages

    options = LoweringOptions(chip=chip)
    try:
        nir_graph = _nir_graph(graph, net, spikes)
        stages = lower_stages(nir_graph, options)
    except BirilError:  # the graph came from it in another way, which the report does not know
        return bare
    if stages.graph.ends != graph.ends:
        return bare
    same = stages.graph.connections == graph.connections
    return Subject(graph, net, nir_graph, options, ideal_weights(stages) if same else {}, chip)


def _nir_graph(graph: LoihiGraph, net: Any, spikes: NDArray[Any]) -> nir.NIRGraph:
    import torch

    from biril_nm.coding import Coding
    from biril_nm.engines.torch_net import taken_at_once
    from biril_nm.export import to_nir
    from biril_nm.models import BirilNet
    from biril_nm.models.wrappers import module_of

    dt_s = float(graph.metadata.get("dt_s", 1e-4))
    module = module_of(net)
    if isinstance(module, BirilNet):
        return to_nir(module, dt_s=dt_s)
    coding = input_coding(graph, single_input(graph))
    floats = torch.from_numpy((coding or Coding("spikes", 1)).to_float(spikes[:, :2]))
    return to_nir(module, taken_at_once(module, floats), dt_s=dt_s, coding=coding)


def make_report(
    subject: Subject,
    drive: Drive,
    path: Path,
    run_dir: Path | None = None,
    force: bool = False,
) -> Report:
    """Run everything, and write the page.

    Args:
        subject: what is reported.
        drive: what drives it.
        path: HTML file to write.
        run_dir: folder of ``biril train``, for its curves.
        force: replace an existing file.
    """
    graph, inputs, labelled = subject.graph, drive.inputs, drive.labelled
    parity = None
    if drive.engines:
        parity = check_parity(graph, inputs, against=drive.engines, net=subject.net)
    floats = _floats(subject, inputs) if TORCH in drive.engines else None
    recording = simulate(graph, inputs, record=("s", "u", "v"))
    fits = layer_fits(graph, recording, floats)
    classes = None if labelled is None else classes_of(graph, labelled)
    float_accuracy = drive.float_accuracy
    if labelled is not None and float_accuracy is None and floats is not None:
        float_accuracy = _float_accuracy(subject, labelled)
    runs = f"{recording.meta['batch']} samples of {recording.meta['n_steps']} steps"
    bits: tuple[BitsError, ...] = ()
    if subject.options is not None and len(graph.outputs) == 1:
        first = int(recording.meta["batch"])
        known = None if labelled is None else labelled.labels[:first]
        bits = errors_by_bits(graph, subject.nir_graph, subject.options, inputs, known)
    cards = _accuracies(classes, float_accuracy, labelled, drive.note)
    cards += [] if parity is None else [parity_card(parity)]
    more, chip = chip_parts(graph, recording, inputs, subject.chip)
    lines = [] if parity is None else parity.summary().splitlines()
    sections = [layers_section(fits, lines, runs)]
    if classes is not None and labelled is not None:
        worst = _float_predictions(subject, labelled, classes) if floats is not None else None
        sections += [classes_section(classes, drive.note), worst_section(labelled, classes, worst)]
    sections += [bits_section(bits, runs)] if bits else []
    sections += [limits_section(graph, fits, runs), _voltages(graph, recording)]
    extra = Extra(drive.facts, [*cards, *more], [*(s for s in sections if s), *chip])
    write_report(path, graph, recording, dict(subject.ideal), run_dir, extra, force)
    accuracy = None if classes is None else classes.accuracy
    return Report(path, accuracy, float_accuracy, parity, fits, classes, bits)


def _voltages(graph: LoihiGraph, recording: Recording) -> Section:
    return Section(
        "Voltages",
        "v of up to three neurons of each population, those that spike most, in the first sample. The "
        "broken line is the threshold.",
        images=(Image("voltages", voltages_png(graph, recording)),),
    )


def _floats(subject: Subject, inputs: Mapping[str, NDArray[Any]]) -> Recording:
    return get_engine(TORCH).run(Network(subject.graph, subject.net), dict(inputs))


def _float_accuracy(subject: Subject, samples: Labelled) -> float:
    name = single_input(subject.graph)
    found = [
        predict(subject.graph, _floats(subject, {name: samples.messages(i)}))
        for i in range(-(-len(samples.labels) // BATCH))
    ]
    return float(np.mean(np.concatenate(found) == samples.labels))


def _float_predictions(subject: Subject, samples: Labelled, found: Classes) -> NDArray[np.int64]:
    name = single_input(subject.graph)
    return predict(subject.graph, _floats(subject, {name: worst_input(samples, found)}))


def _accuracies(
    classes: Classes | None, float_accuracy: float | None, samples: Labelled | None, note: str
) -> list[Card]:
    """Accuracy of the float network, if there is one, and of the integers."""
    if classes is None or samples is None:
        return []
    shares = (("float (torch)", float_accuracy), ("integers (sim)", classes.accuracy))
    n = len(samples.labels)
    return [_accuracy(what, share, n, note) for what, share in shares if share is not None]


def _accuracy(what: str, share: float, n_samples: int, note: str) -> Card:
    """Accuracy with its binomial standard error."""
    error = math.sqrt(share * (1 - share) / n_samples)
    return Card(f"accuracy, {what}", f"{share:.2%}", f"± {error:.2%}, {note}")
