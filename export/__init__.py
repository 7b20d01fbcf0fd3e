"""Export: torch to NIR, NIR to integers, integers to back ends. Names resolve on first use."""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "get_backend": "biril_nm.export.backends",
    "lower": "biril_nm.export.lowering",
    "read_netx": "biril_nm.export.netx",
    "to_nir": "biril_nm.export.from_torch",
    "with_coding": "biril_nm.export.nir_nodes.coding",
    "with_input_bias": "biril_nm.export.netx",
    "write_netx": "biril_nm.export.netx",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'biril_nm.export' has no attribute '{name}'")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
