"""Every fixed linear map between spikes and neurons becomes synapses: the matrix of what torch computes."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
import torch.nn.functional as F
from torch import nn

from biril_nm.errors import ConfigError, RangeError, UnsupportedNodeError
from biril_nm.export import lower, to_nir
from biril_nm.export.from_torch import effects
from biril_nm.export.lowering import LoweringOptions
from biril_nm.export.lowering.pipeline import lower_stages
from biril_nm.export.nir_files import read_nir, write_nir
from biril_nm.export.nir_nodes.fixed_map import FixedMap
from biril_nm.export.nir_nodes.linear_maps import as_matrix
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Sparse

ZERO = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
W = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([True, False, True, True])


class Between(nn.Module):
    """Neurons, a function, neurons; or a layer in place of the function."""

    def __init__(self, function) -> None:
        super().__init__()
        if isinstance(function, nn.Module):
            self.layer = function
        self.first, self.function = snn.Leaky(0.5, **ZERO), function
        self.last = snn.Leaky(0.5, **ZERO)

    def forward(self, x):
        return self.last(self.function(self.first(x)))


def effect(function, shape, batch=2):
    """(matrix, bias) of all links into the last neurons, and those of torch on random values."""
    torch.manual_seed(0)
    net = Between(function)
    stages = lower_stages(to_nir(net, torch.zeros(batch, *shape)), LoweringOptions(dt_s=1e-4))
    x = np.random.default_rng(2).normal(size=(batch, int(np.prod(shape))))
    links = stages.float_net.links_into("last")
    got = sum(as_matrix(link.linear).weight @ x.T for link in links).T
    got = got + stages.float_net.bias["last"].ravel()
    with torch.no_grad():
        want = function.eval() if isinstance(function, nn.Module) else function
        want = want(torch.from_numpy(x).float().reshape(batch, *shape)).numpy()
    assert np.abs(want).max() > 0.05
    return got, want.reshape(batch, -1), stages


LAYERS = [
    (nn.ConvTranspose1d(2, 3, 3, stride=2), (2, 5)),
    (nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1, groups=2), (4, 3, 4)),
    (nn.ConvTranspose3d(1, 2, 2), (1, 2, 3, 2)),
    (nn.Conv3d(1, 2, (1, 3, 2), padding=(0, 1, 0)), (1, 2, 4, 3)),
    (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 4, 4)),
    (nn.Conv2d(2, 2, 2, padding="same"), (2, 4, 3)),
    (nn.Upsample(scale_factor=2), (2, 3, 2)),
    (nn.Upsample(size=(5, 7), mode="bilinear", align_corners=True), (1, 3, 4)),
    (nn.UpsamplingBilinear2d(scale_factor=2), (1, 3, 3)),
    (nn.AvgPool1d(5), (10,)),
    (nn.AvgPool2d(2, ceil_mode=True), (2, 5, 4)),
    (nn.AvgPool2d(2, divisor_override=3), (2, 4, 4)),
    (nn.AvgPool2d(3, padding=1, count_include_pad=False), (2, 4, 4)),
    (nn.AvgPool3d(2), (1, 2, 4, 4)),
    (nn.AdaptiveAvgPool2d((2, 2)), (3, 5, 4)),
    (nn.AdaptiveAvgPool3d(2), (1, 4, 3, 4)),
    (nn.PixelShuffle(2), (4, 3, 2)),
    (nn.PixelUnshuffle(2), (1, 4, 6)),
    (nn.ChannelShuffle(2), (4, 2, 3)),
    (nn.Unflatten(1, (2, 3, 2)), (12,)),
    (nn.Fold((4, 3), 2), (4, 6)),
    (nn.Unfold(2), (2, 3, 4)),
    (nn.ZeroPad2d((0, 1, 2, 0)), (2, 3, 3)),
    (nn.ConstantPad1d(2, 0.5), (2, 4)),
    (nn.ReflectionPad2d(1), (1, 3, 4)),
    (nn.ReplicationPad1d(2), (2, 3)),
    (nn.CircularPad2d(1), (1, 3, 3)),
    (snn.GradedSpikes(6, 1.5), (6, 3)),
    (nn.Linear(4, 3), (2, 4)),
    (nn.Linear(4, 3), (2, 3, 4)),
]
FUNCTIONS = {
    "einsum": (lambda y: torch.einsum("bi,oi->bo", y, W), (4,)),
    "einsum over positions": (lambda y: torch.einsum("bchw,oc->bohw", y, W), (4, 2, 3)),
    "matmul from the left": (lambda y: W @ y, (4, 3)),
    "matmul": (lambda y: y.matmul(W.T), (3, 4)),
    "matmul with a vector": (lambda y: (y @ W[0]), (3, 4)),
    "tensordot": (lambda y: torch.tensordot(y, W, dims=([1], [1])), (4,)),
    "conv_transpose2d": (
        lambda y: F.conv_transpose2d(y, W[:2, :, None].reshape(2, 1, 2, 2), W[0, :1]), (2, 3, 3)
    ),
    "interpolate": (lambda y: F.interpolate(y, scale_factor=2, mode="bilinear"), (2, 3, 3)),
    "permutation": (lambda y: y[:, [1, 0, 3, 2]], (4,)),
    "slices": (lambda y: y[:, :, 1::2, :-1], (2, 4, 4)),
    "mask": (lambda y: y[:, MASK], (4,)),
    "one feature": (lambda y: y[:, 2:3] + y[:, 0:1], (4,)),
    "one channel": (lambda y: y[:, 1], (3, 4)),
    "roll": (lambda y: y.roll(1, 1), (4,)),
    "flip": (lambda y: y.flip(1, 2), (2, 3)),
    "transpose": (lambda y: y.transpose(1, 2), (2, 3)),
    "permute": (lambda y: y.permute(0, 2, 3, 1), (2, 3, 4)),
    "channel shuffle": (
        lambda y: y.view(y.size(0), 2, 3, 4).transpose(1, 2).reshape(y.size(0), -1, 4), (6, 4)
    ),
    "pad": (lambda y: F.pad(y, (1, 0, 2, 1)), (2, 3, 3)),
    "repeat": (lambda y: y.repeat(1, 3), (4,)),
    "repeat_interleave": (lambda y: y.repeat_interleave(2, dim=1), (4,)),
    "expand": (lambda y: y.unsqueeze(2).expand(-1, -1, 3), (4,)),
    "index_select": (lambda y: y.index_select(1, torch.tensor([3, 3, 0])), (4,)),
    "vote by view": (lambda y: y.view(y.size(0), 3, 4).mean(2), (12,)),
    "vote by pooling": (lambda y: F.avg_pool1d(y.unsqueeze(1), 4, 4).squeeze(1), (12,)),
    "sum over groups": (lambda y: y.reshape(len(y), 3, 4).sum(-1), (12,)),
    "cumsum": (lambda y: y.cumsum(1), (4,)),
    "along the height": (lambda y: torch.cat([y, 2 * y], 2), (2, 3, 3)),
    "cat with a constant": (lambda y: torch.cat([y, torch.ones(len(y), 2)], 1), (4,)),
    "stack": (lambda y: torch.stack([y, y.flip(1)], 2), (4,)),
    "broadcast sum": (lambda y: y + y.mean(1, keepdim=True), (2, 3, 3)),
    "weighted sum": (lambda y: torch.add(y, y, alpha=2), (4,)),
    "where": (lambda y: torch.where(MASK, y, -y), (4,)),
    "masked": (lambda y: y.masked_fill(MASK, 0.0), (4,)),
    "parts": (lambda y: torch.cat(y.unbind(1)[::-1], 1), (3, 4)),
    "unfold": (lambda y: F.unfold(y, 2), (2, 3, 3)),
    "convolution of another shape": (
        lambda y: F.conv2d(y.view(len(y), 2, 4, 4), W[:3, :2].reshape(3, 2, 1, 1), padding=1), (8, 2, 2)
    ),
    "convolution of features": (
        lambda y: F.conv2d(y.unflatten(1, (1, 4, 4)), W[:3].reshape(3, 1, 2, 2)), (16,)
    ),
    "pad and convolve": (
        lambda y: F.conv2d(F.pad(y, (1, 1, 1, 1)), W[:4].reshape(2, 2, 2, 2), stride=2), (2, 4, 4)
    ),
    "weights of its own": (lambda y: y * W[0], (4,)),
    "offset of its own": (lambda y: y + W[1], (4,)),
    "batch norm": (
        lambda y: F.batch_norm(y, W[0, :2], W[1, :2].abs(), W[2, :2], W[3, :2]), (2, 2, 2, 2)
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda v: getattr(v, "_get_name", str)())
def test_a_layer_becomes_the_matrix_of_what_it_computes(layer, shape):
    got, want, _ = effect(layer, shape)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_becomes_the_matrix_of_what_it_computes(name, batch):
    function, shape = FUNCTIONS[name]
    got, want, _ = effect(function, shape, batch)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_a_chain_is_one_map_between_its_neurons():
    """View, mean and pooling together are one matrix, which every reader of NIR files knows."""
    _, _, stages = effect(lambda y: F.avg_pool1d(y.unsqueeze(1), 4, 4).squeeze(1), (12,))
    maps = {n: v for n, v in stages.plain.nodes.items() if isinstance(v, FixedMap)}
    (name,) = maps
    assert name.startswith("unsqueeze+avg_pool1d+")
    assert maps[name].matrix.shape == (3, 12)
    np.testing.assert_array_equal(np.unique(maps[name].matrix.data), [0.25])


def test_what_only_moves_values_is_found_without_impulses(monkeypatch):
    monkeypatch.setattr(effects, "AREA_MAX", 0)  # impulses would be refused
    got, want, _ = effect(lambda y: F.pad(y.permute(0, 2, 1), (1, 1))[:, ::2], (4, 5))
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y.view(len(y), 2, 2).abs().mean(2),
        lambda y: y * y.sum(1, keepdim=True),
        lambda y: y / y.sum(1, keepdim=True),
        lambda y: y - y.mean(0),
        lambda y: y.flip(0),
        lambda y: y[[1, 0]],
        lambda y: y.reshape(-1)[None].expand(2, -1)[:, :4],
        lambda y: torch.where(y > 0, y, -y),
        lambda y: 1.0 / (y + 1),
    ],
)
def test_what_is_not_linear_or_mixes_samples_is_refused(function):
    with pytest.raises(UnsupportedNodeError, match="not linear, or mixes|in front of layer 'last'"):
        effect(function, (4,))


def test_too_large_a_map_is_refused_before_it_is_built(monkeypatch):
    monkeypatch.setattr(effects, "AREA_MAX", 1000)
    with pytest.raises(
        RangeError, match="at most 134217728 .and 1000 pairs .* of which it has 1024"
    ):
        effect(nn.Upsample(scale_factor=2, mode="bilinear"), (1, 4, 4))
    monkeypatch.setattr(effects, "MAX_UNROLLED", 100)
    message = (
        "'layer' from .4, 6, 6. to .4, 12, 12. is a map of about .* synapses; expected at most 100"
    )
    with pytest.raises(
        RangeError, match=message + ".*One loihi2 holds up to 25165824 synapses of 8"
    ):
        effect(nn.ConvTranspose2d(4, 4, 2, stride=2), (4, 6, 6))


def test_a_map_between_spikes_and_a_convolution_stays_sparse_and_survives_a_file(tmp_path):
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Linear(6, 64), snn.Leaky(0.5, **ZERO), nn.Unflatten(1, (4, 4, 4)), nn.Upsample(scale_factor=2),
        nn.Conv2d(4, 3, 3), snn.Leaky(0.5, **ZERO), nn.ConvTranspose2d(3, 2, 2), snn.Leaky(0.5, **ZERO),
    )  # fmt: skip
    for layer in (net[0], net[4], net[6]):
        layer.weight.data *= 4
    graph = to_nir(net, torch.zeros(1, 6), dt_s=1e-3)
    direct = lower(graph)
    assert isinstance(direct.connections["2+3+4"], Sparse)
    assert isinstance(direct.connections["6"], Conv)  # a transposed one of stride 1 is one
    write_nir(tmp_path / "maps.nir", graph)
    assert lower(read_nir(tmp_path / "maps.nir")) == direct
    x = (np.random.default_rng(0).random((30, 2, 6)) < 0.5).astype(int)
    assert simulate(direct, x).n_spikes["7"] > 20


class Reordered(nn.Module):
    """Pictures with the channels last, as cameras send them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lif = nn.Conv2d(2, 3, 2), snn.Leaky(0.5, **ZERO)

    def forward(self, x):
        return self.lif(self.conv(x.permute(0, 3, 1, 2)))


