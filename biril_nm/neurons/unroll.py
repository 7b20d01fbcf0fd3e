"""A layer of neurons over all time steps in one autograd node: the fast path of training.

Equal to calling snnTorch's ``Leaky`` (zero reset, no reset delay) step by step from rest, spikes
and membrane bit for bit, gradients up to rounding:

    v_t = beta m_{t-1} + i_t,    s_t = 1 if v_t > threshold else 0,    m_t = v_t (1 - s_t)
    dL/dv_t = dL/ds_t psi_t + dL/dm_t ((1 - s_t) - v_t psi_t),    dL/dm_{t-1} = beta dL/dv_t

with ``psi_t`` the surrogate's slope at ``v_t - threshold``; gradients flow through the reset.
"""

from __future__ import annotations

from typing import Any

import snntorch as snn
import torch
from torch import Tensor

from biril_nm.neurons.surrogates import Surrogate, slope

__all__ = ["can_unroll", "unroll"]


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, current: Tensor, beta: float, threshold: float, surrogate: Surrogate
    ) -> tuple[Tensor, Tensor]:
        membrane = torch.empty(current.shape, dtype=current.dtype, device=current.device)
        spikes = torch.empty_like(membrane)
        mem: Tensor | None = None
        for t in range(current.shape[0]):
            v = membrane[t]
            if mem is None:
                v.copy_(current[t])
            else:  # two roundings as in snnTorch: torch.add(alpha=beta) may fuse them into one
                torch.add(mem if beta == 1.0 else mem * beta, current[t], out=v)
            torch.gt(v, threshold, out=spikes[t])
            mem = v - spikes[t] * v
        ctx.save_for_backward(membrane)
        ctx.beta, ctx.threshold, ctx.surrogate = beta, threshold, surrogate
        if mem is None:
            mem = current.new_zeros(current.shape[1:])
        return spikes, mem

    @staticmethod
    def backward(
        ctx: Any, grad_spikes: Tensor, grad_mem: Tensor
    ) -> tuple[Tensor, None, None, None]:
        (membrane,) = ctx.saved_tensors
        grad = torch.empty_like(membrane)
        carried = grad_mem
        for t in range(membrane.shape[0] - 1, -1, -1):
            v = membrane[t]
            psi = slope(ctx.surrogate, v - ctx.threshold)
            keep = (v <= ctx.threshold).to(v.dtype).addcmul_(v, psi, value=-1.0)
            torch.mul(grad_spikes[t], psi, out=grad[t])
            grad[t].addcmul_(carried, keep)
            carried = grad[t] * ctx.beta
        return grad, None, None, None


def can_unroll(neuron: snn.Leaky) -> bool:
    """Whether :func:`unroll` means the same as calling ``neuron`` step by step."""
    return (
        type(neuron) is snn.Leaky
        and neuron.reset_mechanism == "zero"
        and not neuron.reset_delay
        and not (neuron.state_quant or neuron.inhibition)
        and not (neuron.beta.requires_grad or neuron.threshold.requires_grad)
        and neuron.beta.numel() == neuron.threshold.numel() == 1
        and float(neuron.graded_spikes_factor) == 1.0
    )


def unroll(neuron: snn.Leaky, current: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes of all steps and the membrane after the last one, from rest.

    Shape:
        current ``(n_steps, batch, *shape)`` to spikes of the same shape and ``(batch, *shape)``.
    """
    beta = float(neuron.beta.clamp(0, 1))
    result: tuple[Tensor, Tensor] = _Unroll.apply(  # type: ignore[no-untyped-call]
        current, beta, float(neuron.threshold), neuron.spike_grad
    )
    return result
