"""A LearningRule on a Linear layer in torch, bit for bit as the chip's simulators compute it.

:class:`~biril_nm.training.local_rule.torch_engine.TorchEngine` averages a rule over batches and
positions; this class takes the same rule object without any average: one sample, one Linear layer, integer
weights, and the random streams of lava-nc 0.10.0. Weights, tags and traces equal those of
``hardware_sim`` and of Lava's ``LearningDense`` (``fixed_pt``) after every step, which closes the loop
from local learning in training to learning on the chip. Everything is computed for all synapses with
tensor operations, on any device.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biril_nm.errors import ConfigError
from biril_nm.learning.random_streams import RandomStreams, decay_products, modulator_tau
from biril_nm.learning.rule import POST_TRACES, PRE_TRACES, TRACES, LearningRule
from biril_nm.learning.terms import Factor, Term
from biril_nm.loihi import (
    LEARN_ACC_MAX,
    LEARN_ACC_MIN,
    LEARN_ACC_SHIFT,
    TAG_MAX,
    TAG_T_MIN,
    TRACE_FRACTION_UNITS,
    TRACE_MAX,
    WEIGHT_BITS,
    SignMode,
)
from biril_nm.loihi.fixed_point import truncate_weights, weight_limits

__all__ = ["ChipLearner"]

INT32_SPAN = 1 << 32


def _wrap(value: Tensor) -> Tensor:
    """Low 32 bits, signed: the register of a product."""
    return (value + INT32_SPAN // 2) % INT32_SPAN - INT32_SPAN // 2


class ChipLearner:
    """Learns the integer weights of one Linear layer, step by step.

    Args:
        rule: any rule, of two or three factors.
        weight: integers (post, pre), in weight LSB.
        sign_mode: mixed, excitatory or inhibitory.
        weight_bits: bits of the initial weights, which are truncated as on the chip.
        tag_t, tag_d: initial tags, zeros by default.

    Attributes:
        synapses: "w", "t", "d" to int64 tensors (post, pre).
        traces: "x1", "x2" (pre,) and "y1", "y2", "y3" (post,) to int64 tensors.
    """

    def __init__(
        self,
        rule: LearningRule,
        weight: Tensor,
        sign_mode: SignMode = SignMode.MIXED,
        weight_bits: int = WEIGHT_BITS,
        tag_t: Tensor | None = None,
        tag_d: Tensor | None = None,
    ) -> None:
        if weight.is_floating_point() or weight.ndim != 2:
            raise ConfigError(
                f"weights are {weight.dtype} of shape {tuple(weight.shape)}; expected integers "
                f"(post, pre)"
            )
        self.rule, self.sign_mode = rule, sign_mode
        own = truncate_weights(weight.detach().cpu().numpy(), weight_bits, sign_mode)
        w = torch.from_numpy(own).to(weight.device)
        self.synapses = {
            name: w if tag is w else (torch.zeros_like(w) if tag is None else tag.to(w))
            for name, tag in (("w", w), ("t", tag_t), ("d", tag_d))
        }
        post, pre = w.shape
        self.traces = {name: w.new_zeros(pre if name in PRE_TRACES else post) for name in TRACES}
        self._spike = {"x": w.new_zeros(pre), "y": w.new_zeros(post)}
        self._streams = RandomStreams(rule)
        self._step = 0
        self._products = {name: self._decay(name) for name in TRACES}
        self._impulse = {name: self._split(name) for name in TRACES}

    def _given(self, name: str) -> bool:
        return self.rule.three_factor and name in POST_TRACES

    def _decay(self, name: str) -> tuple[Tensor, Tensor]:
        """Whole and fractional part of ``exp(-1/tau) k`` for each value of a trace."""
        tau = modulator_tau() if self._given(name) else self.rule.trace(name).tau
        product = torch.from_numpy(decay_products(float(tau)))
        return product.floor().long(), product % 1

    def _split(self, name: str) -> tuple[int, int]:
        impulse = 0.0 if self._given(name) else self.rule.trace(name).impulse
        whole = int(impulse)
        return whole, int(np.round((impulse - whole) * TRACE_FRACTION_UNITS))

    def step(self, pre: Tensor, post: Tensor, third: Mapping[str, Tensor] | None = None) -> None:
        """Take the spikes of one step; learn if it ends an epoch.

        Args:
            pre: spikes of the sources (pre,), or payloads.
            post: spikes of the targets (post,), of the same step.
            third: of three-factor rules, "y1", "y2", "y3" to values 0..127 (post,), 0 by default.
        """
        uniform, integer = self._streams.draw(self._step, 1)
        self._step += 1
        now = (self._step - 1) % self.rule.t_epoch + 1
        self._spikes("x", pre != 0, now, 0)
        self._spikes("y", post != 0, now, int(integer[0, 2]))
        if self.rule.three_factor:
            for name in POST_TRACES:
                value = (third or {}).get(name)
                old = self.traces[name]
                self.traces[name] = torch.zeros_like(old) if value is None else value.to(old)
        if now == self.rule.t_epoch:
            self._learn(uniform[0], integer[0])

    def _spikes(self, side: str, spikes: Tensor, now: int, draw: int) -> None:
        """Note spike times; a second spike in the epoch adds its impulse at once."""
        again = spikes & (self._spike[side] > 0)
        for name in PRE_TRACES if side == "x" else POST_TRACES:
            if not self._given(name):
                self.traces[name] = self._add(name, self.traces[name], again, draw)
        self._spike[side] = torch.where(spikes, now, self._spike[side])

    def _add(self, name: str, trace: Tensor, where: Tensor, draw: int) -> Tensor:
        whole, fraction = self._impulse[name]
        more = (trace + whole + int(draw < fraction)).clamp(0, TRACE_MAX)
        return torch.where(where, more, trace)

    def _history(self, name: str, random: float, draw: int) -> Tensor:
        """Trace at steps 0..t_epoch of the epoch, (t_epoch + 1, n)."""
        whole, fraction = (part.to(self.traces[name].device) for part in self._products[name])
        rows = [self.traces[name]]
        for k in range(1, self.rule.t_epoch + 1):
            decayed = whole[rows[-1]] + (random < fraction[rows[-1]]).long()
            rows.append(self._add(name, decayed, self._spike[name[0]] == k, draw))
        return torch.stack(rows)

    def _learn(self, uniform: NDArray[np.float64], integer: NDArray[np.int32]) -> None:
        history = {
            name: self._history(name, float(uniform[side]), int(integer[side]))
            for side, names in enumerate((PRE_TRACES, POST_TRACES))
            for name in names
        }
        for name in TRACES:
            if not self._given(name):
                self.traces[name] = history[name][-1]
        new = {
            name: self._change(name, history, int(integer[3]))
            for name in ("w", "t", "d")
            if self.rule.terms(f"d{name}")
        }
        self.synapses.update(new)
        self._spike = {side: torch.zeros_like(times) for side, times in self._spike.items()}

    def _change(self, name: str, history: Mapping[str, Tensor], rounding: int) -> Tensor:
        """New values of one synaptic variable; all products see the old ones."""
        acc = self.synapses[name] << LEARN_ACC_SHIFT
        for term in self.rule.terms(f"d{name}"):
            acc = (acc + self._product(term, history)).clamp(LEARN_ACC_MIN, LEARN_ACC_MAX)
        low, high = weight_limits(self.sign_mode)
        if name == "d" or (name == "w" and self.sign_mode is SignMode.EXCITATORY):
            acc = acc.clamp(min=0)
        elif name == "w" and self.sign_mode is SignMode.INHIBITORY:
            acc = acc.clamp(max=0)
        if name != "w":
            low, high = (TAG_T_MIN if name == "t" else 0), TAG_MAX
        up = (1 << LEARN_ACC_SHIFT) - 1 - rounding
        return ((acc + up) >> LEARN_ACC_SHIFT).clamp(low, high)

    def _product(self, term: Term, history: Mapping[str, Tensor]) -> Tensor:
        """``clip((mantissa D prod(factors) >> shift) << exp)`` in a 32-bit register, (post, pre)."""
        times, gate = self._gate(term.dependency)
        product = gate * term.signed_mantissa
        for factor in term.operands:
            product = _wrap(product * self._factor(factor, times, history))
        shifted = _wrap((product >> term.shift) << (term.exp + LEARN_ACC_SHIFT))
        return shifted.clamp(LEARN_ACC_MIN, LEARN_ACC_MAX)

    def _gate(self, dependency: str) -> tuple[Tensor, Tensor]:
        """Step of the epoch at which each synapse reads its traces, and whether it counts."""
        shape = self.synapses["w"].shape
        if dependency == "x0":
            times = self._spike["x"].unsqueeze(0).expand(shape)
        elif dependency == "y0":
            times = self._spike["y"].unsqueeze(1).expand(shape)
        else:
            phase = self._step // self.rule.t_epoch
            due = phase % 2**self.rule.decimation == 0
            times = torch.full_like(self.synapses["w"], self.rule.t_epoch)
            return times, torch.full_like(times, int(due))
        return times, (times > 0).long()

    def _factor(self, factor: Factor, times: Tensor, history: Mapping[str, Tensor]) -> Tensor:
        name = factor.variable
        if name in self.synapses:
            value = self.synapses[name]
        elif name in ("x0", "y0"):
            spiked = (self._spike[name[0]] > 0).long()
            value = spiked.unsqueeze(0 if name == "x0" else 1).expand_as(times)
        elif name in PRE_TRACES:
            value = history[name].gather(0, times)
        else:
            value = history[name].t().gather(1, times)
        value = value + factor.constant
        limit = 1 << factor.width
        return (value.sign() if factor.is_sgn else value).clamp(-limit, limit - 1)
