"""How NIR's IF and I grow by their input in one step: a question that files answer in two ways.

By the letter of NIR, ``dv/dt = r x``, so v grows by ``dt r x`` per step (*continuous*). snnTorch, sinabs
and Norse count time in steps and write r = 1 for ``v += r x`` (*per step*); SpikingJelly writes
r = 1/dt for the same growth by the letter. So r decides where it can be one of the two only.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from biril_nm.export.nir_nodes.neurons import INTEGRATION
from biril_nm.export.nir_nodes.repeats import distinct

__all__ = ["CONTINUOUS", "INTEGRATIONS", "PER_STEP", "integration_of", "open_question"]

PER_STEP, CONTINUOUS = INTEGRATIONS = ("per_step", "continuous")
# Relative difference of r, or of r dt, from 1.
TOLERANCE = 1e-6


def integration_of(node: Any, asked: str | None, dt_s: float | None) -> str | None:
    """``per_step`` or ``continuous`` for an IF or I; None where the question is open.

    The node's metadata come first, then what the caller has ``asked`` for, then r.
    """
    if not isinstance(node, (nir.IF, nir.I)):
        return None
    known = node.metadata.get(INTEGRATION) or asked
    if known:
        return str(known)
    if _all_one(node.r):
        return PER_STEP
    if dt_s is not None and _all_one(distinct(node.r) * dt_s):
        return CONTINUOUS
    return None


def open_question(name: str, node: Any, dt_s: float | None) -> str:
    """What to ask the caller about a node without an answer."""
    r = np.asarray(node.r, dtype=np.float64)
    found = f"{r.min():g}" if r.min() == r.max() else f"{r.min():g} to {r.max():g}"
    return (
        f"node '{name}' ({type(node).__name__}): r is {found}; expected 1 (v grows by r x per step) or "
        f"1/dt (by dt r x, as NIR is written). Pass {'dt_s (--dt), or ' if dt_s is None else ''}"
        f"if_integration='per_step' or 'continuous' (--if-integration)"
    )


def _all_one(values: Any) -> bool:
    return bool(np.allclose(distinct(values), 1.0, rtol=0, atol=TOLERANCE))
