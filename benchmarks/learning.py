"""On-chip learning: hardware_sim against Lava's LearningDense, paired in one run, one thread.

A Dense of 784 inputs (10 % of them spike in each step) that learns by pair STDP, drives LIF neurons. Lava
and hardware_sim run in turn, several times; each pair gives one ratio of steps per second. After all
repetitions the weights of both must be equal in every integer, or the program ends with an error.

    python benchmarks/learning.py [--reps 5] [--lava-steps 96] [--sim-steps 4096] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from functools import partial
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from measuring import Measured, installed, ratios, take_turns  # noqa: E402
from section import Row, Section, Size, at_least, table  # noqa: E402

from biril_nm.hardware_sim import simulate  # noqa: E402
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons  # noqa: E402
from biril_nm.learning.rule import LearningRule, Term, Trace  # noqa: E402

N_INPUTS, DENSITY, PATTERN_STEPS = 784, 0.1, 256
CASES = ((400, 1, 600.0), (100, 4, 150.0))  # neurons, steps per epoch, wanted ratio
NEURONS = {"vth": 16000, "du": 4095, "dv": 400}


def stdp(t_epoch: int) -> LearningRule:
    """``dw = -2^-3 x0 y1 + 2^-3 y0 x1``, impulses 16, tau 10: Lava's STDPLoihi."""
    return LearningRule(
        name="stdp",
        dw=(Term(-1, -3, ("x0", "y1")), Term(1, -3, ("y0", "x1"))),
        traces={"x1": Trace(16, 10), "y1": Trace(16, 10)},
        t_epoch=t_epoch,
    )


class LavaRun:
    """Source, LearningDense and LIF in Lava, as a user would wire them; nothing of ours in between."""

    def __init__(self, weights: Any, pattern: Any, rule: LearningRule) -> None:
        from lava.magma.core.learning.learning_rule import Loihi2FLearningRule
        from lava.magma.core.run_configs import Loihi2SimCfg
        from lava.proc.dense.process import LearningDense
        from lava.proc.io.source import RingBuffer
        from lava.proc.lif.process import LIF

        self.source = RingBuffer(data=pattern.T.astype(np.int32))
        self.dense = LearningDense(
            weights=weights.copy(), learning_rule=Loihi2FLearningRule(**rule.lava_arguments())
        )
        lif = LIF(shape=(len(weights),), **NEURONS)
        self.source.s_out.connect(self.dense.s_in)
        self.dense.a_out.connect(lif.a_in)
        lif.s_out.connect(self.dense.s_in_bap)
        self.config = Loihi2SimCfg(select_tag="fixed_pt")
        self.steps = 0

    def run(self, n_steps: int) -> float:
        """Seconds for ``n_steps`` more steps."""
        from lava.magma.core.run_conditions import RunSteps

        start = time.perf_counter()
        self.source.run(condition=RunSteps(num_steps=n_steps), run_cfg=self.config)
        self.steps += n_steps
        return time.perf_counter() - start

    def finish(self) -> Any:
        """Weights after all steps."""
        weights = self.dense.weights.get().copy()
        self.source.stop()
        return weights


def simulated(graph: LoihiGraph, pattern: Any, n_steps: int) -> tuple[float, Any]:
    """Seconds for a run of ``n_steps`` steps from the start, and its trace."""
    steps = np.arange(n_steps) % PATTERN_STEPS
    spikes = np.ascontiguousarray(pattern[steps][:, np.newaxis])
    start = time.perf_counter()
    trace = simulate(graph, spikes, record=(), n_threads=1, learn=True)
    return time.perf_counter() - start, trace


def network(n_post: int, t_epoch: int) -> tuple[LoihiGraph, Any]:
    """The graph, and the spikes of its inputs, which repeat."""
    random = np.random.default_rng(5)
    pattern = (random.random((N_INPUTS, PATTERN_STEPS)) < DENSITY).T.astype(np.uint8)
    pattern[-1] = 0  # a run of hardware_sim ends with the answer to its last input: one silent step
    weights = random.integers(0, 60, (n_post, N_INPUTS)) // 2 * 2
    nodes = {
        "in": Input((N_INPUTS,)),
        "fc": Dense(weights, rule=stdp(t_epoch)),
        "lif": Neurons((n_post,), **NEURONS),
    }
    return LoihiGraph(nodes, (("in", "fc"), ("fc", "lif"))), pattern


