"""fit: the training loop over epochs, phases and batches, resumable after each epoch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from biril_nm.arguments import checked
from biril_nm.coding import Coding
from biril_nm.data.labels import check_labels
from biril_nm.errors import BirilError, ConfigError, DivergedError
from biril_nm.models.net import BirilNet
from biril_nm.models.own import OwnNet
from biril_nm.models.running import precision
from biril_nm.models.saving import save
from biril_nm.models.segments import segments
from biril_nm.models.spiking_net import SpikingNet
from biril_nm.models.taps import forget
from biril_nm.models.values import check_type
from biril_nm.neurons.unroll import engine
from biril_nm.storage.platform import give_back_growth, keep_freed_memory
from biril_nm.training.accuracy import evaluate
from biril_nm.training.best import TEST, VALIDATION, BestWeights
from biril_nm.training.callbacks import Callback
from biril_nm.training.checkpoint import CHECKPOINT, read_checkpoint, write_checkpoint
from biril_nm.training.config import TrainConfig
from biril_nm.training.loading import (
    check_loaders,
    check_samples,
    enough_for_norms,
    read_to_the_end,
    samples_of,
)
from biril_nm.training.optimizers import make_optimizer
from biril_nm.training.phases import PHASES, Batch, PhaseState
from biril_nm.training.precision import choose_precision
from biril_nm.training.random_state import drawing, mix
from biril_nm.training.reporting import Reporter, check_reports
from biril_nm.training.run_folder import MODEL, WEIGHTS, open_run
from biril_nm.training.schedule import phase_at
from biril_nm.training.world import Together, World, make_world

__all__ = ["History", "fit", "resolve_device"]

LAYERS = 1  # what layers draw has another seed than the coding of the same batch
BATCHES = "batches"  # name of the number of batches so far, kept where the loader has no length
UNSIZED_BATCHES = 1000  # over how many batches eta is spread if the loader has no length

log = logging.getLogger(__name__)

Loader = Iterable[tuple[Any, Any]]


@dataclass(frozen=True)
class History:
    """One record per epoch: epoch, phase, lr, loss, train_accuracy, test_accuracy, firing_rates,
    seconds. Where ``keep`` is ``"best"``, the samples of the second loader choose the epoch, and their
    accuracy is ``validation_accuracy``.
    """

    records: list[dict[str, Any]]

    @property
    def test_accuracy(self) -> float | None:
        """Test accuracy after the last epoch; None without a test loader."""
        return self.records[-1].get(TEST) if self.records else None

    @property
    def validation_accuracy(self) -> float | None:
        """Accuracy on the validation samples of the epoch that they chose; None where they chose none."""
        return max((r[VALIDATION] for r in self.records if VALIDATION in r), default=None)


@checked
def resolve_device(name: str) -> torch.device:
    """``"auto"`` is CUDA if available, else the CPU.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" makes tensors that hold nothing
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"device '{name}' cannot be used: {reason}. Choose auto or cpu"
        ) from error
    return device


