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
from numba.extending import intrinsic, overload

from biril_nm import compartments, loihi
from biril_nm.storage.machine_code import NO_WRAPPERS, folder_of, kept

__all__ = [
    "BoundKernels",
    "choice",
    "clear",
    "inlined",
    "instruction",
    "is_loaded",
    "kernel",
    "part",
]

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
PART_OPTIONS: dict[str, Any] = {**OPTIONS, **NO_WRAPPERS}


def kernel(function: F) -> F:
    """Compile a loop that Python calls, and keep the machine code on disk between runs.

    :func:`biril_nm.storage.machine_code.kept` says where. Code is not kept where nothing would show that it
    was made from other sources.
    """
    compiled: Any = kept(function, **OPTIONS)
    if folder_of(compiled) is None:
        return cast(F, compiled)
    # numba drops code when the kernel's own file changes, but not when a part or a constant elsewhere does.
    compiled._cache._cache_file._source_stamp = source_digest() + _digest_outside(function)
    return cast(F, compiled)


class BoundKernels:
    """Kernels called by name, without the look-up of argument types at each call.

    numba needs 17 us to find the types of a link and a node, and 1 us to call. Nothing checks the types
    of later arguments of a name: arrays must keep dtype, dimensions and layout.
    """

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], Callable[..., Any]] = {}

    def call(self, kernel: Callable[..., Any], name: str, *arguments: Any) -> Any:
        """Result of the kernel; ``name`` stands for the types of the arguments."""
        return self.code(kernel, name, *arguments)(*arguments)

    def code(self, kernel: Callable[..., Any], name: str, *arguments: Any) -> Callable[..., Any]:
        """The compiled kernel for arguments of these types."""
        key = (kernel.__name__, name)
        if key not in self._code:
            compiled: Any = kernel
            types = tuple(map(numba.typeof, arguments))
            compiled.compile(types)
            self._code[key] = compiled.overloads[types].entry_point
        return self._code[key]


def is_loaded(function: Any) -> bool:
    """Whether this process has machine code of a kernel."""
    return bool(function.overloads)


def part(function: F) -> F:
    """Compile a piece of kernels; its code is kept with the kernels that use it."""
    return cast(F, numba.njit(function, **PART_OPTIONS))


def inlined(function: F) -> F:
    """A part whose statements are compiled with those of its caller.

    For short loops over many arrays, which take no longer than a call with all of them as arguments. numba
    copies the statements, and is slow where many parts become one function.
    """
    return cast(F, numba.njit(function, inline="always", **PART_OPTIONS))


def instruction(function: Callable[..., Any]) -> Any:
    """A piece of kernels in LLVM instructions; callers leave out its first argument, the typing context."""
    return intrinsic(function)


def choice(function: Callable[..., Any]) -> Any:
    """A piece of kernels chosen by ``function``: from the types of the arguments to a plain function.

    The plain function takes arguments of the same names.
    """

    def chosen(*arguments: Any) -> Any:
        raise NotImplementedError  # stands for the piece in compiled code only

    overload(chosen, jit_options=PART_OPTIONS)(function)
    return chosen


@cache
def source_digest() -> str:
    """Digest of all files that kernels are made of."""
    digest = hashlib.sha256()
    kernels = Path(__file__).resolve().parent
    floors = (Path(str(package.__file__)).parent for package in (loihi, compartments))
    for folder in (kernels, *floors):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _digest_outside(function: Any) -> str:
    """Digest of the file of a kernel that lies elsewhere; empty for those beside this file."""
    path = Path(function.__code__.co_filename).resolve()
    if path.parent == Path(__file__).resolve().parent:
        return ""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@part
def clear(row: Any) -> None:
    """Set a vector to 0; numba compiles a loop much faster than a slice assignment."""
    for i in range(row.size):
        row[i] = 0
