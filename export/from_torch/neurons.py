"""snnTorch neurons to NIR nodes: the equations of both sides, parameter by parameter.

snnTorch has no time unit; with step dt its ``beta`` means ``tau = dt / (1 - beta)``. NIR's input
gain is undone by ``r = tau / dt``, so that the Euler step of the NIR node is exactly snnTorch's
update. ``beta = 1`` is written as IF where all neurons have it, else (and for ``alpha = 1``) as a time
constant of :data:`ENDLESS_STEPS` steps, a leak far below the resolution of float32.
What NIR cannot say (reset kind, dt, reset delay) goes into the node's ``metadata``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nir
import numpy as np
import snntorch
import torch

from biril_nm.arrays import FloatArray, Shape
from biril_nm.errors import UnsupportedNodeError
from biril_nm.export.from_torch.kinds import NeuronKind, Update, check_fields, one_of
from biril_nm.export.nir_nodes.kinds import EXACT, REFUSED, Case, Check
from biril_nm.export.nir_nodes.neurons import tau_steps
from biril_nm.neurons.plif import AveragingLeaky

__all__ = [
    "NEURONS",
    "REFUSED_OPTIONS",
    "UNREACHABLE",
    "UNUSUAL",
    "is_memoryless",
    "neuron_node",
    "never_spikes",
    "recurrent_weight",
]


# Where only the membrane is read, thresholds from here on mean "does not spike".
UNUSUAL = 1e4
# The same where spikes are read too: counting in steps of 1, float32 does not get beyond it.
UNREACHABLE = 2.0**24
WITHOUT = "Train without it"


def _full(value: Any, shape: Shape, name: str, what: str) -> FloatArray:
    """A scalar, per-channel or per-neuron parameter as a float64 array of the layer's shape."""
    array = np.asarray(value.detach().cpu().numpy(), dtype=np.float64)
    if array.ndim > len(shape) and array.shape[0] == 1:
        array = array[0]
    try:
        return np.array(np.broadcast_to(array, shape))
    except ValueError:
        raise UnsupportedNodeError(
            f"layer '{name}': {what} has shape {array.shape}; expected one value, one per channel as "
            f"(C, 1, 1), or one per neuron as {shape}"
        ) from None


def _step_function(what: str, spike_grad: Any) -> Any:
    """A spike function that sends 1 above 0 and 0 elsewhere; its derivative does not matter here."""
    above = torch.tensor([-10.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 10.0])
    with torch.no_grad():
        sent = spike_grad(above)
    if not isinstance(sent, torch.Tensor) or not torch.equal(sent.float(), (above > 0).float()):
        raise UnsupportedNodeError(
            f"{what} is a function whose forward is not a step; expected 1 above the threshold, else 0. "
            f"{WITHOUT}"
        )
    return spike_grad


def _all_one(what: str, value: Any) -> Any:
    factor = np.asarray(value.detach().cpu().numpy())
    if not np.all(factor == 1):
        raise UnsupportedNodeError(
            f"{what} is {factor}; expected 1. Scale the weights of the next layer instead"
        )
    return value


def _lapicque(module: Any, name: str, shape: Shape) -> Update:
    """``mem = (1 - dt/(R C)) mem + (dt/C) x`` with snnTorch's own ``time_step`` as dt."""
    step = _full(module.time_step, shape, name, "time_step")
    r, c = _full(module.R, shape, name, "R"), _full(module.C, shape, name, "C")
    leak = step / (r * c)
    if np.any(leak <= 0) or np.any(leak > 1):
        raise UnsupportedNodeError(
            f"layer '{name}' (Lapicque): the leak is {leak.min():.3g} to {leak.max():.3g} per step; expected "
            f"0 to 1, as a stable neuron has. Make R C at least time_step"
        )
    return Update(1.0 - leak, step / c)


def _leaky(module: Any, name: str, shape: Shape) -> Update:
    return Update(_full(module.beta.clamp(0, 1), shape, name, "beta"), np.ones(shape))


def _averaging(module: Any, name: str, shape: Shape) -> Update:
    gain = _full(module.gain, shape, name, "gain")
    return Update(1.0 - gain, gain)


def _synaptic(module: Any, name: str, shape: Shape) -> Update:
    beta = _full(module.beta.clamp(0, 1), shape, name, "beta")
    return Update(beta, np.ones(shape), _full(module.alpha.clamp(0, 1), shape, name, "alpha"))


def _metadata(kind: NeuronKind, module: Any, dt_s: float) -> dict[str, Any]:
    delayed = kind.always_delayed or bool(getattr(module, "reset_delay", True))
    reset = str(module.reset_mechanism)
    _refuse_two_resets(module, reset)
    facts: dict[str, Any] = {"reset": reset, "reset_delay": int(delayed), "dt": float(dt_s)}
    if reset == "zero" and delayed and kind.drops_input:
        facts["reset_drops_input"] = 1
    if reset == "subtract" and not delayed:
        facts["reset_guarded"] = 1  # "avoid double reset", says snnTorch
    return facts


def _refuse_two_resets(module: Any, reset: str) -> None:
    """A neuron chooses its update when it is made; a later change of its reset reaches only a part of it."""
    value, update = RESETS[reset]
    if int(module.reset_mechanism_val) != value or module.state_function.__name__ != update:
        raise UnsupportedNodeError(
            f"reset_mechanism of a {type(module).__name__} became '{reset}' after it was made, so that it "
            f"resets in two ways; expected one. Make it again with reset_mechanism='{reset}'"
        )


