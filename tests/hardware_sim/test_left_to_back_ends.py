"""What simulate takes although the chip has no register for it, as docs/graphs.md lists it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from biril_nm.errors import BirilError, RangeError
from biril_nm.export.design_rules import RULES, check_design
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons

PAGE = Path(__file__).parents[2] / "docs" / "graphs.md"
TAKES, REFUSES = True, False


def dense(message_bits=0, neurons=None, **fields):
    nodes = {
        "in": Input((3,), message_bits),
        "c": Dense(**{"weight": np.full((2, 3), 60), **fields}),
        "n": Neurons((2,), **{"vth": 100, **(neurons or {})}),
    }
    return LoihiGraph(nodes, (("in", "c"), ("c", "n")))


def conv(**fields):
    kernel = {"weight": np.full((1, 1, 2, 2), 60), **fields}
    nodes = {"in": Input((1, 3, 3)), "c": Conv(**kernel), "n": Neurons((1, 2, 2), vth=100)}
    return LoihiGraph(nodes, (("in", "c"), ("c", "n")))


CASES = {  # rule -> graphs that break it, and whether simulate takes them
    "compartments_fit_the_chip": [
        (dense(neurons={register: value}), TAKES)
        for register, value in (("vth", 1 << 18), ("du", 5000), ("dv", 5000), ("bias_mant", 5000),
                                ("bias_exp", 8))
    ],
    "weight_bits_are_1_to_8": [(dense(weight_bits=9), REFUSES)],
    "weights_survive_preparation": [
        (dense(weight=np.full((2, 3), weight)), TAKES) for weight in (61, 600)
    ],
    "kernels_stay_in_8_bits_and_sign": [(conv(weight=np.full((1, 1, 2, 2), 300)), TAKES)],
    "weight_exponents_fit_the_chip": [
        (dense(weight_exp=8), TAKES),
        (dense(weight_exp=-9), TAKES),
        (conv(weight_exp=8), TAKES),
        (conv(weight_exp=-1), REFUSES),
    ],
    "delays_fit_the_chip": [(dense(delay=63), TAKES)],
    "messages_fit_the_chip": [(dense(message_bits=25), TAKES)],
}  # fmt: skip


def test_every_limit_of_the_back_ends_stands_on_the_page():
    assert set(CASES) == {rule.__name__ for rule in RULES}
    table = PAGE.read_text(encoding="utf-8").rpartition("| limit |")[2].partition("\n\n")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(RULES) + 1  # registers and models are one rule


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_simulate_takes_what_the_page_says(rule):
    for graph, takes in CASES[rule.__name__]:
        with pytest.raises(RangeError, match="the graph does not fit"):
            check_design(graph, rules=(rule,))
        spikes = np.ones((3, 1, *graph.inputs["in"].shape), np.int32)
        if takes:
            assert simulate(graph, spikes, record="v")["n"].v.shape[0] == 3
            continue
        with pytest.raises(BirilError, match="weight_bits is 9|has weight_exp -1"):
            simulate(graph, spikes)


def test_a_register_of_one_population_is_replaced():
    graph = dense(neurons={"bias_mant": 1})
    changed = graph.with_node("n", bias_mant=[64, 128], bias_exp=2)
    assert changed.neurons["n"].bias_mant.tolist() == [64, 128]
    assert graph.neurons["n"].bias_mant == 1
    silence = np.zeros((1, 1, 3), np.int32)
    assert simulate(changed, silence, record="v")["n"].v[0, 0].tolist() == [256, 512]
