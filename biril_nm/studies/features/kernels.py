"""Compiled loops of feature learning: competition, integer update, responses. Integers only.

Neurons integrate and fire at most once per sample; weights are not negative, so potentials only
grow. Arrays: spike times ``(n, C, H, W)``, weights ``(C, k, k, F)`` with the filters innermost, so
that one input spike adds a contiguous row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from biril_nm.loihi import LEARN_ACC_BITS, LEARN_ACC_SHIFT, WEIGHT_MAX
from biril_nm.storage.machine_code import kept, part

__all__ = ["learn", "loop", "respond"]

ACC_MAX = (1 << LEARN_ACC_BITS) - 1
ACC_MIN = -(1 << LEARN_ACC_BITS) - 1  # Lava's register reaches one step further down
ACC_UNIT = 1 << LEARN_ACC_SHIFT


def loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop that lets other threads run."""
    return kept(function, nogil=True)


def _part(function: Callable[..., Any]) -> Callable[..., Any]:
    return part(function, nogil=True)


@_part
def _integrate(times, step, weights, potential):  # type: ignore[no-untyped-def]
    """Add the weights of all inputs that spike in this step; 'same' padding."""
    channels, height, width = times.shape
    size = weights.shape[1]
    pad = size // 2
    n_filters = weights.shape[3]
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                if times[c, y, x] != step:
                    continue
                for i in range(max(0, y + pad - height + 1), min(size, y + pad + 1)):
                    for j in range(max(0, x + pad - width + 1), min(size, x + pad + 1)):
                        row = potential[y + pad - i, x + pad - j]
                        tap = weights[c, i, j]
                        for f in range(n_filters):
                            row[f] += tap[f]


@loop
def changed_weight(weight, trace, terms, random):  # type: ignore[no-untyped-def]
    """New weight after one post spike: sum of products, saturation, stochastic rounding.

    ``terms`` rows are (signed mantissa, exponent, right shift, factors x1, factors w).
    """
    acc = weight << LEARN_ACC_SHIFT
    for k in range(terms.shape[0]):
        product = terms[k, 0]
        for _ in range(terms[k, 3]):
            product *= trace
        for _ in range(terms[k, 4]):
            product *= weight
        product = (product >> terms[k, 2]) << (terms[k, 1] + LEARN_ACC_SHIFT)
        acc = min(max(acc + min(max(product, ACC_MIN), ACC_MAX), ACC_MIN), ACC_MAX)
    acc = max(acc, 0)
    rounded = (acc >> LEARN_ACC_SHIFT) + (1 if random < (acc & (ACC_UNIT - 1)) else 0)
    return min(rounded, WEIGHT_MAX)


@_part
def _winner(potential, theta, closed, won):  # type: ignore[no-untyped-def]
    """Place and filter of the open neuron furthest above its threshold; filter -1 if there is none."""
    height, width, n_filters = potential.shape
    best, by, bx, bf = 0, -1, -1, -1
    for y in range(height):
        for x in range(width):
            if closed[y, x]:
                continue
            for f in range(n_filters):
                above = potential[y, x, f] * n_filters - theta[f]
                if above > best and not won[f]:
                    best, by, bx, bf = above, y, x, f
    return by, bx, bf


@_part
def _update(image, step, place, weight, rule, draws):  # type: ignore[no-untyped-def]
    """Apply the rule to the filter ``weight`` (C, k, k) that spiked at ``place`` in this step.

    ``rule`` is (terms, traces), ``draws`` (2, taps) the variant of the trace and the rounding.
    """
    channels, height, width = image.shape
    size = weight.shape[1]
    terms, traces = rule
    tap = 0
    for c in range(channels):
        for i in range(size):
            for j in range(size):
                y, x = place[0] + i - size // 2, place[1] + j - size // 2
                trace = 0
                if 0 <= y < height and 0 <= x < width and 0 < image[c, y, x] <= step:
                    trace = traces[draws[0, tap], step - image[c, y, x]]
                weight[c, i, j] = changed_weight(weight[c, i, j], trace, terms, draws[1, tap])
                tap += 1


