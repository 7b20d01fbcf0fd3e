"""Rounding that keeps sums, its rule before and now, and rounding to the nearest: which errs least?

    python benchmarks/rounding.py [--seeds 8] [--bits 8,4]

Small networks of five kinds get their weights rounded by each rule: random weights on random spikes, random
weights on scikit-learn's digits, and weights trained for a moment on digits. Two measures: the mean square
error of the current of the first neurons, relative to the mean square of the current in float; and cells
(neuron, step, sample) of all layers that differ from torch, per spike in torch. A table cell is the mean
over networks, of the measure of the rule divided by that of rounding to the nearest; below 1 is better.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean, stdev
from unittest import mock

import numpy as np
import snntorch as snn
import torch
from numpy.typing import NDArray
from page import table
from snntorch import utils
from torch import nn

from biril_nm.data import Batches, load_data
from biril_nm.export import lower, to_nir
from biril_nm.export.lowering.numbers import balanced_rounding, weight_grid
from biril_nm.hardware_sim import simulate
from biril_nm.loihi.fixed_point import round_half_away

STEPS, BATCH, N_TEST, N_BATCHES = 8, 64, 40, 25
ZERO = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}
Array = NDArray[np.float64]


def neuron() -> snn.Leaky:
    """A neuron that Lava has."""
    return snn.Leaky(beta=0.8, **ZERO)


KINDS: dict[str, Callable[[], list[nn.Module]]] = {
    "dense": lambda: [nn.Flatten(), nn.Linear(64, 48), neuron(), nn.Linear(48, 10), neuron()],
    "conv1d": lambda: [
        nn.Flatten(1, 2), nn.Conv1d(8, 12, 3), neuron(), nn.Conv1d(12, 8, 3), neuron(),
        nn.Flatten(), nn.Linear(32, 10), neuron(),
    ],
    "conv2d": lambda: [
        nn.Conv2d(1, 8, 3), neuron(), nn.Conv2d(8, 8, 3), neuron(),
        nn.Flatten(), nn.Linear(128, 10), neuron(),
    ],
    "depthwise": lambda: [
        nn.Conv2d(1, 8, 3), neuron(), nn.Conv2d(8, 8, 3, groups=8), neuron(), nn.Conv2d(8, 8, 1), neuron(),
        nn.Flatten(), nn.Linear(128, 10), neuron(),
    ],
    "pooled": lambda: [
        nn.Conv2d(1, 8, 3, padding=1), neuron(), nn.AvgPool2d(2), nn.Conv2d(8, 8, 3), neuron(),
        nn.Flatten(), nn.Linear(32, 10), neuron(),
    ],
}  # fmt: skip


def before(error: Array, sums: Array, low: int, high: int, grid: NDArray[np.int64]) -> None:
    """The rule until November 2026: as many moves as bring the sum to within half a step."""
    missing = round_half_away(sums)
    direction = np.sign(missing)[:, None]
    movable = np.where(direction > 0, grid < high, grid > low) & (direction * error > 0)
    rank = np.argsort(np.where(movable, -direction * error, np.inf), axis=1, kind="stable")
    position = np.empty_like(rank)
    np.put_along_axis(position, rank, np.arange(error.shape[1])[None, :], axis=1)
    grid += (movable & (position < np.abs(missing)[:, None])) * direction


def nearest(
    ideal: Array, step: int, low: int, high: int, out: NDArray[np.int32] | None = None
) -> NDArray[np.int32]:
    """Each weight by itself."""
    grid = np.clip(round_half_away(ideal / step) * step, low, high).astype(np.int32)
    if out is not None:
        out[...] = grid
    return grid


@contextmanager
def rule(name: str) -> Iterator[None]:
    """Lower with this rule within the block."""
    if name == "before":
        with mock.patch.object(balanced_rounding, "correct_sums", before):
            yield
    elif name == "nearest":
        with mock.patch.object(weight_grid, "round_keeping_sums", nearest):
            yield
    else:
        yield


SOURCES = ("random", "digits", "trained")
RULES = ("nearest", "before", "now")


@dataclass(frozen=True)
class Reference:
    """A network with what torch computes.

    Attributes:
        net: the module, one step per call.
        x: spikes ``(n_steps, batch, 1, 8, 8)``.
        spikes: name of a neuron layer -> its spikes.
        current: of the first neurons, without their bias.
    """

    net: nn.Sequential
    x: NDArray[np.int64]
    spikes: dict[str, Array]
    current: Array


def reference(kind: str, seed: int, source: str) -> Reference:
    """A network of that kind, and what torch computes; ``source`` is one of :data:`SOURCES`."""
    torch.manual_seed(seed)
    data = load_data("digits", seed=seed)
    net = nn.Sequential(*KINDS[kind]())
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)):
                layer.weight *= 2
    if source == "trained":
        _train(net, Batches(data.train, BATCH, shuffle=True, seed=seed), seed)
    values = data.test.values(slice(0, N_TEST))
    random = np.random.default_rng(seed).random((STEPS, *values.shape))
    x = (random < (0.3 if source == "random" else values)).astype(np.int64)
    return _record(net, x)


def _train(net: nn.Sequential, batches: Batches, seed: int) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for index, (values, labels) in enumerate(batches):
        if index == N_BATCHES:
            break
        random = np.random.default_rng([seed, index]).random((STEPS, *values.shape))
        utils.reset(net)
        count = sum(net(torch.from_numpy(step).float()) for step in random < values)
        loss = nn.functional.cross_entropy(count, torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _record(net: nn.Sequential, x: NDArray[np.int64]) -> Reference:
    utils.reset(net.eval())
    found: dict[str, list[Array]] = {}
    currents: list[Array] = []
    first = next(i for i, layer in enumerate(net) if isinstance(layer, snn.Leaky))
    with torch.no_grad():
        for step in torch.from_numpy(x).float():
            signal = step
            for index, layer in enumerate(net):
                value = layer(signal)
                if index + 1 == first:
                    bias = layer(torch.zeros_like(signal))
                    currents.append((value - bias).numpy())
                if isinstance(layer, snn.Leaky):
                    found.setdefault(str(index), []).append(value.numpy())
                signal = value
    return Reference(net, x, {name: np.stack(s) for name, s in found.items()}, np.stack(currents))


def measures(case: Reference, name: str, bits: int) -> tuple[float, float]:
    """Relative square error of the first current, and wrong cells per spike, with one rule."""
    utils.reset(case.net)
    nir_graph = to_nir(case.net, torch.zeros(1, 1, 8, 8), dt_s=1e-3)
    with rule(name):
        graph = lower(nir_graph, weight_bits=bits, calibration=case.x)
    trace = simulate(graph, case.x, record=("s", "u"))
    first = next(iter(case.spikes))
    scale = graph.metadata["neurons"][first]["scale"] * 64
    error = trace[first].u / scale - case.current.reshape(trace[first].u.shape)
    wrong = sum(int((trace[n].s != s).sum()) for n, s in case.spikes.items())
    spikes = sum(float(s.sum()) for s in case.spikes.values())
    return float(np.mean(error**2) / np.mean(case.current**2)), wrong / spikes


def main() -> None:
    """One row per kind and width, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--bits", default="8,4")
    options = parser.parse_args()
    widths = [int(text) for text in options.bits.split(",")]
    cases = {
        (kind, source, seed): reference(kind, seed, source)
        for kind in KINDS
        for source in SOURCES
        for seed in range(1000, 1000 + options.seeds)
    }
    found = {
        (bits, *key): [measures(case, name, bits) for name in RULES]
        for bits in widths
        for key, case in cases.items()
    }

    def row(*wanted: str | int) -> tuple[str, ...]:
        chosen = [value for key, value in found.items() if set(wanted) <= set(key)]
        return (
            ", ".join(f"{w} bits" if isinstance(w, int) else w for w in wanted) or "all",
            *cells(chosen),
        )

    rows = [row(kind, bits) for bits in widths for kind in KINDS]
    rows += [row(source) for source in SOURCES] + [row()]
    head = (
        "current, before",
        "current, now",
        "wrong cells, before",
        "wrong cells, now",
        "now - before",
    )
    print(table((f"networks, {options.seeds} seeds each", *head), rows))


def cells(found: list[list[tuple[float, float]]]) -> tuple[str, ...]:
    """Mean of both measures over that of the nearest rounding; the last cell with its error."""
    ratio = np.array([[np.divide(one, of[0]) for one in of] for of in found])
    means = [f"{ratio[:, r, m].mean():.3f}" for m in (0, 1) for r in (1, 2)]
    gain = list(ratio[:, 2, 1] - ratio[:, 1, 1])
    return (*means, f"{mean(gain):+.3f} +- {stdev(gain) / len(gain) ** 0.5:.3f}")


if __name__ == "__main__":
    main()
