"""A population whose forward pass is the chip's step, and whose backward pass is a surrogate gradient.

Forward, in 64-bit integers, is the step of the compartment model itself. Backward, with y the potential
before the spike, theta the threshold ``vth << 6``, psi the surrogate slope and rounding, wrap and clip
taken as identities (the reset is not differentiated):

    dL/dy_t     = dL/ds_t psi(y_t / theta - 1) / theta + dL/dv_t (1 - s_t [reset to zero at once])
    dL/du_t     = dL/dy_t + dL/du_{t+1} keep_u / 4096
    dL/da_t     = 64 dL/du_t
    dL/dv_{t-1} = dL/dy_t keep_v / 4096 (1 - s_{t-1} [reset to zero one step late])
    dL/dtheta   = - sum_t dL/ds_t psi y_t / theta**2 - (dL/dv_t s_t or dL/dy_t s_{t-1}) [by subtraction]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from biril_nm.compartments import CUBA_LIF, RESET_MODELS, CompartmentModel, SpikeReset
from biril_nm.errors import ConfigError
from biril_nm.hw_graph import Neurons
from biril_nm.loihi import DECAY_UNITY, STATE_LIMIT, VTH_SHIFT, WEIGHT_SHIFT, ChipProfile, ResetMode
from biril_nm.loihi.fixed_point import bias_registers
from biril_nm.neurons.surrogates import slope
from biril_nm.training.integers.checks import VTH_MIN
from biril_nm.training.integers.fused import Form
from biril_nm.training.integers.module import IntegerModule
from biril_nm.training.integers.straight import round_half_away, straight_through

__all__ = ["Constants", "QuantizedNeurons", "State", "advance"]

(_UNRESET,) = (model for model in RESET_MODELS if model.reset.mode is ResetMode.NONE)
HEADROOM = STATE_LIMIT / 8  # of v, for thresholds: v may fall that many of them below zero
UNIT = 256.0  # integer weight units per unit of v where nothing says better


class Constants(NamedTuple):
    """What a step needs of the registers, in units of v, as float64 tensors that hold integers."""

    keep_u: Tensor
    keep_v: Tensor
    bias: Tensor
    theta: Tensor


class State(NamedTuple):
    """u and v of all samples, ``(batch, *shape)``, float64 tensors that hold integers."""

    u: Tensor
    v: Tensor


class _Advance(torch.autograd.Function):
    """All steps of a population in one node of the graph of gradients."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, u: Tensor, v: Tensor, bias: Tensor, theta: Tensor, fixed: Any
    ) -> tuple[Tensor, ...]:
        keep_u, keep_v, model, _ = fixed
        constants = tuple(x.long() for x in (keep_u, keep_v, bias, theta))
        # The step of CUBA_LIF does not return the potential before the spike.
        zero_at_once = model is CUBA_LIF
        step = (_UNRESET if zero_at_once else model).step
        state = (u.long(), v.long())
        spikes, us, vs, before = [], [], [], []
        for current in a.long():
            before.append(state[1])
            (u_now, v_now), s = step(current, state, constants)
            spikes.append(s)
            us.append(u_now)
            vs.append(v_now)
            state = (u_now, v_now * (1 - s) if zero_at_once else v_now)
        s_all, u_all, v_all = (torch.stack(each) for each in (spikes, us, vs))
        if model.reset.mode is ResetMode.SUBTRACT and not model.reset.delayed:
            y_all = v_all + s_all * constants[3]
        else:
            y_all = v_all
        if zero_at_once:
            v_all = v_all * (1 - s_all)
        ctx.fixed = fixed
        ctx.save_for_backward(s_all.bool(), y_all.double(), torch.stack(before).double(), theta)
        recorded = (u_all.double(), v_all.double())
        ctx.mark_non_differentiable(*recorded)
        return s_all.double(), state[0].double(), state[1].double(), *recorded

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        spikes, y, before, theta = ctx.saved_tensors
        keep_u, keep_v, model, surrogate = ctx.fixed
        reset: SpikeReset = model.reset
        zero, fall = reset.mode is ResetMode.ZERO, reset.mode is ResetMode.SUBTRACT
        g_s, g_u, g_v = grads[:3]
        d_a = torch.empty_like(y)
        d_bias, d_theta = torch.zeros_like(y[0]), torch.zeros_like(y[0])
        for t in reversed(range(len(y))):
            late = (before[t] > theta).to(y.dtype)
            above = y[t] - late * theta if reset.guarded else y[t]
            psi = slope(surrogate, above / theta - 1) / theta
            d_theta -= g_s[t] * psi * y[t] / theta
            d_y = g_s[t] * psi
            if reset.delayed:
                d_y = d_y + g_v
                d_y = d_y * (1 - late) if reset.loses_input else d_y
                d_theta -= d_y * late if fall else 0
            else:
                d_y = d_y + g_v * (1 - spikes[t].to(y.dtype)) if zero else d_y + g_v
                d_theta -= g_v * spikes[t] if fall else 0
            g_u = d_y + g_u
            d_bias += d_y
            d_a[t] = g_u * (1 << WEIGHT_SHIFT)
            g_u = g_u * keep_u / DECAY_UNITY
            g_v = d_y * keep_v / DECAY_UNITY
            if reset.delayed and zero and not reset.loses_input:
                g_v = g_v * (1 - late)
        return d_a, g_u, g_v, d_bias.sum(0), d_theta.sum(0), None


