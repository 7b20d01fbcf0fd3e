"""A network that learned on the chip learns on in a changed world: all layers, or the readout alone."""

from __future__ import annotations

import numpy as np
import pytest

from biril_nm.data import Shift, load_data
from biril_nm.data.shifts import get_shift
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim import Simulator
from biril_nm.onchip import DeepConfig, dfa_network, lessons, pictures
from biril_nm.studies.continual import ContinualPlan, continue_learning, shifted

CONFIG = DeepConfig(vth=(600, 600))


@pytest.fixture(scope="module")
def learned():
    """A network and its session's state after one pass over digits."""
    data = load_data("digits")
    graph = dfa_network((64, 24, 10), CONFIG, 0, (1, 8, 8))
    train = pictures(data.train, 16)
    rows = np.arange(len(train))
    session = Simulator(graph, learn=True, sample_steps=16)
    given = lessons(train.spikes(rows), train.labels, 10, CONFIG.teaching_steps(1))
    for _ in range(2):
        session.run(session.in_chip_time(given), record=())
    return data, graph, session.state


def test_learning_gains_in_the_changed_world_and_forgets_the_old_one(learned):
    data, graph, state = learned
    plan = ContinualPlan(per_class=20, replays=5)
    found = continue_learning(graph, state, data, get_shift("rotated"), CONFIG, plan)
    assert found.before > 0.5 > found.frozen
    assert found.readout > found.frozen
    assert found.all_layers > found.frozen + 0.05
    assert found.all_layers > found.readout
    assert max(found.readout_old, found.all_layers_old) < found.before


def test_without_samples_that_differ_nothing_is_lost(learned):
    data, graph, state = learned
    same = Shift("same", "nothing", 0.0, lambda values, amount, seed, draw: values)
    found = continue_learning(graph, state, data, same, CONFIG, ContinualPlan(1, 1))
    assert found.before == found.frozen
    values, labels = data.test.values(), data.test.labels
    plain, changed = (shifted(values, labels, 16, s, 0, 0) for s in (None, same))
    assert np.array_equal(plain.spikes(np.arange(5)), changed.spikes(np.arange(5)))


def test_halvings_count_from_0():
    with pytest.raises(ConfigError, match="halvings"):
        ContinualPlan(halvings=-1)
