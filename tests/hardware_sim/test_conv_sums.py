"""Sums of convolutions modulo 2**24: one arithmetic, with learning and without."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons
from biril_nm.learning.rules import PAIR

INT32 = np.iinfo(np.int32)


def lava_sum(taps: int, weight: int) -> int:
    """What Lava's Conv delivers: a float64 sum cast to int32 as x86 does, then signed modulo 2**24."""
    total = float(taps) * float(weight)
    cast = int(total) if INT32.min <= total <= INT32.max else INT32.min
    return (cast + (1 << 23)) % (1 << 24) - (1 << 23)


def loop_behind_a_conv(weight: int, weight_exp: int) -> LoihiGraph:
    """Three neurons, a convolution over them, and a plastic connection back to them."""
    nodes = {
        "in": Input((1, 1, 3)),
        "first": Conv([[[[2]]]]),
        "a": Neurons((1, 1, 3), vth=1),
        "sum": Conv(np.full((1, 1, 1, 3), weight), weight_exp=weight_exp),
        "b": Neurons((1, 1, 1), vth=(1 << 17) - 1, du=4095, dv=4095),
        "back": Dense(np.zeros((3, 1), int), rule=PAIR),
    }
    chain = tuple(nodes)
    return LoihiGraph(nodes, (*pairwise(chain), ("back", "a")))


@pytest.mark.parametrize(
    ("weight", "exponent"),
    [(5, 0), (1 << 22, 0), (-(1 << 22) - 1, 1), ((1 << 30) + 1, 0), (-(1 << 29) - 1, 1)],
)
@pytest.mark.parametrize("taps", [1, 2, 3])
def test_sums_of_a_conv_are_those_of_lava_with_learning_and_without(weight, exponent, taps):
    graph = loop_behind_a_conv(weight, exponent)
    spikes = np.zeros((3, 1, 1, 1, 3), int)
    spikes[0, ..., :taps] = 1
    frozen, learned = (
        simulate(graph, spikes, record=("s", "u", "v"), learn=learn) for learn in (False, True)
    )
    u = np.int64(lava_sum(taps, weight << exponent)) << 6
    expected = (u + (1 << 31)) % (1 << 32) - (1 << 31)  # 32 bits, then one wrap into 24
    expected = expected - (1 << 24) if expected > 1 << 23 else expected
    expected = expected + (1 << 24) if expected <= -(1 << 23) else expected
    assert frozen["a"].s.sum() == taps
    assert frozen["b"].u.ravel()[0] == expected
    for variable in ("s", "u", "v"):
        assert_array_equal(getattr(learned["b"], variable), getattr(frozen["b"], variable))


def test_the_cases_tell_the_cast_from_a_plain_modulo():
    plain = ((3 * ((1 << 30) + 1) + (1 << 23)) % (1 << 24)) - (1 << 23)
    assert plain == 3 != lava_sum(3, (1 << 30) + 1) == 0
