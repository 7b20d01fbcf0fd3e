"""LIF neurons that average their input, ``mem <- mem + gain (input - mem)``; in PLIF the gain is learned.

BrainCog's LIF has ``gain = 1 / tau``, here ``1 - beta``. Its PLIF has ``gain = sigmoid(w)`` with one learned
number w for the layer, which starts at ``-ln(tau - 1)``. Both are :class:`AveragingLeaky`: snnTorch's
``Leaky`` with ``beta = 1 - gain``, of an input times gain. Export writes the gain into the weights, and
beta into the decay register.

Source: BrainCog, LIFNode and PLIFNode of its nodes (arXiv 2207.08533).
"""

from __future__ import annotations

import math
from typing import Any

import snntorch as snn
import torch
from torch import Tensor, nn

from biril_nm.errors import ConfigError
from biril_nm.neurons.lif import leaky
from biril_nm.neurons.surrogates import Surrogate

__all__ = ["AveragingLeaky", "averaging_leaky", "parametric_leaky"]


class AveragingLeaky(snn.Leaky):  # type: ignore[misc]  # snnTorch has no types
    """``mem <- beta mem + gain input`` with ``gain = sigmoid(w)`` and ``beta = 1 - gain``.

    Attributes:
        w: a parameter if ``learn_beta``, else a buffer; one number.
    """

    w: Tensor

    def _beta_buffer(self, beta: float, learn_beta: bool) -> None:
        """What ``Leaky`` calls where it makes its own ``beta``: w takes its place."""
        w = torch.tensor(math.log((1.0 - beta) / beta))
        if learn_beta:
            self.w = nn.Parameter(w)
        else:
            self.register_buffer("w", w)

    @property
    def gain(self) -> Tensor:
        """Share of the input in the membrane, ``1 / tau``."""
        return torch.sigmoid(self.w)

    @property
    def beta(self) -> Tensor:
        """Share of the membrane that a step keeps."""
        return torch.ones_like(self.w) - self.gain

    def forward(self, input_: Tensor, mem: Tensor | None = None) -> Any:
        """One step."""
        return super().forward(self.gain * input_, mem)


def averaging_leaky(
    beta: float, threshold: float, surrogate: Surrogate, reset: str = "zero"
) -> snn.Leaky:
    """A layer with ``tau = 1 / (1 - beta)``.

    Raises:
        ConfigError: beta is not between 0 and 1 or the threshold is not positive.
    """
    return _averaging("lif_tau", beta, threshold, surrogate, reset)


def parametric_leaky(
    beta: float, threshold: float, surrogate: Surrogate, reset: str = "zero"
) -> snn.Leaky:
    """A layer that learns its tau, which is ``1 / (1 - beta)`` at first.

    Raises:
        ConfigError: beta is not between 0 and 1 or the threshold is not positive.
    """
    return _averaging("plif", beta, threshold, surrogate, reset)


def _averaging(
    kind: str, beta: float, threshold: float, surrogate: Surrogate, reset: str
) -> snn.Leaky:
    if not 0.0 < beta < 1.0:
        raise ConfigError(
            f"beta of neuron '{kind}' is {beta}; expected a number between 0 and 1, both left out: tau is "
            f"1 / (1 - beta). Use neuron 'if' to integrate without leak"
        )
    return leaky(beta, threshold, surrogate, reset, kind=AveragingLeaky, learn_beta=kind == "plif")
