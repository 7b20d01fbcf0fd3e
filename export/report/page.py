"""The HTML report: one self-contained file with tables and pictures of a lowered network."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import biril_nm
from biril_nm.arguments import checked
from biril_nm.display import shown
from biril_nm.errors import FileFormatError, MissingDependencyError
from biril_nm.export.report.figures import raster_png, weights_png
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.drawing import fits_wide, network_svg
from biril_nm.hw_graph.table import (
    CONNECTION_HEADER,
    changed_facts,
    connection_rows,
    neuron_table,
)
from biril_nm.recording import Recording
from biril_nm.recording.readout import decision_of
from biril_nm.storage import atomic_file, check_output, lock_folder, read_bytes, read_json_lines

__all__ = ["Card", "Extra", "Image", "Section", "Table", "write_report"]

TEMPLATE = "report.html"
WAIT_S = 10.0  # for another report; a training holds its folder for longer
NUMBER = re.compile(r"-?[\d.,]+( ?(%|x|[pnµm]J|bytes|\(\d+%\)))?$|-$")
LONG = 40  # characters; longer cells may take more than one line
METRICS, CURVES = "metrics.jsonl", "curves.png"
PNG = b"\x89PNG\r\n\x1a\n"
MAX_IMAGE_BYTES = 16 << 20


@dataclass(frozen=True)
class Card:
    """A number at the top of the report.

    Attributes:
        label: what it is.
        value: the number, short.
        note: a short explanation.
        ok: True or False for a verdict, None for a plain number.
    """

    label: str
    value: str
    note: str = ""
    ok: bool | None = None


@dataclass(frozen=True)
class Table:
    """A table; cells are text, or a number in 0..1 that is drawn as a bar.

    Attributes:
        header: names of the columns.
        rows: cells.
        caption: heading above the table.
        total: whether the last row sums the others.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    caption: str = ""
    total: bool = False

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers, which are aligned at the right; the first holds names."""
        columns = list(zip(*self.rows)) or [()] * len(self.header)
        return [
            place > 0 and all(isinstance(c, str) and NUMBER.match(c) for c in column)
            for place, column in enumerate(columns)
        ]

    @property
    def layout(self) -> str:
        """CSS class of the table: whether it holds bars, long text, or neither."""
        cells = [cell for row in self.rows for cell in row[1:]]
        if any(not isinstance(cell, str) for cell in cells):
            return "bars"
        return "prose" if any(len(str(cell)) > LONG for cell in cells) else "plain"


@dataclass(frozen=True)
class Image:
    """A picture.

    Attributes:
        name: what it shows, for those who cannot see it.
        png: base64 PNG.
        rem: largest width, in units of the letters.
    """

    name: str
    png: str
    rem: int = 38


@dataclass(frozen=True)
class Section:
    """A part of the report that another stage computed.

    Attributes:
        title: its heading.
        note: one or two sentences below.
        svg: drawing, trusted markup from :mod:`biril_nm.hw_graph.drawing`.
        legend: (colour, name) pairs of the drawing.
        tables: tables.
        warnings: lines that need attention.
        remarks: lines in small print.
        images: pictures, above the tables.
    """

    title: str
    note: str = ""
    svg: str = ""
    legend: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    warnings: Sequence[str] = ()
    remarks: Sequence[str] = ()
    images: Sequence[Image] = ()


@dataclass(frozen=True)
class Extra:
    """What other stages add to the report.

    Attributes:
        facts: lines for the summary at the top, such as the data set.
        cards: numbers and verdicts for the top.
        sections: further parts: mapping, energy, metrics.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    cards: Sequence[Card] = ()
    sections: Sequence[Section] = ()


@checked
def write_report(
    path: str | Path,
    graph: LoihiGraph,
    recording: Recording | None = None,
    ideal: Mapping[str, NDArray[np.float64]] | None = None,
    run_dir: str | Path | None = None,
    extra: Extra | None = None,
    force: bool = False,
) -> Path:
    """Write the report atomically.

    Args:
        path: HTML file to write.
        graph: the integer network.
        recording: spikes to draw and count.
        ideal: float weights per connection in integer units
            (:func:`biril_nm.export.lowering.ideal_weights`).
        run_dir: folder of ``biril train``, for its curves and last metrics.
        extra: what other stages add.
        force: replace an existing file.

    Raises:
        OutputExistsError: ``path`` exists and ``force`` is False.
        MissingDependencyError: jinja2 or matplotlib is not installed.
    """
    target = check_output(path, force)
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependencyError("jinja2", "report", "write HTML reports") from error
    source = Path(__file__).with_name(TEMPLATE).read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True).from_string(source)
    added = extra or Extra()
    html = template.render(
        title=str(graph.metadata.get("source", "network")),
        version=biril_nm.__version__,
        facts={**added.facts, **_facts(graph)},
        summary=graph.summary().splitlines()[0],
        cards=added.cards,
        sections=added.sections,
        network=_network(graph, recording),
        epochs=read_epochs(run_dir),
        curves=read_curves(run_dir),
        neurons=Table(*neuron_table(graph)),
        connections=Table(CONNECTION_HEADER, connection_rows(graph)),
        known="quantisation" in graph.metadata,
        learning=_learning(graph),
        activity=_activity(graph, recording),
        runs=_runs(recording),
        raster=raster_png(graph, recording) if recording is not None else None,
        weights=weights_png(graph, ideal or {}),
        cautions=_cautions(graph),
    )
    with lock_folder(target.parent, WAIT_S), atomic_file(target, force) as part:
        part.write_text(shown(html), encoding="utf-8")
    return target


