"""BirilNet: a chain of named torch layers and snnTorch neurons, run over time.

``net.layers`` is the ordinary snnTorch network: called on one step's input at a time it keeps its
state inside, and its child names are the names in NIR and in the integer graph. ``net(x)``
computes the same for all steps at once: layers without memory see time folded into the batch (and
a constant input only once), neurons run through :func:`biril_nm.neurons.unroll.unroll`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import snntorch as snn
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from biril_nm.arguments import Seed, checked
from biril_nm.coding import Coding, check_decision
from biril_nm.decision import class_scores
from biril_nm.errors import ConfigError
from biril_nm.models.config import ModelConfig
from biril_nm.neurons.unroll import can_unroll, unroll

__all__ = ["BirilNet", "Link", "NetOutput", "encode"]

WEIGHT_LAYERS = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class NetOutput:
    """What a forward pass returns.

    Shape:
        spikes ``(n_steps, batch, n_classes)``; scores ``(batch, n_classes)``: spike count plus
        ``mem_last / threshold``, the decision ``score`` on which networks are trained
        (:mod:`biril_nm.decision`); membrane ``(batch, n_classes)``: ``mem_last / threshold``;
        recorded: population name to spikes ``(n_steps, batch, *shape)``, and ``"input"`` to the
        input.
    """

    spikes: Tensor
    scores: Tensor
    membrane: Tensor
    recorded: dict[str, Tensor] = field(default_factory=dict)

    @property
    def predictions(self) -> Tensor:
        """Class with the highest score, the first one of equals. Shape (batch,)."""
        return self.scores.argmax(dim=-1)

    def decide(self, decision: str) -> Tensor:
        """Class that wins by ``decision``, one of :data:`biril_nm.coding.DECISIONS`. Shape (batch,).

        Raises:
            ConfigError: an unknown decision.
        """
        if check_decision(decision) == BirilNet.decision:
            return self.predictions
        spikes, membrane = (x.detach().cpu().numpy() for x in (self.spikes, self.membrane))
        found = class_scores(decision, spikes, membrane, 1)
        return torch.from_numpy(found.argmax(axis=-1)).to(self.scores.device)


@dataclass(frozen=True)
class Link:
    """A weight layer between two populations.

    Attributes:
        name: child name of the weight layer.
        layer: the Conv2d or Linear.
        pre: name of the neurons before it, or ``"input"``.
        between: memoryless layers from the pre-neurons to the weight layer (pooling, flatten).
        post: name of the neurons after it.
    """

    name: str
    layer: nn.Module
    pre: str
    between: tuple[nn.Module, ...]
    post: str

    @property
    def weight(self) -> nn.Parameter:
        """The kernel or weight matrix."""
        return cast(nn.Parameter, self.layer.weight)


class BirilNet(nn.Module):
    """A feed-forward spiking network.

    Attributes:
        name: registry name of the architecture.
        config: its configuration.
        layers: named children in order; the last one is the spiking readout.
        decision: how its output decides, on which the losses are made (:mod:`biril_nm.decision`).
    """

    decision: ClassVar[str] = "score"

    def __init__(self, name: str, config: ModelConfig, layers: nn.Sequential) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.layers = layers
        last = list(layers)[-1]
        if not isinstance(last, snn.SpikingNeuron):
            raise ConfigError(
                f"the last layer of '{name}' is {type(last).__name__}; expected a spiking readout"
            )

    @property
    def neurons(self) -> dict[str, snn.Leaky]:
        """The neuron layers by name, in order."""
        return {
            name: layer
            for name, layer in self.layers.named_children()
            if isinstance(layer, snn.SpikingNeuron)
        }

    def links(self) -> tuple[Link, ...]:
        """All weight layers with the populations that they join."""
        found: list[Link] = []
        pre, open_link = "input", None
        between: list[nn.Module] = []
        for name, layer in self.layers.named_children():
            if isinstance(layer, WEIGHT_LAYERS):
                open_link = (name, layer, pre, tuple(between))
            elif isinstance(layer, snn.SpikingNeuron):
                if open_link is not None:
                    found.append(Link(*open_link, post=name))
                pre, between, open_link = name, [], None
            elif open_link is None:
                between.append(layer)
        return tuple(found)

    def reset(self) -> None:
        """Put all neurons to rest."""
        for neuron in self.neurons.values():
            neuron.mem = torch.zeros(0, device=neuron.mem.device)

    def forward(self, x: Tensor, record: bool | Iterable[str] = False) -> NetOutput:
        """Run all steps from rest.

        Args:
            x: input ``(n_steps, batch, *input_shape)`` as the float network sees it (0..1).
            record: True or the names of the populations whose spikes to return.
        """
        self._check_input(x)
        self.reset()
        names = {"input", *self.neurons} if record is True else set(record or ())
        recorded = {"input": x} if "input" in names else {}
        mem = x
        for name, layer in self.layers.named_children():
            if isinstance(layer, snn.SpikingNeuron):
                x, mem = _run_neurons(layer, x)
                if name in names:
                    recorded[name] = x.detach()
            else:
                x = _run_memoryless(layer, x)
        membrane = mem / self.readout.threshold
        return NetOutput(x, x.sum(dim=0) + membrane, membrane, recorded)

    @property
    def readout(self) -> snn.Leaky:
        """The output neurons."""
        return list(self.neurons.values())[-1]

    def encode(self, values: ArrayLike, seed: Seed = 0) -> Tensor:
        """Float input of the net for values in 0..1, through the config's coding.

        Shape:
            ``(batch, *input_shape)`` to ``(n_steps, batch, *input_shape)``.
        """
        device = next(self.parameters()).device
        return encode(self.config.coding, values, seed).to(device)

    def _check_input(self, x: Tensor) -> None:
        if x.ndim < 3 or tuple(x.shape[2:]) != self.config.input_shape or x.shape[0] < 1:
            raise ConfigError(
                f"input of '{self.name}' has shape {tuple(x.shape)}; expected (n_steps, batch, "
                f"{', '.join(map(str, self.config.input_shape))})"
            )

    def extra_repr(self) -> str:
        """Name of the architecture, for ``repr``."""
        return f"'{self.name}', {self.config.coding}"


@checked
def encode(coding: Coding, values: ArrayLike, seed: Seed = 0) -> Tensor:
    """Float input ``(n_steps, batch, *shape)``; direct coding expands one step (stride 0)."""
    message = coding.encode(values, seed)
    if coding.kind == "direct":
        step = torch.from_numpy(coding.to_float(message[0]))
        return step.expand(coding.n_steps, *step.shape)
    return torch.from_numpy(coding.to_float(message))


def _is_constant(x: Tensor) -> bool:
    return x.shape[0] == 1 or x.stride(0) == 0


def _run_memoryless(layer: nn.Module, x: Tensor) -> Tensor:
    folded: Tensor
    single = layer.training and x.shape[1] == 1  # BatchNorm needs more than one value
    if _is_constant(x) and not single:
        once: Tensor = layer(x[0])
        return once.expand(x.shape[0], *once.shape)
    folded = layer(x.flatten(0, 1))
    return folded.reshape(*x.shape[:2], *folded.shape[1:])


def _run_neurons(neuron: Any, current: Tensor) -> tuple[Tensor, Tensor]:
    if can_unroll(neuron):
        return unroll(neuron, current)
    spikes = torch.stack([neuron(step) for step in current])
    return spikes, neuron.mem
