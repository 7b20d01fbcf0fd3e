"""The torch interpreter of learning rules: traces, sums over shared kernels, gates, grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.learning.rule import LearningRule, Term, Trace
from biril_nm.learning.rules import DELTA, OFFSET, OJA, PAIR
from biril_nm.loihi import SignMode
from biril_nm.training.local_rule.gating import rate_gate, winner_gate
from biril_nm.training.local_rule.plasticity import Grid, LocalLearner, PlasticityConfig
from biril_nm.training.local_rule.torch_engine import LayerSpikes, TorchEngine, run_trace

STEPS, BATCH = 5, 3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spikes(*shape: int, seed: int = 0, rate: float = 0.4) -> Tensor:
    return (torch.rand(STEPS, BATCH, *shape, generator=generator(seed)) < rate).float()


def exact(rule: LearningRule) -> LearningRule:
    """The rule with traces that never meet the random numbers (tau so long that floor is hit)."""
    traces = {name: Trace(trace.impulse, 0) for name, trace in rule.traces.items()}
    return LearningRule(rule.name, rule.dw, traces=traces)


EXACT = [exact(rule) for rule in (OFFSET, PAIR, OJA)]


# --- traces -------------------------------------------------------------------------------------


def test_trace_by_hand() -> None:
    train = torch.tensor([1.0, 0, 0, 1, 1]).view(5, 1, 1)
    trace = run_trace(train, Trace(100, 0), generator())
    assert trace.flatten().tolist() == [100, 0, 0, 100, 100]
    trace = run_trace(train, Trace(100, 1e9), generator())  # decays by far less than one
    assert trace.flatten().tolist() in ([100, 100, 100, 127, 127], [100, 99, 99, 127, 127])


def test_trace_decay_is_unbiased_and_integer() -> None:
    train = torch.zeros(4, 20_000, 1)
    train[0] = 1
    trace = run_trace(train, Trace(101, 8), generator())
    assert torch.equal(trace, trace.round())
    for t in range(4):
        expected = 101 * math.exp(-t / 8)
        assert abs(float(trace[t].mean()) - expected) < 0.03  # 4 standard errors of rounding noise


def test_fractional_impulse_rounds_up_twice_as_often() -> None:
    train = torch.ones(1, 40_000, 1)
    mean = float(run_trace(train, Trace(3.25, 2), generator()).mean())
    assert abs(mean - 3.5) < 0.02


def test_shared_random_numbers() -> None:
    train = torch.zeros(3, 50, 4)
    train[0] = 1
    assert (
        run_trace(train, Trace(101, 8), generator(), shared_rng=True).std(dim=(1, 2)) == 0
    ).all()
    assert run_trace(train, Trace(101, 8), generator())[2].std() > 0


# --- sums ---------------------------------------------------------------------------------------


def reference_dense(rule: LearningRule, w: Tensor, pre: Tensor, post: Tensor) -> Tensor:
    """Per-synapse loop over the rule's text, summed over steps and batch (tau 0 traces)."""
    total = torch.zeros_like(w)
    for t in range(pre.shape[0]):
        for b in range(pre.shape[1]):
            for o in range(w.shape[0]):
                for i in range(w.shape[1]):
                    x0, y0 = float(pre[t, b, i]), float(post[t, b, o])
                    values = {"x0": x0, "y0": y0, "w": float(w[o, i])}
                    for name, trace in rule.traces.items():
                        values[name] = (x0 if name[0] == "x" else y0) * trace.impulse
                    for term in rule.dw:
                        product = term.coefficient
                        for factor in term.factors:
                            product *= values[factor]
                        total[o, i] += product
    return total


@pytest.mark.parametrize("rule", [exact(rule) for rule in EXACT], ids=lambda r: r.name)
def test_dense_rule_against_a_loop(rule: LearningRule) -> None:
    layer = nn.Linear(4, 3)
    weight = torch.randint(-100, 100, (3, 4), generator=generator()).float()
    pre, post = spikes(4, seed=1), spikes(3, seed=2)
    post[:, :, 1] = 0  # a silent neuron
    delta = TorchEngine(rule, generator()).delta(layer, weight, LayerSpikes(pre, post))
    events = post.sum(dim=(0, 1)).clamp(min=1).view(-1, 1)
    torch.testing.assert_close(delta, reference_dense(rule, weight, pre, post) / events)
    assert delta.abs().sum() > 0
    assert (delta[1] == 0).all()


