"""The processes that train one network together, and what they exchange.

Each batch is divided: process r of n takes samples r, r + n, ... Gradients are averaged over all samples,
BatchNorm takes the statistics of all, Dropout draws the masks of all, and a local rule sees the spikes
of all, in their order in the batch. So every process makes the same change, and n processes train as one
does, up to rounding.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from biril_nm.arguments import Count
from biril_nm.errors import ConfigError, MissingDependencyError, WorkerError
from biril_nm.training.joint_layers import DROPOUT, joined
from biril_nm.training.random_state import mix

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["ALONE", "Together", "World", "launched", "leads", "make_fabric", "make_world"]

T = TypeVar("T")
Batch = tuple[Tensor, Tensor]
LAUNCHED, LAUNCHED_HERE = "WORLD_SIZE", "LOCAL_WORLD_SIZE"  # what torchrun sets
LOST = ("by peer", "Broken pipe", "imed out", "ocket", "NCCL")  # of errors where a process is gone
TASKS = "SLURM_STEP_NUM_TASKS"  # what srun sets
LEAVE_S = 0.2  # for threads of gloo, which need a moment of Python behind the last exchange

log = logging.getLogger(__name__)
_started: list[Together] = []  # the processes that train together, once they are joined


class World:
    """A process that trains alone.

    Attributes:
        rank: number of this process.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def share(self, batch: Batch) -> Batch:
        """The samples of this process."""
        return batch

    def batches(self, loader: Iterable[T]) -> Iterator[T]:
        """The batches of a loader, the same ones in all processes."""
        yield from loader

    def whole(self, part: Tensor) -> Tensor:
        """``(n_steps, batch, ...)`` of all processes, from the samples of this one."""
        return part

    def average_gradients(self, net: nn.Module) -> None:
        """Make gradients of the mean over the samples of this process those of the whole batch."""

    def merge(self, metrics: dict[str, float]) -> dict[str, float]:
        """``loss``, ``correct`` and ``samples`` of the whole batch."""
        return metrics

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all processes."""
        return list(numbers)

    def agree(self, value: T) -> T:
        """What the process that leads holds."""
        return value

    @contextmanager
    def shared_statistics(self, net: nn.Module) -> Iterator[None]:
        """BatchNorm and Dropout layers of ``net`` see the samples of all processes in training."""
        del net
        yield

    def layer_seed(self, net: nn.Module, seed: int) -> int:
        """Seed of what the layers of ``net`` draw in this process for its samples of the last batch."""
        del net
        return seed


ALONE = World()  # the one process of a training that is not shared


class Together(World):
    """One of several processes, joined by Lightning Fabric.

    Args:
        fabric: launched.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.rank, self.size = fabric.global_rank, fabric.world_size
        self._batch = 0

    @property
    def _divided(self) -> bool:
        """Whether the batch has a sample for each process; else all of them take all of it."""
        return self._batch >= self.size

    def share(self, batch: Batch) -> Batch:
        """Samples rank, rank + size, ...; all of them where there are fewer than processes."""
        x, labels = batch
        self._batch = len(labels)
        if not self._divided:
            return batch
        return x[:, self.rank :: self.size], labels[self.rank :: self.size]

    def batches(self, loader: Iterable[T]) -> Iterator[T]:
        """The batches of a loader, in the order that the process that leads reads them.

        A loader with a method ``epoch`` has the same order everywhere, and each process reads its own. Of
        others, which may shuffle by a random state of their process, one process reads for all.
        """
        if hasattr(loader, "epoch"):
            yield from loader
            return
        source = iter(loader if self.leads else ())
        while (batch := self.agree(_next(source))) is not None:
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def whole(self, part: Tensor) -> Tensor:
        """``(n_steps, batch, ...)`` of all processes, in the order of the batch."""
        if not self._divided:
            return part
        longest = -(-self._batch // self.size)
        padded = part.new_zeros(part.shape[0], longest, *part.shape[2:])
        padded[:, : part.shape[1]] = part
        with self._all_there():
            gathered = self.fabric.all_gather(padded)
        found = part.new_empty(part.shape[0], self._batch, *part.shape[2:])
        for rank in range(self.size):
            place = found[:, rank :: self.size]
            place.copy_(gathered[rank][:, : place.shape[1]])
        return found

    @property
    def samples(self) -> tuple[int, int]:
        """Samples of the batch that this process takes, and of the whole batch."""
        own = len(range(self.rank, self._batch, self.size)) if self._divided else self._batch
        return own, self._batch

    @property
    def part(self) -> float:
        """Weight of the mean over the samples of this process in the mean over all."""
        return self.samples[0] / (self.copies * self._batch)

    @property
    def copies(self) -> int:
        """How many processes take each sample."""
        return 1 if self._divided else self.size

    def average_gradients(self, net: nn.Module) -> None:
        """One sum over processes for all parameters.

        A layer that a forward leaves out in some of the processes has a gradient of 0 there.
        """
        learning = [p for p in net.parameters() if p.requires_grad]
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
        known = torch.tensor([float(p.grad is not None) for p in learning], device=own[0].device)
        flat = torch.cat([*(self.part * g.reshape(-1) for g in own), known])
        *sums, known = torch.split(self.sum(flat), [*(g.numel() for g in own), len(own)])
        for p, gradient, new, somewhere in zip(learning, own, sums, known.tolist()):
            if somewhere:
                p.grad = gradient.copy_(new.view_as(gradient))

    def layer_seed(self, net: nn.Module, seed: int) -> int:
        """One seed for all processes where layers draw for the whole batch, else one for each."""
        whole = any(isinstance(layer, DROPOUT) for layer in net.modules())
        return seed if whole or not self._divided else mix(seed, self.rank)

    def merge(self, metrics: dict[str, float]) -> dict[str, float]:
        """Means weighted by samples, and sums."""
        if not self._divided:
            return metrics
        n = metrics["samples"]
        loss, correct, samples = self.total([metrics["loss"] * n, metrics["correct"], n])
        return {"loss": loss / samples, "correct": correct, "samples": samples}

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all processes, in 64 bits."""
        here = torch.tensor(numbers, dtype=torch.float64, device=self.fabric.device)
        return [float(value) for value in self.sum(here)]

    def agree(self, value: T) -> T:
        """What process 0 holds."""
        with self._all_there():
            return self.fabric.broadcast(value)  # type: ignore[no-any-return]

    def sum(self, part: Tensor) -> Tensor:
        """Sum of a tensor over all processes."""
        with self._all_there():
            return self.fabric.all_reduce(part, reduce_op="sum")  # type: ignore[return-value]

    @contextmanager
    def _all_there(self) -> Iterator[None]:
        """While it is open, the end of another process is an error that says so."""
        try:
            yield
        except RuntimeError as error:  # gloo and NCCL have no other
            if not any(words in str(error) for words in LOST):
                raise
            reason = (str(error).splitlines() or [""])[0]
            raise WorkerError(
                f"process {self.rank} lost those that train with it: {reason:.200}; expected {self.size} "
                f"processes to the end. See what the one that ended said, and go on with --resume "
                f"(resume=True)"
            ) from error

    @contextmanager
    def shared_statistics(self, net: nn.Module) -> Iterator[None]:
        """While it is open, BatchNorm layers in training take mean and variance over all processes,
        and Dropout layers draw masks of the whole batch.
        """
        with joined(net, self):
            yield


def _next(source: Iterator[T]) -> T | Exception | None:
    """The next batch, what reading it raised, or None behind the last one."""
    try:
        return next(source, None)
    except Exception as error:  # all processes must raise it, or the others wait
        return error


def make_fabric(device: str = "auto", devices: Count = 1, nodes: Count = 1) -> Fabric:
    """Lightning Fabric for one process per device, launched.

    Under ``torchrun`` or ``srun`` the processes are there already; else this program is started again for
    each further device.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        devices: processes on each machine.
        nodes: machines.

    Raises:
        ConfigError: the machine has fewer devices.
        MissingDependencyError: lightning-fabric is not installed.
    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.utilities.exceptions import MisconfigurationException
    except ImportError as error:
        raise MissingDependencyError(
            "lightning_fabric", "scale", "train in several processes"
        ) from error
    kind = device.partition(":")[0]
    try:
        fabric = Fabric(accelerator=kind, devices=devices, num_nodes=nodes, strategy="ddp")
        fabric.launch()
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{devices} processes on {nodes} machines with device '{device}' cannot be started: {error}. "
            f"Lower devices, or choose another device"
        ) from error
    return fabric


