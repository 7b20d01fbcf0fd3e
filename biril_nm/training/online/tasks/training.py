"""Train the network of an online task by one method, and test it on fresh samples."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from biril_nm.arguments import Count, Seed, checked, unknown_name
from biril_nm.errors import ConfigError, DivergedError
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.tasks.task import METHODS, OnlineTask, step_gradients

__all__ = ["TaskResult", "accuracy_on_test", "train_task"]

WINDOW = 100  # batches over which the accuracy in training is averaged
TEST_BATCH = 128


@dataclass(frozen=True)
class TaskResult:
    """What a training came to.

    Attributes:
        task: name of the task.
        method: ``"bptt"``, ``"d-rtrl"`` or ``"es-d-rtrl"``.
        seed: seed of network and samples.
        accuracy: on the test samples.
        train_accuracy: mean of the last batches.
        batches: number of updates.
        seconds: processor time.
    """

    task: str
    method: str
    seed: int
    accuracy: float
    train_accuracy: float
    batches: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


@checked
def train_task(
    task: OnlineTask,
    method: str,
    seed: Seed = 0,
    n_batches: Count | None = None,
    on_batch: Callable[[int, float, float], None] | None = None,
    batch: Count | None = None,
    n_test: Count | None = None,
) -> tuple[OnlineNet, TaskResult]:
    """Train and test; equal arguments give equal networks.

    Args:
        task: the task.
        method: one of :data:`METHODS`.
        seed: of the network, the training and the test samples.
        n_batches: updates at most; None: as the task has it.
        batch: samples of an update; None: as the task has it.
        n_test: test samples; None: as the task has it.
        on_batch: called with the number of the batch, its loss and the mean accuracy so far.

    Raises:
        ConfigError: unknown method, or fewer test samples than ``n_test``.
        DivergedError: the loss is not finite.
    """
    if method not in METHODS:
        raise ConfigError(unknown_name("method", method, METHODS))
    task = replace(
        task,
        n_batches=n_batches or task.n_batches,
        batch=batch or task.batch,
        n_test=n_test or task.n_test,
    )
    settings = task.methods[method]
    rule = settings.rule(method)
    net = task.make_net(seed, settings.cut)
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.lr)
    random = torch.Generator().manual_seed(2 * seed)
    start, recent, done = time.process_time(), deque([0.0], maxlen=WINDOW), 0
    for done in range(1, task.n_batches + 1):
        x, labels = task.sample(random, task.batch)
        optimizer.zero_grad(set_to_none=True)
        out, loss = step_gradients(net, x, labels, rule)
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss of batch {done} of task '{task.name}' is {loss}; expected a finite number. Lower "
                f"lr ({settings.lr:g})"
            )
        if settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(net.parameters(), settings.clip)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * settings.factor ** ((done - 1) // settings.every)
        optimizer.step()
        net.constrain()
        right = out[net.first_scored(len(out)) :].sum(0).argmax(1) == labels
        if done == 1:
            recent.clear()
        recent.append(float(right.float().mean()))
        mean = sum(recent) / len(recent)
        if on_batch:
            on_batch(done, loss, mean)
        if len(recent) == WINDOW and mean >= task.enough:
            break
    accuracy = accuracy_on_test(task, net, seed)
    spent = time.process_time() - start
    mean = sum(recent) / len(recent)
    return net, TaskResult(task.name, method, seed, accuracy, mean, done, round(spent, 1))


@torch.no_grad()
def accuracy_on_test(task: OnlineTask, net: OnlineNet, seed: int = 0) -> float:
    """Share of test samples that the network decides rightly.

    Raises:
        ConfigError: the task has fewer samples.
    """
    random = torch.Generator().manual_seed(2 * seed + 1)
    right = left = 0
    while left < task.n_test:
        size = min(TEST_BATCH, task.n_test - left)
        x, labels = task.test(left, size) if task.test else task.sample(random, size)
        if not len(labels):
            raise ConfigError(
                f"task '{task.name}' has {left} test samples; expected n_test, {task.n_test}. Lower n_test"
            )
        right += int((net(x).predictions == labels).sum())
        left += len(labels)
    return right / left
