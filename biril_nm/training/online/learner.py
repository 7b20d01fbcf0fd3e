"""Online gradients: one pass over the steps, no graph of autograd from one block of steps to the next."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from biril_nm.errors import ConfigError
from biril_nm.training.online.kappa import check_separate, readout_decay, slopes, with_filter
from biril_nm.training.online.layer import OWN, Carried, LayerRun, OnlineLayer
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.neurons.neuron import Derivatives, Row, differentiate
from biril_nm.training.online.rules import OnlineRule
from biril_nm.training.online.traces import LayerTraces, Passed

__all__ = ["BLOCK", "OnlineLearner", "StepLoss", "online_gradients"]

StepLoss = Callable[[Tensor, int], Tensor | None]
BLOCK = 20  # steps that are taken in at once


class OnlineLearner:
    """The states and traces of a network that learns while it runs.

    What it keeps from one block to the next has the same size however many steps there were.

    Args:
        net: the network.
        rule: the settings.
        batch: number of samples.
    """

    def __init__(self, net: OnlineNet, rule: OnlineRule, batch: int) -> None:
        self.net, self.t = net, 0
        rule.check_layers(len(net.stack))
        self.carried: list[Carried] = net.rest(batch)
        stack = net.stack
        self.kappa = readout_decay(stack[-1]) if rule.kappa else None
        self.traces = []
        for i, layer in enumerate(stack):
            states = len(layer.neuron.states)
            if self.kappa is not None and layer is not stack[-1]:
                check_separate(layer)
                states += 1
            self.traces.append(LayerTraces(layer, rule, rule.kind_of(i, len(stack)), states))

    @torch.no_grad()
    def take(self, x: Tensor, loss: StepLoss) -> tuple[Tensor, float]:
        """Run a block of steps and add the gradient of their losses to the parameters' ``grad``.

        Args:
            x: ``(steps, batch, *shape)``.
            loss: ``(output of a step, its index) ->`` the loss of the step, or None where it has none.

        Returns:
            The outputs ``(steps, batch, n_classes)`` and the sum of the losses.
        """
        with torch.set_grad_enabled(self.net.features is not None):
            seen = self.net.seen(x)
        runs, outputs = [], seen.detach()
        for i, layer in enumerate(self.net.stack):
            runs.append(layer.run(outputs, self.carried[i]))
            outputs = layer.neuron.send(runs[i].after, layer.values())
            self.carried[i] = runs[i].carried
        learned = self.net.features is not None and seen.requires_grad  # not where they are frozen
        error, total = self._error(outputs, loss)
        for index in range(len(runs) - 1, -1, -1):
            error = self._learn(index, runs[index], error, index > 0 or learned)
        if learned and error is not None:
            seen.backward(error)  # type: ignore[no-untyped-call]
        self.t += len(x)
        return outputs, total

    def _error(self, outputs: Tensor, loss: StepLoss) -> tuple[Tensor | None, float]:
        """Derivative of the losses of a block by its outputs."""
        with torch.enable_grad():  # type: ignore[no-untyped-call]
            leaf = outputs.detach().requires_grad_()
            found = [loss(leaf[i], self.t + i) for i in range(len(leaf))]
            parts = [value for value in found if value is not None]
            if not parts:
                return None, 0.0
            total = torch.stack(parts).sum()
        (error,) = torch.autograd.grad(total, leaf)
        return error, float(total.detach())

    def _learn(
        self, index: int, run: LayerRun, error: Tensor | None, needed: bool
    ) -> Tensor | None:
        """The traces of a layer take a block; returns the error of the layer below if it is needed."""
        layer, traces = self.net.stack[index], self.traces[index]
        values = layer.values()
        before = tuple(h[:-1] for h in run.states)
        d = differentiate(layer.neuron, before, run.inputs, values, layer.learned)
        signals: Row = (None,) * len(before)
        with torch.enable_grad():  # type: ignore[no-untyped-call]
            leaves = tuple(h.detach().requires_grad_() for h in run.after)
            sent = layer.neuron.send(leaves, values)
        if error is not None:
            signals = torch.autograd.grad(sent, leaves, error, retain_graph=True, allow_unused=True)
            self._learn_sending(layer, sent, error)
        below = _below(layer, d, signals) if needed and error is not None else None
        passed = (d.states, _columns(d.inputs), _columns(d.values), signals)
        if self.kappa is not None and layer is not self.net.stack[-1]:
            passed = with_filter(passed, slopes(sent, leaves), error, self.kappa)
        traces.take(Passed(*passed, run.sources, self.t))
        return below

    def _learn_sending(self, layer: OnlineLayer, sent: Tensor, error: Tensor) -> None:
        """Add the gradient of parameters that what is sent depends on by itself, such as a threshold.

        Raises:
            ConfigError: there are such, and the readout's memory would have to follow them (kappa).
        """
        own = {name: layer.parameters_by_name()[name] for name in layer.learned}
        if not own:
            return
        found = torch.autograd.grad(
            sent, tuple(own.values()), error, retain_graph=True, allow_unused=True
        )
        for (name, parameter), gradient in zip(own.items(), found):
            if gradient is None:
                continue
            if self.kappa is not None:
                raise ConfigError(
                    f"what {layer.neuron.name} neurons send depends on {name}, which learns; expected for "
                    f"kappa neurons that send their state alone. Leave kappa out"
                )
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def tensors(self) -> list[Tensor]:
        """All that is kept from one block to the next."""
        found = [x for traces in self.traces for x in traces.tensors()]
        for state, sources in self.carried:
            found += [*state, *sources.values()]
        return found


def _columns(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(zip(*rows))


def _below(layer: OnlineLayer, d: Derivatives, signals: Row) -> Tensor:
    """``dL_t/ds_t`` of the layer below: through f and the weights of this step.

    Raises:
        ConfigError: no weights lead from there, or only from a part.
    """
    total: Tensor | None = None
    for name, projection in layer.links():
        if projection.wiring.source == OWN:
            continue
        if projection.wiring.columns is not None:
            raise ConfigError(
                f"projection '{name}' takes columns {projection.wiring.columns} of the layer below; expected "
                f"all of them. Mask its weights instead"
            )
        for part, row in zip(signals, d.inputs):
            f = row[projection.wiring.channel]
            if part is not None and f is not None:
                found = (part * f) @ projection.weight
                total = found if total is None else total + found
    if total is None:
        raise ConfigError(
            f"no weights lead from the layer below to a layer of {layer.neuron.name}; expected a projection "
            f"with source 'below'. Add one"
        )
    return total


def online_gradients(
    net: OnlineNet, x: Tensor, rule: OnlineRule, loss: StepLoss, block: int = BLOCK
) -> tuple[Tensor, float]:
    """Outputs of all steps and the sum of the losses; gradients are added to the parameters' ``grad``.

    Args:
        net: the network.
        x: input ``(n_steps, batch, ...)``.
        rule: the settings; ``max_norm`` works step by step.
        loss: the loss of a step.
        block: steps that are taken in at once; apart from rounding the result does not depend on it.
    """
    learner = OnlineLearner(net, rule, x.shape[1])
    outputs, total = [], 0.0
    size = 1 if rule.max_norm else block
    for start in range(0, len(x), size):
        out, value = learner.take(x[start : start + size], loss)
        outputs.append(out)
        total += value
    return torch.cat(outputs), total
