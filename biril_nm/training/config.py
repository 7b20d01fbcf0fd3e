"""TrainConfig: the settings of :func:`biril_nm.training.fit`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from biril_nm.arguments import MAX_SEED, checked, unknown_name
from biril_nm.errors import BirilError, ConfigError, bullet_list
from biril_nm.learning.rule import LearningRule
from biril_nm.learning.rules import get_rule
from biril_nm.neurons.unroll import ENGINES
from biril_nm.storage import MAX_LINES
from biril_nm.training.local_rule.plasticity import PlasticityConfig
from biril_nm.training.losses import LOSSES
from biril_nm.training.optimizers import OPTIMIZERS
from biril_nm.training.phases import PLASTIC
from biril_nm.training.precision import PRECISIONS
from biril_nm.training.schedule import parse_schedule, phases_of

__all__ = ["TrainConfig"]

PERIODS = ("epoch", "batch")
KEEP = ("last", "best")
MAX_EPOCHS = MAX_LINES  # metrics.jsonl has a line for each
MAX_LR = 1e6
WARMUP_LR = 1e-6  # at the start of the warm-up
MAX_DEVICES = 1 << 16
# Where a run runs does not change what it computes.
PLACES = {"device", "devices", "nodes", "engine", "tensorboard", "curves"}


@checked
@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run.

    The learning rate of epoch e, counted from 0, is ``lr_last + (lr - lr_last) (1 + cos(pi e / epochs)) / 2``
    in every phase; in the first ``warmup`` epochs it is ``1e-6 + (lr - 1e-6) e / warmup`` instead. The
    cosine counts these epochs, so that the rate behind them is below ``lr``, as with the scheduler of timm
    that BrainCog takes (``warmup_prefix=False``).

    Attributes:
        schedule: ratio S:B:H such as ``"1:6:2"``, or cycle such as ``"BBSBBH"`` or ``"brp,B"``.
        epochs: number of epochs.
        lr: learning rate of the first epoch, or the one towards which it rises in the warm-up.
        optimizer: ``"adam"``, or ``"adamw"``, in which weights decay.
        weight_decay: of AdamW, for the weights of layers; biases, norms and time constants do not decay.
        warmup: epochs in which the learning rate rises, fewer than ``epochs``.
        lr_last: learning rate towards the end.
        loss: ``"ce"``, ``"mse"`` or ``"ce_smooth"`` on the scores (:mod:`biril_nm.training.losses`).
        seed: seed of all random numbers of training: of the local rule, rate coding and layers as Dropout.
        device: ``"auto"`` (CUDA if there is one), ``"cpu"``, ``"cuda"``, ...
        devices: processes on each machine, one for each device; divide each batch.
        nodes: machines.
        keep: which weights are left at the end: those of the ``"last"`` epoch, or of the ``"best"``, the
            first with the highest accuracy on the second loader, which should hold validation samples;
            records call that accuracy ``validation_accuracy``.
        period: whether the phase changes per ``"epoch"`` or per ``"batch"``.
        plastic: ``"conv"``, ``"conv+fc"`` or ``"last"``: what S and H change locally.
        plasticity: settings of the local rule.
        engine: what computes the neurons, one of :data:`biril_nm.neurons.unroll.ENGINES`: ``"auto"`` is
            compiled loops on the CPU and torch's compiler on CUDA; ``"loop"`` calls networks step by step.
        precision: ``"float32"``; ``"bfloat16"``, autocast of the layers in training; ``"auto"``: the second
            where the device multiplies in it, but for networks of integers.
        checkpoint_steps: steps of a segment of gradient checkpointing over time: inside it nothing is kept
            for the backward pass, which computes it again (:mod:`biril_nm.models.segments`); 0: off.
        tensorboard: True: events are required; None: written if tensorboard is installed.
        curves: the same for curves.png and matplotlib.
    """

    schedule: str = "1:6:2"
    epochs: int = 9
    lr: float = 1e-3
    optimizer: str = "adam"
    weight_decay: float = 0.0
    warmup: int = 0
    lr_last: float = 0.0
    loss: str = "ce"
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    keep: str = "last"
    period: str = "epoch"
    plastic: str = "conv"
    plasticity: PlasticityConfig = field(default_factory=PlasticityConfig)
    engine: str = "auto"
    precision: str = "float32"
    checkpoint_steps: int = 0
    tensorboard: bool | None = None
    curves: bool | None = None

    def __post_init__(self) -> None:
        parse_schedule(self.schedule)
        findings = []
        if type(self.epochs) is not int or not 1 <= self.epochs <= MAX_EPOCHS:
            findings.append(
                f"epochs is {self.epochs!r}; expected an integer from 1 to {MAX_EPOCHS}"
            )
        if type(self.lr) not in (int, float) or not 0 < self.lr <= MAX_LR:
            findings.append(f"lr is {self.lr!r}; expected a number above 0, up to {MAX_LR:g}")
        findings += self._wrong_rates()
        if not 0 <= self.seed <= MAX_SEED:
            findings.append(f"seed is {self.seed!r}; expected an integer from 0 to {MAX_SEED}")
        steps = self.checkpoint_steps
        if type(steps) is not int or not 0 <= steps <= MAX_DEVICES:
            findings.append(
                f"checkpoint_steps is {steps!r}; expected an integer from 0 to {MAX_DEVICES}"
            )
        for name in ("devices", "nodes"):
            if type(getattr(self, name)) is not int or not 1 <= getattr(self, name) <= MAX_DEVICES:
                findings.append(
                    f"{name} is {getattr(self, name)!r}; expected an integer from 1 to {MAX_DEVICES}"
                )
        for name, allowed in (
            ("optimizer", OPTIMIZERS),
            ("loss", LOSSES),
            ("period", PERIODS),
            ("plastic", PLASTIC),
            ("engine", ENGINES),
            ("precision", PRECISIONS),
            ("keep", KEEP),
        ):
            if getattr(self, name) not in allowed:
                findings.append(unknown_name(name, getattr(self, name), allowed))
        if findings:
            raise ConfigError(bullet_list("the training configuration makes no sense:", findings))

    def _wrong_rates(self) -> list[str]:
        found = []
        if not 0 <= self.weight_decay <= 1:
            found.append(f"weight_decay is {self.weight_decay!r}; expected a number from 0 to 1")
        elif self.weight_decay and self.optimizer == "adam":
            found.append(
                f"weight_decay is {self.weight_decay!r} of optimizer 'adam'; expected 0. Use "
                f"optimizer 'adamw'"
            )
        if not 0 <= self.warmup < max(1, self.epochs):
            found.append(
                f"warmup is {self.warmup!r} of {self.epochs!r} epochs; expected an integer from 0 to "
                f"epochs - 1, or no epoch is left behind the warm-up. Train longer, or lower warmup"
            )
        if not 0 <= self.lr_last <= self.lr:
            found.append(
                f"lr_last is {self.lr_last!r}; expected a number from 0 to lr, {self.lr!r}"
            )
        return found

    @property
    def cycle(self) -> str:
        """The cycle of phases that :attr:`schedule` means."""
        return parse_schedule(self.schedule)

    @property
    def phases(self) -> tuple[str, ...]:
        """Letters and names of the phases of :attr:`cycle`."""
        return phases_of(self.cycle)

    @checked
    def lr_at(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        if 0 <= epoch < self.warmup:
            first = min(WARMUP_LR, self.lr)
            return first + (self.lr - first) * epoch / self.warmup
        span = self.lr - self.lr_last
        return self.lr_last + span * 0.5 * (1.0 + math.cos(math.pi * epoch / self.epochs))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; :meth:`from_dict` reads it."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        plasticity = {f.name: getattr(self.plasticity, f.name) for f in fields(self.plasticity)}
        plasticity["rule"] = self.plasticity.rule.to_dict()
        return {**values, "plasticity": plasticity}

    @staticmethod
    @checked
    def from_dict(values: Mapping[str, Any]) -> TrainConfig:
        """Inverse of :meth:`to_dict`; ``plasticity.rule`` may also be a registry name.

        Raises:
            ConfigError: unknown field or a value of the wrong kind.
        """
        arguments = dict(values)
        try:
            if "plasticity" in arguments:
                inner = dict(arguments["plasticity"])
                if "rule" in inner:
                    rule = inner["rule"]
                    named = isinstance(rule, (str, LearningRule))
                    inner["rule"] = get_rule(rule) if named else LearningRule.from_dict(rule)
                _refuse_unknown(inner, PlasticityConfig, "plasticity")
                arguments["plasticity"] = PlasticityConfig(**inner)
            _refuse_unknown(arguments, TrainConfig, "training")
            return TrainConfig(**arguments)
        except BirilError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the training configuration is damaged: {error!r}") from error

    @checked
    def differences(self, other: TrainConfig) -> list[str]:
        """Fields in which two configurations differ; devices and reports do not count."""
        compared = {f.name for f in fields(self)} - PLACES
        return [
            f"{name}: {getattr(other, name)!r} before, {getattr(self, name)!r} now"
            for name in sorted(compared)
            if getattr(self, name) != getattr(other, name)
        ]


def _refuse_unknown(values: Mapping[str, Any], kind: type[Any], what: str) -> None:
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"{what} fields {unknown} are unknown; expected some of {sorted(known)}")
