"""Measure in a process of its own how often the system gives it pages: prints them as JSON.

``python -m tests.support.kept_memory``
"""

from __future__ import annotations

import ctypes
import json
import resource

import torch

from biril_nm.neurons.memory import LARGE, empty
from biril_nm.storage import platform
from biril_nm.storage.platform import give_back_growth, keep_freed_memory, resident_bytes

N_BYTES = 96 << 20
PR_SET_THP_DISABLE = 41  # Linux, include/uapi/linux/prctl.h
libc = ctypes.CDLL(None)


def use_and_free() -> int:
    """Pages that the system has to give for a large block."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(N_BYTES)))
    ctypes.memset(block, 1, N_BYTES)
    libc.free(block)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


def repeated() -> int:
    """The same of the second time, which may use what the first has freed."""
    use_and_free()
    return use_and_free()


def reused() -> int:
    """How many of eight large tensors lie where eight of the same size have been freed."""
    like, n_held, held, small = torch.zeros(1), 16, [], []
    for _ in range(n_held):
        held.append(empty((2 * LARGE // 4,), like))
        small.append([bytearray(16 * i) for i in range(60)])  # takes what is left beside a block
    begin, end = held[0].data_ptr(), held[-1].data_ptr()
    held = [block for i, block in enumerate(held) if i % 2 == 0]
    small.append([bytearray(16 * i) for i in range(60)])
    after = [empty((2 * LARGE // 4,), like) for _ in range(n_held // 2)]
    return sum(begin <= block.data_ptr() <= end for block in after)


def measure() -> dict[str, int]:
    """Pages and bytes by what is kept."""
    found = {"usual": repeated()}
    at_first = resident_bytes()
    with keep_freed_memory():
        with keep_freed_memory():
            found["kept twice"] = repeated()
            found["reused"] = reused()
        found["kept once"] = repeated()
        found["grown while kept"] = resident_bytes() - at_first
    found["grown behind it"] = resident_bytes() - at_first
    found["behind it"] = repeated()

    platform.GROWTH = 1.0
    give_back_growth()  # nothing is kept
    with keep_freed_memory():
        give_back_growth()
        small = resident_bytes()
        use_and_free()
        found["grown"] = resident_bytes() - small
        give_back_growth()
        found["given back"] = resident_bytes() - small
        found["still kept"] = repeated()
    return found


if __name__ == "__main__":
    libc.malloc.restype = ctypes.c_void_p
    libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)  # large pages come only while the system finds some
    print(json.dumps(measure()))
