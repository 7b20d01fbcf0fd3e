"""Optimisers, learning rates and losses that a configuration chooses."""

from __future__ import annotations

import math

import pytest
import torch

from biril_nm.errors import ConfigError
from biril_nm.models import ModelConfig, build_model
from biril_nm.training import TrainConfig, fit
from biril_nm.training.callbacks import Callback
from biril_nm.training.losses import LOSSES
from biril_nm.training.optimizers import make_optimizer

ADAMW = {"optimizer": "adamw", "weight_decay": 0.5, "schedule": "B"}


def test_weights_of_layers_decay_and_nothing_else():
    net = build_model("mlp", ModelConfig(input_shape=(4,), hidden=(3,), neuron="plif"))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = make_optimizer(net, TrainConfig(**ADAMW, lr=0.1))
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in net.named_parameters():
        wanted = before[name] * (1 - 0.1 * 0.5) if p.ndim == 2 else before[name]
        torch.testing.assert_close(p.detach(), wanted)
    assert {p.ndim for p in net.parameters()} == {0, 1, 2}


def test_the_rate_rises_and_falls():
    config = TrainConfig(epochs=20, lr=1.0, warmup=4, lr_last=0.2)
    assert [config.lr_at(e) for e in range(4)] == pytest.approx([1e-6, 0.25, 0.5, 0.75], abs=1e-6)
    assert config.lr_at(4) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 5)) / 2)
    assert config.lr_at(10) == pytest.approx(0.6) and 0.2 < config.lr_at(19) < 0.21
    assert TrainConfig(epochs=20, lr=1.0).lr_at(0) == 1.0


def test_smoothed_labels_and_the_mean_over_the_steps():
    scores, labels = torch.tensor([[6.0, 0.0, 3.0], [1.0, 2.0, 0.0]]), torch.tensor([0, 2])
    logs = torch.log_softmax(scores / 3, dim=1)
    wanted = -(0.9 * logs[[0, 1], labels] + 0.1 * logs.mean(dim=1)).mean()
    torch.testing.assert_close(LOSSES["ce_smooth"](scores, labels, 3), wanted)


def test_a_run_of_adamw_goes_on_where_it_stopped(tmp_path):
    batches = [(torch.rand(8, 4).numpy(), torch.arange(8).numpy() % 2)]
    config = TrainConfig(**ADAMW, epochs=4, lr=0.01, warmup=1, loss="ce_smooth", tensorboard=False)
    model = ModelConfig(input_shape=(4,), hidden=(3,), n_classes=2, neuron="plif")
    whole, cut = build_model("mlp", model), build_model("mlp", model)
    fit(whole, (batches, None), config)

    class Stop(Callback):
        def on_epoch_end(self, record):
            if record["epoch"] == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(cut, (batches, None), config, callbacks=[Stop()], out_dir=tmp_path)
    again = build_model("mlp", model)
    fit(again, (batches, None), config, out_dir=tmp_path, resume=True)
    for name, p in whole.named_parameters():
        assert torch.equal(p, dict(again.named_parameters())[name]), name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weight_decay": 0.1}, "weight_decay is 0.1 of optimizer 'adam'; expected 0. Use optimizer 'adamw'"),
        ({"optimizer": "adamw", "weight_decay": 2.0}, "weight_decay is 2.0; expected a number from 0 to 1$"),
        ({"optimizer": "sgd"}, "optimizer 'sgd' is unknown; expected one of adam, adamw"),
        ({"warmup": -1}, "warmup is -1 of 9 epochs; expected an integer from 0 to epochs - 1"),
        ({"warmup": 3, "epochs": 3}, "warmup is 3 of 3 epochs; .* no epoch is left"),
        ({"lr": 0.1, "lr_last": 0.2}, "lr_last is 0.2; expected a number from 0 to lr, 0.1"),
        ({"lr_last": math.nan}, "lr_last is nan"),
    ],
)  # fmt: skip
def test_wrong_settings(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**values)
