"""Layers: how far the integers keep to the float network, and how far they are from their limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.export.report.page import Section, Table
from biril_nm.hw_graph import LoihiGraph, Sparse
from biril_nm.hw_graph.outputs import integrators
from biril_nm.loihi import STATE_LIMIT, VTH_SHIFT
from biril_nm.loihi.fixed_point import prepare_weights, weight_limits
from biril_nm.recording import Recording

__all__ = ["LayerFit", "layer_fits", "layers_section", "limits_section"]

WARN_BITS = 0.5  # headroom below which a population is named


@dataclass(frozen=True)
class LayerFit:
    """One population: its integers beside the float network, and beside their limits.

    Attributes:
        name: of the population.
        rate: spikes per neuron and step of the integers.
        float_rate: of the float network; None without one.
        equal: share of (step, sample, neuron) cells with the same spike in both; None without one.
        first: (step from 1, sample, neuron) of the first difference in time; None where there is none.
        peaks: largest size of u and v.
        headroom: bits that each of them is below its limit; infinite where it stayed 0.
    """

    name: str
    rate: float
    float_rate: float | None
    equal: float | None
    first: tuple[int, int, int] | None
    peaks: Mapping[str, int]
    headroom: Mapping[str, float]


def layer_fits(
    graph: LoihiGraph, integers: Recording, floats: Recording | None
) -> tuple[LayerFit, ...]:
    """Every population of a run that recorded s, u and v."""
    fits = []
    for name in graph.timing.order:
        node = integers[name]
        s = np.asarray(node.s)
        theirs = None if floats is None or name not in floats else np.asarray(floats[name].s)
        if theirs is not None and theirs.shape != s.shape:
            theirs = None
        peaks = {
            key: _peak(np.asarray(array)) for key, array in node.variables().items() if key != "s"
        }
        fits.append(
            LayerFit(
                name,
                float(np.mean(s != 0)),
                None if theirs is None else float(np.mean(theirs)),
                None if theirs is None else float(np.mean(theirs == s)),
                None if theirs is None else _first(s != theirs),
                peaks,
                {
                    key: math.log2(STATE_LIMIT / peak) if peak else math.inf
                    for key, peak in peaks.items()
                },
            )
        )
    return tuple(fits)


def _peak(array: NDArray[Any]) -> int:
    return max(abs(int(array.max(initial=0))), abs(int(array.min(initial=0))))


def _first(different: NDArray[np.bool_]) -> tuple[int, int, int] | None:
    """Earliest step, then sample, then neuron; ``(n_steps, batch, *shape)``."""
    flat = different.reshape(*different.shape[:2], -1)
    steps = np.flatnonzero(flat.any(axis=(1, 2)))
    if not steps.size:
        return None
    sample, neuron = (int(i[0]) for i in np.nonzero(flat[steps[0]]))
    return int(steps[0]) + 1, sample, neuron


def layers_section(fits: Sequence[LayerFit], lines: Sequence[str], runs: str) -> Section | None:
    """Spikes of the integers beside those of the float network; None where nothing was compared.

    Args:
        fits: the populations.
        lines: what the comparison of engines says.
        runs: what ran.
    """
    rows = [
        (
            fit.name,
            f"{fit.equal:.2%}",
            f"{fit.float_rate:.4f}",
            f"{fit.rate:.4f}",
            "none" if fit.first is None else "step {}, sample {}, neuron {}".format(*fit.first),
        )
        for fit in fits
        if fit.equal is not None
    ]
    if not rows and not lines:
        return None
    header = ("population", "equal cells", "rate, float", "rate, integers", "first difference")
    return Section(
        "Float and integers",
        f"Whether engines agree, over {runs}. A cell is one neuron at one step of one sample; a rate is "
        f"spikes per neuron and step. Rounding moves single spikes, and what follows from them.",
        tables=(Table(header, rows, "Spikes, layer by layer"),) if rows else (),
        remarks=lines,
    )


def limits_section(graph: LoihiGraph, fits: Sequence[LayerFit], runs: str) -> Section:
    """How close states and weights come to the ends of their registers."""
    silent = integrators(graph)
    rows = []
    for fit in fits:
        threshold = int(np.max(graph.neurons[fit.name].spike_threshold)) << VTH_SHIFT
        reached = fit.peaks.get("v", 0) / threshold if threshold > 0 else 0.0
        cells = [
            cell
            for key in ("u", "v")
            for cell in (f"{fit.peaks.get(key, 0):,}", _bits(fit.headroom.get(key, math.inf)))
        ]
        rows.append((fit.name, *cells, "-" if fit.name in silent else f"{reached:.2f}"))
    stored = [(name, *_weights(graph, name)) for name in graph.connections]
    return Section(
        "Saturation and headroom",
        f"Largest currents u and voltages v of {runs}, and how many bits they stay below {STATE_LIMIT:,}, "
        f"the limit of both registers. There u would wrap, and v is cut off.",
        tables=(
            Table(
                (
                    "population",
                    "largest |u|",
                    "bits left",
                    "largest |v|",
                    "bits left",
                    "of threshold",
                ),
                rows,
                "States",
            ),
            Table(
                ("connection", "weights", "allowed", "at the limit"),
                stored,
                "Weights",
            ),
        ),
        warnings=[
            _warning(fit.name, key, fit.peaks[key])
            for fit in fits
            for key, bits in fit.headroom.items()
            if bits < WARN_BITS
        ],
    )


def _warning(name: str, key: str, peak: int) -> str:
    reached = peak >= STATE_LIMIT - 1
    what = "reached its limit" if reached else f"came close to its limit, {peak:,}"
    return (
        f"{name}: {key} {what}. Calibrate the lowering with such samples, or scale the weights down"
    )


def _bits(bits: float) -> str:
    return "-" if math.isinf(bits) else f"{bits:.1f}"


def _weights(graph: LoihiGraph, name: str) -> tuple[str, str, str]:
    """Range of the weights, range that the connection allows, and share of weights at its ends."""
    node = graph.connections[name]
    weight = np.asarray(node.weight.data if isinstance(node, Sparse) else node.weight)
    ends = prepare_weights(weight_limits(node.sign_mode), node.weight_bits, node.sign_mode)
    low, high = (int(end) for end in ends)
    share = float(np.mean((weight <= low) & (low < 0) | (weight >= high) & (high > 0)))
    found = f"{int(weight.min(initial=0))} to {int(weight.max(initial=0))}"
    return found, f"{low} to {high}", f"{share:.2%}" if weight.size else "-"
