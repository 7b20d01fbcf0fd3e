"""Networks of the size of a brain: a random loop, most neurons spiking, on one thread and on all.

    python benchmarks/sparse.py [--quick]                             # up to 3 GB

Each size has a process of its own. Beside them runs a plain loop over the same rows: load a target, load a
weight, add. An event is a synapse of a source that spiked; the simulator visits those of silent sources where
they are fewer. Spikes of the first steps are compared with products of SciPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from large_networks import BIAS_EXP, FAN_IN, random_matrix, random_network
from measuring import Measured, costs, in_child, ratios, say, take_turns
from numpy.typing import NDArray
from section import Mismatch, Row, Section, Size, alone, at_least, at_most, table

from biril_nm.hardware_sim import simulate
from biril_nm.hardware_sim.kernels.jit import kernel
from biril_nm.loihi import VTH_SHIFT, WEIGHT_SHIFT

SIZES = {"10,000 neurons": (10_000, 100), "139,000 neurons": (139_000, FAN_IN)}
LARGEST = {"463,000 neurons": (463_000, FAN_IN)}
QUICK = {"1,000 neurons": (1_000, 20)}
GOAL, MEMORY_MIB, SEVERAL = 1.0, 1024, 1.5
SHARED = 10_000_000  # synapses from which threads share one sample
CHECKED = 3
Facts = dict[str, Any]


@kernel
def add_rows(starts: Any, targets: Any, weights: Any, sent: Any, total: Any) -> None:
    """The plain loop: total[target] += weight, for each synapse of each source that spikes."""
    for i in sent:
        for k in range(starts[i], starts[i + 1]):
            total[targets[k]] += weights[k]


def check(matrix: Any, found: NDArray[Any], graph: Any) -> int:
    """Spikes of the first steps, after they were compared with products of SciPy."""
    bias = int(np.ravel(graph.nodes["n"].bias_mant)[0]) << BIAS_EXP
    wide, sent, total = matrix.astype(np.int64), np.zeros(matrix.shape[0], np.int64), 0
    for spikes in found[:CHECKED]:
        v = ((wide @ sent) << WEIGHT_SHIFT) + bias
        sent = (v > 1 << VTH_SHIFT).astype(np.int64)
        if not np.array_equal(sent, spikes.ravel()):
            raise Mismatch(f"{int((sent != spikes.ravel()).sum())} spikes differ from SciPy's")
        total += int(sent.sum())
    return total


def measure(n: int, per_neuron: int, n_steps: int, rounds: int, threads: int) -> Facts:
    """Rates of one thread, of all and of the plain loop in turn; memory above the matrix."""
    matrix = random_matrix(n, per_neuron)
    silence = np.zeros((n_steps, 1, 1), np.uint8)
    simulate(random_network(random_matrix(100, 5)), silence, n_threads=1)  # loads the code

    def first() -> Any:
        graph = random_network(matrix)
        return graph, simulate(graph, silence, n_threads=1)

    spent, (graph, recording) = costs(first)
    spikes = np.asarray(recording["n"].s)
    columns = matrix.tocsc()
    counts = np.diff(columns.indptr)
    events = int((spikes[:-1, 0] @ counts.astype(np.int64)).sum())  # each acts in the next step
    sent = np.flatnonzero(spikes[-1, 0]).astype(np.int32)
    total, plain = np.zeros(n, np.int32), columns.data.astype(np.int8)
    calls = {
        "one": lambda: simulate(graph, silence, record=(), n_threads=1),
        "all": lambda: simulate(graph, silence, record=(), n_threads=threads),
        "plain": lambda: add_rows(columns.indptr, columns.indices, plain, sent, total),
    }
    return {
        "seconds": take_turns(calls, rounds), "events": events, "plain_events": int(counts[sent].sum()),
        "activity": float(spikes.mean()), "synapses": int(matrix.nnz), "steps": n_steps,
        "mib": spent.mib, "first": spent.wall, "matrix_mib": matrix.data.nbytes / 2**20
        + matrix.indices.nbytes / 2**20, "equal": check(matrix, spikes, graph),
    }  # fmt: skip


def rows_of(name: str, found: Facts, threads: int) -> tuple[list[Row], tuple[str, ...]]:
    """Targets, and a line of the table."""
    rates = {k: [found["events"] / s / 1e9 for s in found["seconds"][k]] for k in ("one", "all")}
    bound = [found["plain_events"] / s / 1e9 for s in found["seconds"]["plain"]]
    one = Measured.of(rates["one"])
    share = ratios(rates["one"], bound)
    several = ratios(rates["all"], rates["one"])
    label = (
        f"Sparse, {name}, {found['synapses'] / 1e6:.1f} M synapses, {found['activity']:.0%} active"
    )
    reason = (
        f"a plain loop over the same rows adds {Measured.of(bound).text(1, 2)} G/s here, so that this is "
        f"{share.middle:.0%} of it; {threads} threads {several.middle:.2f}x"
    )
    step = Measured.of([1e3 * s / found["steps"] for s in found["seconds"]["one"]])
    line = (
        name, f"{found['synapses']:,}", f"{found['activity']:.0%}", step.text(1, 2), one.text(1, 2),
        Measured.of(bound).text(1, 2), f"{share.middle:.0%}", several.text(1, 2),
        f"{found['matrix_mib']:,.0f}", f"{found['mib']:,.0f}", f"{found['first']:.2f}",
    )  # fmt: skip
    rows = [at_least(f"{label}: one thread", one, GOAL, " G/s", reason)]
    if found["synapses"] >= SHARED and threads > 1:
        why = f"one thread takes {step.text(1, 2)} ms a step"
        rows.append(at_least(f"{label}: {threads} threads over one", several, SEVERAL, "x", why))
    if name in LARGEST:
        memory = Measured(*[found["mib"]] * 3)
        why = f"the matrix itself takes {found['matrix_mib']:,.0f} MiB"
        rows.append(at_most(f"{label}: peak above the matrix", memory, MEMORY_MIB, " MiB", why))
    return rows, line


def section(size: Size) -> Section:
    """All sizes."""
    rows: list[Row] = []
    lines, checks = [], []
    for name, (n, fan_in) in size.of({**SIZES, **LARGEST}, QUICK).items():
        say(f"  {name}")
        n_steps = size.of(max(8, 2_000_000 // n), 8)
        found = in_child(measure, n, fan_in, min(200, n_steps), size.rounds, size.threads)
        more, line = rows_of(name, found, size.threads)
        rows += more
        lines.append(line)
        equal = f"{found['equal']:,} spikes of the first {CHECKED} steps equal SciPy's products"
        checks.append(f"Sparse, {name}: {equal}")
    header = (
        "network", "synapses", "active", "ms a step, one thread", "G events/s", "plain loop, G/s",
        "share of it", f"{size.threads} threads over one", "matrix, MiB", "peak above, MiB", "first run, s",
    )  # fmt: skip
    return Section("Networks of the size of a brain", rows, table(header, lines), checks)


if __name__ == "__main__":
    alone(section, __doc__)