def test_the_input_of_one_step_may_be_in_another_order():
    torch.manual_seed(0)
    net = Reordered()
    stages = lower_stages(to_nir(net, torch.zeros(2, 4, 3, 2)), LoweringOptions(dt_s=1e-4))
    (link,) = stages.float_net.links
    x = torch.rand(1, 4, 3, 2)
    want = F.conv2d(x.permute(0, 3, 1, 2), net.conv.weight).detach().numpy().ravel()
    np.testing.assert_allclose(as_matrix(link.linear).weight @ x.numpy().ravel(), want, atol=1e-6)


def test_padding_by_hand_stays_a_convolution():
    net = nn.Sequential(
        nn.ZeroPad2d(1), nn.Conv2d(2, 3, 3, stride=2, bias=False), snn.Leaky(0.5, **ZERO)
    )
    plain = nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False), snn.Leaky(0.5, **ZERO)
    )
    plain[0].weight = net[1].weight
    made, want = (lower(to_nir(n, torch.zeros(1, 2, 5, 5)), dt_s=1e-4) for n in (net, plain))
    (conv,), (same,) = made.connections.values(), want.connections.values()
    assert isinstance(conv, Conv) and conv == same


def test_a_file_with_another_shape_of_the_map_is_refused():
    node = nir.Linear(np.ones((4, 3)), metadata={"out_shape": np.array([2, 3])})
    one = np.ones(4)
    lif = nir.LIF(tau=one, r=one, v_leak=0 * one, v_threshold=one)
    with pytest.raises(ConfigError, match=r"'out_shape' \(2, 3\); expected a shape of 4 values"):
        lower(nir.NIRGraph.from_list(node, lif), dt_s=0.1, reset="zero")