@checked
def fit(
    net: nn.Module,
    loaders: tuple[Loader, Loader | None],
    config: TrainConfig | None = None,
    callbacks: Sequence[Callback] = (),
    out_dir: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    coding: Coding | None = None,
) -> History:
    """Train ``net`` in place.

    With ``devices`` or ``nodes`` above 1 this program is started again for each further device; under
    ``srun`` the tasks that are there train together then, under ``torchrun`` its processes in any case.
    Process 0 writes and calls the callbacks (:mod:`biril_nm.training.world`).

    Args:
        net: a network of :func:`biril_nm.build_model`, or any module of snnTorch neurons
            (:class:`biril_nm.models.OwnNet` says what its forward may be).
        loaders: training and test batches of (values in 0..1, labels). A loader with a method
            ``epoch(number)`` (:class:`biril_nm.data.Batches`) gives each epoch its own order
            and makes a resumed run equal to an uninterrupted one; others are iterated as they are, by one
            process for all.
        config: settings.
        callbacks: observers.
        out_dir: folder for checkpoint.pt, metrics.jsonl, TensorBoard events, curves.png and, at
            the end, model.pt; of other modules weights.pt (``bnm.load(path, architecture=...)``), of a
            :class:`biril_nm.training.integers.QuantizedNet` its graph, model.loihi.npz.
        resume: continue from ``out_dir/checkpoint.pt`` if it is there.
        force: remove the run that is there and start again.
        coding: how values become the input of a module that does not know it.

    Raises:
        ConfigError: settings that do not fit the net or the checkpoint, or labels that do not fit.
        OutputExistsError: ``out_dir`` holds a run, and neither resume nor force is set.
        OutputInUseError: another process trains into ``out_dir``.
        StorageError: the disk is full.
        WorkerError: a process that reads samples, or that trains with this one, has ended.
        DivergedError: the loss or a weight became infinite or NaN. The epoch is not written; ``out_dir``
            keeps the epochs before it.
    """
    settings = config or TrainConfig()
    if resume and out_dir is None:
        raise ConfigError(
            "resume is True and out_dir is None; expected the folder of the run. Give out_dir"
        )
    net = _trainable(net, coding)
    if (net.exact or not net.engines) and settings.precision == "auto":
        settings = replace(settings, precision="float32")
    check_type(net, net.name)
    check_loaders(loaders, settings.epochs)
    chosen = (settings.engine, settings.precision, settings.checkpoint_steps)
    if (net.exact or not net.engines) and chosen != ("auto", "float32", 0):
        how = "in integers" if net.exact else "its steps itself"
        raise ConfigError(
            f"engine is '{chosen[0]}', precision '{chosen[1]}' and checkpoint_steps {chosen[2]}, and "
            f"{net.name} computes {how}; expected 'auto', 'float32' and 0. Leave them out"
        )
    if settings.keep == "best" and loaders[1] is None:
        raise ConfigError(
            "keep is 'best', and there are no samples to measure epochs on; expected a second loader. "
            "Give one of validation samples, or set keep='last'"
        )
    for name in dict.fromkeys(settings.phases):
        PHASES[name].check(net, settings)
    device = resolve_device(settings.device)
    together = make_world(settings.device, settings.devices, settings.nodes)
    if isinstance(together, Together):
        device = together.fabric.device
    task = Task(net, loaders, settings, callbacks if together.leads else (), together)
    if out_dir is None:
        return _run(task, device, None)
    check_reports(settings.tensorboard, settings.curves)
    folder = Path(out_dir)
    with _led(together, open_run(folder, resume, force)):
        return _run(task, device, folder)


@dataclass(frozen=True)
class Task:
    """What a run works on."""

    net: SpikingNet
    loaders: tuple[Loader, Loader | None]
    settings: TrainConfig
    callbacks: Sequence[Callback]
    world: World
    kept: dict[str, torch.Tensor] = field(default_factory=dict)  # as PhaseState has it


@contextmanager
def _led(world: World, context: AbstractContextManager[None]) -> Iterator[None]:
    """Enter a context in the process that leads; if it refuses, all processes raise the error."""
    with ExitStack() as stack:
        problem = None
        if world.leads:
            try:
                stack.enter_context(context)
            except BirilError as error:
                problem = error
        problem = world.agree(problem)
        if problem is not None:
            raise problem
        yield


def _trainable(net: nn.Module, coding: Coding | None) -> SpikingNet:
    if not any(p.requires_grad for p in net.parameters()):
        raise ConfigError(f"{type(net).__name__} has no parameters that learn; expected some")
    if not isinstance(net, SpikingNet):
        return OwnNet(net, coding or Coding())
    if coding is not None and coding != net.coding:
        raise ConfigError(
            f"coding is {coding}, and the network has {net.coding}; expected one. Leave coding out"
        )
    return net


