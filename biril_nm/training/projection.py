"""Learning by projection: each hidden layer learns from the output's error, or from the label, directly.

No gradient passes from layer to layer. What arrives at the spikes of a hidden population, at each step, is

    e = B^T d        B (classes, *shape) fixed, uniform in +-sqrt(6 / size of the population)

and goes on by the layer's own gradient: through its surrogate, its reset, its decay from step to step, and
whatever lies between its weights and its spikes. The output population has the gradient of the loss.
With y the one-hot labels, o the spikes of the output per step and n the samples of the batch, d is

* ``dfa``, direct feedback alignment: the gradient of the loss by the scores;
* ``sdfa``: the signs of o - y, divided by n;
* ``brp``, label projection (BRP of spiking networks, DRTP of others): y / n;
* ``shallow``: 0, so that hidden layers do not learn.

``fa``, feedback alignment, sends the gradient from layer to layer, by fixed random weights of the same shape
in the place of the transposed ones; a loop inside a population keeps its own weights. B and these weights
are drawn once in a run and stored in its checkpoint.

A division by n makes the gradient of each layer a mean over samples, as that of the loss is. The published
code of BRP divides that of the output only; under Adam, which knows no scale of gradients, both are the same.

The ``-online`` variants take one step for all of time, ``delta_t = psi_t e``: no gradient flows from a step
to the one before.

Source: Nokland 2016 (DFA), Lillicrap et al. 2016 (FA), Frenkel, Lefebvre and Bol 2019 (DRTP), Zhang et al.
(BRP-SNN).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from biril_nm.errors import ConfigError
from biril_nm.models.spiking_net import NetOutput, SpikingNet
from biril_nm.models.taps import WEIGHTED, Taps, tapped
from biril_nm.models.tracing import is_neuron
from biril_nm.training.losses import LOSSES
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.phase import Batch, Metrics, PhaseState, metrics_of, optimizer_step

if TYPE_CHECKING:
    from biril_nm.training.config import TrainConfig

__all__ = ["SIGNALS", "check_projection", "feedback_alignment", "feedback_weights", "projected"]

FEEDBACK = "feedback/"  # names of what a run keeps

Signal = Callable[[Tensor, Tensor, Tensor], Tensor]


def _label(error: Tensor, rate: Tensor, onehot: Tensor) -> Tensor:
    del error, rate
    return onehot / len(onehot)


def _error(error: Tensor, rate: Tensor, onehot: Tensor) -> Tensor:
    del rate, onehot
    return error


def _sign(error: Tensor, rate: Tensor, onehot: Tensor) -> Tensor:
    del error
    return (rate - onehot).sign() / len(onehot)


SIGNALS: dict[str, Signal | None] = {"brp": _label, "dfa": _error, "sdfa": _sign, "shallow": None}
"""What is projected, of the gradient by the scores, the mean output and the one-hot labels, all
``(batch, classes)``; None: nothing."""


def feedback_weights(state: PhaseState, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """The fixed random weights called ``name``, drawn the first time: uniform in ±sqrt(6 / prod(shape[1:])).

    Raises:
        ConfigError: the run has others of another shape.
    """
    key = FEEDBACK + name
    if key not in state.kept:
        generator = torch.Generator().manual_seed(state.seed ^ zlib.crc32(name.encode()))
        bound = math.sqrt(6.0 / max(1, math.prod(shape[1:])))
        drawn = torch.rand(shape, generator=generator)
        state.kept[key] = ((2 * drawn - 1) * bound).to(like)
    found = state.kept[key]
    if found.shape != shape or not found.is_floating_point():
        raise ConfigError(
            f"the feedback weights of '{name}' have shape {tuple(found.shape)} and type {found.dtype}; "
            f"expected {tuple(shape)}. Start the run again"
        )
    state.kept[key] = found.to(like)
    return state.kept[key]


def check_projection(net: SpikingNet, settings: TrainConfig) -> None:
    """Refuse what has no layers to project to, or whose layers cannot be cut from each other.

    Raises:
        ConfigError: with the reason.
    """
    if net.exact:
        raise ConfigError(
            f"'{net.name}' computes in integers, whose layers learn together; expected a float network. "
            f"Train it by projection first, or use a schedule of B, S and H"
        )
    if isinstance(net, OnlineNet):
        raise ConfigError(
            f"'{net.name}' has projections of online layers, which cannot be cut from each other; expected a "
            f"network of snnTorch neurons. Use a schedule of B, d-rtrl and es-d-rtrl"
        )
    if settings.checkpoint_steps:
        raise ConfigError(
            f"checkpoint_steps is {settings.checkpoint_steps}, and schedule '{settings.schedule}' has phases "
            f"that learn by projection; expected 0. Leave checkpoint_steps out"
        )
    if not set(net.neurons) - {net.readout_name}:
        raise ConfigError(
            f"'{net.name}' has no hidden neurons to project to; expected a hidden layer. Add one, or use "
            f"schedule B"
        )


@dataclass
class _Cuts:
    """Spikes of the hidden populations, with their gradients, which go no further."""

    readout: str | None
    spikes: dict[str, list[Tensor]] = field(default_factory=dict)

    def __call__(self, name: str, spikes: Tensor) -> Tensor:
        if name == self.readout:
            return spikes
        self.spikes.setdefault(name, []).append(spikes)
        return spikes.detach()


def projected(
    net: SpikingNet,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    state: PhaseState,
    signal: str = "brp",
    one_step: bool = False,
) -> Metrics:
    """A step of learning by projection of one of :data:`SIGNALS`."""
    x, labels = batch
    net.train()
    net.adapt(x)
    cuts = _Cuts(net.readout_name)
    with tapped(Taps(spikes=cuts, one_step=one_step)):
        out: NetOutput = net(x)
    if not cuts.spikes:
        raise ConfigError(
            f"'{net.name}' has shown no hidden spikes; expected a network of snnTorch neurons with a hidden "
            f"layer. Use schedule B"
        )
    scores = out.scores.detach().requires_grad_()
    loss = LOSSES[state.loss](scores, labels, x.shape[0])
    (error,) = torch.autograd.grad(loss, scores)
    ends, gradients = [out.scores], [error]
    project = SIGNALS[signal]
    if project is not None:
        rate = out.spikes.detach().mean(dim=0).to(error)
        d = project(error, rate, functional.one_hot(labels, scores.shape[1]).to(error))
        for name, spikes in cuts.spikes.items():
            b = feedback_weights(state, name, (d.shape[1], *spikes[0].shape[2:]), d)
            e = torch.tensordot(d, b, 1)
            learning = [s for s in spikes if s.requires_grad]
            ends += learning
            gradients += [e.to(s).expand_as(s) for s in learning]
    _step_by(net, optimizer, state, (ends, gradients))
    return metrics_of(out, labels, loss)


def _step_by(
    net: SpikingNet,
    optimizer: torch.optim.Optimizer,
    state: PhaseState,
    ends: tuple[list[Tensor], list[Tensor]],
) -> None:
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(*ends)  # type: ignore[no-untyped-call]
    optimizer_step(net, optimizer, state)


class _Feedback(torch.autograd.Function):
    """The output of a weight layer; its gradient by the input is that of other weights."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, x: Tensor, other: Callable[..., Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.other = other
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():  # type: ignore[no-untyped-call]
            point = x.detach().requires_grad_()
            output = ctx.other(point)
            (found,) = torch.autograd.grad(output, point, grad.to(output))
        return grad, found, None


