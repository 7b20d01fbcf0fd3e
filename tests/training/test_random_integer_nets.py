"""Random networks on the integers: forward and backward are those of a slow reference of the equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from biril_nm.export.lowering import LoweringOptions, lower_stages
from biril_nm.neurons.surrogates import make_surrogate, slope
from biril_nm.training.integers import QuantizedNet
from tests.support import random_graphs, random_nets
from tests.support.integer_reference import Reference
from tests.support.quantized import assert_equal

SURROGATES = ("sigmoid", "fast_sigmoid", "atan:3", "straight_through")
VARIABLES = ("s", "u", "v")
QUICK, SLOW = 10, 150


def seeds():
    """Few seeds in the quick suite, many in the slow one."""
    return [
        pytest.param(seed, marks=() if seed < QUICK else pytest.mark.slow) for seed in range(SLOW)
    ]


def compared(net, given, surrogate, seed):
    """All integers and gradients of a net beside the reference; the spikes."""
    inputs = given if isinstance(given, dict) else {next(iter(net.base.inputs)): given}
    function = make_surrogate(surrogate)
    wanted = Reference(net, inputs, lambda x: slope(function, x))
    found = net.run_integers(given, VARIABLES)
    for name, recorded in wanted.recorded.items():
        for key in VARIABLES:
            np.testing.assert_array_equal(getattr(found[name], key), np.stack(recorded[key]))
    factor = torch.as_tensor(np.random.default_rng(seed).normal(size=wanted.scores.shape))
    (wanted.scores * factor).sum().backward()
    spikes = 0
    for net.compiled in (False, True):
        spikes += assert_equal(net, given)
        net.zero_grad()
        scores = net({k: torch.as_tensor(np.array(v)) for k, v in inputs.items()}).scores
        torch.testing.assert_close(scores.double(), wanted.scores, rtol=2e-5, atol=1e-5)
        (scores * factor).sum().backward()
        compare_gradients(net, wanted.latents)
    return spikes


def compare_gradients(net, latents):
    """Those of a scale are sums of large parts of both signs: its error is measured by these."""
    known = {id(p): latents[id(p)].grad for p in net.parameters()}
    sizes = {key: float(g.abs().max()) for key, g in known.items() if g is not None and g.numel()}
    largest = max(sizes.values(), default=0.0)
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad or known[id(parameter)] is None or not parameter.numel():
            continue
        assert parameter.grad.isfinite().all()
        allowed = 2e-3 * sizes[id(parameter)] + 2e-5 * largest + 1e-6
        if name.endswith("log_scale"):
            allowed += 2e-3 * max(
                float((p.detach() * known[id(p)]).abs().sum())
                for p in net.parameters()
                if known[id(p)] is not None
            )
        error = (parameter.grad.double() - known[id(parameter)]).abs().max()
        assert error <= allowed, (name, float(error), allowed)


def moved(net, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.mul_(1 + 0.3 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("seed", seeds())
def test_random_graphs(seed):
    """Every connection, exponent, sign mode, delay, loop, payload and reset program."""
    graph = random_graphs.with_programs(random_graphs.random_graph([seed, 9]), seed)
    surrogate = SURROGATES[seed % len(SURROGATES)]
    net = QuantizedNet(graph, surrogate, symmetric=seed % 5 == 0)
    given = random_graphs.random_spikes(graph, 6, 3, seed)
    compared(net, given, surrogate, seed)
    moved(net, seed)
    compared(net, given, surrogate, seed)


@pytest.mark.parametrize("seed", seeds())
def test_random_networks_that_are_lowered(seed):
    """Pooling, filters, maxima, maps, biases, residual sums and integrators, with 1 to 8 bits."""
    source, _ = random_nets.random_nir(seed, random_nets.WIRINGS[seed % len(random_nets.WIRINGS)])
    options = LoweringOptions(weight_bits={"*": 1 + seed % 8}, reset="zero")
    stages = lower_stages(random_nets.with_resets(source, seed), options)
    surrogate = SURROGATES[seed % len(SURROGATES)]
    net = QuantizedNet(stages, surrogate, symmetric=seed % 3 == 0)
    given = random_nets.random_input(stages.graph, 6, 3, seed)
    compared(net, given, surrogate, seed)
    moved(net, seed)
    compared(net, given, surrogate, seed)
