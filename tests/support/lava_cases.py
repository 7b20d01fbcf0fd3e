"""Networks and spikes on which Lava and hardware_sim must agree in every integer.

Each case is a function of a random generator that returns (graph, spikes). Weights are even where
MIXED, sizes are small and never square, and thresholds are chosen so that spikes flow everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse

from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output, Sparse

Case = tuple[LoihiGraph, Any]
CASES: dict[str, Callable[[np.random.Generator], Case]] = {}


def case(function: Callable[[np.random.Generator], Case]) -> Callable[[np.random.Generator], Case]:
    CASES[function.__name__] = function
    return function


def make(name: str, seed: int = 7) -> Case:
    return CASES[name](np.random.default_rng(seed))


def mixed(rng: np.random.Generator, shape: Any, low: int = -50, high: int = 80) -> Any:
    return 2 * rng.integers(low, high, shape)


def csr(rng: np.random.Generator, shape: tuple[int, int], density: float = 0.4) -> Any:
    return scipy.sparse.csr_matrix(mixed(rng, shape) * (rng.random(shape) < density))


def binary(rng: np.random.Generator, n_steps: int, batch: int, *shape: int, p: float = 0.4) -> Any:
    return (rng.random((n_steps, batch, *shape)) < p).astype(np.uint8)


def chain(*nodes: tuple[str, Any]) -> LoihiGraph:
    names = [name for name, _ in nodes]
    return LoihiGraph(dict(nodes), tuple(pairwise(names)))


@case
def dense_if_without_bias(rng: np.random.Generator) -> Case:
    graph = chain(
        ("in", Input((9,))),
        ("fc1", Dense(mixed(rng, (12, 9)))),
        ("lif1", Neurons((12,), vth=150)),
        ("fc2", Dense(mixed(rng, (5, 12)))),
        ("lif2", Neurons((5,), vth=200)),
        ("out", Output()),
    )
    return graph, binary(rng, 8, 1, 9)


@case
def dense_lif_with_bias_batch_16(rng: np.random.Generator) -> Case:
    graph = chain(
        ("in", Input((2, 5))),
        ("fc1", Dense(mixed(rng, (8, 10)))),
        ("lif1", Neurons((8,), vth=180, dv=400, bias_mant=rng.integers(-900, 900, 8), bias_exp=2)),
        ("fc2", Dense(mixed(rng, (4, 8)))),
        ("lif2", Neurons((4,), vth=160, dv=1000, bias_mant=77, bias_exp=3)),
        ("out", Output()),
    )
    return graph, binary(rng, 6, 16, 2, 5)


@case
def cuba_with_registers_per_neuron(rng: np.random.Generator) -> Case:
    shape = (2, 3, 2)
    graph = chain(
        ("in", Input((7,))),
        ("fc1", Dense(mixed(rng, (12, 7)))),
        (
            "block.lif1",
            Neurons(
                shape,
                vth=rng.integers(100, 900, shape),
                du=rng.integers(0, 4096, shape),
                dv=rng.integers(0, 4097, shape),
                bias_mant=rng.integers(-300, 300, shape),
                bias_exp=1,
            ),
        ),
        ("fc2", Dense(mixed(rng, (6, 12)))),
        ("lif2", Neurons((6,), vth=300, du=1500, dv=300)),
        ("out", Output()),
    )
    return graph, binary(rng, 9, 3, 7)


@case
def dense_graded_input(rng: np.random.Generator) -> Case:
    graph = chain(
        ("in", Input((6,), message_bits=8)),
        ("fc1", Dense(mixed(rng, (7, 6)), weight_exp=-2)),
        ("lif1", Neurons((7,), vth=6000, dv=200)),
        ("fc2", Dense(mixed(rng, (3, 7)))),
        ("lif2", Neurons((3,), vth=150)),
        ("out", Output()),
    )
    return graph, rng.integers(0, 256, (5, 4, 6))


@case
def graded_23_bits_wraps_u_and_clips_v(rng: np.random.Generator) -> Case:
    graph = chain(
        ("in", Input((4,), message_bits=23)),
        ("fc", Dense(np.array([[2, 0, -2, 4], [0, 2, 2, -6], [2, 2, 0, 0]]))),
        ("lif", Neurons((3,), vth=131071, du=10, dv=3, bias_mant=4095, bias_exp=7)),
        ("out", Output()),
    )
    spikes = rng.integers(0, 1 << 17, (12, 2, 4))
    spikes[5, :, 0] = (1 << 23) - 1
    return graph, spikes


@case
def conv_net_batch_16(rng: np.random.Generator) -> Case:
    kernel2 = mixed(rng, (6, 2, 3, 2))
    graph = chain(
        ("in", Input((2, 7, 5))),
        ("conv1", Conv(mixed(rng, (4, 2, 3, 3)), stride=(2, 1), padding=(1, 0))),
        ("lif1", Neurons((4, 4, 3), vth=260, dv=250, bias_mant=-60)),
        ("conv2", Conv(kernel2, padding=(2, 1), dilation=(2, 1), groups=2, stride=(1, 2))),
        ("lif2", Neurons((6, 4, 2), vth=220)),
        ("fc", Dense(mixed(rng, (5, 48)))),
        ("lif3", Neurons((5,), vth=350, dv=128, bias_mant=20)),
        ("out", Output()),
    )
    return graph, binary(rng, 5, 16, 2, 7, 5)


@case
def conv_graded_exponents_and_signs(rng: np.random.Generator) -> Case:
    graph = chain(
        ("in", Input((1, 4, 6), message_bits=8)),
        ("conv1", Conv(rng.integers(0, 256, (3, 1, 2, 3)), weight_exp=2, sign_mode="excitatory")),
        ("lif1", Neurons((3, 3, 4), vth=100000, dv=64, du=3000)),
        ("conv2", Conv(-rng.integers(0, 256, (2, 3, 1, 2)), sign_mode="inhibitory")),
        ("lif2", Neurons((2, 3, 3), vth=3000, bias_mant=2000, bias_exp=5)),
        ("out", Output()),
    )
    return graph, rng.integers(0, 256, (6, 3, 1, 4, 6))


@case
def sparse_bits_exponents_and_signs(rng: np.random.Generator) -> Case:
    coarse = scipy.sparse.csr_matrix(16 * rng.integers(0, 16, (9, 8)) * (rng.random((9, 8)) < 0.6))
    graph = chain(
        ("in", Input((8,))),
        ("sp1", Sparse(coarse, weight_bits=4, sign_mode="excitatory", weight_exp=3)),
        ("lif1", Neurons((9,), vth=2500, dv=500)),
        ("sp2", Sparse(csr(rng, (6, 9)), weight_exp=-3)),
        ("lif2", Neurons((6,), vth=12, bias_mant=30)),
        ("sp3", Sparse(-abs(csr(rng, (4, 6))), sign_mode="inhibitory")),
        ("lif3", Neurons((4,), vth=60, bias_mant=4000)),
        ("out", Output()),
    )
    return graph, binary(rng, 8, 3, 8)


@case
def sparse_graded(rng: np.random.Generator) -> Case:
    graph = chain(
        ("in", Input((5,), message_bits=12)),
        ("sp", Sparse(csr(rng, (7, 5), 0.8), weight_exp=-4)),
        ("lif", Neurons((7,), vth=20000, dv=30)),
        ("out", Output()),
    )
    return graph, rng.integers(0, 4096, (7, 2, 5))


@case
def delays_of_each_kind(rng: np.random.Generator) -> Case:
    graph = chain(
        ("in", Input((2, 4, 3), message_bits=4)),
        ("conv", Conv(mixed(rng, (3, 2, 2, 2)), delay=2)),
        ("lif1", Neurons((3, 3, 2), vth=900, bias_mant=40)),
        ("fc", Dense(mixed(rng, (8, 18)), weight_exp=-1, delay=5)),
        ("lif2", Neurons((8,), vth=60)),
        ("sp", Sparse(csr(rng, (5, 8), 0.8), delay=3)),
        ("lif3", Neurons((5,), vth=110, dv=90, bias_mant=9)),
        ("conv_like", Dense(mixed(rng, (2, 5)), delay=62)),
        ("lif4", Neurons((2,), vth=60)),
        ("out", Output()),
    )
    return graph, rng.integers(0, 16, (7, 3, 2, 4, 3))


def residual(rng: np.random.Generator, skip_delay: int) -> Case:
    nodes = {
        "in": Input((3, 4, 5)),
        "conv1": Conv(mixed(rng, (4, 3, 3, 3)), padding=1),
        "lif1": Neurons((4, 4, 5), vth=300, dv=100, bias_mant=25),
        "conv2": Conv(mixed(rng, (4, 4, 3, 3)), padding=1),
        "lif2": Neurons((4, 4, 5), vth=300, bias_mant=-10),
        "conv3": Conv(mixed(rng, (4, 4, 1, 1))),
        "skip": Conv(mixed(rng, (4, 4, 1, 1)), delay=skip_delay),
        "lif3": Neurons((4, 4, 5), vth=200, dv=300),
        "fc": Dense(mixed(rng, (3, 80))),
        "lif4": Neurons((3,), vth=400, bias_mant=12),
        "out": Output(),
    }
    edges = [("in", "conv1"), ("conv1", "lif1"), ("lif1", "conv2"), ("conv2", "lif2")]
    edges += [("lif2", "conv3"), ("conv3", "lif3"), ("lif1", "skip"), ("skip", "lif3")]
    edges += [("lif3", "fc"), ("fc", "lif4"), ("lif4", "out")]
    return LoihiGraph(nodes, tuple(edges)), binary(rng, 6, 3, 3, 4, 5)


@case
def residual_balanced_by_delay(rng: np.random.Generator) -> Case:
    return residual(rng, 1)


@case
def residual_of_unequal_length(rng: np.random.Generator) -> Case:
    return residual(rng, 0)


def recurrent(rng: np.random.Generator, n_steps: int, batch: int) -> Case:
    nodes = {
        "in": Input((6,)),
        "fc1": Dense(mixed(rng, (8, 6)), delay=1),
        "lif1": Neurons((8,), vth=160, dv=300, bias_mant=90),
        "self": Dense(mixed(rng, (8, 8), -50, 50)),
        "fc2": Dense(mixed(rng, (5, 8))),
        "lif2": Neurons((5,), vth=150, du=2000, bias_mant=60),
        "back": Sparse(csr(rng, (8, 5)), delay=2),
        "fc3": Dense(mixed(rng, (4, 5))),
        "lif3": Neurons((4,), vth=90, bias_mant=33),
        "out": Output(),
    }
    edges = [("in", "fc1"), ("fc1", "lif1"), ("lif1", "self"), ("self", "lif1"), ("lif1", "fc2")]
    edges += [("fc2", "lif2"), ("lif2", "back"), ("back", "lif1"), ("lif2", "fc3")]
    edges += [("fc3", "lif3"), ("lif3", "out")]
    return LoihiGraph(nodes, tuple(edges)), binary(rng, n_steps, batch, 6)


@case
def recurrent_loops(rng: np.random.Generator) -> Case:
    return recurrent(rng, 8, 3)


@case
def self_loop_with_samples_shorter_than_latency(rng: np.random.Generator) -> Case:
    nodes = {
        "in": Input((3,)),
        "fc1": Dense(mixed(rng, (4, 3), 0), delay=7),
        "lif1": Neurons((4,), vth=40, bias_mant=1400),
        "self": Dense(mixed(rng, (4, 4))),
        "fc2": Dense(mixed(rng, (3, 4), -30, 40)),
        "lif2": Neurons((3,), vth=90, bias_mant=1500, dv=7),
        "out": Output(),
    }
    edges = [("in", "fc1"), ("fc1", "lif1"), ("lif1", "self"), ("self", "lif1"), ("lif1", "fc2")]
    edges += [("fc2", "lif2"), ("lif2", "out")]
    return LoihiGraph(nodes, tuple(edges)), binary(rng, 3, 5, 3, p=0.5)


@case
def two_inputs_two_outputs(rng: np.random.Generator) -> Case:
    nodes = {
        "image": Input((2, 3, 4), message_bits=8),
        "events": Input((5,)),
        "conv": Conv(mixed(rng, (3, 2, 2, 2))),
        "fc": Dense(mixed(rng, (18, 5)), weight_exp=6),
        "lif1": Neurons((3, 2, 3), vth=9000, dv=60),
        "fa": Dense(mixed(rng, (4, 18))),
        "a": Neurons((4,), vth=200, bias_mant=-5),
        "fb": Sparse(csr(rng, (6, 18))),
        "b": Neurons((2, 3), vth=100),
        "out_a": Output(),
        "out_b": Output(),
    }
    edges = [("image", "conv"), ("conv", "lif1"), ("events", "fc"), ("fc", "lif1")]
    edges += [("lif1", "fa"), ("fa", "a"), ("lif1", "fb"), ("fb", "b")]
    edges += [("a", "out_a"), ("b", "out_b")]
    spikes = {
        "image": rng.integers(0, 256, (6, 3, 2, 3, 4)),
        "events": binary(rng, 6, 3, 5),
    }
    return LoihiGraph(nodes, tuple(edges)), spikes


@case
def separate_parts_and_bias_only_source(rng: np.random.Generator) -> Case:
    nodes = {
        "in1": Input((3,)),
        "in2": Input((4,)),
        "unused": Input((2,)),
        "f1": Dense(mixed(rng, (5, 3), 0)),
        "n1": Neurons((5,), vth=100, bias_mant=11),
        "f2": Dense(mixed(rng, (4, 4), 0)),
        "n2": Neurons((4,), vth=120),
        "clock": Neurons((2,), vth=100, bias_mant=4000),
        "f3": Dense(mixed(rng, (4, 2), 0)),
    }
    edges = [("in1", "f1"), ("f1", "n1"), ("in2", "f2"), ("f2", "n2")]
    edges += [("clock", "f3"), ("f3", "n2")]
    spikes = {
        "in1": binary(rng, 5, 3, 3),
        "in2": binary(rng, 5, 3, 4),
        "unused": binary(rng, 5, 3, 2),
    }
    return LoihiGraph(nodes, tuple(edges)), spikes


@case
def one_step_samples(rng: np.random.Generator) -> Case:
    graph = chain(
        ("in", Input((6,), message_bits=8)),
        ("fc1", Dense(mixed(rng, (6, 6)))),
        ("lif1", Neurons((6,), vth=9000, bias_mant=10)),
        ("fc2", Dense(mixed(rng, (5, 6)))),
        ("lif2", Neurons((5,), vth=90, bias_mant=300)),
        ("fc3", Dense(mixed(rng, (3, 5)))),
        ("lif3", Neurons((3,), vth=50, bias_mant=700)),
        ("out", Output()),
    )
    return graph, rng.integers(0, 256, (1, 16, 6))


@case
def samples_shorter_than_latency(rng: np.random.Generator) -> Case:
    graph = chain(
        ("in", Input((4,))),
        ("fc1", Dense(mixed(rng, (5, 4)), delay=3)),
        ("lif1", Neurons((5,), vth=30, bias_mant=900, dv=20)),
        ("fc2", Dense(mixed(rng, (3, 5)), delay=1)),
        ("lif2", Neurons((3,), vth=45, bias_mant=800)),
        ("out", Output()),
    )
    return graph, binary(rng, 2, 5, 4)


@case
def one_neuron(rng: np.random.Generator) -> Case:
    graph = chain(
        ("in", Input((1,))), ("fc", Dense([[254]])), ("n", Neurons((1,), vth=508)), ("o", Output())
    )
    return graph, binary(rng, 9, 1, 1, p=0.8)
