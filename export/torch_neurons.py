"""snnTorch neurons to NIR nodes: the equations of both sides, parameter by parameter.

snnTorch has no time unit; with step dt its ``beta`` means ``tau = dt / (1 - beta)``. NIR's input
gain is undone by ``r = tau / dt``, so that the Euler step of the NIR node is exactly snnTorch's
update. What NIR cannot say (reset kind, dt, reset delay) goes into the node's ``metadata``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import snntorch
from numpy.typing import NDArray

from biril_nm.errors import UnsupportedNodeError

__all__ = ["NEURON_MAP"]

FloatArray = NDArray[np.float64]
Shape = tuple[int, ...]


def _full(value: Any, shape: Shape, name: str, what: str) -> FloatArray:
    """A scalar, per-channel or per-neuron parameter as a float64 array of the layer's shape."""
    array = np.asarray(value.detach().cpu().numpy(), dtype=np.float64)
    if array.ndim > len(shape) and array.shape[0] == 1:
        array = array[0]
    try:
        return np.array(np.broadcast_to(array, shape))
    except ValueError:
        raise UnsupportedNodeError(
            f"layer '{name}': {what} has shape {array.shape}, which does not fit neurons of shape "
            f"{shape}; give one value, or one per channel as (C, 1, 1), or one per neuron"
        ) from None


def _metadata(module: Any, dt_s: float) -> dict[str, Any]:
    return {
        "reset": str(module.reset_mechanism),
        "reset_delay": int(bool(module.reset_delay)),
        "dt": float(dt_s),
    }


def _check_plain(module: Any, name: str) -> None:
    """Refuse options that change what a spike is and that NIR cannot say."""
    findings = []
    if module.inhibition:
        findings.append("inhibition=True (only the strongest neuron spikes)")
    if module.state_quant:
        findings.append("state_quant (a quantised float membrane)")
    factor = np.asarray(module.graded_spikes_factor.detach().cpu().numpy())
    if not np.all(factor == 1):
        findings.append(f"graded_spikes_factor={factor} (scale the next layer's weights instead)")
    if findings:
        raise UnsupportedNodeError(
            f"layer '{name}' ({type(module).__name__}) uses {'; '.join(findings)}: NIR has no node "
            f"for it. Train without it"
        )


def leaky(module: Any, name: str, shape: Shape, dt_s: float) -> nir.NIRNode:
    """``mem = beta mem + x``: NIR LIF, or IF where beta is 1 everywhere.

    LIF: ``v += dt/tau (v_leak - v + r x)`` with ``tau = dt/(1 - beta)``, ``r = tau/dt``.
    IF: ``v += r x`` per step with r = 1 (the step width is left out, as snnTorch and sinabs do).
    """
    _check_plain(module, name)
    beta = _full(module.beta.clamp(0, 1), shape, name, "beta")
    threshold = _full(module.threshold, shape, name, "threshold")
    zeros = np.zeros(shape)
    metadata = _metadata(module, dt_s)
    if np.all(beta == 1.0):
        metadata["if_integration"] = "per_step"
        return nir.IF(r=np.ones(shape), v_threshold=threshold, v_reset=zeros, metadata=metadata)
    if np.any(beta == 1.0):
        raise UnsupportedNodeError(
            f"layer '{name}': beta is 1 for some neurons and below 1 for others; NIR needs two "
            f"layers for that (IF has no finite tau)"
        )
    tau = dt_s / (1.0 - beta)
    return nir.LIF(
        tau=tau,
        r=tau / dt_s,
        v_leak=zeros,
        v_threshold=threshold,
        v_reset=zeros.copy(),
        metadata=metadata,
    )


def synaptic(module: Any, name: str, shape: Shape, dt_s: float) -> nir.NIRNode:
    """``syn = alpha syn + x; mem = beta mem + syn``: NIR CubaLIF with all gains cancelled to 1.

    ``tau_syn = dt/(1 - alpha)``, ``w_in = tau_syn/dt``, ``tau_mem = dt/(1 - beta)``,
    ``r = tau_mem/dt``.
    """
    _check_plain(module, name)
    alpha = _full(module.alpha.clamp(0, 1), shape, name, "alpha")
    beta = _full(module.beta.clamp(0, 1), shape, name, "beta")
    if np.any(alpha == 1.0) or np.any(beta == 1.0):
        raise UnsupportedNodeError(
            f"layer '{name}': alpha or beta is 1, which NIR CubaLIF cannot say (its time constants "
            f"would be infinite); use values below 1"
        )
    tau_syn, tau_mem = dt_s / (1.0 - alpha), dt_s / (1.0 - beta)
    zeros = np.zeros(shape)
    return nir.CubaLIF(
        tau_syn=tau_syn,
        tau_mem=tau_mem,
        r=tau_mem / dt_s,
        v_leak=zeros,
        v_threshold=_full(module.threshold, shape, name, "threshold"),
        v_reset=zeros.copy(),
        w_in=tau_syn / dt_s,
        metadata=_metadata(module, dt_s),
    )


NEURON_MAP: dict[type, Callable[[Any, str, Shape, float], nir.NIRNode]] = {
    snntorch.Leaky: leaky,
    snntorch.Synaptic: synaptic,
}
