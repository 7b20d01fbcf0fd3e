"""What a study needs of its data set, before anything is written."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import checked
from biril_nm.data import DataSet
from biril_nm.errors import BirilError, ConfigError, bullet_list
from biril_nm.models import build_model
from biril_nm.studies.grid.plan import StudyPlan
from biril_nm.training.phases import PHASES

__all__ = ["check_classes", "check_methods", "check_samples", "scaled"]


@checked
def scaled(plan: StudyPlan, data: DataSet, free: Collection[str]) -> StudyPlan:
    """The plan with numbers of samples that a smaller data set has.

    Args:
        plan: the study.
        data: its data set.
        free: which of ``n_train``, ``n_validation`` and ``n_test`` nobody has chosen.
    """
    n_all, wanted = len(data.train), plan.n_train + plan.n_validation
    changes: dict[str, Any] = {}
    if wanted > n_all and "n_validation" in free:
        rest = n_all - plan.n_train
        if "n_train" in free:
            rest = n_all * plan.n_validation // wanted
        changes["n_validation"] = max(1, rest)
    if wanted > n_all and "n_train" in free:
        changes["n_train"] = max(1, n_all - changes.get("n_validation", plan.n_validation))
    if "n_test" in free and plan.n_test is not None and plan.n_test > len(data.test):
        changes["n_test"] = None
    return replace(plan, **changes)


@checked
def check_samples(plan: StudyPlan, data: DataSet) -> None:
    """Whether the data set has the samples of a study.

    Raises:
        ConfigError: it has fewer.
    """
    if plan.n_train + plan.n_validation > len(data.train):
        raise ConfigError(
            f"study '{plan.name}' takes {plan.n_train} training and {plan.n_validation} validation samples; "
            f"expected at most {len(data.train)} in all ('{plan.data}'). Lower n_train or n_validation"
        )
    if plan.n_test is not None and plan.n_test > len(data.test):
        raise ConfigError(
            f"study '{plan.name}' takes {plan.n_test} test samples; expected at most {len(data.test)} "
            f"('{plan.data}'). Lower n_test"
        )


@checked
def check_classes(plan: StudyPlan, labels: NDArray[np.int64], n_classes: int) -> None:
    """Whether training and validation samples have those of each class that changed worlds are learned from.

    Raises:
        ConfigError: a class has fewer.
    """
    counts = np.bincount(labels, minlength=n_classes)
    least = int(counts.argmin())
    if plan.shifts and counts[least] < plan.per_class:
        raise ConfigError(
            f"study '{plan.name}' learns changed worlds from {plan.per_class} samples of each class, and "
            f"class {least} has {counts[least]} of the {len(labels)} for training and validation; expected "
            f"{plan.per_class} or more. Take more samples, or set per_class lower or shifts = [] in a "
            f"file like study.toml"
        )


@checked
def check_methods(plan: StudyPlan, data: DataSet) -> None:
    """Whether each method can train its network on the data set.

    Raises:
        ConfigError: one cannot.
    """
    findings = []
    for method in plan.methods:
        try:
            run = plan.run_config(method, plan.seeds[0]).with_data(data)
            net = build_model(run.model, run.net, run.seed)
            for phase in dict.fromkeys(run.train.phases):
                PHASES[phase].check(net, run.train)
        except BirilError as error:
            findings.append(f"{method.name}: {error}")
    if findings:
        raise ConfigError(
            bullet_list(f"study '{plan.name}' cannot train on '{plan.data}':", findings)
        )
