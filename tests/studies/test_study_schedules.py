"""A row trains the ratio of its name, and is compared with controls of the same gradient steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from biril_nm.studies.grid import STUDIES, Method, StudyPlan
from biril_nm.studies.grid.schedules import (
    comparisons,
    counts_text,
    cut_cycles,
    phases_run,
    same_counts,
)
from biril_nm.training.schedule import parse_schedule, ratio_of
from tests.support.command_line import biril

RATIOS = STUDIES["ratios"]


def counts(plan, name):
    (method,) = (m for m in plan.methods if m.name == name)
    return counts_text(phases_run(plan, method))


@pytest.mark.parametrize("name", ["1:8:3", "1:6:2", "1:4:1", "2:6:1", "3:8:1"])
def test_ratios_train_the_ratios_of_their_names(name):
    trained = [int(n) for n in counts(RATIOS, name).split(":")]
    ratio = ratio_of(parse_schedule(name))
    assert trained == [n * 36 // sum(ratio) for n in ratio]


def test_biril_is_trained_for_whole_cycles():
    assert counts(STUDIES["methods"], "BIRIL") == "1:6:2"
    assert counts(STUDIES["methods"], "idle") == "8 B 1 I"
    assert cut_cycles(STUDIES["methods"]) == {"EICIL-like": 2} and not cut_cycles(RATIOS)


def test_cut_cycles_are_named_with_rows_of_the_same_counts():
    plan = replace(RATIOS, epochs=12)
    assert cut_cycles(plan) == {"1:6:2": 9, "2:6:1": 9, "idle": 9, "frozen": 9}
    assert same_counts(plan) == [("1:6:2", "1:4:1"), ("2:6:1", "3:8:1")]
    assert same_counts(RATIOS) == []


def test_a_phase_for_each_batch_counts_batches():
    method = Method("often", "1:6:2", train={"period": "batch"})
    plan = replace(RATIOS, methods=(method,), epochs=2, n_train=130, run={"batch_size": 32})
    assert counts(plan, "often") == "1:7:2"  # 5 batches twice


def test_other_phases_are_counted_by_their_names():
    assert counts(STUDIES["projection"], "sDFA") == "5 sdfa"


def pairs(plan):
    return {(method.name, control.name) for method, control in comparisons(plan)}


def test_idle_and_frozen_are_controls_of_the_same_gradient_steps_alone():
    found = pairs(RATIOS)
    assert {m for m, control in found if control in ("idle", "frozen")} == {"1:6:2"}
    assert {m for m, control in found if control == "STBP"} == {
        m.name for m in RATIOS.methods if m.role == "method"
    }
    assert {m for m, control in pairs(STUDIES["methods"]) if control == "idle"} == {"BIRIL"}
    assert len(pairs(STUDIES["projection"])) == 5


@pytest.mark.parametrize(("settings", "matched"), [
    ({}, True),
    ({"train": {"plasticity": {"rule": "oja"}, "plastic": "last"}}, True),
    ({"train": {"lr": 0.1}}, False),
    ({"net": {"hidden": [3]}}, False),
])  # fmt: skip
def test_matched_controls_differ_in_the_local_rule_alone(settings, matched):
    methods = (Method("mine", "BSH", **settings), Method("idle", "BIB", "control"))
    assert bool(pairs(StudyPlan("x", methods, epochs=4))) == matched
    assert not pairs(StudyPlan("x", (Method("mine", "BHS", **settings), methods[1]), epochs=4))


def test_the_command_says_what_was_run(tmp_path):
    plan = StudyPlan(
        "cut", (Method("1:6:2", "1:6:2"), Method("2:6:1", "2:6:1"), Method("idle", "BBIBBBBBB", "control")),
        seeds=(0,), dataset="digits", model="mlp", epochs=3, n_train=32, n_validation=20, n_test=20, bits=(),
        shifts=(), run={"net": {"hidden": [4, 4]}},
    )  # fmt: skip
    plan.write(tmp_path / "cut.toml")
    done = biril("study", tmp_path / "cut.toml", "--out", tmp_path / "cut")
    assert done.returncode == 0, done.stderr
    note = " ".join(done.stderr.split())
    assert (
        note.count(
            "epochs is 3; expected a multiple of the cycle of 1:6:2 (9), 2:6:1 (9), idle (9)"
        )
        == 1
    )
    assert "1:6:2, 2:6:1 run as many of each phase. Set --epochs to a multiple of 9" in note
    assert "S:B:H run" in done.stdout and "2 B 1 I" in done.stdout
    assert "1:6:2 - idle" in done.stdout and "2:6:1 - idle" in done.stdout
