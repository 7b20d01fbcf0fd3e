"""BirilNet: named torch layers and snnTorch neurons, run over time.

``net.layers`` is the ordinary snnTorch network: called on one step's input at a time it keeps its
state inside, and its names of modules are the names in NIR and in the integer graph. ``net(x)``
computes the same for all steps at once (:mod:`biril_nm.models.folded`): layers without memory see time
folded into the batch (and a constant input only once), neurons run through
:func:`biril_nm.neurons.unroll.unroll`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from biril_nm.coding import Coding
from biril_nm.errors import ConfigError
from biril_nm.models.config import ModelConfig
from biril_nm.models.links import Link, find_links
from biril_nm.models.running import run_steps, step_graph
from biril_nm.models.spiking_net import NetOutput, SpikingNet, encode
from biril_nm.models.tracing import UntraceableError, is_neuron, reset_neurons

__all__ = ["BirilNet", "Link", "NetOutput", "encode"]


class BirilNet(SpikingNet):
    """A feed-forward spiking network.

    Attributes:
        name: registry name of the architecture.
        config: its configuration.
        layers: the network of one step; it returns the spikes of the readout.
        decision: how its output decides, on which the losses are made (:mod:`biril_nm.decision`).
    """

    def __init__(self, name: str, config: ModelConfig, layers: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.layers = layers
        children = list(layers.children())
        if not children or not is_neuron(children[-1]):
            found = type(children[-1]).__name__ if children else "missing"
            raise ConfigError(f"the last layer of '{name}' is {found}; expected a spiking readout")

    @property
    def coding(self) -> Coding:  # type: ignore[override]  # of the configuration
        """How values become its input."""
        return self.config.coding

    @property
    def n_classes(self) -> int:  # type: ignore[override]  # of the configuration
        """Number of classes."""
        return self.config.n_classes

    @property
    def neurons(self) -> dict[str, Any]:
        """The neuron layers by name, in order."""
        return {name: layer for name, layer in self.layers.named_modules() if is_neuron(layer)}

    def links(self) -> tuple[Link, ...]:
        """All weight layers with the populations that they join.

        Raises:
            ConfigError: the layers' forward cannot be traced.
        """
        try:
            return find_links(step_graph(self.layers), self.layers)
        except UntraceableError as error:
            raise ConfigError(
                f"the links of '{self.name}' cannot be found: {error}. Write its forward without "
                f"conditions on values"
            ) from error

    def reset(self) -> None:
        """Put all neurons to rest."""
        reset_neurons(self.layers)

    def forward(self, x: Tensor, record: bool | Iterable[str] = False) -> NetOutput:
        """Run all steps from rest.

        Args:
            x: input ``(n_steps, batch, *input_shape)`` as the float network sees it (0..1).
            record: True or the names of the populations whose spikes to return, ``"input"`` too.

        Raises:
            ConfigError: an unknown name, or another shape.
        """
        self._check_input(x)
        names = self.recorded_names(record)
        run = run_steps(self.layers, x, names)
        membrane = run.membranes[self.readout_name] / self.readout.threshold
        recorded = {"input": x, **run.recorded} if "input" in names else run.recorded
        return NetOutput(
            run.output, run.output.sum(dim=0, dtype=membrane.dtype) + membrane, membrane, recorded
        )

    @property
    def readout_name(self) -> str:
        """Name of the output neurons."""
        return list(self.neurons)[-1]

    @property
    def readout(self) -> Any:
        """The output neurons."""
        return self.neurons[self.readout_name]

    def _check_input(self, x: Tensor) -> None:
        if x.ndim < 3 or tuple(x.shape[2:]) != self.config.input_shape or x.shape[0] < 1:
            raise ConfigError(
                f"input of '{self.name}' has shape {tuple(x.shape)}; expected (n_steps, batch, "
                f"{', '.join(map(str, self.config.input_shape))})"
            )

    def extra_repr(self) -> str:
        """Name of the architecture, for ``repr``."""
        return f"'{self.name}', {self.config.coding}"
