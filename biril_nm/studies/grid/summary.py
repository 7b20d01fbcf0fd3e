"""Means and intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from biril_nm.arguments import checked
from biril_nm.display import html_table
from biril_nm.errors import ConfigError
from biril_nm.studies.grid.cell import CellResult

__all__ = ["CONFIDENCE", "Interval", "Summary", "interval", "summarise"]

CONFIDENCE = 0.95  # of the intervals of a summary


@dataclass(frozen=True)
class Interval:
    """A mean over seeds.

    Attributes:
        mean: of the values.
        half: half the width of the 95 % interval of the mean (Student's t); infinite for one value.
        low: smallest value.
        high: largest value.
        n: number of values.
    """

    mean: float
    half: float
    low: float
    high: float
    n: int

    def text(self, scale: float = 100.0, digits: int = 2) -> str:
        """``99.12 ± 0.08``, or the value alone where there is one."""
        value = f"{scale * self.mean:.{digits}f}"
        return value if self.n == 1 else f"{value} ± {scale * self.half:.{digits}f}"


@dataclass(frozen=True)
class Summary:
    """One method over all its seeds; accuracies are shares 0..1.

    Attributes:
        method: name.
        n: seeds.
        accuracy: float network, test samples.
        integers: weight bits to accuracy.
        spikes: per sample.
        energy_j: modelled, per sample.
        recovered: points that learning on the chip gave back in changed worlds; None: not measured.
        curve: mean validation accuracy after each epoch, with lowest and highest.
    """

    method: str
    n: int
    accuracy: Interval
    integers: dict[str, Interval]
    spikes: Interval
    energy_j: Interval
    recovered: Interval | None
    curve: tuple[Interval, ...]


class Summaries(list[Summary]):
    """The rows of a table, which Jupyter shows as one."""

    def _repr_html_(self) -> str:
        bits = list(self[0].integers) if self else []
        header = ("method", "seeds", "float", *(f"{b} bits" for b in bits), "spikes", "energy (J)")
        rows = [
            (
                row.method,
                str(row.n),
                row.accuracy.text(),
                *(row.integers[b].text() for b in bits),
                row.spikes.text(1, 0),
                f"{row.energy_j.mean:.3g}",
            )
            for row in self
        ]
        return html_table(header, rows, "accuracy in %, mean and 95 % interval")


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval: ``mean ± t(0.975, n - 1) s / sqrt(n)``, s the standard deviation of the sample.

    Raises:
        ConfigError: no values.
    """
    x = np.asarray(values, dtype=np.float64)
    if not x.size:
        raise ConfigError("there are no values; expected at least one seed")
    half = float("inf")
    if len(x) > 1:
        spread = float(x.std(ddof=1)) / np.sqrt(len(x))
        half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(x) - 1)) * spread
    return Interval(float(x.mean()), half, float(x.min()), float(x.max()), len(x))


@checked
def summarise(results: Sequence[CellResult]) -> Summaries:
    """One row for each method, in the order of their first results."""
    rows: dict[str, list[CellResult]] = {}
    for result in results:
        rows.setdefault(result.method, []).append(result)
    return Summaries(_summary(name, cells) for name, cells in rows.items())


def _summary(name: str, cells: list[CellResult]) -> Summary:
    recovered = [cell.recovered for cell in cells]
    points = [value for value in recovered if value is not None]
    return Summary(
        method=name,
        n=len(cells),
        accuracy=interval([cell.accuracy for cell in cells]),
        integers={
            bits: interval([cell.integers[bits] for cell in cells]) for bits in cells[0].integers
        },
        spikes=interval([cell.spikes for cell in cells]),
        energy_j=interval([cell.energy_j for cell in cells]),
        recovered=interval(points) if points else None,
        curve=tuple(interval(values) for values in zip(*(cell.validation for cell in cells))),
    )
