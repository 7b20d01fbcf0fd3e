"""A connection whose weights are float latents, rounded to the grid of the chip at every pass."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from biril_nm._torch import float32_convolves, float32_is_exact
from biril_nm.hw_graph import Connection, Conv, Sparse
from biril_nm.loihi import CONV_SUM_HALF, INT32_HALF, SignMode
from biril_nm.loihi.fixed_point import prepare_weights, weight_limits, weight_step
from biril_nm.loihi.integers import to_int32
from biril_nm.training.integers.module import IntegerModule
from biril_nm.training.integers.pooling import NO_POOL, Pool, find_pool, folded, geometry, repeated
from biril_nm.training.integers.scales import GridLink
from biril_nm.training.integers.straight import clipped, round_half_away, straight_through

__all__ = ["Arrival", "QuantizedConnection", "Sent", "Weights"]

EXACT = 1 << 24  # below it float32 holds every integer


class Sent(NamedTuple):
    """Spikes of a node ``(n_steps, batch, *shape)``, or their sums over blocks of its last two dimensions."""

    values: Tensor
    pool: Pool = NO_POOL

    def pooled(self, pool: Pool) -> Tensor:
        """Sums over blocks."""
        if pool == self.pool:
            return self.values
        folded = functional.avg_pool2d(self.values.flatten(0, 1), pool, divisor_override=1)
        return folded.reshape(*self.values.shape[:2], *folded.shape[1:])


class Weights(NamedTuple):
    """Integers of one pass, in a type that holds all sums exactly, and a bound on the finished sums."""

    stored: Tensor
    bound: float
    wraps: bool


class Arrival(NamedTuple):
    """What arrives at a target, ``(n_steps, batch, *shape)``, integers; none has a larger magnitude."""

    a: Tensor
    bound: float


class QuantizedConnection(IntegerModule):
    """``w = step round(clip(S W / (x 2**weight_exp step)))`` with W per threshold of the target.

    x is the largest input: the largest payload times the size of a block. So W is what the float network
    has for values up to 1, in every layer of one size, and one learning rate suits all. Weights that repeat
    over blocks of the source, as lowering makes them of pooling by average, are one latent each.

    Args:
        node: the connection; geometry, exponent, bits, sign mode and delay stay.
        ideal: weights before rounding in the connection's integer units, flat, in stored order.
        scale: S of the target, integer weight units per unit of v, as it broadcasts to the target.
        shapes: of source and target.
        payload: largest magnitude of a spike of the source.
        trained: whether its weights learn.
        symmetric: whether weights of both signs have as many levels below 0 as above.
    """

    fixed: Tensor
    places: Tensor

    def __init__(
        self,
        node: Connection,
        ideal: np.ndarray[Any, Any],
        scale: Tensor,
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
        payload: int,
        trained: bool,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        self.node, self.payload = node, payload
        self.source_shape, self.target_shape = shapes
        mode = SignMode(node.sign_mode)
        stored = node.weight.data if isinstance(node, Sparse) else node.weight
        self.step = weight_step(node.weight_bits, mode)
        if isinstance(node, Conv):
            if np.any(stored % self.step):
                self.step = 1  # nothing prepares kernels, so that any integer may stand in a file
        else:
            stored = prepare_weights(stored, node.weight_bits, mode)
        low, high = weight_limits(mode)
        self.low, self.high = -(-low // self.step), high // self.step
        if symmetric and mode is SignMode.MIXED:
            self.low = -self.high
        if isinstance(node, Sparse):
            coo = node.weight.tocoo()
            places = torch.as_tensor(np.stack([coo.row, coo.col]).astype(np.int64))
            self.register_buffer("places", places)
        wanted = np.asarray(ideal, dtype=np.float64).reshape(stored.shape)
        self.pool = find_pool(node, wanted if trained else stored, self.source_shape)
        one_each = folded(np.asarray(stored, dtype=np.float64), self.pool, self.source_shape)
        self.register_buffer("fixed", torch.as_tensor(np.ascontiguousarray(one_each)))
        self.weight: nn.Parameter | None = None
        if trained:
            with torch.no_grad():
                rows = self.rows(scale)
                wanted = folded(wanted, self.pool, self.source_shape)
                latent = (
                    torch.as_tensor(np.ascontiguousarray(wanted)) * self.unit / self.step / rows
                )
                # Spikes that are passed on as they are (around a block) stay equal, in units of v.
                learns = not (isinstance(node, Sparse) and wanted.size and np.ptp(wanted) == 0)
                self.weight = nn.Parameter(latent.float(), requires_grad=learns)

    @property
    def unit(self) -> float:
        """Share of S that a latent of 1 is for each step of the grid."""
        return 2.0**self.node.weight_exp * self.step * self.payload * self.pool[0] * self.pool[1]

    def rows(self, scale: Tensor) -> Tensor:
        """S of the target, shaped to multiply the stored weights."""
        if isinstance(self.node, Conv):
            return scale.reshape(-1, 1, 1, 1)
        rows: Tensor = scale.expand(self.target_shape).reshape(-1)
        found: Tensor = rows[self.places[0]] if isinstance(self.node, Sparse) else rows[:, None]
        return found

    def integers(self, scale: Tensor) -> Tensor:
        """Stored weights, one of each block, straight through the rounding."""
        if self.weight is None:
            return self.fixed
        wanted = clipped(self.weight * (self.rows(scale) / self.unit), self.low, self.high)
        return straight_through(wanted, round_half_away(wanted.detach())) * self.step

    def weights(self, scale: Tensor) -> Weights:
        """The integers of a pass with scales S."""
        values = self.integers(scale)
        bound = self._largest()
        if not self._fits(bound):
            bound = self._bound(values)
        plain = self._fits(bound) and values.device.type == "cpu" and float32_is_exact()
        plain = plain and (not isinstance(self.node, Conv) or float32_convolves())
        kind = torch.float32 if plain else torch.float64
        top = bound * 2.0 ** max(self.node.weight_exp, 0)
        wraps = top >= self._range
        return Weights(values.to(kind), float(INT32_HALF) if wraps else top, wraps)

    @property
    def _range(self) -> int:
        """Finished sums of a smaller magnitude do not wrap."""
        return CONV_SUM_HALF if isinstance(self.node, Conv) else INT32_HALF

    def _fits(self, bound: float) -> bool:
        """Whether float32 holds all sums, none of which wraps."""
        top = bound * 2.0 ** max(self.node.weight_exp, 0)
        return bound / self.step < EXACT and top < self._range

    def _largest(self) -> float:
        """Bound on the sums of weights that the grid holds; infinite for others."""
        if self.weight is None or isinstance(self.node, Sparse):
            return math.inf
        fan_in = self.weight.numel() // max(1, len(self.weight))
        largest = max(-self.low, self.high) * self.step
        return float(fan_in * largest * self.payload * self.pool[0] * self.pool[1])

    def forward(self, sent: Sent, weights: Weights) -> Arrival:
        """What arrives at the target, float32 where it holds all sums, else float64."""
        lead, kind = sent.values.shape[:2], weights.stored.dtype
        spikes = Sent(sent.values.to(kind), sent.pool).pooled(self.pool).flatten(0, 1)
        sums = self._sums(spikes, weights.stored)
        # cuDNN may convolve by FFT, whose error in float64 is some 2**-43 of the bound: rounding removes it.
        if kind == torch.float64 and sums.device.type != "cpu":
            sums = straight_through(sums, sums.detach().round())
        finished = self._wrapped(sums) if weights.wraps else self._shifted(sums)
        return Arrival(finished.reshape(*lead, *self.target_shape), weights.bound)

    def _bound(self, weight: Tensor) -> float:
        """No sum has a larger magnitude."""
        size = weight.detach().abs()
        if isinstance(self.node, Sparse):
            n = int(np.prod(self.target_shape))
            rows = torch.zeros(n, dtype=size.dtype, device=size.device)
            rows = rows.index_add(0, self.places[0], size)
        else:
            rows = size.flatten(1).sum(1)
        block = self.pool[0] * self.pool[1]
        return float(rows.max()) * self.payload * block if rows.numel() else 0.0

    def _sums(self, spikes: Tensor, weight: Tensor) -> Tensor:
        node = self.node
        if isinstance(node, Conv):
            return functional.conv2d(spikes, weight, None, *geometry(node, self.pool))
        if isinstance(node, Sparse):
            matrix = torch.sparse_coo_tensor(
                self.places, weight, node.weight.shape, check_invariants=False
            )
            sums: Tensor = torch.sparse.mm(matrix, spikes.flatten(1).T).T
            return sums
        return functional.linear(spikes.flatten(1), weight)

    def _shifted(self, sums: Tensor) -> Tensor:
        """The exponent acts on the sum, rounded down."""
        exponent = self.node.weight_exp
        if exponent == 0:
            return sums
        moved = sums * 2.0**exponent
        return moved if exponent > 0 else straight_through(moved, moved.detach().floor())

    def _wrapped(self, sums: Tensor) -> Tensor:
        """The same where it wraps: Dense and Sparse in 32 bits, Conv modulo 2**24."""
        exponent = self.node.weight_exp
        whole = sums.detach().long()
        if isinstance(self.node, Conv):
            value = ((whole << exponent) + CONV_SUM_HALF & (2 * CONV_SUM_HALF - 1)) - CONV_SUM_HALF
        else:
            whole = to_int32(whole)
            value = to_int32(whole << exponent) if exponent >= 0 else whole >> -exponent
        return straight_through(sums * 2.0**exponent, value.double())

    def grid_link(self, scale: Tensor) -> GridLink | None:
        """Weights in steps of the grid, a row for each channel of the target; None: fixed, or Sparse."""
        if self.weight is None or isinstance(self.node, Sparse):
            return None
        rows = (self.weight * (self.rows(scale) / self.unit)).reshape(self.target_shape[0], -1)
        return GridLink(rows.double().cpu().numpy(), self.low, self.high, self.unit)

    def as_layer(self) -> tuple[nn.Module, tuple[nn.Module, ...]] | None:
        """A torch layer that shares the weights, and what lies before it; None: they stay, or it has none."""
        if self.weight is None or isinstance(self.node, Sparse):
            return None
        between: list[nn.Module] = [] if self.pool == NO_POOL else [nn.AvgPool2d(self.pool)]
        layer: nn.Conv2d | nn.Linear
        if isinstance(self.node, Conv):
            out, per_group, *kernel = self.weight.shape
            stride, padding, dilation, groups = geometry(self.node, self.pool)
            layer = nn.Conv2d(
                per_group * groups, out, (kernel[0], kernel[1]), stride, padding, dilation, groups, False,
                device="meta",
            )  # fmt: skip
        else:
            if len(self.source_shape) > 1:
                between.append(nn.Flatten())
            out, width = self.weight.shape
            layer = nn.Linear(width, out, False, device="meta")
        layer.weight = self.weight
        return layer, tuple(between)

    def integer_node(self, scale: Tensor) -> Connection:
        """The connection with the weights of now."""
        if self.weight is None:
            return self.node
        values = self.integers(scale).detach().cpu().numpy().astype(np.int32)
        if isinstance(self.node, Sparse):
            matrix = self.node.weight.copy()
            matrix.data = values
            return replace(self.node, weight=matrix)
        return replace(self.node, weight=repeated(values, self.pool, self.source_shape))
