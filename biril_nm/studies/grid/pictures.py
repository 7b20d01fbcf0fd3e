"""Pictures of a study: accuracy over epochs, and accuracy of each method with its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from biril_nm.errors import MissingDependencyError
from biril_nm.storage import atomic_file
from biril_nm.storage.signals import UNINTERRUPTED
from biril_nm.studies.grid.summary import Summary

__all__ = ["draw_study"]


def draw_study(summaries: Sequence[Summary], controls: Sequence[str], path: Path) -> None:
    """Two panels: validation accuracy after each epoch, mean and range; test accuracy, mean and interval.

    Args:
        summaries: rows.
        controls: names of the controls, drawn dashed.
        path: PNG to write.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "report", "draw a study") from error
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    curves, bars = figure.subplots(1, 2)
    for index, row in enumerate(summaries):
        colour, epochs = f"C{index % 10}", range(1, len(row.curve) + 1)
        style = "--" if row.method in controls else "-"
        curves.plot(
            epochs, [100 * p.mean for p in row.curve], style, color=colour, label=row.method
        )
        low, high = ([100 * getattr(p, end) for p in row.curve] for end in ("low", "high"))
        curves.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
        named = {"float": row.accuracy} | {f"{bits} bit": v for bits, v in row.integers.items()}
        for place, (name, value) in enumerate(named.items()):
            x = index + 0.22 * (place - (len(named) - 1) / 2)
            half = 100 * value.half if value.n > 1 else 0.0
            marker = "os^Dv"[place % 5]
            shown = name if index == 0 else None
            bars.errorbar(
                x, 100 * value.mean, half, fmt=marker, color=f"C{place}", capsize=3, label=shown
            )
    curves.set(xlabel="epoch", ylabel="validation accuracy in %")
    curves.xaxis.get_major_locator().set_params(integer=True)
    bars.set_xticks(
        range(len(summaries)), [row.method for row in summaries], rotation=30, ha="right"
    )
    low, high = bars.get_ylim()
    bars.set_ylim(max(low, 0.0), min(high, 101.0))
    bars.set_ylabel("test accuracy in %, 95 % interval")
    for axis in (curves, bars):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    with atomic_file(path) as part, UNINTERRUPTED:  # matplotlib crashes, or loses the exception
        canvas.print_figure(str(part), format="png", dpi=110)
