"""Random NIR graphs, lowered: hardware_sim equals Lava (lava-nc 0.10.0, fixed_pt) in every s, u, v.

Graphs vary over node kinds, per-neuron parameters, convolution geometry, pooling, delays, branches,
loops, several inputs, integrators, resets (programs of neurons), maxima of spikes, fixed maps, weight bits,
exponents, sign modes and graded input. Ways through the simulator's kernels are forced in turn. The slow
suite runs at least 300 of them, the quick one a few that have every kind between them. Both print how many
graphs and integers were compared and in how many graphs each kind occurred; a kind of :data:`REQUIRED` that
never did is an error.
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

from biril_nm.compartments import RESET_MODELS
from biril_nm.export import lower
from biril_nm.export.lava.backend import run_lava
from biril_nm.hardware_sim import simulate
from biril_nm.hardware_sim.engine.paths import Paths
from biril_nm.hw_graph import LoihiGraph
from tests.support.random_nets import WIRINGS, random_input, random_nir, with_resets
from tests.support.sim_paths import STATIC_PATHS, assert_every_path_gives

pytestmark = pytest.mark.lava
VARIABLES = ("s", "u", "v")
SLOW = 300
# Seed, wiring, weight bits, split_mixed: every kind of REQUIRED, in a second of Lava for each graph.
QUICK = (
    (44, "inputs", 5, False), (69, "map", 8, True), (37, "filter", 8, False), (165, "readout", 8, True),
    (18, "maximum", 7, False), (1, "residual", 8, False), (3, "feedback", 6, False),
    (6, "convolutional loop", 8, True),
)  # fmt: skip


NODES = (
    "IF", "LIF", "CubaLIF", "Threshold", "I", "LI", "CubaLI", "Linear", "Affine", "Conv1d", "Conv2d",
    "AvgPool2d", "SumPool2d", "Flatten", "Scale", "Delay", "FixedMap",
)  # fmt: skip
REQUIRED = (
    *NODES, "Dense", "Sparse", "Conv", "sign mixed", "sign excitatory", "sign inhibitory", "exponent > 0",
    "exponent < 0", "delay", "added delay", "loop", "branch", "several inputs", "graded input",
    "stride", "groups", "dilation", "filtered bias", "shared parameters", "split by sign",
    "filter", "largest",
    # NIR says zero_delayed as cuba_lif: the spikes are the same.
    *(model.name for model in RESET_MODELS if model.name != "cuba_lif_zero_delayed"),
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
    for name, node in graph.neurons.items():
        yield node.model
        sources = {graph.ends[link][0] for link in graph.incoming(name)} - {name}
        yield from ("branch",) * (len({s for s in sources if not s.endswith(".always_on")}) > 1)
    yield from ("several inputs",) * (len(graph.inputs) > 1)
    yield from ("graded input",) * any(node.message_bits for node in graph.inputs.values())
    yield from ("filtered bias",) * any(n.endswith(".always_on") for n in graph.neurons)
    yield from ("added delay",) * bool(graph.metadata["balanced_delays"])


class Tally:
    """What was compared, each graph by these paths through the simulator."""

    def __init__(self, paths: tuple[Paths, ...]) -> None:
        self.paths = paths
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
        assert_every_path_gives(graph, x, lava, self.paths)
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


Case = tuple[nir.NIRGraph, LoihiGraph, object]


def case(seed: int, wiring: str, bits: int, split: bool, n_steps: int, batch: int) -> Case:
    graph, _ = random_nir(seed, wiring)
    graph = with_resets(graph, seed) if seed % 4 else graph
    lowered = lower(graph, reset="zero", weight_bits=bits, split_mixed=split)
    return graph, lowered, random_input(lowered, n_steps, batch, seed)


@st.composite
def cases(draw) -> Case:
    what = draw(st.integers(0, 10**6)), draw(st.sampled_from(WIRINGS))
    how = draw(st.integers(1, 8)), draw(st.booleans())
    return case(*what, *how, draw(st.sampled_from((1, 5, 8, 10))), draw(st.integers(1, 3)))


def run_many(n: int) -> Tally:
    tally = Tally(STATIC_PATHS)

    @settings(
        max_examples=n, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases())
    def compare(drawn: Case) -> None:
        tally.add(*drawn)

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
    tally = Tally((Paths(step="32 bits"),))
    for number, what in enumerate(QUICK):
        tally.add(*case(*what, n_steps=(6, 5)[number % 2], batch=(2, 1)[number // 2 % 2]))
    check(tally, len(QUICK), capsys)


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