def _runs(recording: Recording | None) -> str:
    if recording is None:
        return ""
    return f"{recording.meta['batch']} samples of {recording.meta['n_steps']} steps"


def _facts(graph: LoihiGraph) -> dict[str, str]:
    """What the network is for, and choices that changed its meaning."""
    known = graph.metadata
    found = {key: str(known[key]) for key in ("chip", "producer", "readout") if known.get(key)}
    found["decision"] = decision_of(graph)
    if isinstance(known.get("dt_s"), float):
        found["time step"] = f"{known['dt_s'] * 1e3:g} ms"
    resets = known.get("reset")
    chosen = {
        name: f"{reset.get('reset')} ({reset.get('from')})"
        for name, reset in (resets if isinstance(resets, Mapping) else {}).items()
        if isinstance(reset, Mapping) and reset.get("from") != "file"
    }
    if chosen:
        found["reset"] = ", ".join(f"{name}: {how}" for name, how in chosen.items())
    return found


def _learning(graph: LoihiGraph) -> Table | None:
    rows = [
        (
            name,
            "" if node.rule is None else node.rule.name,
            "" if node.rule is None else repr(node.rule),
            ", ".join(f"{factor} = {source}" for factor, source in node.modulators.items()) or "-",
        )
        for name, node in graph.plastic.items()
    ]
    return (
        Table(("connection", "rule", "terms and traces", "third factors"), rows) if rows else None
    )


def read_epochs(run_dir: str | Path | None) -> list[dict[str, Any]]:
    """Records of the epochs in a run's folder; none without one."""
    path = Path(run_dir) / METRICS if run_dir is not None else None
    if path is None or not path.is_file():
        return []
    lines = read_json_lines(path, follow_links=False)
    if not all(isinstance(line, dict) for line in lines):
        raise FileFormatError(f"'{path}' holds something other than the records of epochs")
    return lines


def read_curves(run_dir: str | Path | None) -> str | None:
    """The plot in a run's folder as base64; None without one."""
    path = Path(run_dir) / CURVES if run_dir is not None else None
    if path is None or not path.is_file():
        return None
    image = read_bytes(path, MAX_IMAGE_BYTES, follow_links=False)
    if not image.startswith(PNG):
        raise FileFormatError(f"'{path}' is not a PNG image")
    return base64.b64encode(image).decode("ascii")


def _rates(graph: LoihiGraph, recording: Recording | None) -> dict[str, float]:
    if recording is None:
        return {}
    cells = int(recording.meta["n_steps"]) * int(recording.meta["batch"])
    return {name: n / (cells * graph.neurons[name].size) for name, n in recording.n_spikes.items()}


def _network(graph: LoihiGraph, recording: Recording | None) -> dict[str, str]:
    rates = _rates(graph, recording)
    wide = network_svg(graph, rates) if fits_wide(graph) else ""
    return {"wide": wide, "tall": network_svg(graph, rates, tall=True)}


def _activity(graph: LoihiGraph, recording: Recording | None) -> Table | None:
    if recording is None:
        return None
    rates = _rates(graph, recording)
    top = max((*rates.values(), 1e-9))
    rows = [
        (name, f"{recording.n_spikes[name]:,}", f"{rate:.4f}", rate / top)
        for name, rate in rates.items()
    ]
    return Table(("node", "spikes", "per neuron and step", ""), rows)


def _cautions(graph: LoihiGraph) -> list[str]:
    from biril_nm.export.design_rules import warnings

    notes = graph.metadata.get("notes", ())
    found = [str(finding) for finding in warnings(graph, str(graph.metadata.get("chip", "loihi2")))]
    kept = (str(note) for note in notes if isinstance(notes, (list, tuple)))
    return [*kept, *changed_facts(graph), *found]
