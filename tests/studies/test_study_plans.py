"""What a plan of a study means: its data, its network, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from biril_nm.data import DATASETS
from biril_nm.models import MODELS
from biril_nm.studies.grid import STUDIES
from biril_nm.training.run_config import RunConfig

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
