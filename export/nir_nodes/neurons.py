"""NIR neuron nodes to compartment dynamics: decay registers and the gains of weight and bias.

With Euler steps of width dt (u first, then v with the new u) every NIR neuron is

    u <- (1 - a) u + c_w (W x);   v <- (1 - g) v + u + c_b b + v_in;   spike if v > v_threshold

and what a spike does to v stands in the metadata (:mod:`biril_nm.export.nir_nodes.resets`).

=========  ==================  ==================  ============================  =============================
NIR node   a                   g                   weight gain c_w               constant drive
=========  ==================  ==================  ============================  =============================
IF         1                   0                   r, or dt r                   r b, or dt r b
LIF        1                   dt/tau              g r                           g (v_leak - v_reset + r b)
CubaLIF    dt/tau_syn          dt/tau_mem          g r (dt/tau_syn) w_in         g (v_leak - v_reset)
I          1                   0                   r, or dt r                   r b, or dt r b
LI         1                   dt/tau              g r                           g (v_leak + r b)
CubaLI     dt/tau_syn          dt/tau_mem          g r (dt/tau_syn) w_in         g v_leak
Threshold  1                   1                   1                             b
=========  ==================  ==================  ============================  =============================

v is counted from ``v_reset`` (``v_leak`` and ``v_threshold`` are shifted by it), so that a reset to zero
sets it to 0; it then starts at ``v_reset``. An affine bias in front of a CubaLIF passes its synaptic
filter; :mod:`float_net` turns it into a neuron that spikes at every step. By the letter of NIR an IF grows
by ``dt r x`` per step (``if_integration = continuous`` in the metadata of the node); snnTorch, sinabs
and Norse mean ``r x`` (``per_step``). The pass :mod:`settle` decides between them.

Sources: the NIR paper's ODEs (neuromorphs/NIR ``nir/ir/neuron.py``) and lava-nc's LIF, in which no gain
stands between u and v.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np

from biril_nm.arrays import FloatArray, Shape
from biril_nm.compartments import ZERO_AT_ONCE, SpikeReset
from biril_nm.errors import UnsupportedNodeError
from biril_nm.export.nir_nodes.fields import optional, real, unbounded
from biril_nm.export.nir_nodes.kinds import EXACT, Check, NodeKind
from biril_nm.export.nir_nodes.metadata import text, whole_between
from biril_nm.export.nir_nodes.repeats import distinct
from biril_nm.export.nir_nodes.resets import RESET_METADATA, written_reset

__all__ = [
    "ENDLESS_STEPS",
    "INTEGRATION",
    "LARGEST",
    "NEURON_KINDS",
    "Dynamics",
    "NeuronKind",
    "dynamics_of",
    "parameter_shape",
    "tau_steps",
    "v_reset",
]

# Time constant of a decay of 0, a leak far below the resolution of float32; a power of two, so that gains
# cancel exactly.
ENDLESS_STEPS = 2.0**40
# Metadata of IF and I: "per_step" or "continuous".
INTEGRATION = "if_integration"
# Metadata of Threshold: 1 where it stands for the largest of some spikes.
LARGEST = "largest"


@dataclass(frozen=True)
class Dynamics:
    """One neuron node in the form of the module docstring; arrays have the node's shape.

    Attributes:
        u_decay: a, fraction of u lost per step.
        v_decay: g, fraction of v lost per step.
        weight_gain: c_w.
        bias_gain: c_b, factor of an affine bias in front; 0 where it passes a filter.
        drive: constant drive from v_leak.
        threshold: v_threshold; infinite for neurons that do not spike.
        filtered_bias: whether an affine bias in front passes the synaptic filter.
        reset: what a spike does to v.
    """

    u_decay: FloatArray
    v_decay: FloatArray
    weight_gain: FloatArray
    bias_gain: FloatArray
    drive: FloatArray
    threshold: FloatArray
    filtered_bias: bool = False
    reset: SpikeReset = ZERO_AT_ONCE

    @property
    def spiking(self) -> bool:
        """Whether the neurons have thresholds."""
        return bool(np.all(np.isfinite(distinct(self.threshold))))


@dataclass(frozen=True)
class NeuronKind(NodeKind):
    """A node with memory, or with a threshold.

    Attributes:
        dynamics: (node, its name, dt in seconds) -> its dynamics.
    """

    dynamics: Callable[[Any, str, float], Dynamics] = field(kw_only=True)


def _arrays(node: Any, *names: str) -> list[FloatArray]:
    """Parameters, with length 1 where all neurons of an axis share them."""
    return [distinct(np.asarray(getattr(node, name), dtype=np.float64)) for name in names]


def v_reset(node: Any) -> FloatArray:
    """``v_reset`` of a node; 0 where it has none."""
    value = getattr(node, "v_reset", None)
    return distinct(np.asarray(0.0 if value is None else value, dtype=np.float64))


def _step_fraction(name: str, what: str, tau: FloatArray, dt_s: float) -> FloatArray:
    if np.any(tau <= 0) or np.any(np.isnan(tau)):
        raise UnsupportedNodeError(
            f"node '{name}': {what} is {tau.min()} s; expected more than 0 s"
        )
    with np.errstate(over="ignore"):  # infinite: refused below, as more than 1
        fraction = np.where(np.isinf(tau), 0.0, dt_s / tau)
    # tau = dt / (1 - beta) with beta = 0 gives dt / tau = 1 up to the rounding of float32 files.
    fraction = np.where((fraction > 1) & (fraction < 1 + 1e-6), 1.0, fraction)
    if np.any(fraction > 1):
        raise UnsupportedNodeError(
            f"node '{name}': {what} is {tau.min():.3g} s; expected dt_s = {dt_s:.3g} s or more. Choose a "
            f"smaller dt_s"
        )
    return np.asarray(fraction, dtype=np.float64)


def _gain(fraction: FloatArray, tau: FloatArray, dt_s: float, r: FloatArray) -> FloatArray:
    """``g r``, which stays finite where tau and r were both written as infinite."""
    both = np.isinf(tau) & np.isinf(r)
    return np.where(both, 1.0, fraction * np.where(both, 1.0, r))


def _integrate(node: Any, name: str, dt_s: float) -> Dynamics:
    (r,) = _arrays(node, "r")
    if node.metadata.get(INTEGRATION) == "continuous":
        r = r * dt_s
    one, zero = np.ones_like(r), np.zeros_like(r)
    return Dynamics(one, zero, r, r, zero, _threshold(node, r))


def _leaky(node: Any, name: str, dt_s: float) -> Dynamics:
    tau, r, v_leak = _arrays(node, "tau", "r", "v_leak")
    g = _step_fraction(name, "tau", tau, dt_s)
    gain = _gain(g, tau, dt_s, r)
    drive = g * (v_leak - v_reset(node))
    return Dynamics(np.ones_like(g), g, gain, gain, drive, _threshold(node, g))


def _cuba(node: Any, name: str, dt_s: float) -> Dynamics:
    tau_syn, tau_mem, r, v_leak, w_in = _arrays(node, "tau_syn", "tau_mem", "r", "v_leak", "w_in")
    a = _step_fraction(name, "tau_syn", tau_syn, dt_s)
    g = _step_fraction(name, "tau_mem", tau_mem, dt_s)
    gain = _gain(g, tau_mem, dt_s, r) * _gain(a, tau_syn, dt_s, w_in)
    drive = g * (v_leak - v_reset(node))
    return Dynamics(a, g, gain, np.zeros_like(g), drive, _threshold(node, g), filtered_bias=True)


def _compare(node: Any, name: str, dt_s: float) -> Dynamics:
    (threshold,) = _arrays(node, "threshold")
    one, zero = np.ones_like(threshold), np.zeros_like(threshold)
    return Dynamics(one, one, one, one, zero, threshold)


def _threshold(node: Any, like: FloatArray) -> FloatArray:
    value = getattr(node, "v_threshold", None)
    if value is None:
        return np.full_like(like, np.inf)
    return np.asarray(distinct(np.asarray(value, dtype=np.float64)) - v_reset(node))


_FACTS: dict[str, Check] = {
    **RESET_METADATA,
    INTEGRATION: text("per_step", "continuous"),
    LARGEST: whole_between(0, 1),
}
_SPIKE: dict[str, Check] = {"v_threshold": real, "v_reset": optional}
_INTEGRATOR: dict[str, Check] = {"r": unbounded}
_LEAKY: dict[str, Check] = {"tau": unbounded, "r": unbounded, "v_leak": real}
_CUBA: dict[str, Check] = {
    "tau_syn": unbounded, "tau_mem": unbounded, "r": unbounded, "v_leak": real, "w_in": unbounded,
}  # fmt: skip

_KINDS = (
    NeuronKind(
        nir.IF,
        "neurons with dv = 0; v grows by r x per step where r is 1 (snnTorch, sinabs, Norse), by dt r x, as "
        "NIR is written, where r is 1/dt (SpikingJelly); other values of r: pass `if_integration`",
        EXACT, {**_INTEGRATOR, **_SPIKE}, _FACTS, dynamics=_integrate,
    ),
    NeuronKind(
        nir.LIF, "neurons with dv = round(4096 dt/tau)", EXACT, {**_LEAKY, **_SPIKE}, _FACTS, dynamics=_leaky
    ),
    NeuronKind(
        nir.CubaLIF, "neurons with du and dv from tau_syn and tau_mem", EXACT, {**_CUBA, **_SPIKE},
        _FACTS, dynamics=_cuba,
    ),
    NeuronKind(
        nir.I, "integrator without spikes, as the last layer only; r as for IF", EXACT, _INTEGRATOR, _FACTS,
        dynamics=_integrate,
    ),
    NeuronKind(
        nir.LI,
        "leaky integrator without spikes as the last layer; between layers a filter: the synaptic current of "
        "the neurons behind, each of which sees one time constant", EXACT, _LEAKY, _FACTS,
        dynamics=_leaky,
    ),
    NeuronKind(
        nir.CubaLI, "leaky integrator with synaptic current; between layers if one decay is 1", EXACT, _CUBA,
        _FACTS, dynamics=_cuba,
    ),
    NeuronKind(
        nir.Threshold, "neurons without memory (dv = 4096)", EXACT, {"threshold": real}, _FACTS,
        dynamics=_compare,
    ),
)  # fmt: skip
NEURON_KINDS: dict[type, NeuronKind] = {kind.type: kind for kind in _KINDS}


def parameter_shape(node: nir.NIRNode) -> Shape:
    """The shape that all parameters of a neuron node have, apart from those that are shared."""
    values = [getattr(node, name, None) for name in NEURON_KINDS[type(node)].fields]
    return np.broadcast_shapes(*(np.shape(value) for value in values if value is not None))


def tau_steps(decay: FloatArray) -> FloatArray:
    """Time constant in steps of a decay fraction: ``1 / decay``, at most :data:`ENDLESS_STEPS`."""
    return np.asarray(1.0 / np.maximum(decay, 1.0 / ENDLESS_STEPS))


def dynamics_of(node: nir.NIRNode, name: str, dt_s: float, shape: Shape) -> Dynamics:
    """Dynamics of one NIR neuron node; arrays are views of ``shape``, which may repeat themselves.

    Raises:
        UnsupportedNodeError: a parameter has no counterpart on the chip.
    """
    found = NEURON_KINDS[type(node)].dynamics(node, name, dt_s)
    keys = ("u_decay", "v_decay", "weight_gain", "bias_gain", "drive", "threshold")
    arrays = {key: getattr(found, key) for key in keys}
    for key, array in arrays.items():
        if np.any(np.isnan(array)) or (key != "threshold" and np.any(np.isinf(array))):
            raise UnsupportedNodeError(
                f"node '{name}' ({type(node).__name__}): {key} is not finite; expected finite numbers. Write "
                f"beta = 1 as IF instead of an infinite tau"
            )
    if np.any(arrays["threshold"] <= 0):
        raise UnsupportedNodeError(
            f"node '{name}' ({type(node).__name__}): the threshold is {arrays['threshold'].min():g} above "
            f"v_reset; expected more than 0"
        )
    reset = written_reset(node.metadata) or ZERO_AT_ONCE
    full = {key: np.broadcast_to(array, shape) for key, array in arrays.items()}
    return Dynamics(**full, filtered_bias=found.filtered_bias, reset=reset)