def measure(n_post: int, t_epoch: int, args: argparse.Namespace) -> dict[str, Any]:
    """Paired rates of one network; raises if the weights differ."""
    graph, pattern = network(n_post, t_epoch)
    weights, rule = np.array(graph.plastic["fc"].weight), stdp(t_epoch)
    lava = LavaRun(weights, pattern, rule)
    lava.run(32)
    simulated(graph, pattern, 256)  # loads the compiled loops
    rates: list[tuple[float, float]] = []
    for _ in range(args.reps):
        seconds = lava.run(args.lava_steps)
        ours, trace = simulated(graph, pattern, args.sim_steps)
        rates.append((args.lava_steps / seconds, args.sim_steps / ours))
    rate = trace.n_spikes["lif"] / (args.sim_steps * n_post)
    lava.run(-lava.steps % PATTERN_STEPS)
    expected = lava.finish()
    _, trace = simulated(graph, pattern, lava.steps - 1)
    learned = trace.graph.plastic["fc"].weight if trace.graph is not None else weights
    if not np.array_equal(learned, expected):
        raise SystemExit(f"784x{n_post}: the weights differ after {lava.steps} steps")
    if np.array_equal(learned, weights) or rate == 0:
        raise SystemExit(f"784x{n_post}: nothing was learned")
    theirs, ours = ([pair[i] for pair in rates] for i in (0, 1))
    return {
        "network": f"{N_INPUTS}x{n_post}, t_epoch {t_epoch}",
        "lava_steps_per_s": Measured.of(theirs).middle,
        "sim_steps_per_s": Measured.of(ours).middle,
        "ratio": ratios(ours, theirs).middle,
        "ratios": [a / b for a, b in zip(ours, theirs)],
        "post_rate": rate,
        "weights_equal_after_steps": lava.steps,
    }


def profile(n_post: int, t_epoch: int, n_steps: int, rounds: int) -> str:
    """What learning adds to a step, and synapses that it visits in a second."""
    graph, pattern = network(n_post, t_epoch)
    spikes = np.ascontiguousarray(pattern[np.arange(n_steps) % PATTERN_STEPS][:, np.newaxis])
    run = partial(simulate, graph, spikes, record=(), n_threads=1)
    seconds = take_turns({"learns": partial(run, learn=True), "fixed": run}, rounds)
    learns, fixed = (1e6 * Measured.of(each).middle / n_steps for each in seconds.values())
    recording = simulate(graph, spikes, record=("s",), n_threads=1, learn=True)
    epochs = n_steps // t_epoch
    rows = spikes[: epochs * t_epoch].reshape(epochs, t_epoch, -1).any(axis=1).sum()
    fired = np.asarray(recording["lif"].s).reshape(len(recording["lif"].s), -1)
    columns = fired[: epochs * t_epoch].reshape(epochs, t_epoch, -1).any(axis=1).sum()
    visited = (int(rows) * n_post + int(columns) * N_INPUTS) / n_steps
    return (
        f"{learns:.2f} us a step, {fixed:.2f} without learning; {visited:,.0f} synapses visited a step, "
        f"{visited / max(learns - fixed, 1e-9) / 1e3:.2f} G/s of what learning adds"
    )


def section(size: Size) -> Section:
    """Both cases against Lava."""
    title = "Learning by a rule, against Lava"
    reps, lava_steps, sim_steps = size.of((5, 96, 4096), (1, 8, 64))
    args = argparse.Namespace(reps=reps, lava_steps=lava_steps, sim_steps=sim_steps)
    rows: list[Row] = []
    lines, checks = [], []
    for n_post, t_epoch, wanted in CASES:
        why = profile(n_post, t_epoch, sim_steps, reps)
        what = f"learning {N_INPUTS}x{n_post}, t_epoch {t_epoch}: one thread over Lava"
        if not installed("lava"):
            rows.append(at_least(what, None, wanted, "x", f"Lava is not installed; {why}"))
            continue
        found = measure(n_post, t_epoch, args)
        reason = f"{why}; Lava {found['lava_steps_per_s']:,.1f} steps/s"
        rows.append(at_least(what, Measured.of(found["ratios"]), wanted, "x", reason))
        lines.append(
            (found["network"], f"{found['sim_steps_per_s']:,.0f}", f"{found['lava_steps_per_s']:,.1f}",
             Measured.of(found["ratios"]).text(1, 0), f"{found['post_rate']:.1%}", why)
        )  # fmt: skip
        steps = found["weights_equal_after_steps"]
        checks.append(
            f"learning {found['network']}: all weights equal Lava's after {steps:,} steps"
        )
    header = ("network", "steps/s", "Lava", "times Lava", "targets that spike", "where time goes")
    return Section(title, rows, table(header, lines) if lines else "", checks)


def main() -> int:
    """Print one line per network, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--lava-steps", type=int, default=96)
    parser.add_argument("--sim-steps", type=int, default=4096)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = []
    for n_post, t_epoch, wanted in CASES:
        result = {**measure(n_post, t_epoch, args), "wanted": wanted}
        results.append(result)
        if not args.json:
            sys.stdout.write(
                f"{result['network']}: hardware_sim {result['sim_steps_per_s']:,.0f} steps/s, Lava "
                f"{result['lava_steps_per_s']:,.1f}; ratio {result['ratio']:.0f} (of "
                f"{len(result['ratios'])} pairs: {min(result['ratios']):.0f} to "
                f"{max(result['ratios']):.0f}, wanted {wanted:.0f}); weights equal after "
                f"{result['weights_equal_after_steps']:,} steps, targets spike in "
                f"{result['post_rate']:.1%} of the steps\n"
            )
            sys.stdout.flush()
    if args.json:
        sys.stdout.write(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
