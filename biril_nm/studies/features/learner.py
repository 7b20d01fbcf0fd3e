"""Unsupervised features by a post-triggered rule on integers: 8-bit weights, 7-bit traces.

One layer of shared filters looks at first-spike times (:mod:`biril_nm.studies.features.latency`).
Neurons integrate and fire at most once per sample. The earliest spikes of a sample win, the
strongest first; a winner silences its filter everywhere and its surroundings for all filters, and
applies the rule to its filter: exactly what a post spike on the chip does to that neuron's synapses
(same products, shifts, saturation and stochastic rounding, per-synapse random numbers). Thresholds
follow the number of wins while learning. Competition and sharing are host code: the chip has no shared
plastic weights. Set-up after S. R. Kheradpisheh and others, Neural Networks 99 (2018).
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import ConfigError
from biril_nm.learning.rule import LearningRule
from biril_nm.learning.rules import OFFSET
from biril_nm.loihi import TRACE_MAX, WEIGHT_MAX
from biril_nm.studies.features import kernels as feature_kernels

__all__ = [
    "FeatureConfig",
    "Features",
    "FilterBank",
    "binary_bank",
    "initial_bank",
    "learn_filters",
]

TRACE_VARIANTS = 256  # random courses of a decaying trace, one byte to choose
TRACE_DECAY_BITS = 16  # the decay factor of a trace as an integer
INITIAL_MEAN, INITIAL_SPREAD = 0.8, 0.05

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class FeatureConfig:
    """Settings of feature learning.

    Attributes:
        n_filters: number of filters.
        size: side of a filter in pixels, odd.
        threshold: of a neuron that learns, in units of the largest weight (255).
        response_threshold: of a neuron that responds; a little above the other, neurons spike
            much less at the same accuracy.
        winners: winners per sample.
        radius: pixels around a winner in which no other may win.
        n_steps: steps of a sample.
        eta: share of the threshold by which one win raises it (and the others' wins lower it).
        rule: a rule whose products all depend on the post spike (y0).
    """

    n_filters: int = 32
    size: int = 5
    threshold: float = 6.0
    response_threshold: float = 7.0
    winners: int = 5
    radius: int = 2
    n_steps: int = 8
    eta: float = 0.02
    rule: LearningRule = OFFSET

    def __post_init__(self) -> None:
        if self.size % 2 == 0 or min(self.n_filters, self.size, self.winners, self.n_steps) < 1:
            raise ConfigError(
                f"size is {self.size}, n_filters {self.n_filters}, winners {self.winners}, n_steps "
                f"{self.n_steps}; expected an odd size, and at least 1 each"
            )
        least = min(self.threshold, self.response_threshold)
        if not (least > 0 and 0 <= self.eta < 1 and self.radius >= 0):
            raise ConfigError(
                f"threshold is {self.threshold}, response_threshold {self.response_threshold}, eta "
                f"{self.eta}, radius {self.radius}; expected positive thresholds, eta in 0..1 and a "
                f"radius from 0"
            )
        post_terms(self.rule)


@dataclass(frozen=True)
class Features:
    """Responses of a filter bank.

    Attributes:
        values: earliest spike of each filter and pooling cell as ``n_steps + 1 - step``, 0 for
            none, ``(n, cells * F)``.
        spiking: share of the neurons that spiked.
    """

    values: Bytes
    spiking: float


@dataclass(frozen=True)
class FilterBank:
    """Integer filters and thresholds.

    Attributes:
        weight: ``(F, C, k, k)``, 0..255, torch order.
        threshold: of all neurons, in weight units.
        n_steps: steps of a sample.
        wins: how often each filter learned, ``(F,)``.
    """

    weight: Bytes
    threshold: int
    n_steps: int = 8
    wins: NDArray[np.int64] | None = None

    def features(self, times: Bytes, pool: int = 4, n_threads: int = 2) -> Features:
        """Pooled first-spike times of all samples.

        Shape:
            times ``(n, C, H, W)`` to values ``(n, (H // pool) * (W // pool) * F)``.
        """
        n, _, height, width = times.shape
        weights = np.ascontiguousarray(self.weight.transpose(1, 2, 3, 0), dtype=np.int32)
        n_filters = len(self.weight)
        theta = np.full(n_filters, self.threshold, dtype=np.int32)
        cells = np.zeros((n, height // pool, width // pool, n_filters), dtype=np.uint8)

        def part(where: slice) -> int:
            return int(
                feature_kernels.respond(
                    times[where], weights, theta, self.n_steps, pool, cells[where]
                )
            )

        edges = np.linspace(0, n, max(1, n_threads) + 1).astype(int)
        parts = [slice(edges[k], edges[k + 1]) for k in range(len(edges) - 1)]
        with ThreadPoolExecutor(max(1, n_threads)) as threads:
            spikes = sum(threads.map(part, parts))
        return Features(cells.reshape(n, -1), spikes / max(1, n * height * width * n_filters))


def initial_bank(config: FeatureConfig, channels: int = 2, seed: int = 0) -> FilterBank:
    """Filters before learning: normal around 0.8 of the largest weight, all on."""
    random = np.random.default_rng([seed, 0])
    shape = (config.n_filters, channels, config.size, config.size)
    weight = random.normal(INITIAL_MEAN, INITIAL_SPREAD, shape) * WEIGHT_MAX
    bytes_ = np.clip(np.rint(weight), 0, WEIGHT_MAX).astype(np.uint8)
    return FilterBank(bytes_, _units(config.response_threshold), config.n_steps)


def binary_bank(
    config: FeatureConfig, density: float, threshold: float, channels: int = 2, seed: int = 0
) -> FilterBank:
    """A control that learned nothing: each weight is the largest one with probability ``density``."""
    random = np.random.default_rng([seed, 1])
    shape = (config.n_filters, channels, config.size, config.size)
    weight = ((random.random(shape) < density) * WEIGHT_MAX).astype(np.uint8)
    return FilterBank(weight, _units(threshold), config.n_steps)


def learn_filters(times: Bytes, config: FeatureConfig | None = None, seed: int = 0) -> FilterBank:
    """Filters learned from unlabelled samples, each shown once, in random order.

    Args:
        times: first-spike steps ``(n, C, H, W)``, 0 for silent cells.
        config: settings.
        seed: seed of initial weights, order and rounding.

    Raises:
        ConfigError: the rule needs more than a post spike and a pre-trace.
    """
    config = config or FeatureConfig()
    n, channels = times.shape[:2]
    start = initial_bank(config, channels, seed)
    weights = np.ascontiguousarray(start.weight.transpose(1, 2, 3, 0), dtype=np.int64)
    random = np.random.default_rng([seed, 2])
    threshold = _units(config.threshold)
    theta_0 = threshold * config.n_filters
    theta = np.full(config.n_filters, theta_0, dtype=np.int64)
    taps = channels * config.size**2
    draws = random.integers(0, TRACE_VARIANTS, (n, config.winners, 2, taps), dtype=np.uint8)
    draws[:, :, 1] &= TRACE_MAX
    step = round(config.eta * threshold)
    wins = feature_kernels.learn(
        times,
        weights,
        theta,
        (post_terms(config.rule), _trace_courses(config, random)),
        draws,
        (config.n_steps, config.winners, config.radius),
        (step, theta_0 // 2, theta_0 * 2),
        random.permutation(n),
    )
    weight = np.ascontiguousarray(weights.transpose(3, 0, 1, 2)).astype(np.uint8)
    return FilterBank(weight, start.threshold, config.n_steps, wins)


def _units(threshold: float) -> int:
    return round(threshold * WEIGHT_MAX)


def post_terms(rule: LearningRule) -> NDArray[np.int64]:
    """Rows (signed mantissa, exponent, shift, factors x1, factors w) of the rule's products."""
    rows = []
    for term in rule.dw:
        names = [f.variable for f in term.operands]
        plain = all(not f.constant and not f.is_sgn for f in term.operands)
        if term.dependency != "y0" or not plain or set(names) - {"x1", "w"}:
            raise ConfigError(
                f"rule '{rule.name}' cannot learn features: product {term.text()} is none of y0 "
                f"times x1 and w (rules 'offset' and 'oja' are)"
            )
        rows.append(
            (term.signed_mantissa, term.exp, term.shift, names.count("x1"), names.count("w"))
        )
    if not rows or rule.dt or rule.dd or rule.t_epoch != 1:
        raise ConfigError(
            f"rule '{rule.name}' cannot learn features: it must change w alone, at t_epoch 1"
        )
    return np.array(rows, dtype=np.int64)


def _trace_courses(config: FeatureConfig, random: np.random.Generator) -> NDArray[np.int64]:
    """Random courses of a trace after one spike, by age in steps: ``(TRACE_VARIANTS, n_steps)``.

    The fraction is 16 bits wide and rounded stochastically at each step, as the chip's traces are.
    """
    trace = config.rule.trace("x1")
    decay = math.floor(trace.decay * (1 << TRACE_DECAY_BITS) + 0.5)
    value = np.full(TRACE_VARIANTS, int(trace.impulse), dtype=np.int64)
    courses = [value]
    for _ in range(config.n_steps - 1):
        product = courses[-1] * decay
        draw = random.integers(0, 1 << TRACE_DECAY_BITS, TRACE_VARIANTS)
        up = draw < (product & ((1 << TRACE_DECAY_BITS) - 1))
        courses.append((product >> TRACE_DECAY_BITS) + up)
    return np.stack(courses, axis=1)
