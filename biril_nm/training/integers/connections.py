"""A connection whose weights are float latents, rounded to the grid of the chip at every pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from biril_nm.hw_graph import Connection, Conv, Sparse
from biril_nm.loihi import CONV_SUM_BITS, SignMode
from biril_nm.loihi.fixed_point import weight_limits, weight_step
from biril_nm.loihi.integers import to_int32
from biril_nm.training.integers.straight import round_half_away, straight_through

__all__ = ["QuantizedConnection"]

EXACT = 1 << 24  # up to here float32 holds every integer


class QuantizedConnection(nn.Module):
    """``w = step round(clip(S W / (2**weight_exp step)))`` with W per threshold of the target.

    Args:
        node: the connection; geometry, exponent, bits, sign mode and delay stay.
        ideal: weights before rounding in the connection's integer units, flat, in stored order.
        scale: S of the target, integer weight units per unit of v, as it broadcasts to the target.
        shapes: of source and target.
        payload: largest magnitude of a spike of the source.
        trained: whether its weights learn.
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
    ) -> None:
        super().__init__()
        self.node, self.payload = node, payload
        self.source_shape, self.target_shape = shapes
        mode = SignMode(node.sign_mode)
        stored = node.weight.data if isinstance(node, Sparse) else node.weight
        self.step = weight_step(node.weight_bits, mode)
        if isinstance(node, Conv) and np.any(stored % self.step):
            self.step = 1  # nothing prepares kernels, so that any integer may stand in a file
        low, high = weight_limits(mode)
        self.low, self.high = -(-low // self.step), high // self.step
        if isinstance(node, Sparse):
            coo = node.weight.tocoo()
            places = torch.as_tensor(np.stack([coo.row, coo.col]).astype(np.int64))
            self.register_buffer("places", places)
        self.register_buffer("fixed", torch.as_tensor(np.asarray(stored, dtype=np.float64)))
        self.weight: nn.Parameter | None = None
        if trained:
            with torch.no_grad():
                rows = self._rows(scale)
                wanted = torch.as_tensor(np.asarray(ideal, dtype=np.float64).reshape(stored.shape))
                self.weight = nn.Parameter((wanted * 2.0**node.weight_exp / rows).float())

    def _rows(self, scale: Tensor) -> Tensor:
        """S of the target as it multiplies the stored weights."""
        if isinstance(self.node, Conv):
            return scale.reshape(-1, 1, 1, 1)
        rows: Tensor = scale.expand(self.target_shape).reshape(-1)
        found: Tensor = rows[self.places[0]] if isinstance(self.node, Sparse) else rows[:, None]
        return found

    def integers(self, scale: Tensor) -> Tensor:
        """Stored weights, straight through the rounding; float64."""
        if self.weight is None:
            return self.fixed
        unit = 2.0**self.node.weight_exp * self.step
        wanted = (self.weight * self._rows(scale) / unit).clamp(self.low, self.high).double()
        return straight_through(wanted, round_half_away(wanted.detach())) * self.step

    def forward(self, spikes: Tensor, scale: Tensor) -> Tensor:
        """What arrives at the target, ``(n_steps, batch, *target)``, float64 that holds integers."""
        weight = self.integers(scale)
        exact = self._bound(weight) < EXACT
        kind = torch.float32 if exact else torch.float64
        lead = spikes.shape[:2]
        flat = spikes.reshape(-1, *self.source_shape).to(kind)
        sums = self._sums(flat, weight.to(kind)).double()
        return self._finished(sums).reshape(*lead, *self.target_shape)

    def _bound(self, weight: Tensor) -> float:
        """No sum, finished or not, has a larger magnitude."""
        size = weight.detach().abs()
        if isinstance(self.node, Sparse):
            n = int(np.prod(self.target_shape))
            rows = torch.zeros(n, dtype=size.dtype, device=size.device)
            rows = rows.index_add(0, self.places[0], size)
        else:
            rows = size.flatten(1).sum(1)
        return float(rows.max()) * self.payload if rows.numel() else 0.0

    def _sums(self, spikes: Tensor, weight: Tensor) -> Tensor:
        node = self.node
        if isinstance(node, Conv):
            geometry = (node.stride, node.padding, node.dilation, node.groups)
            return functional.conv2d(spikes, weight, None, *geometry)
        if isinstance(node, Sparse):
            matrix = torch.sparse_coo_tensor(self.places, weight, node.weight.shape)
            sums: Tensor = torch.sparse.mm(matrix, spikes.flatten(1).T).T
            return sums
        return functional.linear(spikes.flatten(1), weight)

    def _finished(self, sums: Tensor) -> Tensor:
        """The exponent acts on the sum; Dense and Sparse wrap in 32 bits, Conv modulo 2**24."""
        exponent = self.node.weight_exp
        whole = sums.detach().long()
        if isinstance(self.node, Conv):
            half = 1 << (CONV_SUM_BITS - 1)
            value = ((whole << exponent) + half & (2 * half - 1)) - half
        else:
            whole = to_int32(whole)
            value = to_int32(whole << exponent) if exponent >= 0 else whole >> -exponent
        return straight_through(sums * 2.0**exponent, value.double())

    def integer_node(self, scale: Tensor) -> Connection:
        """The connection with the weights of now."""
        if self.weight is None:
            return self.node
        values = self.integers(scale).detach().cpu().numpy().astype(np.int32)
        if isinstance(self.node, Sparse):
            matrix = self.node.weight.copy()
            matrix.data = values
            return replace(self.node, weight=matrix)
        return replace(self.node, weight=values)
