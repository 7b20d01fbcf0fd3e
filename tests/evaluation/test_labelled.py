"""Accuracy on one's own samples: integers or floats, graph or network, the same answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, RangeError
from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import simulate
from biril_nm.models import OwnNet
from biril_nm.recording.readout import predict
from biril_nm.training.integers import quantized
from tests.support.own_nets import Loop, OneStep, samples

SPIKES, LABELS = samples(60)
SAMPLE = torch.from_numpy(SPIKES).float()


@pytest.fixture(scope="module")
def graph():
    return lower(to_nir(Loop.strong(), SAMPLE, dt_s=1e-3))


@pytest.fixture(scope="module")
def net():
    return bnm.build_model(
        "mlp", bnm.ModelConfig((1, 4, 4), 3, hidden=(8,), coding=Coding("direct", 4)), 2
    )


def test_a_graph_is_right_as_often_as_its_predictions(graph):
    right = predict(graph, simulate(graph, SPIKES, record=("s",))) == LABELS
    assert 0 < right.mean() < 1
    assert bnm.accuracy(graph, SPIKES, LABELS, batch_size=7) == right.mean()
    assert bnm.accuracy(graph, torch.from_numpy(SPIKES), LABELS.tolist()) == right.mean()
    assert bnm.accuracy(graph, SPIKES, predict(graph, simulate(graph, SPIKES))) == 1


@pytest.mark.parametrize("kind", [Loop, OneStep])
def test_a_network_that_loops_or_takes_one_step_is_right_as_its_forward_says(kind):
    net = kind()
    net.load_state_dict(Loop.strong().state_dict())
    with torch.no_grad():
        spikes = Loop.strong()(SAMPLE)[0]
    counts = spikes.sum(0)
    clear = (counts == counts.max(1, keepdim=True).values).sum(1) == 1  # no equals, which v decides
    expected = (counts.argmax(1).numpy() == LABELS)[clear.numpy()].mean()
    assert clear.sum() > 20
    for given in (net, OwnNet(net, Coding("spikes", 8))):
        found = bnm.accuracy(given, SPIKES[:, clear], LABELS[clear], batch_size=16)
        assert found == pytest.approx(expected)


def test_pictures_and_messages_of_a_coding_give_the_same(net):
    pictures = np.random.default_rng(0).random((20, 1, 4, 4)).astype(np.float32)
    labels = np.arange(20) % 3
    graph, coding = lower(to_nir(net)), net.config.coding
    messages = coding.encode(pictures)
    share = bnm.accuracy(graph, messages, labels)
    assert share == bnm.accuracy(graph, pictures, labels)
    assert share == bnm.accuracy(graph, coding.to_float(messages), labels)
    shares = {bnm.accuracy(net, x, labels, decision="score") for x in (messages, pictures)}
    assert len(shares) == 1 and abs(shares.pop() - share) <= 0.1
    integers = quantized(net, "4")
    assert bnm.accuracy(integers, messages, labels) == bnm.accuracy(
        integers.graph(), messages, labels
    )


@pytest.mark.parametrize(
    ("spikes", "labels", "message"),
    [
        (SPIKES, LABELS[:5], "there are 5 labels for 60 samples"),
        (SPIKES, LABELS + 4, "labels are 4 to 7; expected 0 to 3"),
        (SPIKES, LABELS - 0.5, "not whole numbers"),
        (SPIKES, np.eye(4)[LABELS], r"Turn rows of scores or one-hot rows into classes"),
        (SPIKES[:, :0], LABELS[:0], "no samples|expected samples|at least one step and one sample"),
        (SPIKES[..., :5], LABELS, r"shape \(8, 60, 5\)"),
    ],
    ids=range(6),
)
def test_what_does_not_fit_is_refused_of_both(graph, spikes, labels, message):
    for network in (graph, Loop.strong()):
        with pytest.raises(ConfigError, match=message):
            bnm.accuracy(network, spikes, labels)


def test_values_that_the_input_does_not_carry_are_refused(graph):
    with pytest.raises((RangeError, ConfigError), match="0 to 1"):
        bnm.accuracy(graph, 3 * SPIKES, LABELS)
    with pytest.raises(ConfigError, match="values are 0 to 3; expected 0 to 1 for spikes coding"):
        bnm.accuracy(Loop.strong(), 3 * SPIKES, LABELS)
