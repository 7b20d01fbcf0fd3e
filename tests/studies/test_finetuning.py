"""Finetuning on the chip: never worse than the frozen network by more than noise, whatever the steps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from biril_nm.coding import Coding
from biril_nm.data import SHIFTS, DataSet, load_data
from biril_nm.errors import ConfigError
from biril_nm.evaluation.accuracy import evaluate_graph
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.loihi import SignMode
from biril_nm.loihi.fixed_point import weight_limits
from biril_nm.studies import finetuning
from biril_nm.studies.adaptation import samples_per_class
from biril_nm.studies.finetuning import adapt, finetune
from biril_nm.studies.readout import DeltaConfig, fresh_readout, plastic_readout
from biril_nm.studies.validation import (
    Adapted,
    Tried,
    choose,
    folds_of,
    pass_marks,
    share_at_limits,
)

N_FEATURES = 60
NOISE = 0.04  # two standard errors of a difference on the test samples
LOOKS = 300  # test samples


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load_data("digits")


def untaught() -> LoihiGraph:
    """Random features of the digits, and a readout that knows nothing."""
    random = np.random.default_rng(3)
    nodes = {
        "input": Input((1, 8, 8), message_bits=8),
        "project": Dense(2 * random.integers(-60, 61, (N_FEATURES, 64))),
        "hidden": Neurons((N_FEATURES,), vth=60_000),
        "fc": Dense(np.zeros((10, N_FEATURES), int)),
        "out": Neurons((10,), vth=600),
        "output": Output(),
    }
    names = list(nodes)
    return LoihiGraph(nodes, tuple(pairwise(names)), {"decision": "score"})


def taught(data: DataSet, n_steps: int) -> LoihiGraph:
    """The same with a readout that has learned."""
    graph = untaught()
    some = slice(0, 500)
    config = DeltaConfig(presentations=1500, validate=False)
    spikes = Coding("direct", n_steps).encode(data.train.values(some))
    return finetune(graph, spikes, data.train.labels[some], config)


@pytest.fixture(scope="module", params=[4, 16, 50])
def world(request: pytest.FixtureRequest, data: DataSet) -> tuple[LoihiGraph, Coding]:
    return taught(data, request.param), Coding("direct", request.param)


def accuracies(
    world: tuple[LoihiGraph, Coding], data: DataSet, degrees: float, per_class: int
) -> tuple[float, float, Adapted]:
    """Frozen and learned, on digits that are rotated."""
    graph, coding = world
    turn = SHIFTS["rotated"]
    rows = samples_per_class(data.train.labels, per_class, 10, seed=1)
    spikes = coding.encode(turn(data.train.values(rows), amount=degrees))
    learned, tried = adapt(graph, spikes, data.train.labels[rows], DeltaConfig(replays=10))
    test = turn(data.test.values(slice(0, LOOKS)), amount=degrees)
    frozen, after = (
        evaluate_graph(each, test, data.test.labels[:LOOKS], coding).accuracy
        for each in (graph, learned)
    )
    changed = (learned.nodes["fc"].weight != graph.nodes["fc"].weight).any()
    assert changed == tried.learned
    assert f"{tried.chosen.accuracy:.1%} of" in tried.summary()
    return frozen, after, tried


def test_a_changed_world_is_learned_whatever_the_steps(
    world: tuple[LoihiGraph, Coding], data: DataSet
) -> None:
    frozen, learned, tried = accuracies(world, data, degrees=45, per_class=8)
    assert frozen < 0.5
    assert learned > frozen + 0.2
    assert tried.held_out
    assert tried.chosen.accuracy > tried.frozen.accuracy + 0.1  # held-out samples show it, too


@pytest.mark.parametrize("per_class", [1, 6])
def test_an_unchanged_world_is_not_forgotten(
    world: tuple[LoihiGraph, Coding], data: DataSet, per_class: int
) -> None:
    frozen, learned, tried = accuracies(world, data, degrees=0, per_class=per_class)
    assert frozen > 0.7
    assert learned > frozen - NOISE
    assert tried.held_out == (per_class > 2)


def test_the_change_per_sample_does_not_depend_on_the_steps(data: DataSet) -> None:
    changes = {}
    for halvings in (None, 0):
        config = DeltaConfig(replays=1, validate=False, halvings=halvings)
        for n_steps in (4, 16, 50):
            graph = fresh_readout(untaught(), vth=32_000)  # never spikes: all missing
            spikes = Coding("direct", n_steps).encode(data.train.values(slice(0, 60)))
            learned = finetune(graph, spikes, data.train.labels[:60], config)
            changes[halvings, n_steps] = np.abs(learned.nodes["fc"].weight).mean()
    assert 0.4 < changes[None, 50] / changes[None, 4] < 2.5
    assert 0.4 < changes[None, 16] / changes[None, 4] < 2.5
    assert changes[0, 50] / changes[0, 4] > 3


def test_settings_follow_the_steps() -> None:
    config = DeltaConfig()
    assert [config.for_steps(n).halvings for n in (2, 4, 16, 50, 1000)] == [0, 0, 2, 4, 6]
    assert config.for_steps(50) == replace(config, halvings=4)
    assert DeltaConfig(halvings=1).for_steps(50).halvings == 1
    with pytest.raises(ConfigError, match="halvings is 7; expected an integer from 0 to 6"):
        DeltaConfig(halvings=7)


def test_wrong_labels_teach_nothing(data: DataSet) -> None:
    graph = taught(data, 4)
    rows = samples_per_class(data.train.labels, 6, 10, seed=0)
    labels = np.random.default_rng(0).permutation(data.train.labels[rows])
    spikes = Coding("direct", 4).encode(data.train.values(rows))
    learned, tried = adapt(graph, spikes, labels)
    assert learned == graph
    assert not tried.learned
    assert any("nothing was changed. Give more samples" in text for text in tried.advice())
    with pytest.raises(ConfigError, match="expected at least one step and one sample"):
        adapt(graph, spikes[:, :0], labels[:0])


def test_folds_are_balanced_and_held_out() -> None:
    labels = np.repeat(np.arange(5), 8)
    folds = folds_of(labels, seed=0)
    assert sorted(np.concatenate([fold.held for fold in folds])) == list(range(40))
    for fold in folds:
        assert fold.held_out
        assert np.bincount(labels[fold.held]).tolist() == [2] * 5
        assert len(fold.known) + len(fold.held) == 40
    assert len(folds_of(np.repeat(np.arange(5), 200), seed=0)) == 1  # 250 samples are enough
    (only,) = folds_of(np.arange(5), seed=0)
    assert not only.held_out
    assert len(only.known) == 5
    assert pass_marks(1) == [1]
    assert pass_marks(10) == [1, 2, 4, 8, 10]


def test_rare_classes_are_learned_and_no_part_is_empty() -> None:
    for labels in ([0] * 20 + [1], [0] * 5, [0, 0, 0], [3] * 40 + [1, 1, 2, 7]):
        known = np.array(labels, np.int64)
        folds = folds_of(known, seed=0)
        assert all(len(fold.held) for fold in folds)
        assert all(set(known[fold.known]) == set(labels) for fold in folds)
        assert folds[0].held_out == (len(labels) >= 5 * len(set(labels)))


def tried(halvings: int, passes: int, right: int, total: int = 100) -> Tried:
    """The first samples are right."""
    return Tried(halvings, passes, np.arange(total) < right)


def test_the_frozen_network_stays_unless_learning_is_better_by_more_than_noise() -> None:
    frozen = tried(0, 0, 70)
    few, many = tried(0, 1, 71), tried(2, 4, 80)
    assert choose(frozen, [few]) is frozen
    assert choose(frozen, [few, many, tried(2, 8, 80)]) is many
    assert choose(frozen, [tried(0, 1, 60)]) is frozen
    traded = Tried(0, 1, np.roll(np.arange(100) < 75, 40))  # 5 better, but 25 and 30 differ
    assert choose(frozen, [traded]) is frozen


@pytest.mark.parametrize("n_looks", [1, 4, 12])
def test_the_best_of_many_that_are_as_good_as_frozen_is_seldom_chosen(n_looks: int) -> None:
    random = np.random.default_rng(n_looks)
    learned = 0
    for _ in range(400):
        frozen, *looks = (Tried(0, k, random.random(150) < 0.8) for k in range(n_looks + 1))
        learned += choose(frozen, looks) is not frozen
    assert learned / 400 < 0.08  # three standard errors above 5 %


def test_samples_that_were_learned_from_need_a_smaller_lead() -> None:
    frozen, looks = tried(0, 0, 6, 10), [tried(0, k, 10, 10) for k in range(1, 9)]
    assert choose(frozen, looks, held_out=False) is looks[0]
    assert choose(frozen, looks) is frozen
    assert choose(frozen, [tried(0, 1, 7, 10)], held_out=False) is frozen


def test_the_summary_says_that_the_accuracy_is_the_highest_of_many() -> None:
    frozen, looks = tried(0, 0, 50), (tried(0, 1, 80), tried(0, 2, 85))
    assert (
        "held-out samples right (the best of 2 on them), frozen 50.0%"
        in Adapted(looks[1], frozen, looks, True).summary()
    )
    assert "right, frozen 50.0%" in Adapted(frozen, frozen, looks, True).summary()


@pytest.mark.parametrize("gains", [True, False])
def test_all_folds_stop_at_one_look(
    gains: bool, monkeypatch: pytest.MonkeyPatch, data: DataSet
) -> None:
    """While one fold gains the others are looked at too, and may gain later."""
    looks: dict[tuple[int, ...], int] = {}

    def right(self: object, head: LoihiGraph, some: NDArray[np.int64]) -> NDArray[np.bool_]:
        look = looks[tuple(some)] = looks.get(tuple(some), -1) + 1
        first = next(iter(looks)) == tuple(some)
        return np.arange(len(some)) < (0, 1, 2, 3, 4)[look % 5] * (gains and (first or look > 3))

    monkeypatch.setattr(finetuning.Lesson, "right", right)
    rows = samples_per_class(data.train.labels, 6, 10, seed=0)
    spikes = Coding("direct", 2).encode(data.train.values(rows))
    config = DeltaConfig(replays=8, halvings=6)  # one rate
    found = adapt(untaught(), spikes, data.train.labels[rows], config)[1]
    assert [each.passes for each in found.tried] == ([1, 2, 4, 8] if gains else [1, 2, 4])
    assert [each.right.sum() for each in found.tried] == ([1, 2, 3, 16] if gains else [0, 0, 0])


def test_the_readout_rounds_as_its_network_does(data: DataSet) -> None:
    spikes, labels = (
        Coding("direct", 4).encode(data.train.values(slice(0, 20))),
        data.train.labels[:20],
    )
    config = DeltaConfig(replays=1, validate=False)
    synapse, connection = (
        finetune(untaught().with_metadata(rounding=each), spikes, labels, config)
        for each in ("synapse", "connection")
    )
    assert plastic_readout(synapse).metadata["rounding"] == "synapse"
    assert (synapse.nodes["fc"].weight != connection.nodes["fc"].weight).any()


@pytest.mark.parametrize(("sign_mode", "weight", "share"), [
    (SignMode.EXCITATORY, [0, 0, 255, 7], 0.25),
    (SignMode.INHIBITORY, [0, 0, -255, -7], 0.25),
    (SignMode.MIXED, [-256, 0, 254, 7], 0.5),
])  # fmt: skip
def test_a_weight_of_0_is_not_at_a_limit(
    sign_mode: SignMode, weight: list[int], share: float
) -> None:
    assert share_at_limits(np.array(weight), *weight_limits(sign_mode)) == share


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        ({"given": 0.7}, "the layers below do not show the classes. Let them learn too"),
        ({"given": 1.0}, "right more often. Give more of them"),
        ({"held_out": False}, "fewer than 5 samples per class on average"),
        ({"saturated": 0.2}, "20.0% of the weights are at a limit. Raise halvings"),
        ({"chosen": tried(2, 8, 85)}, "Raise replays and presentations"),
        ({"chosen": tried(2, 1, 85)}, "at the lowest rate. Raise halvings"),
    ],
)
def test_advice_names_a_setting(found: dict[str, object], advice: str) -> None:
    chosen = found.get("chosen", tried(0, 8, 85))
    looks = tuple(
        chosen if (h, p) == (chosen.halvings, chosen.passes) else tried(h, p, 80)  # type: ignore[attr-defined]
        for h in (0, 2)
        for p in (1, 4, 8)
    )
    values = {"held_out": True, "given": 0.92, "chosen": chosen, **found}
    result = Adapted(frozen=tried(0, 0, 50), tried=looks, **values)  # type: ignore[arg-type]
    others = [text for text in result.advice() if advice not in text]
    assert any(advice in text for text in result.advice())
    assert len(others) <= ("chosen" not in found)  # the default is the last look of its rate
    assert advice in result.summary()


def test_the_old_place_of_finetune_still_works() -> None:
    from biril_nm.studies import readout

    with pytest.warns(DeprecationWarning, match="now in 'biril_nm.studies.finetuning'"):
        assert readout.finetune is finetune
    with pytest.raises(AttributeError, match="no attribute 'finetun'"):
        readout.finetun
