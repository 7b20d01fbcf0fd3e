"""Gradients of online rules and of backpropagation through time, and how near they are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from biril_nm.training.online.learner import online_gradients
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.rules import OnlineRule

Grads = dict[str, Tensor]


def step_loss(labels: Tensor) -> Callable[[Tensor, int], Tensor]:
    return lambda output, t: functional.cross_entropy(output, labels)


def exact(net: OnlineNet, batch: tuple[Tensor, Tensor]) -> Grads:
    x, labels = batch
    net.zero_grad(set_to_none=True)
    torch.stack([step_loss(labels)(out, 0) for out in net(x).spikes]).sum().backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def online(
    net: OnlineNet, batch: tuple[Tensor, Tensor], rule: OnlineRule, block: int = 20
) -> Grads:
    x, labels = batch
    net.zero_grad(set_to_none=True)
    online_gradients(net, x, rule, step_loss(labels), block)
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def error(found: Grads, expected: Grads) -> float:
    """Largest relative error of a parameter's gradient."""
    assert found.keys() == expected.keys()
    return max(float((found[k] - g).norm() / g.norm()) for k, g in expected.items())


def cosine(found: Grads, expected: Grads, name: str = "layers.0.projections.W.weight") -> float:
    return float(functional.cosine_similarity(found[name].flatten(), expected[name].flatten(), 0))
