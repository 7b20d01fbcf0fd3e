"""Every way through the simulator gives the same integers, and those of Lava (lava-nc 0.10.0, fixed_pt)."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
import scipy.sparse

from biril_nm.errors import ConfigError
from biril_nm.export.lava.backend import run_lava
from biril_nm.hardware_sim import simulate
from biril_nm.hardware_sim.engine.paths import Paths
from biril_nm.hardware_sim.engine.program import compile_graph
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Sparse
from biril_nm.learning.rules import PAIR
from biril_nm.loihi import SignMode
from biril_nm.recording import VARIABLES
from tests.support.kernel_branches import BRANCHES, counted
from tests.support.lava_runs import any_integers
from tests.support.path_cases import (
    WIRINGS,
    learning_case,
    many_cases,
    quick_cases,
    quick_net,
    random_case,
)
from tests.support.sim_paths import (
    ALL_PATHS,
    BEST,
    FORMS,
    LEARNING_FORMS,
    again,
    assert_every_path_gives,
    assert_same,
    name_of,
    on_path,
    spoil,
)

# What every graph can do.
ALWAYS = {
    "power=kept", "taps=alone", "pixel=division", "modulo=passed", "registers=each",
    "receive=buffered", "order=by step", "block=one", "block=few", "memory=kept", "memory=new",
    "learned=products", "shifts=single", "first_phase=all", "step=declared",
}  # fmt: skip


class Tally:
    """How often each way was taken."""

    def __init__(self):
        self.taken, self.integers, self.spikes = Counter(), 0, 0

    def compare(self, case, every_form):
        """All paths of a case in its first form, and all forms on the best paths; or all with all."""
        wanted = case.wanted()
        self.spikes += sum(int(n) for key, n in wanted.items() if key.startswith("count"))
        for paths in (BEST, *(each for each in ALL_PATHS if case.matters(each))):
            if case.learns and paths.step == "declared" and not every_form:
                continue  # half a minute of compiling
            graph = on_path(case.graph, paths, case.learns)
            if graph is None:
                assert name_of(paths) not in ALWAYS, (case.name, name_of(paths))
                continue
            self.taken[name_of(paths)] += 1
            forms = case.forms if every_form or paths == BEST else list(case.forms)[:2]
            for form in forms:
                found = case.forms[form](graph, case.spikes)
                assert_same(found, wanted, f"{case.name}: {form} on {name_of(paths)}")
                self.taken[form] += 1
                self.integers += sum(array.size for array in found.values())

    def check(self):
        """Every way was taken."""
        ways = [*map(name_of, ALL_PATHS), *FORMS, *LEARNING_FORMS]
        assert [way for way in ways if not self.taken[way]] == []


def test_every_path_gives_the_same_integers():
    tally = Tally()
    for case in quick_cases():
        tally.compare(case, every_form=False)
    tally.check()
    assert tally.spikes > 2000
    assert tally.integers > 200_000


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_path_with_every_form_gives_the_same_integers():
    tally = Tally()
    for case in many_cases(range(20)):
        tally.compare(case, every_form=True)
    tally.check()
    assert tally.spikes > 40_000


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("wiring", [*WIRINGS, "quick"])
def test_every_path_equals_lava(wiring):
    for seed in range(4):
        case = quick_net(seed) if wiring == "quick" else random_case(seed, wiring)
        with any_integers():
            lava = run_lava(case.graph, case.spikes, record=VARIABLES)
        assert sum(lava.n_spikes.values()) > 0
        paths = [each for each in ALL_PATHS if case.matters(each)]
        assert_every_path_gives(case.graph, case.spikes, lava, paths)


OF_QUICK_NET = [each for each in (BEST, *ALL_PATHS) if quick_net().matters(each)]


@pytest.mark.parametrize("paths", OF_QUICK_NET, ids=name_of)
def test_a_wrong_path_is_found(paths):
    """Negative twin: weights of this path alone that are off by one."""
    case = quick_net()
    wanted, graph = case.wanted(), again(case.graph)
    first = next(iter(case.forms.values()))
    spoil(compile_graph(graph, paths))
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        assert_same(first(graph, case.spikes), wanted, name_of(paths))


@pytest.mark.parametrize("field", ["learned", "shifts", "first_phase"])
def test_a_wrong_rule_is_found_on_each_path(field):
    case = learning_case(1, "dense", PAIR)
    wanted = case.wanted()
    (name,) = case.graph.plastic
    rule = replace(PAIR, dw=(PAIR.dw[0], replace(PAIR.dw[1], exp=PAIR.dw[1].exp + 1)))
    twin = case.graph.with_node(name, rule=rule)
    taken = 0
    for paths in ALL_PATHS:
        graph = on_path(twin, paths, case.learns) if getattr(paths, field) else None
        if graph is None:
            continue
        taken += 1
        with pytest.raises(AssertionError, match="Arrays are not equal"):
            assert_same(case.forms["learns"](graph, case.spikes), wanted, name_of(paths))
    assert taken


def test_the_graphs_have_every_property():
    """What the kernels' branches depend on beyond paths: some graph has it, and some has not."""
    properties = {
        "graded": lambda g: any(node.message_bits for node in g.inputs.values()),
        "delay": lambda g: any(node.delay for node in g.connections.values()),
        "exponent": lambda g: any(node.weight_exp for node in g.connections.values()),
        "sparse": lambda g: any(isinstance(node, Sparse) for node in g.connections.values()),
        "groups": lambda g: any(
            n.groups > 1 for n in g.connections.values() if isinstance(n, Conv)
        ),
        "sign mode": lambda g: any(
            node.sign_mode is not SignMode.MIXED for node in g.connections.values()
        ),
        "model": lambda g: any(node.model != "cuba_lif" for node in g.neurons.values()),
        "loop": lambda g: any(each.looped for each in compile_graph(g).order),
        "many spikes": lambda g: max(node.size for node in g.neurons.values()) > 64,
        "rule": lambda g: any(node.rule is not PAIR for node in g.plastic.values()),
    }
    cases = quick_cases()
    for name, has in properties.items():
        assert {bool(has(case.graph)) for case in cases} == {False, True}, name
    assert {case.batch for case in cases} >= {1, 2, 3}
    ways = {*properties, "samples", *FORMS, *LEARNING_FORMS, *(f.name for f in fields(Paths))}
    named = {each for _, taken_by in BRANCHES.values() for each in taken_by.split(", ")}
    assert named <= ways, named - ways


