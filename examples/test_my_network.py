"""A parity check in your own test suite:  pytest examples/test_my_network.py

One line proves that torch, the integer simulator and Lava agree on your network, or says which
neuron differs first.
"""

from __future__ import annotations

import numpy as np
import pytest

import biril_nm as bnm


@pytest.fixture
def net() -> bnm.BirilNet:
    """Replace this by your trained network: ``bnm.load("model.pt")``."""
    return bnm.build_model("mlp", bnm.ModelConfig(hidden=(64,), batch_norm=False), seed=1)


def test_network_arrives_intact(net: bnm.BirilNet) -> None:
    images = np.random.default_rng(0).random((8, 1, 8, 8))
    spikes = net.config.coding.encode(images)
    bnm.testing.assert_parity(net, spikes, against=("torch", "sim", "lava"))
