"""Flowcharts as SVG: the Mermaid text of the pages, drawn without a browser or a network.

GitHub draws the same text by itself. What the pages use of Mermaid is what is read here: ``flowchart TD``
or ``LR``, names, labels in brackets, arrows with and without a label, and subgraphs, whose nodes share a row.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from docutils import nodes

__all__ = ["Chart", "frame", "parse", "setup", "svg"]

ARROW = re.compile(r"\s*(<?-->)(?:\|([^|]*)\|)?\s*")
NODE = re.compile(r'(\w+)(?:\["([^"]*)"\])?')
CHAR, LINE, PAD = 7.4, 18, 12  # of text, in pixels
GAP, ROW = 22, 54  # between boxes of a row, between rows
MARGIN = 20  # around the chart, for curves that swing out
SWEEPS = 24


@dataclass
class Chart:
    """Boxes in rows, and arrows between them."""

    direction: str = "TD"
    labels: dict[str, list[str]] = field(default_factory=dict)
    edges: list[tuple[str, str, str, bool]] = field(default_factory=list)  # label, both ways
    rows: dict[str, int] = field(default_factory=dict)


def parse(text: str) -> Chart:
    """Read Mermaid text.

    Raises:
        ValueError: a line that is none of what is read here.
    """
    chart, row = Chart(), -1
    first, *lines = [line.strip() for line in text.strip().split("\n")]
    chart.direction = first.split()[1]
    inside = False
    for line in lines:
        if line.startswith("subgraph") or line == "end":
            inside, row = line != "end", row + (line != "end")
            continue
        ends = ARROW.split(line)
        names = [_add(chart, end) for end in ends[::3]]
        if inside:
            chart.rows |= dict.fromkeys(names, row)
        for i, (source, target) in enumerate(pairwise(names)):
            arrow, label = ends[3 * i + 1], ends[3 * i + 2] or ""
            chart.edges.append((source, target, label.strip('"'), arrow.startswith("<")))
    _place(chart)
    return chart


def _add(chart: Chart, text: str) -> str:
    found = NODE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"'{text}' is not a node of a flowchart; expected NAME or NAME[\"label\"]")
    name, label = found.groups()
    if label or name not in chart.labels:
        chart.labels[name] = (label or name).split("<br>")
    return name


def _place(chart: Chart) -> None:
    """Rows of nodes outside of subgraphs: one below the lowest that leads there."""
    for _ in chart.labels:
        for source, target, _, both in chart.edges:
            if target not in chart.rows or (not both and source in chart.rows):
                low = chart.rows.setdefault(source, 0) + (not both)
                chart.rows[target] = max(chart.rows.get(target, 0), low)
    chart.rows |= {name: 0 for name in chart.labels if name not in chart.rows}
    targets = {target for _, target, _, _ in chart.edges}
    # A beginning stands next to the first place where it leads.
    for name in chart.labels.keys() - targets:
        leads = [chart.rows[target] for source, target, _, _ in chart.edges if source == name]
        chart.rows[name] = max(chart.rows[name], min(leads, default=0) - 1)


def _ways(chart: Chart) -> list[list[str]]:
    """Each edge as the places that it passes, one in each row between its ends."""
    found = []
    for i, (source, target, _, _) in enumerate(chart.edges):
        low, high = chart.rows[source], chart.rows[target]
        found.append([source, *(f"{i}@{row}" for row in range(low + 1, high)), target])
    return found


def _order(chart: Chart, ways: list[list[str]]) -> list[list[str]]:
    """The places of each row, so that neighbours lie below each other."""
    rows: list[list[str]] = [[] for _ in range(max(chart.rows.values()) + 1)]
    for name, row in chart.rows.items():
        rows[row].append(name)
    for way in ways:
        for place in way[1:-1]:
            rows[int(place.split("@")[1])].append(place)
    beside: dict[str, list[str]] = {place: [] for row in rows for place in row}
    for way in ways:
        for one, other in pairwise(way):
            beside[one].append(other)
            beside[other].append(one)
    for _ in range(SWEEPS):
        at = {place: i / len(row) for row in rows for i, place in enumerate(row)}
        for row in rows:
            row.sort(key=lambda p: (sum(at[q] for q in beside[p]) / max(1, len(beside[p])), p))
            at |= {place: i / len(row) for i, place in enumerate(row)}
    return rows


def _size(chart: Chart, place: str) -> tuple[float, float]:
    """(width, height) of a box; a passing edge takes little."""
    lines = chart.labels.get(place)
    if lines is None:
        return 6.0, LINE
    return 2 * PAD + CHAR * max(map(len, lines)), 2 * PAD + LINE * len(lines) - 4


def _coordinates(chart: Chart, ways: list[list[str]]) -> dict[str, tuple[float, float]]:
    """The middle of each place; rows go down, or to the right."""
    rows = _order(chart, ways)
    across = 1 if chart.direction == "LR" else 0
    texts: dict[bool, list[str]] = {True: [""], False: [""]}  # of arrows within a row, between rows
    for source, target, label, _ in chart.edges:
        texts[chart.rows[source] == chart.rows[target]].append(label)
    between = ROW + (CHAR * max(map(len, texts[False])) if across else 0)
    gap = GAP + (2 * LINE if any(texts[True]) and across else 0)
    lengths = [sum(_size(chart, place)[across] + gap for place in row) for row in rows]
    found, down = {}, 0.0
    for row, length in zip(rows, lengths):
        depth = max(_size(chart, place)[1 - across] for place in row)
        spare = (max(lengths) - length) / len(row)
        along = 0.0
        for place in row:
            size = _size(chart, place)[across] + gap + spare
            middle = along + size / 2, down + depth / 2
            found[place] = (middle[1], middle[0]) if across else middle
            along += size
        down += depth + between
    return found


def _curve(points: list[tuple[float, float]], across: bool) -> str:
    """A smooth line through points."""
    text = f"M{points[0][0]:.0f},{points[0][1]:.0f}"
    for (x, y), (to_x, to_y) in pairwise(points):
        half_x, half_y = (x + to_x) / 2, (y + to_y) / 2
        one = (half_x, y) if across else (x, half_y)
        two = (half_x, to_y) if across else (to_x, half_y)
        text += f"C{one[0]:.0f},{one[1]:.0f} {two[0]:.0f},{two[1]:.0f} {to_x:.0f},{to_y:.0f}"
    return text


def _line(
    chart: Chart, way: list[str], at: dict[str, tuple[float, float]]
) -> list[tuple[float, float]]:
    """From the border of one box to that of the other; beside each other in a row, along the row."""
    source, target = way[0], way[-1]
    (x, y), (to_x, to_y) = at[source], at[target]
    (width, height), (to_width, to_height) = _size(chart, source), _size(chart, target)
    along_row = chart.rows[source] == chart.rows[target]
    if (chart.direction == "LR") != along_row:
        sign = 1 if to_x > x else -1
        ends = (x + sign * width / 2, y), (to_x - sign * (to_width / 2 + 3), to_y)
    else:
        sign = 1 if to_y > y else -1
        ends = (x, y + sign * height / 2), (to_x, to_y - sign * (to_height / 2 + 3))
    return [ends[0], *(at[place] for place in way[1:-1]), ends[1]]


def _box(chart: Chart, name: str, at: tuple[float, float]) -> str:
    (x, y), (width, height), lines = at, _size(chart, name), chart.labels[name]
    text = "".join(
        f'<text x="{x:.0f}" y="{y + LINE * (i - (len(lines) - 1) / 2) + 5:.0f}">{html.escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    left, top = x - width / 2, y - height / 2
    size = f'width="{width:.0f}" height="{height:.0f}"'
    return f'<rect x="{left:.0f}" y="{top:.0f}" {size} rx="6"/>{text}'


def svg(chart: Chart, arrow: str = "arrow") -> str:
    """The chart as an SVG element; ``arrow`` is the id of its arrowhead in the page."""
    ways = _ways(chart)
    at = _coordinates(chart, ways)
    parts = []
    for way, (_, _, label, both) in zip(ways, chart.edges):
        points = _line(chart, way, at)
        across = (chart.direction == "LR") != (chart.rows[way[0]] == chart.rows[way[-1]])
        start = f' marker-start="url(#{arrow})"' if both else ""
        parts.append(f'<path d="{_curve(points, across)}" marker-end="url(#{arrow})"{start}/>')
        if label:
            (x, y), (to_x, to_y) = points[0], points[-1]
            lift = -7 if across else 5
            if across and chart.direction != "LR":  # below the boxes: there is no room between them
                lift = max(_size(chart, end)[1] for end in (way[0], way[-1])) / 2 + 14
            place = f'x="{(x + to_x) / 2:.0f}" y="{(y + to_y) / 2 + lift:.0f}"'
            parts.append(f'<text class="label" {place}>{html.escape(label)}</text>')
    parts += [_box(chart, name, at[name]) for name in chart.labels]
    sizes = {place: _size(chart, place) for place in at}
    left = min(at[place][0] - sizes[place][0] / 2 for place in at) - MARGIN
    top = min(at[place][1] - sizes[place][1] / 2 for place in at) - MARGIN
    width = max(at[place][0] + sizes[place][0] / 2 for place in at) + MARGIN - left
    height = max(at[place][1] + sizes[place][1] / 2 for place in at) + MARGIN - top
    marker = (
        f'<marker id="{arrow}" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0,0L10,5L0,10z"/></marker>'
    )
    return (
        f'<svg class="flowchart" viewBox="{left:.0f} {top:.0f} {width:.0f} {height:.0f}" '
        f'style="max-width:{width:.0f}px" '
        f'role="img" aria-label="flowchart of {html.escape(", ".join(chart.labels))}">'
        f"<defs>{marker}</defs>{''.join(parts)}</svg>"
    )


def frame(chart: Chart) -> str:
    """The chart as pages show it: one that goes to the right goes down on a narrow screen."""
    picture = svg(chart)
    if chart.direction == "LR":
        down = svg(replace(chart, direction="TD"), "arrow-down")
        picture = f'<div class="wide">{picture}</div><div class="narrow">{down}</div>'
    return f'<div class="flowchart-frame">{picture}</div>'


def _draw(app: Any, doctree: nodes.document, name: str) -> None:
    """Replace Mermaid text by its picture."""
    for block in list(doctree.findall(nodes.literal_block)):
        if block.get("language") == "mermaid":
            block.replace_self(nodes.raw("", frame(parse(block.astext())), format="html"))


def setup(app: Any) -> None:
    """Connect the drawing."""
    app.connect("doctree-resolved", _draw)
