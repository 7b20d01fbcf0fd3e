"""The rule object in torch, without averages: bit for bit what hardware_sim (and with it Lava) learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from biril_nm.errors import ConfigError
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons
from biril_nm.learning.rules import PAIR, RULES
from biril_nm.loihi import VTH_SHIFT, WEIGHT_SHIFT
from biril_nm.loihi.fixed_point import decay_toward_zero
from biril_nm.recording import LEARNING_VARIABLES
from biril_nm.training.local_rule.chip_learner import ChipLearner
from tests.support.learning_rows import chip_rows, third_factors
from tests.support.random_learning import random_input, random_network


def learner_of(node):
    tags = {
        key: None if getattr(node, key) is None else torch.from_numpy(getattr(node, key).copy())
        for key in ("tag_t", "tag_d")
    }
    weight = torch.from_numpy(node.weight.astype(np.int64))
    return ChipLearner(node.rule, weight, node.sign_mode, node.weight_bits, **tags)


@pytest.mark.parametrize("seed", range(12))
def test_any_rule_learns_as_on_the_chip(seed):
    graph = random_network([seed, 77], "dense", seed % 3 == 0, legal=seed % 2 == 0)
    spikes = random_input(graph, 10, 2, seed)
    run = simulate(graph, spikes, record=("s", *LEARNING_VARIABLES), learn=True)
    n_rows = len(run.chip_time()["out_n"].s)
    for name, node in graph.plastic.items():
        learner = learner_of(node)
        pre, post = (chip_rows(graph, spikes, run, end, n_rows) for end in graph.ends[name])
        third = third_factors(graph, spikes, run, name, n_rows)
        for t in range(n_rows):
            factors = {key: torch.from_numpy(rows[t].copy()) for key, rows in third.items()}
            learner.step(torch.from_numpy(pre[t]), torch.from_numpy(post[t]), factors)
            for key, rows in run.connections[name].variables().items():
                now = {**learner.synapses, **learner.traces}[key]
                assert_array_equal(now.numpy(), rows[t], f"{name}.{key} at step {t + 1}")


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES.values() if not rule.three_factor], ids=lambda rule: rule.name
)
def test_closed_loop_of_a_linear_layer(rule):
    """Spikes depend on the weights as they are learned: the layer itself in torch, step by step."""
    r = np.random.default_rng(3)
    weight, vth, dv = 2 * r.integers(-20, 50, (9, 14)), 150, 300
    graph = LoihiGraph(
        {"in": Input((14,)), "fc": Dense(weight, rule=rule), "n": Neurons((9,), vth=vth, dv=dv)},
        (("in", "fc"), ("fc", "n")),
    )
    spikes = (r.random((60, 1, 14)) < 0.3).astype(np.int64)
    run = simulate(graph, spikes, record="s,v,w", learn=True)
    learner = ChipLearner(rule, torch.from_numpy(weight))
    v, arriving, n_spikes = torch.zeros(9, dtype=torch.int64), torch.zeros(9, dtype=torch.int64), 0
    for t in range(60):
        v = torch.from_numpy(decay_toward_zero(v.numpy(), dv)) + (arriving << WEIGHT_SHIFT)
        post = (v > vth << VTH_SHIFT).long()
        v = v * (1 - post)
        pre = torch.from_numpy(spikes[t, 0])
        arriving = learner.synapses["w"] @ pre
        learner.step(pre, post)
        n_spikes += int(post.sum())
        if t:  # the first sample is cleared when it arrives, one step later
            assert_array_equal(post.numpy(), run.chip_time()["n"].s[t])
            assert_array_equal(v.numpy(), run.chip_time()["n"].v[t])
        assert_array_equal(learner.synapses["w"].numpy(), run.connections["fc"].w[t])
    assert n_spikes > 20
    assert (learner.synapses["w"].numpy() != weight).any()


def test_a_wrong_seed_is_seen():
    """Negative twin: another seed of the random streams gives other traces and weights."""
    r = np.random.default_rng(0)
    weight = torch.from_numpy(2 * r.integers(-20, 50, (9, 14)))
    one, two = (ChipLearner(replace(PAIR, seed=seed), weight) for seed in (1, 2))
    different = set()
    for _ in range(40):
        pre, post = (torch.from_numpy((r.random(n) < 0.2).astype(np.int64)) for n in (14, 9))
        one.step(pre, post)
        two.step(pre, post)
        different |= {n for n in ("x1", "y1") if (one.traces[n] != two.traces[n]).any()}
        different |= {"w"} if (one.synapses["w"] != two.synapses["w"]).any() else set()
    assert different == {"x1", "y1", "w"}


def test_float_weights_are_refused():
    with pytest.raises(ConfigError, match=r"weights are torch.float32 .* expected integers"):
        ChipLearner(PAIR, torch.zeros(3, 3))
