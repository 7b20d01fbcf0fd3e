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
from biril_nm.neurons.surrogates import Surrogate, make_surrogate

__all__ = ["NEURONS", "make_neuron"]

NEURONS: dict[str, Callable[[float, float, Surrogate], snn.Leaky]] = {
    "if": integrate_and_fire,
    "lif": leaky,
}


@checked
def make_neuron(
    kind: str, beta: float = 1.0, threshold: float = 1.0, surrogate: str = "sigmoid"
) -> snn.Leaky:
    """A neuron layer of the kind ``"if"`` or ``"lif"``.

    Raises:
        ConfigError: unknown kind or surrogate, or a parameter out of range.
    """
    if kind not in NEURONS:
        raise ConfigError(unknown_name("neuron", kind, NEURONS))
    return NEURONS[kind](beta, threshold, make_surrogate(surrogate))
