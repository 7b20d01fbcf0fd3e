"""The one place that knows how kernels are compiled and where their code is kept.

Kernels release the GIL, so that plain Python threads run them side by side: no numba threading
layer (TBB, OpenMP, workqueue) is ever started, which keeps forked processes (Lava) and foreign
threads safe. They allocate nothing and return numbers only, so reference counting, which costs
an atomic operation per array and call, is off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.extending import intrinsic

from biril_nm.loihi import registers

__all__ = ["clear", "instruction", "kernel", "part"]

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}


def kernel(function: F) -> F:
    """Compile a loop that Python calls, and keep the machine code on disk between runs.

    numba caches beside the module, or in the user's cache folder; where neither can be written the
    code is compiled again in each process.
    """
    try:
        compiled = numba.njit(function, cache=True, **OPTIONS)
    except RuntimeError:  # numba: "no locator available": no folder for the cache
        return cast(F, numba.njit(function, **OPTIONS))
    if not _stamp_with_all_sources(compiled):
        return cast(F, numba.njit(function, **OPTIONS))
    return cast(F, compiled)


def part(function: F) -> F:
    """Compile a piece of kernels; its code is kept with the kernels that use it."""
    return cast(F, numba.njit(function, **OPTIONS))


def instruction(function: Callable[..., Any]) -> Any:
    """A piece of kernels in LLVM instructions; callers leave out its first argument, the typing context."""
    return intrinsic(function)


def _stamp_with_all_sources(compiled: Any) -> bool:
    """Make the code on disk depend on every file that it comes from.

    numba drops it when the kernel's own file changes, but not when a part or a constant in another file
    does. The stamp has no public name: returns False where it cannot be set, and then nothing is cached.
    """
    index: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if not hasattr(index, "_source_stamp"):
        return False
    index._source_stamp = source_digest()
    return True


@cache
def source_digest() -> str:
    """Digest of all files that kernels are made of."""
    digest = hashlib.sha256()
    kernels = Path(__file__).resolve().parent
    for path in (*sorted(kernels.rglob("*.py")), Path(registers.__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@part
def clear(row: Any) -> None:
    """Set a vector to 0; numba compiles a loop much faster than a slice assignment."""
    for i in range(row.size):
        row[i] = 0
