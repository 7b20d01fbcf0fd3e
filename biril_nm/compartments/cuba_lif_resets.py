"""CUBA-LIF with the other resets of its kind: by the threshold, one step late, or none at all.

Lava has none of them. Each is a step of its own around :func:`integrate`; registers, decays, wrap and clip
are those of :mod:`biril_nm.compartments.cuba_lif`. A reset that comes one step late needs no word of state:
v is still above the threshold then.

Sources: snntorch 1.0.0 ``_neurons/leaky.py``, ``synaptic.py``, ``rleaky.py``, ``rsynaptic.py``,
``lapicque.py`` (``reset_mechanism`` and ``reset_delay``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from biril_nm.compartments.cuba_lif import CUBA_LIF, U_STEP, V_GROWTH, integrate
from biril_nm.compartments.model import PROGRAM, CompartmentModel, SpikeReset
from biril_nm.loihi.integers import to_int32
from biril_nm.loihi.registers import ResetMode

__all__ = ["RESET_MODELS"]

State = tuple[Any, ...]


def subtract(a: Any, state: State, constants: State) -> tuple[Any, Any]:
    """A spike takes the threshold from v at once."""
    u, v = state
    keep_u, keep_v, bias, threshold = constants
    u, v = integrate(a, u, v, keep_u, keep_v, bias)
    s = 1 * (v > threshold)
    return (u, to_int32(v - s * threshold)), s


def subtract_guarded(a: Any, state: State, constants: State) -> tuple[Any, Any]:
    """The same; while v is still above the threshold from before, a spike needs twice the threshold."""
    u, v = state
    keep_u, keep_v, bias, threshold = constants
    still = 1 * (v > threshold)
    u, v = integrate(a, u, v, keep_u, keep_v, bias)
    s = 1 * (to_int32(v - still * threshold) > threshold)
    return (u, to_int32(v - s * threshold)), s


def subtract_delayed(a: Any, state: State, constants: State) -> tuple[Any, Any]:
    """The spike of the step before takes the threshold from v within its sum."""
    u, v = state
    keep_u, keep_v, bias, threshold = constants
    before = 1 * (v > threshold)
    u, v = integrate(a, u, v, keep_u, keep_v, bias - before * threshold)
    return (u, v), 1 * (v > threshold)


def zero_delayed(a: Any, state: State, constants: State) -> tuple[Any, Any]:
    """The spike of the step before sets v to 0 before v integrates."""
    u, v = state
    keep_u, keep_v, bias, threshold = constants
    before = 1 * (v > threshold)
    u, v = integrate(a, u, v * (1 - before), keep_u, keep_v, bias)
    return (u, v), 1 * (v > threshold)


def zero_delayed_lossy(a: Any, state: State, constants: State) -> tuple[Any, Any]:
    """The spike of the step before sets v to 0 after v has integrated; u goes on."""
    u, v = state
    keep_u, keep_v, bias, threshold = constants
    before = 1 * (v > threshold)
    u, v = integrate(a, u, v, keep_u, keep_v, bias)
    v = v * (1 - before)
    return (u, v), 1 * (v > threshold)


def unreset(a: Any, state: State, constants: State) -> tuple[Any, Any]:
    """A spike leaves v as it is: a spike at every step above the threshold."""
    u, v = state
    keep_u, keep_v, bias, threshold = constants
    u, v = integrate(a, u, v, keep_u, keep_v, bias)
    return (u, v), 1 * (v > threshold)


_BEFORE = "(v > (vth << 6))"  # of the step before, where v stands on the right of its own equation


def _model(
    suffix: str, doc: str, step: Callable[..., Any], reset: SpikeReset, v: str, s: str
) -> CompartmentModel:
    return replace(
        CUBA_LIF,
        name=f"{CUBA_LIF.name}_{suffix}",
        doc=doc,
        equation=f"{U_STEP}; {v}; {s}",
        step=step,
        reset=reset,
        chips={"loihi2": PROGRAM},
        netx_refusal="its neurons reset v to 0 at once",
        lava_process="",
    )


_FIRES = "s = v > (vth << 6)"
_FALLS = f"{_FIRES}; v = v - s * (vth << 6)"

# CUBA-LIF with the other resets of snnTorch, each a program of Loihi 2.
RESET_MODELS: tuple[CompartmentModel, ...] = (
    _model(
        "subtract", "CUBA-LIF whose spikes take the threshold from v", subtract,
        SpikeReset(ResetMode.SUBTRACT), f"v = clip({V_GROWTH})", _FALLS,
    ),
    _model(
        "subtract_guarded",
        "CUBA-LIF whose spikes take the threshold from v as in snnTorch with reset_delay=False: v that is "
        "still above the threshold needs twice as much for a spike",
        subtract_guarded, SpikeReset(ResetMode.SUBTRACT, guarded=True),
        f"g = v > (vth << 6); v = clip({V_GROWTH})",
        "s = v - g * (vth << 6) > (vth << 6); v = v - s * (vth << 6)",
    ),
    _model(
        "subtract_delayed",
        "CUBA-LIF whose spikes take the threshold from v one step late: snnTorch's default neuron",
        subtract_delayed,
        SpikeReset(ResetMode.SUBTRACT, delayed=True),
        f"v = clip({V_GROWTH} - {_BEFORE} * (vth << 6))", _FIRES,
    ),
    _model(
        "zero_delayed", "CUBA-LIF whose v shows its peak for one step; its spikes are those of CUBA-LIF",
        zero_delayed, SpikeReset(delayed=True),
        f"v = 0 where {_BEFORE}; v = clip({V_GROWTH})", _FIRES,
    ),
    _model(
        "zero_delayed_lossy",
        "CUBA-LIF whose v is 0 through the step after a spike: snnTorch's delayed reset to zero of "
        "Synaptic, RLeaky, RSynaptic and Lapicque",
        zero_delayed_lossy, SpikeReset(delayed=True, loses_input=True),
        f"v = clip({V_GROWTH}) * (1 - {_BEFORE})", _FIRES,
    ),
    _model(
        "none", "CUBA-LIF without reset: a spike at every step above the threshold", unreset,
        SpikeReset(ResetMode.NONE), f"v = clip({V_GROWTH})", _FIRES,
    ),
)  # fmt: skip