def never_spikes(module: Any, level: float) -> bool:
    """Whether all thresholds are at ``level`` or above, so that the layer is meant as an integrator."""
    return bool(np.all(np.asarray(module.threshold.detach().cpu().numpy()) >= level))


def is_memoryless(module: Any) -> bool:
    """Whether spikes depend on the input of their own step only."""
    decays = [getattr(module, name, None) for name in ("beta", "alpha")]
    keeps = any(value is not None and bool(torch.any(value.clamp(0, 1) != 0)) for value in decays)
    # By subtraction v keeps a surplus, and Leaky alone loses no input in the step after a late reset.
    at_once = not getattr(module, "reset_delay", True) or isinstance(module, snntorch.Leaky)
    forgets = module.reset_mechanism == "none" or (module.reset_mechanism == "zero" and at_once)
    return isinstance(module, (snntorch.Leaky, snntorch.Synaptic)) and not keeps and forgets


def neuron_node(
    kind: NeuronKind, module: Any, name: str, shape: Shape, dt_s: float, spiking: bool
) -> nir.NIRNode:
    """The NIR node of one layer: IF, LIF, CubaLIF, or I, LI, CubaLI where only mem is read.

    ``v += dt/tau (v_leak - v + r x)`` with ``tau = dt/(1 - beta)`` and ``r = gain tau/dt``;
    CubaLIF the same with ``tau_syn = dt/(1 - alpha)``, ``w_in = tau_syn/dt``. IF: ``v += r x`` per step
    (the step width is left out, as snnTorch and sinabs do).
    """
    check_fields(kind, module, name)
    update = kind.update(module, name, shape)
    metadata = _metadata(kind, module, dt_s)
    threshold = {
        "v_threshold": _full(module.threshold, shape, name, "threshold"),
        "v_reset": np.zeros(shape),
    }
    if not spiking:
        threshold, metadata = {}, {"dt": float(dt_s), "readout": "membrane"}
    if update.alpha is None and np.all(update.beta == 1.0):
        metadata["if_integration"] = "per_step"
        return (nir.IF if spiking else nir.I)(r=update.gain, metadata=metadata, **threshold)
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
    node = nir.CubaLIF if spiking else nir.CubaLI
    return node(tau_syn=syn_steps * dt_s, tau_mem=steps * dt_s, w_in=syn_steps, **common)


def recurrent_weight(module: Any) -> Any:
    """The torch layer of the loop of RLeaky and RSynaptic, None for other neurons."""
    return getattr(module, "recurrent", None)


# snnTorch's number of a reset, and its method that updates the state.
RESETS = {"subtract": (0, "_base_sub"), "zero": (1, "_base_zero"), "none": (2, "_base_int")}
_COMPARES = (
    "Only the neuron of the largest membrane spikes then, and neurons of the chip learn of each other one "
    "step later"
)
_ROUNDS = "Membranes of the chip are integers of 24 bits and pass no function"
_PLAIN: dict[str, Check] = {
    "inhibition": one_of(False, way_out=f"{_COMPARES}. {WITHOUT}, or inhibit by weights (RLeaky)"),
    "state_quant": one_of(False, way_out=f"{_ROUNDS}. {WITHOUT}"),
    "spike_grad": _step_function,
    "graded_spikes_factor": _all_one,
}

# snnTorch 1.0.0 cannot reset Lapicque and RSynaptic within the step of the spike.
_KINDS = (
    NeuronKind(
        snntorch.Leaky, "LIF, or IF if beta = 1; LI or I if only its membrane is read", EXACT, _PLAIN,
        states=("mem",), update=_leaky,
    ),
    NeuronKind(
        AveragingLeaky, "LIF with r = 1: the gain 1 / tau goes into the weights", EXACT, _PLAIN,
        states=("mem",), update=_averaging,
    ),
    NeuronKind(
        snntorch.Lapicque, "LIF with tau = R C", EXACT, _PLAIN,
        states=("mem",), update=_lapicque, always_delayed=True, drops_input=True,
    ),
    NeuronKind(
        snntorch.Synaptic, "CubaLIF; CubaLI if only its membrane is read", EXACT, _PLAIN,
        states=("syn", "mem"), update=_synaptic, drops_input=True,
    ),
    NeuronKind(
        snntorch.RLeaky, "LIF with a loop of one connection, all-to-all, convolutional or one-to-one",
        EXACT, _PLAIN, states=("spk", "mem"), update=_leaky, drops_input=True,
    ),
    NeuronKind(
        snntorch.RSynaptic, "CubaLIF with a loop of one connection", EXACT, _PLAIN,
        states=("spk", "syn", "mem"), update=_synaptic, always_delayed=True, drops_input=True,
    ),
)  # fmt: skip
NEURONS: dict[type, NeuronKind] = {kind.type: kind for kind in _KINDS}

REFUSED_OPTIONS = (
    Case("inhibition=True", _COMPARES, REFUSED),
    Case("state_quant", _ROUNDS, REFUSED),
    Case(
        "spike_grad", "a function whose forward is not a step sends no spikes of height 1", REFUSED
    ),
    Case(
        "graded_spikes_factor", "other than 1: scale the weights of the next layer instead", REFUSED
    ),
)
