"""Lava's own rule objects: Lava runs the object, the simulator the rule that is read from it.

lava-nc 0.10.0, ``fixed_pt``. The Lava network is wired here by hand, so that nothing of ours stands between
the object and Lava. Texts are held against Lava's own reading as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.hw_graph.plastic import make_plastic
from biril_nm.learning.rule import POST_TRACES, Factor, LearningRule
from tests.support.lava_runs import load_lava
from tests.support.random_learning import random_rule

pytestmark = [pytest.mark.lava, pytest.mark.filterwarnings("ignore:pandas not found:ImportWarning")]
N_PRE, N_POST, N_STEPS = 5, 4, 18
NEURONS = {"vth": 60, "du": 4095, "dv": 400}
VARIABLES = {"w": "weights", "t": "tag_1", "d": "tag_2", "x1": "x1", "y1": "y1"}


@pytest.fixture(scope="module", autouse=True)
def lava() -> None:
    load_lava()


def two_factor(**arguments: Any) -> Any:
    from lava.magma.core.learning.learning_rule import Loihi2FLearningRule

    return Loihi2FLearningRule(**arguments)


def stdp() -> Any:
    from lava.proc.learning_rules.stdp_learning_rule import STDPLoihi

    return STDPLoihi(
        learning_rate=0.3, A_plus=3, A_minus=-1.5, tau_plus=10, tau_minus=7, t_epoch=2, rng_seed=3
    )


def reward_stdp() -> Any:
    from lava.proc.learning_rules.r_stdp_learning_rule import RewardModulatedSTDP

    return RewardModulatedSTDP(
        learning_rate=1, A_plus=2, A_minus=-2, pre_trace_decay_tau=9, post_trace_decay_tau=9,
        pre_trace_kernel_magnitude=16, post_trace_kernel_magnitude=16, eligibility_trace_decay_tau=0.5,
        t_epoch=2, rng_seed=5,
    )  # fmt: skip


def tagged() -> Any:
    return two_factor(
        dw="2^3*u1*t*sgn(w-40) + (3-y1)*x0*2^-1", dt="y0*2^-1*x1 - 4*x0*d", dd="2^-3*x0*(y1-20)+u1",
        x1_impulse=20.5, x1_tau=5.5, y1_impulse=np.int64(30), y1_tau=2.0**60, t_epoch=np.int32(3),
    )  # fmt: skip


def bare() -> Any:
    from lava.magma.core.learning.learning_rule import LoihiLearningRule

    return LoihiLearningRule(dw="2^-2*x0*x1 - x0*2^2", x1_impulse=40, x1_tau=4, rng_seed=1)


OBJECTS = {rule.__name__: rule for rule in (stdp, reward_stdp, tagged, bare)}


def network(rule: Any, seed: int) -> tuple[LoihiGraph, dict[str, Any]]:
    """An input of spikes, a connection that learns by ``rule``, targets; values for third factors."""
    r = np.random.default_rng(seed)
    nodes = {
        "in": Input((N_PRE,)),
        "fc": Dense(2 * r.integers(10, 40, (N_POST, N_PRE))),
        "n": Neurons((N_POST,), **NEURONS),
        "out": Output(),
    }
    graph = LoihiGraph(nodes, (("in", "fc"), ("fc", "n"), ("n", "out")))
    graph = make_plastic(graph, "fc", rule)
    values: dict[str, Any] = {"in": r.random((N_STEPS, 1, N_PRE)) < 0.3}
    for name in graph.plastic["fc"].modulators.values():
        values[name] = r.integers(0, 60, (N_STEPS, 1, N_POST))
    return graph, {name: np.asarray(value, dtype=np.int64) for name, value in values.items()}


def run_lava_by_hand(rule: Any, graph: LoihiGraph, values: dict[str, Any]) -> dict[str, Any]:
    """Lava's LearningDense with the object itself: its variables after every step."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.dense.process import LearningDense
    from lava.proc.io.source import RingBuffer
    from lava.proc.lif.process import LIF

    n_chip = N_STEPS + 1  # the last answer comes one step after the last input
    source = RingBuffer(data=np.pad(values["in"][:, 0], ((0, 1), (0, 0))).T)
    dense = LearningDense(weights=graph.plastic["fc"].weight.astype(int), learning_rule=rule)
    lif = LIF(shape=(N_POST,), bias_mant=0, bias_exp=0, **NEURONS)
    source.s_out.connect(dense.s_in)
    dense.a_out.connect(lif.a_in)
    lif.s_out.connect(dense.s_in_bap)
    for factor, name in graph.plastic["fc"].modulators.items():
        late = np.pad(values[name][:, 0], ((1, 0), (0, 0)))  # it modulates the answer, a step later
        RingBuffer(data=late.T).s_out.connect(getattr(dense, f"s_in_{factor}"))
    rows: dict[str, list[Any]] = {key: [] for key in VARIABLES}
    try:
        for _ in range(n_chip):
            lif.run(RunSteps(1), Loihi2SimCfg(select_tag="fixed_pt"))
            for key, name in VARIABLES.items():
                rows[key].append(getattr(dense, name).get().copy())
    finally:
        lif.stop()
    return {key: np.array(values) for key, values in rows.items()}


