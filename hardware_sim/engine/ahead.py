"""The first run on a machine: kernels that no folder holds yet are compiled in two processes at once.

The other process leaves its half on disk, where this one finds it: whoever compiles a kernel holds a lock
(:mod:`biril_nm.storage.machine_code`). If it cannot start, or ends early, this process compiles all.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from biril_nm.storage.machine_code import is_kept
from biril_nm.storage.platform import usable_cpus

__all__ = ["compile_all", "compiled_ahead"]

Needed = tuple[Any, tuple[Any, ...]]  # a kernel, and the types of its arguments
PROGRAM = (
    "import pickle, sys; given = sys.stdin.buffer; sys.path[:] = pickle.load(given); "
    "from biril_nm.hardware_sim.engine.ahead import compile_all; compile_all(pickle.load(given))"
)


@contextmanager
def compiled_ahead(needed: Iterable[Needed]) -> Iterator[None]:
    """Compile half of the kernels that are not on disk, while another process compiles the rest."""
    missing = [each for each in needed if is_kept(*each) is False]
    ours, theirs = _halves(missing)
    process = _other_process(theirs) if ours and theirs and usable_cpus() > 1 else None
    if process is None:
        yield
        return
    try:
        for kernel, types in ours:
            kernel.compile(types)
        yield
    finally:
        process.kill()  # what this process needed of it is on disk
        process.wait()


def _halves(missing: list[Needed]) -> tuple[list[Needed], list[Needed]]:
    """Two lists; all signatures of a kernel are in one, because its lock is."""
    kernels: dict[str, list[Needed]] = {}
    for each in missing:
        kernels.setdefault(each[0].__name__, []).append(each)
    halves: tuple[list[Needed], list[Needed]] = ([], [])
    for group in sorted(kernels.values(), key=len, reverse=True):
        min(halves, key=len).extend(group)
    return halves


def _other_process(needed: list[Needed]) -> subprocess.Popen[bytes] | None:
    """A Python that compiles these kernels; None where none can be started."""
    python = sys.executable or ""
    if getattr(sys, "frozen", False) or not Path(python).name.startswith("python"):
        return None  # it would start the program that this is part of
    names = [(kernel.__module__, kernel.__name__, types) for kernel, types in needed]
    none = subprocess.DEVNULL
    try:
        given = pickle.dumps(sys.path) + pickle.dumps(names)
        process = subprocess.Popen(
            [python, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=none, stderr=none
        )
    except (OSError, pickle.PicklingError, AttributeError, TypeError):
        return None
    if process.stdin is not None:
        with suppress(OSError), process.stdin as stream:  # it ended at once
            stream.write(given)
    return process


def compile_all(names: Iterable[tuple[str, str, tuple[Any, ...]]]) -> None:
    """Compile kernels, given by module and name, for arguments of these types."""
    for module, name, types in names:
        getattr(import_module(module), name).compile(types)
