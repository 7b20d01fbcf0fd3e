"""The torch interpreter of a LearningRule: batches, shared kernels, 8-bit weights.

One evaluation sums the rule's products over batch, time and position. With pre-factors X (input
spikes or traces, padded) and post-factors Y that sum is a weight gradient of the layer itself,

    dK[o,i,a] = 1 / n_o  sum_{t,b,p} Y[t,b,o,p] X[t,b,i,p+a],    n_o = max(1, post spikes of o),

so a shared kernel gets the average over all its copies, as an unrolled layer with tied weights would.
Traces are the chip's (7-bit integers, stochastic rounding, impulse of the same step included);
the right shift of long products (lava-nc 0.10.0 learning_rule_applier.py) enters as its scale,
its floor has no meaning on an average. Units: weights and dK are in the chip's weight LSB.

This is training code on the host: averaging, normalisation and gates are our design and have no
counterpart on the chip. The published BIRIL code contains an STDP learner but never calls it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from biril_nm._moved import renamed
from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.learning.rule import TRACES, Factor, LearningRule, Term, Trace
from biril_nm.loihi import TRACE_FRACTION_UNITS, TRACE_MAX, TRACE_RANDOM_UNITS

__all__ = ["LayerSpikes", "TorchEngine", "check_layer", "run_trace", "stochastic_round"]


@dataclass(frozen=True)
class LayerSpikes:
    """What a plastic layer saw and caused in one forward pass.

    Shape:
        pre ``(n_steps, batch, *pre_shape)`` spikes of the source neurons; post
        ``(n_steps, batch, *post_shape)`` spikes of the target neurons (after gating).

    Attributes:
        between: memoryless linear layers from the source to the weight layer (pooling, flatten);
            traces belong to the source neurons and pass through them.
    """

    pre: Tensor
    post: Tensor
    between: Sequence[nn.Module] = ()


def stochastic_round(value: Tensor, random: Tensor) -> Tensor:
    """``floor(value) + (1 if random < fraction else 0)``; ``random`` uniform in [0, 1)."""
    low = value.floor()
    return low + (random < value - low).to(value.dtype)


def run_trace(
    spikes: Tensor, trace: Trace, generator: torch.Generator, shared_rng: bool = False
) -> Tensor:
    """Trace of every neuron at every step, after that step's impulse.

    Per step: ``z = exp(-1/tau) trace``, rounded stochastically, plus the impulse where a spike is,
    at most 127. The fraction f of an impulse rounds up with probability ``min(1, 2 f)``, as in
    Lava, which compares 8 bits with a 7-bit random number.

    Args:
        spikes: binary, ``(n_steps, batch, *shape)``.
        trace: impulse and time constant.
        generator: source of the random numbers (on the CPU).
        shared_rng: one random number per step for all neurons, as Lava draws them.

    Shape:
        The result has the shape of ``spikes``.
    """
    whole = int(trace.impulse)
    fraction = round((trace.impulse - whole) * TRACE_FRACTION_UNITS)
    state = torch.zeros_like(spikes[0])
    history = torch.empty_like(spikes)
    for t in range(spikes.shape[0]):
        shape = (1,) if shared_rng else state.shape
        if t > 0:
            random = torch.rand(shape, generator=generator).to(state)
            state = stochastic_round(state * trace.decay, random)
        impulse: Tensor | float = float(whole)
        if fraction:
            draw = torch.randint(TRACE_RANDOM_UNITS, shape, generator=generator).to(state)
            impulse = whole + (draw < fraction).to(state.dtype)
        state = (state + spikes[t] * impulse).clamp_(0, TRACE_MAX)
        history[t] = state
    return history


class TorchEngine:
    """Evaluates the ``dw`` of one rule.

    Args:
        rule: what to run; one learning phase per step, no tags or delays.
        generator: source of the random numbers.
        shared_rng: see :func:`run_trace`.

    Raises:
        ConfigError: the rule needs something that exists on the chip only.
    """

    def __init__(
        self, rule: LearningRule, generator: torch.Generator, shared_rng: bool = False
    ) -> None:
        chip_only = []
        if rule.dt or rule.dd or rule.used() & {"t", "d"}:
            chip_only.append("tags and delays (dt, dd, t, d)")
        if rule.t_epoch != 1:
            chip_only.append(f"t_epoch {rule.t_epoch} (the engine evaluates at every step)")
        if rule.three_factor:
            chip_only.append("third factors from outside")
        if not rule.dw:
            chip_only.append("no dw")
        if rule.three_factor:
            chip_only.append("third factors from outside")
        if chip_only:
            raise ConfigError(
                f"learning rule '{rule.name}' cannot be used in training: {', '.join(chip_only)}. "
                f"Run it in hardware_sim or Lava"
            )
        self.rule = rule
        self.generator = generator
        self.shared_rng = shared_rng

    @property
    def inert(self) -> bool:
        """Whether all coefficients are 0, so that the rule changes nothing."""
        return not any(term.mantissa for term in self.rule.dw)

    def delta(self, layer: nn.Module, weight: Tensor, activity: LayerSpikes) -> Tensor:
        """Averaged change of the weights in weight LSB, before rounding and saturation.

        Args:
            layer: Conv2d (any stride, padding, dilation, groups; zero padding) or Linear.
            weight: the layer's weights in LSB; factor ``w`` of the rule.
            activity: spikes on both sides.

        Raises:
            UnsupportedNodeError: another kind of layer, or not one neuron for each of its outputs.
        """
        check_layer(layer)
        states = _as_layer_has_them(layer, self._states(activity))
        events = states["y0"].sum(dim=[d for d in range(states["y0"].ndim) if d != 2])
        result = torch.zeros_like(weight)
        for term in self.rule.dw:
            if term.mantissa:
                result += self._term(term, layer, weight, states)
        return result / events.clamp(min=1.0).view(-1, *[1] * (weight.ndim - 1))

    def _states(self, activity: LayerSpikes) -> dict[str, Tensor]:
        """Spikes and traces of both sides; the pre side as the weight layer sees it."""
        used = self.rule.used()
        states: dict[str, Tensor] = {"x0": activity.pre, "y0": activity.post}
        for name in TRACES:
            if name in used:
                source = states["x0" if name.startswith("x") else "y0"]
                states[name] = run_trace(
                    source, self.rule.trace(name), self.generator, self.shared_rng
                )
        for name in ("x0", "x1", "x2"):
            if name in states:
                states[name] = _through(activity.between, states[name])
        return states

    def _term(
        self, term: Term, layer: nn.Module, weight: Tensor, states: dict[str, Tensor]
    ) -> Tensor:
        """One product, summed over batch, time and position; no post event, no change."""
        pre = torch.ones_like(states["x0"][:, :1]).expand_as(states["x0"])
        post = torch.ones_like(states["y0"][:, :1]).expand_as(states["y0"])
        synaptic: Tensor | float = term.coefficient / 2.0**term.shift
        factors = term.operands
        if term.dependency == "u":
            phases = torch.arange(1, post.shape[0] + 1, device=post.device)
            due = (phases % 2**self.rule.decimation == 0).to(post.dtype)
            post = post * due.view(-1, *[1] * (post.ndim - 1))
        else:
            factors = (Factor(term.dependency), *factors)
        for factor in factors:
            if factor.variable == "w":
                synaptic = synaptic * _clip(weight, factor)
            elif factor.variable.startswith("x"):
                pre = pre * _clip(states[factor.variable], factor)
            else:
                post = post * _clip(states[factor.variable], factor)
        return synaptic * _correlate(layer, pre, post, weight.shape)


def _clip(value: Tensor, factor: Factor) -> Tensor:
    """A factor with its constant, clipped to its width, or the sign of the sum."""
    shifted = value + factor.constant if factor.constant else value
    if factor.is_sgn:
        return shifted.sign()
    limit = 1 << factor.width
    return shifted.clamp(-limit, limit - 1) if factor.constant else shifted


def check_layer(layer: nn.Module) -> None:
    """Refuse a layer that a rule cannot change.

    Raises:
        UnsupportedNodeError: another kind of layer, another padding than by zeros, or weights that are
            computed from other parameters.
    """
    if "weight" not in layer._parameters:
        raise UnsupportedNodeError(
            f"the weights of {layer} are computed from other parameters (weight_norm, parametrizations); a "
            f"local rule changes weights that are stored. Remove the parametrization"
        )
    if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros":
        if isinstance(layer.padding, str):
            raise UnsupportedNodeError(
                f"Conv2d with padding='{layer.padding}' cannot learn locally. Give the padding as "
                f"numbers"
            )
        return
    if not isinstance(layer, nn.Linear):
        raise UnsupportedNodeError(
            f"layer {layer} cannot learn by a local rule; expected Linear, or Conv2d padded with zeros"
        )


def _through(layers: Sequence[nn.Module], value: Tensor) -> Tensor:
    """``value`` (time, batch, ...) through memoryless layers."""
    for layer in layers:
        folded = layer(value.flatten(0, 1))
        value = folded.reshape(*value.shape[:2], *folded.shape[1:])
    return value


def _as_layer_has_them(layer: nn.Module, states: dict[str, Tensor]) -> dict[str, Tensor]:
    """Values of both sides as the layer takes and makes them: neurons may have another shape.

    Positions to which a Linear applies the same weights count as samples.
    """
    lead, shape = states["x0"].shape[:2], states["x0"].shape[2:]
    made: tuple[int, ...]
    if isinstance(layer, nn.Conv2d):
        padding = cast(tuple[int, ...], layer.padding)
        sizes = zip(shape[1:], layer.kernel_size, layer.stride, padding, layer.dilation)
        made = (
            layer.out_channels,
            *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes),
        )
        as_taken, as_made = (*lead, *shape), (*lead, *made)
    else:
        made = (*shape[:-1], int(cast(nn.Linear, layer).out_features))
        as_taken, as_made = (lead[0], -1, shape[-1]), (lead[0], -1, made[-1])
    given = tuple(states["y0"].shape[2:])
    if math.prod(made) != math.prod(given):
        raise UnsupportedNodeError(
            f"{layer} makes values of shape {made}, and the neurons behind it have {given}; expected a "
            f"neuron for each, since the rule pairs them. Put pooling behind the neurons, or use B only"
        )
    return {
        name: value.reshape(as_taken if name.startswith("x") else as_made)
        for name, value in states.items()
    }


def _correlate(layer: nn.Module, pre: Tensor, post: Tensor, shape: torch.Size) -> Tensor:
    """``sum Y[o] X[i]`` over all copies of each weight."""
    x, y = pre.flatten(0, 1), post.flatten(0, 1)
    if isinstance(layer, nn.Conv2d):
        gradient: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
            x, shape, y, layer.stride, layer.padding, layer.dilation, layer.groups
        )
        return gradient
    return y.t() @ x


__getattr__ = renamed(__name__, {"Activity": LayerSpikes})
