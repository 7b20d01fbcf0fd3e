"""Random NIR graphs, lowered: hardware_sim equals Lava (lava-nc 0.10.0, fixed_pt) in every s, u, v.

Graphs vary over node kinds, per-neuron parameters, convolution geometry, pooling, delays, branches,
loops, several inputs, integrators, weight bits, sign modes and graded input. The slow suite runs at
least 300 of them; both print how many graphs and integers were compared.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from biril_nm.export import lower
from biril_nm.export.lava import run_lava
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph
from tests.random_nets import WIRINGS, random_input, random_nir

pytestmark = pytest.mark.lava
VARIABLES = ("s", "u", "v")
QUICK, SLOW = 25, 300


class Tally:
    """What was compared."""

    def __init__(self) -> None:
        self.graphs = self.integers = self.spikes = self.spiking = 0
        self.kinds: Counter[str] = Counter()

    def add(self, graph: LoihiGraph, x: object) -> None:
        sim = simulate(graph, x, record=VARIABLES)
        lava = run_lava(graph, x, record=VARIABLES)
        assert set(sim) == set(lava)
        for node in sim:
            for variable in VARIABLES:
                ours, theirs = getattr(sim[node], variable), getattr(lava[node], variable)
                assert_array_equal(ours, theirs, err_msg=f"{node}.{variable}")
                self.integers += ours.size
        spikes = sum(sim.n_spikes.values())
        self.graphs += 1
        self.spikes += spikes
        self.spiking += spikes > 0
        self.kinds.update(type(node).__name__ for node in graph.connections.values())
        self.kinds.update(f"sign {node.sign_mode.value}" for node in graph.connections.values())
        self.kinds.update("delay" for node in graph.connections.values() if node.delay)
        self.kinds.update("loop" for slack in graph.timing.slack.values() if slack)

    def __str__(self) -> str:
        return (
            f"{self.graphs} random NIR graphs, {self.integers:,} integers equal in sim and Lava, "
            f"{self.spikes:,} spikes, {dict(self.kinds)}"
        )


@st.composite
def cases(draw) -> tuple[LoihiGraph, object]:
    seed, wiring = draw(st.integers(0, 10**6)), draw(st.sampled_from(WIRINGS))
    bits, split = draw(st.integers(1, 8)), draw(st.booleans())
    graph, _ = random_nir(seed, wiring)
    lowered = lower(graph, reset="zero", weight_bits=bits, split_mixed=split)
    n_steps, batch = draw(st.integers(1, 8)), draw(st.integers(1, 3))
    return lowered, random_input(lowered, n_steps, batch, seed)


def run_many(n: int) -> Tally:
    tally = Tally()

    @settings(
        max_examples=n, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases())
    def compare(case: tuple[LoihiGraph, object]) -> None:
        tally.add(*case)

    compare()
    return tally


def check(tally: Tally, n: int, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{tally}")
    assert tally.graphs >= n
    assert tally.spiking > 0.7 * tally.graphs
    for kind in ("Dense", "Sparse", "Conv", "sign mixed", "sign excitatory", "delay", "loop"):
        assert tally.kinds[kind] > 0, kind


def test_a_few_random_graphs(capsys: pytest.CaptureFixture[str]) -> None:
    check(run_many(QUICK), QUICK, capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_random_graphs(capsys: pytest.CaptureFixture[str]) -> None:
    check(run_many(SLOW), SLOW, capsys)


def test_one_weight_off_by_one_step_is_seen() -> None:
    """Negative twin: the comparison fails if one integer of one connection differs."""
    graph, _ = random_nir(3, "plain")
    lowered = lower(graph, reset="zero")
    x = np.ones_like(random_input(lowered, 6, 2, 3))
    lava = run_lava(lowered, x, record=VARIABLES)
    name, node = next(iter(lowered.connections.items()))
    weight = node.weight.copy()
    values = weight.data if hasattr(weight, "indptr") else weight
    values += 2
    sim = simulate(lowered.with_node(name, weight=weight), x, record=VARIABLES)
    target = lowered.ends[name][1]
    assert not np.array_equal(sim[target].u, lava[target].u)