def feedback_alignment(
    net: SpikingNet, batch: Batch, optimizer: torch.optim.Optimizer, state: PhaseState
) -> Metrics:
    """A step of B whose gradient passes each weight layer by fixed random weights.

    Raises:
        ConfigError: it passes weights in another way than by a layer of these kinds.
    """
    x, labels = batch
    net.train()
    net.adapt(x)
    names = {module: name for name, module in net.named_modules()}

    called: set[nn.Module] = set()

    def connect(layer: nn.Module, given: Tensor, output: Tensor) -> Tensor:
        called.add(layer)
        if not given.requires_grad:
            return output
        weight = layer.weight
        own: Any = feedback_weights(state, names[layer], weight.shape, weight.detach())
        parameters = {"weight": own.to(given)}
        if layer.bias is not None:
            parameters["bias"] = layer.bias.detach().to(given)
        other = partial(torch.func.functional_call, layer, parameters)  # type: ignore[attr-defined]
        found: Tensor = _Feedback.apply(output, given, other)  # type: ignore[no-untyped-call]
        return found

    with tapped(Taps(weighted=connect)):
        out: NetOutput = net(x)
    loss = LOSSES[state.loss](out.scores, labels, x.shape[0])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    _refuse_true_weights(net, called)
    optimizer_step(net, optimizer, state)
    return metrics_of(out, labels, loss)


def _refuse_true_weights(net: nn.Module, called: set[nn.Module]) -> None:
    """Refuse weights that a gradient has passed itself: those of no layer that was called."""
    known = set(called)
    for module in net.modules():
        if is_neuron(module):
            known.update(module.modules())
    wrong = [
        f"{name}.{key}" if name else key
        for name, module in net.named_modules()
        if module not in known and not isinstance(module, nn.LayerNorm)
        for key, p in module.named_parameters(recurse=False)
        if p.ndim > 1 and (p.grad is not None or not p.requires_grad)
    ]
    if wrong or not called:
        raise ConfigError(
            f"gradients pass {', '.join(wrong) or 'weights'} that no call of a layer uses; expected calls of "
            f"{', '.join(kind.__name__ for kind in WEIGHTED)}, whose weights schedule fa replaces. Call such "
            f"layers with the input alone, or use a schedule of B or dfa"
        )
