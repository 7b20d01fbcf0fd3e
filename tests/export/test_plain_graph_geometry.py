"""Geometry of convolutions and pooling that does not fit is refused by name."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from biril_nm.errors import ConfigError, RangeError, UnsupportedNodeError
from biril_nm.export import lower
from tests.support.nir_graphs import (
    grid,
    single,
)


def conv2d(weight=None, **changes):
    weight = np.ones((4, 2, 3, 3)) if weight is None else weight
    geometry = {
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
        "bias": np.zeros(4),
        **changes,
    }
    return nir.Conv2d(None, weight, **geometry)


def pool(k=2, s=2, p=0):
    return nir.SumPool2d(*(np.broadcast_to(value, 2) for value in (k, s, p)))


def worded(field):
    node = conv2d()
    setattr(node, field, "many")
    return node


def strided_same():
    node = conv2d(stride=2)
    node.padding = "same"
    return node


@pytest.mark.parametrize(
    ("node", "shape", "message"),
    [
        (conv2d(stride=0), (2, 7, 7), r"'x': stride is .*expected 1 or 2 integers from 1"),
        (
            conv2d(stride=1.5),
            (2, 7, 7),
            r"'x' \(Conv2d\): stride is 1.5; expected 1 or 2 integers",
        ),
        (conv2d(padding=-1), (2, 7, 7), r"'x': padding is .*integers from 0"),
        (
            conv2d(padding=10**7),
            (2, 7, 7),
            r"'x' sends shape \(4, .*expected at most 16777216",
        ),
        (conv2d(dilation=4), (2, 7, 7), r"'x': kernel \(3, 3\) is larger than its input \(7, 7\)"),
        (conv2d(groups=0), (2, 7, 7), r"'x' \(Conv2d\) has weights .* in 0 groups; .*divide out"),
        (
            conv2d(groups=[1, 2]),
            (2, 7, 7),
            r"'x' \(Conv2d\): groups is \[1, 2\]; expected 1 integer",
        ),
        (
            conv2d(np.ones((4, 2, 3))),
            (2, 7, 7),
            r"'x' \(Conv2d\) has weights \(4, 2, 3\).*4 dimensions",
        ),
        (
            conv2d(bias=np.ones(3)),
            (2, 7, 7),
            r"'x' \(Conv2d\) has a bias of shape \(3,\); .*\(4,\)",
        ),
        (
            strided_same(),
            (2, 7, 7),
            r"'x': padding is 'same' .* stride .2 2.; expected the same padding on both sides",
        ),
        (worded("groups"), (2, 7, 7), r"'x' \(Conv2d\): groups is 'many'; expected 1 integer"),
        (
            worded("stride"),
            (2, 7, 7),
            r"'x' \(Conv2d\): stride is 'many'; expected 1 or 2 integers",
        ),
        (worded("padding"), (2, 7, 7), r"'x': padding is 'many' with kernel"),
        (pool(9), (2, 7, 7), r"'x': kernel \(9, 9\) is larger than its input"),
        (pool(2, 0), (2, 7, 7), r"'x': stride is .*integers from 1"),
        (
            pool(2.5),
            (2, 7, 7),
            r"'x' \(SumPool2d\): kernel_size is .*2.5.*expected 1 or 2 integers",
        ),
        (
            nir.Affine(np.ones((4, 5)), np.ones(5)),
            (5,),
            r"'x' \(Affine\) has a bias of shape \(5,\)",
        ),
        (
            nir.Scale(np.ones(3)),
            (4,),
            r"'x' \(Scale\) has values of shape \(3,\); expected \(",
        ),
        (
            nir.Scale(np.ones(4)),
            (2, 4),
            r"'x' \(Scale\) has values of shape \(4,\); expected \(2, 4\)",
        ),
        (
            nir.Delay(np.ones(3)),
            (4,),
            r"'x' \(Delay\) has values of shape \(3,\); expected \(",
        ),
        (
            nir.Delay(np.array(1e300)),
            (4,),
            r"'x' \(Delay\): delay is .* steps; expected 0 to 62",
        ),
        (nir.Delay(np.array(np.nan)), (4,), r"'x' \(Delay\): delay is not finite"),
        (
            nir.Flatten({"input": None}, 1, 0),
            (2, 3),
            r"'x' \(Flatten\) joins dimensions 1 to 0 of shape",
        ),
        (
            nir.Flatten({"input": None}, 0, 5),
            (2, 3),
            r"'x' \(Flatten\) joins dimensions 0 to 5 of shape",
        ),
        (nir.Flatten({"input": None}, -9, 1), (2, 3), r"'x' \(Flatten\) joins dimensions -9 to 1"),
    ],
)
def test_geometry_that_does_not_fit_is_refused(node, shape, message):
    with pytest.raises((ConfigError, UnsupportedNodeError, RangeError), match=message):
        lower(single(node, shape), reset="zero")


def test_a_convolution_too_large_to_be_unrolled_is_refused():
    conv = conv2d(np.ones((64, 64, 7, 7)), padding=3, bias=np.zeros(64))
    levels = np.linspace(1, 2, 64 * 32 * 32).reshape(64, 32, 32)
    graph = single(
        conv,
        (64, 32, 32),
        nir.LIF(
            tau=np.full_like(levels, 1e-2), r=levels, v_leak=0 * levels, v_threshold=0 * levels + 1
        ),
    )
    with pytest.raises(
        RangeError, match=r"node 'x': the convolution from .* needs 205520896 weights"
    ):
        lower(graph, dt_s=1e-3, reset="zero")


@pytest.mark.parametrize(
    "noted",
    [
        {"zeros_before": "x"},
        {"zeros_before": [0, 0], "kernel": [9, 9], "padding": [1, 1]},
        {"zeros_before": [0, 0], "kernel": [3, 3], "padding": [2, 2]},
        {"zeros_before": [[0]], "kernel": [3, 3], "padding": [0, 0]},
    ],
)
def test_tampered_notes_about_zeros_change_nothing(noted):
    conv = conv2d(grid((4, 2, 3, 3)))
    conv.input_shape = (7, 7)
    plain = lower(single(conv, (2, 7, 7)), reset="zero")
    conv.metadata = noted
    assert lower(single(conv, (2, 7, 7)), reset="zero").connections == plain.connections
