"""Random LoihiGraphs with raw registers: hardware_sim equals Lava (lava-nc 0.10.0, fixed_pt).

Any wiring, exponent, sign mode, number of weight bits and register, also weights that Lava clips and
truncates when it loads them, and negative bias exponents; several samples in one stream. Every s, u
and v is compared in node time and in Lava's own chip time. Some graphs share one Lava run, side by
side, because starting a run costs more than its steps.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from biril_nm.compartments import RESET_MODELS
from biril_nm.export.lava.backend import run_lava
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, LoihiGraph
from tests.support.lava_runs import any_integers
from tests.support.random_graphs import random_graph, random_spikes, with_programs
from tests.support.sim_paths import QUICK_PATHS, STATIC_PATHS, assert_every_path_gives

pytestmark = pytest.mark.lava
VARIABLES = ("s", "u", "v")
WIRINGS = ("plain", "residual", "self", "loop", "inputs")
QUICK, SLOW, TOGETHER = 10, 150, 5
KINDS = (
    *WIRINGS, "Dense", "Sparse", "Conv", "mixed", "excitatory", "inhibitory", "delay", "graded", "signed",
    "exponent < 0", "exponent > 0", "fewer bits", "stride", "dilation", "groups", "padding",
    "samples", "bias exponent < 0", *(model.name for model in RESET_MODELS),
)  # fmt: skip


def side_by_side(graphs: list[LoihiGraph]) -> LoihiGraph:
    """One graph of unconnected parts; names get the part's number in front."""
    nodes = {f"{i}.{name}": node for i, g in enumerate(graphs) for name, node in g.nodes.items()}
    edges = [(f"{i}.{a}", f"{i}.{b}") for i, g in enumerate(graphs) for a, b in g.edges]
    return LoihiGraph(nodes, tuple(edges))


def lava_trace(graph: LoihiGraph, spikes: dict[str, np.ndarray]):
    with any_integers():
        return run_lava(graph, spikes, record=VARIABLES)


def kinds_of(graph: LoihiGraph, batch: int) -> set[str]:
    found = {"samples"} if batch > 1 else set()
    found |= {"graded" for node in graph.inputs.values() if node.message_bits}
    found |= {"signed" for node in graph.inputs.values() if node.signed}
    found |= {node.model for node in graph.neurons.values()}
    found |= {"bias exponent < 0" for node in graph.neurons.values() if node.bias_exp < 0}
    for node in graph.connections.values():
        found |= {type(node).__name__, node.sign_mode.value}
        found |= {
            name
            for name, occurs in (
                ("delay", node.delay),
                ("exponent < 0", node.weight_exp < 0),
                ("exponent > 0", node.weight_exp > 0),
                ("fewer bits", node.weight_bits < 8),
            )
            if occurs
        }
        if isinstance(node, Conv):
            default = {"stride": (1, 1), "dilation": (1, 1), "padding": (0, 0), "groups": 1}
            found |= {name for name, usual in default.items() if getattr(node, name) != usual}
    return found


class Tally:
    """What was compared."""

    def __init__(self, programs: bool) -> None:
        self.programs = programs  # whether some parts have neurons that Lava has not
        self.graphs = self.runs = self.integers = self.spikes = 0
        self.kinds: Counter[str] = Counter()

    def add(self, parts: list[tuple[int, str]], n_steps: int, batch: int) -> None:
        graphs = [random_graph(seed, wiring) for seed, wiring in parts]
        if self.programs:
            odd = zip(graphs[1::2], parts[1::2])
            graphs[1::2] = [with_programs(graph, seed) for graph, (seed, _) in odd]
        graph = side_by_side(graphs)
        spikes = {}
        for i, (part, (seed, wiring)) in enumerate(zip(graphs, parts)):
            given_spikes = random_spikes(part, n_steps, batch, seed)
            named = given_spikes if isinstance(given_spikes, dict) else {"in": given_spikes}
            spikes |= {f"{i}.{name}": values for name, values in named.items()}
            self.kinds.update({wiring, *kinds_of(part, batch)})
        lava, sim = lava_trace(graph, spikes), simulate(graph, spikes, record=VARIABLES)
        for theirs, ours in ((lava, sim), (lava.chip_time(), sim.chip_time())):
            assert list(theirs) == list(ours)
            for node in theirs:
                for variable in VARIABLES:
                    a, b = getattr(theirs[node], variable), getattr(ours[node], variable)
                    assert_array_equal(a, b, err_msg=f"{node}.{variable}")
                    self.integers += a.size
        assert lava.n_spikes == sim.n_spikes
        paths = STATIC_PATHS if self.programs else QUICK_PATHS
        assert_every_path_gives(graph, spikes, lava, paths)
        self.graphs += len(parts)
        self.runs += 1
        self.spikes += sum(sim.n_spikes.values())

    def __str__(self) -> str:
        return (
            f"{self.graphs} random graphs in {self.runs} Lava runs, {self.integers:,} integers equal in "
            f"sim and Lava, {self.spikes:,} spikes, graphs with {dict(sorted(self.kinds.items()))}"
        )


PARTS = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from(WIRINGS)),
    min_size=TOGETHER,
    max_size=TOGETHER,
)


def run_many(n: int, capsys: pytest.CaptureFixture[str], programs: bool = False) -> Tally:
    tally = Tally(programs)

    @settings(
        max_examples=n // TOGETHER, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(PARTS, st.integers(1, 8), st.integers(1, 4))
    def compare(parts: list[tuple[int, str]], n_steps: int, batch: int) -> None:
        tally.add(parts, n_steps, batch)

    compare()
    with capsys.disabled():
        print(f"\n{tally}")
    assert tally.graphs >= n
    assert tally.spikes > 20 * tally.graphs
    return tally


def test_a_few_random_graphs(capsys: pytest.CaptureFixture[str]) -> None:
    tally = run_many(QUICK, capsys)
    for kind in ("Dense", "Sparse", "Conv", "mixed", "delay", "fewer bits"):
        assert tally.kinds[kind] > 0, kind


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_random_graphs(capsys: pytest.CaptureFixture[str]) -> None:
    tally = run_many(SLOW, capsys, programs=True)
    for kind in KINDS:
        assert tally.kinds[kind] >= 3, kind


def test_one_register_off_by_one_is_seen() -> None:
    """Negative twin: the comparison sees one integer of one part."""
    graph = side_by_side([random_graph(1, "self"), random_graph(4, "loop")])
    spikes = {
        f"{i}.in": np.ones((6, 2, *graph.inputs[f"{i}.in"].shape), np.int64) for i in range(2)
    }
    lava = lava_trace(graph, spikes)
    node = graph.neurons["1.n1"]
    twin = graph.with_node("1.n1", bias_mant=node.bias_mant + (1 << max(0, -node.bias_exp)))
    sim = simulate(twin, spikes, record=VARIABLES)
    assert not np.array_equal(lava["1.n1"].v, sim["1.n1"].v)
    assert np.array_equal(lava["0.n1"].v, sim["0.n1"].v)
