"""Random NIR graphs, lowered: hardware_sim equals Lava (lava-nc 0.10.0, fixed_pt) in every s, u, v.

Graphs vary over node kinds, per-neuron parameters, convolution geometry, pooling, delays, branches,
loops, several inputs, integrators, weight bits, exponents, sign modes and graded input. The slow suite
runs at least 300 of them. Both print how many graphs and integers were compared and in how many graphs
each kind occurred; a kind of :data:`REQUIRED` that never did is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import nir
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from biril_nm.export import lower
from biril_nm.export.lava.backend import run_lava
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph
from tests.support.random_nets import WIRINGS, random_input, random_nir
from tests.support.sim_paths import assert_every_path_gives

pytestmark = pytest.mark.lava
VARIABLES = ("s", "u", "v")
QUICK, SLOW = 25, 300


NODES = (
    "IF", "LIF", "CubaLIF", "Threshold", "I", "LI", "CubaLI", "Linear", "Affine", "Conv1d", "Conv2d",
    "AvgPool2d", "SumPool2d", "Flatten", "Scale", "Delay", "FixedMap",
)  # fmt: skip
REQUIRED = (
    *NODES, "Dense", "Sparse", "Conv", "sign mixed", "sign excitatory", "sign inhibitory", "exponent > 0",
    "exponent < 0", "delay", "added delay", "loop", "branch", "several inputs", "graded input",
    "stride", "groups", "dilation", "filtered bias", "shared parameters", "split by sign",
    "filter", "largest",
)  # fmt: skip


def features(source: nir.NIRGraph, graph: LoihiGraph) -> Iterator[str]:
    """What a case has: node types, wiring and geometry of the NIR graph, registers of the integers."""
    yield from (type(node).__name__ for node in source.nodes.values())
    for node in source.nodes.values():
        if isinstance(node, (nir.Conv1d, nir.Conv2d)):
            yield from (
                key for key in ("stride", "dilation") if np.any(np.array(getattr(node, key)) > 1)
            )
            yield from ("groups",) * (node.groups > 1)
        yield from ("largest",) * ("largest" in node.metadata)
        if np.shape(getattr(node, "r", 0)) == (1,):
            yield "shared parameters"
    yield from ("filter",) * ("f" in source.nodes)
    for name, link in graph.connections.items():
        yield from (type(link).__name__, f"sign {link.sign_mode.value}")
        yield f"exponent {'>' if link.weight_exp > 0 else '<' if link.weight_exp < 0 else '='} 0"
        yield from ("delay",) * (link.delay > 0)
        yield from ("split by sign",) * name.endswith(".plus")
        yield from ("loop",) * (
            graph.ends[name][0] not in graph.inputs and graph.timing.slack[name] > 0
        )
    for name in graph.neurons:
        sources = {graph.ends[link][0] for link in graph.incoming(name)} - {name}
        yield from ("branch",) * (len({s for s in sources if not s.endswith(".always_on")}) > 1)
    yield from ("several inputs",) * (len(graph.inputs) > 1)
    yield from ("graded input",) * any(node.message_bits for node in graph.inputs.values())
    yield from ("filtered bias",) * any(n.endswith(".always_on") for n in graph.neurons)
    yield from ("added delay",) * bool(graph.metadata["balanced_delays"])


class Tally:
    """What was compared."""

    def __init__(self) -> None:
        self.graphs = self.integers = self.spikes = self.spiking = 0
        self.kinds: Counter[str] = Counter()

    def add(self, source: nir.NIRGraph, graph: LoihiGraph, x: object) -> None:
        sim = simulate(graph, x, record=VARIABLES)
        lava = run_lava(graph, x, record=VARIABLES)
        assert set(sim) == set(lava)
        for node in sim:
            for variable in VARIABLES:
                ours, theirs = getattr(sim[node], variable), getattr(lava[node], variable)
                assert_array_equal(ours, theirs, err_msg=f"{node}.{variable}")
                self.integers += ours.size
        assert_every_path_gives(graph, x, lava)
        spikes = sum(sim.n_spikes.values())
        self.graphs += 1
        self.spikes += spikes
        self.spiking += spikes > 0
        self.kinds.update(set(features(source, graph)))

    def __str__(self) -> str:
        return (
            f"{self.graphs} random NIR graphs, {self.integers:,} integers equal in sim and Lava, "
            f"{self.spikes:,} spikes; graphs with each kind: {dict(sorted(self.kinds.items()))}"
        )


@st.composite
def cases(draw) -> tuple[nir.NIRGraph, LoihiGraph, object]:
    seed, wiring = draw(st.integers(0, 10**6)), draw(st.sampled_from(WIRINGS))
    bits, split = draw(st.integers(1, 8)), draw(st.booleans())
    graph, _ = random_nir(seed, wiring)
    lowered = lower(graph, reset="zero", weight_bits=bits, split_mixed=split)
    n_steps, batch = draw(st.sampled_from((1, 5, 8, 10))), draw(st.integers(1, 3))
    return graph, lowered, random_input(lowered, n_steps, batch, seed)


def run_many(n: int) -> Tally:
    tally = Tally()

    @settings(
        max_examples=n, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases())
    def compare(case: tuple[nir.NIRGraph, LoihiGraph, object]) -> None:
        tally.add(*case)

    compare()
    return tally


def check(tally: Tally, n: int, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{tally}")
    assert tally.graphs >= n
    assert tally.spiking > 0.7 * tally.graphs
    missing = [kind for kind in REQUIRED if not tally.kinds[kind]]
    assert not missing, missing


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
