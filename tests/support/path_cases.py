"""Graphs for every way through the simulator: all connections, wirings and models, and rules that learn."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import scipy.sparse

from biril_nm.compartments import COMPARTMENTS
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.learning.rule import LearningRule, Term
from biril_nm.learning.rules import DELTA, OJA, PAIR
from biril_nm.loihi import LOIHI2
from tests.support.random_graphs import random_graph, random_spikes
from tests.support.random_learning import random_input, random_network
from tests.support.sim_paths import Case

WIRINGS = ("plain", "residual", "self", "loop", "inputs")
KINDS = ("dense", "sparse", "deep", "loop", "two", "graded")
QUICK_MODELS = ("cuba_lif_subtract", "cuba_lif_refractory", "ternary_lif")
X0_ONLY = LearningRule("x0 only", (Term(-1, -3, ("x0", "y1")),), traces=PAIR.traces, t_epoch=3)


def quick_net(seed=0):
    """Conv, Dense, Sparse, of populations that take every fast path."""
    r = np.random.default_rng([seed, 5])
    nodes = {
        "in": Input((2, 6, 7)),
        "conv": Conv(2 * r.integers(-25, 45, (4, 2, 3, 3))),
        "n1": Neurons((4, 4, 5), vth=300, dv=100),
        "fc": Dense(2 * r.integers(-20, 30, (40, 80))),
        "n2": Neurons((40,), vth=250, dv=50),
        "last": Sparse(scipy.sparse.csr_matrix(2 * r.integers(-30, 40, (5, 40)))),
        "n3": Neurons((5,), vth=90),
        "out": Output(),
    }
    names = list(nodes)
    graph = LoihiGraph(nodes, tuple(pairwise(names)))
    return Case("quick", graph, r.integers(0, 2, (7, 3, 2, 6, 7)))


def of_model(graph, name, seed):
    """The same with neurons of one model, and registers that it has beyond those of CUBA-LIF."""
    r = np.random.default_rng([*np.ravel(seed), 29])

    def drawn(register, node):
        if register.name in node.registers:
            return node.registers[register.name]
        low, high = register.limits(LOIHI2)
        return r.integers(max(low, -90), min(high, 90) + 1, node.shape)

    changed = {
        key: Neurons(
            node.shape,
            model=name,
            registers={each.name: drawn(each, node) for each in COMPARTMENTS[name].registers},
        )
        for key, node in graph.neurons.items()
    }
    return replace(graph, nodes={**graph.nodes, **changed})


def random_case(seed, wiring, model="cuba_lif"):
    """A random graph of one wiring and one model."""
    graph = random_graph([seed, 31], wiring)
    graph = graph if model == "cuba_lif" else of_model(graph, model, seed)
    spikes = random_spikes(graph, 3 + seed % 6, 1 + seed % 3, seed)
    return Case(f"{wiring}, {model}, {seed}", graph, spikes)


def learning_case(seed, kind, rule=None):
    """A random network that learns, by a random rule or one that has short cuts."""
    graph = random_network([seed, 41], kind, rule=rule)
    named = rule.name if rule else "random rule"
    return Case(f"{kind}, {named}, {seed}", graph, random_input(graph, 9, 2, seed), learns=True)


def quick_cases():
    """A few of everything."""
    found = [quick_net(), *(random_case(seed, wiring) for seed, wiring in enumerate(WIRINGS))]
    found += [random_case(11, "residual", name) for name in QUICK_MODELS]
    found += [learning_case(seed, kind) for seed, kind in enumerate(KINDS)]
    return found + [learning_case(1, "dense", rule) for rule in (PAIR, DELTA, OJA, X0_ONLY)]


def many_cases(seeds):
    """The same of many seeds."""
    for seed in seeds:
        yield quick_net(seed)
        for wiring in WIRINGS:
            names = list(COMPARTMENTS)
            yield random_case(seed, wiring)
            yield random_case(seed, wiring, names[(seed + WIRINGS.index(wiring)) % len(names)])
        yield from (learning_case(seed, kind) for kind in KINDS)
        yield from (learning_case(seed, "dense", rule) for rule in (PAIR, DELTA, OJA, X0_ONLY))
