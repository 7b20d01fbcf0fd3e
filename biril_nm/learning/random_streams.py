"""Random numbers and decays of learning as lava-nc 0.10.0 draws and computes them (``random.py``)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.learning.rule import LearningRule
from biril_nm.loihi import LEARN_ACC_SHIFT, LEARN_ROUNDING_SEED, TRACE_MAX, TRACE_RANDOM_UNITS

__all__ = ["RandomStreams", "decay_products", "modulator_tau"]

SYNAPSE_UNITS = 1 << 31  # of the draw that the numbers of single synapses are made from


def decay_products(tau: float) -> NDArray[np.float64]:
    """``exp(-1/tau) k`` for k = 0..127 in float64, as Lava computes it; 0 for tau = 0."""
    values = np.arange(TRACE_MAX + 1)
    if tau == 0:
        return np.zeros(TRACE_MAX + 1)
    return np.asarray(np.exp(-1 / np.array([tau])) * values, dtype=np.float64)


def modulator_tau() -> float:
    """Time constant of y1, y2, y3 in Lava's three-factor rules: they hardly decay within an epoch."""
    return float(np.iinfo(np.uint16).max)


class RandomStreams:
    """The five random streams of one connection, drawn ahead for a stretch of steps.

    Lava draws one number for a whole population: from streams seeded ``seed`` to ``seed + 3`` once at
    the start and twice per step, from a stream of fixed seed once at the start and once per learning phase.

    Args:
        rule: the rule.
        per_synapse: whether each synapse is rounded by a number of its own, which neither Lava nor a chip
            does: the phase then draws what the kernel makes these numbers from, 31 bits.
    """

    def __init__(self, rule: LearningRule, per_synapse: bool = False) -> None:
        self._t_epoch, self._per_synapse = rule.t_epoch, per_synapse
        self._x_decay, self._x_impulse, self._y_decay, self._y_impulse = (
            np.random.default_rng(rule.seed + k) for k in range(4)
        )
        self._rounding = (
            np.random.Generator(np.random.PCG64DXSM(rule.seed))  # refuses states of the other
            if per_synapse
            else np.random.default_rng(LEARN_ROUNDING_SEED)
        )
        for uniform in (self._x_decay, self._y_decay, self._rounding):
            uniform.random(1)
        for integer in (self._x_impulse, self._y_impulse):
            self._integers(integer, 1)

    def _generators(self) -> tuple[np.random.Generator, ...]:
        return self._x_decay, self._x_impulse, self._y_decay, self._y_impulse, self._rounding

    def state(self) -> list[dict[str, Any]]:
        """Where the streams are, as plain values."""
        return [dict(generator.bit_generator.state) for generator in self._generators()]

    def set_state(self, state: list[dict[str, Any]]) -> None:
        """Go on from :meth:`state`.

        Raises:
            ValueError, TypeError, KeyError: not a state of these streams.
        """
        for generator, each in zip(self._generators(), state, strict=True):
            generator.bit_generator.state = each

    @staticmethod
    def _integers(generator: np.random.Generator, count: int) -> NDArray[Any]:
        return generator.integers(0, TRACE_RANDOM_UNITS, size=count, dtype=int)

    def draw(self, t0: int, n_steps: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Numbers for the steps ``t0 + 1 .. t0 + n_steps``; must be called in order.

        Returns:
            Decay draws (n_steps, 2) for x and y, and integers (n_steps, 4): impulse draw of x and
            of y in a learning phase, of y at post-spikes, and the rounding draw in 1/128 (floor), or 31 bits.
        """
        uniform = np.empty((n_steps, 2))
        uniform[:, 0] = self._x_decay.random(2 * n_steps)[1::2]
        uniform[:, 1] = self._y_decay.random(2 * n_steps)[1::2]
        integer = np.zeros((n_steps, 4), dtype=np.int32)
        integer[:, 0] = self._integers(self._x_impulse, 2 * n_steps)[1::2]
        integer[:, 2:0:-1] = self._integers(self._y_impulse, 2 * n_steps).reshape(n_steps, 2)
        due = (np.arange(t0 + 1, t0 + n_steps + 1) % self._t_epoch) == 0
        units = SYNAPSE_UNITS if self._per_synapse else 1 << LEARN_ACC_SHIFT
        integer[due, 3] = np.floor(self._rounding.random(int(due.sum())) * units)
        return uniform, integer
