"""Every limit of the chip is found, all at once, with the node and the way out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from biril_nm.errors import ConfigError, RangeError
from biril_nm.export.design_rules import CAUTIONS, RULES, check_design, findings, warnings
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Sparse
from biril_nm.learning.rules import PAIR
from biril_nm.loihi import LOIHI1, LOIHI2


def graph() -> LoihiGraph:
    nodes = {
        "in": Input((2, 3, 4)),
        "conv": Conv(np.full((2, 2, 2, 2), 6)),
        "lif1": Neurons((2, 2, 3), vth=500, du=1000, dv=200),
        "fc": Dense(np.full((5, 12), 4)),
        "lif2": Neurons((5,), vth=[100, 200, 300, 400, 500], dv=[0, 100, 200, 300, 4095]),
        "sp": Sparse(scipy.sparse.eye(3, 5, dtype=int) * 2),
        "lif3": Neurons((3,), vth=131071, bias_mant=[-4095, 0, 4095], bias_exp=7),
    }
    names = list(nodes)
    return LoihiGraph(nodes, tuple(pairwise(names)))


def test_a_legal_graph_passes_without_a_word() -> None:
    for chip in ("loihi1", LOIHI2):
        check_design(graph(), chip)
        assert warnings(graph(), chip) == ()


VIOLATIONS: list[tuple[str, dict[str, Any], str]] = [
    ("lif1", {"du": -1}, r"'lif1': du is -1 \(1 of 1 values\); expected 0 to 4095"),
    ("lif1", {"du": 4096}, r"du is 4096 .*Use du = round\(4096 \* decay\) - 1"),
    ("lif1", {"dv": -1}, r"dv is -1 .*expected 0 to 4096"),
    ("lif2", {"dv": [0, 4097, 5000, 1, 2]}, r"'lif2': dv is 4097 to 5000 \(2 of 5 values\)"),
    ("lif1", {"vth": -1}, r"vth is -1 .*expected 0 to 131071"),
    ("lif2", {"vth": 131072}, r"'lif2': vth is 131072 .*rescale the layer"),
    ("lif2", {"bias_mant": 4096}, r"bias_mant is 4096 .*-4095 to 4095.*into bias_exp"),
    ("lif2", {"bias_mant": -4096}, r"bias_mant is -4096"),
    ("lif1", {"bias_exp": 8}, r"bias_exp is 8 .*0 to 7.*Fold the exponent"),
    ("lif1", {"bias_exp": -1}, r"bias_exp is -1"),
    ("fc", {"weight_bits": 9}, r"'fc': weight_bits is 9; expected 1 to 8"),
    ("sp", {"weight_bits": 0}, r"'sp': weight_bits is 0"),
    (
        "fc",
        {"weight": np.full((5, 12), 3)},
        r"60 weights would change .*from 3 to 2.*prepare_weights",
    ),
    ("fc", {"weight": np.full((5, 12), 256)}, r"from 256 to 254"),
    ("fc", {"weight": np.full((5, 12), -258)}, r"from -258 to -256"),
    ("fc", {"sign_mode": "inhibitory"}, r"from 4 to 0; expected what inhibitory weights of 8 bits"),
    ("fc", {"weight_bits": 6}, r"from 4 to 0"),
    ("sp", {"weight": scipy.sparse.eye(3, 5, dtype=int)}, r"'sp': 3 weights would change"),
    ("conv", {"weight": np.full((2, 2, 2, 2), 256)}, r"16 kernel values are 256; .*-256 to 255"),
    ("conv", {"sign_mode": "inhibitory"}, r"'conv': 16 kernel values are 6; expected -255 to 0"),
    (
        "conv",
        {"weight_exp": -1},
        r"'conv': weight_exp is -1; expected 0 to 7. Choose another scale",
    ),
    ("fc", {"weight_exp": -9}, r"'fc': weight_exp is -9; expected -8 to 7"),
    ("sp", {"weight_exp": 8}, r"'sp': weight_exp is 8"),
    ("conv", {"delay": 63}, r"'conv': delay is 63; expected 0 to 62. Insert a relay"),
    ("in", {"message_bits": 25}, r"'in': message_bits is 25; expected 0 to 24 on loihi2"),
]


@pytest.mark.parametrize(("node", "change", "message"), VIOLATIONS)
def test_each_limit_is_reported(node: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(RangeError, match="(?s)the graph does not fit loihi2:.*" + message):
        check_design(graph().with_node(node, **change))


def test_every_rule_has_a_violation_above() -> None:
    named = {
        rule.__name__
        for node, change, _ in VIOLATIONS
        for rule in RULES
        if findings(graph().with_node(node, **change), LOIHI2, (rule,))
    }
    assert named == {rule.__name__ for rule in RULES}


def test_all_violations_are_reported_together() -> None:
    wrong = graph().with_node("lif1", du=9999, vth=-5).with_node("fc", weight_exp=20)
    with pytest.raises(RangeError) as caught:
        check_design(wrong)
    text = str(caught.value)
    assert text.count("\n  - ") == 3
    assert "du is 9999" in text and "vth is -5" in text and "weight_exp is 20" in text


def test_graded_input_needs_a_chip_that_has_it() -> None:
    graded = graph().with_node("in", message_bits=8)
    check_design(graded, LOIHI2)
    with pytest.raises(RangeError, match=r"expected 0 on loihi1\. Use rate coding"):
        check_design(graded, LOIHI1)
    with pytest.raises(ConfigError, match="known chips: loihi1, loihi2"):
        check_design(graded, "loihi3")


CAUTIONED: list[tuple[str, dict[str, Any], str]] = [
    ("lif1", {"vth": 20}, "'lif1': vth is 20, a rounding step of 5 %"),
    ("lif2", {"dv": [0, 10, 49, 50, 60]}, "'lif2': dv is 10 to 49, so tau is off by up to 5 %"),
    ("lif1", {"dv": 4096}, "'lif1': dv is 4096, which Lava runs exactly"),
    ("lif3", {"du": -1, "dv": 4096}, "'lif3': du is -1, with which u sums up its input"),
    (
        "conv",
        {"weight": np.full((2, 2, 2, 2), 7)},
        "'conv': 16 kernel values are off the weight grid",
    ),
    ("conv", {"delay": 2}, "'conv': convolution with a delay of 2, built in Lava as DelayLine"),
    ("fc", {"rule": PAIR}, "'fc': learning rule 'pair' is at rest"),
    (
        "lif1",
        {"model": "cuba_lif_subtract"},
        "'lif1': compartment model 'cuba_lif_subtract' is a pr",
    ),
]


@pytest.mark.parametrize(("node", "change", "message"), CAUTIONED)
def test_cautions_do_not_stop_the_export(node: str, change: dict[str, Any], message: str) -> None:
    doubtful = graph().with_node(node, **change)
    check_design(doubtful)
    assert [str(finding)[: len(message)] for finding in warnings(doubtful)] == [message]


def test_every_caution_is_covered() -> None:
    assert len(CAUTIONS) == len(CAUTIONED)
