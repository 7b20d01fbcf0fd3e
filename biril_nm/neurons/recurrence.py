"""snnTorch's ``Leaky`` over all steps, as two pure functions of tensors: forward and backward.

    r_t = 1 if m_{t-1} > threshold else 0
    v_t = beta m_{t-1} + i_t                    (reset "none")
    v_t = beta m_{t-1} + i_t - r_t threshold    ("subtract")
    v_t = beta (1 - r_t) m_{t-1} + i_t          ("zero")
    s_t = 1 if v_t > threshold else 0,    m_t = v_t; without reset delay, with d_t = s_t - r_t,
    m_t = v_t - d_t threshold ("subtract") or m_t = v_t - d_t v_t ("zero")

No gradient flows through r; ``ds/dv = psi(v - threshold)``, the surrogate's slope, flows through s and d.
The functions run as they are, or compiled by torch into one loop over the neurons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Reset", "Slope", "backward_steps", "forward_steps"]

Slope = Callable[[Tensor], Tensor]  # the surrogate derivative, of v - threshold


class Reset(NamedTuple):
    """How a population resets.

    Attributes:
        subtract: by subtraction of the threshold.
        zero: to zero.
        now: without delay, in the step of the spike.
    """

    subtract: bool
    zero: bool
    now: bool


class _Step(NamedTuple):
    r: Tensor | None  # None: nothing is reset before the step
    before: Tensor | None  # beta multiplies it; None: 0
    v: Tensor
    fired: Tensor
    after: Tensor


def _step(
    mem: Tensor | None, current: Tensor, beta: Tensor, threshold: Tensor, reset: Reset
) -> _Step:
    late = mem is not None and (reset.subtract or (reset.zero and not reset.now))
    r = (mem > threshold) if late and mem is not None else None
    before = torch.where(r, 0.0, mem) if r is not None and reset.zero and mem is not None else mem
    v = current if before is None else beta * before + current
    if r is not None and reset.subtract:
        v = v - r.to(v.dtype) * threshold
    fired = v > threshold
    after = v
    if reset.now and reset.zero:
        after = torch.where(fired, 0.0, v)
    elif reset.now and reset.subtract:
        d = fired.to(v.dtype) if r is None else fired.to(v.dtype) - r.to(v.dtype)
        after = v - d * threshold
    return _Step(r, before, v, fired, after)


def forward_steps(
    current: Tensor,
    n_steps: int,
    beta: Tensor,
    threshold: Tensor,
    reset: Reset,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Spikes of all steps and the membrane after the last one.

    Args:
        current: input, one step for all if it has one.
        n_steps: number of steps.
        beta: decay.
        threshold: of the neurons.
        reset: how they reset.
        start: membrane before the first step; None: rest.

    Shape:
        current ``(n_steps or 1, batch, ...)``, start ``(batch, ...)``.
    """
    mem = start
    spikes = []
    for t in range(n_steps):
        step = _step(mem, current[t if len(current) > 1 else 0], beta, threshold, reset)
        mem = step.after
        spikes.append(step.fired.to(current.dtype))
    if mem is None or not spikes:
        return current[:0], torch.zeros_like(current[0]) if mem is None else mem
    return torch.stack(spikes), mem


def backward_steps(
    tensors: tuple[Tensor, Tensor, Tensor, Tensor | None],
    grads: tuple[Tensor, Tensor],
    reset: Reset,
    slope: Slope,
    learned: tuple[bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
    """Gradients of current, beta, threshold and start; the second and third before they are summed.

    Args:
        tensors: current, beta, threshold and start, as the forward had them.
        grads: of spikes and of the last membrane.
        reset: how it resets.
        slope: psi.
        learned: whether beta and threshold need a gradient.
    """
    current, beta, threshold, start = tensors
    grad_spikes, carried = grads
    steps: list[_Step] = []
    for t in range(len(grad_spikes)):
        mem = steps[-1].after if steps else start
        steps.append(_step(mem, current[t if len(current) > 1 else 0], beta, threshold, reset))
    grad_current: list[Tensor] = []
    grad_beta = torch.zeros_like(carried) if learned[0] else None
    grad_threshold = torch.zeros_like(carried) if learned[1] else None
    for t in range(len(steps) - 1, -1, -1):
        step = steps[t]
        psi = slope(step.v - threshold)
        grad_v = grad_spikes[t] * psi + carried * _after_by_v(step, psi, threshold, reset)
        if grad_threshold is not None:
            by_threshold = _by_threshold(step, psi, threshold, reset)
            grad_threshold = grad_threshold - grad_spikes[t] * psi + carried * by_threshold
            if step.r is not None and reset.subtract:
                grad_threshold = grad_threshold - step.r.to(grad_v.dtype) * grad_v
        if grad_beta is not None and step.before is not None:
            grad_beta = grad_beta + grad_v * step.before
        grad_current.append(grad_v)
        carried = beta * grad_v
        if step.r is not None and reset.zero:
            carried = torch.where(step.r, 0.0, carried)
    found = torch.stack(grad_current[::-1])
    if len(current) == 1:
        found = found.sum(dim=0, keepdim=True)
    return found, grad_beta, grad_threshold, carried


def _after_by_v(step: _Step, psi: Tensor, threshold: Tensor, reset: Reset) -> Tensor:
    """Derivative of the membrane after the step by v."""
    if reset.now and reset.zero:
        found: Tensor = (~step.fired).to(psi.dtype) - step.v * psi
        return found
    if reset.now and reset.subtract:
        return torch.ones_like(psi) - threshold * psi
    return torch.ones_like(psi)


def _by_threshold(step: _Step, psi: Tensor, threshold: Tensor, reset: Reset) -> Tensor:
    """Derivative of the membrane after the step by the threshold, at the same v."""
    if reset.now and reset.zero:
        return step.v * psi
    if reset.now and reset.subtract:
        d = step.fired.to(psi.dtype)
        return threshold * psi - (d if step.r is None else d - step.r.to(psi.dtype))
    return torch.zeros_like(psi)
