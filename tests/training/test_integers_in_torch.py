"""What torch does with a QuantizedNet changes no integer: other convolutions, casts, copies."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm.errors import ConfigError
from biril_nm.export import to_nir
from biril_nm.export.lowering import LoweringOptions, lower_stages
from biril_nm.parity import check_parity
from biril_nm.training.integers import QuantizedNet
from tests.support.quantized import assert_equal

SPIKES = np.random.default_rng(1).integers(0, 2, (2, 16, 2, 9, 9))


def lif():
    return snn.Leaky(beta=0.87, threshold=0.3, init_hidden=True)


@pytest.fixture
def net():
    """Two convolutions, pooling by average, and a dense layer, with weights of 8 bits."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), lif(), nn.Conv2d(8, 8, 3), lif(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(72, 5), lif(),
    )  # fmt: skip
    graph = to_nir(layers, torch.zeros(2, 2, 9, 9), dt_s=1e-3)
    return QuantizedNet(lower_stages(graph, LoweringOptions(weight_bits=8)))


def kinds(net):
    """The float types in which convolutions and others sum."""
    scales = {name: net.population(net.base.ends[name][1]).scale for name in net.base.connections}
    found = [net.connection(name).weights(scale).stored.dtype for name, scale in scales.items()]
    return set(found[:2]), set(found[2:])


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # as torch leaves a choice of oneDNN
@pytest.mark.parametrize("onednn", [True, False])
def test_convolutions_are_exact_with_and_without_onednn(net, onednn):
    """From 16 samples on torch would take Winograd of NNPACK, as wheels without oneDNN always do."""
    with torch.backends.mkldnn.flags(enabled=onednn):
        found = check_parity(net.graph(), SPIKES, ("torch", "sim"), net=net)
        assert assert_equal(net, SPIKES) > 1000
    assert found.ok, found.summary()


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_float32_sums_only_what_torch_does_not_round(net, monkeypatch):
    plain, wide = {torch.float32}, {torch.float64}
    assert kinds(net) == (plain, plain)
    monkeypatch.setattr(torch.backends.nnpack, "is_available", lambda: True)
    with torch.backends.mkldnn.flags(enabled=False):
        assert kinds(net) == (wide, plain)
        monkeypatch.setattr(torch.backends.nnpack, "is_available", lambda: False)
        assert kinds(net) == (plain, plain)
    for precision, expected in (("ieee", plain), ("bf16", wide)):  # as in torch 2.9 and later
        setting = SimpleNamespace(fp32_precision=precision)
        monkeypatch.setattr(torch.backends.mkldnn, "conv", setting, raising=False)
        assert kinds(net) == (expected, plain)
    for mode, expected in (("strict", plain), ("BF16", wide)):
        monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", mode)
        assert kinds(net)[1] == expected


@pytest.mark.parametrize("compiled", [True, False], ids=["kernels", "torch"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_casts_leave_integers_as_they_are(net, kind, compiled):
    net.compiled = compiled
    graph, scores = net.graph(), net(torch.as_tensor(SPIKES)).scores
    net.to(kind)
    assert {p.dtype for p in net.parameters()} == {kind}
    assert net.graph() == graph
    assert assert_equal(net, SPIKES) > 1000
    net(torch.as_tensor(SPIKES)).scores.sum().backward()
    net.float().double()  # gradients too
    torch.testing.assert_close(net(torch.as_tensor(SPIKES)).scores, scores, check_dtype=False)


def test_halves_round_alike_in_both_types(net):
    """A product in float32 may end on the other side of a half."""
    name, (_, after) = next(iter(net.base.ends.items()))
    link, target = net.connection(name), net.population(after)
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            target.log_scale.normal_(7, 1, generator=generator)
            steps = torch.randint(-60, 60, link.weight.shape, generator=generator) + 0.5
            link.weight.copy_(steps * link.unit / link.rows(target.scale))
        graph = net.graph()
        assert net.double().graph() == graph
        net.float()


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_the_default_type_of_torch_changes_nothing(net, kind):
    graph, scores = net.graph(), net(torch.as_tensor(SPIKES)).scores
    torch.set_default_dtype(kind)
    try:
        again = QuantizedNet(graph)
        assert again.graph() == graph and {p.dtype for p in again.parameters()} == {torch.float32}
        assert assert_equal(again, SPIKES) > 1000
        found = again(torch.as_tensor(SPIKES)).scores
        found.sum().backward()
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, scores)


@pytest.mark.parametrize("cast", ["half", "bfloat16"])
def test_casts_that_would_round_latents_are_refused(net, cast):
    with pytest.raises(ConfigError, match=r"are to become torch\.b?float16; expected float32 or float64, "
                       r"which are rounded to integers\. Give \.to\(\) a device alone"):  # fmt: skip
        getattr(net, cast)()
    assert assert_equal(net, SPIKES) > 1000
    empty = net.to_empty(device="meta")
    assert {buffer.device.type for buffer in empty.buffers()} == {"meta"}
