"""What this machine could do at best: vector adds of weight rows, and bandwidth of the caches.

A synaptic event is one weight added to one accumulator. If every spike is one contiguous row of int16
weights, the bound is the rate at which rows can be added from where the weights live.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numba
import numpy as np

from biril_nm.hardware_sim.kernels.jit import kernel
from biril_nm.hardware_sim.kernels.lanes import GROUP, LANES, add_rows

KIB = 1024
SIZES = {"L1 (16 KiB)": 16 * KIB, "L2 (512 KiB)": 512 * KIB, "L3 (8 MiB)": 8192 * KIB,
         "memory (256 MiB)": 256 * KIB * KIB}  # fmt: skip
ROW = 512  # weights of one input of the dense net


@dataclass(frozen=True)
class Measured:
    """Median and range of a rate."""

    middle: float
    low: float
    high: float

    @staticmethod
    def of(rates: list[float]) -> Measured:
        """From repetitions."""
        return Measured(median(rates), min(rates), max(rates))

    def text(self, unit: float = 1.0, digits: int = 1) -> str:
        """``median [low-high]`` in ``unit``."""
        a, b, c = (f"{x / unit:,.{digits}f}" for x in (self.middle, self.low, self.high))
        return f"{a} [{b}-{c}]"


@kernel
def add_single(table: Any, order: Any, total: Any) -> None:
    """Total += table[j] for each j in order."""
    for j in order:
        for i in range(total.size):
            total[i] += table[j, i]


@kernel
def add_groups(table: Any, width: int, order: Any, total: Any) -> None:
    """The same by eight rows and blocks of lanes, as the simulator adds them; table flat."""
    for q in range(0, order.size - GROUP + 1, GROUP):
        rows = (
            np.intp(order[q]) * width,
            np.intp(order[q + 1]) * width,
            np.intp(order[q + 2]) * width,
            np.intp(order[q + 3]) * width,
            np.intp(order[q + 4]) * width,
            np.intp(order[q + 5]) * width,
            np.intp(order[q + 6]) * width,
            np.intp(order[q + 7]) * width,
        )
        for at in range(0, width, LANES):
            add_rows(total, at, table, rows)


@kernel
def read_sum(values: Any, n_passes: int) -> int:
    """Read everything, eight partial sums so that loads and not adds are the limit."""
    total = 0
    for _ in range(n_passes):
        for i in range(values.size):
            total += values[i]
    return total


def _rates(call: Callable[[], Any], work: float, repeats: int) -> Measured:
    call()
    rates = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        rates.append(work / (time.perf_counter() - began))
    return Measured.of(rates)


def vector_adds(repeats: int = 7, seconds: float = 0.2) -> dict[str, Measured]:
    """Synaptic events per second and thread: random rows of weights added into int16 or int32."""
    random = np.random.default_rng(0)
    table = random.integers(-256, 256, (784, ROW)).astype(np.int16)
    n = max(1000, int(seconds * 12e9 / ROW))
    order = random.integers(0, len(table), n)
    found = {}
    for kind in (np.int16, np.int32):
        total = np.zeros(ROW, dtype=kind)
        name = f"single rows of {ROW} int16 weights (784 KiB table) into {np.dtype(kind).name}"
        found[name] = _rates(lambda total=total: add_single(table, order, total), n * ROW, repeats)  # type: ignore[misc]
    narrow, order, total = (
        (table >> 2).astype(np.int8).ravel(),
        order[: n // GROUP * GROUP],
        np.zeros(ROW, np.int16),
    )
    name = f"{GROUP} rows of {ROW} int8 weights (392 KiB table) at a time into int16"
    found[name] = _rates(lambda: add_groups(narrow, ROW, order, total), order.size * ROW, repeats)
    return found


def bandwidths(repeats: int = 7, seconds: float = 0.1, quick: bool = False) -> dict[str, Measured]:
    """Bytes per second and thread read from each level of the memory."""
    found = {}
    for name, size in SIZES.items():
        if quick and size > SIZES["L3 (8 MiB)"]:
            continue
        values = np.ones(size // 8, dtype=np.int64)
        passes = max(1, int(seconds * 20e9 / size))
        found[name] = _rates(lambda v=values, p=passes: read_sum(v, p), size * passes, repeats)  # type: ignore[misc]
    return found


def compiler() -> str:
    """What compiled the loops above, and the simulator's."""
    return f"numba {numba.__version__}"
