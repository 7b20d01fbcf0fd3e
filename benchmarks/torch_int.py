"""The engine ``torch-int`` against the simulator on one batch: equal integers, and the speed of both.

python benchmarks/torch_int.py [--quick]
"""

from __future__ import annotations

from functools import partial

import numpy as np
from measuring import Measured, ratios, take_turns
from section import Mismatch, Section, Size, alone, table
from workloads import WORKLOADS

from biril_nm.engines import Network, RunOptions, get_engine
from biril_nm.hardware_sim import simulate
from biril_nm.recording import Recording

N_SAMPLES = {"dense": (512, 4), "conv": (32, 1)}
VARIABLES = ("s", "u", "v")


def check(name: str, ours: Recording, theirs: Recording) -> str:
    """Every s, u and v of all populations is equal."""
    total = spikes = 0
    for node in ours:
        for key, array in ours[node].variables().items():
            other = theirs[node].variables()[key]
            if not np.array_equal(array, other):
                raise Mismatch(
                    f"torch-int: {key} of {node} in the {name} net differs from the simulator"
                )
            total += array.size
            spikes += int(np.sum(array)) if key == "s" else 0
    return f"torch-int = sim: {name} net, {total:,} integers (s, u, v) equal, {spikes:,} spikes"


def section(size: Size) -> Section:
    """Both networks, all threads."""
    import torch

    engine, lines, checks = get_engine("torch-int"), [], []
    torch.set_num_threads(size.threads)
    place = "cuda" if torch.cuda.is_available() else "cpu"
    for name, make in WORKLOADS.items():
        work = make()
        graph, spikes = work.graph(), work.spikes(work.density, size.of(*N_SAMPLES[name]))
        few = spikes[:, :4]
        both = RunOptions(VARIABLES, device=place)
        checks.append(
            check(name, simulate(graph, few, VARIABLES), engine.run(Network(graph), few, both))
        )
        (readout,) = graph.outputs.values()
        options = RunOptions(("s",), nodes=(readout,), n_threads=size.threads, device=place)
        calls = {
            each: partial(get_engine(each).run, Network(graph), spikes, options)
            for each in ("sim", "torch-int")
        }
        seconds = take_turns(calls, size.of(3, 1))
        n = spikes.shape[0] * spikes.shape[1]
        rates = [Measured.of([n / s for s in v]).text(1, 0) for v in seconds.values()]
        faster = ratios(seconds["torch-int"], seconds["sim"]).text(1, 1)
        lines.append((name, f"{spikes.shape[1]:,}", *rates, f"{faster}x"))
    header = ("net", "batch", "sim, sample-steps/s", "torch-int", "sim is faster by")
    text = f"{size.threads} threads, device {place}, spikes of the readout recorded.\n\n" + table(
        header, lines
    )
    return Section("Engine torch-int", (), text, checks)


if __name__ == "__main__":
    alone(section, __doc__)
