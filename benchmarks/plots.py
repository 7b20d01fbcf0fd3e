"""The plots of the page: rates against the density of the input, cost against size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#5b6b79", "#7a5195")
WIDTH_PX = 900
Curves = Mapping[str, Sequence[tuple[float, float, float, float]]]  # x, median, lowest, highest


def _figure(columns: int, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _save(figure: Any, folder: Path, name: str) -> str:
    figure.savefig(folder / name, dpi=WIDTH_PX / 9, metadata={"Software": None})
    return name


def _line(
    axis: Any, points: Sequence[tuple[float, float, float, float]], colour: str, label: str
) -> None:
    x, middle, low, high = zip(*points)
    axis.plot(x, middle, "o-", color=colour, label=label, markersize=3)
    axis.fill_between(x, low, high, color=colour, alpha=0.15)


def _scales(axis: Any, sizes: Sequence[float]) -> None:
    """One tick per measured size, in plain figures."""
    axis.set(xscale="log", yscale="log")
    labels = [f"{x / 1000:g}k" if x >= 1000 and x % 1000 == 0 else f"{x:g}" for x in sizes]
    axis.set_xticks(sizes, labels)
    axis.set_xticks([], minor=True)
    axis.tick_params(axis="both", which="both", labelsize=8)
    axis.grid(alpha=0.3, which="both", linewidth=0.4)


def density_plot(nets: Mapping[str, Curves], folder: Path) -> str:
    """A panel per network, a line per engine; the name of the file."""
    figure, axes = _figure(len(nets), 4.2)
    found: dict[str, Any] = {}
    for axis, (name, curves) in zip(axes, nets.items()):
        for colour, (engine, points) in zip(COLOURS, curves.items()):
            _line(axis, points, colour, engine)
        axis.set(title=name, xlabel="input density, %")
        _scales(axis, [x for x, *_ in next(iter(curves.values()))])
        handles, labels = axis.get_legend_handles_labels()
        found.update(zip(labels, handles))
    axes[0].set_ylabel("sample-steps per second")
    place = {"loc": "outside lower center", "ncols": 2, "fontsize": 8, "frameon": False}
    figure.legend(list(found.values()), list(found), **place)
    return _save(figure, folder, "benchmarks_density.png")


def scaling_plot(curves: Curves, folder: Path) -> str:
    """A panel for each thing that grows; the name of the file."""
    figure, axes = _figure(len(curves), 2.8)
    for axis, (what, points) in zip(axes, curves.items()):
        _line(axis, points, COLOURS[0], what)
        axis.set(xlabel=what)
        _scales(axis, [x for x, *_ in points])
    axes[0].set_ylabel("us per sample-step")
    return _save(figure, folder, "benchmarks_scaling.png")
