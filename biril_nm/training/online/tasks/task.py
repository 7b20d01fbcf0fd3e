"""OnlineTask: a network, samples for it and the settings of each method; and its training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from biril_nm.training.online.layer import OnlineLayer, layer_of
from biril_nm.training.online.learner import online_gradients
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.neurons.readout import LEAKY_READOUT
from biril_nm.training.online.rules import D_RTRL, ES_D_RTRL, OnlineRule

__all__ = ["BPTT", "METHODS", "Method", "OnlineTask", "leaky_readout", "step_gradients"]

BPTT = "bptt"
# Ways to compute the gradient of a task.
METHODS = (BPTT, D_RTRL, ES_D_RTRL)


@dataclass(frozen=True)
class Method:
    """How a task is learned.

    Attributes:
        lr: learning rate of Adam.
        factor: the rate is multiplied by it every ``every`` batches.
        every: see factor.
        decay: of ES-D-RTRL.
        clip: largest norm of all gradients together; None: any.
        readout: kind of rule of the readout, where it differs from that of the layers below.
        cut: whether spikes pass no derivative to the slow current of GIF neurons.
    """

    lr: float = 1e-3
    factor: float = 1.0
    every: int = 1
    decay: float = 0.9
    clip: float | None = 1.0
    readout: str = ""
    cut: bool = False

    def rule(self, name: str) -> OnlineRule | None:
        """The online rule of the method called ``name``; None for backpropagation."""
        if name == BPTT:
            return None
        readout = self.readout or name
        if {name, readout} == {D_RTRL}:
            return OnlineRule(name)
        return OnlineRule(name, decay=self.decay, kinds={-1: readout})


@dataclass(frozen=True)
class OnlineTask:
    """A task.

    Attributes:
        name: its name.
        doc: what it asks for, in one line.
        make_net: ``(seed, cut) ->`` the network.
        sample: ``(generator, batch) ->`` inputs ``(n_steps, batch, n)`` and labels.
        batch: samples of one update.
        n_batches: updates at most.
        n_test: test samples.
        enough: training ends when the mean accuracy of the last 100 batches reaches it; above 1: never.
        methods: settings by the name of the method.
        test: ``(first, number) ->`` test samples, where there is a fixed set; None: further samples.
    """

    name: str
    doc: str
    make_net: Callable[[int, bool], OnlineNet]
    sample: Callable[[torch.Generator, int], tuple[Tensor, Tensor]]
    batch: int = 128
    n_batches: int = 1000
    n_test: int = 512
    enough: float = 0.95
    methods: Mapping[str, Method] = field(default_factory=dict)
    test: Callable[[int, int], tuple[Tensor, Tensor]] | None = None


def leaky_readout(seed: int, n_in: int, n_classes: int, decay: float) -> OnlineLayer:
    """A readout whose membrane keeps ``exp(-decay)`` a step; its weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return layer_of(LEAKY_READOUT, n_in, n_classes, constants={"al": math.exp(-decay)})


def step_gradients(
    net: OnlineNet, x: Tensor, labels: Tensor, rule: OnlineRule | None
) -> tuple[Tensor, float]:
    """Outputs ``(n_steps, batch, n_classes)`` and loss of a batch; gradients go to the parameters.

    The loss is the cross-entropy of each step from ``net.first_step`` on, averaged over these steps, in
    backpropagation (rule None) as in the online rules.
    """
    first = net.first_scored(len(x))
    n_steps = len(x) - first

    def loss(output: Tensor, t: int) -> Tensor | None:
        return functional.cross_entropy(output, labels) / n_steps if t >= first else None

    if rule is not None:
        return online_gradients(net, x, rule, loss)
    out = net(x).spikes
    flat = out[first:].flatten(0, 1)
    whole = functional.cross_entropy(flat, labels.repeat(n_steps))
    whole.backward()  # type: ignore[no-untyped-call]
    return out.detach(), float(whole.detach())