def _run(task: Task, device: torch.device, folder: Path | None) -> History:
    """Train from the checkpoint in ``folder`` on, or from the start without one."""
    net, settings, world = task.net, task.settings, task.world
    net.to(device)
    optimizer = make_optimizer(net, settings)
    records = _start(task, optimizer, folder)
    for callback in task.callbacks:
        callback.on_train_start(len(records), settings.epochs)
    best = BestWeights(net, folder, world, settings.keep == "best")
    reporter = None
    if folder is not None and world.leads:
        reporter = Reporter(folder, records, settings.tensorboard, settings.curves)
    try:
        kept = keep_freed_memory() if device.type == "cpu" else nullcontext()
        modes = torch.inference_mode(False), torch.enable_grad()  # type: ignore[no-untyped-call]
        layers, reading = world.shared_statistics(net), read_to_the_end()
        with layers, reading, engine(settings.engine), kept, modes[0], modes[1]:
            for epoch in range(len(records), settings.epochs):
                records.append(_epoch(task, optimizer, epoch))
                best.look_at(records)
                if folder is not None and world.leads:
                    state = (optimizer, settings, records, task.kept)
                    write_checkpoint(folder / CHECKPOINT, net, *state)
                if reporter:
                    reporter.add(records)
                for callback in task.callbacks:
                    callback.on_epoch_end(records[-1])
    finally:
        if reporter:
            reporter.close()
    best.take_back()
    net.eval()
    if folder is not None and world.leads:
        _save(net, folder)
    for callback in task.callbacks:
        callback.on_train_end(records)
    world.agree(None)  # nobody leaves before all files are written
    return History(records)


def _start(
    task: Task, optimizer: torch.optim.Optimizer, folder: Path | None
) -> list[dict[str, Any]]:
    """Records of the epochs that are done; all processes take the state of the one that leads."""
    net, world = task.net, task.world
    records: list[dict[str, Any]] = []
    problem = None
    if folder is not None and world.leads and (folder / CHECKPOINT).exists():
        try:
            state = (optimizer, task.settings, task.kept)
            records = read_checkpoint(folder / CHECKPOINT, net, *state)
            check_samples(task.loaders[0], task.kept, folder / CHECKPOINT)
        except BirilError as error:
            problem = error
    if world.size == 1:
        if problem is not None:
            raise problem
        net.take_statistics(task.kept)
        return records
    ours = [problem, records, net.state_dict(), optimizer.state_dict(), task.kept]
    problem, *theirs = world.agree(ours)
    if problem is not None:
        raise problem
    net.load_state_dict(theirs[1])
    optimizer.load_state_dict(theirs[2])
    task.kept.update(theirs[3])
    net.take_statistics(task.kept)
    return list(theirs[0])


def _save(net: SpikingNet, folder: Path) -> None:
    if isinstance(net, BirilNet):
        save(net, folder / MODEL, force=True)
    elif not net.write(folder):
        save(net, folder / WEIGHTS, force=True)


def _epoch(task: Task, optimizer: torch.optim.Optimizer, epoch: int) -> dict[str, Any]:
    """One epoch and its record."""
    start = time.perf_counter()
    net, settings, (_, test) = task.net, task.settings, task.loaders
    lr = settings.lr_at(epoch)
    for group in optimizer.param_groups:
        group["lr"] = lr
    whole = settings.cycle if settings.period == "batch" else phase_at(settings.cycle, epoch)
    device = next(net.parameters()).device
    low = precision(choose_precision(settings.precision, device))
    with low, segments(settings.checkpoint_steps):
        means = _train(task, optimizer, epoch)
    wrong = [name for name, p in net.named_parameters() if not bool(p.isfinite().all())]
    if wrong:
        raise _diverged(f"{', '.join(wrong)} hold values that are not finite", epoch, settings)
    record: dict[str, Any] = {"epoch": epoch + 1, "phase": whole, "lr": lr}
    record |= {"loss": means["loss"], "train_accuracy": means["accuracy"]}
    if test is not None:
        result = evaluate(net, test, seed=settings.seed, world=task.world)
        name = VALIDATION if settings.keep == "best" else TEST
        record |= {name: result.accuracy, "firing_rates": result.firing_rates}
    record["seconds"] = round(time.perf_counter() - start, 3)
    log.info("epoch %d %s: %s", epoch + 1, whole, record)
    return record


