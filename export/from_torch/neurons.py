"""snnTorch neurons to NIR nodes: the equations of both sides, parameter by parameter.

snnTorch has no time unit; with step dt its ``beta`` means ``tau = dt / (1 - beta)``. NIR's input
gain is undone by ``r = tau / dt``, so that the Euler step of the NIR node is exactly snnTorch's
update. ``beta = 1`` is written as IF where all neurons have it, else (and for ``alpha = 1``) as a time
constant of :data:`ENDLESS_STEPS` steps, a leak far below the resolution of float32.
What NIR cannot say (reset kind, dt, reset delay) goes into the node's ``metadata``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import snntorch
import torch

from biril_nm.arrays import FloatArray, Shape
from biril_nm.errors import UnsupportedNodeError
from biril_nm.export.nir_nodes.neurons import tau_steps

__all__ = [
    "NEURONS",
    "STATES",
    "UNREACHABLE",
    "UNUSUAL",
    "neuron_node",
    "never_spikes",
    "recurrent_weight",
]


UNUSUAL = 1e4  # where only the membrane is read, thresholds from here on mean "does not spike"
UNREACHABLE = (
    2.0**24
)  # float32 cannot count up to it in steps of 1: the same where spikes are read too

STATES: dict[type, tuple[str, ...]] = {
    snntorch.Leaky: ("mem",),
    snntorch.Lapicque: ("mem",),
    snntorch.Synaptic: ("syn", "mem"),
    snntorch.RLeaky: ("spk", "mem"),
    snntorch.RSynaptic: ("spk", "syn", "mem"),
}
NEURONS = tuple(STATES)
_DROPS_INPUT = (snntorch.Lapicque, snntorch.Synaptic, snntorch.RLeaky, snntorch.RSynaptic)
_ALWAYS_DELAYED = (
    snntorch.Lapicque,
    snntorch.RSynaptic,
)  # snnTorch 1.0.0 cannot reset them at once


@dataclass(frozen=True)
class _Update:
    """``syn = alpha syn + x; mem = beta mem + gain syn`` (without alpha: ``+ gain x``)."""

    beta: FloatArray
    gain: FloatArray
    alpha: FloatArray | None = None


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


def _check_plain(module: Any, name: str) -> None:
    """Refuse options that change what a spike is and that NIR cannot say."""
    findings = []
    if module.inhibition:
        findings.append("inhibition=True (only the strongest neuron spikes)")
    if module.state_quant:
        findings.append("state_quant (a quantised float membrane)")
    if not _is_step(module.spike_grad):
        findings.append("a spike_grad whose forward is no step (1 above the threshold, else 0)")
    factor = np.asarray(module.graded_spikes_factor.detach().cpu().numpy())
    if not np.all(factor == 1):
        findings.append(f"graded_spikes_factor={factor} (scale the next layer's weights instead)")
    if findings:
        raise UnsupportedNodeError(
            f"layer '{name}' ({type(module).__name__}) uses {'; '.join(findings)}: NIR has no node "
            f"for it. Train without it"
        )


def _is_step(spike_grad: Any) -> bool:
    """Whether a spike function sends 1 above 0 and 0 else; its derivative is of no matter here."""
    above = torch.tensor([-10.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 10.0])
    with torch.no_grad():
        sent = spike_grad(above)
    return isinstance(sent, torch.Tensor) and torch.equal(sent.float(), (above > 0).float())


def _update(module: Any, name: str, shape: Shape) -> _Update:
    """The layer's linear update.

    Lapicque: ``mem = (1 - dt/(R C)) mem + (dt/C) x`` with snnTorch's own ``time_step`` as dt.
    """
    if isinstance(module, snntorch.Lapicque):
        step = _full(module.time_step, shape, name, "time_step")
        r, c = _full(module.R, shape, name, "R"), _full(module.C, shape, name, "C")
        leak = step / (r * c)
        if np.any(leak <= 0) or np.any(leak > 1):
            raise UnsupportedNodeError(
                f"layer '{name}' (Lapicque) loses {leak.min():.3g} to {leak.max():.3g} of its membrane per "
                f"step; a stable neuron loses 0 to 1: make R C at least time_step"
            )
        return _Update(1.0 - leak, step / c)
    beta = _full(module.beta.clamp(0, 1), shape, name, "beta")
    if isinstance(module, (snntorch.Synaptic, snntorch.RSynaptic)):
        alpha = _full(module.alpha.clamp(0, 1), shape, name, "alpha")
        return _Update(beta, np.ones(shape), alpha)
    return _Update(beta, np.ones(shape))


def _metadata(module: Any, dt_s: float) -> dict[str, Any]:
    delayed = isinstance(module, _ALWAYS_DELAYED) or bool(getattr(module, "reset_delay", True))
    reset = str(module.reset_mechanism)
    facts: dict[str, Any] = {"reset": reset, "reset_delay": int(delayed), "dt": float(dt_s)}
    if reset == "zero" and delayed and isinstance(module, _DROPS_INPUT):
        facts["reset_drops_input"] = 1
    return facts


def never_spikes(module: Any, level: float) -> bool:
    """Whether all thresholds are at ``level`` or above, so that the layer is meant as an integrator."""
    return bool(np.all(np.asarray(module.threshold.detach().cpu().numpy()) >= level))


def neuron_node(module: Any, name: str, shape: Shape, dt_s: float, spiking: bool) -> nir.NIRNode:
    """The NIR node of one layer: IF, LIF, CubaLIF, or I, LI, CubaLI where only mem is read.

    ``v += dt/tau (v_leak - v + r x)`` with ``tau = dt/(1 - beta)`` and ``r = gain tau/dt``;
    CubaLIF the same with ``tau_syn = dt/(1 - alpha)``, ``w_in = tau_syn/dt``. IF: ``v += r x`` per step
    (the step width is left out, as snnTorch and sinabs do).
    """
    _check_plain(module, name)
    update = _update(module, name, shape)
    metadata = _metadata(module, dt_s)
    threshold = {
        "v_threshold": _full(module.threshold, shape, name, "threshold"),
        "v_reset": np.zeros(shape),
    }
    if not spiking:
        threshold, metadata = {}, {"dt": float(dt_s), "readout": "membrane"}
    if update.alpha is None and np.all(update.beta == 1.0):
        metadata["if_integration"] = "per_step"
        kind = nir.IF if spiking else nir.I
        return kind(r=update.gain, metadata=metadata, **threshold)
    steps = tau_steps(1.0 - update.beta)
    common: Mapping[str, Any] = {
        "r": update.gain * steps,
        "v_leak": np.zeros(shape),
        "metadata": metadata,
        **threshold,
    }
    if update.alpha is None:
        return (nir.LIF if spiking else nir.LI)(tau=steps * dt_s, **common)
    syn_steps = tau_steps(1.0 - update.alpha)
    kind = nir.CubaLIF if spiking else nir.CubaLI
    return kind(tau_syn=syn_steps * dt_s, tau_mem=steps * dt_s, w_in=syn_steps, **common)


def recurrent_weight(module: Any) -> Any:
    """The torch layer of the loop of RLeaky and RSynaptic, None for other neurons."""
    return getattr(module, "recurrent", None)
