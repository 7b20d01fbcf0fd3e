"""Learning by projection: gradients equal the closed form, and no gradient passes from layer to layer."""

from __future__ import annotations

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

from biril_nm.coding import Coding
from biril_nm.data import load_data, make_loaders
from biril_nm.errors import ConfigError
from biril_nm.models import ModelConfig, OwnNet, build_model
from biril_nm.neurons.unroll import engine
from biril_nm.training import PHASES, Callback, PhaseState, TrainConfig, evaluate, fit
from biril_nm.training.checkpoint import CHECKPOINT
from biril_nm.training.online.layer import layer_of
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.neurons import NEURONS
from tests.support.digits import DIGITS

N_STEPS, BATCH, BETA, THETA = 7, 4, 0.2, 0.5
TOY = ModelConfig(
    input_shape=(6,), hidden=(5,), n_classes=3, neuron="lif", beta=BETA, threshold=THETA,
    batch_norm=False, surrogate="rectangle", coding=Coding("rate", N_STEPS),
)  # fmt: skip
LABELS = torch.tensor([0, 1, 2, 1])
HIDDEN = "lif1"
SIGNALS = ("brp", "dfa", "sdfa", "shallow")


class Gradients(torch.optim.SGD):
    """Notes gradients instead of using them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net.parameters(), lr=1.0)
        self.names = dict(net.named_parameters())
        self.found: dict[str, Tensor | None] = {}

    def step(self, closure=None):
        del closure
        self.found = {n: None if p.grad is None else p.grad.clone() for n, p in self.names.items()}


def toy_input() -> Tensor:
    return (
        torch.rand((N_STEPS, BATCH, 6), generator=torch.Generator().manual_seed(0)) < 0.5
    ).float()


def gradients(net, phase, batch, state):
    optimizer = Gradients(net)
    PHASES[phase].run(net, batch, optimizer, state)
    return optimizer.found


# --- the recursion, written out ---------------------------------------------------------------------


def run_layer(current):
    """m_t = beta m_{t-1} (1 - s_{t-1}) + i_t."""
    m, s = torch.zeros_like(current[0]), torch.zeros_like(current[0])
    ms, ss = [], []
    for i in current:
        m = BETA * m * (1 - s) + i
        s = (m > THETA).float()
        ms.append(m)
        ss.append(s)
    return torch.stack(ms), torch.stack(ss)


def layer_gradient(x, m, s, e, at_end=None, one_step=False):
    """delta_t = psi_t (e - beta m_t delta_{t+1}) + beta (1 - s_t) delta_{t+1}; gW and gb.

    ``at_end``: gradient of the membrane that the last step leaves behind.
    """
    psi = ((m - THETA).abs() < 0.5).float()
    delta = torch.zeros_like(e) if at_end is None else at_end / BETA
    deltas = []
    for t in reversed(range(len(m))):
        last = t == len(m) - 1
        carried = torch.zeros_like(e) if one_step and not last else delta
        delta = psi[t] * (e - BETA * m[t] * carried) + BETA * (1 - s[t]) * carried
        deltas.append(delta)
    stacked = torch.stack(deltas[::-1])
    return torch.einsum("tbi,tbj->ij", stacked, x), stacked.sum((0, 1))


def closed_form(net, x, signal, b, one_step):
    w1, b1, w2, b2 = (p.detach() for p in net.parameters())
    m1, s1 = run_layer(x @ w1.T + b1)
    m2, s2 = run_layer(s1 @ w2.T + b2)
    scores = s2.sum(0) + m2[-1] * (1 - s2[-1]) / THETA
    onehot = torch.eye(3)[LABELS]
    error = (scores / N_STEPS - onehot) / N_STEPS / BATCH  # of the loss mse
    d = {
        "dfa": error,
        "sdfa": (s2.mean(0) - onehot).sign() / BATCH,
        "brp": onehot / BATCH,
        "shallow": 0 * error,
    }
    hidden = layer_gradient(x, m1, s1, d[signal] @ b, one_step=one_step)
    return (*hidden, *layer_gradient(s1, m2, s2, error, error / THETA, one_step))


@pytest.mark.parametrize("chosen", ["auto", "eager", "loop"])
@pytest.mark.parametrize("phase", [*SIGNALS, "brp-online", "dfa-online", "sdfa-online"])
def test_gradients_equal_the_closed_form(phase, chosen):
    net, x, state = build_model("mlp", TOY, seed=3), toy_input(), PhaseState(loss="mse", seed=5)
    signal, _, online = phase.partition("-")
    with engine(chosen):
        found = gradients(net, phase, (x, LABELS), state)
    b = state.kept.get(f"feedback/{HIDDEN}", torch.zeros(3, 5))
    for (name, ours), expected in zip(
        found.items(), closed_form(net, x, signal, b, bool(online)), strict=True
    ):
        if signal == "shallow" and "fc1" in name:
            assert ours is None  # not zero: Adam would go on by its momentum
            continue
        assert expected.abs().max() > 0.01, name
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_one_step_differs_from_all_of_time():
    net, batch = build_model("mlp", TOY, seed=3), (toy_input(), LABELS)
    state = PhaseState(loss="mse", seed=5)
    both = [
        gradients(net, name, batch, state)["layers.fc1.weight"] for name in ("brp", "brp-online")
    ]
    assert not torch.allclose(*both, rtol=1e-3)


@pytest.mark.parametrize("chosen", ["auto", "loop"])
def test_feedback_alignment_is_backpropagation_by_other_weights(chosen):
    net, batch, state = build_model("mlp", TOY, seed=3), (toy_input(), LABELS), PhaseState("mse")
    with engine(chosen):
        true = gradients(net, "B", batch, state)
        random = gradients(net, "fa", batch, state)
        assert set(state.kept) == {"feedback/layers.fc2"}
        assert not torch.allclose(random["layers.fc1.weight"], true["layers.fc1.weight"], rtol=0.1)
        torch.testing.assert_close(random["layers.fc2.weight"], true["layers.fc2.weight"])
        state.kept["feedback/layers.fc2"] = net.layers.fc2.weight.detach().clone()
        same = gradients(net, "fa", batch, state)
    for name, gradient in true.items():
        torch.testing.assert_close(same[name], gradient)


# --- any network -----------------------------------------------------------------------------------


def lif(**options):
    return snn.Leaky(beta=0.5, threshold=0.5, reset_delay=False, **options)


class Looping(nn.Module):
    """Loops over the steps, keeps states as variables: cannot be traced."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.lif1, self.lif2, self.lif3 = lif(), lif(), lif()

    def forward(self, x):
        m1, m2, m3 = (layer.reset_mem() for layer in (self.lif1, self.lif2, self.lif3))
        out = []
        for step in x:
            s1, m1 = self.lif1(self.fc1(step), m1)
            s2, m2 = self.lif2(self.fc2(s1), m2)
            s3, m3 = self.lif3(self.fc3(s2), m3)
            out.append(s3)
        return torch.stack(out)


