"""Pictures of a report as inline PNG: confusion matrix, worst samples, error by bits, voltages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.export.report.drawings import PALETTE
from biril_nm.export.report.figures import BEFORE, INK, WIDTH, figure, label, png
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.outputs import integrators
from biril_nm.loihi import VTH_SHIFT
from biril_nm.recording import Recording

__all__ = ["bits_png", "confusion_png", "samples_png", "voltages_png"]

MAX_NUMBERS = 12  # classes up to which cells hold their number
PER_ROW = 4
MAX_FEATURES = 256  # rows of a sample that is not a picture
NEURONS = 3  # whose voltage is drawn
MAX_LAYERS = 8
MAX_STEPS = 400


def confusion_png(confusion: NDArray[np.int64]) -> str:
    """Share of each class (row) that was taken for each class (column), with the numbers; base64 PNG."""
    n = len(confusion)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    size = min(WIDTH, 1.6 + 0.28 * n)
    picture = figure(size, size)
    axis = picture.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if n <= MAX_NUMBERS:
        for (i, j), count in np.ndenumerate(confusion):
            if count:
                colour = "white" if shares[i, j] > 0.5 else INK
                text = f"{count}" if count < 10_000 else f"{count / 1000:.0f}k"
                axis.text(j, i, text, ha="center", va="center", color=colour, fontsize=6.5)
        axis.set_xticks(range(n))
        axis.set_yticks(range(n))
    axis.tick_params(labelsize=7.5)
    axis.set_xlabel("taken for", fontsize=8.5, color=INK)
    axis.set_ylabel("class", fontsize=8.5, color=INK)
    return png(picture)


def samples_png(inputs: NDArray[Any], titles: Sequence[str]) -> str:
    """Input of some samples, ``(n_steps, n, *shape)``: pictures summed over steps, or steps to the right."""
    rows = -(-len(titles) // PER_ROW)
    picture = figure(WIDTH, 1.35 * rows + 0.1)
    axes = picture.subplots(rows, PER_ROW, squeeze=False).ravel()
    for place, axis in enumerate(axes):
        axis.set_axis_off()
        if place < len(titles):
            image = _image(inputs[:, place])
            axis.imshow(image, cmap="gray_r", aspect="auto", interpolation="nearest")
            axis.set_title(titles[place], fontsize=7, color=INK)
    return png(picture)


def _image(sample: NDArray[Any]) -> NDArray[Any]:
    """One sample ``(n_steps, *shape)`` as an image."""
    if sample.ndim >= 3 and min(sample.shape[-2:]) > 1:
        total = sample.astype(np.int64).sum(axis=0)
        return np.asarray(total.reshape(-1, *total.shape[-2:]).sum(axis=0))
    flat = sample.reshape(len(sample), -1)[:MAX_STEPS]
    chosen = np.unique(np.linspace(0, flat.shape[1] - 1, MAX_FEATURES).astype(int))
    return np.asarray(flat[:, chosen].T)


def bits_png(bits: Sequence[int], errors: Mapping[str, Sequence[float]]) -> str:
    """Relative error of each connection's weights over the bits; base64 PNG."""
    picture = figure(WIDTH, 2.4)
    axis = picture.subplots()
    for place, (name, values) in enumerate(errors.items()):
        shown = np.maximum(np.asarray(values, dtype=np.float64), 1e-6)
        colour = PALETTE[place % len(PALETTE)]
        axis.plot(bits, 100 * shown, "o-", color=colour, markersize=3, label=label(name))
    low, high = axis.dataLim.intervaly
    if low == high:  # matplotlib would warn
        axis.set_ylim(low / 10, high * 10)
    axis.set_yscale("log")
    axis.set_xticks(bits)
    axis.invert_xaxis()
    axis.tick_params(labelsize=7.5)
    axis.set_xlabel("bits per weight", fontsize=8.5, color=INK)
    axis.set_ylabel("rel. error, %", fontsize=8.5, color=INK)
    if len(errors) <= len(PALETTE):
        axis.legend(fontsize=7, frameon=False)
    return png(picture)


def voltages_png(graph: LoihiGraph, recording: Recording) -> str:
    """V of the neurons of each population that spike most in the first sample; base64 PNG."""
    shown = [name for name in graph.timing.order if recording[name].v is not None][-MAX_LAYERS:]
    silent = integrators(graph)
    picture = figure(WIDTH, 0.5 + 1.05 * len(shown))
    axes = picture.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, shown):
        v = np.asarray(recording[name].v)[:MAX_STEPS, 0]
        v = v.reshape(len(v), -1)
        spikes = np.abs(np.asarray(recording[name].s)[:MAX_STEPS, 0]).reshape(len(v), -1)
        most = np.lexsort((-v.max(axis=0), -spikes.sum(axis=0)))[:NEURONS]
        steps = np.arange(1, len(v) + 1)
        for place, neuron in enumerate(most):
            axis.step(steps, v[:, neuron], where="mid", color=PALETTE[place], linewidth=1.0,
                      label=f"{neuron}")  # fmt: skip
        if name not in silent:
            vth = np.broadcast_to(graph.neurons[name].spike_threshold, graph.neurons[name].shape)
            threshold = int(vth.reshape(-1)[most[0]]) << VTH_SHIFT
            axis.axhline(threshold, color=BEFORE, linewidth=0.9, linestyle="--")
        axis.set_ylabel(label(name), fontsize=8, color=INK)
        axis.tick_params(labelsize=7)
        axis.yaxis.get_major_locator().set_params(nbins=4)
        axis.legend(title="neuron", title_fontsize=6, fontsize=6, frameon=False,
                    loc="center left", bbox_to_anchor=(1.0, 0.5))  # fmt: skip
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel("step (node time)", fontsize=8.5)
    return png(picture)