@_part
def _compete(image, weights, theta, rule, draws, limits, state):  # type: ignore[no-untyped-def]
    """One sample: integrate step by step, let the winners learn; returns their number."""
    n_steps, winners, radius = limits
    potential, closed, won = state
    potential[:] = 0
    closed[:] = 0
    won[:] = 0
    found = 0
    for step in range(1, n_steps + 1):
        _integrate(image, step, weights, potential)
        while found < winners:
            y, x, f = _winner(potential, theta, closed, won)
            if f < 0:
                break
            _update(image, step, (y, x), weights[:, :, :, f], rule, draws[found])
            won[f] = 1
            found += 1
            closed[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = 1
        if found == winners:
            break
    return found


@loop
def learn(times, weights, theta, rule, draws, limits, homeostasis, order):  # type: ignore[no-untyped-def]
    """Present samples one after the other; each winner applies the rule to its filter.

    Args:
        times: first-spike steps (n, C, H, W), 0 for silent cells.
        weights: (C, k, k, F) int64, changed in place.
        theta: thresholds (F,) in 1/F of a weight unit, changed in place.
        rule: terms (see ``_change``) and the pre-trace by random variant and age (variants, n_steps).
        draws: random numbers (n, winners, 2, taps): variant of the trace, rounding in 0..127.
        limits: (n_steps, winners, radius).
        homeostasis: (step of theta, smallest, largest theta).
        order: indices of the samples to present.

    Returns:
        Number of wins of each filter.
    """
    n_filters = weights.shape[3]
    theta_step, theta_min, theta_max = homeostasis
    place = times.shape[2:]
    state = (
        np.zeros((place[0], place[1], n_filters), dtype=np.int64),
        np.zeros(place, dtype=np.uint8),
        np.zeros(n_filters, dtype=np.int64),
    )
    wins = np.zeros(n_filters, dtype=np.int64)
    for turn in range(order.size):
        image = times[order[turn]]
        found = _compete(image, weights, theta, rule, draws[turn], limits, state)
        won = state[2]
        for f in range(n_filters):
            wins[f] += won[f]
            theta[f] += theta_step * (n_filters * won[f] - found)
            theta[f] = min(max(theta[f], theta_min), theta_max)
    return wins


@loop
def respond(times, weights, theta, n_steps, pool, features):  # type: ignore[no-untyped-def]
    """Earliest spike of each filter in each pooling cell: ``n_steps + 1 - step``, 0 for none.

    Args:
        times: first-spike steps (n, C, H, W).
        weights: (C, k, k, F) int32.
        theta: thresholds (F,) in weight units.
        n_steps: steps of a sample.
        pool: side of a pooling cell.
        features: result (n, H // pool, W // pool, F).

    Returns:
        Number of neurons that spiked, over all samples.
    """
    height, width = times.shape[2:]
    n_filters = weights.shape[3]
    potential = np.zeros((height, width, n_filters), dtype=np.int32)
    since = np.zeros((height, width, n_filters), dtype=np.uint8)
    flat, count = potential.reshape(-1, n_filters), since.reshape(-1, n_filters)
    spikes = 0
    for index in range(times.shape[0]):
        potential[:] = 0
        since[:] = 0
        for step in range(1, n_steps + 1):
            _integrate(times[index], step, weights, potential)
            for place in range(flat.shape[0]):
                row, steps = flat[place], count[place]
                for f in range(n_filters):  # potentials never fall, so this counts from the spike
                    steps[f] += row[f] > theta[f]
        for y in range(height):
            for x in range(width):
                for f in range(n_filters):
                    value = since[y, x, f]
                    spikes += value > 0
                    if y // pool < features.shape[1] and x // pool < features.shape[2]:
                        cell = features[index, y // pool, x // pool]
                        cell[f] = max(cell[f], value)
    return spikes
