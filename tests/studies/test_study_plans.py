"""What a plan of a study means: its data, its network, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from biril_nm.data import DATASETS, load_data
from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.models import MODELS
from biril_nm.studies.grid import STUDIES, Method, StudyPlan, run_study
from biril_nm.studies.grid.cell import parts_of
from biril_nm.studies.grid.checks import check_methods, check_samples, scaled
from biril_nm.training.run_config import RunConfig
from tests.support.command_line import biril, refused

FREE = {"n_train", "n_validation", "n_test"}
SMALL = StudyPlan(
    "small", (Method("good", "B"), Method("bad", "B", train={"lr": 0.5}),
    Method("plain", "B", "control")), seeds=(0,), dataset="digits", model="mlp", epochs=1, n_train=64,
    n_validation=20, n_test=20, bits=(8,), shifts=(), run={"net": {"hidden": [6]}},
)  # fmt: skip

SHAPES = {
    "cifar10": (3, 32, 32), "cifar100": (3, 32, 32), "pictures": (3, 32, 32),
    "dvs128_gesture": (2, 32, 32), "dvs_cifar10": (2, 48, 48),
}  # fmt: skip


@pytest.mark.parametrize("study", ["methods", "ratios"])
@pytest.mark.parametrize("dataset", SHAPES)
def test_the_network_of_a_study_is_built_for_other_data_sets(study, dataset):
    plan = replace(STUDIES[study], dataset=dataset)
    run = plan.run_config(plan.methods[0], 0)
    with torch.device("meta"):
        MODELS[run.model](replace(run.net, input_shape=SHAPES[dataset]))
    assert run.model == "convnet"


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_name_alone_means_the_same_data_in_a_study_as_in_training(dataset):
    plan = replace(STUDIES["methods"], dataset=dataset)
    assert plan.data == RunConfig.make(dataset=dataset).dataset
    assert replace(plan, dataset="events:side=16").data == "events:side=16"


@pytest.mark.parametrize(("run", "message"), [
    ({"dataset": "mnist"}, "dataset in run is 'mnist'; expected none, since the study has its dataset"),
    ({"model": "mlp"}, "model in run is 'mlp'"),
    ({"seed": 3}, "seed in run is 3"),
    ({"validation": 0.3}, "validation in run is 0.3; .*n_validation samples choose the epoch. Leave it out"),
    ({"parent": "model.pt"}, "parent in run is 'model.pt'; .*new weights"),
    ({"integers": "4"}, "integers in run is '4'"),
    ({"train": {"epochs": 50}}, "epochs in run.train is 50"),
    ({"train": {"schedule": "S"}}, "schedule in run.train is 'S'"),
    ({"train": {"seed": 7}}, "seed in run.train is 7"),
    ({"train": {"keep": "last"}}, "keep in run.train is 'last'"),
    ({"train": {"tensorboard": True}}, "tensorboard in run.train is True"),
    ({"train": {"curves": True}}, "curves in run.train is True"),
    ({"train": {"devices": 2}}, "devices in run.train is 2; .*--workers runs several cells"),
    ({"train": {"nodes": 2}}, "nodes in run.train is 2"),
    ({"net": {"n_classes": 7}}, "n_classes in run.net is 7"),
    ({"train": 5}, r"run.train is 5; expected a table. Write \[run.train\]"),
    ({"net": 5}, r"run.net is 5; expected a table. Write \[run.net\]"),
])  # fmt: skip
def test_settings_that_a_study_would_ignore_are_refused(run, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, run=run)


@pytest.mark.parametrize("field", ["devices", "keep", "curves", "seed"])
def test_settings_that_a_method_would_ignore_are_refused(field):
    with pytest.raises(ConfigError, match=f"{field} in train of method 'x' is"):
        Method("x", "B", train={field: 2})


@pytest.mark.parametrize(("values", "message"), [
    ({"methods": "abc"}, "methods of the study is 'abc'; expected a list. Write methods = "),
    ({"methods": [1]}, "a method is 1; expected a table of name, schedule"),
    ({"methods": [{"name": "a", "schedule": "B", "colour": 1}]}, "a method is .*colour.*; expected a table"),
    ({"methods": [{"name": "a"}]}, "schedule of method .* is missing; expected a text"),
    ({"seeds": 3}, "seeds of the study is 3; expected a list. Write seeds = "),
    ({"bits": 8}, "bits of the study is 8; expected a list"),
    ({"shifts": "rotated"}, "shifts of the study is 'rotated'; expected a list"),
])  # fmt: skip
def test_lists_of_a_plan_are_lists(values, message):
    with pytest.raises(ConfigError, match=message):
        StudyPlan.from_dict({"name": "x", "methods": [{"name": "a", "schedule": "B"}], **values})


def test_numbers_that_nobody_chose_fit_the_data_set():
    data, plan = load_data("digits"), replace(STUDIES["methods"], dataset="digits")
    found = scaled(plan, data, FREE)
    assert (found.n_train, found.n_validation) == (1198, 239)
    check_samples(found, data)
    check_methods(found, data)
    some = scaled(replace(plan, n_train=1400), data, FREE - {"n_train"})
    assert (some.n_train, some.n_validation) == (1400, 37)
    some = scaled(replace(plan, n_validation=400), data, FREE - {"n_validation"})
    assert (some.n_train, some.n_validation) == (1037, 400)
    assert scaled(SMALL, data, FREE) == SMALL
    with pytest.raises(ConfigError, match="takes 5000 training and 1000 validation samples"):
        check_samples(scaled(plan, data, set()), data)
    assert scaled(replace(plan, n_test=2000), data, FREE).n_test is None


def test_a_cell_has_the_samples_that_changed_worlds_are_learned_from():
    data, plan = (
        load_data("digits"),
        replace(SMALL, shifts=("rotated",), n_train=40, n_validation=9),
    )
    counts = np.bincount(parts_of(replace(plan, per_class=1), data, 3).train.labels, minlength=10)
    least, most = int(counts.argmin()), int(counts.min())
    assert 0 < most < counts.max()
    assert len(parts_of(replace(plan, per_class=most), data, 3).train) == 49
    short = replace(plan, per_class=most + 1)
    with pytest.raises(ConfigError, match=f"class {least} has {most} of the 49 .* or shifts = "):
        parts_of(short, data, 3)
    assert len(parts_of(replace(short, shifts=()), data, 3).train) == 49


def test_networks_are_checked_before_anything_is_written(tmp_path):
    plan = replace(SMALL, methods=(Method("a", "B"), Method("local", "S")))
    with pytest.raises(
        ConfigError, match="cannot train on 'digits':\n.*local: 'mlp' with 2 layers"
    ):
        check_methods(plan, load_data("digits"))
    plan.write(tmp_path / "x.toml")
    refused(
        biril("study", tmp_path / "x.toml", "--out", tmp_path / "x"),
        "local: 'mlp' with 2 layers",
    )
    too_many = (
        "study",
        "methods",
        "--dataset",
        "digits",
        "--train-samples",
        2000,
        "--out",
        tmp_path / "x",
    )
    refused(biril(*too_many), "takes 2000 training and ", "expected at most 1437")
    few = ["study", "methods", "--dataset", "digits", "--train-samples", 60, "--validation-samples"]
    message = "of the 80 for training and validation; expected 10 or more"
    refused(biril(*few, 20, "--out", tmp_path / "x"), "'methods' learns changed worlds", message)
    assert not (tmp_path / "x").exists()


def test_a_failing_cell_leaves_the_others_and_is_tried_again(tmp_path, monkeypatch):
    from biril_nm.studies.grid import cell

    fit = cell.fit

    def fail(net, loaders, settings, **options):
        if settings.lr == 0.5:
            raise ConfigError("too fast")
        return fit(net, loaders, settings, **options)

    monkeypatch.setattr(cell, "fit", fail)
    with pytest.raises(ConfigError, match="1 of 3 cells failed; .*\n.*cell bad, seed 0: too fast"):
        run_study(SMALL, tmp_path / "x")
    assert (tmp_path / "x/cells/bad-0/error.txt").read_text() == "too fast\n"
    seen, failed = [], []
    found = run_study(
        SMALL,
        tmp_path / "x",
        resume=True,
        progress=seen.append,
        failed=lambda c, why: failed.append(why),
    )
    assert (
        failed == ["too fast"] and [r.method for r in found] == ["good", "plain"] and found == seen
    )
    monkeypatch.setattr(cell, "fit", fit)
    kinds = {
        "methods": (
            SMALL.methods[0],
            replace(SMALL.methods[1], train={"lr": 1e-3}),
            SMALL.methods[2],
        )
    }
    assert len(run_study(replace(SMALL, **kinds), tmp_path / "y")) == 3


@pytest.mark.parametrize("error", [RuntimeError("can't allocate memory"), IndexError(3)])
def test_no_error_of_a_cell_stops_the_others(error, tmp_path, monkeypatch):
    from biril_nm.studies.grid import cell

    def fail(net, loaders, settings, **options):
        raise error

    monkeypatch.setattr(cell, "fit", fail)
    reasons = []
    assert run_study(SMALL, tmp_path, failed=lambda _, why: reasons.append(why)) == []
    assert reasons == 3 * [f"{type(error).__name__}: {error}"]


def test_the_table_says_what_failed(tmp_path):
    home = tmp_path / "x"
    SMALL.write(home / "study.toml")
    (home / "cells/bad-0").mkdir(parents=True)
    (home / "cells/bad-0/run").write_text("a file where a folder should be")
    words = ("study", home / "study.toml", "--out", home, "--resume")
    done = biril(*words)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: 1 of 3 cells failed; expected none" in done.stderr
    (row,) = (line for line in done.stdout.splitlines() if line.startswith(" bad"))
    assert "failed" in row and "bad, seed 0 failed: FileExistsError" in done.stdout
    assert "good - plain: " in done.stdout and "bad - plain" not in done.stdout
    found = json.loads(biril(*words, "--json").stdout)
    assert [cell["method"] for cell in found["cells"]] == ["good", "plain"]
    assert found["failed"][0]["method"] == "bad"
    (home / "cells/bad-0/run").unlink()
    again = biril(*words)
    assert again.returncode == 0, again.stderr
    assert "bad - plain" in again.stdout and not (home / "cells/bad-0/error.txt").exists()


@pytest.mark.parametrize("place", ["cells", "cells/good-0", "cells/plain-0"])
def test_links_in_a_study_lead_to_no_folder_of_others(place, tmp_path):
    other = tmp_path / "other" / "run" / "mine"
    other.parent.mkdir(parents=True)
    other.write_text("x")
    link = tmp_path / "study" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "other")
    with pytest.raises(FileFormatError, match=f"{place}' is a link; expected a folder"):
        run_study(SMALL, tmp_path / "study")
    assert [path.name for path in (tmp_path / "other").rglob("*")] == ["run", "mine"]


def test_force_replaces_a_study(tmp_path):
    home = tmp_path / "x"
    (home / "cells/bad-0").mkdir(parents=True)
    replace(SMALL, epochs=3).write(home / "study.toml")
    SMALL.write(tmp_path / "x.toml")
    words = ("study", tmp_path / "x.toml", "--out", home, "--validation-samples", 30)
    refused(biril(*words), "holds a study already", "--force")
    done = biril(*words, "--force")
    assert done.returncode == 0, done.stderr
    assert StudyPlan.read(home / "study.toml") == replace(SMALL, n_validation=30)
