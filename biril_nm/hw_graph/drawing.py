"""Drawing of a network as SVG: populations by latency, connections as arrows. Plain text, no packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

from biril_nm.arguments import checked
from biril_nm.display import markup
from biril_nm.errors import ConfigError
from biril_nm.hw_graph.nodes import Connection, Conv, Sparse
from biril_nm.storage import atomic_file, check_output

if TYPE_CHECKING:
    from biril_nm.hw_graph.graph import LoihiGraph

__all__ = ["Drawing", "draw_graph", "fits_wide", "network_svg", "shortened"]

INK, SOFT, LINE, PAPER = "#1b2733", "#5b6b79", "#9fb0be", "#ffffff"
NAMESPACE = "http://www.w3.org/2000/svg"  # which files of SVG must name
FONT = "system-ui,-apple-system,Segoe UI,Roboto,sans-serif"
BOX_WIDTH, BOX_HEIGHT = 124, 86
GAP_ACROSS, GAP_DOWN = 150, 70  # between layers: room for the text of a connection
BESIDE = 56  # between boxes of one layer
BULGE = 84  # distance of arrows that skip layers from the boxes
MARGIN = 12
SIDE = 150  # room for arrows that skip layers, beside or above
SIDE_TOP = 96
INDENT = 60  # of the tall drawing: room for the text beside its arrows
LABEL, BOLD = 17, 13  # columns of a name at an arrow and in a box
MAX_COLUMNS = 6  # with more, wide screens show the tall drawing too


@dataclass(frozen=True)
class Drawing:
    """A drawing, which Jupyter shows.

    Attributes:
        svg: text of an SVG file.
    """

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"Drawing({len(self.svg):,} letters of SVG)"

    @checked
    def save(self, path: str | Path, force: bool = False) -> None:
        """Write a ``.svg`` file atomically.

        Raises:
            ConfigError: the name does not end in .svg.
            OutputExistsError: it exists, and force is not set.
        """
        target = check_output(path, force)
        if target.suffix != ".svg":
            raise ConfigError(f"the drawing is '{target}'; expected a name that ends in .svg")
        with atomic_file(target, force) as part:
            part.write_text(self.svg, encoding="utf-8")


def draw_graph(graph: LoihiGraph, rates: Mapping[str, float] | None, tall: bool | None) -> Drawing:
    """The drawing of :meth:`biril_nm.hw_graph.LoihiGraph.draw`."""
    unknown = sorted(set(rates or {}) - {*graph.inputs, *graph.neurons})
    if unknown:
        raise ConfigError(
            f"rates name {', '.join(unknown)}; expected names of inputs and neurons: "
            f"{', '.join((*graph.inputs, *graph.neurons))}"
        )
    down = not fits_wide(graph) if tall is None else tall
    svg = network_svg(graph, rates, down)
    return Drawing(svg.replace("<svg ", f'<svg xmlns="{NAMESPACE}" ', 1))


@dataclass(frozen=True)
class _Box:
    name: str
    x: float
    y: float
    lines: tuple[str, ...]
    rate: float | None
    is_input: bool


def shortened(name: str, length: int = LABEL) -> str:
    """A name cut to ``length`` columns; wide characters (Chinese, emoji) take two."""
    widths = [2 if east_asian_width(c) in "WF" else 1 for c in name]
    if sum(widths) <= length:
        return name
    while sum(widths) >= length:
        widths.pop()
    return name[: len(widths)] + "…"


def _text(x: float, y: float, text: str, size: int, **style: str) -> str:
    extra = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in style.items())
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}"{extra}>{markup(text)}</text>'


def _tint(rate: float | None) -> str:
    """Colour of a box: white if silent, blue if every neuron spikes at every step."""
    if rate is None:
        return "#f3f6f8"
    share = min(1.0, max(0.0, rate)) ** 0.5  # most rates are small
    mixed = (round(255 + share * (c - 255)) for c in (150, 196, 232))
    return "#" + "".join(f"{c:02x}" for c in mixed)


def _kind(node: Connection) -> tuple[str, str]:
    """Kind and size of a connection."""
    if isinstance(node, Conv):
        height, width = node.weight.shape[2:]
        steps = node.stride if len(set(node.stride)) > 1 else node.stride[:1]
        stride = f" /{'×'.join(map(str, steps))}" if node.stride != (1, 1) else ""
        kind = f"conv {height}×{width}{stride}"
        n = node.weight.size
    else:
        kind = "sparse" if isinstance(node, Sparse) else "dense"
        n = node.weight.nnz if isinstance(node, Sparse) else node.weight.size
    delay = f", delay {node.delay}" if node.delay else ""
    return f"{kind}{delay}", f"{n:,} weights"


def network_svg(
    graph: LoihiGraph, rates: Mapping[str, float] | None = None, tall: bool = False
) -> str:
    """Populations as boxes in columns by latency (rows if ``tall``), connections as arrows.

    Args:
        graph: the integer network.
        rates: node -> spikes per neuron and step, shown by the colour of its box.
        tall: top to bottom, for phones and deep networks.
    """
    boxes, size = _boxes(graph, rates or {}, tall)
    parts = [_arrow(graph, name, boxes, tall) for name in graph.connections]
    parts += [_draw(box) for box in boxes.values()]
    head = (
        f'<defs><marker id="{_tip(tall)}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="{LINE}"/></marker></defs>'
    )
    kind = "tall" if tall else "wide"
    return (
        f'<svg class="net {kind}" role="img" '
        f'aria-label="network" viewBox="0 0 {size[0]:g} {size[1]:g}" font-family="{FONT}" '
        f'style="max-width:{size[0]:g}px">{head}{"".join(parts)}</svg>'
    )


def fits_wide(graph: LoihiGraph) -> bool:
    """Whether the drawing from left to right is readable on a wide screen."""
    return len(set(graph.latency.values())) <= MAX_COLUMNS


def _boxes(
    graph: LoihiGraph, rates: Mapping[str, float], tall: bool
) -> tuple[dict[str, _Box], tuple[float, float]]:
    columns: dict[int, list[str]] = {}
    for name in (*graph.inputs, *graph.timing.order):
        columns.setdefault(graph.latency[name], []).append(name)
    ordered = [columns[latency] for latency in sorted(columns)]
    most = max(len(names) for names in ordered)
    along = (BOX_HEIGHT + GAP_DOWN) if tall else (BOX_WIDTH + GAP_ACROSS)
    across = (BOX_WIDTH if tall else BOX_HEIGHT) + BESIDE
    side = (SIDE if tall else SIDE_TOP) if _has_jumps(graph) else 0
    boxes = {}
    for i, names in enumerate(ordered):
        for j, name in enumerate(names):
            a, b = MARGIN + i * along, MARGIN + (j + (most - len(names)) / 2) * across
            x, y = (b + (INDENT if tall else 0), a) if tall else (a, b + side)
            boxes[name] = _Box(
                name, x, y, _lines(graph, name), rates.get(name), name in graph.inputs
            )
    width = max(box.x for box in boxes.values()) + BOX_WIDTH + MARGIN
    width += INDENT + side if tall else (SIDE if _has_neighbours(graph) else 0)
    height = max(box.y for box in boxes.values()) + BOX_HEIGHT + MARGIN
    return boxes, (width, height)


def _has_jumps(graph: LoihiGraph) -> bool:
    order = sorted(set(graph.latency.values()))
    place = {name: order.index(latency) for name, latency in graph.latency.items()}
    return any(place[b] - place[a] != 1 for a, b in graph.ends.values())


def _has_neighbours(graph: LoihiGraph) -> bool:
    """Whether a connection joins two populations of one latency."""
    return any(a != b and graph.latency[a] == graph.latency[b] for a, b in graph.ends.values())


def _lines(graph: LoihiGraph, name: str) -> tuple[str, ...]:
    if name in graph.inputs:
        node = graph.inputs[name]
        if name in graph.modulator_inputs:
            return ("×".join(map(str, node.shape)), "third factor", "of learning")
        sign = " and sign" if node.signed else ""
        bits = f"{node.message_bits}-bit messages{sign}" if node.message_bits else "binary spikes"
        return ("×".join(map(str, node.shape)), bits)
    neurons = graph.neurons[name]
    shape = ("×".join(map(str, neurons.shape)),) if len(neurons.shape) > 1 else ()
    return (*shape, f"{neurons.size:,} neurons")


def _draw(box: _Box) -> str:
    middle = box.x + BOX_WIDTH / 2
    lines = list(box.lines)
    if box.rate is not None:
        lines.append(f"{box.rate:.3f} spikes/step")
    radius = 4 if box.is_input else 12
    parts = [
        f'<rect x="{box.x:g}" y="{box.y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" '
        f'rx="{radius}" fill="{_tint(box.rate)}" stroke="{INK}" stroke-width="1.2"/>',
        f"<title>{markup(box.name)}</title>",
        _text(middle, box.y + 22, shortened(box.name, BOLD), 14, font_weight="700", fill=INK,
              text_anchor="middle"),
    ]  # fmt: skip
    parts += [
        _text(middle, box.y + 41 + 17 * i, line, 13, fill=INK, text_anchor="middle")
        for i, line in enumerate(lines)
    ]
    return f"<g>{''.join(parts)}</g>"


def _tip(tall: bool) -> str:
    """Id of the arrow head, one for each drawing: browsers do not use those of hidden drawings."""
    return "tip-tall" if tall else "tip-wide"


def _arrow(graph: LoihiGraph, name: str, boxes: Mapping[str, _Box], tall: bool) -> str:
    source, target = (boxes[end] for end in graph.ends[name])
    path, at, anchor = _path(source, target, tall)
    node = graph.connections[name]
    kind, size = _kind(node)
    straight = anchor == "middle" and "C" not in path
    below = 30 if straight else 14  # a straight arrow runs between the name and the kind
    places = (0, below, below + 14)
    text = "".join(
        _text(at[0], at[1] + place, line, 12, text_anchor=anchor, fill=colour,
              paint_order="stroke", stroke=PAPER, stroke_width="4")
        for place, line, colour in zip(places, (shortened(name), kind, size), (INK, SOFT, SOFT))
    )  # fmt: skip
    return (
        f'<g><title>{markup(name)}: {markup(kind)}, {size}</title><path d="{path}" fill="none" '
        f'stroke="{LINE}" stroke-width="2" marker-end="url(#{_tip(tall)})"/>{text}</g>'
    )


def _path(a: _Box, b: _Box, tall: bool) -> tuple[str, tuple[float, float], str]:
    """SVG path between two boxes, position of its text, and anchor of the text."""
    middle_a, middle_b = (a.x + BOX_WIDTH / 2, b.x + BOX_WIDTH / 2)
    centre_a, centre_b = (a.y + BOX_HEIGHT / 2, b.y + BOX_HEIGHT / 2)
    if tall and 0 < b.y - a.y <= BOX_HEIGHT + GAP_DOWN:
        y0, y1 = a.y + BOX_HEIGHT, b.y - 1
        at = ((middle_a + middle_b) / 2 + 9, (y0 + y1) / 2 - 12)
        return f"M{middle_a:g} {y0:g}L{middle_b:g} {y1:g}", at, "start"
    if not tall and 0 < b.x - a.x <= BOX_WIDTH + GAP_ACROSS:
        x0, x1 = a.x + BOX_WIDTH, b.x - 1
        at = ((x0 + x1) / 2 - 4, (centre_a + centre_b) / 2 - 10)
        return f"M{x0:g} {centre_a:g}L{x1:g} {centre_b:g}", at, "middle"
    if tall or (a.x == b.x and a is not b):  # around the right side
        x0, x1 = a.x + BOX_WIDTH, b.x + BOX_WIDTH + 1
        spread = 16 if a is b else 0
        far = max(x0, x1) + (46 if a is b else BULGE)
        path = (
            f"M{x0:g} {centre_a - spread:g}C{far:g} {centre_a - 2 * spread:g} "
            f"{far:g} {centre_b + 2 * spread:g} {x1:g} {centre_b + spread:g}"
        )
        outermost = max(x0, x1) + 0.75 * (far - max(x0, x1))  # of a cubic Bezier curve
        return path, (outermost + 6, (centre_a + centre_b) / 2 - 10), "start"
    spread, top = (16 if a is b else 0), min(a.y, b.y) - 54
    path = (
        f"M{middle_a - spread:g} {a.y:g}C{middle_a - 2 * spread:g} {top:g} "
        f"{middle_b + 2 * spread:g} {top:g} {middle_b + spread:g} {b.y - 1:g}"
    )
    return path, ((middle_a + middle_b) / 2, min(a.y, b.y) - 74), "middle"
