"""Online rules against backpropagation through time: exact where theory says so, close elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn
from torch.nn import functional

from biril_nm.coding import Coding
from biril_nm.errors import ConfigError
from biril_nm.models.own import OwnNet
from biril_nm.training.online.layer import OWN, OnlineLayer, Projection, Wiring, layer_of
from biril_nm.training.online.learner import OnlineLearner, online_gradients
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.neurons import NEURONS
from biril_nm.training.online.neurons.neuron import OnlineNeuron
from biril_nm.training.online.rules import OnlineRule, decay_of, rank_of
from biril_nm.training.online.snntorch_nets import as_online
from tests.support.online_gradients import cosine, error, exact, online, step_loss

BATCH, N_STEPS, N_IN, N_HIDDEN, N_OUT = 16, 100, 40, 64, 10
KINDS = {
    "LIF": ("lif", False),
    "RLIF": ("lif", True),
    "adLIF": ("adlif", False),
    "RadLIF": ("adlif", True),
}
GAIN = 8.0


def network(kind: str, readout: str = "linear_readout", loop: bool = False) -> OnlineNet:
    """One hidden layer; ``loop`` leaves the weights of its loop as they are, else they are 0."""
    torch.manual_seed(0)
    name, recurrent = KINDS[kind]
    hidden = layer_of(NEURONS[name], N_IN, N_HIDDEN, recurrent, torch.float64)
    with torch.no_grad():
        hidden.links()[0][1].weight.mul_(GAIN)
        if recurrent and not loop:
            hidden.links()[1][1].weight.zero_()
    constants = {"al": 0.9} if readout == "leaky_readout" else None
    out = layer_of(NEURONS[readout], N_HIDDEN, N_OUT, False, torch.float64, constants)
    return OnlineNet([hidden, out])


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    x = torch.rand(N_STEPS, BATCH, N_IN, generator=random) < 0.3
    return x.double(), torch.randint(0, N_OUT, (BATCH,), generator=random)


def leaky_chain(recurrent: bool = False, reset: str = "zero", delay: bool = False) -> nn.Sequential:
    """6 inputs, 8 hidden neurons, 4 classes, of snnTorch."""
    options = {"init_hidden": True, "reset_mechanism": reset, "reset_delay": delay}
    hidden = (
        snn.RLeaky(0.9, linear_features=8, **options) if recurrent else snn.Leaky(0.9, **options)
    )
    chain = nn.Sequential(nn.Linear(6, 8), hidden, nn.Linear(8, 4), snn.Leaky(0.9, **options))
    with torch.no_grad():
        chain[0].weight.mul_(3)
        chain[2].weight.mul_(3)
    return chain


@pytest.mark.parametrize("kind", KINDS)
def test_d_rtrl_is_backpropagation_without_recurrent_weights(kind, batch):
    net = network(kind)
    expected = exact(net, batch)
    assert len(expected) >= 3
    assert error(online(net, batch, OnlineRule("d-rtrl")), expected) < 1e-10


@pytest.mark.parametrize("kind", ["RLIF", "RadLIF"])
def test_a_loop_is_left_out(kind, batch):
    net = network(kind, loop=True)
    expected, found = exact(net, batch), online(net, batch, OnlineRule("d-rtrl"))
    assert error(found, expected) > 1e-3
    assert cosine(found, expected) > 0.95


@pytest.mark.parametrize("kind", ["LIF", "RadLIF"])
def test_kappa_makes_a_leaky_readout_exact(kind, batch):
    net = network(kind, "leaky_readout")
    expected = exact(net, batch)
    assert error(online(net, batch, OnlineRule("d-rtrl", kappa=True)), expected) < 1e-10
    assert error(online(net, batch, OnlineRule("d-rtrl")), expected) > 0.5


@pytest.mark.parametrize(("kind", "decay", "least"), [("LIF", 0.9, 0.95), ("adLIF", 0.98, 0.75)])
def test_es_d_rtrl_points_the_same_way(kind, decay, least, batch):
    net = network(kind)
    expected = exact(net, batch)
    found = online(net, batch, OnlineRule("es-d-rtrl", decay=decay))
    assert least <= cosine(found, expected) < 0.9999


def test_a_small_decay_fails_adaptive_neurons(batch):
    net = network("adLIF")
    assert cosine(online(net, batch, OnlineRule("es-d-rtrl", decay=0.5)), exact(net, batch)) < 0.5


@pytest.mark.parametrize("rule", [
    OnlineRule("d-rtrl"), OnlineRule("es-d-rtrl", debias="exact"), OnlineRule("d-rtrl", kappa=True),
    OnlineRule("hybrid", kinds={0: "es-d-rtrl"}),
], ids=lambda rule: rule.kind)  # fmt: skip
def test_the_block_does_not_matter(rule, batch):
    net = network("RadLIF", "leaky_readout", loop=True)
    assert error(online(net, batch, rule, block=7), online(net, batch, rule, block=1)) < 1e-10


def test_max_norm_changes_what_exceeds_one(batch):
    net = network("adLIF")
    plain, bounded = (online(net, batch, OnlineRule("d-rtrl", max_norm=m)) for m in (False, True))
    assert cosine(bounded, plain) < 0.99
    short = batch[0][:4], batch[1]
    assert float(exact(net, short)["layers.0.projections.W.weight"].norm()) > 0
    plain, bounded = (online(net, short, OnlineRule("d-rtrl", max_norm=m)) for m in (False, True))
    assert error(bounded, plain) < 1e-12


@pytest.mark.parametrize("bounded", [False, True])
def test_max_norm_follows_its_definition(bounded):
    """Two samples, two inputs, one neuron: ``eps <- N(D eps + N(f x))``, N divides by what exceeds 1."""
    al, weights, out = 0.9, [0.4, 0.2], 2.0
    hidden = OnlineLayer(
        NEURONS["lif"], {"W": Projection(torch.tensor([weights]).double())}, {"al": al}
    )
    last = OnlineLayer(NEURONS["linear_readout"], {"W": Projection(torch.tensor([[out]]).double())})
    x = torch.tensor([[[20.0, 4], [12, 0]], [[5, 0], [30, 9]], [[0, 0], [0, 2]], [[8, 6], [1, 1]]])
    online_gradients(
        OnlineNet([hidden, last]), x.double(), OnlineRule(max_norm=bounded), lambda y, t: y.sum()
    )

    def norm(rows: list[list[float]]) -> list[list[float]]:
        top = max(1.0, *(abs(e) for row in rows for e in row)) if bounded else 1.0
        return [[e / top for e in row] for row in rows]

    def psi(u: float) -> float:
        return float(abs(u - 1) <= 0.5)

    u, eps, grad = [0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0]
    for step in x.tolist():
        d = [al * (1 - psi(v)) for v in u]
        drive = norm([[(1 - al) * e for e in row] for row in step])
        eps = norm(
            [
                [d[b] * old + new for old, new in zip(eps[b], drive[b], strict=True)]
                for b in range(2)
            ]
        )
        u = [
            al * (v - (v > 1)) + (1 - al) * sum(w * e for w, e in zip(weights, row, strict=True))
            for v, row in zip(u, step, strict=True)
        ]
        grad = [grad[i] + sum(out * psi(u[b]) * eps[b][i] for b in range(2)) for i in range(2)]
    assert min(grad) > 0
    found = hidden.links()[0][1].weight.grad
    torch.testing.assert_close(found, torch.tensor([grad]).double())


def test_hybrid_keeps_the_fewer_numbers_in_every_layer(batch):
    wide = OnlineLearner(network("RLIF"), OnlineRule("hybrid"), BATCH)
    assert set(wide.traces[0].factors) == {"W", "V"}
    narrow = OnlineNet([layer_of(NEURONS["lif"], 1, 8), layer_of(NEURONS["lif"], 8, 8)])
    traces = OnlineLearner(narrow, OnlineRule("hybrid"), BATCH).traces
    assert [set(t.whole) for t in traces] == [{"W"}, set()]
    net = network("LIF")
    found, expected = (online(net, batch, OnlineRule(k)) for k in ("hybrid", "es-d-rtrl"))
    key = "layers.0.projections.W.weight"
    torch.testing.assert_close(found[key], expected[key])


def test_debiasing_scales_the_first_steps(batch):
    x, labels = batch
    first = (x[:1], labels)
    net = network("LIF")
    plain = online(net, first, OnlineRule("es-d-rtrl", decay=0.8))
    for debias, scale in (("exact", 1 - 0.8), ("as_coded", 1 - 0.2)):
        found = online(net, first, OnlineRule("es-d-rtrl", decay=0.8, debias=debias))
        key = "layers.0.projections.W.weight"
        torch.testing.assert_close(found[key] * scale, plain[key])


def test_what_is_kept_does_not_grow(batch):
    x, labels = batch
    for kind in ("d-rtrl", "es-d-rtrl"):
        sizes = []
        learner = OnlineLearner(network("RadLIF"), OnlineRule(kind), BATCH)
        for _ in range(3):
            learner.take(x[:20], step_loss(labels))
            sizes.append(sum(kept.numel() for kept in learner.tensors()))
        assert sizes[0] == sizes[1] == sizes[2]
        assert not any(kept.requires_grad for kept in learner.tensors())


def test_rank_and_decay():
    assert [rank_of(a) for a in (0.8, 0.9, 0.98, 0.99)] == [9, 19, 99, 199]
    assert OnlineRule("es-d-rtrl", rank=19).alpha == decay_of(19) == pytest.approx(0.9)


def test_another_neuron_is_one_function(batch):
    def step(state, inputs, p):
        return (0.5 * state[0] + torch.tanh(inputs[0]),)

    kind = OnlineNeuron("tanh", ("u",), step, lambda state, p: state[0])
    net = network("LIF")
    own = OnlineNet([layer_of(kind, N_IN, N_HIDDEN, dtype=torch.float64), net.stack[1]])
    assert error(online(own, batch, OnlineRule("d-rtrl")), exact(own, batch)) < 1e-10


def test_signs_are_kept():
    weight = torch.tensor([[1.0, -1.0], [2.0, 3.0]])
    projection = Projection(weight.clone(), Wiring(OWN, sign=1, diagonal=False))
    torch.testing.assert_close(projection.weight.detach(), torch.tensor([[0.0, 0.0], [2.0, 0.0]]))


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("delay", [False, True])
def test_snntorch_networks_compute_the_same(recurrent, reset, delay):
    torch.manual_seed(0)
    net = OwnNet(leaky_chain(recurrent, reset, delay), Coding("spikes", 12))
    x = (torch.rand(12, 5, 6) < 0.5).float()
    out = net(x, record=True)
    assert 0 < out.recorded["1"].mean() < 1
    view = as_online(net)
    labels = torch.arange(5) % 4

    def last(output, t):
        return functional.cross_entropy(output, labels) if t == 11 else None

    found, _ = online_gradients(view, x, OnlineRule(), last)
    torch.testing.assert_close(found[-1], out.scores)
    weight = net.module[2].weight
    learned, weight.grad = weight.grad.clone(), None
    functional.cross_entropy(net(x).scores, labels).backward()
    torch.testing.assert_close(learned, weight.grad)  # the readout's own memory is in its states


def test_refusals(batch):
    with pytest.raises(ConfigError, match=r"kind 'rtrl' is unknown"):
        OnlineRule("rtrl")
    with pytest.raises(ConfigError, match=r"decay is 1.0; expected a number between 0 and 1"):
        OnlineRule(decay=1.0)
    with pytest.raises(ConfigError, match=r"rank is 1; expected an integer from 2 on"):
        OnlineRule(rank=1)
    with pytest.raises(ConfigError, match=r"expected a hidden layer and a readout"):
        OnlineNet([layer_of(NEURONS["lif"], 2, 2)])
    with pytest.raises(ConfigError, match=r"no weights to its synaptic inputs \[1\]"):
        layer_of(NEURONS["coba_gif"], 2, 2)
    net = network("LIF")
    with pytest.raises(ConfigError, match=r"expected a schedule of B, d-rtrl"):
        net.links()
    learns = OnlineNet([net.stack[0], layer_of(NEURONS["leaky_readout"], N_HIDDEN, 2)])
    with pytest.raises(ConfigError, match=r"expected one constant for kappa"):
        OnlineLearner(learns, OnlineRule(kappa=True), 1)
    for module, found in (
        (nn.Sequential(nn.Linear(6, 4), nn.ReLU(), leaky_chain()[1]), "ReLU"),
        (nn.Sequential(nn.Conv1d(6, 4, 1), leaky_chain()[1]), "Conv1d"),
    ):
        with pytest.raises(ConfigError, match=rf"is a {found}; expected a Sequential"):
            as_online(OwnNet(module, Coding("spikes", 1)))


def test_constants_are_not_clipped():
    layer = layer_of(NEURONS["leaky_readout"], 2, 2, constants={"al": 0.1})
    layer.constrain()
    assert float(layer.values()["al"]) == pytest.approx(0.1)
    learned = layer_of(NEURONS["adlif"], 2, 2)
    with torch.no_grad():
        learned.own["a"].fill_(3.0)
    learned.constrain()
    assert learned.own["a"].tolist() == [1.0, 1.0]
    assert isinstance(learned, OnlineLayer)


def _held(run: Callable[[], object]) -> int:
    """Numbers in all tensors that autograd keeps for later at one time."""
    sizes: list[int] = []

    def pack(x: Tensor) -> Tensor:
        sizes.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        run()
    return sum(sizes)


def test_memory_is_flat_in_time_and_that_of_backpropagation_is_not():
    torch.manual_seed(0)
    hidden = [layer_of(NEURONS["lif"], n, 16, recurrent=True) for n in (24, 16)]
    net = OnlineNet([*hidden, layer_of(NEURONS["leaky_readout"], 16, 5)])
    labels = torch.arange(4)
    x = (torch.rand(160, 4, 24) < 0.2).float()
    held = [_held(lambda n=n: net(x[:n]).scores.sum().backward()) for n in (20, 160)]
    assert held[1] > 5 * held[0]
    for kind in ("d-rtrl", "es-d-rtrl"):
        learner = OnlineLearner(net, OnlineRule(kind), 4)
        blocks = [
            _held(partial(learner.take, x[20 * b : 20 * b + 20], step_loss(labels)))
            + sum(kept.numel() for kept in learner.tensors())
            for b in range(8)
        ]
        assert max(blocks) <= 1.2 * blocks[0]
