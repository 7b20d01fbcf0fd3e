"""From a float network to the QuantizedNet that trains on."""

from __future__ import annotations

from typing import Any

from torch import nn

from biril_nm.arguments import checked
from biril_nm.export import to_nir
from biril_nm.export.lowering import LoweringOptions, lower_stages
from biril_nm.export.weight_bits import parse_weight_bits
from biril_nm.loihi import WEIGHT_BITS
from biril_nm.models import BirilNet
from biril_nm.training.integers.net import QuantizedNet

__all__ = ["TERNARY", "learning_rate", "quantized"]

TERNARY = "ternary"
TERNARY_BITS = 2
# Fewer bits need larger steps: a weight moves once its latent has crossed half a step of the grid.
LEARNING_RATES = {8: 2e-4, 7: 2e-4, 6: 3e-4, 5: 4e-4}
FEW_BITS_RATE = 5e-4


@checked
def quantized(net: nn.Module, integers: str = "8", **options: Any) -> QuantizedNet:
    """The integer network of a float one, which trains on.

    Args:
        net: a network of :func:`biril_nm.build_model`, or a module as :func:`biril_nm.export.to_nir` takes
            it (then give ``sample_input`` and ``dt_s``).
        integers: bits per weight (``"4"``; connections from graded input keep 8), bits of each connection
            (``"conv1=8,*=3"``), or ``"ternary"``: weights -1, 0 and 1, and 8 bits from graded input.
        options: further arguments of :func:`biril_nm.export.to_nir` and :func:`biril_nm.export.lower`.

    The surrogate is that of the network, and ``atan`` for ``learned_atan``, whose alpha stops learning.

    Raises:
        ConfigError: bits that make no sense, or an unknown option.
    """
    own = ("sample_input", "dt_s", "coding")  # of to_nir
    source = {key: options.pop(key) for key in own if key in options}
    graph = to_nir(net, **source)
    bits = TERNARY_BITS if integers == TERNARY else parse_weight_bits(integers)
    stages = lower_stages(graph, LoweringOptions(weight_bits=bits, **options))
    surrogate = net.config.surrogate if isinstance(net, BirilNet) else "sigmoid"
    if surrogate.partition(":")[0] == "learned_atan":  # the integers learn no alpha
        surrogate = "atan"
    return QuantizedNet(stages, surrogate, symmetric=integers == TERNARY)


def learning_rate(integers: str) -> float:
    """Initial learning rate that suits the fewest bits of a network."""
    bits = TERNARY_BITS if integers == TERNARY else parse_weight_bits(integers)
    fewest = min(bits.values(), default=WEIGHT_BITS) if isinstance(bits, dict) else bits
    return LEARNING_RATES.get(fewest, FEW_BITS_RATE)
