"""Readouts learned on the chip, changed worlds, and what learning gives back."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from biril_nm.coding import Coding
from biril_nm.data import SHIFTS, DataSet, get_shift, load_data
from biril_nm.errors import ConfigError
from biril_nm.evaluation.accuracy import evaluate_graph
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.learning.rules import OFFSET
from biril_nm.studies.adaptation import (
    Adaptation,
    measure_adaptation,
    plot_adaptation,
    samples_per_class,
)
from biril_nm.studies.finetuning import finetune
from biril_nm.studies.readout import (
    TARGET,
    DeltaConfig,
    fresh_readout,
    frozen,
    plastic_readout,
    readout_connection,
    stream,
    target_spikes,
)

CODING = Coding("direct", 4)
EXAMPLES = Path(__file__).parents[2] / "examples"


def digits_graph(n_features: int = 120, seed: int = 0) -> LoihiGraph:
    """Random features of 8x8 digits and a readout that knows nothing."""
    random = np.random.default_rng(seed)
    features = 2 * random.integers(-60, 61, (n_features, 64))
    nodes = {
        "input": Input((1, 8, 8), message_bits=8),
        "project": Dense(features),
        "hidden": Neurons((n_features,), vth=60_000),
        "fc": Dense(np.zeros((10, n_features), int)),
        "out": Neurons((10,), vth=1024),
        "output": Output(),
    }
    edges = (
        ("input", "project"), ("project", "hidden"), ("hidden", "fc"), ("fc", "out"), ("out", "output"),
    )  # fmt: skip
    return LoihiGraph(nodes, edges)


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load_data("digits")


@pytest.fixture(scope="module")
def learned(data: DataSet) -> LoihiGraph:
    spikes = CODING.encode(data.train.values())
    return finetune(
        digits_graph(), spikes, data.train.labels, DeltaConfig(presentations=4000, validate=False)
    )


# --- readout ------------------------------------------------------------------------------------


def test_targets_are_the_labels_after_a_quiet_start() -> None:
    spikes = target_spikes([2, 0], n_classes=3, n_steps=4, quiet_steps=1)
    assert spikes.shape == (4, 2, 3)
    assert spikes[0].sum() == 0
    assert spikes[1:, 0].tolist() == [[0, 0, 1]] * 3
    with pytest.raises(ConfigError, match="leave none of 4"):
        target_spikes([0], 3, n_steps=4, quiet_steps=4)


def test_a_plastic_readout_hears_the_target_and_itself_and_freezes_again() -> None:
    graph = digits_graph()
    plastic = plastic_readout(graph, seed=7)
    assert plastic.plastic["fc"].modulators == {"y2": TARGET, "y3": "out"}
    assert plastic.plastic["fc"].rule.seed == 7
    assert plastic.inputs[TARGET].shape == (10,)
    assert frozen(plastic) == graph
    with pytest.raises(ConfigError, match="node 'target' already"):
        plastic_readout(plastic)


def test_the_command_line_can_name_the_source_of_a_third_factor() -> None:
    from biril_nm.commands.export import with_rules

    graph = with_rules(digits_graph(), ["fc=delta,y3=out"], unroll=False)
    assert graph.plastic["fc"].modulators == {"y2": "fc.y2", "y3": "out"}
    assert graph.modulator_inputs == ("fc.y2",)
    evaluate_graph(graph, np.zeros((2, 1, 8, 8), np.float32), [0, 0], CODING)  # needs no targets
    with pytest.raises(ConfigError, match=r"not of the form CONNECTION=RULE\[,y3=NODE"):
        with_rules(digits_graph(), ["fc=delta,out"], unroll=False)


def test_frozen_weights_are_what_a_static_connection_would_make_of_them() -> None:
    graph = digits_graph()
    odd = replace(
        graph.nodes["fc"], weight=np.arange(1200).reshape(10, 120) % 256 - 128, rule=OFFSET
    )
    weight = frozen(LoihiGraph({**graph.nodes, "fc": odd}, graph.edges)).nodes["fc"].weight
    np.testing.assert_array_equal(weight, odd.weight // 2 * 2)


def test_graphs_without_one_dense_readout_are_refused() -> None:
    graph = digits_graph()
    nodes = {name: node for name, node in graph.nodes.items() if name != "output"}
    with pytest.raises(ConfigError, match="one Dense connection into one output"):
        readout_connection(LoihiGraph(nodes, graph.edges[:-1]))
    assert readout_connection(graph) == "fc"
    with pytest.raises(ConfigError, match="replays 0"):
        DeltaConfig(replays=0)


def test_small_sets_are_shown_more_often() -> None:
    config = DeltaConfig(replays=30, presentations=3000)
    assert [config.passes(n) for n in (1, 10, 1000, 10_000)] == [30, 30, 3, 1]


def test_a_readout_is_learned_from_nothing(data: DataSet, learned: LoihiGraph) -> None:
    before = evaluate_graph(digits_graph(), data.test.values(), data.test.labels, CODING)
    after = evaluate_graph(learned, data.test.values(), data.test.labels, CODING)
    assert before.accuracy < 0.2
    assert after.accuracy > 0.85
    weight = learned.nodes["fc"].weight
    assert weight.min() < -20
    assert weight.max() > 20
    same = digits_graph()
    assert learned.with_node("fc", weight=same.nodes["fc"].weight) == same


def test_agreement_between_target_and_output_changes_nothing(data: DataSet) -> None:
    plastic = plastic_readout(digits_graph())
    spikes = CODING.encode(data.train.values(slice(0, 20)))
    given = stream(plastic, spikes, data.train.labels[:20])
    given[TARGET] = np.zeros_like(given[TARGET])  # nothing wanted, and weights 0 give nothing
    graph = simulate(plastic, given, (), learn=True).graph
    assert graph is not None
    assert not graph.plastic["fc"].weight.any()


def test_a_fresh_readout_is_empty(learned: LoihiGraph) -> None:
    fresh = fresh_readout(learned, vth=500)
    assert not fresh.nodes["fc"].weight.any()
    assert int(fresh.neurons["out"].vth) == 500


def test_learning_depends_on_its_seed_alone(data: DataSet) -> None:
    spikes, labels = CODING.encode(data.train.values(slice(0, 30))), data.train.labels[:30]
    config = DeltaConfig(replays=3)
    first, again, other = (
        finetune(digits_graph(), spikes, labels, config, seed).nodes["fc"].weight
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_error_neurons_tell_missing_and_surplus_spikes(data: DataSet, learned: LoihiGraph) -> None:
    config = DeltaConfig(error_neurons=True)
    plastic = plastic_readout(learned, config)
    assert frozen(plastic) == learned
    assert plastic.plastic["fc"].modulators == {"y2": "missing", "y3": "surplus"}
    labels = np.roll(data.train.labels[:60], 1)  # wrong labels: both kinds of error occur
    given = stream(plastic, CODING.encode(data.train.values(slice(0, 60))), labels)
    trace = simulate(plastic, given)
    wanted, sent = given[TARGET] > 0, trace["out"].s > 0
    np.testing.assert_array_equal(trace["missing"].s > 0, wanted & ~sent)
    np.testing.assert_array_equal(trace["surplus"].s > 0, sent & ~wanted)
    assert trace.n_spikes["missing"] > 20
    assert trace.n_spikes["surplus"] > 20


def test_error_neurons_teach_as_well(data: DataSet) -> None:
    config = DeltaConfig(error_neurons=True, validate=False)
    spikes = CODING.encode(data.train.values())
    graph = finetune(digits_graph(), spikes, data.train.labels, config)
    assert evaluate_graph(graph, data.test.values(), data.test.labels, CODING).accuracy > 0.85


@pytest.mark.lava
@pytest.mark.parametrize("error_neurons", [False, True])
def test_lava_learns_the_same_readout(data: DataSet, error_neurons: bool) -> None:
    pytest.importorskip("lava.magma", reason="needs lava-nc (make venv)")
    from biril_nm.export.lava.backend import run_lava

    config = DeltaConfig(error_neurons=error_neurons)
    plastic = plastic_readout(fresh_readout(digits_graph(n_features=40), vth=200), config)
    given = stream(plastic, CODING.encode(data.train.values(slice(0, 20))), data.train.labels[:20])
    ours = simulate(plastic, given, (), learn=True).graph
    theirs = run_lava(plastic, given, record="s", learn=True).graph
    weight = ours.plastic["fc"].weight
    np.testing.assert_array_equal(weight, theirs.plastic["fc"].weight)
    assert (weight > 0).any()
    assert (weight < 0).any()
    given[TARGET] = np.roll(given[TARGET], 1, axis=2)  # other labels, other weights
    assert (simulate(plastic, given, (), learn=True).graph.plastic["fc"].weight != weight).any()


# --- changed worlds -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIFTS)
def test_shifts_keep_values_in_range_and_depend_on_their_seed(name: str, data: DataSet) -> None:
    values = data.test.values(slice(0, 20))
    shift = get_shift(name)
    changed = shift(values, seed=1)
    assert changed.shape == values.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert np.abs(changed - values).mean() > 0.05
    np.testing.assert_array_equal(changed, shift(values, seed=1))
    random = name in ("noisy", "dead")
    assert (shift(values, seed=2) != changed).any() == random
    assert (shift(values, seed=1, draw=1) != changed).any() == (name == "noisy")


def test_shifts_do_what_they_say(data: DataSet) -> None:
    values = data.test.values(slice(0, 20))
    np.testing.assert_allclose(SHIFTS["inverted"](values), 1 - values, atol=1e-6)
    dead = SHIFTS["dead"](values, amount=0.5)
    lines = (dead == 0).all(axis=0)
    assert 0.3 < lines.mean() < 0.9
    np.testing.assert_array_equal(dead[:, ~lines], values[:, ~lines])
    quarter = SHIFTS["rotated"](values, amount=90)
    np.testing.assert_allclose(quarter, np.rot90(values, axes=(2, 3)), atol=1e-4)
    with pytest.raises(ConfigError, match="shift 'fog' is unknown; expected one of rotated, noisy"):
        get_shift("fog")


def test_chosen_samples_are_balanced_and_nested(data: DataSet) -> None:
    labels = data.train.labels
    few, more = (samples_per_class(labels, n, 10, seed=1) for n in (2, 5))
    assert np.bincount(labels[more]).tolist() == [5] * 10
    assert set(few) < set(more)
    with pytest.raises(ConfigError, match="expected 10000"):
        samples_per_class(labels, 10_000, 10, seed=0)


def test_learning_gives_back_what_a_change_took(
    data: DataSet, learned: LoihiGraph, tmp_path: Path
) -> None:
    fresh = digits_graph(seed=5)
    config = DeltaConfig(presentations=1500)
    shift = SHIFTS["rotated"]
    run = measure_adaptation(learned, fresh, data, CODING, shift, counts=(1, 40), config=config)
    assert run.before > 0.85
    assert run.frozen < run.before - 0.3
    assert run.learned[1] > run.frozen + 0.3
    assert run.recovered(1) > 0.5
    assert run.learned[0] > run.frozen - 0.1
    assert run.ridge[1] > run.ridge[0]
    plot_adaptation({"rotated": [run]}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_nothing_lost_is_nothing_recovered() -> None:
    run = Adaptation("x", 0, (1,), 0.5, 0.5, (0.6,), (0.1,), (0.1,))
    assert run.recovered(0) == 0.0


# --- examples -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("onchip_readout.py", (), "learned on the chip from nothing"),
        ("onchip_adaptation.py", ("--seeds", "1", "--one-rate"), "share of the loss recovered"),
    ],
)
def test_examples_run(name: str, options: tuple[str, ...], wanted: str) -> None:
    command = [sys.executable, EXAMPLES / name, "--quick", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert wanted in done.stdout
