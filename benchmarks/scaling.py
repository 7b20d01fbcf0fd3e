"""Cost of a step of the simulator, one thread, against what makes it more: layers, neurons, batch, steps.

python benchmarks/scaling.py [--quick]
"""

from __future__ import annotations

from engines import Ours
from measuring import Measured, take_turns
from section import Section, Size, alone, table
from workloads import Workload, chain, dense

N_SAMPLES, DENSITY = 16, 0.1


def cost(work: Workload, n_samples: int, rounds: int) -> Measured:
    """Microseconds per sample-step."""
    engine = Ours(work, work.spikes(DENSITY, n_samples), 1)
    (seconds,) = take_turns({"": engine.run}, rounds).values()
    return Measured.of([1e6 * each / engine.sample_steps for each in seconds])


def section(size: Size) -> Section:
    """One table, and its curves."""
    n, rounds = N_SAMPLES, size.rounds
    layers = size.of((1, 2, 4, 8, 16), (1, 4))
    widths = size.of((128, 256, 512, 1024, 2048), (128, 512))
    batches = size.of((1, 4, 16, 64, 256), (1, 8))
    steps = size.of((10, 100, 1000, 10000), (10, 100))
    found = {
        "layers of 256": {k: cost(chain(k), n, rounds) for k in layers},
        "neurons of one layer": {k: cost(chain(1, k), n, rounds) for k in widths},
        "batch (dense net)": {k: cost(dense(), k, rounds) for k in batches},
        "steps (dense net)": {k: cost(dense(k), 1, rounds) for k in steps},
    }
    rows = [
        (what, f"{k:,}", each.text(1, 2))
        for what, costs in found.items()
        for k, each in costs.items()
    ]
    curves = {
        what: [(k, each.middle, each.low, each.high) for k, each in costs.items()]
        for what, costs in found.items()
    }
    text = table(("what grows", "size", "us per sample-step, one thread"), rows)
    return Section("Cost against size", (), text, curves=curves)


if __name__ == "__main__":
    alone(section, __doc__)
