"""Tasks of online learning, by name: delayed match to sample, evidence accumulation, spoken digits."""

from __future__ import annotations

from biril_nm.training.online.tasks.delayed_match import DELAYED_MATCH
from biril_nm.training.online.tasks.evidence import EVIDENCE
from biril_nm.training.online.tasks.spoken import SPOKEN
from biril_nm.training.online.tasks.task import METHODS, OnlineTask
from biril_nm.training.online.tasks.training import TaskResult, train_task

__all__ = ["METHODS", "TASKS", "OnlineTask", "TaskResult", "train_task"]

# Name -> task.
TASKS: dict[str, OnlineTask] = {task.name: task for task in (DELAYED_MATCH, EVIDENCE, SPOKEN)}
