"""From the sum of a rule's products to new weights: grid, normalisation, bounds, rounding.

Our design (the paper names "synaptic normalization" and gives no formula):

* signed kernels: ``dK_o -= mean(dK_o)``, ``dK_o *= eta rms(K_o) / rms(dK_o)``, and after the update
  the L2 norm of K_o is what it was, so the rule turns a kernel and never shrinks it (behind BatchNorm a
  pure shrink would change nothing but the effective step size);
* non-negative kernels: after the update the L1 norm of K_o is what it was (Diehl and Cook 2015).

In the S phase kernels live on the grid of the chip: even integers -256..254 (mixed) or
0..255, times one unit per layer; updates are rounded stochastically. No such operation across synapses
exists on the chip; the rule ``oja`` is its local stand-in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biril_nm.arguments import Seed, checked
from biril_nm.errors import ConfigError
from biril_nm.learning.rule import LearningRule
from biril_nm.learning.rules import OFFSET
from biril_nm.loihi import WEIGHT_BITS, SignMode
from biril_nm.loihi.fixed_point import weight_limits, weight_step
from biril_nm.training.local_rule.gating import rate_gate, winner_gate
from biril_nm.training.local_rule.torch_engine import LayerSpikes, TorchEngine, stochastic_round

__all__ = ["Grid", "LocalLearner", "PlasticityConfig"]

RMS_FLOOR = 1e-12  # keeps 0 / 0 at 0


@checked
@dataclass(frozen=True)
class PlasticityConfig:
    """Settings of the local learning.

    Attributes:
        rule: the rule.
        eta: how far one epoch may turn a signed kernel, relative to its norm, at the initial
            learning rate; :func:`biril_nm.training.fit` spreads it evenly over the batches. (A
            fixed 1e-3 per batch adds up to 0.8 in the 938 batches of MNIST, and test accuracy
            fell from 98.7 to 44 % in one S epoch.)
        winners: winners per sample; 0 switches the competition off.
        radius: inhibition radius of a winner in pixels.
        rate_max: neurons that fire in more than this share of the steps, and more than once, do not learn.
        w_clip: H lets no weight grow beyond it or beyond what the largest one had; S keeps weights within
            the range of the grid, whose end is the largest weight.
        normalize: whether updates are normalised as described above.
        confident: in H, only samples classified correctly drive the rule; a third factor, so the
            rule is then no longer unsupervised.
        shared_rng: one random number per population and step, as Lava draws them.
    """

    rule: LearningRule = OFFSET
    eta: float = 0.05
    winners: int = 8
    radius: int = 1
    rate_max: float = 0.5
    w_clip: float = 1.0
    normalize: bool = True
    confident: bool = False
    shared_rng: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.eta < 1 and 0 < self.rate_max <= 1 and self.w_clip > 0):
            raise ConfigError(
                f"eta is {self.eta}, rate_max {self.rate_max}, w_clip {self.w_clip}; expected eta in "
                f"0..1, rate_max above 0 up to 1, and a positive w_clip"
            )
        if self.winners < 0 or self.radius < 0:
            raise ConfigError(
                f"winners is {self.winners}, radius {self.radius}; expected integers from 0"
            )


@dataclass(frozen=True)
class Grid:
    """Integer weights of one layer: ``weight = unit * integer``.

    Attributes:
        unit: float value of one weight LSB.
        mode: mixed or excitatory.
    """

    unit: float
    mode: SignMode

    @staticmethod
    def of(weight: Tensor) -> Grid:
        """The grid on which the largest weight just fits."""
        mode = SignMode.EXCITATORY if bool((weight >= 0).all()) else SignMode.MIXED
        step = weight_step(WEIGHT_BITS, mode)
        top = weight_limits(mode)[1] // step * step
        return Grid(max(float(weight.abs().max()), RMS_FLOOR) / top, mode)

    @property
    def step(self) -> int:
        """Distance of neighbouring integers: 2 for mixed, 1 for excitatory."""
        return weight_step(WEIGHT_BITS, self.mode)

    def round(self, integers: Tensor, random: Tensor | None = None) -> Tensor:
        """Nearest (or, with ``random``, stochastically rounded) grid integers within limits."""
        scaled = integers / self.step
        rounded = scaled.round() if random is None else stochastic_round(scaled, random)
        low, high = weight_limits(self.mode)
        return (rounded * self.step).clamp_(low, high // self.step * self.step)

    def integers(self, weight: Tensor) -> Tensor:
        """Grid integers of a float weight that lies on the grid."""
        return self.round(weight / self.unit)


class LocalLearner:
    """Applies a rule to the weights of plastic layers.

    Args:
        config: settings.
        seed: seed of all random numbers.
    """

    def __init__(self, config: PlasticityConfig, seed: Seed = 0) -> None:
        self.config = config
        self.generator = torch.Generator().manual_seed(seed)
        self.engine = TorchEngine(config.rule, self.generator, config.shared_rng)

    def gate(self, post: Tensor) -> Tensor:
        """Post-spikes that may drive the rule, same shape as ``post``."""
        gate = rate_gate(post, self.config.rate_max)
        if self.config.winners:
            gate = gate * winner_gate(
                post * gate, self.config.winners, self.config.radius, self.generator
            )
        return post * gate

    def change(
        self,
        layer: nn.Module,
        weight: Tensor,
        mode: SignMode,
        activity: LayerSpikes,
        eta_scale: float = 1.0,
    ) -> Tensor:
        """Weights after one application of the rule, in LSB, not yet rounded to the grid.

        Kernels whose products are all 0 come back as they are.

        Args:
            layer: supplies stride, padding, dilation and groups; its own weights are not read.
            weight: weights in LSB.
            mode: mixed or excitatory.
            activity: spikes on both sides, gated.
            eta_scale: share of ``eta`` that this application may use.
        """
        if self.engine.inert or not bool(activity.post.any()):
            return weight.clone()
        delta = self.engine.delta(layer, weight, activity)
        if self.config.normalize:
            new = self._normalized(weight, delta, mode, self.config.eta * eta_scale)
        else:
            new = weight + delta
        changed = _per_kernel(delta.abs(), "max") > 0
        return torch.where(changed, new.clamp(*weight_limits(mode)), weight)

    def _normalized(self, weight: Tensor, delta: Tensor, mode: SignMode, eta: float) -> Tensor:
        if mode is SignMode.EXCITATORY:
            new = (weight + delta).clamp(min=0.0)
            total = _per_kernel(new.abs(), "sum").clamp(min=RMS_FLOOR)
            return new * (_per_kernel(weight.abs(), "sum") / total)
        delta = delta - _per_kernel(delta, "mean")
        size = _per_kernel(delta.square(), "mean").sqrt().clamp(min=RMS_FLOOR)
        new = weight + delta * (eta * _per_kernel(weight.square(), "mean").sqrt() / size)
        norm = _per_kernel(new.square(), "sum").sqrt().clamp(min=RMS_FLOOR)
        return new * (_per_kernel(weight.square(), "sum").sqrt() / norm)

    def round_to_grid(self, integers: Tensor, grid: Grid) -> Tensor:
        """Grid integers, rounded stochastically per synapse."""
        shape = (1,) if self.config.shared_rng else integers.shape
        random = torch.rand(shape, generator=self.generator).to(integers)
        return grid.round(integers, random)


def _per_kernel(value: Tensor, how: str) -> Tensor:
    """Reduce over everything but the output channel, keeping dimensions."""
    axes = tuple(range(1, value.ndim))
    if how == "max":
        return value.amax(dim=axes, keepdim=True)
    total = value.sum(dim=axes, keepdim=True)
    return total if how == "sum" else total / (value.numel() // max(1, value.shape[0]))
