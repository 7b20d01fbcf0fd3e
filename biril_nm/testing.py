"""For test suites of users: one line that fails with the first wrong neuron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from biril_nm.arguments import checked
from biril_nm.coding import Coding
from biril_nm.errors import ConfigError
from biril_nm.hw_graph import Input
from biril_nm.hw_graph.inputs import check_values
from biril_nm.parity import MAX_RATE_DIFFERENCE, MIN_AGREEMENT, ParityReport, check_parity

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["assert_parity"]


@checked
def assert_parity(
    net: nn.Module,
    spikes: ArrayLike,
    against: Sequence[str] = ("torch", "sim", "lava"),
    dt_s: float = 1e-4,
    weight_bits: int = 8,
    min_agreement: float = MIN_AGREEMENT,
    max_rate_difference: float = MAX_RATE_DIFFERENCE,
    coding: Coding | None = None,
    sample_input: Any = None,
) -> ParityReport:
    """Export ``net``, run it on all engines, and fail if they disagree or a layer is silent.

    Args:
        net: a BirilNet, or a module as :func:`biril_nm.export.to_nir` takes it, whose forward computes
            one step or loops over time.
        spikes: input ``(n_steps, batch, *shape)``: integers as the chip receives them, or floats
            as the network sees them (0..1 for direct coding, -1..1 for signed).
        against: engines to compare (:func:`biril_nm.engines.available_engines`); leave out ``"lava"``
            where it is not installed.
        dt_s: width of a step in seconds.
        weight_bits: bits per weight.
        min_agreement: share of samples for which torch must predict the same class.
        max_rate_difference: largest difference of mean firing rates per layer.
        coding: how values enter the network; None: binary spikes. A BirilNet and an OwnNet have their own.
        sample_input: what the forward takes at once, as for :func:`biril_nm.export.to_nir`; None: one step of
            the spikes, or all steps if it loops over them.

    Raises:
        ConfigError: input that is not an array of steps, or that the coding does not take.
        RangeError: integers that the input does not carry.
        ParityError: with node, variable, step, neuron and both values.
    """
    import torch

    from biril_nm.errors import ParityError
    from biril_nm.export import lower, to_nir
    from biril_nm.models import BirilNet, OwnNet

    values = (
        spikes.detach().cpu().numpy() if isinstance(spikes, torch.Tensor) else np.asarray(spikes)
    )
    if values.ndim < 3:
        raise ConfigError(f"spikes have shape {values.shape}; expected (n_steps, batch, *shape)")
    own = net.coding if isinstance(net, (BirilNet, OwnNet)) else None
    chosen = coding or own or Coding("spikes", values.shape[0])
    node = Input(values.shape[2:], chosen.message_bits, chosen.signed)
    if values.dtype.kind in "iub" or chosen.scale == 1:
        check_values({"input": node}, {"input": values})
    message = values if values.dtype.kind in "iub" else chosen.messages(values)
    if sample_input is None:
        sample_input = _sample(net, torch.from_numpy(chosen.to_float(message)))
    nir_graph = to_nir(net, sample_input, dt_s=dt_s, coding=coding)
    graph = lower(nir_graph, weight_bits=weight_bits, calibration=message)
    report = check_parity(
        graph,
        message,
        against=against,
        net=net,
        min_agreement=min_agreement,
        max_rate_difference=max_rate_difference,
    ).raise_on_mismatch()
    if report.silent:
        raise ParityError(
            f"layers {', '.join(report.silent)} never spiked, so their agreement proves nothing. Give "
            f"stronger input or more steps"
        )
    return report


def _sample(net: nn.Module, x: Tensor) -> Tensor:
    """``x``, all steps, as the forward takes them at once."""
    from biril_nm.engines.torch_net import taken_at_once
    from biril_nm.models.tracing import is_neuron
    from biril_nm.models.wrappers import module_of

    module = module_of(net)
    if not any(map(is_neuron, module.modules())):  # which is refused by name later
        return x[0]
    parameter = next(module.parameters(), x)
    return taken_at_once(module, x.to(parameter)).cpu()
