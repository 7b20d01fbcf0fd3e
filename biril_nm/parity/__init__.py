"""Parity: do torch, the integer simulator and Lava agree, and if not, where do they differ first?"""

from __future__ import annotations

import warnings
from typing import Any

from biril_nm.engines import available_engines
from biril_nm.parity.agreement import MAX_RATE_DIFFERENCE, MIN_AGREEMENT, FloatAgreement
from biril_nm.parity.check import check_parity
from biril_nm.parity.comparison import Mismatch, compare, compare_learning
from biril_nm.parity.report import ParityReport

__all__ = [
    "MAX_RATE_DIFFERENCE",
    "MIN_AGREEMENT",
    "FloatAgreement",
    "Mismatch",
    "ParityReport",
    "check_parity",
    "compare",
    "compare_learning",
]


def __getattr__(name: str) -> Any:
    if name != "ENGINES":
        raise AttributeError(f"module 'biril_nm.parity' has no attribute '{name}'")
    warnings.warn(
        "'biril_nm.parity.ENGINES' is now biril_nm.engines.available_engines()",
        DeprecationWarning,
        stacklevel=2,
    )
    return available_engines()
