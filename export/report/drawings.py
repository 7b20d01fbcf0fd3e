"""Drawings of the report as inline SVG: the network, and cores on the mesh. Plain text, no packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from biril_nm.display import markup
from biril_nm.hw_graph.drawing import SOFT, network_svg, shortened

__all__ = ["PALETTE", "Tile", "cores_svg", "network_svg", "shortened"]

# Colours of Okabe and Ito, distinct with every kind of colour vision; neighbours differ most.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c3f", "#7a5195")
CELL, PITCH, PER_ROW = 24, 28, 16
MAX_CORES = 512  # cores that are drawn


@dataclass(frozen=True)
class Tile:
    """One core of the drawing.

    Attributes:
        shares: (population, share of the core's neurons in use).
        title: text that is shown under the pointer.
    """

    shares: tuple[tuple[str, float], ...]
    title: str


def cores_svg(tiles: Sequence[Tile], names: Sequence[str], total: int) -> str:
    """Cores as cells whose coloured height is the share of their neurons in use.

    Args:
        tiles: used cores, in order.
        names: populations, in the order of their colours.
        total: cores of the chips; unused ones are drawn empty.
    """
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
    shown = min(max(len(tiles), total), MAX_CORES)
    rows = -(-shown // PER_ROW)
    width, height = PER_ROW * PITCH, rows * PITCH
    cells = "".join(_cell(i, tiles[i] if i < len(tiles) else None, colours) for i in range(shown))
    return (
        f'<svg class="cores" role="img" aria-label="cores" '
        f'viewBox="0 0 {width} {height}" style="max-width:{width}px">{cells}</svg>'
    )


def _cell(index: int, tile: Tile | None, colours: Mapping[str, str]) -> str:
    row, column = divmod(index, PER_ROW)
    x, y = column * PITCH + 2, row * PITCH + 2
    used = tile is not None
    frame = (
        f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" rx="4" '
        f'fill="{"#ffffff" if used else "#f3f6f8"}" stroke="{SOFT if used else "#d9e1e8"}"/>'
    )
    if tile is None:
        return frame
    bars = "".join(_bars(tile, x, y, colours))
    return f"<g><title>core {index}: {markup(tile.title)}</title>{frame}{bars}</g>"


def _bars(tile: Tile, x: float, y: float, colours: Mapping[str, str]) -> Iterator[str]:
    inner, bottom = CELL - 4, y + CELL - 2
    for name, share in tile.shares:
        height = max(2.0, inner * share)
        bottom -= height
        yield (
            f'<rect x="{x + 2}" y="{bottom:g}" width="{inner}" height="{height:g}" '
            f'fill="{colours[name]}"/>'
        )
