"""Figures of the report, as inline PNG: spike raster, weights before and after lowering."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import MissingDependencyError
from biril_nm.hw_graph import LoihiGraph, Sparse
from biril_nm.hw_graph.drawing import shortened
from biril_nm.recording import Recording
from biril_nm.storage.signals import UNINTERRUPTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["AFTER", "BEFORE", "INK", "WIDTH", "figure", "label", "png", "raster_png", "weights_png"]

MAX_NEURONS = 120  # per node in the raster, evenly spaced
MAX_SAMPLES = 8
WIDTH = 4.6  # inches; small, so that the letters stay readable on a phone
LABEL = 16  # characters of a name
INK, BEFORE, AFTER = "#1b2733", "#c9d3dc", "#1f6f8b"


def figure(width: float, height: float) -> Figure:
    """A figure of this size in inches.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "report", "draw figures") from error
    return Figure(figsize=(width, height), layout="constrained")


def png(picture: Figure) -> str:
    """The figure as base64 PNG."""
    stream = io.BytesIO()
    # matplotlib crashes at an interrupt, or loses the exception
    with UNINTERRUPTED, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # names in any script
        picture.savefig(stream, format="png", dpi=200)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def label(name: str) -> str:
    """A name for a figure: short, with dollars that do not start a formula."""
    return shortened(name, LABEL).replace("$", r"\$")


def raster_png(graph: LoihiGraph, recording: Recording) -> str:
    """Spikes of each node over the first samples, one row of dots per neuron; base64 PNG."""
    order = [
        name for name in graph.timing.order if name in recording and recording[name].s is not None
    ]
    picture = figure(WIDTH, 0.6 + 0.95 * len(order))
    axes = picture.subplots(len(order), 1, sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, order):
        spikes = np.asarray(recording[name].s)[:, :MAX_SAMPLES]
        n_steps, batch = spikes.shape[:2]
        flat = spikes.reshape(n_steps, batch, -1).transpose(1, 0, 2).reshape(n_steps * batch, -1)
        chosen = np.unique(np.linspace(0, flat.shape[1] - 1, MAX_NEURONS).astype(int))
        step, neuron = np.nonzero(flat[:, chosen])
        axis.scatter(step + 1, chosen[neuron], s=4, marker="|", color=AFTER, linewidths=1.5)
        for sample in range(1, batch):
            axis.axvline(sample * n_steps + 0.5, color=BEFORE, linewidth=0.8)
        axis.set_ylabel(f"{label(name)}\n{flat.shape[1]:,} neurons", fontsize=8, color=INK)
        axis.set_ylim(-1, max(1, flat.shape[1]))
        axis.set_xlim(0.5, n_steps * batch + 0.5)
        axis.yaxis.get_major_locator().set_params(integer=True, nbins=4)
        axis.tick_params(labelsize=7.5)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel("step (node time), samples side by side", fontsize=8.5)
    return png(picture)


def weights_png(graph: LoihiGraph, ideal: Mapping[str, NDArray[np.float64]]) -> str:
    """Histogram of each connection's weights: float in integer units, and integers; base64 PNG."""
    names = list(graph.connections)
    rows = (len(names) + 1) // 2
    picture = figure(WIDTH, 0.4 + 1.4 * rows)
    axes = picture.subplots(rows, 2, squeeze=False).ravel()
    for axis, name in zip(axes, names):
        integers = _stored(graph.connections[name])
        before = ideal.get(name)
        edge = float(max(np.abs(integers).max(initial=1), 1)) * 1.05
        bins = np.linspace(-edge, edge, 64)
        if before is not None:
            axis.hist(before, bins=bins, color=BEFORE, label="before (float)")
        axis.hist(integers, bins=bins, histtype="step", color=AFTER, label="after (integers)")
        axis.set_yscale("log")
        axis.set_ylim(bottom=0.7)
        axis.minorticks_off()
        axis.set_title(label(name), fontsize=8.5, color=INK)
        axis.tick_params(labelsize=7.5)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return png(picture)


def _stored(node: Any) -> NDArray[Any]:
    return np.asarray(node.weight.data if isinstance(node, Sparse) else node.weight).ravel()