def unrolled(layer: nn.Conv2d, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Dense index of the kernel entry behind each synapse (-1: none) of the unrolled layer."""
    size = math.prod(shape)
    probe = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        bias=False,
    ).double()
    with torch.no_grad():
        probe.weight.copy_(torch.arange(1, probe.weight.numel() + 1).view_as(probe.weight))
        columns = probe(torch.eye(size, dtype=torch.float64).view(size, *shape))
    return columns.flatten(1).t().round().long() - 1, columns[0]


@pytest.mark.parametrize("rule", [exact(rule) for rule in EXACT], ids=lambda r: r.name)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": 1},
        {"stride": 2, "padding": 1},
        {"dilation": 2, "padding": 2},
        {"groups": 2},
    ],
    ids=["plain", "padding", "stride", "dilation", "groups"],
)
def test_conv_rule_is_the_tied_average_of_an_unrolled_one(
    rule: LearningRule, options: dict[str, int]
) -> None:
    layer = nn.Conv2d(2, 4, 3, bias=False, **options)
    shape = (2, 6, 5)
    index, example = unrolled(layer, shape)
    kernel = torch.randint(-60, 60, layer.weight.shape, generator=generator(3)).float()
    pre, post = spikes(*shape, seed=4), spikes(*example.shape, seed=5, rate=0.2)
    delta = TorchEngine(rule, generator()).delta(layer, kernel, LayerSpikes(pre, post))

    used = index >= 0
    dense_weight = torch.where(used, kernel.flatten()[index.clamp(min=0)], torch.zeros(()))
    dense = reference_free_dense(rule, dense_weight, pre.flatten(2), post.flatten(2)) * used
    tied = torch.zeros(kernel.numel()).index_add_(0, index[used], dense[used]).view_as(kernel)
    events = post.sum(dim=(0, 1, 3, 4)).clamp(min=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(delta, tied / events, rtol=1e-4, atol=1e-4)
    assert delta.abs().sum() > 0


def reference_free_dense(rule: LearningRule, w: Tensor, pre: Tensor, post: Tensor) -> Tensor:
    """Sum over steps and batch of the rule on a Linear layer of the same size, not averaged."""
    layer = nn.Linear(w.shape[1], w.shape[0])
    delta = TorchEngine(rule, generator()).delta(layer, w, LayerSpikes(pre, post))
    return delta * post.sum(dim=(0, 1)).clamp(min=1).view(-1, 1)


def test_pooling_between_averages_the_traces() -> None:
    layer, pool = nn.Conv2d(2, 3, 3, padding=1), nn.AvgPool2d(2)
    pre, post = spikes(2, 8, 8), spikes(3, 4, 4, seed=1)
    rule = exact(OFFSET)
    pooled = pool(pre.flatten(0, 1)).reshape(STEPS, BATCH, 2, 4, 4)
    zeros = torch.zeros(layer.weight.shape)
    engine = TorchEngine(rule, generator())
    inside = engine.delta(layer, zeros, LayerSpikes(pre, post, (pool,)))
    outside = engine.delta(layer, zeros, LayerSpikes(pooled, post))
    torch.testing.assert_close(inside, outside)


def test_two_trace_terms_lose_three_bits() -> None:
    traces = {"x1": Trace(16, 0), "x2": Trace(8, 0)}
    pre, post = spikes(4), spikes(3, seed=1)
    layer, zeros = nn.Linear(4, 3), torch.zeros(3, 4)
    two = LearningRule("two", (Term(1, 0, ("y0", "x1", "x2")),), traces=traces)
    one = LearningRule("one", (Term(1, 4, ("y0", "x1")),), traces=traces)  # 16*8/8 = 16 = 2^4
    delta = TorchEngine(two, generator()).delta(layer, zeros, LayerSpikes(pre, post))
    expected = TorchEngine(one, generator()).delta(layer, zeros, LayerSpikes(pre, post)) / 16
    torch.testing.assert_close(delta, expected)


def test_decimated_and_signed_terms() -> None:
    traces = {"y1": Trace(8, 0)}
    rule = LearningRule(
        "u", (Term(-1, 0, ("u", "y1", "sgn(w)", "(w+2)")),), traces=traces, decimation=1
    )
    pre, post = spikes(4), spikes(3, seed=1)
    weight = torch.tensor([[-5.0, 0, 1, 7]] * 3)
    delta = TorchEngine(rule, generator()).delta(nn.Linear(4, 3), weight, LayerSpikes(pre, post))
    due = post[1::2].sum(dim=(0, 1)) / post.sum(dim=(0, 1)).clamp(min=1)  # steps 2 and 4
    expected = -8 * due.view(-1, 1) * weight.sign() * (weight + 2) / 2 ** rule.dw[0].shift
    assert rule.dw[0].shift > 0
    torch.testing.assert_close(delta, expected)


def test_what_the_engine_refuses() -> None:
    with pytest.raises(ConfigError, match="'delta' cannot be used in training: third factors"):
        TorchEngine(DELTA, generator())
    tag = LearningRule("tag", (Term(1, 0, ("u", "t")),), dt=(Term(1, 0, ("x0",)),))
    with pytest.raises(ConfigError, match=r"'tag' cannot be used in training: tags.*hardware_sim"):
        TorchEngine(tag, generator())
    slow = LearningRule("slow", (Term(1, 0, ("x0",)),), t_epoch=4)
    with pytest.raises(ConfigError, match="t_epoch 4"):
        TorchEngine(slow, generator())
    engine = TorchEngine(OFFSET, generator())
    activity = LayerSpikes(spikes(4), spikes(3))
    with pytest.raises(UnsupportedNodeError, match="expected Linear, or Conv2d padded with zeros"):
        engine.delta(nn.Conv1d(1, 1, 1), torch.zeros(1, 1, 1), activity)
    with pytest.raises(UnsupportedNodeError, match="Give the padding as numbers"):
        engine.delta(nn.Conv2d(1, 1, 3, padding="same"), torch.zeros(1, 1, 3, 3), activity)


# --- gates --------------------------------------------------------------------------------------


def test_rate_gate() -> None:
    train = torch.zeros(4, 1, 3)
    train[:2, 0, 1] = 1
    train[:3, 0, 2] = 1
    assert rate_gate(train, 0.5).tolist() == [[1, 1, 0]]


def test_first_spike_wins_and_inhibits_its_channel_and_place() -> None:
    train = torch.zeros(4, 2, 2, 5, 5)
    train[1, 0, 0, 2, 2] = 1  # the first
    train[2:, 0, 0, 4, 4] = 1  # same channel: silenced
    train[2:, 0, 1, 3, 3] = 1  # within radius 1: silenced
    train[3, 0, 1, 0, 0] = 1  # free: the second winner
    gate = winner_gate(train, winners=5, radius=1, generator=generator())
    assert gate[0].nonzero().tolist() == [[0, 2, 2], [1, 0, 0]]
    assert gate[1].sum() == 0
    assert winner_gate(train, 1, 1, generator())[0].sum() == 1


def test_dense_winners_are_the_earliest() -> None:
    train = torch.zeros(4, 1, 6)
    train[2:, 0, 4] = 1
    train[3, 0, 1] = 1
    train[2, 0, 0] = 1
    gate = winner_gate(train, winners=2, radius=3, generator=generator())
    assert gate.nonzero()[:, 1].tolist() == [0, 4]
    assert winner_gate(train, 1, 0, generator()).nonzero()[:, 1].tolist() == [4]  # more spikes


# --- weights ------------------------------------------------------------------------------------


def test_grid() -> None:
    weight = torch.tensor([-0.5, 0.3, 0.0, 0.4999])
    grid = Grid.of(weight)
    assert (grid.mode, grid.step) == (SignMode.MIXED, 2)
    assert grid.integers(weight).tolist() == [-254, 152, 0, 254]
    positive = Grid.of(weight.abs())
    assert (positive.mode, positive.step) == (SignMode.EXCITATORY, 1)
    assert positive.integers(weight.abs()).tolist() == [255, 153, 0, 255]
    assert grid.round(torch.tensor([-999.0, 999.0])).tolist() == [-256, 254]
    half = torch.full((20_000,), 100.5)
    rounded = grid.round(half, torch.rand(20_000, generator=generator()))
    assert set(rounded.tolist()) == {100.0, 102.0}
    assert abs(float(rounded.mean()) - 100.5) < 0.03


@pytest.mark.parametrize("rule", [PAIR, OFFSET, OJA], ids=lambda rule: rule.name)
def test_neurons_of_another_shape_than_the_outputs_learn_the_same(rule: LearningRule) -> None:
    def delta(layer: nn.Module, pre: Tensor, post: Tensor) -> Tensor:
        weight = torch.randn(layer.weight.shape, generator=generator(2)) * 50
        return TorchEngine(rule, generator()).delta(layer, weight, LayerSpikes(pre, post))

    dense, conv = nn.Linear(7, 12), nn.Conv2d(2, 3, 3, stride=2, padding=1, dilation=(1, 2))
    pre, post = spikes(7), spikes(12, seed=1)
    assert torch.equal(
        delta(dense, pre, post.reshape(STEPS, BATCH, 3, 2, 2)), delta(dense, pre, post)
    )
    pre, post = spikes(2, 6, 7), spikes(3, 3, 3, seed=1)
    assert torch.equal(delta(conv, pre, post.flatten(2)), delta(conv, pre, post))
    with pytest.raises(UnsupportedNodeError, match=r"values of shape \(3, 3, 3\), and the neurons behind it "
                       r"have \(3, 1, 1\); expected a neuron for each"):  # fmt: skip
        delta(conv, pre, post[..., :1, :1])
    with pytest.raises(
        UnsupportedNodeError, match=r"shape \(12,\), and the neurons .* have \(5,\)"
    ):
        delta(dense, spikes(7), spikes(5))


def test_positions_of_a_dense_layer_count_as_samples() -> None:
    layer, weight = nn.Linear(4, 3), torch.randn(3, 4, generator=generator(2))
    terms = LearningRule("hebb", (Term(1, 0, ("x0", "y0")),), traces={})
    pre, post = spikes(5, 4), spikes(5, 3, seed=1)
    found = TorchEngine(terms, generator()).delta(layer, weight, LayerSpikes(pre, post))
    wanted = torch.einsum("tbpo,tbpi->oi", post, pre) / post.sum(dim=(0, 1, 2)).view(-1, 1)
    torch.testing.assert_close(found, wanted)


def learn(config: PlasticityConfig, weight: Tensor, mode: SignMode) -> Tensor:
    learner = LocalLearner(config, seed=1)
    pre, post = spikes(*weight.shape[1:], seed=6), spikes(weight.shape[0], seed=7)
    return learner.change(nn.Linear(*weight.shape[::-1]), weight, mode, LayerSpikes(pre, post))


def test_signed_update_turns_and_keeps_the_norm() -> None:
    weight = torch.randn(6, 30, generator=generator()) * 50
    new = learn(PlasticityConfig(eta=0.01), weight, SignMode.MIXED)
    torch.testing.assert_close(new.norm(dim=1), weight.norm(dim=1))
    change = (new - weight).norm(dim=1) / weight.norm(dim=1)
    assert ((change > 0.005) & (change < 0.011)).all()


def test_positive_update_keeps_the_sum_and_the_sign() -> None:
    weight = torch.rand(6, 30, generator=generator()) * 120
    new = learn(PlasticityConfig(), weight, SignMode.EXCITATORY)
    assert (new >= 0).all()
    assert not torch.equal(new, weight)
    torch.testing.assert_close(new.sum(dim=1), weight.sum(dim=1))


def test_host_normalised_and_oja_norms_agree() -> None:
    """Without any sum over synapses ``oja`` stays near the norm 2 E[x1 | post] that it aims at."""
    weight = torch.full((4, 30), 60.0)
    learner = LocalLearner(PlasticityConfig(rule=OJA, normalize=False), seed=1)
    pre, post = spikes(30, seed=6), spikes(4, seed=7)
    new = weight
    for _ in range(200):
        new = learner.change(nn.Linear(30, 4), new, SignMode.EXCITATORY, LayerSpikes(pre, post))
    trace = run_trace(pre, OJA.trace("x1"), generator(9))
    aim = 2 * torch.einsum("tbo,tbi->oi", post, trace) / post.sum(dim=(0, 1)).view(-1, 1)
    ratio = new.sum(dim=1) / aim.sum(dim=1)
    assert ((ratio > 0.8) & (ratio < 1.2)).all()


@pytest.mark.parametrize("normalize", [True, False])
def test_zero_coefficients_and_silence_change_nothing(normalize: bool) -> None:
    weight = torch.randn(6, 30, generator=generator())
    terms = tuple(Term(t.sign, t.exp, t.factors, 0) for t in PAIR.dw)
    inert = LearningRule("inert", terms, traces=PAIR.traces)
    config = PlasticityConfig(rule=inert, normalize=normalize)
    assert torch.equal(learn(config, weight, SignMode.MIXED), weight)
    learner = LocalLearner(PlasticityConfig(normalize=normalize))
    silent = LayerSpikes(spikes(30), torch.zeros(STEPS, BATCH, 6))
    assert torch.equal(learner.change(nn.Linear(30, 6), weight, SignMode.MIXED, silent), weight)


def test_same_seed_same_change() -> None:
    weight = torch.randn(6, 30, generator=generator()) * 50
    first, second = (learn(PlasticityConfig(), weight, SignMode.MIXED) for _ in range(2))
    np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_wrong_settings() -> None:
    with pytest.raises(ConfigError, match="rate_max above 0"):
        PlasticityConfig(rate_max=0)
    with pytest.raises(ConfigError, match="expected integers from 0"):
        PlasticityConfig(winners=-1)
