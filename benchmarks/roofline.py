"""What this machine could do at best: vector adds of weight rows, and bandwidth of the caches.

A synaptic event is one weight added to one accumulator. If every spike is one contiguous row of int16
weights, the bound is the rate at which rows can be added from where the weights live.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from measuring import Measured, ratios, take_turns
from section import Section, Size, alone, table

from biril_nm.hardware_sim.kernels.jit import kernel
from biril_nm.hardware_sim.kernels.lanes import GROUP, LANES, add_rows

KIB = 1024
SIZES = {"L1 (16 KiB)": 16 * KIB, "L2 (512 KiB)": 512 * KIB, "L3 (8 MiB)": 8192 * KIB,
         "memory (256 MiB)": 256 * KIB * KIB}  # fmt: skip
ROW = 512  # weights of one input of the dense net


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
    (seconds,) = take_turns({"": call}, repeats).values()
    return Measured.of([work / each for each in seconds])


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


def best_add(size: Size) -> Measured:
    """The highest of the rates of vector adds: what a thread could do if weights were all there is."""
    found = vector_adds(size.rounds, size.of(0.05, 0.02))
    return max(found.values(), key=lambda rate: rate.middle)


def threads_gain(size: Size) -> Measured:
    """Rate of all threads over that of one, each adding rows of its own: what a second core gives here."""
    random = np.random.default_rng(0)
    table = random.integers(-64, 64, 784 * ROW).astype(np.int8)
    order = random.integers(0, 784, size.of(1 << 18, 1 << 12))
    totals = [np.zeros(ROW, np.int16) for _ in range(size.threads)]

    def add(total: Any) -> None:
        add_groups(table, ROW, order, total)

    with ThreadPoolExecutor(size.threads) as pool:
        calls = {"one": lambda: add(totals[0]), "all": lambda: list(pool.map(add, totals))}
        seconds = take_turns(calls, size.rounds)
    found = ratios(seconds["one"], seconds["all"])
    return Measured(*(size.threads * x for x in (found.middle, found.low, found.high)))


def section(size: Size) -> Section:
    """All rates of one thread."""
    adds = vector_adds(size.rounds, size.of(0.2, 0.02))
    reads = bandwidths(size.rounds, size.of(0.2, 0.02), size.quick)
    rows = [(f"vector add, {k}", rate.text(1e9, 1) + " G events/s") for k, rate in adds.items()]
    rows += [(f"read bandwidth, {k}", rate.text(1e9, 1) + " GB/s") for k, rate in reads.items()]
    text = "One thread. A synaptic event is one weight added to one sum; the highest rate is the bound."
    return Section("Roofline", (), f"{text}\n\n{table(('what', 'rate'), rows)}")


if __name__ == "__main__":
    alone(section, __doc__)
