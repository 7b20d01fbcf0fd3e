"""One network in other forms: read from a ``.net`` file against built by hand, input of int64 against uint8.

Each pair takes turns, and must give the same spikes.

    python benchmarks/forms.py [--quick]
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from engines import write_net
from measuring import ratios, take_turns
from numpy.typing import NDArray
from roofline import read_sum
from section import Mismatch, Row, Section, Size, alone, at_least, table
from workloads import WORKLOADS, Workload

from biril_nm.export import read_netx
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph

AS_FAST = 0.95
READS = 3  # of the whole input, of which the fastest counts
N_SAMPLES = {"dense": (2048, 8), "conv": (128, 1)}


def from_net(work: Workload) -> LoihiGraph:
    """The network as ``read_netx`` reads it."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "network.net")
        write_net(path, work)
        return read_netx(path)


def output(graph: LoihiGraph, spikes: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Spikes of the readout, one thread, and how its connections store their weights."""
    (readout,) = graph.outputs.values()
    exponents = {str(node.weight_exp) for node in graph.connections.values()}
    found = simulate(graph, spikes, nodes=(readout,), n_threads=1)[readout].s
    return np.asarray(found), "exponents of weights " + ", ".join(sorted(exponents))


def pair(
    what: str,
    size: Size,
    one: tuple[LoihiGraph, NDArray[Any]],
    other: tuple[LoihiGraph, NDArray[Any]],
) -> tuple[Row, str]:
    """Speed of ``one`` over that of ``other``, and that both give equal spikes."""
    (mine, how), (theirs, theirs_how) = output(*one), output(*other)
    if not np.array_equal(mine, theirs):
        raise Mismatch(f"{what}: {int((mine != theirs).sum())} output spikes differ")
    seconds = take_turns(
        {"one": lambda: output(*one), "other": lambda: output(*other)}, size.rounds
    )
    extra = statistics.median(a - b for a, b in zip(seconds["one"], seconds["other"]))
    reason = f"{how}; of the other {theirs_how}"
    if one[1].itemsize != other[1].itemsize:
        reason = reading(one[1], other[1], extra, statistics.median(seconds["other"]))
    return (
        at_least(what, ratios(seconds["other"], seconds["one"]), AS_FAST, "x", reason),
        f"{what}: {mine.size:,} output values equal, {int(mine.sum()):,} spikes",
    )


def reading(wide: NDArray[Any], narrow: NDArray[Any], extra: float, seconds: float) -> str:
    """What the wider input costs, and what it would if reading from memory were all there is.

    ``extra``: seconds above the ``seconds`` of the narrow input.
    """
    steps, more = wide.shape[0] * wide.shape[1], wide.nbytes - narrow.nbytes
    flat = wide.ravel()
    (reads,) = take_turns({"": lambda: read_sum(flat, 1)}, READS).values()
    bound = min(reads) * more / wide.nbytes
    sizes = f"{wide.nbytes // steps:,} bytes of input a step against {narrow.nbytes // steps:,}"
    return (
        f"{sizes}, in {1e6 * extra / steps:.2f} us more: {more / max(extra, 1e-9) / 1e9:.1f} GB/s. A loop "
        f"that does nothing but read this input comes to {wide.nbytes / min(reads) / 1e9:.1f} GB/s, with "
        f"which the speed would be {seconds / (seconds + bound):.2f}x"
    )


def section(size: Size) -> Section:
    """Both forms of both networks."""
    found = []
    for name, make in WORKLOADS.items():
        work = make()
        graph, spikes = work.graph(), work.spikes(work.density, size.of(*N_SAMPLES[name]))
        read = from_net(work)
        found.append(
            pair(f"{name} net from a .net over by hand", size, (read, spikes), (graph, spikes))
        )
        wide = (graph, spikes.astype(np.int64))
        found.append(pair(f"{name} net, int64 over uint8 input", size, wide, (graph, spikes)))
    rows = [row for row, _ in found]
    text = "Speed of the first form over that of the second, one thread, in pairs.\n\n" + table(
        ("forms", "speed"), [(row.what, row.measured) for row in rows]
    )
    return Section("Other forms of a network", rows, text, [line for _, line in found])


if __name__ == "__main__":
    alone(section, __doc__)
