"""The first run on a machine: kernels that no folder holds yet are compiled in two processes at once.

The other process leaves its part on disk, where this one finds it: whoever compiles a kernel holds a lock
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

from biril_nm.storage.machine_code import compile_untaken, is_kept
from biril_nm.storage.platform import usable_cpus

__all__ = ["compile_all", "compiled_ahead"]

Needed = tuple[Any, tuple[Any, ...]]  # a kernel, and the types of its arguments
PROGRAM = (
    "import pickle, sys; given = sys.stdin.buffer; sys.path[:] = pickle.load(given); "
    "from biril_nm.hardware_sim.engine.ahead import compile_all; compile_all(pickle.load(given))"
)


@contextmanager
def compiled_ahead(needed: Iterable[Needed]) -> Iterator[None]:
    """Compile the kernels that are not on disk, while another process compiles them from the other end.

    Each leaves out what the other has compiled or is at, so that both end together.
    """
    missing = [each for each in needed if is_kept(*each) is False]
    # The more parts the arguments have, the longer it takes; and kernels of like arguments share parts.
    missing.sort(key=lambda each: len(repr(each[1])), reverse=True)
    several = len(missing) > 1 and usable_cpus() > 1
    process = _other_process(missing[::-1]) if several else None
    if process is None:
        yield
        return
    try:
        for kernel, types in missing:
            compile_untaken(kernel, types)
        yield
    finally:
        process.kill()  # what this process needed of it is on disk
        process.wait()


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
        compile_untaken(getattr(import_module(module), name), types)
