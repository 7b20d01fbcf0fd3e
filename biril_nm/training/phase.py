"""A phase: a function ``(net, batch, optimizer, state) -> metrics``, and what phases share.

To add one: a function, and its entry in :data:`biril_nm.training.phases.PHASES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from biril_nm.arguments import Seed, checked, unknown_name
from biril_nm.errors import ConfigError
from biril_nm.models.spiking_net import NetOutput, SpikingNet
from biril_nm.training.local_rule.plasticity import Grid, LocalLearner, PlasticityConfig
from biril_nm.training.losses import LOSSES
from biril_nm.training.plastic import plastic_links
from biril_nm.training.world import ALONE, World

if TYPE_CHECKING:
    from biril_nm.training.config import TrainConfig

__all__ = [
    "Batch",
    "Metrics",
    "Phase",
    "PhaseState",
    "gradient_step",
    "metrics_of",
    "optimizer_step",
]

Batch = tuple[Tensor, Tensor]  # input (n_steps, batch, *shape), labels (batch,)
Metrics = dict[str, float]


@checked
@dataclass
class PhaseState:
    """What phases share during one epoch.

    Attributes:
        loss: name of the loss.
        plastic: choice of plastic layers.
        plasticity: settings of the local rule.
        learner: the rule's interpreter with its random numbers.
        eta_scale: share of the plasticity's ``eta`` for one batch: learning rate of the epoch over
            the initial one, divided by the number of batches.
        by_batch: phases take turns by the batch, not by the epoch.
        grids: grid of each plastic layer, fixed when S first meets the layer.
        world: the processes that train together.
        kept: tensors that phases keep over all epochs of a run, by name; the checkpoint has them.
    """

    loss: str = "ce"
    plastic: str = "conv"
    plasticity: PlasticityConfig = field(default_factory=PlasticityConfig)
    seed: Seed = 0
    eta_scale: float = 1.0
    by_batch: bool = False
    grids: dict[str, Grid] = field(default_factory=dict)
    world: World = field(default=ALONE)
    kept: dict[str, Tensor] = field(default_factory=dict)
    learner: LocalLearner = field(init=False)

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ConfigError(unknown_name("loss", self.loss, LOSSES))
        self.learner = LocalLearner(self.plasticity, self.seed)


def _takes_any(net: SpikingNet, settings: TrainConfig) -> None:
    del net, settings


@dataclass(frozen=True)
class Phase:
    """A phase and what it may change.

    Attributes:
        run: the function.
        title: how reports call it.
        updates: ``"all"``, ``"plastic"``, ``"readout"`` or ``"none"``, the layers that it changes.
        check: raises ConfigError, before anything runs, where the phase cannot train the network.
    """

    run: Callable[[SpikingNet, Batch, torch.optim.Optimizer, PhaseState], Metrics]
    title: str
    updates: str
    check: Callable[[SpikingNet, TrainConfig], None] = _takes_any

    def updated_layers(self, net: SpikingNet, plastic: str = "conv") -> tuple[str, ...]:
        """Names of the layers that this phase may change in ``net``."""
        if self.updates == "none":
            return ()
        if self.updates == "plastic":
            return tuple(link.name for link in plastic_links(net, plastic))
        if self.updates == "readout":
            return tuple(link.name for link in net.links() if link.post == net.readout_name)
        return tuple(
            name.removeprefix("layers.").removeprefix("module.")
            for name, layer in net.named_modules()
            if list(layer.parameters(recurse=False))
        )


def gradient_step(
    net: SpikingNet,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    state: PhaseState,
    record: Sequence[str],
) -> tuple[NetOutput, Metrics]:
    """The step of B: forward, backward through time and layers, and :func:`optimizer_step`."""
    x, labels = batch
    out: NetOutput = net(x, record=record)
    loss = LOSSES[state.loss](out.scores, labels, net.scored_steps(x.shape[0]))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer_step(net, optimizer, state)
    return out, metrics_of(out, labels, loss)


def optimizer_step(net: SpikingNet, optimizer: torch.optim.Optimizer, state: PhaseState) -> None:
    """Move the weights by their gradients, those of all processes, and drop these."""
    state.grids.clear()  # a gradient step leaves the grid; S finds a new one
    state.world.average_gradients(net)
    optimizer.step()
    net.constrain()
    optimizer.zero_grad(set_to_none=True)


def metrics_of(out: NetOutput, labels: Tensor, loss: Tensor) -> Metrics:
    """What a phase returns: loss, right predictions and samples of the batch."""
    right = int((out.predictions == labels).sum())
    return {"loss": float(loss.detach()), "correct": right, "samples": labels.numel()}
