"""Which weight layers a local rule may change."""

from __future__ import annotations

from collections import Counter

from torch import nn

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError
from biril_nm.models.links import INPUT, Link
from biril_nm.models.spiking_net import SpikingNet

__all__ = ["PLASTIC", "plastic_links"]

PLASTIC = ("conv", "conv+fc", "last")


@checked
def plastic_links(net: SpikingNet, plastic: str = "conv") -> tuple[Link, ...]:
    """The weight layers that S and H change by the local rule.

    ``"conv"``: convolutions except the first one (its input may be graded) and 1x1 projections;
    ``"conv+fc"``: these and the hidden Linear layers. Nets without such a convolution use their
    hidden Linear layers; the first weight layer and the readout are never plastic. ``"last"``: of the
    layers of ``"conv"`` the last one. Frozen weights (``requires_grad=False``) are not plastic.

    Raises:
        ConfigError: unknown choice, or no layer of the net can be plastic.
    """
    if plastic not in PLASTIC:
        raise ConfigError(f"plastic is '{plastic}'; expected one of {', '.join(PLASTIC)}")
    links = net.links()
    pairs = Counter(link.name for link in links)  # a rule has one source and one target
    outer = {link.name for link in links if link.pre == INPUT or link.post == net.readout_name}
    inner = [
        link
        for link in links
        if pairs[link.name] == 1 and link.name not in outer and link.weight.requires_grad
    ]
    convs = [k for k in inner if isinstance(k.layer, nn.Conv2d) and k.layer.kernel_size != (1, 1)]
    linear = [link for link in inner if isinstance(link.layer, nn.Linear)]
    chosen = convs + linear if plastic == "conv+fc" or not convs else convs
    if not chosen:
        raise ConfigError(
            f"'{net.name}' with {len(pairs)} layers (Conv2d, Linear) has none that a local rule may "
            f"change; expected one between the first and the last, not frozen. Add a hidden layer, or "
            f"use a schedule of B only"
        )
    return tuple(chosen[-1:] if plastic == "last" else chosen)
