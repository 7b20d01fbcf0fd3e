"""IF neuron: the integrator without leak, ``mem <- mem + input``; a spike resets mem to 0.

BIRIL's neuron (equations 1 and 2 of the paper, firing at ``mem > threshold`` as on Loihi, where the
paper has >=). It is snnTorch's ``Leaky`` with beta = 1.
"""

from __future__ import annotations

import snntorch as snn

from biril_nm.neurons.lif import leaky
from biril_nm.neurons.surrogates import Surrogate

__all__ = ["integrate_and_fire"]


def integrate_and_fire(
    beta: float, threshold: float, surrogate: Surrogate, reset: str = "zero"
) -> snn.Leaky:
    """A layer of IF neurons; ``beta`` is not used."""
    del beta
    return leaky(1.0, threshold, surrogate, reset)
