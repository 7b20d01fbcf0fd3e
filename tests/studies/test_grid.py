"""Studies: every cell once, equal after interruptions, controls that learn nothing, honest intervals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from biril_nm.coding import Coding
from biril_nm.data import load_data
from biril_nm.errors import ConfigError, FileFormatError, OutputExistsError
from biril_nm.models import ModelConfig, build_model, encode
from biril_nm.studies.grid import STUDIES, Method, StudyPlan, cell, run_study, summarise
from biril_nm.studies.grid.cell import read_result
from biril_nm.studies.grid.quoted import OTHERS, PAPER, others_text
from biril_nm.studies.grid.runner import stored_results
from biril_nm.studies.grid.summary import interval
from biril_nm.training import best
from biril_nm.training.phases import PHASES, PhaseState
from tests.support.command_line import biril, refused

PLAN = StudyPlan(
    "small", (Method("one:two", "BS"), Method("plain", "B", "control")), seeds=(0, 1), dataset="digits",
    epochs=2, n_train=96, n_validation=40, n_test=60, bits=(8,), per_class=1,
    run={"net": {"channels": [4, 8], "hidden": [16]}},
)  # fmt: skip


def plain(results):
    """Results without what a clock says."""
    return [replace(result, seconds=0.0) for result in results]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "small"
    return folder, run_study(PLAN, folder)


def test_every_cell_has_a_result_and_the_table_has_every_method(whole):
    folder, results = whole
    assert [(r.method, r.seed) for r in results] == [
        ("one:two", 0), ("plain", 0), ("one:two", 1), ("plain", 1),
    ]  # fmt: skip
    rows = summarise(results)
    assert [row.method for row in rows] == ["one:two", "plain"] and rows[0].n == 2
    for result in results:
        assert result.validation[result.epoch - 1] == max(result.validation)
        assert result.spikes > 0 and result.energy_j > 0 and set(result.learned) == {"rotated"}
    assert rows[1].accuracy.mean == np.mean([r.accuracy for r in results if r.method == "plain"])
    assert stored_results(folder)[0] == PLAN
    assert not list(folder.glob("cells/*/run"))


def test_an_interrupted_study_goes_on_and_gives_the_same(whole, tmp_path, monkeypatch):
    class Stop(BaseException):
        pass

    def stop(self, records):
        look_at(self, records)
        if len(records) == 2:  # the checkpoint of this epoch is not there yet
            raise Stop

    folder, look_at = tmp_path / "small", best.BestWeights.look_at
    monkeypatch.setattr(best.BestWeights, "look_at", stop)
    with pytest.raises(Stop):
        run_study(PLAN, folder)
    monkeypatch.setattr(best.BestWeights, "look_at", look_at)
    assert (folder / "cells/one-two-0/run/checkpoint.pt").is_file()
    seen = []

    def stop_after_two(result):
        seen.append(result)
        if len(seen) == 2:
            raise Stop

    with pytest.raises(Stop):
        run_study(PLAN, folder, resume=True, progress=stop_after_two)
    left = (
        folder / "cells/one-two-0/run"
    )  # as a kill leaves it between a result and the end of its run
    left.mkdir()
    assert plain(run_study(PLAN, folder, resume=True)) == plain(whole[1])
    assert not left.exists()


def test_a_study_gets_further_seeds_and_methods(whole, tmp_path):
    folder, seen = tmp_path / "small", []
    small = replace(PLAN, seeds=(1,), methods=PLAN.methods[:1])
    first = run_study(small, folder)
    found = run_study(PLAN, folder, resume=True, progress=seen.append)
    assert seen[:1] == first  # the seconds too: it was not run again
    assert plain(found) == plain(whole[1]) and stored_results(folder) == (PLAN, found)
    with pytest.raises(ConfigError, match="belongs to another study: methods, seeds differ"):
        run_study(small, folder, resume=True)


def test_cells_train_with_one_thread_in_any_number_of_workers(monkeypatch, tmp_path):
    seen, fit, before = [], cell.fit, torch.get_num_threads()
    monkeypatch.setattr(
        cell, "fit", lambda *a, **k: seen.append(torch.get_num_threads()) or fit(*a, **k)
    )
    torch.set_num_threads(2)
    try:
        run_study(replace(PLAN, seeds=(0,), methods=PLAN.methods[1:]), tmp_path / "small")
        assert seen == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_cells_hold_which_test_samples_are_right(whole):
    for result in whole[1]:
        used = result.right.replace("-", "")
        assert len(used) == 60 and len(result.right) == 360
        assert used.count("1") / 60 == result.accuracy


@pytest.mark.slow
def test_workers_give_the_same(whole, tmp_path):
    assert plain(run_study(PLAN, tmp_path / "small", n_workers=2)) == plain(whole[1])


def test_the_command_prints_the_table_of_finished_cells(whole, tmp_path):
    folder, results = whole
    PLAN.write(tmp_path / "small.toml")
    done = biril("study", tmp_path / "small.toml", "--out", folder, "--resume")
    assert done.returncode == 0, done.stderr
    mean = np.mean([r.accuracy for r in results if r.method == "plain"])
    assert "one:two" in done.stdout and f"{100 * mean:.2f} ± " in done.stdout
    assert "one:two - plain: " in done.stdout and "of 2 seeds, too few to say more" in done.stdout
    assert (folder / "study.png").is_file()
    refused(biril("study", "metods", "--out", tmp_path / "x"), "metods", "methods")
    other = biril("study", tmp_path / "small.toml", "--out", folder, "--resume", "--epochs", 3)
    refused(other, "belongs to another study: epochs differ")


def test_numbers_of_another_system_stand_beside_no_method():
    names = {method.name for plan in STUDIES.values() for method in plan.methods}
    quoted = {name for values in PAPER.values() for name in values}
    assert quoted <= names and "EICIL-like" in names - quoted and not names & set(OTHERS)
    assert others_text("mnist") == ["the paper quotes STDP-BW-GS, which is not run here: 99.24 %"]
    assert others_text("digits") == []


def test_folders_are_not_mixed_up(whole, tmp_path):
    folder, _ = whole
    with pytest.raises(OutputExistsError, match="holds a study already"):
        run_study(PLAN, folder)
    with pytest.raises(ConfigError, match=r"belongs to another study: epochs, seeds differ"):
        run_study(replace(PLAN, seeds=(0,), epochs=3), folder, resume=True)
    with pytest.raises(ConfigError, match=r"study.toml is missing"):
        run_study(PLAN, tmp_path / "none", resume=True)


@pytest.mark.parametrize("damage", ["{", "[]", '{"method": 1}'])
def test_damaged_results_are_refused(damage, tmp_path):
    (tmp_path / "result.json").write_text(damage)
    with pytest.raises(FileFormatError, match=r"result.json"):
        read_result(tmp_path, PLAN, PLAN.methods[1], 0)


@pytest.mark.parametrize("change", [
    {"accuracy": "x"}, {"accuracy": 2.0}, {"right": ""}, {"right": "1" * 60}, {"right": "x"},
    {"integers": {}}, {"validation": [0.5]}, {"seed": 9}, {"epoch": 7},
])  # fmt: skip
def test_results_that_do_not_fit_are_refused(change, whole, tmp_path):
    found = json.loads((whole[0] / "cells/plain-0/result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps({**found, **change}))
    with pytest.raises(FileFormatError, match=r"result.json"):
        read_result(tmp_path, PLAN, PLAN.methods[1], 0)


def test_results_of_another_plan_do_not_count(whole):
    home, method = whole[0] / "cells/plain-0", PLAN.methods[1]
    assert read_result(home, PLAN, method, 0) is not None
    assert read_result(home, replace(PLAN, n_train=95), method, 0) is None


def test_sets_that_are_sorted_by_class_are_mixed(monkeypatch, tmp_path):
    data = load_data("digits")
    order = np.argsort(data.train.labels, kind="stable")
    ordered = replace(
        data, train=data.train.take(order), test=data.test.take(np.argsort(data.test.labels))
    )
    monkeypatch.setattr(cell, "load_data", lambda *_: ordered)
    plan = replace(PLAN, seeds=(0,), methods=PLAN.methods[1:], n_train=300, shifts=(), epochs=4)
    (found,) = run_study(plan, tmp_path / "sorted")
    assert found.accuracy > 0.3  # of all classes; the first 300 samples have two


@pytest.mark.parametrize(("values", "message"), [
    ({"methods": ()}, "methods are"),
    ({"methods": (Method("a:b", "B"), Method("A-b", "S"))}, "each name once"),
    ({"seeds": (1, 1)}, "each once"),
    ({"bits": (9,)}, "integers from 2 to 8"),
    ({"bits": ()}, "bits are .., beside shifts"),
    ({"epochs": 0}, "epochs is 0; expected an integer from 1"),
    ({"shifts": ("upside down",)}, "upside down"),
])  # fmt: skip
def test_wrong_plans_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        replace(PLAN, **values)


@pytest.mark.parametrize(("values", "message"), [
    ({"name": "../x", "schedule": "B"}, "name of a method"),
    ({"name": "x", "schedule": "Q"}, "schedule is 'Q'"),
    ({"name": "x", "schedule": "B", "role": "hero"}, "hero"),
    ({"name": "x", "schedule": "B", "train": {"epochs": 3}}, "epochs in train of method 'x' is 3"),
    ({"name": "x", "schedule": "B", "train": {"lr": -1}}, "lr is -1"),
    ({"name": "x", "schedule": "B", "net": {"neuron": "izhikevich"}}, "neuron 'izhikevich' is unknown"),
    ({"name": "x", "schedule": "B", "net": {"layers": 3}}, r"model fields \['layers'\] are unknown"),
])  # fmt: skip
def test_wrong_methods_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Method(**values)


def test_methods_may_differ_in_their_network():
    plan = STUDIES["neurons"]
    nets = [plan.run_config(method, 0).net for method in plan.methods]
    assert [net.neuron for net in nets] == ["if", "lif_tau", "plif"]
    assert {replace(net, neuron="if", beta=0.9) for net in nets} == {nets[0]}
    assert nets[0].threshold == 0.5 and nets[1].beta == nets[2].beta == 0.5
    assert len({plan.digest(method, 0) for method in plan.methods}) == 3
    other = replace(plan, dataset="events:side=16,steps=10")
    assert other.run_config(plan.methods[0], 0).dataset == "events:side=16,steps=10"


def test_plans_survive_toml(tmp_path):
    for plan in (*STUDIES.values(), PLAN):
        plan.write(tmp_path / "study.toml")
        assert StudyPlan.read(tmp_path / "study.toml") == plan
    with pytest.raises(ConfigError, match=r"\['colour'\] are unknown"):
        StudyPlan.from_dict({"name": "x", "colour": 1})


def test_too_few_samples_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cell one:two, seed 0: .* expected at most 1437 in all"):
        run_study(replace(PLAN, n_train=2000), tmp_path / "big")


def test_intervals_are_those_of_students_t():
    found = interval([0.90, 0.92, 0.94])
    assert found.mean == pytest.approx(0.92)
    assert found.half == pytest.approx(4.302653 * 0.02 / np.sqrt(3), rel=1e-6)
    assert interval([0.9]).half == np.inf and interval([0.9]).text() == "90.00"


@pytest.mark.parametrize(("letter", "statistics_move"), [("I", False), ("F", True)])
def test_controls_change_no_parameter(letter, statistics_move):
    net = build_model("convnet", ModelConfig(channels=(4,), hidden=(8,)), 0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    x = encode(Coding("direct", 2), np.random.default_rng(0).random((6, 1, 8, 8), dtype=np.float32))
    labels = torch.arange(6)
    PHASES["B"].run(net, (x, labels), optimizer, PhaseState())  # the optimiser has momentum now
    before = {name: value.clone() for name, value in net.state_dict().items()}
    metrics = PHASES[letter].run(net, (x, labels), optimizer, PhaseState())
    parameters = dict(net.named_parameters())
    changed = [k for k, v in net.state_dict().items() if not torch.equal(v, before[k])]
    assert not set(changed) & set(parameters)
    assert bool(changed) == statistics_move
    assert metrics["samples"] == 6 and metrics["loss"] > 0
    assert PHASES[letter].updated_layers(net) == ()