def advance(
    a: Tensor, state: State, constants: Constants, model: CompartmentModel, surrogate: Any
) -> tuple[Tensor, State, State]:
    """Spikes, the state after the last step, and u and v of all steps (without gradients).

    Args:
        a: summed input ``(n_steps, batch, *shape)``, float64 that holds integers.
        state: before the first step.
        constants: of shape ``shape``.
        model: CUBA-LIF with any reset.
        surrogate: slope of the spikes (:mod:`biril_nm.neurons.surrogates`).
    """
    fixed = (constants.keep_u, constants.keep_v, model, surrogate)
    s, u, v, us, vs = _Advance.apply(  # type: ignore[no-untyped-call]
        a, *state, constants.bias.expand(a.shape[2:]), constants.theta.expand(a.shape[2:]), fixed
    )
    return s, State(u, v), State(us, vs)


class QuantizedNeurons(IntegerModule):
    """Registers of one population: float values per threshold, rounded at every pass.

    With S = exp(log_scale), integer weight units per unit of v: ``vth = round(S v_th)`` and
    ``bias = 64 S b``, rounded to a mantissa and the exponent of the population.

    Args:
        node: the population; decays and model stay.
        scale: S of the lowering, or None: what ``vth`` says.
        chip: limits of the registers.
        per_channel: whether each channel (first axis) learns a scale of its own.
        trained: whether its registers learn; those of integrators and of pooling stay.
    """

    threshold: Tensor
    keep_u: Tensor
    keep_v: Tensor
    bias: Tensor
    theta: Tensor

    def __init__(
        self,
        node: Neurons,
        scale: float | None,
        chip: ChipProfile,
        per_channel: bool,
        trained: bool,
    ) -> None:
        super().__init__()
        self.node, self.chip, self.trained = node, chip, trained
        self.model = _trainable(node)
        vth = np.asarray(node.vth, dtype=np.float64)
        # All at the largest threshold would say that nothing spikes.
        self.vth_max = max(chip.vth_max - 1, int(vth.max()))
        if scale is None:  # of integers from elsewhere: their threshold, if anything reaches it
            scale = float(np.median(vth)) if trained and np.median(vth) > 0 else UNIT
        unit = float(scale)
        channels = node.shape[0] if per_channel else 1
        lead = (channels, *(1,) * (len(node.shape) - 1))
        self.log_scale = nn.Parameter(
            torch.full(lead, unit, dtype=torch.float32).log(), requires_grad=trained
        )
        self.register_buffer("threshold", torch.as_tensor(vth / unit).float())
        constants = [np.asarray(c) for c in self.model.prepare(node.registers)]
        for name, value in zip(Constants._fields, constants):
            self.register_buffer(name, torch.as_tensor(np.array(value)).double())
        self.form = Form(node.shape, self.model, constants[0], constants[1])
        values = _per_channel(constants[2] / (unit * (1 << WEIGHT_SHIFT)), node.shape)
        self.drive = nn.Parameter(torch.as_tensor(np.array(values)).float(), requires_grad=trained)

    @property
    def scale(self) -> Tensor:
        """S, ``(channels or 1, 1, ...)``, in float64, so that float32 and float64 latents round alike."""
        return self.log_scale.double().exp()

    def scale_limits(self) -> tuple[np.ndarray[Any, Any], float, bool]:
        """What :func:`best_factors` asks: limits of factors by registers, gain of u, one factor for all."""
        scale = self.scale.detach()
        bias = self.chip.bias_mant_max << self.chip.bias_exp_max
        tops = [
            torch.full(self.node.shape, HEADROOM / (1 << VTH_SHIFT)).double(),
            self.vth_max / self.threshold.double().clamp_min(1e-9),
            bias / (self.drive.double().abs() * (1 << WEIGHT_SHIFT)).clamp_min(1e-9),
        ]
        limits = [
            (top / scale).expand(self.node.shape).reshape(self.node.shape[0], -1) for top in tops
        ]
        limit = torch.stack([each.amin(1) for each in limits]).amin(0)
        gain = DECAY_UNITY / max(1.0, DECAY_UNITY - float(self.keep_u.max()))
        return limit.cpu().numpy(), gain, self.log_scale.shape[0] == 1

    def multiply_scales(self, factors: np.ndarray[Any, Any]) -> None:
        """Other scales for the channels."""
        lead = self.log_scale.shape
        more = torch.as_tensor(np.log(factors[: lead[0]])).to(self.log_scale)
        self.log_scale.add_(more.reshape(lead))

    def vth(self) -> Tensor:
        """Threshold registers, straight through the rounding."""
        wanted = self.scale * self.threshold
        value = round_half_away(wanted.detach()).clamp(VTH_MIN, self.vth_max)
        return straight_through(wanted, value)

    def bias_registers(self) -> tuple[Tensor, int]:
        """Bias in units of v, straight through the rounding, and its exponent."""
        wanted = self.scale * self.drive * (1 << WEIGHT_SHIFT)
        mant_max, exp_max = self.chip.bias_mant_max, self.chip.bias_exp_max
        top = mant_max << exp_max
        inside = wanted.detach().clamp(-top, top).cpu().numpy()
        mantissa, exponent = bias_registers(inside, mant_max, exp_max)
        value = torch.as_tensor(mantissa << exponent).double().to(wanted.device)
        return straight_through(wanted, value), exponent

    def constants(self) -> Constants:
        """What a pass needs."""
        if not self.trained:
            return Constants(self.keep_u, self.keep_v, self.bias, self.theta)
        bias, _ = self.bias_registers()
        return Constants(self.keep_u, self.keep_v, bias, self.vth() * (1 << VTH_SHIFT))

    def integers(self) -> Neurons:
        """The population with the registers of now."""
        if not self.trained:
            return self.node
        bias, exponent = self.bias_registers()
        found: Mapping[str, Any] = {
            "vth": _register(self.vth(), self.node.shape),
            "bias_mant": _register(bias / 2**exponent, self.node.shape),
            "bias_exp": exponent,
        }
        registers = {**self.node.registers, **found}
        return Neurons(self.node.shape, model=self.node.model, registers=registers)


def _trainable(node: Neurons) -> CompartmentModel:
    model = node.compartment
    if not any(model is other for other in (CUBA_LIF, *RESET_MODELS)):
        known = ", ".join(other.name for other in (CUBA_LIF, *RESET_MODELS))
        raise ConfigError(
            f"compartment model '{model.name}' has no gradient; expected one of {known}. Train the float "
            f"network and lower it"
        )
    return model


def _per_channel(values: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """One value per channel, ``(C, 1, 1)``, where its neurons have the same; else as they are."""
    full = np.broadcast_to(values, shape)
    first = full.reshape(shape[0], -1)[:, :1].reshape(shape[0], *(1,) * (len(shape) - 1))
    return first if np.array_equal(np.broadcast_to(first, shape), full) else full


def _register(value: Tensor, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    found = value.detach().cpu().numpy().astype(np.int64)
    return found.reshape(()) if found.size == 1 else np.broadcast_to(found, shape)
