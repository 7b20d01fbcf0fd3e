"""BrainCog's AtanGrad with a learned alpha: its gradient, networks that learn it, files and the chip."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from biril_nm.data import make_loaders
from biril_nm.errors import ConfigError
from biril_nm.export import lower, to_nir
from biril_nm.models import ModelConfig, build_model, load, save
from biril_nm.neurons import make_surrogate
from biril_nm.training import TrainConfig, fit
from tests.support.digits import DIGITS

PLIF = ModelConfig(
    (1, 8, 8), 10, neuron="plif", beta=0.5, threshold=0.4, surrogate="learned_atan", hidden=(16,)
)


def alphas(net):
    return [p.item() for name, p in net.named_parameters() if name.endswith("alpha")]


def test_alpha_gets_the_derivative_of_the_arcus_tangens():
    x = torch.linspace(-1.5, 1.5, 13, dtype=torch.float64, requires_grad=True)
    given = torch.linspace(0.3, -2, 13, dtype=torch.float64)
    surrogate = make_surrogate("learned_atan:3").double()
    spikes = surrogate(x)
    assert spikes.tolist() == (x > 0).double().tolist()
    (spikes * given).sum().backward()
    point = x.detach().requires_grad_()
    alpha = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    ((0.5 + torch.atan(math.pi / 2 * alpha * point) / math.pi) * given).sum().backward()
    torch.testing.assert_close(x.grad, point.grad)
    torch.testing.assert_close(surrogate.alpha.grad, alpha.grad)
    assert abs(float(alpha.grad)) > 1e-3


def test_at_first_it_is_atan():
    x = torch.rand(3, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for config in (PLIF, replace(PLIF, surrogate="atan")):
        net = build_model("mlp", config, seed=0)
        out = net(x)
        out.scores.square().sum().backward()
        weight = next(p for name, p in net.named_parameters() if name.endswith("fc1.weight"))
        found.append((out.scores.detach(), weight.grad))
    for learned, fixed in zip(*found):
        torch.testing.assert_close(learned, fixed)
        assert learned.abs().max() > 0


def test_layers_learn_alphas_of_their_own_which_files_keep(tmp_path):
    net = build_model("mlp", PLIF, seed=0)
    assert alphas(net) == [2.0, 2.0]
    fit(net, make_loaders(DIGITS, 32, 1), TrainConfig("B", 2, 1e-2, device="cpu"))
    first, second = alphas(net)
    assert abs(first - 2) > 1e-3 and abs(second - 2) > 1e-3 and first != second
    save(net, tmp_path / "model.pt")
    assert alphas(load(tmp_path / "model.pt")) == [first, second]
    graph = lower(to_nir(net, dt_s=1e-4))
    other = build_model("mlp", replace(PLIF, surrogate="atan"), seed=0)
    state = {k: v for k, v in net.state_dict().items() if not k.endswith("alpha")}
    other.load_state_dict(state)
    assert lower(to_nir(other, dt_s=1e-4)) == graph  # alpha is of training alone


def test_an_alpha_that_makes_no_sense_is_refused():
    with pytest.raises(
        ConfigError, match="learned_atan or learned_atan:ALPHA with a number above 0"
    ):
        make_surrogate("learned_atan:-1")
    with pytest.raises(
        ConfigError, match="alpha of learned_atan is 0.0001; expected 0.001 to 1000"
    ):
        make_surrogate("learned_atan:0.0001")


@pytest.mark.parametrize(("alpha", "end"), [(-0.5, 1e-3), (0.0, 1e-3), (2e3, 1e3)])
def test_an_alpha_that_left_the_range_keeps_the_slope_of_its_end_and_comes_back(alpha, end):
    x = torch.tensor([-0.4, 0.0, 0.3], requires_grad=True)
    surrogate, last = make_surrogate("learned_atan"), make_surrogate(f"learned_atan:{end}")
    with torch.no_grad():
        surrogate.alpha.fill_(alpha)
    inward = -1.0 if alpha < 1 else 1.0  # sign of the gradient that leads back
    for sign in (1.0, -1.0):
        given = sign * torch.tensor([0.0, 1.0, 1.0])
        found, back = torch.autograd.grad((surrogate(x) * given).sum(), (x, surrogate.alpha))
        (wanted,) = torch.autograd.grad((last(x) * given).sum(), x)
        torch.testing.assert_close(found, wanted)
        assert found[1] * sign > 0
        assert back * inward > 0 if sign == inward else back == 0
