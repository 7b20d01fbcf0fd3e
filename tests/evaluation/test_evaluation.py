"""What evaluation of integer graphs refuses, and the back end that biril eval chooses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from biril_nm.coding import Coding
from biril_nm.commands.evaluate import choose_engine
from biril_nm.commands.sources import LoadedFile
from biril_nm.errors import ConfigError
from biril_nm.evaluation.accuracy import evaluate_graph, single_readout
from biril_nm.evaluation.interval import accuracy_interval
from tests.support.random_graphs import random_graph

RATE = Coding("rate", n_steps=3, message_bits=0)
GRAPH = random_graph(3, "plain")
VALUES = np.zeros((2, *GRAPH.inputs["in"].shape), dtype=np.float32)


def test_unknown_back_ends_are_refused():
    with pytest.raises(
        ConfigError, match="engine 'gpu' is unknown; expected one of torch, sim, lava"
    ):
        evaluate_graph(GRAPH, VALUES, np.zeros(2), RATE, backend="gpu")


def test_nothing_to_evaluate_is_refused():
    with pytest.raises(ConfigError, match="there are no samples to evaluate"):
        evaluate_graph(GRAPH, VALUES[:0], np.zeros(0), RATE)


def test_several_inputs_do_not_classify():
    with pytest.raises(
        ConfigError, match=r"one input and one output; .* inputs in, in2 and outputs out"
    ):
        single_readout(random_graph(0, "inputs"))


def source(name, net=None):
    return LoadedFile(Path(name), "pt" if net else "loihi", net=net)


def test_the_back_end_is_one_that_all_sources_run_on():
    model, graph = source("m.pt", net=object()), source("g.loihi.npz")
    assert choose_engine([model, model], None, False).name == "torch"
    assert choose_engine([model, graph], None, False).name == "sim"
    assert choose_engine([model], "lava", True).name == "lava"
    with pytest.raises(ConfigError, match="engine 'gpu' is unknown; expected one of torch, sim"):
        choose_engine([model], "gpu", False)
    with pytest.raises(
        ConfigError,
        match="'g.loihi.npz' holds no torch network, which engine 'torch' needs. Use --backend sim",
    ):
        choose_engine([model, graph], "torch", False)
    with pytest.raises(ConfigError, match="workers run integer networks only. Add --backend sim"):
        choose_engine([model], None, True)


@pytest.mark.parametrize(("n_right", "n"), [(397, 470), (9945, 10_000), (0, 20), (20, 20), (1, 1)])
def test_the_interval_holds_the_rates_that_the_count_does_not_rule_out(n_right, n):
    """Wilson's ends are the rates q from which n_right / n is 1.96 standard deviations away."""
    low, high = accuracy_interval(n_right, n)
    assert 0 <= low < high <= 1 and low <= n_right / n <= high
    for q, end in ((low, 0), (high, n)):
        if n_right != end:
            deviation = 1.959964 * np.sqrt(q * (1 - q) / n)
            assert abs(n_right / n - q) == pytest.approx(deviation, rel=1e-6)
    with pytest.raises(ConfigError, match=f"n_right is {n + 1} of {n} samples; expected 0 to"):
        accuracy_interval(n + 1, n)
