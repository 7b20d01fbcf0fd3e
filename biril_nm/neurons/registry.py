"""Neuron kinds by name, all made of snnTorch modules whose spikes equal the chip's.

To add a kind: one file, one entry in :data:`NEURONS`.
"""

from __future__ import annotations

from collections.abc import Callable

import snntorch as snn

from biril_nm.arguments import checked, unknown_name
from biril_nm.errors import ConfigError
from biril_nm.neurons.integrator import integrate_and_fire
from biril_nm.neurons.lif import leaky
from biril_nm.neurons.plif import averaging_leaky, parametric_leaky
from biril_nm.neurons.surrogates import make_surrogate

__all__ = ["NEURONS", "RESETS", "make_neuron"]

RESETS = ("zero", "subtract")  # what a spike does to the membrane

# Kind of neurons -> what makes a layer of them from (beta, threshold, surrogate[, reset]).
NEURONS: dict[str, Callable[..., snn.Leaky]] = {
    "if": integrate_and_fire,
    "lif": leaky,
    "lif_tau": averaging_leaky,
    "plif": parametric_leaky,
}


@checked
def make_neuron(
    kind: str,
    beta: float = 1.0,
    threshold: float = 1.0,
    surrogate: str = "sigmoid",
    reset: str = "zero",
) -> snn.Leaky:
    """A neuron layer of a kind of :data:`NEURONS`: ``"if"``, ``"lif"``, ``"lif_tau"`` or ``"plif"``.

    Raises:
        ConfigError: unknown kind, surrogate or reset, or a parameter out of range.
    """
    if kind not in NEURONS:
        raise ConfigError(unknown_name("neuron", kind, NEURONS))
    if reset not in RESETS:
        raise ConfigError(unknown_name("reset", reset, RESETS))
    more = () if reset == RESETS[0] else (reset,)  # a kind of another package may know one reset
    return NEURONS[kind](beta, threshold, make_surrogate(surrogate), *more)
