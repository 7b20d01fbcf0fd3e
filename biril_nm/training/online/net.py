"""OnlineNet: layers of online neurons over time, with a readout; by backpropagation too.

Modules without memory may stand before the layers, such as convolutions of the frames of a camera.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from biril_nm.coding import Coding
from biril_nm.errors import ConfigError
from biril_nm.models.links import Link
from biril_nm.models.spiking_net import NetOutput, SpikingNet
from biril_nm.training.online.layer import Carried, OnlineLayer
from biril_nm.training.online.rules import DECAY, rank_of

__all__ = ["OnlineNet"]


class OnlineNet(SpikingNet):
    """A chain of layers; the last one is the readout, whose potentials are the output.

    The score of a class is the sum of its output over the steps from ``first_step`` on.

    Args:
        layers: the layers, from the input to the readout.
        coding: how values become the input.
        first_step: where the window of the decision begins; negative: counted from the end.
        features: ``(samples, *shape) -> (samples, n)``, applied to each step on its own. In the online rules
            its parameters get the gradient of their own step alone: a trace of what they did before would
            have the size of its outputs times its parameters.
        decay: alpha of phase ``es-d-rtrl``.

    Raises:
        ConfigError: no hidden layer, features that keep something from one call to the next, or a decay
            outside of 0 to 1.
    """

    engines = False

    def __init__(
        self,
        layers: Sequence[OnlineLayer],
        coding: Coding | None = None,
        first_step: int = 0,
        features: nn.Module | None = None,
        decay: float = DECAY,
    ) -> None:
        super().__init__()
        if len(layers) < 2:
            found = "1 layer" if layers else "no layers"
            raise ConfigError(
                f"the network has {found}; expected a hidden layer and a readout, or more. Add them"
            )
        self.name = "online_" + "_".join(layer.neuron.name for layer in layers)
        self.coding = coding or Coding("spikes", 1)
        self.n_classes: int | None = layers[-1].size
        self.layers = nn.ModuleList(layers)
        self.first_step, self.decay = first_step, decay
        rank_of(decay)  # refuses what is not between 0 and 1
        held = [name for name, _ in features.named_buffers()] if features is not None else []
        if held:
            raise ConfigError(
                f"the features hold {', '.join(held[:4])}, which change from call to call; expected modules "
                f"without buffers, so without BatchNorm. Use GroupNorm, say"
            )
        self.features = features

    def seen(self, x: Tensor) -> Tensor:
        """What the first layer receives: the steps through the features, ``(n_steps, batch, n)``."""
        if self.features is None:
            return x.flatten(2)
        found: Tensor = self.features(x.flatten(0, 1))
        return found.reshape(*x.shape[:2], -1)

    @property
    def stack(self) -> list[OnlineLayer]:
        """The layers."""
        return [layer for layer in self.layers if isinstance(layer, OnlineLayer)]

    @property
    def neurons(self) -> dict[str, Any]:
        """The layers by name, for the rates of :func:`biril_nm.training.evaluate`."""
        return {f"layers.{i}": layer for i, layer in enumerate(self.stack)}

    def links(self) -> tuple[Link, ...]:
        """Refused: the local rules work on Linear and Conv2d between populations.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"'{self.name}' has projections of online layers, and a local rule changes Linear and Conv2d; "
            f"expected a schedule of B, d-rtrl and es-d-rtrl. Leave S and H out"
        )

    def first_scored(self, n_steps: int) -> int:
        """Index of the first step of the decision, of an input of ``n_steps``.

        Raises:
            ConfigError: the input has no such step.
        """
        if not -n_steps <= self.first_step < n_steps:
            raise ConfigError(
                f"first_step is {self.first_step} and the input has {n_steps} steps; expected {-n_steps} to "
                f"{n_steps - 1}. Give more steps, or another first_step"
            )
        return self.first_step % n_steps

    def scored_steps(self, n_steps: int) -> int:
        """Steps over which the scores are summed."""
        return n_steps - self.first_scored(n_steps)

    def rest(self, batch: int) -> list[Carried]:
        """All layers at rest."""
        return [Carried(layer.rest(batch), {}) for layer in self.stack]

    def forward(self, x: Tensor, record: bool | Iterable[str] = False) -> NetOutput:
        """Run all steps from rest.

        Args:
            x: input ``(n_steps, batch, ...)``.
            record: True or names of layers whose spikes to return.
        """
        first = self.first_scored(len(x))
        names = {"input", *self.neurons} if record is True else set(record or ())
        recorded = {"input": x} if "input" in names else {}
        sent = self.seen(x)
        for (name, layer), carried in zip(self.neurons.items(), self.rest(x.shape[1])):
            run, values = layer.run(sent, carried), layer.values()
            sent = layer.neuron.send(run.after, values)
            if name in names:
                recorded[name] = layer.neuron.spikes(run.after, values)
        return NetOutput(sent, sent[first:].sum(0), sent[-1], recorded)

    @torch.no_grad()
    def constrain(self) -> None:
        """Put all parameters back into their bounds; call it after each update."""
        for layer in self.stack:
            layer.constrain()
