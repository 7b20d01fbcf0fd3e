"""Learning in hardware_sim and in Lava (lava-nc 0.10.0, fixed_pt): every integer at every step.

Compared are s, u, v of all neurons and w, t, d, x1, x2, y1, y2, y3 of all plastic connections, in chip
time, and the learned graphs. 6 random networks run by default, 200 more with the marker ``slow``; both print
how many networks and integers were compared (``pytest -s``).
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from torch import nn

from biril_nm.engines import Network, RunOptions, get_engine
from biril_nm.engines.registry import ENGINES
from biril_nm.errors import ConfigError, RangeError
from biril_nm.export.lava.backend import run_lava, write
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.hw_graph.plastic import make_plastic
from biril_nm.learning.rule import LearningRule, Term, Trace
from biril_nm.learning.rules import RULES
from biril_nm.parity import check_parity
from biril_nm.recording import LEARNING_VARIABLES, VARIABLES
from tests.support.lava_runs import any_integers
from tests.support.random_learning import random_input, random_network, random_weights

pytestmark = pytest.mark.lava
EVERYTHING = (*VARIABLES, *LEARNING_VARIABLES)
KINDS = ("dense", "sparse", "deep", "loop", "two", "graded")


def compare(graph: LoihiGraph, spikes: Any) -> tuple[int, int]:
    """Integers compared, and weights that learning changed."""
    sim = simulate(graph, spikes, record=EVERYTHING, learn=True)
    lava = run_lava(graph, spikes, record=EVERYTHING, learn=True)
    count = 0
    for node, trace in sim.chip_time().items():
        for key, rows in trace.variables().items():
            assert_array_equal(rows, getattr(lava.chip_time()[node], key), f"{node}.{key}")
            count += rows.size
    for name, connection in sim.connections.items():
        for key, rows in connection.variables().items():
            assert_array_equal(rows, getattr(lava.connections[name], key), f"{name}.{key}")
            count += rows.size
    assert sim.graph == lava.graph
    assert sim.n_spikes == lava.n_spikes
    changed = sum(int((c.w[0] != c.w[-1]).sum()) for c in sim.connections.values())  # type: ignore
    return count, changed


def compare_many(seeds: range, capsys: pytest.CaptureFixture[str]) -> None:
    count = changed = three = 0
    epochs: set[int] = set()
    for seed in seeds:
        graph = random_network([seed, 1], KINDS[seed % len(KINDS)], seed % 5 in (1, 3))
        r = np.random.default_rng(seed)
        spikes = random_input(graph, int(r.integers(6, 20)), int(r.integers(1, 4)), seed)
        more, moved = compare(graph, spikes)
        count, changed = count + more, changed + (moved > 0)
        rules = [node.rule for node in graph.plastic.values()]
        three += any(rule.three_factor for rule in rules)  # type: ignore[union-attr]
        epochs |= {rule.t_epoch for rule in rules}  # type: ignore[union-attr]
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(seeds)} random learning networks ({three} three-factor), {count:,} integers equal "
            f"to Lava, weights changed in {changed}\n"
        )
    assert changed > len(seeds) // 2
    assert three >= len(seeds) // 4
    assert len(epochs) >= min(8, len(seeds) // 3)


def test_random_networks(capsys: pytest.CaptureFixture[str]) -> None:
    compare_many(range(6), capsys)  # each kind once


@pytest.mark.slow
def test_200_random_networks(capsys: pytest.CaptureFixture[str]) -> None:
    compare_many(range(100, 300), capsys)


def plain_network(rule: LearningRule, mode: str = "mixed", seed: int = 0, n_pre: int = 30) -> Any:
    """A Dense that learns, a clock that makes its targets spike, and input; third factors as Inputs."""
    r = np.random.default_rng(seed)
    graph = LoihiGraph(
        {
            "in": Input((n_pre,)),
            "clock": Input((1,)),
            "fc": Dense(random_weights(r, (11, n_pre), mode, 8, True), -2, sign_mode=mode),
            "drive": Dense(np.full((11, 1), 254), weight_exp=5),
            "n": Neurons((11,), vth=300, dv=300, bias_mant=r.integers(0, 4000, 11), bias_exp=2),
            "out": Output(),
        },
        (("in", "fc"), ("fc", "n"), ("clock", "drive"), ("drive", "n"), ("n", "out")),
    )
    graph = make_plastic(graph, "fc", rule)
    spikes = random_input(graph, 14, 2, seed)
    return graph, {**spikes, "in": spikes["in"] * (r.random(spikes["in"].shape) < 0.4)}


MODES = ("mixed", "excitatory", "inhibitory")
# Each rule with one mode, each mode with several rules.
QUICK_RULES = {(name, MODES[i % 3]) for i, name in enumerate(RULES)}


@pytest.mark.parametrize("more_steps", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (name, mode) if (name, mode) in QUICK_RULES
        else pytest.param(name, mode, marks=pytest.mark.slow)
        for name in RULES for mode in MODES
    ],
)  # fmt: skip
def test_every_rule_in_every_sign_mode(name: str, mode: str, more_steps: int) -> None:
    rule = replace(RULES[name], t_epoch=RULES[name].t_epoch + more_steps)
    count, _ = compare(*plain_network(rule, mode))
    assert count > 10_000


ODD_RULES = {
    "tau 0": LearningRule(
        "a", (Term(1, -2, ("x0", "y1")),), traces={"y1": Trace(64, 0), "x1": Trace(9, 0)}
    ),
    "fractions": LearningRule(
        "b",
        (Term(1, -1, ("y0", "x1")), Term(-1, -2, ("x0", "y2"))),
        traces={"x1": Trace(16.25, 7), "y2": Trace(3.75, 3), "x2": Trace(0.004, 9)},
        t_epoch=5,
    ),
    "decimated": LearningRule(
        "c", (Term(1, 1, ("u", "x1")), Term(-1, 0, ("u", "y1"))), decimation=2,
        traces={"x1": Trace(20, 5), "y1": Trace(30, 5)}, t_epoch=2, seed=9,
    ),
    "tags": LearningRule(
        "d",
        (Term(1, 3, ("u", "t", "sgn(w-40)")),),
        (Term(1, -1, ("y0", "x1")), Term(-1, 2, ("x0", "d"))),
        (Term(1, -3, ("x0", "(y1-20)")), Term(1, 0, ("u",))),
        traces={"x1": Trace(20, 5), "y1": Trace(30, 5)}, t_epoch=3,
    ),
    "32 bits wrap": LearningRule(
        "e", (Term(1, 8, ("x0", "w", "w", "x1", "y1", "x1"), 7),),
        traces={"x1": Trace(120, 50), "y1": Trace(120, 50)},
    ),
    "63 steps": LearningRule("f", (Term(1, 0, ("x0", "y1")),), traces={"y1": Trace(50, 9)}, t_epoch=63),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if name in ("tau 0", "decimated", "63 steps")
        else name
        for name in ODD_RULES
    ],
)
def test_corners(name: str) -> None:
    graph, spikes = plain_network(ODD_RULES[name], n_pre=9)
    if name == "63 steps":
        spikes = random_input(graph, 70, 1, 0)
    _, changed = compare(graph, spikes)
    assert changed > 0


def test_initial_weights_and_tags_that_the_chip_would_not_hold() -> None:
    """Past the checks of the back end: Lava truncates, does not clip, and clips in its first phase."""
    graph = random_network([0, 5], "dense", False, legal=False)
    spikes = random_input(graph, 9, 2, 0)
    sim = simulate(graph, spikes, record=EVERYTHING, learn=True)
    with any_integers():
        lava = run_lava(graph, spikes, record=EVERYTHING, learn=True)
    for key, values in sim.connections["c1"].variables().items():
        assert_array_equal(values, getattr(lava.connections["c1"], key), key)
    assert_array_equal(sim.chip_time()["out_n"].v, lava.chip_time()["out_n"].v)


TWINS = {
    "seed": lambda rule: replace(rule, seed=rule.seed + 1),
    "epoch": lambda rule: replace(rule, t_epoch=rule.t_epoch + 1),
    "tau": lambda rule: replace(rule, traces={**rule.traces, "x1": Trace(40, 9.5)}),
    "impulse": lambda rule: replace(rule, traces={**rule.traces, "x1": Trace(41, 9)}),
    "exponent": lambda rule: replace(rule, dw=(Term(1, -2, ("y0", "x1")), *rule.dw[1:])),
    "order": lambda rule: replace(rule, dw=rule.dw[::-1]),
}


@pytest.fixture(scope="module")
def rule_on_lava() -> Any:
    """A network with a rule, its input, and what Lava made of it."""
    rule = LearningRule(
        "base",
        (Term(1, -1, ("y0", "x1")), Term(-1, 3, ("x0",)), Term(-1, -1, ("y0", "y1"))),
        traces={"x1": Trace(40, 9), "y1": Trace(33, 4)},
        t_epoch=2,
    )
    graph, spikes = plain_network(rule)
    return graph, rule, spikes, run_lava(graph, spikes, record=EVERYTHING, learn=True)


@pytest.mark.parametrize("what", TWINS)
def test_a_rule_that_is_off_by_one_is_seen(what: str, rule_on_lava: Any) -> None:
    """Negative twin: the same network with one number of the rule changed differs from Lava."""
    graph, rule, spikes, lava = rule_on_lava
    twin = graph.with_node("fc", rule=TWINS[what](rule))
    sim = simulate(twin, spikes, record=EVERYTHING, learn=True)
    different = [
        key
        for key, rows in sim.connections["fc"].variables().items()
        if not np.array_equal(rows, getattr(lava.connections["fc"], key))
    ]
    assert "w" in different


def test_check_parity_names_the_plastic_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = RULES["pair"]
    graph, spikes = plain_network(rule)
    report = check_parity(graph, spikes, learn=True)
    assert report.ok
    assert "w, t, d, x1" in report.summary()

    def wrong(network: Network, spikes: Any, options: RunOptions) -> Any:
        twin = network.graph.with_node("fc", rule=replace(rule, seed=99))
        return simulate(twin, spikes, record=options.record, learn=options.learn)

    monkeypatch.setitem(ENGINES.registered, "sim", replace(get_engine("sim"), compute=wrong))
    report = check_parity(graph, spikes, learn=True)
    assert not report.ok
    assert any(m.node == "fc" and m.variable == "x1" for m in report.mismatches)
    assert "fc: x1 differs first at chip step" in report.summary()
    with pytest.raises(ConfigError, match="engine 'torch' cannot run a network that learns"):
        check_parity(graph, spikes, ("torch", "sim"), net=nn.Identity(), learn=True)


def test_what_lava_s_learning_sparse_cannot_do_is_reported() -> None:
    graph = random_network([3, 1], "sparse", False)
    rule = LearningRule("w", (Term(-1, -3, ("x0", "w")),))
    spikes = random_input(graph, 5, 1, 0)
    for changes, message in (
        (
            {"rule": rule},
            "'c1': LearningSparse with factors w; expected products of spikes and traces",
        ),
        (
            {"sign_mode": "excitatory"},
            "'c1': LearningSparse with excitatory weights; expected mixed",
        ),
    ):
        node = graph.plastic["c1"]
        weight = abs(node.weight) if "sign_mode" in changes else node.weight
        twin = graph.with_node("c1", weight=weight, **changes)
        assert simulate(twin, spikes, learn=True).graph is not None
        with pytest.raises(RangeError, match=message):
            run_lava(twin, spikes, learn=True)


def test_learned_graphs_go_on_learning_alike() -> None:
    """Odd weights, tags and all: truncated again on both sides when they are loaded."""
    graph, spikes = plain_network(RULES["pair"])
    learned = simulate(graph, spikes, learn=True).graph
    assert learned is not None
    assert (learned.plastic["fc"].weight % 2 != 0).any()
    compare(learned, spikes)
    frozen = check_parity(learned, spikes)
    assert frozen.ok


def test_bundle_learns(tmp_path: Path) -> None:
    graph, spikes = plain_network(RULES["pair"])
    folder = write(graph, tmp_path / "bundle", spikes=spikes)
    out = tmp_path / "trace.npz"
    command = [sys.executable, "run_lava.py", "--learn", "--record", "s,w,x1", "--out", str(out)]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    sim = simulate(graph, spikes, record="s,w,x1", learn=True)
    with np.load(out) as arrays:
        assert json.loads(str(arrays["meta"]))["engine"] == "lava"
        assert_array_equal(arrays["n.s"], sim["n"].s)
        assert_array_equal(arrays["fc.w"], sim.connections["fc"].w)
        assert_array_equal(arrays["fc.x1"], sim.connections["fc"].x1)
        assert sim.graph is not None
        assert_array_equal(arrays["fc.w_last"], sim.graph.plastic["fc"].weight)
