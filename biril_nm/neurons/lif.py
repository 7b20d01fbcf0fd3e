"""LIF neuron: ``mem <- beta mem + input``; spike where ``mem > threshold``, and mem back to 0.

snnTorch's ``Leaky`` with ``reset_mechanism="zero"`` and ``reset_delay=False``: the setting that Lava's own
LIF runs, on every chip (with ``reset_delay=True`` the membrane read out is the one before the reset; other
resets are programs of Loihi 2).
"""

from __future__ import annotations

import math

import snntorch as snn

from biril_nm.errors import ConfigError
from biril_nm.neurons.surrogates import Surrogate

__all__ = ["leaky"]


def leaky(
    beta: float,
    threshold: float,
    surrogate: Surrogate,
    reset: str = "zero",
    kind: type[snn.Leaky] = snn.Leaky,
    learn_beta: bool = False,
) -> snn.Leaky:
    """A layer of LIF neurons; a spike resets mem to 0, or subtracts the threshold.

    Args:
        beta: share of the membrane that a step keeps.
        threshold: above which it spikes.
        surrogate: stands in for the derivative of the step function.
        reset: ``"zero"`` or ``"subtract"``.
        kind: class of the layer.
        learn_beta: whether beta is trained.

    Raises:
        ConfigError: beta is not in 0..1 or the threshold is not positive.
    """
    if not 0.0 <= beta <= 1.0:
        raise ConfigError(f"beta is {beta}; expected 0 to 1 (1 is an integrator, neuron 'if')")
    if not (math.isfinite(threshold) and threshold > 0.0):
        raise ConfigError(f"threshold is {threshold}; expected a positive number")
    return kind(
        beta=float(beta),
        threshold=float(threshold),
        spike_grad=surrogate,
        init_hidden=True,
        reset_mechanism=reset,
        reset_delay=False,
        learn_beta=learn_beta,
    )