class Step(nn.Module):
    """The same as one step; ``around`` adds the first spikes to the current of the last neurons."""

    def __init__(self, around=False):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.lif1, self.lif2, self.lif3 = (lif(init_hidden=True) for _ in range(3))
        self.around = around

    def forward(self, x):
        s1 = self.lif1(self.fc1(x))
        s2 = self.lif2(self.fc2(s1))
        return self.lif3(self.fc3(s2 + s1 if self.around else s2))


def test_a_loop_of_ones_own_learns_as_the_traced_step():
    torch.manual_seed(0)
    step, loop = Step(), Looping()
    loop.load_state_dict(step.state_dict())
    batch, coding = (toy_input(), LABELS), Coding("rate", N_STEPS)
    for phase in ("brp", "dfa-online", "fa"):
        state = PhaseState(seed=1)
        ours, theirs = (gradients(OwnNet(m, coding), phase, batch, state) for m in (step, loop))
        for name, gradient in ours.items():
            torch.testing.assert_close(theirs[name], gradient, msg=f"{phase} {name}")
            assert gradient.abs().max() > 0, f"{phase} {name}"


class Functional(Step):
    """Takes weights of its own, or those of a layer, without calling one."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        if kind == "parameter":
            self.own = nn.Parameter(torch.randn(8, 8))
        self.fc2.requires_grad_(kind != "frozen")

    def forward(self, x):
        s1 = self.lif1(self.fc1(x))
        weight = self.own if self.kind == "parameter" else self.fc2.weight
        named = self.kind == "named"
        s2 = self.lif2(self.fc2(input=s1) if named else nn.functional.linear(s1, weight))
        return self.lif3(self.fc3(s2))


@pytest.mark.parametrize("chosen", ["auto", "loop"])
@pytest.mark.parametrize(
    ("kind", "wrong"),
    [("parameter", "own"), ("layer", "fc2.weight"), ("frozen", "fc2.weight"), ("named", "fc2.weight")],
)  # fmt: skip
def test_feedback_alignment_refuses_gradients_by_true_weights(kind, wrong, chosen):
    net = OwnNet(Functional(kind), Coding("rate", N_STEPS))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    message = f"gradients pass module.{wrong} that no .*expected calls of Conv1d, .*Linear"
    optimizer = torch.optim.SGD(net.parameters(), 1.0)
    with engine(chosen), pytest.raises(ConfigError, match=message):
        PHASES["fa"].run(net, (toy_input(), LABELS), optimizer, PhaseState())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_feedback_alignment_takes_loops_and_norms():
    net = build_model("recurrent", TOY, seed=3)
    state = PhaseState()
    found = gradients(net, "fa", (toy_input(), LABELS), state)
    assert list(state.kept) == ["feedback/layers.fc2"]
    assert found["layers.rlif1.recurrent.weight"].abs().max() > 0
    module = Step()
    module.fc2 = nn.Sequential(
        nn.Linear(8, 8), nn.Unflatten(1, (2, 4)), nn.LayerNorm((2, 4)), nn.Flatten()
    )
    gradients(OwnNet(module, Coding("rate", N_STEPS)), "fa", (toy_input(), LABELS), PhaseState())


@pytest.mark.parametrize("around", [False, True])
def test_a_hidden_layer_does_not_see_the_layers_behind_it(around):
    """Other weights behind a layer change its gradient under B, and leave it under projection."""
    batch = (toy_input(), LABELS)
    for phase, independent in (("brp", True), ("shallow", True), ("B", False)):
        torch.manual_seed(0)
        net, state = OwnNet(Step(around), Coding("rate", N_STEPS)), PhaseState(seed=1)
        before = gradients(net, phase, batch, state)["module.fc1.weight"]
        with torch.no_grad():
            net.module.fc3.weight.mul_(-1)
        after = gradients(net, phase, batch, state)["module.fc1.weight"]
        if before is None:
            assert after is None and phase == "shallow"
        else:
            assert torch.equal(before, after) == independent, phase


@pytest.mark.parametrize("shape", [(2, 8, 8), (3, 12)])
def test_convolutions_and_batch_norm_learn_within_their_layer(shape):
    config = ModelConfig(input_shape=shape, channels=(4, 5), hidden=(6,), n_classes=3, kernel=5)
    net, state = build_model("convnet", config, seed=0), PhaseState()
    x = torch.rand((1, 4, *shape)).expand(3, 4, *shape)
    found = gradients(net, "dfa", (x, LABELS), state)
    assert all(g is not None and g.isfinite().all() for g in found.values())
    assert found["layers.bn2.weight"].abs().max() > 0
    position = state.kept["feedback/if1"]
    assert position.shape == (3, 4, *shape[1:]) and position.std() > 0  # a value for each position
    bound = (6 / position[0].numel()) ** 0.5
    assert bound * 0.9 < position.abs().max() <= bound
    assert net.layers.conv1.kernel_size == (5,) * (len(shape) - 1)


# --- runs ------------------------------------------------------------------------------------------


def small_fit(schedule, folder=None, epochs=3, **options):
    config = ModelConfig(hidden=(20,), neuron="lif", beta=0.2, threshold=0.5, batch_norm=False)
    net = build_model("mlp", config, seed=0)
    settings = TrainConfig(
        schedule, epochs, 1e-3, loss="mse", device="cpu", tensorboard=False, curves=False
    )
    return net, fit(net, make_loaders(DIGITS, 32), settings, out_dir=folder, **options)


class Stop(Callback):
    """Ends a run after an epoch."""

    def on_epoch_end(self, record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("schedule", ["brp,B,fa", "dfa"])
def test_a_resumed_run_equals_an_uninterrupted_one(schedule, tmp_path):
    whole, _ = small_fit(schedule)
    with pytest.raises(KeyboardInterrupt):
        small_fit(schedule, tmp_path, callbacks=(Stop(),))
    assert (tmp_path / CHECKPOINT).is_file()
    resumed, history = small_fit(schedule, tmp_path, resume=True)
    assert [r["phase"] for r in history.records] == (
        ["brp", "B", "fa"] if "," in schedule else ["dfa"] * 3
    )
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_shallow_moves_the_readout_alone():
    net = build_model("mlp", ModelConfig(hidden=(20,)), seed=0)
    before = {k: v.clone() for k, v in net.named_parameters()}
    assert PHASES["shallow"].updated_layers(net) == ("fc2",)
    fit(net, make_loaders(DIGITS, 32), TrainConfig("shallow", 1, device="cpu"))
    moved = {k for k, v in net.named_parameters() if not torch.equal(v, before[k])}
    assert moved == {"layers.fc2.weight", "layers.fc2.bias"}


def test_what_cannot_learn_by_projection_is_refused():
    flat = build_model("mlp", ModelConfig(hidden=()), seed=0)
    loaders = make_loaders(DIGITS, 32)
    with pytest.raises(
        ConfigError, match="'mlp' has no hidden neurons to project to; expected a hidden"
    ):
        fit(flat, loaders, TrainConfig("brp", 1, device="cpu"))
    net = build_model("mlp", ModelConfig(hidden=(20,)), seed=0)
    with pytest.raises(
        ConfigError, match="checkpoint_steps is 2, .*learn by projection; expected 0"
    ):
        fit(net, loaders, TrainConfig("B,dfa", 2, device="cpu", checkpoint_steps=2))
    online = OnlineNet([layer_of(NEURONS["lif"], 64, 4), layer_of(NEURONS["leaky_readout"], 4, 10)])
    for schedule in ("fa", "brp"):
        with pytest.raises(ConfigError, match="online layers, which cannot be cut .* Use a sched"):
            fit(online, loaders, TrainConfig(schedule, 1, device="cpu"))
    state = PhaseState(kept={"feedback/if1": torch.zeros(3, 3)})
    batch = (net.encode(DIGITS.train.values(slice(4))), LABELS)
    with pytest.raises(ConfigError, match=r"of 'if1' have shape \(3, 3\).*expected \(10, 20\)"):
        PHASES["brp"].run(net, batch, Gradients(net), state)


def test_the_order_of_methods_on_a_small_set():
    """What hidden layers learn is worth many points, and less than by backpropagation."""
    config = ModelConfig(
        hidden=(40,), neuron="lif", beta=0.2, threshold=0.5, batch_norm=False,
        surrogate="rectangle", coding=Coding("rate", 5),
    )  # fmt: skip
    loaders, found = make_loaders(load_data("digits").head(700, 360), 32, 1), {}
    for phase in ("shallow", "brp", "dfa", "B"):
        net = build_model("mlp", config, seed=1)
        fit(
            net,
            (loaders.train, None),
            TrainConfig(phase, 5, 2e-2, loss="mse", seed=1, device="cpu"),
        )
        found[phase] = evaluate(net, loaders.test, device="cpu").accuracy
    assert found["shallow"] + 0.08 <= min(found["brp"], found["dfa"]), found
    assert max(found["brp"], found["dfa"]) <= found["B"] + 0.01, found