def test_every_branch_of_the_kernels_is_in_the_table():
    """A new branch needs a row in kernel_branches.py, and a path or a graph that takes it."""
    assert counted() == {name: n for name, (n, _) in BRANCHES.items()}


def one(connection, neurons, message_bits=0):
    pre = connection.weight.shape[1]
    nodes = {"in": Input((pre,), message_bits), "c": connection, "n": neurons}
    return LoihiGraph(nodes, (("in", "c"), ("c", "n")))


PLAIN = Neurons((2,), vth=9)
REFUSED = {
    "int8": (
        one(Dense([[3, 200], [2, 1]]), PLAIN, 4),
        Paths(types="int8"),
        "Dense 'c' .* types='int8': its kernels",
    ),
    "wrap": (
        one(Dense(np.full((2, 600), 254), weight_exp=-3), PLAIN, 30),
        Paths(types="int32"),
        "types='int32': its sums wrap in 32 bits",
    ),
    "power": (
        one(Dense([[4, 8], [4, 4]], weight_exp=-3, delay=1), PLAIN, 4),
        Paths(power="moved"),
        "power='moved': its products may wrap",
    ),
    "short": (
        one(Dense([[2, 4], [4, 4]]), Neurons((2,), vth=9, du=7)),
        Paths(step="short"),
        "population 'n' .* it remembers u",
    ),
    "32 bits": (
        one(Dense([[2, 4]]), Neurons((1,), vth=9, model="cuba_lif_refractory")),
        Paths(step="32 bits"),
        "model 'cuba_lif_refractory' with these decays have no",
    ),
    "payloads": (
        one(Sparse(scipy.sparse.csr_matrix([[2, 4]])), Neurons((1,), vth=9), 3),
        Paths(sparse="silent"),
        "Sparse 'c' .* its spikes carry payloads",
    ),
    "shared": (
        one(Dense([[2, 4], [4, 4]]), Neurons((2,), vth=[1, 2])),
        Paths(registers="shared"),
        "its neurons differ",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_path_that_cannot_be_taken_is_refused(name):
    graph, paths, message = REFUSED[name]
    field = name_of(paths).split("=")[0]
    with pytest.raises(ConfigError, match=rf"{message}.*Leave {field} out"):
        compile_graph(graph, paths)


@pytest.mark.parametrize(
    ("case", "paths", "message"),
    [
        (random_case(0, "loop"), Paths(order="by node"), "it lies in a loop"),
        (random_case(0, "residual"), Paths(receive="fused"), "it has not one connection"),
        (quick_net(), Paths(types="int8", modulo="skipped"), None),
    ],
)
def test_wirings_refuse_paths(case, paths, message):
    graph = again(case.graph)
    if message is None:
        compile_graph(graph, paths)
        return
    with pytest.raises(ConfigError, match=message):
        compile_graph(graph, paths)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (Paths(learned="delta"), "have no such short cut"),
        (Paths(learned="shifts", shifts="table"), None),
    ],
)
def test_rules_refuse_paths(paths, message):
    case = learning_case(1, "dense", PAIR)
    graph = again(case.graph)
    compile_graph(graph, paths)
    if message is None:
        assert_same(case.forms["learns"](graph, case.spikes), case.wanted(), "together")
        return
    with pytest.raises(ConfigError, match=message):
        simulate(graph, case.spikes, learn=True)


def test_a_graph_keeps_the_paths_that_it_was_compiled_with():
    graph = again(quick_net().graph)
    program = compile_graph(graph, Paths(block="one"))
    assert compile_graph(graph) is program
    with pytest.raises(ConfigError, match=r"is compiled with Paths\(.*Compile an equal graph"):
        compile_graph(graph, Paths(block="few"))
    with pytest.raises(ConfigError, match="block is 'many'; expected"):
        Paths(block="many")
