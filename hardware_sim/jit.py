"""The one place that knows how kernels are compiled.

Kernels release the GIL, so that plain Python threads run them side by side: no numba threading
layer (TBB, OpenMP, workqueue) is ever started, which keeps forked processes (Lava) and foreign
threads safe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["compiled", "inlined"]

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile ``function`` to machine code and keep the code on disk between runs.

    numba caches beside the module, or in the user's cache folder; where neither can be written the
    code is compiled again in each process.
    """
    try:
        return cast(F, numba.njit(function, cache=True, nogil=True, error_model="numpy"))
    except RuntimeError:  # numba: "no locator available": no folder for the cache
        return cast(F, numba.njit(function, cache=False, nogil=True, error_model="numpy"))


def inlined(function: F) -> F:
    """Compile ``function`` as a part of the kernels that call it."""
    return cast(F, numba.njit(function, inline="always", error_model="numpy"))
