"""Random plastic networks: rules, tags, sign modes, modulators, wirings, and input for them."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.learning.rule import LearningRule, Term, Trace
from biril_nm.loihi import SignMode
from biril_nm.loihi.fixed_point import prepare_weights

TRACES = ("x1", "x2", "y1", "y2", "y3")


def random_trace(r, whole=False):
    impulse = r.choice([0, 1, 16, 40, 127, 16.25, 3.5, 7.75, 0.1])
    if whole:
        impulse = int(impulse)
    return Trace(float(impulse), float(r.choice([0, 0, 1, 2.5, 4, 10, 60])))


def random_factor(r, synaptic):
    names = [*TRACES, *TRACES, "x0", "y0"] + (["w", "t", "d", "w", "t"] if synaptic else [])
    name = str(r.choice(names))
    if name in ("x0", "y0"):
        return name
    kind = r.random()
    if name in ("w", "t", "d") and kind < 0.2:
        return f"sgn({name})" if kind < 0.1 else f"sgn({name}{int(r.integers(-60, 60)):+d})"
    return f"({name}{int(r.integers(-120, 120)):+d})" if kind < 0.35 else name


def random_term(r, synaptic, dependencies):
    dependency = str(r.choice(dependencies))
    factors = [random_factor(r, synaptic) for _ in range(r.choice([0, 1, 1, 2, 2, 3]))]
    order = [dependency, *factors] if r.random() < 0.5 else [*factors, dependency]
    if any(f in ("x0", "y0") for f in factors):
        order = [dependency, *factors]
    return Term(int(r.choice([-1, 1])), int(r.integers(-7, 6)), tuple(order), int(r.integers(0, 8)))


def random_rule(r, three_factor=False, synaptic=True, dependencies=("x0", "y0", "u"), t_epoch=None):
    """Any rule: products for w, and often for t and d, up to 3 factors each."""
    decimation = int(r.integers(0, 3))

    def terms(low):
        n = int(r.integers(low, 4))
        return tuple(random_term(r, synaptic, dependencies) for _ in range(n))

    return LearningRule(
        name="random",
        dw=terms(1),
        dt=terms(0),
        dd=terms(0) if r.random() < 0.5 else (),
        traces={
            name: random_trace(r, whole=three_factor and name.startswith("y"))
            for name in TRACES
            if not three_factor or name.startswith("x") or r.random() < 0.4
        },
        t_epoch=t_epoch or int(r.integers(1, 9)),
        decimation=decimation,
        seed=int(r.integers(0, 1000)),
        three_factor=three_factor,
    )


def random_weights(r, shape, mode, bits, legal):
    weights = r.integers(-300, 300, shape)
    if mode == "excitatory":
        weights = abs(weights)
    if mode == "inhibitory":
        weights = -abs(weights)
    return prepare_weights(weights, bits, SignMode(mode)) if legal else weights


def plastic_dense(r, pre, post, rule, modulators, legal=True):
    mode, bits = str(r.choice(["mixed", "excitatory", "inhibitory"])), int(r.integers(4, 9))
    tags = {}
    if r.random() < 0.6:
        tags["tag_t"] = r.integers(-256, 256, (post, pre))
    if r.random() < 0.4:
        tags["tag_d"] = r.integers(0, 256, (post, pre))
    return Dense(
        random_weights(r, (post, pre), mode, bits, legal),
        weight_exp=int(r.integers(-1, 2)),
        weight_bits=bits,
        sign_mode=mode,
        rule=rule,
        modulators=modulators,
        **tags,
    )


def plastic_sparse(r, pre, post, rule, modulators, legal=True):
    bits = int(r.integers(4, 9))
    weights = random_weights(r, (post, pre), "mixed", bits, legal)
    weights[0, 0] = 64
    keep = r.random((post, pre)) < 0.6
    keep[0, 0] = True
    matrix = scipy.sparse.csr_matrix(weights * keep)
    tags = {"tag_t": r.integers(-256, 256, matrix.nnz)} if r.random() < 0.6 else {}
    return Sparse(
        matrix,
        weight_exp=int(r.integers(-1, 2)),
        weight_bits=bits,
        rule=rule,
        modulators=modulators,
        **tags,
    )


def registers(r, shape):
    return {
        "vth": int(r.integers(5, 120)),
        "du": int(r.choice([4095, 4095, 3000, 1000])),
        "dv": int(r.choice([0, 200, 1500])),
        "bias_mant": r.integers(-500, 2500, shape),
        "bias_exp": int(r.integers(0, 3)),
    }


def static(r, pre, post):
    return Dense(2 * r.integers(-60, 100, (post, pre)))


def modulation(r, factors, post, target, nodes):
    """Modulators for these factors: Inputs, shared or not, the target itself, or error neurons."""
    modulators = {}
    for factor in factors:
        kind = r.choice(["values", "shared", "spikes", "self", "error"])
        if kind == "self":
            modulators[factor] = target
        elif kind == "error" and "error" in nodes:
            modulators[factor] = "error"
        else:
            name = f"m{len(nodes)}"
            nodes[name] = Input((1,) if kind == "shared" else (post,), 0 if kind == "spikes" else 7)
            modulators[factor] = name
    return modulators


def error_neurons(r, size, nodes):
    """Add neurons that compare an input with the output; returns their edges."""
    nodes["ein"] = Input((size,))
    nodes["ec"] = static(r, size, size)
    nodes["ecb"] = static(r, size, size)
    nodes["error"] = Neurons((size,), **registers(r, size))
    return [("ein", "ec"), ("ec", "error"), ("out_n", "ecb"), ("ecb", "error")]


def random_network(seed, kind=None, three_factor=None, rule=None, legal=True):
    """A net with one or two plastic connections.

    ``kind``: "dense", "sparse", "deep" (a hidden layer in front), "loop" (recurrent), "two" (two plastic
    connections in a row), "graded" (payloads in front).
    """
    r = np.random.default_rng(seed)
    kinds = ["dense", "dense", "sparse", "deep", "loop", "two", "graded"]
    kind = kind or str(r.choice(kinds))
    three = bool(r.random() < 0.35) if three_factor is None else three_factor
    pre, mid, post = (int(n) for n in r.integers(2, 9, 3))
    given = rule
    sparse = kind == "sparse" or (kind != "dense" and r.random() < 0.3 and given is None)
    if given is not None:
        three = given.three_factor

    def new_rule():
        return given or random_rule(r, three_factor=three, synaptic=not sparse)

    make = plastic_sparse if sparse else plastic_dense
    nodes = {"in": Input((pre,), 4 if kind == "graded" else 0)}
    edges = []
    source, size = "in", pre
    if kind in ("deep", "two"):
        nodes["hid"] = Neurons((mid,), **registers(r, mid))
        edges += [("in", "c0"), ("c0", "hid")]
        source, size = "hid", mid
    if three and r.random() < 0.5:
        edges += error_neurons(r, post, nodes)
    rule_1 = new_rule()
    modulators = modulation(r, rule_1.third_factors, post, "out_n", nodes)
    nodes["c1"] = make(r, size, post, rule_1, modulators, legal)
    nodes["out_n"] = Neurons((post,), **registers(r, post))
    edges += [(source, "c1"), ("c1", "out_n"), ("out_n", "out")]
    if kind == "deep":
        nodes["c0"] = static(r, pre, mid)
    if kind == "two":
        rule_0 = new_rule()
        factors = modulation(r, rule_0.third_factors, mid, "hid", {**nodes, "error": None})
        rule_0_inputs = [m for m in factors.values() if m not in ("hid", "error")]
        nodes.update({m: Input((mid,), 7) for m in rule_0_inputs})
        factors = {f: "hid" if m == "error" else m for f, m in factors.items()}
        nodes["c0"] = make(r, pre, mid, rule_0, factors, legal)
    if kind == "loop":
        rule_2 = new_rule()
        factors = dict.fromkeys(rule_2.third_factors, "out_n")
        nodes["self"] = make(r, post, post, rule_2, factors, legal)
        edges += [("out_n", "self"), ("self", "out_n")]
    nodes["out"] = Output()
    return LoihiGraph(nodes, tuple(edges))


def random_input(graph, n_steps, batch, seed):
    """Spikes and payloads for all inputs, modulators included."""
    r = np.random.default_rng(seed + 10_000)
    values = {}
    for name, node in graph.inputs.items():
        high = 1 << node.message_bits if node.message_bits else 2
        array = r.integers(0, high, (n_steps, batch, *node.shape))
        values[name] = array * (r.random(array.shape) < 0.6)
    return values