def _train(task: Task, optimizer: torch.optim.Optimizer, epoch: int) -> dict[str, float]:
    """The batches of one epoch; returns mean loss and accuracy."""
    net, settings, callbacks, world = task.net, task.settings, task.callbacks, task.world
    train: Any = task.loaders[0]
    n_batches = _length(train)
    done = epoch * n_batches or int(task.kept.get(BATCHES, 0))
    per_batch = settings.period == "batch"
    state = PhaseState(
        loss=settings.loss,
        plastic=settings.plastic,
        plasticity=settings.plasticity,
        seed=mix(settings.seed, epoch),
        eta_scale=settings.lr_at(epoch) / settings.lr / (n_batches or UNSIZED_BATCHES),
        by_batch=per_batch,
        world=world,
        kept=task.kept,
    )
    cycle = settings.cycle if per_batch else phase_at(settings.cycle, epoch)
    for callback in callbacks:
        callback.on_epoch_start(epoch, settings.epochs, cycle, n_batches)
    loss = correct = samples = 0.0
    for index, batch in enumerate(_batches(task, epoch)):
        name = phase_at(cycle, done + index)
        part = world.share(batch)
        layers = world.layer_seed(net, mix(settings.seed, epoch, index, LAYERS))
        with drawing(layers, part[0].device), enough_for_norms(index, batch[0]):
            metrics = PHASES[name].run(net, part, optimizer, state)
        give_back_growth()
        metrics = world.merge(metrics)
        if not math.isfinite(metrics["loss"]):
            found = f"the loss of batch {index + 1} is {metrics['loss']} in phase {name}"
            raise _diverged(found, epoch, settings)
        loss += metrics["loss"] * metrics["samples"]
        correct += metrics["correct"]
        samples += metrics["samples"]
        for callback in callbacks:
            callback.on_batch(
                index, n_batches, {"loss": loss / samples, "accuracy": correct / samples}
            )
    if not samples:
        raise ConfigError("the training loader holds no samples")
    for module in net.modules():
        forget(module)  # the last batch, which callbacks could not copy
    task.kept.update(samples_of(train) | net.statistics())
    if not n_batches:
        task.kept[BATCHES] = torch.tensor(done + index + 1)
    return {"loss": loss / samples, "accuracy": correct / samples}


def _diverged(found: str, epoch: int, settings: TrainConfig) -> DivergedError:
    return DivergedError(
        f"epoch {epoch + 1} of {settings.epochs} diverged: {found}; expected finite numbers. Lower lr "
        f"({settings.lr:g}) and start again"
    )


def _length(loader: Any) -> int:
    """Number of batches; 0 if the loader does not know."""
    try:
        return len(loader)
    except TypeError:  # that of torch has a method for it, which some data sets let fail
        return 0


def _batches(task: Task, epoch: int) -> Iterator[Batch]:
    net, loader = task.net, cast(Any, task.loaders[0])
    device = next(net.parameters()).device
    own = hasattr(loader, "epoch")
    batches = loader.epoch(epoch) if own else task.world.batches(loader)
    for index, (values, labels) in enumerate(batches):
        x = net.encode(values, mix(task.settings.seed, epoch, index)).to(device)
        net.adapt(x)
        known = check_labels(labels, x.shape[1], net.n_classes)
        yield x, torch.as_tensor(known, device=device)
