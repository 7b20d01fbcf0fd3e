"""Export: torch to NIR, NIR to integers, integers to back ends. Names resolve on first use."""

from __future__ import annotations

import importlib

TYPE_CHECKING = not __name__  # False, and not the literal, behind which jedi sees nothing
if TYPE_CHECKING:  # for type checkers and editors
    from typing import Any

    from biril_nm.export.backends import get_backend
    from biril_nm.export.from_torch import to_nir
    from biril_nm.export.lowering import lower
    from biril_nm.export.netx import read_netx, with_input_bias, write_netx
    from biril_nm.export.nir_nodes.coding import with_coding
    from biril_nm.export.to_torch.reading import from_nir

_EXPORTS = {
    "from_nir": "biril_nm.export.to_torch.reading",
    "get_backend": "biril_nm.export.backends",
    "lower": "biril_nm.export.lowering",
    "read_netx": "biril_nm.export.netx",
    "to_nir": "biril_nm.export.from_torch",
    "with_coding": "biril_nm.export.nir_nodes.coding",
    "with_input_bias": "biril_nm.export.netx",
    "write_netx": "biril_nm.export.netx",
}

__all__ = [
    "from_nir",
    "get_backend",
    "lower",
    "read_netx",
    "to_nir",
    "with_coding",
    "with_input_bias",
    "write_netx",
]


if not TYPE_CHECKING:  # which would let type checkers take any name

    def __getattr__(name: str) -> Any:
        if name not in _EXPORTS:
            raise AttributeError(f"module 'biril_nm.export' has no attribute '{name}'")
        return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