def launched() -> tuple[int, int] | None:
    """Processes on this machine, and machines, that ``torchrun`` has started; None without it."""
    size, here = (int(os.environ.get(name, "1")) for name in (LAUNCHED, LAUNCHED_HERE))
    # In what it starts itself, Fabric sets the first alone.
    return (here, size // here) if size > 1 and LAUNCHED_HERE in os.environ else None


def make_world(device: str, devices: Count = 1, nodes: Count = 1) -> World:
    """The processes that were asked for, or that ``torchrun`` has started.

    Tasks of SLURM may as well train networks of their own. They train together where ``devices`` and
    ``nodes`` say so.

    Raises:
        ConfigError: ``torchrun`` has started another number of processes.
        MissingDependencyError: lightning-fabric is not installed.
    """
    given = launched()
    if given is not None:
        if (devices, nodes) not in ((1, 1), given):
            raise ConfigError(
                f"devices and nodes are {devices} and {nodes}, and {given[0] * given[1]} processes were "
                f"started, {given[0]} on this machine; expected the same. Leave devices and nodes out"
            )
        devices, nodes = given
    if devices * nodes > 1:
        return _together(device, devices, nodes)
    tasks = int(os.environ.get(TASKS, "1"))
    if tasks > 1:
        log.warning(
            "srun has started %d tasks, and each of them trains alone; to train together, give devices, the "
            "tasks on each machine, and nodes",
            tasks,
        )
    return ALONE


@cache
def _together(device: str, devices: Count, nodes: Count) -> Together:
    """Processes are started once, however often they train."""
    world = Together(make_fabric(device, devices, nodes))
    _started.append(world)
    atexit.register(_leave)
    return world


def _leave() -> None:
    """End the threads of gloo while there is Python: they abort if they release a tensor later.

    They may need Python for it, which :func:`torch.distributed.destroy_process_group` does not leave them;
    the end of the backend itself does.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_backend() != "gloo":
        return
    time.sleep(LEAVE_S)  # with the last tensors released, also where others still hold the backend
    backend = cast(Any, torch.distributed.group.WORLD)._get_backend(torch.device("cpu"))
    torch.distributed.destroy_process_group()
    del backend  # behind the group, to which no name leads here either


def leads() -> bool:
    """Whether this process is the one that reports.

    Of processes that train together process 0, also where SLURM started them. Before they train, what
    ``torchrun`` says.
    """
    if _started:
        return _started[-1].leads
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