@pytest.mark.parametrize("name", OBJECTS)
def test_lava_runs_its_object_and_the_simulator_the_rule_of_it(name: str) -> None:
    rule = OBJECTS[name]()
    graph, values = network(rule, seed=len(name))
    lava = run_lava_by_hand(rule, graph, values)
    sim = simulate(graph, values, record="s,w,t,d,x1,y1", learn=True).connections["fc"]
    compared = sim.variables()
    if graph.plastic["fc"].modulators:
        del compared["y1"]  # the value at a port
    assert {"w", "x1"} <= set(compared) <= set(VARIABLES)
    for key, rows in compared.items():
        assert_array_equal(rows, lava[key], key)
    assert len(np.unique(lava["w"].reshape(N_STEPS + 1, -1), axis=0)) > 4
    twin, _ = network({"dw": "x0*x1", "x1_impulse": 16, "x1_tau": 10}, seed=len(name))
    other = simulate(twin, {"in": values["in"]}, record="w", learn=True).connections["fc"]
    assert not np.array_equal(other.w, lava["w"])


def lava_products(rule: Any) -> dict[str, list[Any]]:
    """Products as Lava read them: dependency, mantissa, exponent, factors."""
    return {
        variable: [
            (p.dependency, p.s_mantissa, p.s_exp - 7, sorted(map(lava_factor, p.factors)))
            for p in series.products
        ]
        for variable, series in rule.active_product_series.items()
    }


def lava_factor(factor: Any) -> tuple[Any, ...]:
    return (factor.state_var, factor.const or 0, factor.is_sgn)


def own_products(rule: LearningRule) -> dict[str, list[Any]]:
    return {
        variable: [
            (t.dependency, t.signed_mantissa, t.exp, sorted(map(own_factor, t.operands)))
            for t in rule.terms(variable)
        ]
        for variable in ("dw", "dt", "dd")
        if rule.terms(variable)
    }


def own_factor(factor: Factor) -> tuple[Any, ...]:
    return (factor.variable, factor.constant, factor.is_sgn)


def random_text(r: Any, rule: LearningRule) -> dict[str, str]:
    """The texts of a rule, written in other words that mean the same to Lava."""
    texts = {}
    for variable in ("dw", "dt", "dd"):
        text = rule.lava_text(variable)
        if text is not None:
            for plain, other in (
                ("2^0*", ""),
                ("*", " * "),
                ("*x1*", "*(x1)*"),
                ("4*2^", "(2^2)*2 ^ "),
            ):
                text = text.replace(plain, other) if r.random() < 0.3 else text
            texts[variable] = text
    return texts


def test_texts_are_read_as_lava_reads_them() -> None:
    traces = {f"{t}_{part}": 4 for t in ("x1", "x2", *POST_TRACES) for part in ("impulse", "tau")}
    count = 0
    for seed in range(60):
        r = np.random.default_rng(seed)
        texts = random_text(r, random_rule(r))
        theirs, ours = (
            two_factor(**texts, **traces),
            LearningRule.from_expressions(**texts, **traces),
        )
        assert lava_products(theirs) == own_products(ours), texts
        assert own_products(LearningRule.from_lava(theirs)) == own_products(ours)
        count += sum(map(len, own_products(ours).values()))
    assert count > 150


READ_ALIKE = (
    "(1) * 2 ^ -2 * (-1) * x0 * y1 +(1) * 2 ^ -2 * (3) * y0 * x1",
    "12*x0 - 96*2^-2*y0 + (-8)*y0*x1",
    "-x0*(3-y1) + (2^3+w)*x0*(-2)",
    "x0*y0*y0*sgn(3+t)*(d)",
    "u3*x1*2^+3*7",
    "- x0 + 0*y0",
)


@pytest.mark.parametrize("text", READ_ALIKE)
def test_forms_are_read_as_lava_reads_them(text: str) -> None:
    given = {"x1_impulse": 1, "y1_impulse": 1}
    ours = LearningRule.from_expressions(dw=text, **given)
    assert lava_products(two_factor(dw=text, **given)) == own_products(ours)


MISREAD = {  # what Lava makes of a text that is refused here: another rule than the one that is written
    "x0*(-x1)": [("x0", 1, 0, [("x1", 0, False)])],
    "x0*(x1+3+4)": [("x0", 1, 0, [("x1", 3, False)])],
    "u10*x1": [("u", 0, 0, [("x1", 0, False)])],
    "x0*sgn(-w)": [("x0", 1, 0, [("w", 0, True)])],
    "x0*(y0)": [("x0", 1, 0, [])],
}


@pytest.mark.parametrize("text", MISREAD)
def test_lava_misreads_what_is_refused(text: str) -> None:
    from biril_nm.errors import ConfigError

    rule = two_factor(dw=text, x1_impulse=1)
    assert lava_products(rule) == {"dw": MISREAD[text]}
    with pytest.raises(ConfigError):
        LearningRule.from_lava(rule)
