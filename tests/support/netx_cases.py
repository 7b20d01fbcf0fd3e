"""Files of every layer kind that netx builds, as lists of layers for :func:`write_file`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.support.netx_runs import neuron

CASES: dict[str, Callable[[np.random.Generator], tuple[list[dict], tuple[int, ...]]]] = {}


def case(function):
    CASES[function.__name__] = function
    return function


def even(r, shape, size=60):
    return 2 * r.integers(-size // 2, size // 2 + 1, shape)


@case
def conv_stack(r):
    """Strides, dilation, groups, oblong kernels; biases per channel and per neuron; a readout."""
    layers = [
        {"type": "input", "shape": [4, 7, 6]},
        {
            "type": "conv", "shape": [6, 3, 4], "weight": even(r, (6, 2, 3, 2, 1)).astype(np.float32),
            "stride": [2, 1], "padding": [1, 0], "dilation": [2, 2], "groups": 2,
            "bias": r.integers(-3, 9, 6).astype(float), "neuron": neuron(),
        },
        {
            "type": "conv", "shape": [3, 3, 4], "weight": even(r, (3, 6, 3, 3)), "stride": 1,
            "padding": 1, "dilation": 1, "groups": 1, "bias": r.integers(-3, 9, (4, 3, 3)),
            "neuron": neuron(2048, 512, 60),
        },
        {"type": "flatten", "shape": [36, 1, 1]},
        {"type": "dense", "shape": [5, 1, 1], "weight": even(r, (5, 36)), "neuron": neuron(),
         "bias": r.integers(-3, 9, 5)},
        {"type": "dense", "shape": [3], "weight": even(r, (3, 5))},
    ]  # fmt: skip
    return layers, (4, 7, 6)


@case
def odd_weights(r):
    """Weights that need the ninth bit, all exponents, LOIHI neurons, a flat weight, no input layer."""
    return [
        {"type": "dense", "shape": [9], "weight": r.integers(-120, 250, (9, 8)), "neuron": neuron()},
        {"type": "dense", "shape": [8, 1, 1], "weight": r.integers(-3, 9, (8, 9)).ravel(),
         "neuron": neuron(vth=4, type="LOIHI")},
        {"type": "dense", "shape": [5], "weight": r.integers(1, 200, (5, 8)), "neuron": neuron()},
        {"type": "dense", "shape": [4], "weight": -r.integers(1, 100, (4, 5)), "bias": 90,
         "neuron": neuron()},
    ], (8,)  # fmt: skip


@case
def delay_per_synapse(r):
    return [
        {"type": "input", "shape": [6]},
        {"type": "dense", "shape": [7], "weight": r.integers(-20, 40, (7, 6)),
         "delay": r.integers(0, 5, (7, 6)).astype(np.float32), "neuron": neuron()},
        {"type": "dense", "shape": [4], "weight": even(r, (4, 7)), "delay": 62, "neuron": neuron()},
    ], (6,)  # fmt: skip


@case
def delay_per_row_and_column(r):
    """As many inputs as outputs: netx reads the delays per output."""
    return [
        {"type": "dense", "shape": [6], "weight": even(r, (6, 6)), "delay": np.arange(6.0),
         "neuron": neuron(vth=20)},
        {"type": "dense", "shape": [4], "weight": even(r, (4, 6)), "delay": np.array([3, 1, 4, 1, 5, 9]),
         "neuron": neuron(vth=20)},
    ], (6,)  # fmt: skip


@case
def recurrent(r):
    return [
        {"type": "dense_rec", "shape": [6], "weight": even(r, (6, 5)), "weight_rec": even(r, (6, 6)),
         "bias": r.integers(-5, 5, 6), "neuron": neuron()},
        {"type": "dense", "shape": [3], "weight": even(r, (3, 6)), "neuron": neuron(4096, 0, 30)},
    ], (5,)  # fmt: skip


@case
def integrator_with_bias(r):
    """v = sum of all input + bias, so u must not forget."""
    return [
        {"type": "dense", "shape": [4], "weight": even(r, (4, 5)), "bias": r.integers(-50, 50, 4)},
    ], (5,)


@case
def registers_per_channel_and_neuron(r):
    """slayer with shared_param=False writes one decay per channel; netx takes any that fit."""
    return [
        {"type": "input", "shape": [2, 4, 5]},
        {
            "type": "conv", "shape": [3, 4, 5], "weight": even(r, (3, 2, 3, 3)), "stride": 1,
            "padding": 1, "dilation": 1, "groups": 1,
            "neuron": neuron(np.array([300, 4096, 2000]), r.integers(0, 999, (5, 4, 3)), [30, 50, 70]),
        },
        {"type": "flatten"},
        {"type": "dense", "shape": [6], "weight": even(r, (6, 60)),
         "neuron": neuron(*(r.integers(20, high, 6) for high in (4096, 4096, 90)))},
    ], (2, 4, 5)  # fmt: skip
